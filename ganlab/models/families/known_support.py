"""A generator with a known number of distinct images: the instrument that calibrates the whole pipeline.

Invariant: two samples come from the same image of the pool exactly when they are duplicates by design.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganlab.models.families.base import AverageGradients, Dataset, Family, GeneratedBatch, NextBatch, Shape

if TYPE_CHECKING:
    from ganlab.models.train_settings import TrainSettings


class KnownSupportSettings(BaseModel):
    """A pool of images and how they are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["known-support"] = "known-support"
    pool: Annotated[int, Field(ge=1, le=10_000_000)]
    """Number of distinct images: real ones, or random ones when more are asked for than exist."""
    law: Literal["uniform", "zipf", "geometric", "one-heavy"] = "uniform"
    """Probabilities of the pool's images."""
    heavy_mass: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Probability of the first image, for one-heavy."""
    pixel_noise: Annotated[int, Field(ge=0, le=64)] = 1
    """Every pixel moves by a whole number drawn uniformly from −pixel_noise to pixel_noise."""


class KnownSupport(Family):
    """The family; see `Family` for the arguments. Training does nothing."""

    Settings = KnownSupportSettings

    def __init__(
        self,
        settings: KnownSupportSettings,
        shape: Shape,
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None:
        from ganlab.data.datasets.known_support import known_support_weights

        self.settings, self.seed = settings, seed
        self.networks = nn.ModuleDict()
        self.weights = known_support_weights(settings.pool, settings.law, heavy_mass=settings.heavy_mass)
        self.cumulative = np.cumsum(self.weights)

    @classmethod
    def check(cls, settings: KnownSupportSettings, shape: Shape, classes: int | None) -> None:
        if len(shape) != 3:
            raise ValueError("got known-support, whose pool is of images, but the dataset has points; allowed: images")

    def prepare(self, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
        from ganlab.data.datasets.known_support import known_support_pool

        self.images = known_support_pool(images, self.settings.pool, self.seed)
        return torch.zeros(len(images))

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        return {}

    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        chosen = np.searchsorted(self.cumulative, noise.random(count) * self.cumulative[-1], side="right")
        images: npt.NDArray[np.uint8] = self.images[np.minimum(chosen, len(self.images) - 1)]
        if (most := self.settings.pixel_noise) > 0:
            moved = images.astype(np.int16) + noise.integers(-most, most + 1, images.shape, dtype=np.int16)
            images = np.clip(moved, 0, 255).astype(np.uint8)
        return GeneratedBatch(images)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        return None
