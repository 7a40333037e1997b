"""Plan of the images that a trial writes and of their files.

Invariant: a frozen function of the numbers of images alone, so everyone knows every shard before anything is computed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np

_LARGEST_SHARD_IMAGES = 4096
_LARGEST_SHARD_BYTES = 64 * 2**20
_CHUNK_BYTES = 512 * 2**10  # large enough to read at disk speed, small enough to show one image at once
_LARGEST_CHUNK_BYTES = 4 * 2**20
CHECKSUM_BYTES = 4
LABEL_BYTES = 8
_INDEX_ENTRY_BYTES = 16


class Shard(NamedTuple):
    """One shard: its number, the samples [start, stop) it holds, and the generator step they were drawn at."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which a shard has no use for
    start: int
    stop: int
    step: int


@dataclass(frozen=True)
class ShardPlan:
    """Images that a trial will write, and their files; known before the first is computed.

    Attributes
    ----------
    snapshots : tuple of (step, images)
        Generator step and number of images of each snapshot, by ascending step; the last is the final one.
    image_shape : tuple of int
        Channels, height, width of uint8 images; or the number of coordinates, alone, of float32 points.
    shard_images : int
        Images per shard; divides the number of images of every snapshot.
    chunk_images : int
        Images per separately readable, checksummed chunk; divides `shard_images`.
    labelled : bool
        Whether every image comes with a label.
    """

    snapshots: tuple[tuple[int, int], ...]
    image_shape: tuple[int, ...]
    shard_images: int
    chunk_images: int
    labelled: bool = False

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.snapshots]
        if not steps or steps[0] < 0 or any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"snapshot steps {steps}: expected at least one, none negative, each larger than the last")
        if len(self.image_shape) not in (1, 3) or min(self.image_shape) < 1:
            raise ValueError(
                f"image shape {self.image_shape}: expected channels, height and width, or a number of coordinates, "
                "each at least 1"
            )
        if self.chunk_images < 1 or self.shard_images < 1 or self.shard_images % self.chunk_images:
            raise ValueError(f"chunks of {self.chunk_images} images do not divide shards of {self.shard_images}")
        for step, images in self.snapshots:
            if images < 1 or images % self.shard_images:
                raise ValueError(
                    f"snapshot at step {step}: shards of {self.shard_images} do not divide {images} images"
                )

    @classmethod
    def make(cls, snapshots: Iterable[tuple[int, int]], image_shape: tuple[int, ...], labelled: bool = False) -> Self:
        """Choose the sizes: one shard size for all snapshots, at most 4,096 images and 64 MiB, and its chunks.

        Raises
        ------
        ValueError
            If the counts of images share no divisor that gives shards of a sensible size; names nearby counts that do.
        """
        snapshots = tuple((int(step), int(images)) for step, images in snapshots)
        image_shape = tuple(int(size) for size in image_shape)
        image_bytes = math.prod(image_shape) * kind_of(image_shape).itemsize
        counts = [images for _, images in snapshots]
        if not counts or min(counts) < 1 or image_bytes < 1:
            raise ValueError(f"snapshots {snapshots} of images {image_shape}: expected sizes of at least 1")
        limit = _largest_shard(image_bytes)
        # Many small files are slow on parallel file systems, hence a smallest shard, too.
        smallest = min(256, min(counts), max(1, limit // 16))
        shard = max(size for size in _divisors(math.gcd(*counts)) if size <= limit)
        if shard < smallest:
            good = _nearby_counts(counts, smallest, limit)
            raise ValueError(
                f"images per snapshot {_words(counts)}: no shard size from {smallest} to {limit} images divides all of "
                f"them; {_words(good)} would do"
            )
        chunk = _best_chunk(_divisors(shard), image_bytes)
        return cls(snapshots, image_shape, shard, chunk, labelled)

    @property
    def samples(self) -> int:
        """Number of images in all."""
        return sum(images for _, images in self.snapshots)

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Every shard, in the order of its samples."""
        shards: list[Shard] = []
        for step, images in self.snapshots:
            for _ in range(images // self.shard_images):
                start = len(shards) * self.shard_images
                shards.append(Shard(len(shards), start, start + self.shard_images, step))
        return tuple(shards)

    @property
    def shard_bytes(self) -> int:
        """Bytes of one shard file: its images, a checksum for each chunk, the index of chunks, and its checksum."""
        chunks = self.shard_images // self.chunk_images
        values = self.shard_images * math.prod(self.image_shape) * kind_of(self.image_shape).itemsize
        return values + chunks * (CHECKSUM_BYTES + _INDEX_ENTRY_BYTES) + CHECKSUM_BYTES

    @property
    def label_bytes(self) -> int:
        """Bytes of the labels of one shard, and of their checksum."""
        return self.shard_images * LABEL_BYTES + CHECKSUM_BYTES if self.labelled else 0

    @property
    def bytes(self) -> int:
        """Bytes of all shard files."""
        return len(self.shards) * (self.shard_bytes + self.label_bytes)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of this plan: equal for equal plans alone."""
        described = asdict(self)
        if not self.labelled:
            del described["labelled"]  # sweeps made before there were labels keep their names
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]

    def snapshot_ranges(self) -> dict[int, range]:
        """Return the sample numbers of every snapshot, by step."""
        ranges, start = {}, 0
        for step, images in self.snapshots:
            ranges[step] = range(start, start + images)
            start += images
        return ranges


def kind_of(image_shape: tuple[int, ...]) -> np.dtype[Any]:
    """Type of the values of images, uint8, or of points, float32, by the shape of one."""
    return np.dtype(np.uint8 if len(image_shape) == 3 else "<f4")


def array_of(image_shape: tuple[int, ...]) -> str:
    """Name of the array on disk that holds images or points, by the shape of one."""
    return "images" if len(image_shape) == 3 else "points"


def sizes_for(images: int, image_bytes: int) -> tuple[int, int]:
    """Return (images per shard, images per chunk) for any number of images; the last shard may reach beyond them."""
    limit = _largest_shard(image_bytes)
    chunk = min(images, _best_chunk([2**power for power in range(limit.bit_length())], image_bytes))
    return min(-(-images // chunk), limit // chunk) * chunk, chunk


def _largest_shard(image_bytes: int) -> int:
    return max(1, min(_LARGEST_SHARD_IMAGES, _LARGEST_SHARD_BYTES // image_bytes))


def _best_chunk(sizes: list[int], image_bytes: int) -> int:
    floor = min(64, max(sizes), max(1, _LARGEST_CHUNK_BYTES // image_bytes))
    large_enough = [size for size in sizes if size >= floor]
    return min(large_enough, key=lambda size: abs(math.log(size * image_bytes / _CHUNK_BYTES)))


def _divisors(number: int) -> list[int]:
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})


def _nearby_counts(counts: list[int], smallest: int, limit: int) -> list[int]:
    """Return the counts nearest to `counts` that one shard size divides."""
    options = [[max(1, round(count / size)) * size for count in counts] for size in range(limit, smallest - 1, -1)]
    return min(options, key=lambda option: sum(abs(a - b) for a, b in zip(option, counts, strict=True)))


def _words(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
