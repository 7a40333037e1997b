"""Points whose 25 modes are known (the 2D-grid of PacGAN, Lin et al. 2018, section 4.1).

Invariant: points are a function of the settings.
"""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from ganlab.data.datasets.base import (
    Dataset,
    DatasetSettings,
    FileIdentity,
    ModeCounter,
    OpenArray,
    Progress,
    silent,
)
from ganlab.data.known_modes import draw_grid, grid_centres, grid_modes
from ganlab.randomness import generator_for


class GaussiansGridSettings(DatasetSettings):
    """Points in the plane from 25 equal normal laws on the grid {−4, −2, 0, 2, 4}²; the label is the mode."""

    name: Literal["gaussians-grid"] = "gaussians-grid"
    points: Annotated[int, Field(ge=2, le=100_000_000)] = 100_000
    """Number of points drawn."""
    scale: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Standard deviation of each normal law."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the draws."""

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        return Dataset(*draw_grid(self.points, self.scale, generator_for(self.seed, "gaussians grid")))

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return (2,)

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return self.points

    def label_count(self) -> int | None:
        return len(grid_centres())

    def files(self) -> list[FileIdentity]:
        return []

    def modes(self) -> ModeCounter | None:
        return partial(grid_modes, scale=self.scale)
