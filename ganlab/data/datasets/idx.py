"""Files of the MNIST family as a dataset of sweeps.

Invariant: padding changes no pixel; images are resized only where `resolution` is given.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from ganlab.data.datasets.base import (
    Dataset,
    FileIdentity,
    Location,
    OpenArray,
    Part,
    Progress,
    RealSettings,
    Resolution,
    none_held_out,
    silent,
    sized,
)
from ganlab.data.idx import image_count, image_size, read_images, read_labels
from ganlab.data.pictures import resized
from ganlab.randomness import some_of


class IdxSettings(RealSettings):
    """Grey images in an idx file of the MNIST family, gzipped or not."""

    name: Literal["idx"] = "idx"
    path: Location
    """File of images, such as train-images-idx3-ubyte.gz."""
    labels: Location | None = None
    """File of their labels, such as train-labels-idx1-ubyte.gz."""
    pad: Annotated[int, Field(ge=0, le=64)] = 0
    """Black pixels put around each image on every side: 2 makes 28×28 images 32×32, and no pixel is interpolated."""
    resolution: Resolution | None = None
    """Side after resizing, in pixels; by default the images keep their (padded) size, which then must be allowed here."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read only so many images, drawn at random; the draw depends on the number of images alone."""
    held_out: Annotated[Part | Location, Field(exclude_if=none_held_out)] = 0
    """Images kept out of training, which samples are compared with: a share or a number of them, or the path of others
    of the same kind; auto, as in a new sweep: 0.1, or none where that is fewer than 20 images."""
    elsewhere: ClassVar[dict[str, Any]] = {"limit": None, "labels": None}

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        stored = read_images(self.path)
        side = self._side(stored.shape[1:])
        chosen = some_of(len(stored), self.limit)
        labels = None if self.labels is None else read_labels(self.labels, len(stored))[chosen]
        edge = (self.pad, self.pad)
        padded = np.pad(stored[chosen], ((0, 0), edge, edge))
        return Dataset(resized(padded[:, None], side, progress), labels)

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return 1, *[self._side(image_size(self.path))] * 2

    def image_count(self, open_array: OpenArray | None = None) -> int:
        count = image_count(self.path)
        return min(count, self.limit or count)

    def label_count(self) -> int | None:
        if self.labels is None:
            return None
        return int(read_labels(self.labels, len(read_images(self.path))).max()) + 1

    def files(self) -> list[FileIdentity]:
        self.image_shape()  # names a file that is missing
        files = [self.path, *([self.labels] if self.labels is not None else [])]
        return [sized(file, file.parent) for file in files if file.is_file()]

    def identity(self) -> dict[str, object]:
        """Settings that decide the images: all but the place of the files."""
        return {**super().identity(), "labels": self.labels is not None}

    def _side(self, size: tuple[int, ...]) -> int:
        """Side of the images as they are used, in pixels."""
        height, width = (side + 2 * self.pad for side in size)
        if height != width or (self.resolution is None and height not in get_args(Resolution)):
            raise ValueError(
                f"pad: got {self.pad}, which makes the images of '{self.path}' {height}×{width}; allowed: squares of "
                "8, 16, 32, 64 or 128 pixels (28×28 images have 32 with pad: 2), or set resolution"
            )
        return self.resolution or height
