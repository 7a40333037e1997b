"""Neighbours: the nearest images of another set, or of the rest of one's own, as a mergeable summary of tiles.

Invariant: merging is associative and commutative, and the merged summary of any set of tiles is the summary of their
pairs: the `count` smallest of (squared distance, number of the reference) for every query.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.exact import Array, Images, Index, Read, check_same_kind, load_rows
from ganlab.pairs.filter_refine import are_few, nearest_bounds, search_few, search_nearest
from ganlab.pairs.lower_bounds import Floats, Screen, learn
from ganlab.pairs.tiles import Tile

_LONG_SEARCH = 1e12  # products of two values from which directions that fit neighbours pay for being learnt
_NOBODY = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest references of some queries, among those compared so far.

    Parameters
    ----------
    start
        Number of the first query.
    index
        (q, count) int64: numbers of the nearest references, nearest first, ties by number.
    squared_distance
        (q, count) float64, in which the integers of uint8 images are exact; infinite where there is no reference yet.
    """

    start: int
    index: Index
    squared_distance: Floats

    @classmethod
    def create(cls, start: int, queries: int, count: int) -> "Neighbours":
        """The summary of no pairs."""
        return cls(start, np.full((queries, count), _NOBODY), np.full((queries, count), np.inf))

    @property
    def stop(self) -> int:
        """One more than the number of the last query."""
        return self.start + len(self.index)

    @property
    def count(self) -> int:
        """References kept for each query."""
        return int(self.index.shape[1])

    def merge(self, other: "Neighbours") -> "Neighbours":
        """The summary of the pairs of both, which must be different pairs of one query set and one reference set.

        Raises
        ------
        ValueError
            The two keep different numbers of references.
        """
        if self.count != other.count:
            raise ValueError(
                f"merge: got {self.count} and {other.count} references for each query; allowed are equal numbers; "
                "compare all tiles with the same settings"
            )
        start = min(self.start, other.start)
        merged = Neighbours.create(start, max(self.stop, other.stop) - start, self.count)
        for part in (self, other):
            place = slice(part.start - start, part.stop - start)
            index = np.concatenate([merged.index[place], part.index], axis=1)
            squared = np.concatenate([merged.squared_distance[place], part.squared_distance], axis=1)
            order = np.lexsort((index, squared), axis=1)[:, : self.count]
            merged.index[place] = np.take_along_axis(index, order, axis=1)
            merged.squared_distance[place] = np.take_along_axis(squared, order, axis=1)
        return merged

    def to_arrays(self) -> dict[str, Array]:
        """Plain arrays by name, for example for numpy.savez."""
        return {"start": np.asarray(self.start), "index": self.index, "squared_distance": self.squared_distance}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Neighbours":
        """Restore from the arrays of `to_arrays`."""
        return cls(int(arrays["start"]), arrays["index"], arrays["squared_distance"])


def is_long_search(references: int, queries: int, features: int) -> bool:
    """True if a search of the nearest of so many references, of so many values, pays for more being learnt of them."""
    return float(references) * queries * features >= _LONG_SEARCH


def learn_for_neighbours(read: Read, references: int, count: int, long: bool) -> Screen | None:
    """Learn a screen from references for a search of the nearest `count` of them for each query.

    Parameters
    ----------
    read
        `read(start, stop)` gives the references [start, stop), uint8 or float32.
    references
        Number of images.
    long
        See `is_long_search`.
    """
    return learn(read, references, count, neighbours=count if long else 0)


def nearest_in_tile(
    queries: Read,
    references: Read,
    tile: Tile,
    screen: Screen | None,
    count: int = 1,
    itself: bool = False,
    device: str = "cpu",
    rows: Images | None = None,
    columns: Images | None = None,
) -> Neighbours:
    """Find the nearest of a tile's columns (references) for each of its rows (queries): one task of a measurement.

    Parameters
    ----------
    queries, references
        `read(start, stop)` gives the images [start, stop), uint8 or float32, of one type and shape.
    tile
        The queries and the references to compare, every one with every other.
    screen
        What `ganlab.pairs.lower_bounds.learn` found in either set, or None to compare every pair exactly.
    count
        References kept for each query.
    itself
        Both are one set, and an image is no neighbour of itself.
    device
        "cpu" or "cuda": where matrix products run. The result is the same.
    rows, columns
        What `load_rows` gave for the queries and the references, when they are at hand.

    Raises
    ------
    ValueError
        Images that are not of one shape, not uint8 or float32, or not finite.
    """
    if rows is None:
        rows = load_rows(queries, tile.row_start, tile.row_stop)
    if itself and tile[:2] == tile[2:]:
        columns = rows
    elif columns is None:
        columns = load_rows(references, tile.column_start, tile.column_stop)
    check_same_kind(rows, columns, f"tile {tuple(tile)}")
    return nearest_images(rows, columns, screen, count, itself, tile.row_start, tile.column_start, device)


def nearest_images(
    rows: Images,
    columns: Images,
    screen: Screen | None,
    count: int,
    itself: bool = False,
    row_start: int = 0,
    column_start: int = 0,
    device: str = "cpu",
) -> Neighbours:
    """Nearest columns of each row; their numbers begin at `column_start` and `row_start`."""
    wanted, found = count + itself, Neighbours.create(row_start, len(rows), count)
    if screen is None and are_few(rows, columns, wanted):
        collector = _Nearest(found, np.full(len(rows), np.inf), itself)
        search_few(rows, columns, collector, wanted, row_start=row_start, column_start=column_start, device=device)
        return found
    collector = _Nearest(found, nearest_bounds(rows, columns, screen, wanted, device), itself)
    search_nearest(rows, columns, screen, collector, row_start=row_start, column_start=column_start, device=device)
    return found


class _Nearest:
    """Keeps the nearest references of each query."""

    sure_squared = -np.inf

    def __init__(self, found: Neighbours, bounds: Floats, itself: bool) -> None:
        self.found = found
        self._bounds = bounds
        self._itself = itself

    def bounds(self, i: Index) -> Floats:
        return self._bounds[i - self.found.start]

    def add(self, i: Index, j: Index, squared: Array) -> None:
        query = i - self.found.start
        near = squared <= self._bounds[query]
        if self._itself:
            near &= i != j
        if not near.any():
            return
        found, count = self.found, self.found.count
        have_more = np.zeros(len(found.index), bool)
        have_more[query[near]] = True
        queries = np.flatnonzero(have_more)
        query = np.concatenate([np.repeat(queries, count), query[near]])
        reference = np.concatenate([found.index[queries].ravel(), j[near]])
        distance = np.concatenate([found.squared_distance[queries].ravel(), squared[near]])
        order = np.lexsort((reference, distance, query))
        first = np.searchsorted(query[order], queries)
        best = order[first[:, None] + np.arange(count)]
        found.squared_distance[queries], found.index[queries] = distance[best], reference[best]
        self._bounds[queries] = np.minimum(self._bounds[queries], found.squared_distance[queries, -1])

    def needs(self, i: Index, j: Index, low: Array) -> NDArray[np.bool_]:
        """Not called: no pair is surely within less than 0."""
        raise AssertionError("nothing is sure")

    def count(self, i: Index, j: Index, sure: NDArray[np.bool_]) -> None:
        """Not called: no pair is surely within less than 0."""
        raise AssertionError("nothing is sure")
