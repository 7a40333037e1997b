"""Items of a Zarr array that are not stored, found without reading any.

Invariant: an item counts as stored only if every chunk that it touches is.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

ABSENT = 2**64 - 1  # offset and length, in the index of a shard, of a chunk that is not stored


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
    files_in = lru_cache(maxsize=1)(
        _files
    )  # in the order of their coordinates, chunks of one folder follow one another
    outer = array.shards or array.chunks
    grid = [-(-size // step) for size, step in zip(array.shape, outer, strict=True)]
    within = [step // part for step, part in zip(outer, array.chunks, strict=True)]
    read_index = _shard_index_reader(array, within)
    found = np.zeros([count * inner for count, inner in zip(grid, within, strict=True)], bool)
    for at in itertools.product(*map(range, grid)):
        parent, file = os.path.split(os.path.join(folder, array.path, array.metadata.encode_chunk_key(at)))
        if file in files_in(parent):
            block = tuple(slice(i * inner, (i + 1) * inner) for i, inner in zip(at, within, strict=True))
            found[block] = True if read_index is None else read_index(Path(parent, file))
    inside = tuple(slice(-(-size // step)) for size, step in zip(array.shape, array.chunks, strict=True))
    whole = found[inside].reshape(inside[0].stop, -1).all(axis=1)
    missing: NDArray[np.bool_] = np.repeat(~whole, array.chunks[0])[: array.shape[0]]
    return missing


def ranges(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs [start, stop) of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


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


def _files(folder: str) -> frozenset[str]:
    """Return the names in a folder; none if there is no such folder."""
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
