"""Anyone's array of images as a dataset of sweeps.

Invariant: pixels are taken as they are stored; only axes are moved.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from ganlab.data.datasets.base import (
    ArrayLike,
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
from ganlab.randomness import some_of

ARRAY_FILES = "a .npy or .npz file or a Zarr store"


def array_file(path: Path) -> Path:
    """File or folder of the path of an array, which may end with :MEMBER."""
    file, colon, _ = str(path).rpartition(":")
    return Path(file) if colon and not path.exists() else path


class ArraySettings(RealSettings):
    """Images in an array file: .npy, .npz or Zarr; uint8 (N, C, H, W) or (N, H, W, C)."""

    name: Literal["array"] = "array"
    path: Location
    """The file, or the Zarr store's folder; PATH:MEMBER for one array of an .npz file or a Zarr group."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read only so many images, drawn at random; the draw depends on the number of images alone."""
    held_out: Annotated[Part | Location, Field(exclude_if=none_held_out)] = 0
    """Images kept out of training, which samples are compared with: a share or a number of them, or the path of others
    of the same kind; auto, as in a new sweep: 0.1, or none where that is fewer than 20 images."""
    elsewhere: ClassVar[dict[str, Any]] = {"limit": None}

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        array = self._opened(open_array)
        shape, axes = self._layout(array)
        chosen = some_of(array.shape[0], self.limit)
        images = np.empty((len(chosen), *shape), np.uint8)
        step = max(1, 2**26 // int(np.prod(shape)))  # about 64 MiB a read
        done = 0
        for part in np.split(chosen, np.flatnonzero(np.diff(chosen // step)) + 1):
            first, last = int(part[0]), int(part[-1])
            images[done : done + len(part)] = array.read(first, last + 1)[part - first].transpose(axes)
            done += len(part)
            progress(done, len(chosen))
        return Dataset(images)

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return self._layout(self._opened(open_array))[0]

    def image_count(self, open_array: OpenArray | None = None) -> int:
        count = self._opened(open_array).shape[0]
        return min(count, self.limit or count)

    def label_count(self) -> int | None:
        return None

    def files(self) -> list[FileIdentity]:
        file = self._file()
        files = [sized(file, file.parent)]
        if file.is_dir():
            files = [sized(each, file) for each in sorted(file.rglob("*")) if each.is_file()]
        member = str(self.path).removeprefix(str(file))
        return [*files, (member, None)] if member else files

    def _file(self) -> Path:
        file = array_file(self.path)
        if not file.exists():
            raise ValueError(f"path: got '{self.path}', which does not exist; allowed: {ARRAY_FILES}")
        return file

    def _opened(self, open_array: OpenArray | None) -> ArrayLike:
        assert open_array is not None, "array datasets need open_array"
        self._file()
        try:
            return open_array(self.path)
        except ValueError as error:
            raise ValueError(f"path: {error}") from error

    def _layout(self, array: ArrayLike) -> tuple[tuple[int, int, int], tuple[int, ...]]:
        """Return (C, H, W) and the transposition that brings the stored axes into the order (N, C, H, W)."""
        shape = array.shape
        if array.dtype != np.uint8:
            raise ValueError(
                f"path: got '{self.path}', which holds {array.dtype}; allowed: uint8 from 0 to 255 "
                "(scale and round the images first)"
            )
        for axes in ((0, 1, 2, 3), (0, 3, 1, 2)) if len(shape) == 4 else ():
            channels, height, width = (shape[axis] for axis in axes[1:])
            if channels in (1, 3) and height == width and height in get_args(Resolution):
                return (channels, height, width), axes
        raise ValueError(
            f"path: got '{self.path}', whose shape is {shape}; allowed: (N, C, H, W) or (N, H, W, C) with "
            "C = 1 or 3 and H = W = 8, 16, 32, 64 or 128 (crop and resize the images first)"
        )
