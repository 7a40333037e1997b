"""Array files of any origin, opened without loading them: ``.npy``, ``.npz`` and Zarr.

Invariant: a file that can't be read as asked is refused with its name and the reason before any of it is used; an item
that the file does not hold is never returned; opening reads descriptions and indices only (a whole member, of an
``.npz``).
"""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.chunks import missing_items, ranges
from storage.layout import TrialLayout
from storage.samples import Samples, read_numbers

IMAGE_NAMES = ("images", "points")
LABEL_NAMES = ("labels", "label", "y", "targets")
FORMATS = "an array as .npy, .npz or a Zarr folder (of pictures, the folder that they lie in)"
NOT_NUMBERS = {
    "O": "Python objects",
    "U": "text",
    "S": "text",
    "T": "text",
    "V": "records",
    "c": "complex numbers",
    "M": "dates",
    "m": "durations",
}
UNREADABLE = (ValueError, EOFError, TypeError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class Member(NamedTuple):
    """Shape and type of an array inside a file of several."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


class NotAnArrayError(ValueError):
    """A file that is whole but has no array of numbers, or not one that is meant."""


class MissingItemsError(ValueError):
    """Items of a Zarr array whose chunks are not stored.

    Parameters
    ----------
    path : Path
        The array.
    missing : bool (items,)
        True for an item that at least one missing chunk touches.
    fill_value : object
        The value that Zarr reads in their place.
    """

    def __init__(self, path: Path, missing: NDArray[np.bool_], fill_value: object) -> None:
        super().__init__(path, missing, fill_value)

    def __str__(self) -> str:
        path, missing, fill_value = self.args
        runs = ranges(missing)
        shown = ", ".join(f"{start} to {stop - 1}" for start, stop in runs[:3]) + (", …" if len(runs) > 3 else "")
        return (
            f"{path}: {int(missing.sum()):,} of {len(missing):,} images are missing (numbers {shown}): their chunks are "
            f"not stored, and Zarr reads {fill_value} in their place; allowed: an array with every chunk (a chunk of "
            "nothing but that value looks the same unless it is written with write_empty_chunks=True)"
        )


class ArrayFile:
    """An array on disk, read in pieces; cheap to send to another process.

    Parameters
    ----------
    path : Path
        ``.npy``, ``.npz``, or the folder of a Zarr array or group.
    member : str, optional
        Name of the array in a file of several; by default `choose_member` chooses.

    Attributes
    ----------
    path : Path
        The file or folder.
    member : str or None
        Name of the array in a file of several.
    others : dict of str to Member
        The arrays beside it.
    shape : tuple of int
        Its shape; the first axis counts the items.
    dtype : numpy.dtype
        The type of its elements.
    """

    def __init__(self, path: Path, member: str | None = None) -> None:
        self.path, self.member = path, member
        self.others: dict[str, Member] = {}
        if not self.path.exists():
            raise ValueError(f"{path}: no such file or folder")
        if not (self.path.is_dir() or self.path.suffix in (".npy", ".npz")):
            raise ValueError(f"{path}: expected {FORMATS}")
        try:
            self._choose_member()
            self.shape: tuple[int, ...] = tuple(self._array.shape)
            self.dtype: np.dtype[Any] = np.dtype(self._array.dtype)
        except NotAnArrayError as error:
            raise ValueError(f"{path}: can't be read as an array: {error}") from error
        except UNREADABLE as error:
            raise ValueError(f"{path}: can't be read as an array (cut short, or of another kind?): {error}") from error

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
        except UNREADABLE as error:
            where = f"among items {start:,} to {stop - 1:,}" if stop - start > 1 else f"item {start:,}"
            raise ValueError(f"{self.path}: damaged, {where}: {error}") from error

    def missing(self) -> NDArray[np.bool_] | None:
        """Return which items are not stored, bool (items,); None when all are.

        Raises
        ------
        ValueError
            If the chunks are stored in a way that hides which are missing, or the index of a shard is damaged.
        """
        if not self.path.is_dir():
            return None
        try:
            missing = missing_items(self._array, self.path)
        except UNREADABLE as error:
            raise ValueError(f"{self.path}: {error}") from error
        return missing if missing.any() else None

    @property
    def fill_value(self) -> object:
        """The value that is read where a Zarr array stores nothing."""
        return self._array.fill_value

    def _choose_member(self) -> None:
        members = _members(self.path)
        if members is None:
            if self.member is not None:
                raise NotAnArrayError(f"it is one array; allowed: its path without :{self.member}")
            return
        self.member = choose_member(members, self.member)
        _check_numbers(members[self.member].dtype)
        self.others = {name: member for name, member in members.items() if name != self.member}

    @cached_property
    def _array(self) -> Any:
        if self.path.is_dir():
            array = _open_zarr(self.path)
            array = array if self.member is None else array[self.member]
        elif self.member is not None:
            with np.load(self.path, allow_pickle=False) as members:
                array = members[self.member]
        else:
            with self.path.open("rb") as file:
                _check_numbers(_npy_header(file).dtype)
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        _check_numbers(np.dtype(array.dtype))
        return array

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_array"}


class StoredItems:
    """The items of an array that are stored, renumbered without the missing ones; cheap to send to another process.

    Parameters
    ----------
    array : ArrayFile
        The whole array.
    missing : bool (items,)
        The items to leave out.
    """

    def __init__(self, array: ArrayFile, missing: NDArray[np.bool_]) -> None:
        self.whole = array
        self.missing = ranges(missing)
        stored = np.array(ranges(~missing), np.int64).reshape(-1, 2)
        self._ends = np.cumsum(stored[:, 1] - stored[:, 0])
        self._shift = stored[:, 1] - self._ends
        self.shape = (len(missing) - int(missing.sum()), *array.shape[1:])
        self.dtype = array.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return items [start, stop) of those that are stored. Raises as `ArrayFile.read` does."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"items {start} to {stop}: {self.whole.path} has 0 to {self.shape[0]} that are stored")
        return read_numbers(self.whole.read, self.numbers(start, stop))

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the numbers in the whole array of items [start, stop), int64 (stop - start,)."""
        items = np.arange(start, stop)
        numbers: NDArray[np.int64] = items + self._shift[np.searchsorted(self._ends, items, side="right")]
        return numbers


def open_array(path: Path, rank: int | None = 4, *, allow_missing: bool = False) -> ArrayFile | StoredItems | Samples:
    """Open an array of images, or of anything else of a given rank.

    Parameters
    ----------
    path : Path
        ``.npy`` (memory-mapped); ``.npz`` or a Zarr group (the array that `choose_member` chooses, or the one that
        ``PATH:MEMBER`` names); a Zarr array; or the ``samples.zarr`` of a trial that has committed all its samples.
    rank : int or None
        Number of axes it must have; 4 for images (N, C, H, W); None for any from 2.
    allow_missing : bool
        Leave out the items of a Zarr array whose chunks are not stored, instead of refusing it.

    Returns
    -------
    array
        With `shape`, `dtype` and ``read(start, stop)``.

    Raises
    ------
    MissingItemsError
        If chunks of a Zarr array are not stored.
    ValueError
        If the file is missing, cut short, damaged, not an array, empty, of another rank, a single picture or of several
        arrays that could be meant, or the trial is unfinished.
    """
    path = Path(path)
    trial = TrialLayout(path.parent)
    array: ArrayFile | StoredItems | Samples
    if path == trial.samples and trial.commits.is_dir():
        array = Samples(trial)
        done, planned = len(array.committed), len(array.plan.shards)
        if done < planned:
            raise ValueError(f"{path}: only {done} of {planned} shards are committed; finish the trial first")
    else:
        array = ArrayFile(*split_member(path))
    if rank is None and len(array.shape) < 2:
        raise ValueError(f"{path}: got shape {array.shape}, expected items along the first of two or more axes")
    if rank is not None and len(array.shape) != rank:
        axes = " (images, channels, height, width)" if rank == 4 else ""
        raise ValueError(f"{path}: got shape {array.shape}, expected {rank} axes{axes}")
    if 0 in array.shape:
        raise ValueError(f"{path}: got shape {array.shape}, expected at least one item")
    if is_single_picture(array.shape):
        count, *rest = array.shape
        raise ValueError(
            f"{path}: got shape {array.shape}, which is one picture with its channels; allowed: pictures along a first "
            f"axis (np.stack), or {count} rows of values (array.reshape({count}, {math.prod(rest)}))"
        )
    if isinstance(array, ArrayFile) and (missing := array.missing()) is not None:
        if not allow_missing:
            raise MissingItemsError(path, missing, array.fill_value)
        array = StoredItems(array, missing)
        if not array.shape[0]:
            raise ValueError(f"{path}: none of its {len(missing):,} images is stored; allowed: at least one")
    return array


class Labels(NamedTuple):
    """The class of each item, and where it was found.

    Attributes
    ----------
    values : int64 (items,)
        The classes.
    name : str
        Name of the array that holds them.
    unstored : int
        Labels whose chunks are not stored, so that they were read as the fill value.
    """

    values: NDArray[np.int64]
    name: str
    unstored: int


def open_labels(path: Path, array: ArrayFile | StoredItems | Samples) -> Labels | None:
    """Return the class of each item that lies beside an array; None when none do.

    Parameters
    ----------
    path : Path
        The path that `open_array` opened: an ``.npz`` or a Zarr group with an array `labels`, `label`, `y` or `targets`,
        or the ``samples.zarr`` of a trial with labels.
    array
        The array that it returned: as many labels there must be.

    Raises
    ------
    ValueError
        If an array `labels` or `label` does not hold whole numbers, one for each item, or is damaged. One called `y` or
        `targets`, or one beside an array named by ``PATH:MEMBER``, may belong to something else and is passed over.
    """
    if isinstance(array, Samples):
        values = array.labels(0, array.shape[0])
        return None if values is None else Labels(values, "label", 0)
    whole = array.whole if isinstance(array, StoredItems) else array
    numbers = array.numbers(0, array.shape[0]) if isinstance(array, StoredItems) else slice(None)
    items, folder = whole.shape[0], (whole.member or "").rpartition("/")[0]
    for name in LABEL_NAMES:
        place = f"{folder}/{name}" if folder else name
        found = whole.others.get(place)
        if found is None:
            continue
        if found.shape != (items,) or found.dtype.kind not in "iu":
            if name not in LABEL_NAMES[:2] or split_member(path)[1] is not None:
                continue
            raise ValueError(f"{path}: got labels {found}, expected whole numbers, one for each of {items}")
        stored = ArrayFile(whole.path, place)
        missing = stored.missing()
        values = stored.read(0, items).astype(np.int64)[numbers]
        return Labels(values, place, 0 if missing is None else int(missing[numbers].sum()))
    return None


def split_member(path: Path) -> tuple[Path, str | None]:
    """Split ``PATH:MEMBER`` into the file and the array in it; a path that exists as it stands has no member."""
    path = Path(path)
    file, colon, member = str(path).rpartition(":")
    if not colon or path.exists() or not Path(file).exists():
        return path, None
    return Path(file), member


def choose_member(members: Mapping[str, Member], asked: str | None) -> str:
    """Choose the array that is meant among those of a file.

    That is the one asked for; else `images` or `points`; else the only one with three or more axes; else the only one
    with two.

    Raises
    ------
    NotAnArrayError
        If there is none, or there are several; lists them with their shapes.
    """
    listed = ", ".join(f"{name} {member}" for name, member in members.items())
    if asked is not None:
        if asked not in members:
            raise NotAnArrayError(f"it has no array {asked}; allowed: {listed or 'none, it is empty'}")
        return asked
    for name in IMAGE_NAMES:
        if name in members:
            return name
    numeric = {
        name: len(member.shape)
        for name, member in members.items()
        if member.dtype.kind in "iuf" and name not in LABEL_NAMES
    }
    candidates = [name for name, axes in numeric.items() if axes >= 3] or [
        name for name, axes in numeric.items() if axes == 2
    ]
    if not candidates:
        found = f"it holds {listed}: " if listed else ""
        raise NotAnArrayError(f"{found}no array named images or points, and no other with two or more axes")
    if len(candidates) > 1:
        raise NotAnArrayError(
            f"{len(candidates)} of its arrays could be the images ({', '.join(candidates)}, of {listed}); allowed: "
            f"PATH:MEMBER, such as PATH:{candidates[0]}"
        )
    return candidates[0]


def is_single_picture(shape: tuple[int, ...]) -> bool:
    """True if a shape of three axes is that of one picture, (H, W, 3 or 4) or (3 or 4, H, H), not of grey pictures."""
    return len(shape) == 3 and (shape[2] in (3, 4) or (shape[0] in (3, 4) and shape[1] == shape[2]))


def _members(path: Path) -> dict[str, Member] | None:
    """Return the arrays of a file of several, by name, without reading them; None for a single array."""
    if path.is_dir():
        import zarr

        node = _open_zarr(path)
        if not isinstance(node, zarr.Group):
            return None
        with warnings.catch_warnings():  # of files that are not Zarr's and lie in the folder
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            inside = dict(node.members(max_depth=None))
        return {
            name: Member(tuple(array.shape), np.dtype(array.dtype))
            for name, array in sorted(inside.items())
            if isinstance(array, zarr.Array)
        }
    if path.suffix != ".npz":
        return None
    members = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    members[name.removesuffix(".npy")] = _npy_header(file)
    return members


def _npy_header(file: IO[bytes]) -> Member:
    start = file.read(len(np.lib.format.MAGIC_PREFIX))
    if start != np.lib.format.MAGIC_PREFIX:
        raise NotAnArrayError(f"it begins with {start!r}, as no array does; allowed: a file that np.save wrote")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return Member(shape, dtype)


def _open_zarr(path: Path) -> Any:
    import zarr

    try:
        return zarr.open(path, mode="r")
    except FileNotFoundError:
        raise NotAnArrayError("the folder is not a Zarr array or group") from None


def _check_numbers(dtype: np.dtype[Any]) -> None:
    if (kind := NOT_NUMBERS.get(dtype.kind)) is not None:
        raise NotAnArrayError(f"it holds {kind} (dtype {dtype}); allowed: numbers, as uint8 images or float32 features")
