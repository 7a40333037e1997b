"""DDPM (Ho, Jain & Abbeel 2020, arXiv 2006.11239): a network that finds the noise in an image, and its samplers.

Invariant: an image is a function of its own normal noise: of one draw (`ddim`), or of one for each step (`ancestral`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ganlab.models.families.base import NextBatch
from ganlab.models.families.denoising import DenoisingFamily, DenoisingSettings
from ganlab.models.families.trained import Optimization

LEVELS = 1000
"""T, the levels of noise in training (section 4)."""


class DiffusionSettings(DenoisingSettings):
    """U-Net and sampler of a diffusion model; of points, a perceptron."""

    family: Literal["diffusion"] = "diffusion"
    sampler: Literal["ddim", "ancestral"] = "ddim"
    """Deterministic (Song et al. 2020, arXiv 2010.02502, η = 0), or with new noise at each step (η = 1, DDPM's own)."""
    sampling_steps: Annotated[int, Field(ge=1, le=LEVELS)] = 50
    """Levels of noise, evenly spaced among the 1000 of training, that sampling passes."""


def signal_shares() -> Tensor:
    """ᾱ₁, …, ᾱ_T of a β that rises linearly from 10⁻⁴ to 0.02 (section 4), float64 (LEVELS,)."""
    shares: Tensor = (1 - torch.linspace(1e-4, 0.02, LEVELS, dtype=torch.float64)).cumprod(0)
    return shares


def noised(items: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """√ᾱ x₀ + √(1 − ᾱ) ε (equation 4), for one ᾱ for each item, (n,)."""
    share = share.view(-1, *[1] * (items.ndim - 1))
    return share.sqrt() * items + (1 - share).sqrt() * noise


def reverse_step(
    items: Tensor, noise: Tensor, share: float, following: float, fresh: Tensor | None, clip: bool
) -> Tensor:
    """Go from a level of noise to one of less (Song et al. 2020, equation 12).

    Parameters
    ----------
    items : float32 (n, …)
        x at the level ᾱ = `share`.
    noise : float32 (n, …)
        The network's estimate of the noise in them.
    share, following
        ᾱ of this level and of the next, which is larger; 1 is no noise.
    fresh : float32 (n, …) or None
        New normal noise: with it σ is that of η = 1, which is DDPM's posterior β̃ (equation 7 there), without it 0.
    clip
        Whether the estimate of x₀ is held within [−1, 1], as by DDPM's authors for images.
    """
    clean = (items - (1 - share) ** 0.5 * noise) / share**0.5
    if clip:
        clean = clean.clamp(-1, 1)
        noise = (items - share**0.5 * clean) / (1 - share) ** 0.5
    variance = 0.0 if fresh is None else (1 - following) / (1 - share) * (1 - share / following)
    result: Tensor = following**0.5 * clean + max(0.0, 1 - following - variance) ** 0.5 * noise
    return result if fresh is None else result + variance**0.5 * fresh


class Diffusion(DenoisingFamily):
    """The family; see `Family` for the arguments."""

    Settings = DiffusionSettings
    optimization: ClassVar = Optimization("adam", 2e-4, (0.9, 0.999))  # type: ignore[misc]

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        items = next_batch()
        level = torch.from_numpy(draws.integers(1, LEVELS + 1, len(items)))
        noise = self.noise(len(items), draws)
        share = signal_shares()[level - 1].to(self.device, torch.float32)
        found = self.denoise(self.generator, noised(items, noise, share), level.to(self.device) / LEVELS)
        return self.regress(found, noise)

    def transform(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        levels = np.linspace(LEVELS, 1, self.settings.sampling_steps).round().astype(int)
        shares = [*signal_shares()[levels - 1].tolist(), 1.0]
        network = self.averages["generator"].network
        for level, share, following in zip(levels, shares, shares[1:], strict=False):
            time = torch.full((len(items),), int(level), device=self.device) / LEVELS
            found = self.denoise(network, items, time)
            random = self.settings.sampler == "ancestral" and following < 1
            fresh = self.noise(len(items), noise) if random else None
            items = reverse_step(items, found, share, following, fresh, clip=len(self.shape) == 3)
        return items
