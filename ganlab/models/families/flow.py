"""Flow matching (Lipman et al. 2022, arXiv 2210.02747): the velocity of straight paths from noise to images.

Invariant: an image is a function of its own normal noise, which the velocity carries to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ganlab.models.families.base import NextBatch
from ganlab.models.families.denoising import DenoisingFamily, DenoisingSettings
from ganlab.models.families.trained import Optimization


class FlowSettings(DenoisingSettings):
    """U-Net and sampler of a flow; of points, a perceptron."""

    family: Literal["flow"] = "flow"
    sampler: Literal["euler", "heun"] = "euler"
    """Solver of dx/dt = v(x, t): of first order, or of second, which asks the network twice at each step."""
    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Equal steps of the solver from time 0, noise, to 1."""


def on_path(noise: Tensor, items: Tensor, time: Tensor) -> Tensor:
    """(1 − t) x₀ + t x₁, from noise x₀ to items x₁ (equation 22 with σ_min = 0), for one t for each item, (n,)."""
    time = time.view(-1, *[1] * (items.ndim - 1))
    return (1 - time) * noise + time * items


def solve(velocity: Callable[[Tensor, float], Tensor], items: Tensor, steps: int, heun: bool) -> Tensor:
    """Follow dx/dt = velocity(x, t) from t = 0 to 1 in equal steps of Euler's, or Heun's, method."""
    size = 1 / steps
    for number in range(steps):
        slope = velocity(items, number / steps)
        if heun:
            slope = (slope + velocity(items + size * slope, (number + 1) / steps)) / 2
        items = items + size * slope
    return items


class Flow(DenoisingFamily):
    """The family; see `Family` for the arguments."""

    Settings = FlowSettings
    optimization: ClassVar = Optimization("adam", 5e-4, (0.9, 0.999))  # type: ignore[misc]

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        items = next_batch()
        time = self.uniform(len(items), 1, draws)[:, 0]
        noise = self.noise(len(items), draws)
        return self.regress(self.denoise(self.generator, on_path(noise, items, time), time), items - noise)

    def transform(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        network = self.averages["generator"].network

        def velocity(items: Tensor, time: float) -> Tensor:
            return self.denoise(network, items, torch.full((len(items),), time, device=self.device))

        return solve(velocity, items, self.settings.sampling_steps, self.settings.sampler == "heun")
