"""Anyone's array file, opened without loading it: ``.npy``, ``.npz`` and Zarr.

Invariant: a file that can't be read as asked is refused with its name and the reason before any of it is used, and
opening reads no more than a description of the array (a whole member, of an ``.npz``).
"""

from __future__ import annotations

import zipfile
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.layout import TrialLayout
from storage.samples import Samples


class ArrayFile:
    """An array on disk, read in pieces; cheap to send to another process.

    Attributes
    ----------
    path : Path
        The file or folder.
    shape : tuple of int
        Its shape; the first axis counts the items.
    dtype : numpy.dtype
        The type of its elements.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, ...] = tuple(self._array.shape)
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return items [start, stop).

        Raises
        ------
        ValueError
            If some of them do not exist, or the file is damaged; names the file.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"items {start} to {stop}: {self.path} has 0 to {self.shape[0]}")
        try:
            return np.array(self._array[start:stop])
        except (ValueError, RuntimeError, EOFError) as error:
            raise ValueError(f"{self.path}: damaged: {error}") from error

    @cached_property
    def _array(self) -> Any:
        path = self.path
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        try:
            if path.is_dir():
                return _zarr_array(path)
            if path.suffix == ".npy":
                return np.load(path, mmap_mode="r", allow_pickle=False)
            if path.suffix == ".npz":
                return _npz_member(path)
        except (ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: can't be read as an array (cut short, or of another kind?): {error}") from error
        raise ValueError(f"{path}: expected an array as .npy, .npz or a Zarr folder")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_array"}


def open_array(path: Path, rank: int | None = 4) -> ArrayFile | Samples:
    """Open an array of images, or of anything else of a given rank.

    Parameters
    ----------
    path : Path
        ``.npy`` (memory-mapped); ``.npz`` (its array `images` or `points`, or its only or first one); a Zarr array, or a
        group with the array `images` or `points`; or the ``samples.zarr`` of a trial that has committed all its samples.
    rank : int or None
        Number of axes it must have; 4 for images (N, C, H, W); None for any from 2.

    Returns
    -------
    array
        With `shape`, `dtype` and ``read(start, stop)``.

    Raises
    ------
    ValueError
        If the file is missing, cut short, damaged, not an array, empty, or of another rank, or the trial is unfinished.
    """
    path = Path(path)
    trial = TrialLayout(path.parent)
    array: ArrayFile | Samples
    if path == trial.samples and trial.commits.is_dir():
        array = Samples(trial)
        done, planned = len(array.committed), len(array.plan.shards)
        if done < planned:
            raise ValueError(f"{path}: only {done} of {planned} shards are committed; finish the trial first")
    else:
        array = ArrayFile(path)
    if rank is None and len(array.shape) < 2:
        raise ValueError(f"{path}: got shape {array.shape}, expected items along the first of two or more axes")
    if rank is not None and len(array.shape) != rank:
        axes = " (images, channels, height, width)" if rank == 4 else ""
        raise ValueError(f"{path}: got shape {array.shape}, expected {rank} axes{axes}")
    if 0 in array.shape:
        raise ValueError(f"{path}: got shape {array.shape}, expected at least one item")
    return array


def open_labels(path: Path, items: int) -> NDArray[np.int64] | None:
    """Return the class of each item that lies beside the array which `open_array` opens at `path`; None when none do.

    Parameters
    ----------
    path : Path
        An ``.npz`` or a Zarr group with an array `labels` or `label`, or the ``samples.zarr`` of a trial with labels.
    items : int
        Number of items: as many labels there must be.

    Raises
    ------
    ValueError
        If there are labels that are not whole numbers, or not one for each item, or damaged.
    """
    path = Path(path)
    trial = TrialLayout(path.parent)
    if path == trial.samples and trial.commits.is_dir():
        return Samples(trial).labels(0, items)
    try:
        found = _beside(path)
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: its labels can't be read: {error}") from error
    if found is None:
        return None
    if found.shape != (items,) or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(
            f"{path}: got labels {found.dtype} {found.shape}, expected whole numbers, one for each of {items}"
        )
    return found.astype(np.int64)


def _beside(path: Path) -> NDArray[Any] | None:
    """The array `labels` or `label`, of whatever type and shape."""
    names = ("labels", "label")
    if path.suffix == ".npz" and path.is_file():
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            named = [name for name in names if name in members.files]
            return members[named[0]] if named else None
    if path.is_dir() and any((path / name).exists() for name in ("zarr.json", ".zgroup")):
        import zarr

        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Group):
            stored = [node[name] for name in names if isinstance(node.get(name), zarr.Array)]
            return np.asarray(stored[0][:]) if stored else None
    return None


def _npz_member(path: Path) -> NDArray[Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
        if not members.files:
            raise ValueError("it holds no array")
        named = [name for name in ("images", "points") if name in members.files]
        member: NDArray[Any] = members[(named or members.files)[0]]
        return member


def _zarr_array(path: Path) -> Any:
    import zarr

    try:
        node = zarr.open(path, mode="r")
    except FileNotFoundError:
        raise ValueError("the folder is not a Zarr array or group") from None
    if isinstance(node, zarr.Group):
        named = [name for name in ("images", "points") if isinstance(node.get(name), zarr.Array)]
        if not named:
            raise ValueError("the Zarr group has no array named images or points")
        return node[named[0]]
    return node
