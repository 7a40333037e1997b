"""Array files of any origin, opened without loading them: ``.npy``, ``.npz`` and Zarr.

Invariant: a file that can't be read as asked is refused with its name and the reason before any of it is used; an item
that the file does not hold is never returned; opening reads descriptions and indices only (a whole member, of an
``.npz``).
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from storage.layout import TrialLayout
from storage.samples import Samples, read_numbers

IMAGE_NAMES = ("images", "points")
LABEL_NAMES = ("labels", "label", "y", "targets")
FORMATS = "an array as .npy, .npz or a Zarr folder"
NOT_NUMBERS = {"O": "Python objects", "U": "text", "S": "text", "T": "text", "V": "records", "c": "complex numbers",
               "M": "dates", "m": "durations"}  # fmt: skip
UNREADABLE = (ValueError, EOFError, TypeError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
ABSENT = 2**64 - 1  # offset and length, in the index of a shard, of a chunk that is not stored


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
        runs = ranges(missing)
        shown = ", ".join(f"{start} to {stop - 1}" for start, stop in runs[:3]) + (", …" if len(runs) > 3 else "")
        super().__init__(
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
        except (ValueError, RuntimeError, EOFError) as error:
            raise ValueError(f"{self.path}: damaged: {error}") from error

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
    """Whether a shape of three axes is that of one picture, (H, W, 3 or 4) or (3 or 4, H, H), not of grey pictures."""
    return len(shape) == 3 and (shape[2] in (3, 4) or (shape[0] in (3, 4) and shape[1] == shape[2]))


def ranges(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs [start, stop) of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def missing_items(array: Any, folder: Path) -> NDArray[np.bool_]:
    """Find the items of a Zarr array that a chunk which is not stored touches.

    Parameters
    ----------
    array : zarr.Array
        Opened from `folder`; format 2 or 3, sharded or not.
    folder : Path
        The Zarr array or group.

    Returns
    -------
    bool (items,)

    Raises
    ------
    ValueError
        If shards are coded so that their chunks can't be found, or an index is damaged.
    """
    place = folder / array.path
    stored = _stored_files(place)
    outer = array.shards or array.chunks
    grid = [-(-size // step) for size, step in zip(array.shape, outer, strict=True)]
    within = [step // part for step, part in zip(outer, array.chunks, strict=True)]
    read_index = _shard_index_reader(array, within)
    found = np.zeros([count * inner for count, inner in zip(grid, within, strict=True)], bool)
    for at in itertools.product(*map(range, grid)):
        key = array.metadata.encode_chunk_key(at)
        if key in stored:
            block = tuple(slice(i * inner, (i + 1) * inner) for i, inner in zip(at, within, strict=True))
            found[block] = True if read_index is None else read_index(place / key)
    inside = tuple(slice(-(-size // step)) for size, step in zip(array.shape, array.chunks, strict=True))
    whole = found[inside].reshape(inside[0].stop, -1).all(axis=1)
    missing: NDArray[np.bool_] = np.repeat(~whole, array.chunks[0])[: array.shape[0]]
    return missing


def _shard_index_reader(array: Any, within: list[int]) -> Callable[[Path], NDArray[np.bool_]] | None:
    """Return a function that says which chunks a shard's file holds, bool of shape `within`; None without shards.

    The index at the start or end of a shard has the offset and length of each chunk as little-endian uint64, and after
    them a checksum (Zarr format 3, sharding codec, "Binary shard format").
    """
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

    codecs: tuple[Any, ...] = getattr(array.metadata, "codecs", ())  # format 2 has no shards
    if not any(isinstance(codec, ShardingCodec) for codec in codecs):
        return None
    sharding, *others = codecs
    coded = [type(codec) for codec in getattr(sharding, "index_codecs", ())]
    nested = any(isinstance(codec, ShardingCodec) for codec in getattr(sharding, "codecs", ()))
    if others or nested or coded not in ([BytesCodec], [BytesCodec, Crc32cCodec]):
        raise ValueError(
            "its shards are nested, transposed or compressed as a whole, so that missing chunks can't be found; allowed: "
            "other codecs inside the shards (zarr.create_array puts them there)"
        )
    bytes_ = 16 * math.prod(within)
    size, from_end = bytes_ + 4 * (len(coded) - 1), sharding.index_location.value == "end"

    def read_index(file: Path) -> NDArray[np.bool_]:
        with file.open("rb") as opened:
            length = os.fstat(opened.fileno()).st_size
            if length < size:
                raise ValueError(f"damaged: shard {file} has {length} bytes, its index alone {size}")
            opened.seek(length - size if from_end else 0)
            index = opened.read(size)
        if len(coded) > 1 and google_crc32c.value(index[:bytes_]) != int.from_bytes(index[bytes_:], "little"):
            raise ValueError(f"damaged: the index of shard {file} fails its checksum")
        entries = np.frombuffer(index[:bytes_], "<u8").reshape(*within, 2)
        present: NDArray[np.bool_] = (entries != ABSENT).any(axis=-1)
        return present

    return read_index


def _stored_files(folder: Path) -> set[str]:
    """Return the paths of all files below a folder, relative to it and with slashes."""
    files = set()
    for parent, _, names in os.walk(folder):
        place = parent[len(str(folder)) :].replace(os.sep, "/")
        files |= {f"{place}/{name}"[1:] for name in names}
    return files


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
