"""The real images of a sweep, those of training and those held out, beside its trials in the same layout as samples.

Invariant: ``reference.zarr`` is complete or absent, and never changes; ``held_out.zarr`` is complete when it is there.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.atomic import DamagedError, read_json, whole_folder
from storage.layout import SweepLayout, shard_file
from storage.plan import kind_of, sizes_for
from storage.samples import DamagedShardError, Images, open_images, read_numbers, read_shard
from storage.shards import create_images


class Reference:
    """The real images of a sweep, read as they are asked for; cheap to send to another process.

    Parameters
    ----------
    group : Path
        A complete ``reference.zarr``.

    Attributes
    ----------
    shape : tuple of int
        Images, channels, height, width; or points and coordinates.
    dtype : numpy.dtype
        Type of the values: uint8 of images, float32 of points.
    fingerprint : str
        Name of the images, as `write_reference` was given it.
    shard_images : int
        Images in one file.
    held_out : int
        Images that ``held_out.zarr`` has beside these training images.
    """

    def __init__(self, group: Path) -> None:
        self._group = group
        try:
            attributes = read_json(group / "zarr.json")["attributes"]
            named = [name for name in ("images", "points") if (group / name).is_dir()]
            array = read_json(group / (named or ["images"])[0] / "zarr.json")
            self.shard_images = int(array["chunk_grid"]["configuration"]["chunk_shape"][0])
            self.fingerprint = str(attributes["fingerprint"])
            self.held_out = int(attributes.get("held_out", 0))  # not in version 0.1.0
            self.shape: tuple[int, ...] = tuple(int(size) for size in array["shape"])
        except FileNotFoundError as error:
            if group.exists():
                raise DamagedError(group, "images and their fingerprint", repr(error)) from error
            raise ValueError(f"{group}: no real images here yet; run the sweep first") from None
        except (KeyError, IndexError, TypeError, NotADirectoryError) as error:
            raise DamagedError(group, "images and their fingerprint", repr(error)) from error
        self.dtype = kind_of(self.shape[1:])

    @cached_property
    def images(self) -> Images:
        """All images, uint8 (N, C, H, W), or points, float32 (N, D), in memory. Raises as `read` does."""
        return self.read(0, self.shape[0])

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image, int64 (N,), where the data set has classes."""
        import zarr

        if not (self._group / "label").exists():
            return None
        try:
            return np.asarray(zarr.open_array(self._group / "label", mode="r")[:], dtype=np.int64)
        except ValueError as error:
            raise DamagedShardError(self._group / "label", str(error), self._group) from error

    def read(self, start: int, stop: int) -> Images:
        """Return images [start, stop) as uint8 (stop - start, C, H, W), or points, float32 (stop - start, D).

        Raises
        ------
        ValueError
            If some of them do not exist.
        DamagedShardError
            If a shard is missing or fails a checksum.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"images {start} to {stop}: {self._group} has 0 to {self.shape[0]}")
        images = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        size = self.shard_images
        for index in range(start // size, -(-stop // size)) if start < stop else ():
            first, last = max(start, index * size), min(stop, (index + 1) * size)
            path = shard_file(self._group, index, len(self.shape))
            images[first - start : last - start] = read_shard(self._array, path, None, slice(first, last), self._group)
        return images

    def take(self, numbers: ArrayLike) -> Images:
        """Return the images of these numbers, in this order, as uint8 (n, C, H, W). Raises as `read` does."""
        return read_numbers(self.read, np.asarray(numbers, dtype=np.int64))

    @cached_property
    def _array(self) -> Any:
        return open_images(self._group, self.shape[1:])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("images", "labels", "_array")}


def write_reference(
    layout: SweepLayout,
    images: Images,
    labels: NDArray[np.int64] | None = None,
    *,
    fingerprint: str,
    held_out: tuple[Images, NDArray[np.int64] | None] | None = None,
) -> None:
    """Write ``reference.zarr``, synced to disk; nothing to do when it already holds these images.

    ``held_out.zarr`` is written before it, so that training images on disk have the held-out images beside them.

    Parameters
    ----------
    layout : SweepLayout
        Where.
    images : uint8 (N, C, H, W), or points, float32 (N, D)
        At least one.
    labels : int64 (N,), optional
        The class of each image.
    fingerprint : str
        Names all these images: the data set, its settings, and whatever else decides their content.
    held_out : images and labels, optional
        Those that no trial is trained on, of the same type and shape.

    Raises
    ------
    ValueError
        If the shapes or types are wrong, or the sweep already has other real images.
    OSError
        If the disk is full, the folder is read-only, or the like.
    """
    _check_images(images, labels)
    if layout.reference.exists():
        found = Reference(layout.reference).fingerprint
        if found != fingerprint:
            raise ValueError(
                f"{layout.reference} holds other real images (fingerprint {found}, now {fingerprint}); "
                "the trials there were trained on them, so use another folder for this sweep"
            )
        return
    if held_out is not None:
        _check_images(*held_out)
        if held_out[0].shape[1:] != images.shape[1:]:
            raise ValueError(f"held-out images: got shape {held_out[0].shape}, expected (N, {images.shape[1:]})")
        _write_group(layout.held_out, *held_out, {"fingerprint": fingerprint})
    count = {} if held_out is None else {"held_out": len(held_out[0])}
    _write_group(layout.reference, images, labels, {"fingerprint": fingerprint, **count})


def _check_images(images: Images, labels: NDArray[np.int64] | None) -> None:
    if images.ndim not in (2, 4) or images.dtype != kind_of(images.shape[1:]) or not images.size:
        raise ValueError(
            f"real images: got {images.dtype} {images.shape}, expected uint8 (N, C, H, W) or float32 (N, D), "
            "none of them 0"
        )
    if labels is not None and labels.shape != (len(images),):
        raise ValueError(f"labels: got shape {labels.shape}, expected ({len(images)},), one for each image")


def _write_group(path: Path, images: Images, labels: NDArray[np.int64] | None, attributes: dict[str, Any]) -> None:
    import zarr
    from zarr.codecs import Crc32cCodec

    shard, chunk = sizes_for(len(images), math.prod(images.shape[1:]) * images.dtype.itemsize)
    with whole_folder(path) as folder:
        group = zarr.create_group(folder, attributes=attributes)
        create_images(group, len(images), images.shape[1:], shard, chunk)[...] = images
        if labels is not None:
            data = labels.astype(np.int64)
            group.create_array("label", data=data, compressors=[Crc32cCodec()], dimension_names=("sample",))


def read_reference(layout: SweepLayout) -> Reference:
    """Return the real images of a sweep.

    Raises
    ------
    ValueError
        If there are none yet, or their description is damaged.
    """
    return Reference(layout.reference)


def read_held_out(layout: SweepLayout) -> Reference | None:
    """Return the held-out images of a sweep; None when it has none.

    Raises
    ------
    ValueError
        If there are no real images yet, or their description is damaged.
    DamagedError
        If held-out images were written and are no longer there.
    """
    reference = read_reference(layout)
    if not reference.held_out:
        return None
    if not layout.held_out.exists():
        raise DamagedError(layout.held_out, f"{reference.held_out} images", "nothing is there")
    return Reference(layout.held_out)
