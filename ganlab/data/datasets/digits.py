"""scikit-learn's real handwritten digits.

Invariant: nothing is read but what the library ships.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
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
        stored = _stored()
        levels = stored[:, :-1].reshape(-1, 1, 8, 8)
        images = np.rint(levels * (255 / 16)).astype(np.uint8)
        return Dataset(resized(images, self.resolution, progress), stored[:, -1].astype(np.int64))

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return 1, self.resolution, self.resolution

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return DIGITS

    def label_count(self) -> int | None:
        return 10

    def files(self) -> list[FileIdentity]:
        return []


def _stored() -> npt.NDArray[np.float64]:
    """The library's file of digits, (1797, 65): 64 levels of grey from 0 to 16 and the class, without its import.

    That takes nearly as long as PyTorch's, in every process of every trial.
    """
    spec = find_spec("sklearn")
    folder = spec.submodule_search_locations if spec is not None else None
    file = Path(folder[0] if folder else "", "datasets", "data", "digits.csv.gz")
    if not file.is_file():  # another version keeps it elsewhere
        from sklearn.datasets import load_digits

        data, target = load_digits(return_X_y=True)
        return np.column_stack([data, target])
    return np.loadtxt(file, delimiter=",")
