"""Variational autoencoder (Kingma & Welling 2014): the baseline without a discriminator, whose samples are blurred.

Invariant: an image is the decoder's mean for a normal code; the decoder's own pixel noise is left out, as is usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ganlab.models.families.base import NextBatch
from ganlab.models.families.coded import CodedFamily
from ganlab.models.families.trained import GeneratorSettings, Optimization, Width
from ganlab.models.networks import discriminator_for, generator_for


class VAESettings(GeneratorSettings):
    """Networks of a VAE: a decoder, which is the generator, and an encoder."""

    family: Literal["vae"] = "vae"
    encoder_width: Width | None = None
    """Maps of the encoder's first layer; the default is `generator_width`."""
    pixel_scale: Annotated[float, Field(gt=0)] = 0.3
    """Standard deviation of a pixel (from −1 to 1), or coordinate, about the decoder's mean: small ones weigh errors."""


def reconstruction_loss(items: Tensor, decoded: Tensor, scale: float) -> Tensor:
    """Mean over items of −log p(x|z), up to a constant: ‖x − x̂‖² / 2 scale²."""
    return (items - decoded).square().flatten(1).sum(1).mean() / (2 * scale**2)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x) ‖ N(0, 1)) in nats, averaged over items (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


class VAE(CodedFamily):
    """The family; see `Family` for the arguments. `generator_loss` is minus the evidence bound."""

    Settings = VAESettings
    optimization: ClassVar = Optimization("adam", 1e-3, (0.9, 0.999))  # type: ignore[misc]

    def build(self) -> Mapping[str, nn.Module]:
        s = self.settings
        self.generator = generator_for(self.shape, s.latent_dim, s.generator_width, s.kernel_size, s.refine)
        self.encoder = discriminator_for(
            self.shape, s.encoder_width or s.generator_width, s.kernel_size, s.refine, "batch", 2 * s.latent_dim
        )
        return {"generator": self.generator, "encoder": self.encoder}

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        items = next_batch()
        with self.autocast():
            mean, log_variance = self.encoder(items).float().chunk(2, dim=1)
            code = mean + (0.5 * log_variance).exp() * self.normal(len(mean), mean.shape[1], draws)
            decoded = self.generator(code).float()
        reconstruction = reconstruction_loss(items, decoded, self.settings.pixel_scale)
        nats = divergence(mean, log_variance)
        self.optimizer_step(reconstruction + nats, "generator", "encoder")
        self.update_averages()
        return {
            "generator_loss": (reconstruction + nats).detach(),
            "reconstruction_loss": reconstruction.detach(),
            "divergence": nats.detach(),
        }

    @torch.no_grad()
    def encode(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        """Draw a code (n, latent_dim) for each item, as the networks see them."""
        with self.autocast():
            mean, log_variance = self.averages["encoder"].network(items).float().chunk(2, dim=1)
        code: Tensor = mean + (0.5 * log_variance).exp() * self.normal(len(mean), mean.shape[1], noise)
        return code
