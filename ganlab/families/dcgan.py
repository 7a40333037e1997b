"""DCGAN (Radford, Metz & Chintala 2015) with the measuring functions of the published study.

Invariant: one call of `step` is `discriminator_steps` discriminator steps and one generator step, in that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganlab.families.base import Average, AverageGradients, Family, NextBatch, UnitImages, to_uint8
from ganlab.networks import Discriminator, Generator, initialise
from ganlab.randomness import generator_for

if TYPE_CHECKING:
    from ganlab.train import TrainSettings

Loss = Literal["non-saturating", "log", "wasserstein-clip", "wasserstein-gp"]
Width = Annotated[int, Field(ge=1, le=4096)]


class DCGANSettings(BaseModel):
    """Networks and loss of a DCGAN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["dcgan"] = "dcgan"
    latent_dim: Annotated[int, Field(ge=1, le=65_536)] = 100
    """Length of the normal latent vector."""
    generator_width: Width = 64
    """Maps of the generator's last hidden layer; layers before it have 2, 4, … times as many."""
    discriminator_width: Width = 64
    """Maps of the discriminator's first layer; layers after it have 2, 4, … times as many."""
    kernel_size: Literal[4, 5] = 4
    """Of the strided convolutions; the published study has 5."""
    refine: bool = False
    """Add a 3×3 convolution at every size of both networks (wanted at 8×8, where there are few layers)."""
    loss: Loss = "non-saturating"
    """Measuring function: log x with the usual or the original (saturating) generator loss, or x (Wasserstein)."""
    discriminator_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    """Discriminator steps per generator step; the default is the one published for the loss."""
    weight_clip: Annotated[float, Field(gt=0)] = 0.01
    """Bound on each critic weight, for wasserstein-clip."""
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the penalty, for wasserstein-gp."""


class Published(NamedTuple):
    """Optimizer settings published with a loss."""

    optimizer: Literal["adam", "rmsprop"]
    learning_rate: float
    betas: tuple[float, float]
    discriminator_steps: int


PUBLISHED: dict[Loss, Published] = {
    "non-saturating": Published("adam", 2e-4, (0.5, 0.999), 1),  # Radford et al. 2015, section 4
    "log": Published("adam", 2e-4, (0.5, 0.999), 1),
    "wasserstein-clip": Published("rmsprop", 5e-5, (0.0, 0.0), 5),  # Arjovsky et al. 2017, algorithm 1
    "wasserstein-gp": Published("adam", 1e-4, (0.0, 0.9), 5),  # Gulrajani et al. 2017, algorithm 1
}


def discriminator_loss(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the discriminator, from logits (n,) on real and on generated images; without gradient penalty."""
    if loss in ("non-saturating", "log"):
        return softplus(-real).mean() + softplus(fake).mean()
    return fake.mean() - real.mean()


def generator_loss(loss: Loss, fake: Tensor) -> Tensor:
    """Loss of the generator, from the discriminator's logits (n,) on generated images."""
    if loss == "non-saturating":
        return softplus(-fake).mean()
    if loss == "log":
        return -softplus(fake).mean()
    return -fake.mean()


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """(‖∇D(x̂)‖ − 1)² averaged over x̂ = mix·real + (1 − mix)·fake (Gulrajani et al. 2017, equation 3)."""
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.float().flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


class DCGAN(Family):
    """The family; see `Family` for the arguments."""

    Settings = DCGANSettings

    def __init__(
        self,
        settings: DCGANSettings,
        image_shape: tuple[int, int, int],
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None:
        channels, resolution, _ = image_shape
        self.settings, self.train, self.device = settings, train, torch.device(device)
        self.average_gradients = average_gradients or (lambda parameters: None)
        self.published = PUBLISHED[settings.loss]
        self.discriminator_steps = settings.discriminator_steps or self.published.discriminator_steps
        normalise = "layer" if settings.loss == "wasserstein-gp" else "batch"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator_for(seed, "weights").integers(2**63)))
            self.generator = Generator(
                settings.latent_dim,
                settings.generator_width,
                channels,
                resolution,
                settings.kernel_size,
                settings.refine,
            )
            self.discriminator = Discriminator(
                settings.discriminator_width, channels, resolution, settings.kernel_size, settings.refine, normalise
            )
            initialise(self.generator)
            initialise(self.discriminator)
        self.networks = nn.ModuleDict({"generator": self.generator, "discriminator": self.discriminator})
        self.networks.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(self.generator, train.ema_decay)
        rate = train.learning_rate or self.published.learning_rate
        self.optimizers = {
            "generator": self._optimizer(self.generator, rate),
            "discriminator": self._optimizer(self.discriminator, train.discriminator_learning_rate or rate),
        }

    def _optimizer(self, network: nn.Module, rate: float) -> torch.optim.Optimizer:
        if self.published.optimizer == "rmsprop":
            return torch.optim.RMSprop(network.parameters(), lr=rate, foreach=True)
        return torch.optim.Adam(network.parameters(), lr=rate, betas=self.published.betas, fused=True)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.train.precision == "bfloat16")

    def _latent(self, count: int, noise: np.random.Generator) -> Tensor:
        latent = noise.standard_normal((count, self.settings.latent_dim), dtype=np.float32)
        return torch.from_numpy(latent).to(self.device)

    def prepare(self, images: np.ndarray) -> UnitImages:
        return UnitImages(images, self.device)

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        loss = self.settings.loss
        for _ in range(self.discriminator_steps):
            real = next_batch()
            with self._arithmetic():
                fake = self.generator(self._latent(len(real), draws))
                on_discriminator = discriminator_loss(
                    loss, self.discriminator(real).float(), self.discriminator(fake.detach()).float()
                )
                if loss == "wasserstein-gp":
                    mix = torch.from_numpy(draws.random((len(real), 1, 1, 1), dtype=np.float32)).to(self.device)
                    penalty = gradient_penalty(self.discriminator, real, fake.detach(), mix)
                    on_discriminator = on_discriminator + self.settings.gradient_penalty * penalty
            self._descend("discriminator", on_discriminator)
            if loss == "wasserstein-clip":
                with torch.no_grad():
                    for parameter in self.discriminator.parameters():
                        parameter.clamp_(-self.settings.weight_clip, self.settings.weight_clip)
        # The last fakes serve the generator's step too, as in the reference implementations: one pass less.
        self.discriminator.requires_grad_(False)
        with self._arithmetic():
            on_generator = generator_loss(loss, self.discriminator(fake).float())
        self._descend("generator", on_generator)
        self.discriminator.requires_grad_(True)
        self.average.update()
        return {"generator_loss": on_generator.detach(), "discriminator_loss": on_discriminator.detach()}

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.average_gradients(self.networks[name].parameters())
        optimizer.step()

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> np.ndarray:
        with self._arithmetic():
            return to_uint8(self.average.network(self._latent(count, noise)))

    def state(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        self.average.network.load_state_dict(state["average"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
