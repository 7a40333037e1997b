"""Description of the arrays that users give: which array, its values, and how to convert one that can't be measured.

Invariant: at most the first `RANGE_BYTES` of an array are read.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ganlab.data.inputs import InputDescription
from storage.arrays import ArrayFile, StoredItems
from storage.samples import Samples

RANGE_BYTES = 2**26  # of the images whose least and largest value are found


class _Readable(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, start: int, stop: int, /) -> np.ndarray: ...


def describe_array(path: Path, array: ArrayFile | StoredItems | Samples) -> InputDescription:
    """Describe an array that `storage.arrays.open_array` opened at a path."""
    whole = array.whole if isinstance(array, StoredItems) else array
    read = InputDescription(
        str(path), "trial" if isinstance(whole, Samples) else "array", tuple(array.shape), str(array.dtype)
    )
    if isinstance(whole, ArrayFile):
        others = {name: str(member) for name, member in whole.others.items()}
        read = replace(read, path=str(whole.path), member=whole.member, other_members=others)
    if isinstance(array, StoredItems):
        count = whole.shape[0] - array.shape[0]
        left_out = {"images whose chunks are not stored": count}
        read = replace(read, missing=tuple(array.missing), left_out=left_out)
    return read


def with_value_range(read: InputDescription, array: _Readable) -> InputDescription:
    """Add the least and largest value of an array's first images to its description."""
    images = min(array.shape[0], max(1, RANGE_BYTES // (array.dtype.itemsize * math.prod(array.shape[1:]))))
    values = array.read(0, images)
    return replace(read, value_range=(float(values.min()), float(values.max())), value_range_images=images)


def conversion(read: InputDescription) -> str:
    """Say how to convert an array of another type than uint8 and float32 into one that can be measured.

    Whole numbers become uint8 if all were seen to lie from 0 to 255, everything else float32.
    """
    assert read.value_range is not None
    low, high = read.value_range
    path = Path(read.path)
    seen = read.value_range_images == read.shape[0]
    to = "uint8" if np.dtype(read.dtype).kind in "iub" and seen and low >= 0 and high <= 255 else "float32"
    opened = f"zarr.open({read.path!r})" if path.is_dir() else f"np.load({read.path!r})"
    member = "" if read.member is None else f"[{read.member!r}]"
    everything = "[:]" if path.is_dir() else ""
    new = str(path.with_name(f"{path.stem}-{to}.npy"))
    return (
        f"its values are from {low:.6g} to {high:.6g}, so convert it with "
        f"np.save({new!r}, {opened}{member}{everything}.astype(np.{to}))"
    )
