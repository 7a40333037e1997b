"""Images whose 1,000 modes are known: stacked digits, as stacked MNIST (Metz et al. 2017) of scikit-learn's digits.

Invariant: images are a function of the settings.
"""

from typing import Annotated, Literal

from pydantic import Field

from ganlab.data.datasets.base import (
    Dataset,
    DatasetSettings,
    FileIdentity,
    ModeCounter,
    OpenArray,
    Progress,
    Resolution,
    silent,
)
from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.known_modes import StackReader, class_modes, draw_stacks
from ganlab.randomness import generator_for

STACKS = 1000


class StackedDigitsSettings(DatasetSettings):
    """Three of scikit-learn's real digits as the three channels of each image: 1,000 modes, which are the labels."""

    name: Literal["stacked-digits"] = "stacked-digits"
    resolution: Resolution = 8
    """Side, in pixels."""
    images: Annotated[int, Field(ge=2, le=100_000_000)] = 25_600
    """Number of images drawn."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the draws."""

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        digits = DigitsSettings(resolution=self.resolution).load(progress)
        assert digits.labels is not None
        draws = generator_for(self.seed, "stacked digits")
        return Dataset(*draw_stacks(digits.images, digits.labels, self.images, draws))

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return 3, self.resolution, self.resolution

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return self.images

    def label_count(self) -> int | None:
        return STACKS

    def files(self) -> list[FileIdentity]:
        return []

    def modes(self) -> ModeCounter | None:
        digits = DigitsSettings(resolution=self.resolution).load()
        assert digits.labels is not None
        reader = StackReader(digits.images, digits.labels)
        return lambda stacks: class_modes(reader.read(stacks), STACKS)
