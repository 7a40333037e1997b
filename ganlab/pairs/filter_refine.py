"""The loop over blocks of image pairs: screen them, then settle exactly what is left.

Invariant: a collector is given every pair within its bounds once, with its exact squared distance or, where it asks
for no more, with the certainty that the pair is within `sure_squared`.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.pairs.exact import Array, Images, Index, block_distances, estimated_distances, squared_distances
from ganlab.pairs.lower_bounds import PAIR_COST, Floats, Projection, Screen, below

Mask = NDArray[np.bool_]
Some = slice | Index

_ROWS = 512
_COLUMNS = 4096
_FLOAT64_PAIR_COST = 32  # of a float32 pair, against its share of a float64 product
_FIRST_PAIRS = 64  # settled before bounds are looked at again; then four times as many


class Collector(Protocol):
    """Receiver of the pairs that a search finds. Indices count from the first image of the whole set."""

    sure_squared: float  # pairs surely within this squared distance are offered to `needs`

    def bounds(self, i: Index) -> Floats:
        """For each of these rows: the squared distance above which its pairs do not matter. It only falls."""

    def add(self, i: Index, j: Index, squared: Array) -> None:
        """Take pairs with their exact squared distances, and ignore those out of bounds."""

    def needs(self, i: Index, j: Index, low: Array) -> Mask:
        """Mask of the pairs, (r, 1) by (c,) and no nearer than `low` (r, c), whose exact distances are needed."""

    def count(self, i: Index, j: Index, sure: Mask) -> None:
        """Take the pairs of the mask (r, c): they are within `sure_squared`, and were not needed.

        Of a set with itself, i and j of a pair may come in either order here.
        """


@np.errstate(over="raise", divide="raise", invalid="raise")
def search(
    rows: Images,
    columns: Images,
    screen: Screen | None,
    collector: Collector,
    *,
    row_start: int = 0,
    column_start: int = 0,
    ordered: bool = True,
    device: str = "cpu",
) -> None:
    """Give the collector every pair of a row and a column that is within its bounds.

    Parameters
    ----------
    rows, columns
        The images. Their first ones have the indices `row_start` and `column_start`.
    screen
        What was learnt from a sample of these images, or None to look at all pairs exactly.
    ordered
        Take only the pairs with i < j: rows and columns come from one set.
    device
        Where matrix products run.
    """
    search = _Search(rows, columns, screen, collector, row_start, column_start, ordered, device)
    for row in _slices(0, len(rows), _ROWS):
        first, last = search.window(row)
        for column in _slices(first, last, _COLUMNS):
            search.settle(0, row, column)


@np.errstate(over="raise", divide="raise", invalid="raise")
def nearest_bounds(rows: Images, columns: Images, screen: Screen | None, count: int, device: str = "cpu") -> Floats:
    """(r,) squared distances within which each row has at least `count` columns, and seldom very many more.

    They are those of the likeliest columns among the `_COLUMNS` whose first coordinate is nearest; where there is nothing
    to look along, those of the nearest of the first columns.
    """
    bounds = np.full(len(rows), np.inf)
    if count > len(columns):
        return bounds
    if screen is None or not screen.levels:
        some = slice(0, max(count, _ROWS))
        for row in _slices(0, len(rows), _ROWS):
            if rows.integer:
                most = block_distances(rows, columns, row, some, device)
            else:
                estimate, wrong = estimated_distances(rows, columns, row, some)
                most = estimate + wrong
            bounds[row] = np.partition(most, count - 1, axis=1)[:, count - 1]
        return bounds
    level = screen.levels[0]
    row_order, projected_rows = _by_first_coordinate(screen.project(rows, level, device))
    column_order, projected_columns = _by_first_coordinate(screen.project(columns, level, device))
    among = min(len(columns), max(count, _COLUMNS))
    for row in _slices(0, len(rows), _ROWS):
        middle = projected_rows.first_coordinate[row].mean()
        start = int(np.searchsorted(projected_columns.first_coordinate, middle)) - among // 2
        start = min(max(start, 0), len(columns) - among)
        zero = np.zeros(row.stop - row.start)
        value = below(projected_rows, row, projected_columns, slice(start, start + among), zero, screen.scale)
        place = column_order[value.float().topk(count, dim=1, largest=False).indices.cpu().numpy() + start]
        query = row_order[row]
        squared = squared_distances(rows, columns, np.repeat(query, count), place.ravel()).reshape(-1, count)
        bounds[query] = squared.max(axis=1)
    return bounds


def _by_first_coordinate(projected: Projection) -> tuple[Index, Projection]:
    """Vectors in the order of their first coordinates, and which image each belongs to."""
    order = np.argsort(projected.first_coordinate, kind="stable")
    return order, projected.take(order)


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


class _Search:
    """Search of a block level by level: each bound is tighter and dearer than the one before; the last is exact.

    Rows and columns are taken in the order of the first coordinate of their vectors, the direction along which images
    differ most, so that each block of rows needs only a window of columns. Places count in that order.
    """

    def __init__(
        self,
        rows: Images,
        columns: Images,
        screen: Screen | None,
        collector: Collector,
        row_start: int,
        column_start: int,
        ordered: bool,
        device: str,
    ) -> None:
        self._rows, self._columns, self._screen, self._collector = rows, columns, screen, collector
        self._device = device
        self._most_squared = rows.most_squared
        self._row_numbers = np.arange(row_start, row_start + len(rows))
        self._column_numbers = np.arange(column_start, column_start + len(columns))
        self._ordered = ordered and self._row_numbers[-1] >= column_start  # else i < j of itself
        self._same = self._ordered and rows is columns and row_start == column_start
        self._projected: dict[int, tuple[Projection, Projection]] = {}
        self._levels = screen.levels if screen is not None else ()
        self._row_order: Index
        self._column_order: Index
        self._sorted = self._levels != () and (self._same or not self._ordered) and self._sort()

    def _sort(self) -> bool:
        """Bring places into the order of first coordinates, unless an image is too far out to have one."""
        rows, columns = self._project(self._levels[0])
        if not (np.isfinite(rows.squared).all() and np.isfinite(columns.squared).all()):
            return False
        self._row_order, sorted_rows = _by_first_coordinate(rows)
        self._column_order, sorted_columns = (
            (self._row_order, sorted_rows) if rows is columns else _by_first_coordinate(columns)
        )
        self._projected[self._levels[0]] = sorted_rows, sorted_columns
        self._row_numbers = self._row_numbers[self._row_order]
        self._column_numbers = self._column_numbers[self._column_order]
        return True

    def window(self, row: slice) -> tuple[int, int]:
        """The places of the columns that may pair with a block of rows: no distance is below that of a coordinate."""
        if self._ordered and not self._same:
            return max(0, int(self._row_numbers[row.start] + 1 - self._column_numbers[0])), len(self._columns)
        first = row.start + 1 if self._same else 0
        if not self._sorted:
            return first, len(self._columns)
        assert self._screen is not None
        rows, columns = self._project(self._levels[0])
        reach = self._screen.reach(rows.error[row], columns.error, self._bounds(self._row_numbers[row]))
        centre, among = rows.first_coordinate[row], columns.first_coordinate
        return (
            max(first, int(np.searchsorted(among, (centre - reach).min(), side="left"))),
            int(np.searchsorted(among, (centre + reach).max(), side="right")),
        )

    def settle(self, depth: int, row: Some, column: Some) -> None:
        """Settle a block by the level of this depth and, if it leaves many pairs, by the tighter ones after it."""
        if depth == len(self._levels):
            self._settle(row, column)
            return
        assert self._screen is not None
        rows, columns = self._project(self._levels[depth])
        bounds = self._bounds(self._row_numbers[row])
        # Only the vectors of the first level lie in the order of places.
        block = (row, column) if depth == 0 else self._images(row, column)
        values = below(rows, block[0], columns, block[1], bounds, self._screen.scale)
        if (twice := self._twice(row, column)) is not None:
            values[:, : twice.shape[1]].masked_fill_(torch.from_numpy(twice).to(values.device), 1)
        signs = values.view(torch.int16 if values.dtype == torch.bfloat16 else torch.int32)
        hit_rows = torch.nonzero(signs.amin(dim=1) < 0)[:, 0]
        if not len(hit_rows):
            return
        hits = signs[hit_rows] < 0
        found = int(hits.sum())
        hit_columns = torch.nonzero(hits.any(dim=0))[:, 0]
        area = len(hit_rows) * len(hit_columns)
        last = depth == len(self._levels) - 1 and not self._rows.integer
        if found > _FIRST_PAIRS and found * (_FLOAT64_PAIR_COST if last else PAIR_COST) > area:
            some_rows = row if len(hit_rows) == values.shape[0] else _pick(row, hit_rows)
            some_columns = column if len(hit_columns) == values.shape[1] else _pick(column, hit_columns)
            self.settle(depth + 1, some_rows, some_columns)
            return
        a, b = torch.nonzero(hits, as_tuple=True)
        a = hit_rows[a]
        self._settle_pairs(_pick(row, a), _pick(column, b), values[a, b].double().cpu().numpy(), bounds[a.cpu()])

    def _twice(self, row: Some, column: Some) -> Mask | None:
        """Mask of the pairs of a block that another block compares; for its first columns, those after them are not."""
        if not self._ordered:
            return None
        # Of one set in any order, each pair is taken where its first place is a row.
        a, b = (_indices(row), _indices(column)) if self._same else self._numbers(row, column)
        overlap = int(np.searchsorted(b, a[-1], side="right"))
        return a[:, None] >= b[:overlap] if overlap else None

    def _settle_pairs(self, a: Index, b: Index, values: Floats, bounds: Floats) -> None:
        """Settle listed pairs exactly, the likeliest first, since bounds may fall on the way."""
        order = np.argsort(values, kind="stable")
        size = _FIRST_PAIRS
        while len(order):
            now, order = order[:size], order[size:]
            self._add(a[now], b[now])
            size *= 4
            if len(order):
                order = order[values[order] <= -self._fall(a[order], bounds[order])]

    def _add(self, a: Index, b: Index, squared: Array | None = None) -> None:
        """Give the collector pairs of places."""
        if squared is None:
            row, column = self._images(a, b)
            squared = squared_distances(self._rows, self._columns, _indices(row), _indices(column))
        self._collector.add(*self._oriented(*self._numbers(a, b)), squared)

    def _fall(self, a: Index, bounds: Floats) -> Floats:
        """By how much the values of pairs must be below zero, now that bounds have fallen since they were computed."""
        assert self._screen is not None
        now = self._bounds(self._row_numbers[a])
        fallen = np.zeros(len(a))
        np.subtract(bounds, now, out=fallen, where=now < bounds)
        # Half of it, less what rounding to bfloat16 hides; and never so much that an image far out is dropped.
        return np.minimum(fallen * (self._screen.scale**2 / 2 * (1 - 2.0**-7)), 2.0**99)

    def _settle(self, row: Some, column: Some) -> None:
        """Settle all pairs of a block exactly; those that only need counting are counted without being listed."""
        i, j = self._numbers(row, column)
        collector = self._collector
        bounds = self._bounds(i)[:, None]
        low = high = squared = None
        images = self._rows, self._columns, *self._images(row, column)
        if self._rows.integer:
            low = high = squared = block_distances(*images, self._device)
            bounds = np.floor(bounds).astype(squared.dtype)
        else:
            estimate, wrong = estimated_distances(*images)
            low, high = np.maximum(estimate - wrong, 0), estimate + wrong
        near = low <= bounds
        if (twice := self._twice(row, column)) is not None:
            near[:, : twice.shape[1]] &= ~twice
        if collector.sure_squared >= 0:
            sure = near & (high <= collector.sure_squared)
            if sure.any():
                sure &= ~collector.needs(*self._oriented(i[:, None], j), low)
                collector.count(i, j, sure)
                near ^= sure
        hit = np.flatnonzero(near.any(axis=1))
        a, b = np.nonzero(near[hit])
        a = hit[a]
        self._add(_indices(row)[a], _indices(column)[b], None if squared is None else squared[a, b].astype(np.int64))

    def _bounds(self, i: Index) -> Floats:
        """The collector's bounds, none above what a pair can reach, so that arithmetic with them is finite."""
        return np.minimum(self._collector.bounds(i), self._most_squared)

    def _numbers(self, row: Some, column: Some) -> tuple[Index, Index]:
        """Numbers of the images at some places."""
        return self._row_numbers[row], self._column_numbers[column]

    def _images(self, row: Some, column: Some) -> tuple[Some, Some]:
        """Positions in memory of the images at some places."""
        return (self._row_order[row], self._column_order[column]) if self._sorted else (row, column)

    def _oriented(self, i: Index, j: Index) -> tuple[Index, Index]:
        """The same pairs with i < j, where the order of places may have turned them."""
        return (np.minimum(i, j), np.maximum(i, j)) if self._same else (i, j)

    def _project(self, level: int) -> tuple[Projection, Projection]:
        if level not in self._projected:
            assert self._screen is not None
            rows = self._screen.project(self._rows, level, self._device)
            same = self._rows is self._columns
            self._projected[level] = rows, rows if same else self._screen.project(self._columns, level, self._device)
        return self._projected[level]


def _indices(some: Some) -> Index:
    return np.arange(some.start, some.stop) if isinstance(some, slice) else some


def _pick(some: Some, which: torch.Tensor) -> Index:
    index: Index = which.cpu().numpy()
    return index + some.start if isinstance(some, slice) else some[index]
