"""Distinct images seen: a set of samples no two of which are duplicates, found greedily and exactly.

Invariant: the set depends on the duplicate relation and the visiting order alone, so the list of duplicates and the
search by distance give the same images, whatever the tiles, the screen or the device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganlab.pairs.closest import check_threshold
from ganlab.pairs.exact import Array, Images, Index, load_rows
from ganlab.pairs.filter_refine import search
from ganlab.pairs.lower_bounds import Floats, Screen
from ganlab.statistics.support import degree_histogram, degrees_of

Mask = npt.NDArray[np.bool_]
Take = Callable[[Index], Array]  # take(numbers) gives the images of these numbers, in this order

_LISTED = 2**20  # duplicates of one tile to list; a tile of 1,449 images cannot hold more
_BLOCKS, _LEAST_BLOCK = 8, 2048  # parts of what is left that are packed at a time, and fewest images of one


@dataclass(frozen=True, eq=False)
class DistinctImages:
    """Images of a sample no two of which are duplicates.

    Attributes
    ----------
    images : int64 (k,)
        Their numbers, ascending. Every image left out duplicates one of them.
    """

    images: Index

    @property
    def count(self) -> int:
        """Distinct images seen: at least so many different images exist, whatever the generator's distribution."""
        return len(self.images)


def distinct_images(
    degrees: npt.ArrayLike, duplicates: npt.ArrayLike, order: npt.ArrayLike | None = None
) -> DistinctImages:
    """Find distinct images from the complete list of duplicate pairs.

    Images are visited in order, and each is kept unless it duplicates an image kept before (greedy packing). In the
    default order the count is at least Σ 1/(dᵢ + 1) (Caro 1979, Wei 1981), as each image left out has no fewer
    duplicates than the kept one that it duplicates. When duplication is transitive the count is the number of kinds
    seen, in any order.

    Parameters
    ----------
    degrees : integer array (n,)
        Number of duplicates of each image.
    duplicates : integer array (m, 2)
        Every duplicate pair once. `search_distinct_images` needs no list.
    order : integer array (n,), optional
        Permutation of the image numbers in which to visit them; by default ascending degree, ties by number.

    Raises
    ------
    ValueError
        As `ganlab.statistics.support.estimate`; pairs that do not give these degrees; an order that is not a permutation.
    """
    counts, visited = _visiting_order(degrees, order)
    if not np.array_equal(degrees_of(duplicates, len(counts)), counts):
        listed = np.asarray(duplicates).size // 2
        raise ValueError(
            f"duplicates: got {listed} pairs that do not give the degrees, whose sum is {int(counts.sum())}; allowed is "
            "every duplicate pair once; where the list is cut off, use search_distinct_images"
        )
    rank = np.empty(len(counts), np.int64)
    rank[visited] = np.arange(len(counts))
    kept = _greedy(len(counts), rank[np.asarray(duplicates, np.int64).reshape(-1, 2)])
    return DistinctImages(np.sort(visited[kept]))


def search_distinct_images(
    take: Take,
    degrees: npt.ArrayLike,
    threshold_squared: float,
    screen: Screen | None = None,
    order: npt.ArrayLike | None = None,
    *,
    tile_images: int = 8192,
    device: str = "cpu",
) -> DistinctImages:
    """Find the distinct images of `distinct_images` by distance, in bounded memory, without the list of duplicates.

    Images without duplicates are kept unread. The others are packed block by block: what duplicates an image kept of a
    block is dropped before the next. So no pair is compared more often than when all pairs are counted, up to blocks
    that are halved because they hold too many duplicates; the sample is read once for each block, in the order in
    which it is stored; and a collapsed generator is compared with few images.

    Parameters
    ----------
    take
        `take(numbers)` gives the images of these numbers, in this order: uint8 or float32 of shape (k, ...).
    degrees : integer array (n,)
        Number of duplicates of each image within the threshold.
    threshold_squared
        Pairs within this squared distance are duplicates.
    screen
        What `ganlab.pairs.lower_bounds.learn` found in the whole sample, or None to compare every pair exactly.
    order : integer array (n,), optional
        As for `distinct_images`.
    tile_images
        Most images of either side to hold in memory at a time; 2 or more.
    device
        "cpu" or "cuda": where matrix products run. The result is the same.

    Raises
    ------
    ValueError
        Degrees or an order as for `distinct_images`, a threshold below zero, a tile of fewer than two images, or
        images that are not of one shape, not uint8 or float32, or not finite.
    """
    check_threshold("threshold_squared", threshold_squared)
    if tile_images < 2:
        raise ValueError(
            f"tile_images: got {tile_images}; allowed is 2 or more; see ganlab.pairs.tiles.choose_tile_images"
        )
    counts, visited = _visiting_order(degrees, order)
    packer = _Packer(take, threshold_squared, screen, tile_images, device)
    packed = packer.pack(visited[counts[visited] > 0])
    return DistinctImages(np.sort(np.concatenate([np.flatnonzero(counts == 0), packed])))


def _visiting_order(degrees: npt.ArrayLike, order: npt.ArrayLike | None) -> tuple[Index, Index]:
    """Check degrees and order, and return both as int64."""
    degree_histogram(degrees)
    counts = np.asarray(degrees, np.int64)
    if order is None:
        return counts, np.argsort(counts, kind="stable")
    visited = np.asarray(order)
    if not np.issubdtype(visited.dtype, np.integer) or not np.array_equal(np.sort(visited), np.arange(len(counts))):
        raise ValueError(
            f"order: got {visited.dtype} {visited.shape}; allowed is each of the numbers 0 to {len(counts) - 1} once; "
            "leave it out to visit images by ascending degree"
        )
    return counts, visited.astype(np.int64)


def _greedy(images: int, pairs: Index) -> Mask:
    """(images,) whether each is kept, visited by number: it is unless it duplicates an image kept before."""
    kept = np.ones(images, bool)
    pairs = np.sort(pairs, axis=1)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    first, start = np.unique(pairs[:, 0], return_index=True)
    for image, later in zip(first, np.split(pairs[:, 1], start[1:]), strict=True) if len(first) else ():
        if kept[image]:
            kept[later] = False
    return kept


class _Packer:
    """Greedy packing of images in memory that a tile bounds."""

    def __init__(
        self, take: Take, threshold_squared: float, screen: Screen | None, tile_images: int, device: str
    ) -> None:
        self._take, self._threshold_squared, self._screen = take, threshold_squared, screen
        self._tile_images, self._device = tile_images, device
        self._held_numbers = np.empty(0, np.int64)
        self._held: Images | None = None  # all that is left, once a tile holds it

    def pack(self, numbers: Index) -> Index:
        """The images kept of these, visited in this order."""
        kept = [np.empty(0, np.int64)]
        most = self._tile_images
        while len(numbers):
            size = min(most, max(_LEAST_BLOCK, len(numbers) // _BLOCKS))
            try:
                found, images = self._kept_of(numbers[:size])
            except _TooManyDuplicatesError:
                most = size // 2
                continue
            kept.append(found)
            numbers = self._uncovered(numbers[size:], images)
        return np.concatenate(kept)

    def _kept_of(self, numbers: Index) -> tuple[Index, Images]:
        """The images kept of one block: their numbers, and their values in the order in which they are stored."""
        stored = np.argsort(numbers)
        images = self._images(numbers[stored])
        listed = _Listed(self._threshold_squared)
        search(images, images, self._screen, listed, device=self._device)
        kept = _greedy(len(numbers), stored[listed.pairs()])
        return numbers[kept], images.take(np.flatnonzero(kept[stored]))

    def _uncovered(self, numbers: Index, kept: Images) -> Index:
        """Images, in their order, that duplicate none of those kept."""
        covered = np.zeros(len(numbers), bool)
        stored = np.argsort(numbers)
        for start in range(0, len(numbers), self._tile_images):
            tile = stored[start : start + self._tile_images]
            rows, collector = self._images(numbers[tile]), _Covered(self._threshold_squared, len(tile))
            search(rows, kept, self._screen, collector, ordered=False, device=self._device)
            covered[tile] = collector.covered
            if len(tile) == len(numbers):
                self._held_numbers, self._held = numbers[tile], rows
        return numbers[~covered]

    def _images(self, numbers: Index) -> Images:
        """The images of ascending numbers: of those held, or read by passing over the sample once."""
        if self._held is not None:
            return self._held.take(np.searchsorted(self._held_numbers, numbers))
        return load_rows(lambda start, stop: self._take(numbers[start:stop]), 0, len(numbers))


class _TooManyDuplicatesError(Exception):
    """A tile holds more duplicates than are listed."""


class _Listed:
    """Lists the duplicates of a tile with itself, until they are too many."""

    sure_squared = -np.inf

    def __init__(self, threshold_squared: float) -> None:
        self._threshold_squared = threshold_squared
        self._found: list[Index] = [np.empty((0, 2), np.int64)]
        self._count = 0

    def bounds(self, i: Index) -> Floats:
        return np.full(len(i), self._threshold_squared)

    def add(self, i: Index, j: Index, squared: Array) -> None:
        near = squared <= self._threshold_squared
        self._count += int(near.sum())
        if self._count > _LISTED:
            raise _TooManyDuplicatesError
        self._found.append(np.stack([i[near], j[near]], axis=1))

    def needs(self, i: Index, j: Index, low: Array) -> Mask:
        """Not called: no pair is surely within less than 0."""
        raise AssertionError("nothing is sure")

    def count(self, i: Index, j: Index, sure: Mask) -> None:
        """Not called: no pair is surely within less than 0."""
        raise AssertionError("nothing is sure")

    def pairs(self) -> Index:
        return np.concatenate(self._found)


class _Covered:
    """Marks the rows that duplicate a column."""

    def __init__(self, threshold_squared: float, rows: int) -> None:
        self.sure_squared = threshold_squared
        self.covered = np.zeros(rows, bool)

    def bounds(self, i: Index) -> Floats:
        return np.where(self.covered[i], 0, self.sure_squared)

    def add(self, i: Index, j: Index, squared: Array) -> None:
        self.covered[i[squared <= self.sure_squared]] = True

    def needs(self, i: Index, j: Index, low: Array) -> Mask:
        """None: that a pair is a duplicate is enough."""
        return np.zeros(low.shape, bool)

    def count(self, i: Index, j: Index, sure: Mask) -> None:
        self.covered[i] |= sure.any(axis=1)
