"""scikit-learn's real handwritten digits.

Invariant: nothing is read but what the library ships.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ganlab.data.datasets.base import (
    Dataset,
    FileIdentity,
    OpenArray,
    Part,
    Progress,
    RealSettings,
    Resolution,
    none_held_out,
    silent,
)
from ganlab.data.pictures import resized

DIGITS = 1797  # of scikit-learn


class DigitsSettings(RealSettings):
    """scikit-learn's 1,797 real handwritten digits (ten classes), stored at 8×8 in 17 levels of grey."""

    name: Literal["digits"] = "digits"
    resolution: Resolution = 8
    """Side, in pixels."""
    held_out: Annotated[Part, Field(exclude_if=none_held_out)] = 0
    """Images kept out of training, which samples are compared with: a share or a number of them; auto, as in
    a new sweep: 0.1, or none where that is fewer than 20 images."""

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        from sklearn.datasets import load_digits

        stored = load_digits()
        images = np.rint(stored.images[:, None] * (255 / 16)).astype(np.uint8)
        return Dataset(resized(images, self.resolution, progress), stored.target.astype(np.int64))

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return 1, self.resolution, self.resolution

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return DIGITS

    def label_count(self) -> int | None:
        return 10

    def files(self) -> list[FileIdentity]:
        return []
