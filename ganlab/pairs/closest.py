"""All pairs of images: the closest ones, those within a threshold, and nearest neighbours in another set.

Invariant: the answer is that of brute force (in integers for uint8, in float64 for float32 images), whatever the
machine, its number of threads, the device or the size of blocks.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.pairs.estimates import as_limits, bounded_distances, have_codes
from ganlab.pairs.exact import Array, Images, Index, as_images, squared_distances, squared_limit
from ganlab.pairs.filter_refine import search
from ganlab.pairs.lower_bounds import Floats, learn
from ganlab.pairs.neighbours import is_long_search, learn_for_neighbours, nearest_images
from ganlab.pairs.threads import in_threads

_ROWS, _COLUMNS = 512, 4096


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images and their squared distances.

    Parameters
    ----------
    index
        (m, 2) int64: the two images of each pair.
    squared_distance
        (m,) int64 for uint8 images, float64 for float32 images; in squared units of the images' values.
    """

    index: Index
    squared_distance: Array

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def none(cls) -> "Pairs":
        """No pairs."""
        return cls(np.empty((0, 2), np.int64), np.empty(0, np.int64))

    def join(self, index: Index, squared_distance: Array) -> "Pairs":
        """Union of two lists of pairs, in no particular order."""
        if not len(self):
            return Pairs(index, squared_distance)
        return Pairs(np.concatenate([self.index, index]), np.concatenate([self.squared_distance, squared_distance]))

    def sorted(self) -> "Pairs":
        """The pairs sorted by distance, ties by index."""
        return self[np.lexsort((self.index[:, 1], self.index[:, 0], self.squared_distance))]

    @np.errstate(invalid="raise")
    def of(self, images: Images) -> "Pairs":
        """Convert squared distances to the type that belongs to these images, also of no pair."""
        return Pairs(self.index, self.squared_distance.astype(np.int64 if images.integer else np.float64, copy=False))

    def __getitem__(self, which: slice | Index | NDArray[np.bool_]) -> "Pairs":
        return Pairs(self.index[which], self.squared_distance[which])


def closest_pairs(images: Array, count: int = 20, device: str = "cpu") -> Pairs:
    """The closest pairs of a set of images, by Euclidean distance of their values.

    Parameters
    ----------
    images
        (n, ...) uint8 or float32, n >= 2.
    count
        Pairs wanted; all pairs when there are fewer.
    device
        "cpu" or "cuda": where matrix products run. The answer is the same.

    Returns
    -------
    Pairs
        i < j, sorted by distance, ties by index.

    Raises
    ------
    ValueError
        Fewer than two images, another type of values, NaN or infinite values, or a count below 1.
    """
    _check_count(count)
    rows = as_images(images, at_least=2)
    screen = learn(_reader(rows), len(rows), count)
    collector = Closest(count, np.inf if screen is None else screen.bound_squared(count))
    search(rows, rows, screen, collector, device=device)
    return collector.pairs.of(rows)


def pairs_within(images: Array, threshold: float, device: str = "cpu") -> Pairs:
    """All pairs of a set of images that are at most `threshold` apart: a distance is the float64 root of its square.

    Memory grows with the answer; `ganlab.pairs.collisions` counts any number of pairs in bounded memory.

    Parameters
    ----------
    images
        (n, ...) uint8 or float32, n >= 2.
    threshold
        Distance, in units of the images' values, 0 or more.
    device
        "cpu" or "cuda": where matrix products run. The answer is the same.

    Returns
    -------
    Pairs
        i < j, sorted by distance, ties by index.

    Raises
    ------
    ValueError
        Fewer than two images, another type of values, NaN or infinite values, or a threshold below 0 or NaN.
    """
    check_threshold("threshold", threshold)
    rows = as_images(images, at_least=2)
    limit = float(squared_limit(threshold))
    collector = _Within(limit)
    search(rows, rows, learn(_reader(rows), len(rows), 1, limit), collector, device=device)
    return collector.pairs().of(rows)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of images that may be within a distance, with bounds on their squared distances.

    Parameters
    ----------
    images
        The set.
    index
        (m, 2) int64: the two images of each pair, the lower one first; in no order.
    low, high
        (m,) float64 bounds; equal ones are the squared distance itself.
    """

    images: Images
    index: Index
    low: Floats
    high: Floats

    def take(self, which: NDArray[np.bool_]) -> "Candidates":
        """Some of the pairs."""
        return Candidates(self.images, self.index[which], self.low[which], self.high[which])

    def squared(self, which: Index) -> Floats:
        """Exact squared distances of some of the pairs, float64."""
        i, j = self.index[which].T
        return squared_distances(self.images, self.images, i, j).astype(np.float64)

    @cached_property
    def _ordered(self) -> tuple[Floats, Floats]:
        return np.sort(self.low), np.sort(self.high)

    def smallest(self, rank: int) -> float:
        """Squared distance of the pair that so many others are nearer than, of all these; exact."""
        lows, highs = self._ordered
        low, high = lows[rank], highs[rank]  # it is between these; pairs that are surely nearer need only be counted
        doubtful = np.flatnonzero((self.high >= low) & (self.low <= high))
        rank -= int(np.searchsorted(highs, low, side="left"))
        return float(np.partition(self.squared(doubtful), rank)[rank])

    def within(self, squared: float) -> NDArray[np.bool_]:
        """(m,) mask of the pairs that are at most so far apart, squared; exact, from the bounds of nearly all."""
        mask = self.high <= squared
        doubtful = np.flatnonzero(~mask & (self.low <= squared))
        mask[doubtful] = self.squared(doubtful) <= squared
        return mask


def candidates_within(images: Array, threshold: float) -> Candidates:
    """All pairs of a set that are at most `threshold` apart, and some that are not, by bounds on their distances.

    Where a large share of the pairs is that near, computing the distance of each takes longer than finding them. Bounds
    are as good for all but a few, see `ganlab.pairs.estimates`. Parameters and errors are those of `pairs_within`.
    """
    check_threshold("threshold", threshold)
    rows = as_images(images, at_least=2)
    if not rows.integer and not have_codes(rows):
        pairs = pairs_within(images, threshold)
        return Candidates(rows, pairs.index, pairs.squared_distance, pairs.squared_distance)
    limit = squared_limit([threshold])

    def found(block: tuple[int, int]) -> tuple[Index, Floats, Floats]:
        start, first = block
        row, column = (slice(at, min(at + size, len(rows))) for at, size in ((start, _ROWS), (first, _COLUMNS)))
        bounds = bounded_distances(rows, rows, row, column)
        near = bounds.low <= as_limits(limit, bounds.low)
        i, j = torch.nonzero(near.triu_(start - first + 1), as_tuple=True)
        index = torch.stack([i + start, j + first], dim=1).numpy()
        return index, bounds.low[i, j].double().numpy(), bounds.high_of(i, j)

    starts = range(0, len(rows), _ROWS)
    blocks = ((start, first) for start in starts for first in range(start, len(rows), _COLUMNS))
    return Candidates(rows, *map(np.concatenate, zip(*in_threads(found, blocks), strict=True)))


def nearest(queries: Array, references: Array, count: int = 1, device: str = "cpu") -> Pairs:
    """The nearest references of every query, for example the nearest training images of generated ones.

    Parameters
    ----------
    queries
        (q, ...) uint8 or float32.
    references
        (n, ...) of the same type and image shape.
    count
        References wanted for each query.
    device
        "cpu" or "cuda": where matrix products run. The answer is the same.

    Returns
    -------
    Pairs
        q * count pairs of (query, reference), sorted by query, then distance; ties by the lower reference.

    Raises
    ------
    ValueError
        Images as for `closest_pairs`, two sets of several types or shapes, or a count above the number of references.
    """
    _check_count(count)
    rows = as_images(queries, "queries")
    columns = rows if queries is references else as_images(references, "references")
    if queries.dtype != references.dtype or queries.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"queries, references: got {queries.dtype} {queries.shape[1:]} and {references.dtype} "
            f"{references.shape[1:]}; allowed are one type and one shape; convert or resize one of them"
        )
    if count > len(columns):
        raise ValueError(
            f"count: got {count}; allowed is 1 to {len(columns)}, the number of references; "
            "ask for fewer or give more references"
        )
    long = is_long_search(len(columns), len(rows), columns.features)
    screen = learn_for_neighbours(_reader(columns), len(columns), count, long)
    found = nearest_images(rows, columns, screen, count, device=device)
    query = np.repeat(np.arange(len(rows)), count)
    return Pairs(np.stack([query, found.index.ravel()], axis=1), found.squared_distance.ravel()).of(rows)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count: got {count}; allowed is 1 or more; say how many pairs are wanted")


def check_threshold(name: str, value: float) -> None:
    """Raise ValueError unless the value is a number that is not below 0."""
    if not value >= 0:
        raise ValueError(f"{name}: got {value}; allowed is a number >= 0; give a distance in units of the values")


class _Exact:
    """The part of a collector that needs the distance of every pair."""

    sure_squared = -np.inf

    def needs(self, i: Index, j: Index, low: Array) -> NDArray[np.bool_]:
        """All, so that none is counted without its distance."""
        raise AssertionError("nothing is sure")

    def count(self, i: Index, j: Index, sure: NDArray[np.bool_]) -> None:
        """Nothing."""
        raise AssertionError("nothing is sure")


class Closest(_Exact):
    """Keeps the `count` closest pairs given to it; ties go to the lower indices."""

    def __init__(self, count: int, bound_squared: float = np.inf) -> None:
        self.pairs = Pairs.none()
        self.bound_squared = bound_squared
        self.capacity = count

    def bounds(self, i: Index) -> Floats:
        """The squared distance of the last pair kept, for every row."""
        return np.full(len(i), self.bound_squared)

    def wants(self, i: Index, j: Index, low: Array) -> NDArray[np.bool_]:
        """Mask of the pairs, no nearer than `low`, that may be among the closest."""
        if len(self.pairs) < self.capacity:
            return np.asarray(low <= self.bound_squared)
        (last_i, last_j), last = self.pairs.index[-1], self.pairs.squared_distance[-1]
        tied = low == last
        if tied.any():
            tied &= (i < last_i) | ((i == last_i) & (j < last_j))
        return np.asarray(tied | (low < last))

    def add(self, i: Index, j: Index, squared: Array) -> None:
        """Keep those of the pairs that are among the closest so far."""
        if len(squared) > self.capacity:  # ties at the last place stay in: their order is settled below
            kth = np.partition(squared, self.capacity - 1)[self.capacity - 1]
            near = squared <= min(kth, self.bound_squared)
            i, j, squared = i[near], j[near], squared[near]
        wanted = self.wants(i, j, squared)
        if wanted.any():
            index = np.stack([i[wanted], j[wanted]], axis=1)
            self.pairs = self.pairs.join(index, squared[wanted]).sorted()[: self.capacity]
            if len(self.pairs) == self.capacity:
                self.bound_squared = min(self.bound_squared, float(self.pairs.squared_distance[-1]))


class _Within(_Exact):
    """Keeps all pairs within a squared threshold."""

    def __init__(self, threshold_squared: float) -> None:
        self._threshold_squared = threshold_squared
        self._found: list[Pairs] = [Pairs.none()]

    def bounds(self, i: Index) -> Floats:
        return np.full(len(i), self._threshold_squared)

    def add(self, i: Index, j: Index, squared: Array) -> None:
        near = squared <= self._threshold_squared
        if near.any():
            self._found.append(Pairs(np.stack([i[near], j[near]], axis=1), squared[near]))

    def pairs(self) -> Pairs:
        found = self._found[1:] or self._found
        return Pairs(
            np.concatenate([pairs.index for pairs in found]),
            np.concatenate([pairs.squared_distance for pairs in found]),
        ).sorted()


def _reader(images: Images):  # type: ignore[no-untyped-def]
    return lambda start, stop: images.values[start:stop]
