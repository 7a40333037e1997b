"""DCGAN (Radford, Metz & Chintala 2015) with the measuring functions of the published study.

Invariant: one step is `discriminator_steps` discriminator steps and one generator step, in that order, and one function,
`DCGAN.play`, takes it for a training alone and for several stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganlab.models.families.base import GeneratedBatch, NextBatch
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


def item_norms(gradient: Tensor) -> Tensor:
    """Euclidean norm of each item's gradient, (n,)."""
    norms: Tensor = gradient.flatten(1).norm(dim=1)
    return norms


def gradient_penalty(
    judge: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    mix: Tensor,
    norms: Callable[[Tensor], Tensor] = item_norms,
) -> Tensor:
    """(‖∇D(x̂)‖ − 1)² averaged over x̂ = mix·real + (1 − mix)·fake (Gulrajani et al. 2017, equation 3)."""
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    return (norms(gradient.float()) - 1).square().mean(-1)


class Opponents(Protocol):
    """Generator and discriminator of one training, or of K stacked ones: the operations that a step is made of.

    Losses and logits of K stacked trainings have a leading axis of length K, those of one training have none.
    """

    def real(self) -> Tensor:
        """Next real items for the discriminator."""

    def generate(self) -> Tensor:
        """Generate as many items as the last real batch has."""

    def judge(self, items: Tensor) -> Tensor:
        """Logits of the discriminator, float32 (…, n)."""

    def gradient_penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Penalty on the discriminator's gradient between real and generated items, (…)."""

    def weights(self, network: str) -> Iterable[Tensor]:
        """Weights of a network, to be changed in place."""

    def optimizer_step(self, loss: Tensor, network: str) -> None:
        """One optimizer step of a network, from losses (…)."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of convolutions and matrix products in the configured precision."""

    def frozen(self, network: str) -> AbstractContextManager[Any]:
        """Context in which no gradients of this network's weights are computed."""

    def update_averages(self) -> None:
        """Move the averaged weights one step."""


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
        return self.play(_Alone(self, next_batch, draws))

    def play(self, opponents: Opponents) -> Mapping[str, Tensor]:
        """Take one step of this training, or of several stacked; returns what is logged, (…)."""
        settings, loss = self.settings, self.settings.loss
        for _ in range(self.discriminator_steps):
            real = opponents.real()
            with opponents.autocast():
                fake = opponents.generate()
                on_discriminator = discriminator_loss(loss, opponents.judge(real), opponents.judge(fake.detach()))
                if loss == "wasserstein-gp":
                    penalty = opponents.gradient_penalty(real, fake.detach())
                    on_discriminator = on_discriminator + settings.gradient_penalty * penalty
            opponents.optimizer_step(on_discriminator, "discriminator")
            if loss == "wasserstein-clip":
                with torch.no_grad():
                    for weights in opponents.weights("discriminator"):
                        weights.clamp_(-settings.weight_clip, settings.weight_clip)
        # The last fakes serve the generator's step too, as in PyTorch's DCGAN example (WGAN's papers draw new ones): one
        # pass less.
        with opponents.frozen("discriminator"):
            with opponents.autocast():
                on_generator = generator_loss(loss, opponents.judge(fake))
            opponents.optimizer_step(on_generator, "generator")
        opponents.update_averages()
        return {"generator_loss": on_generator.detach(), "discriminator_loss": on_discriminator.detach()}

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        with self.autocast():
            items: Any = self.averages["generator"].network(self.normal(count, self.settings.latent_dim, noise))
        return GeneratedBatch(self.to_array(items))


class _Alone:
    """`Opponents` of one training."""

    def __init__(self, family: DCGAN, next_batch: NextBatch, draws: np.random.Generator) -> None:
        self._family, self._next_batch, self._draws = family, next_batch, draws
        self.autocast, self.frozen = family.autocast, family.frozen
        self.optimizer_step, self.update_averages = family.optimizer_step, family.update_averages

    def real(self) -> Tensor:
        items = self._family.real(self._next_batch)
        self._count = len(items)
        return items

    def generate(self) -> Tensor:
        return self._family.pack(self._family.generator(self._family.latent(self._count, self._draws)))

    def judge(self, items: Tensor) -> Tensor:
        logits: Tensor = self._family.discriminator(items)
        return logits.float()

    def gradient_penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        mix = self._family.uniform(len(real), 1, self._draws).view(-1, *[1] * len(self._family.shape))
        return gradient_penalty(self.judge, real, fake, mix)

    def weights(self, network: str) -> Iterable[Tensor]:
        return self._family.networks[network].parameters()
