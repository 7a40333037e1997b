"""InfoGAN (Chen et al. 2016): part of the latent vector is a code that the discriminator's trunk must recover.

Invariant: samples are independent draws of noise and code together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, softplus

from ganlab.models.families.base import GeneratedBatch, NextBatch
from ganlab.models.families.trained import NetworkSettings, Optimization, TrainedFamily
from ganlab.models.networks import discriminator_for, generator_for


class InfoGANSettings(NetworkSettings):
    """Networks of an InfoGAN; `latent_dim` counts the noise beside the code."""

    family: Literal["infogan"] = "infogan"
    categories: Annotated[int, Field(ge=2, le=10_000)] = 10
    """Values of the categorical part of the code."""
    continuous: Annotated[int, Field(ge=0, le=1000)] = 2
    """Length of the continuous part of the code, uniform in [−1, 1]."""
    information_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the mutual information in both losses."""


def information(answer: Tensor, category: Tensor, continuous: Tensor) -> Tensor:
    """Lower bound on the mutual information of code and image in nats: E log Q(c|x) + H(c) (Chen et al. 2016, eq. 4).

    Parameters
    ----------
    answer : Tensor (n, K + m)
        Logits of the K categories, then the means of the m continuous parts, whose Q is normal with unit variance.
    category : int64 Tensor (n,)
    continuous : Tensor (n, m) in [−1, 1]
    """
    categories = answer.shape[1] - continuous.shape[1]
    discrete = math.log(categories) - cross_entropy(answer[:, :categories], category)
    if not continuous.shape[1]:
        return discrete
    squares = (answer[:, categories:] - continuous).square().mean(0)
    return discrete + (math.log(2) - 0.5 * math.log(2 * math.pi) - 0.5 * squares).sum()


class InfoGAN(TrainedFamily):
    """The family; see `Family` for the arguments."""

    Settings = InfoGANSettings
    optimization: ClassVar = Optimization("adam", 2e-4, (0.5, 0.999))  # type: ignore[misc]

    def build(self) -> Mapping[str, nn.Module]:
        s = self.settings
        code = s.categories + s.continuous
        self.generator = generator_for(self.shape, s.latent_dim + code, s.generator_width, s.kernel_size, s.refine)
        self.discriminator = discriminator_for(
            self.shape, s.discriminator_width, s.kernel_size, s.refine, "batch", outputs=1 + code
        )
        return {"generator": self.generator, "discriminator": self.discriminator}

    def latent(self, count: int, noise: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw latent vectors with their codes: all of it, categories (count,), continuous parts (count, m)."""
        s = self.settings
        normal = self.normal(count, s.latent_dim, noise)
        category = torch.from_numpy(noise.integers(0, s.categories, count)).to(self.device)
        continuous = self.uniform(count, s.continuous, noise) * 2 - 1
        return torch.cat([normal, one_hot(category, s.categories), continuous], dim=1), category, continuous

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        weight, real = self.settings.information_weight, next_batch()
        latent, *code = self.latent(len(real), draws)
        with self.autocast():
            fake = self.generator(latent)
            on_real, on_fake = self.discriminator(real).float(), self.discriminator(fake.detach()).float()
            adversarial = softplus(-on_real[:, 0]).mean() + softplus(on_fake[:, 0]).mean()
            self.optimizer_step(adversarial - weight * information(on_fake[:, 1:], *code), "discriminator")
        with self.frozen("discriminator"):
            with self.autocast():
                on_fake = self.discriminator(fake).float()
            on_generator, bound = softplus(-on_fake[:, 0]).mean(), information(on_fake[:, 1:], *code)
            self.optimizer_step(on_generator - weight * bound, "generator")
        self.update_averages()
        return {
            "generator_loss": on_generator.detach(),
            "discriminator_loss": adversarial.detach(),
            "mutual_information": bound.detach(),
        }

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        with self.autocast():
            return GeneratedBatch(self.to_array(self.averages["generator"].network(self.latent(count, noise)[0])))
