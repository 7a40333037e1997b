"""The loop over blocks of image pairs: screen them, then settle exactly what is left.

Invariant: a collector is given every pair within its bounds once, with its exact squared distance or, where it asks
for no more, with the certainty that the pair is within `sure_squared`.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.exact import Array, Images, Index, block_distances, estimated_distances, squared_distances
from ganlab.screen import PAIR_COST, Floats, Lifted, Screen, below

Mask = NDArray[np.bool_]
Some = slice | Index

_ROWS = 512
_COLUMNS = 4096
_FLOAT64_PAIR_COST = 32  # of a float32 pair, against its share of a float64 product
_FIRST_PAIRS = 64  # settled before bounds are looked at again; then four times as many


class Collector(Protocol):
    """What keeps the pairs that a search finds. Its indices count from the first image of the whole set."""

    sure_squared: float  # pairs surely within this squared distance are offered to `needs`

    def bounds(self, start: int, stop: int) -> Floats:
        """For each row of [start, stop): the squared distance above which its pairs do not matter. It only falls."""

    def add(self, i: Index, j: Index, squared: Array) -> None:
        """Take pairs with their exact squared distances, and ignore those out of bounds."""

    def needs(self, i: Index, j: Index, low: Array) -> Mask:
        """Which of these pairs, (r, 1) by (c,) and no nearer than `low` (r, c), must come with exact distances."""

    def count(self, i: Index, j: Index, sure: Mask) -> None:
        """Take the pairs of the mask (r, c): they are within `sure_squared`, and were not needed."""


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
    looks = _Search(rows, columns, screen, collector, row_start, column_start, ordered, device)
    for row in _slices(0, len(rows), _ROWS):
        first = max(0, row_start + row.start + 1 - column_start) if ordered else 0
        for column in _slices(first, len(columns), _COLUMNS):
            looks.look(0, row, column)


def nearest_bounds(rows: Images, columns: Images, screen: Screen | None, count: int, device: str = "cpu") -> Floats:
    """(r,) squared distances within which each row has at least `count` columns, and seldom many more."""
    bounds = np.full(len(rows), np.inf)
    if screen is None or not screen.looks:
        return bounds
    look = screen.looks[0]
    lifted_rows, lifted_columns = screen.lift(rows, look, device), screen.lift(columns, look, device)
    for row in _slices(0, len(rows), _ROWS):
        zero = np.zeros(row.stop - row.start)
        values, places = [], []
        for column in _slices(0, len(columns), _COLUMNS):
            value = below(lifted_rows, row, lifted_columns, column, zero, screen.scale)
            best = value.float().topk(min(count, value.shape[1]), dim=1, largest=False)
            values.append(best.values)
            places.append(best.indices + column.start)
        which = torch.cat(values, dim=1).topk(count, dim=1, largest=False).indices
        place = torch.cat(places, dim=1).gather(1, which).cpu().numpy()
        query = np.repeat(np.arange(row.start, row.stop), count)
        squared = squared_distances(rows, columns, query, place.ravel()).reshape(-1, count)
        bounds[row] = squared.max(axis=1)
    return bounds


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


class _Search:
    """The looks at a block: each is closer and dearer than the one before; the last is exact."""

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
        self._row_start, self._column_start, self._ordered, self._device = row_start, column_start, ordered, device
        self._lifted: dict[int, tuple[Lifted, Lifted]] = {}
        self._looks = screen.looks if screen is not None else ()

    def look(self, depth: int, row: Some, column: Some) -> None:
        """Settle a block, by the look of this depth and, if it leaves many pairs, by closer ones."""
        if depth == len(self._looks):
            self._settle(row, column)
            return
        assert self._screen is not None
        rows, columns = self._lift(self._looks[depth])
        i, j = self._places(row, column)
        bounds = self._collector.bounds(int(i[0]), int(i[-1]) + 1)[i - i[0]]
        values = below(rows, row, columns, column, bounds, self._screen.scale)
        if self._ordered and i[-1] >= j[0]:
            overlap = int(np.searchsorted(j, i[-1], side="right"))
            twice = torch.from_numpy(i[:, None] >= j[:overlap]).to(values.device)
            values[:, :overlap].masked_fill_(twice, 1)
        signs = values.view(torch.int16 if values.dtype == torch.bfloat16 else torch.int32)
        hit_rows = torch.nonzero(signs.amin(dim=1) < 0)[:, 0]
        if not len(hit_rows):
            return
        hits = signs[hit_rows] < 0
        found = int(hits.sum())
        hit_columns = torch.nonzero(hits.any(dim=0))[:, 0]
        area = len(hit_rows) * len(hit_columns)
        last = depth == len(self._looks) - 1 and not self._rows.integer
        if found > _FIRST_PAIRS and found * (_FLOAT64_PAIR_COST if last else PAIR_COST) > area:
            some_rows = row if len(hit_rows) == len(i) else _pick(row, hit_rows)
            some_columns = column if len(hit_columns) == len(j) else _pick(column, hit_columns)
            self.look(depth + 1, some_rows, some_columns)
            return
        a, b = torch.nonzero(hits, as_tuple=True)
        a = hit_rows[a]
        self._settle_pairs(_pick(row, a), _pick(column, b), values[a, b].double().cpu().numpy(), bounds[a.cpu()])

    def _settle_pairs(self, a: Index, b: Index, values: Floats, bounds: Floats) -> None:
        """Settle listed pairs exactly, the likeliest first, since bounds may fall on the way."""
        order = np.argsort(values, kind="stable")
        size = _FIRST_PAIRS
        while len(order):
            now, order = order[:size], order[size:]
            squared = squared_distances(self._rows, self._columns, a[now], b[now])
            self._collector.add(self._row_start + a[now], self._column_start + b[now], squared)
            size *= 4
            if len(order):
                order = order[values[order] <= -self._fall(a[order], bounds[order])]

    def _fall(self, a: Index, bounds: Floats) -> Floats:
        """By how much the values of pairs must be below zero, now that bounds have fallen since they were computed."""
        assert self._screen is not None
        first, last = int(a.min()), int(a.max())
        now = self._collector.bounds(self._row_start + first, self._row_start + last + 1)[a - first]
        fallen = np.zeros(len(a))
        np.subtract(bounds, now, out=fallen, where=now < bounds)
        # Half of it, less what rounding to bfloat16 hides; and never so much that an image far out is dropped.
        return np.minimum(fallen * (self._screen.scale**2 / 2 * (1 - 2.0**-7)), 2.0**99)

    def _settle(self, row: Some, column: Some) -> None:
        """Settle all pairs of a block exactly; those that only need counting are counted without being listed."""
        i, j = self._places(row, column)
        collector = self._collector
        bounds = collector.bounds(int(i[0]), int(i[-1]) + 1)[i - i[0]][:, None]
        low = high = squared = None
        if self._rows.integer:
            low = high = squared = block_distances(self._rows, self._columns, row, column, self._device)
            bounds = np.minimum(np.floor(bounds), np.iinfo(squared.dtype).max).astype(squared.dtype)
        else:
            estimate, wrong = estimated_distances(self._rows, self._columns, row, column)
            low, high = np.maximum(estimate - wrong, 0), estimate + wrong
        near = low <= bounds
        if self._ordered and i[-1] >= j[0]:
            near &= i[:, None] < j
        if collector.sure_squared >= 0:
            sure = near & (high <= collector.sure_squared)
            if sure.any():
                sure &= ~collector.needs(i[:, None], j, low)
                collector.count(i, j, sure)
                near ^= sure
        hit = np.flatnonzero(near.any(axis=1))
        a, b = np.nonzero(near[hit])
        a = hit[a]
        i, j = i[a], j[b]
        collector.add(
            i,
            j,
            squared[a, b].astype(np.int64)
            if squared is not None
            else squared_distances(self._rows, self._columns, i - self._row_start, j - self._column_start),
        )

    def _places(self, row: Some, column: Some) -> tuple[Index, Index]:
        """Indices of a block's rows and columns in the whole set."""
        return _indices(row) + self._row_start, _indices(column) + self._column_start

    def _lift(self, look: int) -> tuple[Lifted, Lifted]:
        if look not in self._lifted:
            assert self._screen is not None
            rows = self._screen.lift(self._rows, look, self._device)
            same = self._rows is self._columns
            self._lifted[look] = rows, rows if same else self._screen.lift(self._columns, look, self._device)
        return self._lifted[look]


def _indices(some: Some) -> Index:
    return np.arange(some.start, some.stop) if isinstance(some, slice) else some


def _pick(some: Some, which: torch.Tensor) -> Index:
    index: Index = which.cpu().numpy()
    return index + some.start if isinstance(some, slice) else some[index]
