"""The loop over blocks of image pairs: screen them, then settle exactly what is left.

Invariant: a collector is given every pair within its bounds once, with its exact squared distance or, where it asks
for no more, with the certainty that the pair is within `sure_squared`.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.pairs.estimates import Bounds, bounded_distances, have_codes
from ganlab.pairs.exact import Array, Images, Index, block_distances, squared_distances
from ganlab.pairs.lower_bounds import PAIR_COST, Floats, Projection, Screen, below

Mask = NDArray[np.bool_]
Some = slice | Index

_ROWS = 512
_COLUMNS = 4096
_FLOAT64_PAIR_COST = 32  # of a float32 pair, against its share of a float64 product
_FIRST_PAIRS = 64  # settled before bounds are looked at again; then four times as many
_GROUP = 64  # values of a row of which the least is found first
_FIRST_COLUMNS = 2048  # compared exactly with every row for a first bound, where no vectors help; a quarter at most
_PIVOT_IMAGES = 4096  # most images of one pivot that are looked at for a first bound
_PIVOT_COST = 300_000  # of one pivot, in looks at pairs of a pivot and an image
_PROBES = 4  # pivots near a row whose images are looked at
_JUDGED = 512  # rows, and columns, in which survival is measured
_OVERHEAD = 100  # of looking at one pair at any depth, in products of two int8 values


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
    _Search(rows, columns, screen, collector, row_start, column_start, ordered, device).run()


@np.errstate(over="raise", divide="raise", invalid="raise")
def search_nearest(
    rows: Images,
    columns: Images,
    screen: Screen | None,
    collector: Collector,
    *,
    row_start: int = 0,
    column_start: int = 0,
    device: str = "cpu",
) -> None:
    """Give the collector every pair of a row and a column that is within the row's bound.

    Of a set with itself each pair is compared once, wherever that costs least, and given in both directions.

    Parameters
    ----------
    rows, columns
        The images. Their first ones have the indices `row_start` and `column_start`.
    screen
        What was learnt from a sample of these images, or None to look at all pairs exactly.
    collector
        Its bounds should be near the final ones: see `nearest_bounds`.
    device
        Where matrix products run.
    """
    mutual = rows is columns and row_start == column_start
    bounds = np.minimum(collector.bounds(np.arange(row_start, row_start + len(rows))), rows.most_squared)
    levels, mutual = _cheapest(rows, columns, screen, bounds, mutual, device)
    if rows.integer and len(rows) >= len(columns):
        columns.keep_shifted()
    search = _Search(
        rows, columns, screen, collector, row_start, column_start, mutual, device, levels=levels, mutual=mutual
    )
    search.run()
    if mutual:
        every = np.arange(row_start, row_start + len(rows))
        collector.add(every, every, np.zeros(len(rows), np.int64 if rows.integer else np.float64))


def _cheapest(
    rows: Images, columns: Images, screen: Screen | None, bounds: Floats, mutual: bool, device: str
) -> tuple[tuple[int, ...], bool]:
    """The levels to look at, none for exact products of all, and whether to compare each pair of a set only once.

    Judged by the survival of a sample of the pairs at each level.
    """
    levels = _levels(screen, rows, columns)
    if screen is None or not levels:
        return (), mutual
    first_rows, first_columns = (screen.project(images, levels[0], device) for images in (rows, columns))
    window = _window(first_rows, first_columns, screen, bounds)
    judged_rows, judged_columns = _judged(len(rows), 0.25), _judged(len(columns), 0.75)  # of one set no image twice
    some_rows, some_columns = Images(rows.values[judged_rows]), Images(columns.values[judged_columns])
    integers = rows.integer or have_codes(rows, columns)
    exact = rows.features + _OVERHEAD if integers else _FLOAT64_PAIR_COST * rows.features
    best: tuple[float, tuple[int, ...], bool] = (exact * (0.5 if mutual else 1.0), (), mutual)
    short_rows, short_columns, every = first_rows.take(judged_rows), first_columns.take(judged_columns), slice(0, None)
    for depth, level in enumerate(levels):
        if depth:
            short_rows, short_columns = (screen.project(images, level, device) for images in (some_rows, some_columns))
        values = below(short_rows, every, short_columns, every, bounds[judged_rows], screen.scale)
        pairs = float((values < 0).double().mean()) * PAIR_COST * rows.features
        look = level * (2 if integers else 1) + _OVERHEAD
        for area, once in ((window, False), *([(0.5, True)] if mutual else [])):
            seconds = area * look + min(pairs, area * exact)  # at most a block of all
            best = min(best, (seconds, levels[depth:], once), key=lambda each: each[0])
    return best[1:]


def _levels(screen: Screen | None, rows: Images, columns: Images) -> tuple[int, ...]:
    return () if screen is None else screen.levels_for(rows, columns)


def _judged(images: int, offset: float) -> Index:
    """Places of images, evenly spaced, among which survival is measured."""
    some = min(_JUDGED, -(-images // 2))
    return ((np.arange(some) + offset) * (images / some)).astype(int)


def _window(rows: Projection, columns: Projection, screen: Screen, bounds: Floats) -> float:
    """Share of the pairs whose first coordinates are near enough for their row's bound."""
    if not (np.isfinite(rows.squared).all() and np.isfinite(columns.squared).all()):
        return 1.0
    reach = screen.reach(rows.error, columns.error, bounds)
    first = np.sort(columns.first_coordinate)
    start, stop = (np.searchsorted(first, rows.first_coordinate + sign * reach) for sign in (-1, 1))
    return float(np.mean(stop - start)) / len(first)


@np.errstate(over="raise", divide="raise", invalid="raise")
def nearest_bounds(rows: Images, columns: Images, screen: Screen | None, count: int, device: str = "cpu") -> Floats:
    """(r,) squared distances within which each row has at least `count` columns, and seldom very many more.

    They are those of the likeliest columns among the images of the pivots that are nearest to the row. A pivot is a
    column, and its images are the columns that are nearer to it than to other pivots; where there is nothing to look
    along, or a row's pivots have too few images, bounds are those of the nearest of the first columns.
    """
    bounds = np.full(len(rows), np.inf)
    if count > len(columns):
        return bounds
    if screen is not None and (levels := _levels(screen, rows, columns)):
        queries, references = (screen.project(images, levels[0], device) for images in (rows, columns))
        places = _likeliest(queries, references, count, screen.scale)
        full = np.flatnonzero((places >= 0).all(axis=1))
        squared = squared_distances(rows, columns, np.repeat(full, count), places[full].ravel())
        bounds[full] = squared.reshape(-1, count).max(axis=1)
    left = np.flatnonzero(np.isinf(bounds))
    some = slice(0, max(count, min(_FIRST_COLUMNS, len(columns) // 4)))
    for part in _slices(0, len(left), _ROWS):
        row = left[part]
        if rows.integer:
            most = block_distances(rows, columns, row, some, device)
        else:
            most = bounded_distances(rows, columns, row, some, device).high
        bounds[row] = np.partition(most, count - 1, axis=1)[:, count - 1]
    return bounds


def _likeliest(rows: Projection, columns: Projection, count: int, scale: float) -> Index:
    """(r, count) places of different columns that are likely to be near each row; -1 where too few were looked at."""
    images, references = len(rows.squared), len(columns.squared)
    looks = images * references * _PROBES / (images + references + _PIVOT_COST)
    pivots = max(1, min(int(np.sqrt(looks)), references // (2 * count)))
    probes_of_row = min(_PROBES, pivots)
    pivot = np.linspace(0, len(columns.squared) - 1, pivots).astype(int)
    near_columns = _nearest_pivots(columns, columns, pivot, probes_of_row, scale)
    near_rows = near_columns if rows is columns else _nearest_pivots(rows, columns, pivot, probes_of_row, scale)
    of_pivot = near_columns[:, 0]
    by_pivot = np.argsort(of_pivot, kind="stable")
    ends = np.searchsorted(of_pivot[by_pivot], np.arange(pivots + 1))
    probes = near_rows.ravel()
    by_probe = np.argsort(probes, kind="stable")
    probe_ends = np.searchsorted(probes[by_probe], np.arange(pivots + 1))
    value = np.full((images, probes_of_row, count), np.inf, np.float32)
    place = np.full(value.shape, -1)
    for number in range(pivots):
        members = by_pivot[ends[number] : min(ends[number + 1], ends[number] + _PIVOT_IMAGES)]
        best = min(count, len(members))
        for part in _slices(probe_ends[number], probe_ends[number + 1], _ROWS) if best else ():
            row, probe = np.divmod(by_probe[part], probes_of_row)
            half = below(rows, row, columns, members, np.zeros(len(row)), scale).float()
            least = half.topk(best, dim=1, largest=False)
            value[row, probe, :best] = least.values.cpu().numpy()
            place[row, probe, :best] = members[least.indices.cpu().numpy()]
    order = np.argpartition(value.reshape(images, -1), count - 1, axis=1)[:, :count]
    likeliest: Index = np.take_along_axis(place.reshape(images, -1), order, axis=1)
    return likeliest


def _nearest_pivots(rows: Projection, columns: Projection, pivot: Index, count: int, scale: float) -> Index:
    """(r, count) numbers of the pivots nearest to each row."""
    parts = []
    for row in _slices(0, len(rows.squared), _COLUMNS):
        zero = np.zeros(row.stop - row.start)
        half = below(rows, row, columns, pivot, zero, scale).float()
        parts.append(half.topk(count, dim=1, largest=False).indices.cpu().numpy())
    return np.concatenate(parts)


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
    differ most, so that each block of rows needs only a window of columns. Places count in that order. Where a pair
    matters within the bound of either of its images (`mutual`), the order is that of bounds, the largest first: that of
    the row then is hardly ever the smaller one.
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
        levels: tuple[int, ...] | None = None,
        mutual: bool = False,
    ) -> None:
        self._rows, self._columns, self._screen, self._collector = rows, columns, screen, collector
        self._device = device
        self._most_squared = rows.most_squared
        self._row_numbers = np.arange(row_start, row_start + len(rows))
        self._column_numbers = np.arange(column_start, column_start + len(columns))
        self._ordered = ordered and self._row_numbers[-1] >= column_start  # else i < j of itself
        self._same = self._ordered and rows is columns and row_start == column_start
        self._projected: dict[int, tuple[Projection, Projection]] = {}
        self._levels = _levels(screen, rows, columns) if levels is None else levels
        self._integers = rows.integer or have_codes(rows, columns)
        self._mutual = mutual
        self._row_order: Index
        self._column_order: Index
        self._sorted = self._levels != () and (self._same or not self._ordered) and self._sort()

    def _sort(self) -> bool:
        """Bring places into order, unless an image is too far out to have a first coordinate."""
        rows, columns = self._project(self._levels[0])
        if self._mutual:
            order = np.argsort(-self._bounds(self._row_numbers), kind="stable")
            self._row_order = self._column_order = order
            sorted_rows = rows.take(order)
            self._projected[self._levels[0]] = sorted_rows, sorted_rows
            self._row_numbers = self._column_numbers = self._row_numbers[order]
            return True
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

    def run(self) -> None:
        """Settle all pairs."""
        for row in _slices(0, len(self._rows), _ROWS):
            first, last = self._window(row)
            for column in _slices(first, last, _COLUMNS):
                self._settle(0, row, column)

    def _window(self, row: slice) -> tuple[int, int]:
        """The places of the columns that may pair with a block of rows: no distance is below that of a coordinate."""
        if self._ordered and not self._same:
            return max(0, int(self._row_numbers[row.start] + 1 - self._column_numbers[0])), len(self._columns)
        first = row.start + 1 if self._same else 0
        if not self._sorted or self._mutual:
            return first, len(self._columns)
        assert self._screen is not None
        rows, columns = self._project(self._levels[0])
        reach = self._screen.reach(rows.error[row], columns.error, self._bounds(self._row_numbers[row]))
        centre, among = rows.first_coordinate[row], columns.first_coordinate
        return (
            max(first, int(np.searchsorted(among, (centre - reach).min(), side="left"))),
            int(np.searchsorted(among, (centre + reach).max(), side="right")),
        )

    def _settle(self, depth: int, row: Some, column: Some) -> None:
        """Settle a block by the level of this depth and, if it leaves many pairs, by the tighter ones after it."""
        if depth == len(self._levels):
            self._settle_exactly(row, column)
            return
        assert self._screen is not None
        rows, columns = self._project(self._levels[depth])
        bounds = self._bounds(self._row_numbers[row])
        if self._mutual:
            bounds = np.maximum(bounds, self._bounds(self._column_numbers[column]).max())
        # Only the vectors of the first level lie in the order of places.
        block = (row, column) if depth == 0 else self._images(row, column)
        values = below(rows, block[0], columns, block[1], bounds, self._screen.scale)
        if (twice := self._twice(row, column)) is not None:
            values[:, : twice.shape[1]].masked_fill_(torch.from_numpy(twice).to(values.device), 1)
        signs = values.view(torch.int16 if values.dtype == torch.bfloat16 else torch.int32)
        hits = _hits(signs, torch.full((len(signs),), -1))
        if hits is None or len(hits[0]) > _FIRST_PAIRS:
            hit_rows, hit_columns = (torch.nonzero(signs.amin(dim=dim) < 0)[:, 0] for dim in (1, 0))
            area = len(hit_rows) * len(hit_columns)
            last = depth == len(self._levels) - 1 and not self._integers
            if hits is None or len(hits[0]) * (_FLOAT64_PAIR_COST if last else PAIR_COST) > area:
                some_rows = row if len(hit_rows) == values.shape[0] else _pick(row, hit_rows)
                some_columns = column if len(hit_columns) == values.shape[1] else _pick(column, hit_columns)
                self._settle(depth + 1, some_rows, some_columns)
                return
        a, b = hits
        self._settle_pairs(
            _pick(row, a), _pick(column, b), values[a, b].double().cpu().numpy(), bounds[a.cpu().numpy()]
        )

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
            order = order[values[order] <= -self._fall(a[order], b[order], bounds[order])]
            now, order = order[:size], order[size:]
            self._add(a[now], b[now])
            size *= 4

    def _add(self, a: Index, b: Index, squared: Array | None = None) -> None:
        """Give the collector pairs of places."""
        if squared is None:
            row, column = self._images(a, b)
            squared = squared_distances(self._rows, self._columns, _indices(row), _indices(column))
        i, j = self._numbers(a, b)
        if self._mutual:
            self._collector.add(np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([squared, squared]))
        else:
            self._collector.add(*self._oriented(i, j), squared)

    def _fall(self, a: Index, b: Index, bounds: Floats) -> Floats:
        """By how much the values of pairs must be below zero, now that bounds have fallen since they were computed."""
        assert self._screen is not None
        now = self._bounds(self._row_numbers[a])
        if self._mutual:
            now = np.maximum(now, self._bounds(self._column_numbers[b]))
        fallen = np.zeros(len(a))
        np.subtract(bounds, now, out=fallen, where=now < bounds)
        # Half of it, less what rounding to bfloat16 hides; and never so much that an image far out is dropped.
        return np.minimum(fallen * (self._screen.scale**2 / 2 * (1 - 2.0**-7)), 2.0**99)

    def _settle_exactly(self, row: Some, column: Some) -> None:
        """Settle all pairs of a block exactly; those that only need counting are counted without being listed."""
        i, j = self._numbers(row, column)
        images = self._rows, self._columns, *self._images(row, column)
        bounded = None if self._rows.integer else bounded_distances(*images, self._device)
        low = torch.from_numpy(block_distances(*images, self._device)) if bounded is None else bounded.low
        if (twice := self._twice(row, column)) is not None:
            low[:, : twice.shape[1]].masked_fill_(torch.from_numpy(twice), _largest(low.dtype))
        if self._collector.sure_squared >= 0:
            low.masked_fill_(torch.from_numpy(self._counted(low.numpy(), bounded, i, j)), _largest(low.dtype))
        a, b = self._within(low, i, j)
        squared = low.numpy()[a, b].astype(np.int64) if bounded is None else None
        self._add(_indices(row)[a], _indices(column)[b], squared)

    def _counted(self, low: Array, bounded: Bounds | None, i: Index, j: Index) -> Mask:
        """Count the pairs of a block that need only be counted; mask of them."""
        bounds = self._bounds(i)[:, None]
        high = low if bounded is None else bounded.high
        sure: Mask = low <= (np.maximum(bounds, self._bounds(j)) if self._mutual else bounds)
        sure &= high <= self._collector.sure_squared
        if sure.any():
            sure &= ~self._collector.needs(*self._oriented(i[:, None], j), low)
            self._collector.count(i, j, sure)
        return sure

    def _within(self, squared: torch.Tensor, i: Index, j: Index) -> tuple[Index, Index]:
        """The pairs of a block that are within their bounds, by their squared distances or low bounds of these."""

        def limits(numbers: Index) -> torch.Tensor:
            return torch.from_numpy(_as_limits(self._bounds(numbers), squared.numpy().dtype))

        def hits(values: torch.Tensor, limit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if (found := _hits(values, limit)) is None:
                row, column = torch.nonzero(values <= limit[:, None], as_tuple=True)
                return row, column
            return found

        a, b = hits(squared, limits(i))
        if self._mutual:
            more_b, more_a = hits(squared.T, limits(j))
            both = torch.unique(torch.cat([a, more_a]) * squared.shape[1] + torch.cat([b, more_b]))
            a, b = both // squared.shape[1], both % squared.shape[1]
        return a.numpy(), b.numpy()

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


def _as_limits(bounds: Floats, kind: np.dtype[Any]) -> Array:
    """The bounds in the type of squared distances, such that all that are within a bound are within its limit."""
    if kind.kind == "i":
        return np.floor(bounds).astype(kind)
    limits: Array = np.minimum(bounds, np.finfo(kind).max / 2).astype(kind)
    return np.where(limits < bounds, np.nextafter(limits, np.asarray(np.inf, kind)), limits)


def _largest(kind: torch.dtype) -> float:
    """A number above every squared distance, and every limit, in this type."""
    return np.inf if kind.is_floating_point else torch.iinfo(kind).max


def _hits(values: torch.Tensor, limit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Rows and columns of the values at most the limit (r,) of their row, in no order; None where they are many."""
    rows = torch.nonzero(values.amin(dim=1) <= limit)[:, 0]
    if len(rows) < len(values):
        values, limit = values[rows], limit[rows]
    limit = limit[:, None]
    whole = values.shape[1] // _GROUP * _GROUP
    groups = values[:, :whole].reshape(len(values), whole // _GROUP, _GROUP)
    some = groups.amin(dim=2) <= limit
    if 4 * int(some.sum()) > some.numel() > 0:
        return None
    row, group = torch.nonzero(some, as_tuple=True)
    which, place = torch.nonzero(groups[row, group] <= limit[row], as_tuple=True)
    last_row, last_place = torch.nonzero(values[:, whole:] <= limit, as_tuple=True)
    return rows[torch.cat([row[which], last_row])], torch.cat([group[which] * _GROUP + place, last_place + whole])
