"""Collisions: a mergeable summary of the duplicates among the pairs compared so far.

Invariant: merging is associative and commutative, and the merged summary of any set of tiles is the summary of their
pairs; counts and degrees are exact however many duplicates there are, and memory does not grow with their number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.closest import Closest, Pairs, check_threshold
from ganlab.pairs.exact import Array, Images, Index, Read, check_same_kind, load_rows
from ganlab.pairs.filter_refine import search
from ganlab.pairs.lower_bounds import Floats, Screen
from ganlab.pairs.tiles import Tile

LISTED = 100_000
_ALL = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class Collisions:
    """The duplicates among some pairs of a sample.

    Parameters
    ----------
    samples
        Images seen: one more than the highest index compared.
    pairs_compared
        Number of pairs compared.
    duplicates
        Number of pairs within the threshold.
    degree_index, degree_count
        (k,) int64: the images that have duplicates, in order, and how many each has among the pairs compared.
    closest
        The closest pairs, at most `count`.
    listed, listed_place
        The duplicates of the images that come before `cut`, and (m,) int64 the place of the later image of each; sorted
        by that place, then by j and i.
    count, limit
        Most closest pairs and most listed duplicates to keep.
    cut
        The first place from which duplicates are no longer listed; above every place when all are listed. Places are the
        images' indices, or those given to `compare_tile`.
    """

    samples: int
    pairs_compared: int
    duplicates: int
    degree_index: Index
    degree_count: Index
    closest: Pairs
    listed: Pairs
    listed_place: Index
    count: int = 20
    limit: int = LISTED
    cut: int = _ALL

    @classmethod
    def create(cls, samples: int = 0, count: int = 20, limit: int = LISTED) -> "Collisions":
        """The summary of no pairs."""
        nobody = np.empty(0, np.int64)
        return cls(samples, 0, 0, nobody, nobody, Pairs.none(), Pairs.none(), nobody, count, limit)

    @property
    def degrees(self) -> Index:
        """(samples,) int64: the number of duplicates of each image."""
        degrees = np.zeros(self.samples, np.int64)
        degrees[self.degree_index] = self.degree_count
        return degrees

    @property
    def listed_below(self) -> int:
        """All duplicates of two images below this index are listed. It is `samples` when nothing was left out."""
        return min(self.cut, self.samples)

    def listed_before_cut(self, places: Index) -> int:
        """Count the images before the cut, all duplicates among which are listed, from the places of all (samples,)."""
        return int((places < self.cut).sum())

    @property
    def complete(self) -> bool:
        """True when every pair of the samples was compared."""
        return self.pairs_compared == self.samples * (self.samples - 1) // 2

    def merge(self, other: "Collisions") -> "Collisions":
        """The summary of the pairs of both, which must be different pairs of one sample.

        Raises
        ------
        ValueError
            The two keep different numbers of pairs.
        """
        if (self.count, self.limit) != (other.count, other.limit):
            raise ValueError(
                f"merge: got (count, limit) {(self.count, self.limit)} and {(other.count, other.limit)}; "
                "allowed are equal ones; compare all tiles with the same settings"
            )
        index, place = np.unique(np.concatenate([self.degree_index, other.degree_index]), return_inverse=True)
        degree = np.zeros(len(index), np.int64)
        np.add.at(degree, place, np.concatenate([self.degree_count, other.degree_count]))
        closest = self.closest.join(other.closest.index, other.closest.squared_distance).sorted()[: self.count]
        listed = self.listed.join(other.listed.index, other.listed.squared_distance)
        place = np.concatenate([self.listed_place, other.listed_place])
        listed, place, cut = _first_listed(listed, place, min(self.cut, other.cut), self.limit)
        return replace(
            self,
            samples=max(self.samples, other.samples),
            duplicates=self.duplicates + other.duplicates,
            pairs_compared=self.pairs_compared + other.pairs_compared,
            degree_index=index,
            degree_count=degree,
            closest=closest,
            listed=listed,
            listed_place=place,
            cut=cut,
        )

    def to_arrays(self) -> dict[str, Array]:
        """Plain arrays by name, for example for numpy.savez."""
        arrays: dict[str, Array] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Pairs):
                arrays[field.name] = value.index
                arrays[f"{field.name}_squared_distance"] = value.squared_distance
            else:
                arrays[field.name] = np.asarray(value)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Collisions":
        """Restore from the arrays of `to_arrays`."""
        values: dict[str, Any] = {
            name: arrays[name] if name.startswith("degree") else int(arrays[name])
            for name in (field.name for field in fields(cls))
            if name not in ("closest", "listed", "listed_place")
        }
        # States of version 0.1.0 have no places: they were the images' indices.
        values["listed_place"] = arrays.get("listed_place", arrays["listed"][:, 1])
        pairs = {name: Pairs(arrays[name], arrays[f"{name}_squared_distance"]) for name in ("closest", "listed")}
        return cls(**values | pairs)


def _first_listed(listed: Pairs, place: Index, cut: int, limit: int) -> tuple[Pairs, Index, int]:
    """The duplicates of the images before the largest cut that leaves at most `limit` of them."""
    early = place < cut
    listed, place = listed[early], place[early]
    order = np.lexsort((listed.index[:, 0], listed.index[:, 1], place))
    listed, place = listed[order], place[order]
    if len(listed) <= limit:
        return listed, place, cut
    cut = int(place[limit])
    kept = slice(int(np.searchsorted(place, cut)))
    return listed[kept], place[kept], cut


def compare_tile(
    read: Read,
    tile: Tile,
    screen: Screen | None,
    threshold_squared: float,
    count: int = 20,
    limit: int = LISTED,
    device: str = "cpu",
    bound_squared: float = np.inf,
    rows: Images | None = None,
    columns: Images | None = None,
    places: tuple[Index, Index] | None = None,
) -> Collisions:
    """Compare all pairs of a tile: one task of a measurement.

    Parameters
    ----------
    read
        `read(start, stop)` gives the images [start, stop), uint8 or float32 of shape (stop - start, ...).
    tile
        The pairs to compare.
    screen
        What `ganlab.pairs.lower_bounds.learn` found in the whole sample, or None to compare every pair exactly.
    threshold_squared
        Pairs within this squared distance are duplicates.
    count, limit
        Closest pairs and duplicates to keep.
    device
        "cpu" or "cuda": where matrix products run. The result is the same.
    bound_squared
        A squared distance that `count` pairs of the sample are known not to exceed: those above it are not kept.
    rows, columns
        What `load_rows` gave for the rows and the columns, when they are at hand.
    places
        (rows,) and (columns,) int64: where each image stands in the order in which duplicates are listed when there are
        more than `limit`; by default their indices, which is right for images that are independent as they are stored.

    Returns
    -------
    Collisions
        With the degrees of the tile's images only.

    Raises
    ------
    ValueError
        A threshold below zero, or images that are not of one shape, not uint8 or float32, or not finite.
    """
    check_threshold("threshold_squared", threshold_squared)
    if rows is None:
        rows = load_rows(read, tile.row_start, tile.row_stop)
    if tile[:2] == tile[2:]:
        columns = rows
    elif columns is None:
        columns = load_rows(read, tile.column_start, tile.column_stop)
    check_same_kind(rows, columns, f"tile {tuple(tile)}")
    bound = min(bound_squared, np.inf if screen is None else screen.bound_squared(count))
    if places is None:
        places = np.arange(tile.row_start, tile.row_stop), np.arange(tile.column_start, tile.column_stop)
    collector = _Collector(tile, threshold_squared, Closest(count, bound), limit, places)
    search(rows, columns, screen, collector, row_start=tile.row_start, column_start=tile.column_start, device=device)
    return collector.finish()


class _Collector:
    """Counts duplicates and keeps the closest pairs and the first duplicates of one tile."""

    def __init__(
        self, tile: Tile, threshold_squared: float, closest: Closest, limit: int, places: tuple[Index, Index]
    ) -> None:
        self.sure_squared = threshold_squared
        self._tile = tile
        self._closest = closest
        self._duplicates = 0
        self._row_degrees = np.zeros(tile.row_stop - tile.row_start, np.int64)
        self._column_degrees = np.zeros(tile.column_stop - tile.column_start, np.int64)
        self._row_places, self._column_places = places
        self._listed, self._place, self._cut, self._limit = Pairs.none(), np.empty(0, np.int64), _ALL, limit

    def bounds(self, i: Index) -> Floats:
        return np.maximum(self._closest.bounds(i), self.sure_squared)

    def add(self, i: Index, j: Index, squared: Array) -> None:
        self._closest.add(i, j, squared)
        duplicate = squared <= self.sure_squared
        i, j, squared = i[duplicate], j[duplicate], squared[duplicate]
        self._duplicates += len(i)
        self._row_degrees += np.bincount(i - self._tile.row_start, minlength=len(self._row_degrees))
        self._column_degrees += np.bincount(j - self._tile.column_start, minlength=len(self._column_degrees))
        place = np.maximum(*self._places(i, j))
        early = place < self._cut
        if early.any():
            self._listed = self._listed.join(np.stack([i[early], j[early]], axis=1), squared[early])
            self._place = np.concatenate([self._place, place[early]])
            if len(self._listed) > self._limit:
                self._list_first()

    def needs(self, i: Index, j: Index, low: Array) -> NDArray[np.bool_]:
        first, second = self._places(i, j)
        return self._closest.wants(i, j, low) | ((first < self._cut) & (second < self._cut))

    def count(self, i: Index, j: Index, sure: NDArray[np.bool_]) -> None:
        by_row = sure.sum(axis=1)
        self._duplicates += int(by_row.sum())
        self._row_degrees[i - self._tile.row_start] += by_row
        self._column_degrees[j - self._tile.column_start] += sure.sum(axis=0)

    def _places(self, i: Index, j: Index) -> tuple[Index, Index]:
        return self._row_places[i - self._tile.row_start], self._column_places[j - self._tile.column_start]

    def _list_first(self) -> None:
        self._listed, self._place, self._cut = _first_listed(self._listed, self._place, self._cut, self._limit)

    def finish(self) -> Collisions:
        """The summary of the tile."""
        tile = self._tile
        none = Collisions.create(max(tile.row_stop, tile.column_stop), self._closest.capacity, self._limit)
        rows, columns = np.flatnonzero(self._row_degrees), np.flatnonzero(self._column_degrees)
        self._list_first()
        by_row = replace(
            none,
            pairs_compared=tile.pairs,
            duplicates=self._duplicates,
            closest=self._closest.pairs,
            degree_index=rows + tile.row_start,
            degree_count=self._row_degrees[rows],
            listed=self._listed,
            listed_place=self._place,
            cut=self._cut,
        )
        return by_row.merge(
            replace(none, degree_index=columns + tile.column_start, degree_count=self._column_degrees[columns])
        )
