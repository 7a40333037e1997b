"""Quality of an encoder's codes: reconstruction of image and code, and normality of the codes.

Invariant: every number is a function of the family's weights, the images and the noise given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ganlab.models.families.base import Dataset

ITEMS = 1000
BATCH = 500


class Encoding(Protocol):
    """A family with an encoder; items and codes are as its networks see them."""

    shape: tuple[int, ...]

    def prepare(self, images: np.ndarray) -> Dataset:
        """Take images to the device."""

    def encode(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        """Codes of items."""

    def decode(self, codes: Tensor) -> Tensor:
        """Items of codes."""

    def normal(self, count: int, size: int, noise: np.random.Generator) -> Tensor:
        """Normal vectors on the device."""


def code_statistics(family: Encoding, images: np.ndarray, noise: np.random.Generator) -> Mapping[str, float]:
    """Compare codes with what they came from, on at most ITEMS images drawn from the training set.

    Returns
    -------
    mapping
        `reconstruction_error`: root mean square over pixels of G(E(x)) − x, in grey levels of 255, or coordinates;
        `reconstruction_baseline`: the same when G(E(x)) is replaced by another image of the training set;
        `code_error`: root mean square of E(G(z)) − z, where unrelated normal codes have √2;
        `code_normality`: largest Kolmogorov–Smirnov distance of a coordinate of E(x) to the standard normal law.
    """
    count = min(ITEMS, len(images))
    items = family.prepare(images[noise.choice(len(images), count, replace=False)])
    index = torch.arange(count)
    back, codes, again, latents = [], [], [], []
    blocks = torch.split(index, BATCH)
    for some in blocks:
        batch = items[some]
        code = family.encode(batch, noise)
        latent = family.normal(len(code), code.shape[1], noise)
        back.append((family.decode(code) - batch).square().mean())
        again.append(family.encode(family.decode(latent), noise))
        codes.append(code)
        latents.append(latent)
    real = items[index]
    scale = 127.5 if len(family.shape) == 3 else 1.0
    weights = torch.tensor([len(some) / count for some in blocks])
    return {
        "reconstruction_error": scale * float((torch.stack(back).cpu() * weights).sum().sqrt()),
        "reconstruction_baseline": scale * float((real - real.roll(1, 0)).square().mean().sqrt()),
        "code_error": float((torch.cat(again) - torch.cat(latents)).square().mean().sqrt()),
        "code_normality": normality(torch.cat(codes).double().cpu().numpy()),
    }


def normality(codes: npt.NDArray[np.float64]) -> float:
    """Largest over coordinates of the Kolmogorov–Smirnov distance of codes (n, d) to N(0, 1); 0 is normal, 1 the most."""
    from scipy.stats import norm

    count = len(codes)
    level = norm.cdf(np.sort(codes, axis=0))
    steps = np.arange(count + 1)[:, None] / count
    return float(max((steps[1:] - level).max(), (level - steps[:-1]).max()))
