"""ALI (Dumoulin et al. 2017): a generator and an encoder against a discriminator of pairs of image and code.

Invariant: in training, code and image are judged together, each pair from the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganlab.models.families.base import NextBatch
from ganlab.models.families.coded import CodedFamily
from ganlab.models.families.trained import NetworkSettings, Optimization, Width
from ganlab.models.networks import JointDiscriminator, discriminator_for, generator_for


class PairSettings(NetworkSettings):
    """Networks that learn pairs of image and code."""

    encoder_width: Width | None = None
    """Maps of the encoder's first layer; the default is `generator_width`."""
    code_width: Width | None = None
    """Units of the discriminator's layers on the code; its joint layers have twice as many. The default is 16 times
    `discriminator_width`: at 64 that gives the published 1024 and 2048."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the discriminator's units left out in each step, before each layer of its perceptrons but the last."""


class ALISettings(PairSettings):
    """Networks of ALI: the encoder gives the mean and the scale of a normal code."""

    family: Literal["ali"] = "ali"


def discriminator_loss(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """From logits (n,) on pairs (x, E(x)) and (G(z), z)."""
    return softplus(-on_real).mean() + softplus(on_fake).mean()


def pair_loss(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """Loss of generator and encoder together: the discriminator's with the roles changed."""
    return softplus(on_real).mean() + softplus(-on_fake).mean()


class ALI(CodedFamily):
    """The family; see `Family` for the arguments."""

    Settings: ClassVar[type[PairSettings]] = ALISettings  # type: ignore[assignment]
    optimization: ClassVar = Optimization("adam", 1e-4, (0.5, 0.999))  # type: ignore[misc]
    numbers_per_code = 2

    def build(self) -> Mapping[str, nn.Module]:
        s = self.settings
        outputs = self.numbers_per_code * s.latent_dim
        self.generator = generator_for(self.shape, s.latent_dim, s.generator_width, s.kernel_size, s.refine)
        self.encoder = discriminator_for(
            self.shape, s.encoder_width or s.generator_width, s.kernel_size, s.refine, "batch", outputs
        )
        self.discriminator = JointDiscriminator(
            self.shape,
            s.latent_dim,
            s.discriminator_width,
            s.kernel_size,
            s.refine,
            s.code_width or 16 * s.discriminator_width,
            s.dropout,
        )
        return {"generator": self.generator, "encoder": self.encoder, "discriminator": self.discriminator}

    def code(self, encoder: nn.Module, items: Tensor, noise: np.random.Generator) -> Tensor:
        """Draw one code (n, latent_dim) for each item: μ + σ ε."""
        mean, log_scale = encoder(items).float().chunk(2, dim=1)
        code: Tensor = mean + log_scale.exp() * self.normal(len(mean), mean.shape[1], noise)
        return code

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        real = next_batch()
        latent = self.normal(len(real), self.settings.latent_dim, draws)
        # Dropout takes torch's own random numbers: seeded here, so that a step is a function of its draws.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(draws.integers(2**63)))
            with self.autocast():
                code, fake = self.code(self.encoder, real, draws), self.generator(latent)
                on_discriminator = discriminator_loss(*self._judged(real, code.detach(), fake.detach(), latent))
            self.optimizer_step(on_discriminator, "discriminator")
            with self.frozen("discriminator"):
                with self.autocast():
                    on_generator = pair_loss(*self._judged(real, code, fake, latent))
                self.optimizer_step(on_generator, "generator", "encoder")
        self.update_averages()
        return {"generator_loss": on_generator.detach(), "discriminator_loss": on_discriminator.detach()}

    def _judged(self, real: Tensor, code: Tensor, fake: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator(real, code).float(), self.discriminator(fake, latent).float()

    @torch.no_grad()
    def encode(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        """Codes (n, latent_dim) of items as the networks see them."""
        with self.autocast():
            return self.code(self.averages["encoder"].network, items, noise)
