"""MIX+GAN (Arora, Ge, Liang, Ma & Zhang 2017): mixtures of generators and of discriminators with learned weights.

Invariant: a sample is drawn from one generator, chosen by the mixture weights; both mixtures start with equal weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ganlab.models.families.base import GeneratedBatch, NextBatch
from ganlab.models.families.dcgan import discriminator_loss, generator_loss
from ganlab.models.families.trained import NetworkSettings, Optimization, TrainedFamily
from ganlab.models.networks import discriminator_for, generator_for


class MixSettings(NetworkSettings):
    """The networks of each component, and how they are mixed."""

    family: Literal["mix"] = "mix"
    components: Annotated[int, Field(ge=1, le=64)] = 3
    """Generators, and as many discriminators (the published study of faces has 3)."""
    loss: Literal["non-saturating", "log"] = "non-saturating"
    """Measuring function: log x with the usual or the original (saturating) generator loss."""
    weight_penalty: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the regulariser that keeps mixture weights from 0."""


class Mixture(nn.Module):
    """Networks of one kind and the logits of their mixture weights."""

    def __init__(self, make: Callable[[], nn.Module], components: int) -> None:
        super().__init__()
        self.components: Iterable[nn.Module] = nn.ModuleList([make() for _ in range(components)])
        self.logits = nn.Parameter(torch.zeros(components))

    def log_weights(self) -> Tensor:
        """Logarithms of the mixture weights, (T,)."""
        return self.logits.log_softmax(0)


def mixed(losses: Tensor, log_generators: Tensor, log_discriminators: Tensor) -> Tensor:
    """Σᵢⱼ wᵢ wⱼ ℓᵢⱼ for losses (T, T) of generator i and discriminator j, from the logarithms of both sides' weights."""
    return log_generators.exp() @ losses @ log_discriminators.exp()


def weight_penalty(log_weights: Tensor) -> Tensor:
    """−(1/T) Σᵢ log wᵢ: least when all weights are equal (section 5)."""
    return -log_weights.mean()


class Mix(TrainedFamily):
    """The family; see `Family` for the arguments."""

    Settings = MixSettings
    optimization: ClassVar = Optimization("adam", 2e-4, (0.5, 0.999))  # type: ignore[misc]

    def build(self) -> Mapping[str, nn.Module]:
        s, count = self.settings, self.settings.components
        self.generators = Mixture(
            lambda: generator_for(self.shape, s.latent_dim, s.generator_width, s.kernel_size, s.refine), count
        )
        self.discriminators = Mixture(
            lambda: discriminator_for(self.shape, s.discriminator_width, s.kernel_size, s.refine, "batch"), count
        )
        return {"generator": self.generators, "discriminator": self.discriminators}

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        s, real = self.settings, next_batch()
        with self.autocast():
            fakes = [generate(self.normal(len(real), s.latent_dim, draws)) for generate in self.generators.components]
            on_real = [judge(real).float() for judge in self.discriminators.components]
            losses = self._pairs(fakes, lambda fake, j: discriminator_loss(s.loss, on_real[j], fake), detach=True)
        weights = self.discriminators.log_weights()
        on_discriminator = mixed(losses, self.generators.log_weights().detach(), weights)
        self.optimizer_step(on_discriminator + s.weight_penalty * weight_penalty(weights), "discriminator")
        with self.frozen("discriminator"):
            with self.autocast():
                losses = self._pairs(fakes, lambda fake, j: generator_loss(s.loss, fake))
            weights = self.generators.log_weights()
            on_generator = mixed(losses, weights, self.discriminators.log_weights())
            self.optimizer_step(on_generator + s.weight_penalty * weight_penalty(weights), "generator")
        self.update_averages()
        return {"generator_loss": on_generator.detach(), "discriminator_loss": on_discriminator.detach()}

    def _pairs(self, fakes: list[Tensor], loss: Callable[[Tensor, int], Tensor], detach: bool = False) -> Tensor:
        """Losses (T, T) of every generator's images before every discriminator."""
        return torch.stack(
            [
                torch.stack(
                    [
                        loss(judge(fake.detach() if detach else fake).float(), j)
                        for j, judge in enumerate(self.discriminators.components)
                    ]
                )
                for fake in fakes
            ]
        )

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        mixture = self._averaged()
        latent = self.normal(count, self.settings.latent_dim, noise)
        chosen = np.searchsorted(np.cumsum(self._weights()), noise.random(count), side="right")
        items: np.ndarray | None = None
        for number, generate in enumerate(mixture.components):
            place = np.flatnonzero(np.minimum(chosen, self.settings.components - 1) == number)
            if len(place):
                with self.autocast():
                    some = self.to_array(generate(latent[torch.from_numpy(place).to(latent.device)]))
                items = np.empty((count, *some.shape[1:]), some.dtype) if items is None else items
                items[place] = some
        assert items is not None
        return GeneratedBatch(items)

    def diagnostics(self, images: np.ndarray, noise: np.random.Generator) -> Mapping[str, float]:
        return {f"mixture_weight_{number}": float(weight) for number, weight in enumerate(self._weights())}

    def _averaged(self) -> Mixture:
        mixture = self.averages["generator"].network
        assert isinstance(mixture, Mixture)
        return mixture

    def _weights(self) -> np.ndarray:
        weights: np.ndarray = self._averaged().log_weights().double().exp().cpu().numpy()
        return weights
