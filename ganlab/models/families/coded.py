"""Families that have an encoder beside the generator: what they share once they are trained.

Invariant: code and image statistics come from averaged weights, as the samples do.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ganlab.models.codes import code_statistics
from ganlab.models.families.base import GeneratedBatch
from ganlab.models.families.trained import TrainedFamily


class CodedFamily(TrainedFamily):
    """A family whose generator decodes what its encoder gives; samples are decoded from normal codes."""

    averaged = ("generator", "encoder")

    @abstractmethod
    def encode(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        """Draw a code (n, latent_dim) for each item, as the networks see them."""

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Items of codes (n, latent_dim), as the networks see them."""
        with self.autocast():
            items: Tensor = self.averages["generator"].network(codes)
        return items.float()

    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        return GeneratedBatch(self.to_array(self.decode(self.normal(count, self.settings.latent_dim, noise))))

    def diagnostics(self, images: np.ndarray, noise: np.random.Generator) -> Mapping[str, float]:
        return code_statistics(self, images, noise)
