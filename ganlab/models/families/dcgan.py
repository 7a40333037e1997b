"""DCGAN (Radford, Metz & Chintala 2015) with the measuring functions of the published study.

Invariant: one call of `step` is `discriminator_steps` discriminator steps and one generator step, in that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganlab.models.families.base import Drawn, NextBatch
from ganlab.models.families.trained import NetworkSettings, Optimization, TrainedFamily
from ganlab.models.networks import discriminator_for, generator_for

Loss = Literal["non-saturating", "log", "wasserstein-clip", "wasserstein-gp"]


class DCGANSettings(NetworkSettings):
    """Networks and loss of a DCGAN."""

    family: Literal["dcgan"] = "dcgan"
    loss: Loss = "non-saturating"
    """Measuring function: log x with the usual or the original (saturating) generator loss, or x (Wasserstein)."""
    discriminator_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    """Discriminator steps per generator step; the default is the one published for the loss."""
    weight_clip: Annotated[float, Field(gt=0)] = 0.01
    """Bound on each critic weight, for wasserstein-clip."""
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the penalty, for wasserstein-gp."""


class Published(NamedTuple):
    """Published settings of a loss."""

    optimization: Optimization
    discriminator_steps: int


PUBLISHED: dict[Loss, Published] = {
    "non-saturating": Published(Optimization("adam", 2e-4, (0.5, 0.999)), 1),  # Radford et al. 2015, section 4
    "log": Published(Optimization("adam", 2e-4, (0.5, 0.999)), 1),
    "wasserstein-clip": Published(Optimization("rmsprop", 5e-5), 5),  # Arjovsky et al. 2017, algorithm 1
    "wasserstein-gp": Published(Optimization("adam", 1e-4, (0.0, 0.9)), 5),  # Gulrajani et al. 2017, algorithm 1
}


def discriminator_loss(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the discriminator, from logits (…, n) on real and on generated images; without gradient penalty."""
    if loss in ("non-saturating", "log"):
        return softplus(-real).mean(-1) + softplus(fake).mean(-1)
    return fake.mean(-1) - real.mean(-1)


def generator_loss(loss: Loss, fake: Tensor) -> Tensor:
    """Loss of the generator, from the discriminator's logits (…, n) on generated images."""
    if loss == "non-saturating":
        return softplus(-fake).mean(-1)
    if loss == "log":
        return -softplus(fake).mean(-1)
    return -fake.mean(-1)


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """(‖∇D(x̂)‖ − 1)² averaged over x̂ = mix·real + (1 − mix)·fake (Gulrajani et al. 2017, equation 3)."""
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.float().flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


class DCGAN(TrainedFamily):
    """The family; see `Family` for the arguments."""

    Settings: ClassVar[type[BaseModel]] = DCGANSettings

    @property
    def optimization(self) -> Optimization:  # type: ignore[override]
        """Published for the loss."""
        return PUBLISHED[self.settings.loss].optimization

    @property
    def discriminator_steps(self) -> int:
        """Discriminator steps per generator step."""
        return int(self.settings.discriminator_steps or PUBLISHED[self.settings.loss].discriminator_steps)

    def build(self) -> Mapping[str, nn.Module]:
        s = self.settings
        normalise = "layer" if s.loss == "wasserstein-gp" else "batch"
        self.generator = generator_for(self.shape, s.latent_dim, s.generator_width, s.kernel_size, s.refine)
        self.discriminator = discriminator_for(
            self.discriminated_shape, s.discriminator_width, s.kernel_size, s.refine, normalise
        )
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def discriminated_shape(self) -> tuple[int, ...]:
        """Shape of one item that the discriminator judges."""
        return self.shape

    def real(self, next_batch: NextBatch) -> Tensor:
        """Real items for the discriminator."""
        batch: Tensor = next_batch()
        return batch

    def latent(self, count: int, draws: np.random.Generator) -> Tensor:
        """Latent vectors of as many items for the discriminator."""
        return self.normal(count, self.settings.latent_dim, draws)

    def pack(self, items: Tensor) -> Tensor:
        """Generated items as the discriminator's input."""
        return items

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        loss = self.settings.loss
        for _ in range(self.discriminator_steps):
            real = self.real(next_batch)
            with self.arithmetic():
                fake = self.pack(self.generator(self.latent(len(real), draws)))
                on_discriminator = discriminator_loss(
                    loss, self.discriminator(real).float(), self.discriminator(fake.detach()).float()
                )
                if loss == "wasserstein-gp":
                    mix = self.uniform(len(real), 1, draws).view(-1, *[1] * len(self.shape))
                    penalty = gradient_penalty(self.discriminator, real, fake.detach(), mix)
                    on_discriminator = on_discriminator + self.settings.gradient_penalty * penalty
            self.descend(on_discriminator, "discriminator")
            if loss == "wasserstein-clip":
                with torch.no_grad():
                    for parameter in self.discriminator.parameters():
                        parameter.clamp_(-self.settings.weight_clip, self.settings.weight_clip)
        # The last fakes serve the generator's step too, as in PyTorch's DCGAN example (WGAN's papers draw new ones): one
        # pass less.
        with self.frozen("discriminator"):
            with self.arithmetic():
                on_generator = generator_loss(loss, self.discriminator(fake).float())
            self.descend(on_generator, "generator")
        self.update_averages()
        return {"generator_loss": on_generator.detach(), "discriminator_loss": on_discriminator.detach()}

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> Drawn:
        with self.arithmetic():
            items: Any = self.averages["generator"].network(self.normal(count, self.settings.latent_dim, noise))
        return Drawn(self.to_array(items))
