"""Anyone's samples, from a file or a folder of pictures: how many distinct images does their maker have?

Invariant: every unordered pair is compared exactly once; a file is read in pieces and never whole.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ganlab.collisions import Collisions, compare_tile
from ganlab.fidelity import RealNeighbours, fidelity_ratio, real_neighbours, realistic
from ganlab.pairs import nearest
from ganlab.pictures import read_pictures
from ganlab.screen import learn
from ganlab.support import Estimate, collision_frequency, estimate_from_degrees
from ganlab.tiles import choose_tile_images, plan_tiles
from jobs.strict import SpecError
from storage.arrays import open_array

SAMPLE_SIZES = (10, 20, 50, 100, 200, 400, 1000, 2000, 5000)
CLOSEST = 20
NEIGHBOUR_QUANTILE = 0.1  # as `collisions.real_neighbour_quantile` in a sweep file
BLOCK = 4096
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


class Source(Protocol):
    """A set of images that is read by ranges."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop)."""


@dataclass(frozen=True)
class InMemory:
    """Images that were read already, uint8 or float32 (n, …)."""

    images: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return self.images.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""
        return self.images.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop)."""
        return self.images[start:stop]


def open_samples(
    path: Path, resize: int | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> Source:
    """Open an array file (.npy, .npz, Zarr) or read a folder of pictures.

    Parameters
    ----------
    path
        uint8 images or float32 features, one per item of the first axis.
    resize
        Side in pixels to which pictures are cropped and resized; without it they must have one size.

    Raises
    ------
    SpecError
        Naming the path, what was found and what is allowed.
    """
    try:
        if path.is_dir() and not any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
            images, _ = read_pictures(path, resolution=resize, progress=progress)
            source: Source = InMemory(images)
        else:
            source = open_array(path, rank=None)
    except ValueError as error:
        raise SpecError(str(error)) from error
    if source.dtype not in (np.uint8, np.float32):
        raise SpecError(f"{path}: got {source.dtype}; allowed: uint8 images or float32 features (convert the array)")
    if source.shape[0] < 2:
        raise SpecError(f"{path}: got {source.shape[0]} image; allowed: two or more")
    return source


@dataclass(frozen=True)
class SampleAnswer:
    """What all pairs of one set of samples say, with what real images say at the same threshold where there are any."""

    path: str
    threshold: float
    threshold_from: str
    support: Estimate
    collisions: Collisions
    fidelity: float | None = None
    precision: float | None = None
    real_support: Estimate | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data; what is not finite is null."""
        sizes = [size for size in SAMPLE_SIZES if size <= self.support.samples]
        listed, below = self.collisions.listed, self.collisions.listed_below
        seen = {
            size: collision_frequency(listed.index, max(below, size), size, self.support.confidence) for size in sizes
        }
        answer = {
            "path": self.path,
            "samples": self.support.samples,
            "pairs_compared": self.collisions.pairs_compared,
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "duplicates": self.support.duplicates,
            **_support_json(self.support),
            "sample_size_at_half": _finite(self.support.sample_size_at_half),
            "nonuniformity": _finite(self.support.nonuniformity),
            "largest_mode_mass": self.support.largest_mode_mass,
            "collision_probability": [
                {"sample_size": size, "seen": each.probability, "low": each.low, "high": each.high,
                 "samples": each.repeats, "model": self.support.collision_probability(size)}
                for size, each in seen.items()
            ],
            "closest": [
                {"images": [int(i), int(j)], "distance": math.sqrt(squared)}
                for (i, j), squared in zip(
                    self.collisions.closest.index, self.collisions.closest.squared_distance, strict=True)
            ],
        }  # fmt: skip
        if self.real_support is not None:
            answer["fidelity_ratio"], answer["precision"] = self.fidelity, self.precision
            answer["diversity_ratio"] = self.support.size / self.real_support.size
            answer["real"] = {"samples": self.real_support.samples, **_support_json(self.real_support)}
        return answer


def _support_json(support: Estimate) -> dict[str, Any]:
    return {
        "support_size": support.size, "support_size_low": support.low, "support_size_high": _finite(support.high),
        "one_sided": support.one_sided, "confidence": support.confidence,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def measure_samples(
    path: Path,
    source: Source,
    reference: Source | None,
    threshold: float | None,
    memory_bytes: int,
    map: Map,
    progress: Callable[[float, float], None],
) -> SampleAnswer:
    """Compare all pairs of the samples, and of the reference where there is one.

    Parameters
    ----------
    source, reference
        Samples, and real images of the same shape and type.
    threshold
        Largest distance of a duplicate; by default from the reference (see `ganlab.fidelity.RealNeighbours.threshold`).

    Raises
    ------
    SpecError
        Neither threshold nor reference, or a reference of another shape or type.
    """
    real: RealNeighbours | None = None
    if reference is not None:
        if reference.shape[1:] != source.shape[1:] or reference.dtype != source.dtype:
            raise SpecError(
                f"--reference holds {reference.dtype} of shape {reference.shape[1:]}, the samples {source.dtype} of "
                f"shape {source.shape[1:]}; allowed: the same"
            )
        real_images = reference.read(0, reference.shape[0])
        real = RealNeighbours(np.sqrt(real_neighbours(real_images)))
    chosen = "--threshold"
    if threshold is None:
        if real is None:
            raise SpecError("what is a duplicate? give --threshold DISTANCE (Euclidean, over all values of an image), or "
                            "--reference PATH with real images to take it from")  # fmt: skip
        threshold = real.threshold(NEIGHBOUR_QUANTILE)
        chosen = f"the {NEIGHBOUR_QUANTILE} quantile of real images' distances to their nearest other one"
    squared = threshold**2 if source.dtype == np.float32 else math.floor(threshold**2 + 1e-9)
    collisions = _compare_all(source, squared, memory_bytes, map, progress)
    support = estimate_from_degrees(collisions.degrees)
    if reference is None or real is None:
        return SampleAnswer(str(path), threshold, chosen, support, collisions)
    distance = np.sqrt(np.concatenate([
        nearest(source.read(start, min(start + BLOCK, source.shape[0])), real_images).squared_distance
        for start in range(0, source.shape[0], BLOCK)
    ]))  # fmt: skip
    of_real = _compare_all(reference, squared, memory_bytes, map, lambda done, total: None)
    return SampleAnswer(
        str(path), threshold, chosen, support, collisions,
        fidelity=fidelity_ratio(distance, real), precision=float(realistic(distance, real).mean()),
        real_support=estimate_from_degrees(of_real.degrees),
    )  # fmt: skip


def _compare_all(
    source: Source, squared: float, memory_bytes: int, map: Map, progress: Callable[[float, float], None]
) -> Collisions:
    samples, shape = source.shape[0], source.shape[1:]
    screen = learn(source.read, samples, CLOSEST, squared)
    tiles = plan_tiles(samples, choose_tile_images(samples, shape, memory_bytes, source.dtype.itemsize, tasks=16))
    total = samples * (samples - 1) / 2
    found = Collisions.create(samples, CLOSEST)
    compare = partial(_compare, source=source, screen=screen, squared=squared)
    for part in map(compare, tiles):
        found = found.merge(part)
        progress(found.pairs_compared, total)
    return found


def _compare(tile: Any, source: Source, screen: Any, squared: float) -> Collisions:
    return compare_tile(source.read, tile, screen, squared, CLOSEST)
