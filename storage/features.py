"""Features of the images of one snapshot, and scores computed from them, beside its pair record.

Invariant: either is whole or absent, and belongs to exactly the images and settings that its fingerprint names.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.atomic import DamagedError, read_arrays, read_json, whole_folder, write_arrays
from storage.samples import DamagedShardError

CHUNK_ROWS = 1024


class Features:
    """Feature vectors, read as they are asked for; cheap to send to another process.

    Parameters
    ----------
    path : Path
        What `write_features` made.

    Attributes
    ----------
    shape : tuple of int
        Images, values of each.
    fingerprint : str
        Of the images and the embedding.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            found = read_json(path / "zarr.json")
            self.shape: tuple[int, ...] = tuple(int(size) for size in found["shape"])
            self.fingerprint = str(found["attributes"]["fingerprint"])
        except FileNotFoundError:
            raise ValueError(f"{path}: no features here yet") from None
        except (KeyError, TypeError) as error:
            raise DamagedError(path, "features and their fingerprint", repr(error)) from error

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the features of images [start, stop), float32 (stop - start, d).

        Raises
        ------
        ValueError
            If some of them do not exist.
        DamagedShardError
            If a chunk is missing or fails its checksum.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"images {start} to {stop}: {self.path} has 0 to {self.shape[0]}")
        for chunk in range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS)) if start < stop else ():
            if not (file := self.path / f"c.{chunk}.0").is_file():  # Zarr reads zeros when it is missing
                raise DamagedShardError(file, "the file is missing", self.path)
        try:
            return np.asarray(self._array[start:stop], dtype=np.float32)
        except (ValueError, IndexError, EOFError) as error:
            raise DamagedShardError(self.path, str(error), self.path) from error

    @cached_property
    def _array(self) -> Any:
        import zarr

        return zarr.open_array(self.path, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_array"}


def write_features(
    path: Path, shape: tuple[int, int], fingerprint: str, blocks: Iterable[tuple[int, NDArray[np.float32]]]
) -> Features:
    """Write the features of a set of images, synced to disk, in place of older ones.

    Parameters
    ----------
    path : Path
        A folder.
    shape : tuple of int
        Images, values of each.
    fingerprint : str
        Of the images and the embedding.
    blocks : iterable of (int, float32 (n, d))
        Features of the images from that number on, in any order, together of all images; each begins at a multiple of
        `CHUNK_ROWS` and all but the last are so long.

    Raises
    ------
    OSError
        If the disk is full, the folder is read-only, or the like; what was there before stays.
    """
    import zarr
    from zarr.codecs import Crc32cCodec

    written = 0
    with whole_folder(path) as folder:
        array = zarr.create_array(
            folder,
            shape=shape,
            dtype="float32",
            chunks=(min(CHUNK_ROWS, shape[0]), shape[1]),
            filters=None,
            compressors=[Crc32cCodec()],
            fill_value=0,
            dimension_names=("sample", "feature"),
            attributes={"fingerprint": fingerprint},
            config={"write_empty_chunks": True},
            chunk_key_encoding={"name": "default", "separator": "."},
        )
        for start, values in blocks:
            assert start % CHUNK_ROWS == 0
            array[start : start + len(values)] = values
            written += len(values)
        assert written == shape[0]
    return Features(path)


def read_features(path: Path, fingerprint: str) -> Features | None:
    """The features of these images by this embedding; None when there are none."""
    try:
        features = Features(path)
    except ValueError:
        return None
    return features if features.fingerprint == fingerprint else None


def write_record(path: Path, fingerprint: str, **arrays: ArrayLike) -> None:
    """Keep named arrays, replacing older ones when these are safely on disk."""
    write_arrays(path, fingerprint=fingerprint, **arrays)


def read_record(path: Path, fingerprint: str) -> dict[str, NDArray[Any]] | None:
    """Read the record of `write_record`; None if it is missing, damaged or of another fingerprint."""
    try:
        arrays = read_arrays(path)
    except (FileNotFoundError, ValueError):
        return None
    found = arrays.pop("fingerprint", None)
    return arrays if found is not None and found.item() == fingerprint else None
