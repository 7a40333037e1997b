"""The loop over blocks of image pairs: screen them, then settle exactly what is left.

Invariant: a collector is given every pair within its bounds once, with its exact squared distance or, where it asks
for no more, with the certainty that the pair is within `sure_squared`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.pairs.blocks import Found, Least, cached_parts, find_within, slices
from ganlab.pairs.devices import accelerated, block_scale, sums_in_float32
from ganlab.pairs.estimates import Bounds, as_limits, bounded_distances, have_codes, rough_distances
from ganlab.pairs.exact import Array, Images, Index, squared_distances
from ganlab.pairs.lower_bounds import PAIR_COST, Floats, Projection, Screen, half_distances
from ganlab.pairs.pivots import likeliest
from ganlab.pairs.plan import Plan, cheapest_plan
from ganlab.pairs.threads import in_threads, one_thread_for_torch

Mask = NDArray[np.bool_]
Some = slice | Index
Settle = Callable[[], None]

_ROWS = 512
_COLUMNS = 4096
_ACCELERATED_PAIR_COST = 2**14  # as PAIR_COST, where whole blocks cost so little; not measured
_FLOAT64_PAIR_COST = 32  # of a float32 pair, against its share of a float64 product
_FIRST_PAIRS = 64  # settled before bounds are looked at again; then four times as many


class Collector(Protocol):
    """Receiver of the pairs that a search finds, by one call at a time, in an order that may vary.

    Indices count from the first image of the whole set.
    """

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


@one_thread_for_torch()
@sums_in_float32()
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


@one_thread_for_torch()
@sums_in_float32()
@np.errstate(over="raise", divide="raise", invalid="raise")
def search_nearest(
    rows: Images,
    columns: Images,
    screen: Screen | None,
    collector: Collector,
    *,
    row_start: int = 0,
    column_start: int = 0,
    mutual: bool = False,
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
    mutual
        Take pairs within the column's bound, too, and give those of either in both directions; of two sets whose
        indices differ.
    device
        Where matrix products run.
    """

    def bounds_of(images: Images, start: int) -> Floats:
        bounds: Floats = np.minimum(collector.bounds(np.arange(start, start + len(images))), rows.most_squared)
        return bounds

    itself = rows is columns and row_start == column_start
    bounds = bounds_of(rows, row_start)
    column_bounds = bounds_of(columns, column_start) if mutual or itself else None
    integers = rows.integer or have_codes(rows, columns)
    exact_cost = None if integers else float(_FLOAT64_PAIR_COST * rows.features)
    block = (_ROWS, _COLUMNS)
    plan = cheapest_plan(rows, columns, screen, bounds, column_bounds, exact_cost, block, device, itself)
    if rows.integer and len(rows) >= len(columns):
        columns.keep_shifted()
    search = _Search(rows, columns, screen, collector, row_start, column_start, plan.mutual, device, plan)
    search.run()
    if plan.mutual and itself:
        every = np.arange(row_start, row_start + len(rows))
        collector.add(every, every, np.zeros(len(rows), np.int64 if rows.integer else np.float64))


@one_thread_for_torch()
@sums_in_float32()
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
    if screen is not None and (levels := screen.levels_for(rows, columns)):
        queries, references = (screen.project(images, levels[0], device) for images in (rows, columns))
        places = likeliest(queries, references, count)
        full = np.flatnonzero((places >= 0).all(axis=1))
        squared = squared_distances(rows, columns, np.repeat(full, count), places[full].ravel())
        bounds[full] = squared.reshape(-1, count).max(axis=1)
    left = np.flatnonzero(np.isinf(bounds))
    some = slice(0, _first_columns(rows, columns, count))

    def of_first(part: slice) -> None:
        row = left[part]
        bounds[row] = _least(rough_distances(rows, columns, row, some, device).high, count)

    in_threads(of_first, slices(0, len(left), _ROWS), device)
    return bounds


def _first_columns(rows: Images, columns: Images, count: int) -> int:
    """Number of columns to compare for a first bound.

    So many that comparing more would cost what it saves: of m columns they leave about count * len(columns) / m pairs.
    """
    pair_cost = PAIR_COST if have_codes(rows, columns) else _FLOAT64_PAIR_COST
    return max(count, int(np.sqrt(pair_cost * count * len(columns))))


def are_few(rows: Images, columns: Images, count: int) -> bool:
    """True if a first bound on the nearest `count` columns of a row would be that of all columns: see `search_few`."""
    return count <= len(columns) <= _first_columns(rows, columns, count)


@one_thread_for_torch()
@np.errstate(over="raise", divide="raise", invalid="raise")
def search_few(
    rows: Images,
    columns: Images,
    collector: Collector,
    count: int,
    *,
    row_start: int = 0,
    column_start: int = 0,
    device: str = "cpu",
) -> None:
    """Give the collector the pairs of each row that may be among its nearest `count`, by one look at all pairs.

    Parameters
    ----------
    rows, columns
        The images; of the columns there are at least `count`. Their first ones have the indices `row_start` and
        `column_start`.
    device
        Where matrix products run.
    """
    collecting = Lock()

    def look(row: slice) -> None:
        bounds = rough_distances(rows, columns, row, slice(0, len(columns)), device)
        limits = as_limits(_least(bounds.high, count), bounds.low)
        i, j = (each.cpu().numpy() for each in torch.nonzero(bounds.low <= limits[:, None], as_tuple=True))
        i += row.start
        squared = squared_distances(rows, columns, i, j, device)
        with collecting:
            collector.add(i + row_start, j + column_start, squared)

    in_threads(look, slices(0, len(rows), _ROWS), device)


def _least(values: torch.Tensor, count: int) -> Array:
    """(r,) the value of each row that `count` of its values do not exceed."""
    if values.device.type == "cpu":
        least: Array = np.partition(values.numpy(), count - 1, axis=1)[:, count - 1]
        return least
    return values.topk(count, dim=1, largest=False).values.amax(dim=1).cpu().numpy()


class _Search:
    """Search of a block level by level: each bound is tighter and dearer than the one before; the last is exact.

    Rows and columns are taken in the order of a plan, or of the first coordinate of their vectors, the direction along
    which images differ most, so that each block of rows needs only a window of columns. Places count in that order. A
    pair of a `mutual` plan matters within the bound of either of its images.
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
        plan: Plan | None = None,
    ) -> None:
        self._rows, self._columns, self._screen, self._collector = rows, columns, screen, collector
        self._collecting = Lock()  # held by the thread whose call the collector answers
        self._device = device
        self._scale = block_scale(device, _ROWS * _COLUMNS)
        self._pair_cost = _ACCELERATED_PAIR_COST if accelerated(device) else PAIR_COST
        self._most_squared = rows.most_squared
        self._row_numbers = np.arange(row_start, row_start + len(rows))
        self._column_numbers = np.arange(column_start, column_start + len(columns))
        self._ordered = ordered and self._row_numbers[-1] >= column_start  # else i < j of itself
        self._same = self._ordered and rows is columns and row_start == column_start
        self._projected: dict[int, tuple[Projection, Projection]] = {}
        if plan is not None:
            self._levels = plan.levels
        else:
            self._levels = () if screen is None else screen.levels_for(rows, columns)
            # A second number of directions is learnt where the first leaves so many pairs that it will be looked at.
            if screen is not None and (several := tuple(level for level in self._levels if level != rows.features)):
                for images in (rows, columns):
                    screen.project_together(images, several, device)
        self._integers = rows.integer or have_codes(rows, columns)
        self._mutual = plan is not None and plan.mutual
        self._clustered = plan is not None and plan.order is not None
        order = None if plan is None else plan.order
        if order is None and self._levels and (self._same or not self._ordered):
            order = self._by_first_coordinate()
        self._sorted = order is not None
        if order is not None:
            self._sort(*order)

    def _by_first_coordinate(self) -> tuple[Index, Index] | None:
        """The order of first coordinates, unless an image is too far out to have one."""
        rows, columns = self._project(self._levels[0])
        if not (np.isfinite(rows.squared).all() and np.isfinite(columns.squared).all()):
            return None
        order = np.argsort(rows.first_coordinate, kind="stable")
        return order, order if rows is columns else np.argsort(columns.first_coordinate, kind="stable")

    def _sort(self, row_order: Index, column_order: Index) -> None:
        """Bring places into order."""
        self._row_order, self._column_order = row_order, column_order
        self._row_numbers, self._column_numbers = self._row_numbers[row_order], self._column_numbers[column_order]
        if not self._levels:
            return
        rows, columns = self._project(self._levels[0])
        sorted_rows = rows.take(row_order)
        same = rows is columns and row_order is column_order
        sorted_columns = sorted_rows if same else columns.take(column_order)
        self._projected[self._levels[0]] = sorted_rows, sorted_columns

    def run(self) -> None:
        """Settle all pairs."""
        in_threads(self._settle_rows, self._row_blocks(), self._device)

    def _row_blocks(self) -> Iterator[slice]:
        """Blocks of rows; an accelerator's become smaller where it has no room."""
        start = 0
        while start < len(self._rows):
            row = slice(start, min(start + _ROWS * self._scale, len(self._rows)))
            yield row
            start = row.stop

    def _settle_rows(self, row: slice) -> None:
        """Settle the pairs of a block of rows."""
        first, last = self._window(row)
        for column in slices(first, last, _COLUMNS * self._scale):
            self._settle(0, row, column)

    def _window(self, row: slice) -> tuple[int, int]:
        """The places of the columns that may pair with a block of rows: no distance is below that of a coordinate."""
        if self._ordered and not self._same:
            return max(0, int(self._row_numbers[row.start] + 1 - self._column_numbers[0])), len(self._columns)
        first = row.start + 1 if self._same else 0
        if not self._sorted or self._clustered:
            return first, len(self._columns)
        assert self._screen is not None
        rows, columns = self._project(self._levels[0])
        reach = self._screen.reach(self._bounds(self._row_numbers[row]), rows.error[row] + columns.error.max())
        centre, among = rows.first_coordinate[row], columns.first_coordinate
        return (
            max(first, int(np.searchsorted(among, (centre - reach).min(), side="left"))),
            int(np.searchsorted(among, (centre + reach).max(), side="right")),
        )

    def _settle(self, depth: int, row: Some, column: Some) -> None:
        """Settle a block by the level of this depth, then by tighter ones; where its device has no room, by halves."""
        settle = None
        try:
            settle = self._compare(row, column) if depth == len(self._levels) else self._look(depth, row, column)
        except torch.OutOfMemoryError:  # the collector has no pair of the block yet
            if _size(row) * _size(column) <= _ROWS * _COLUMNS:
                raise
        if settle is not None:
            settle()
            return
        self._scale = max(1, self._scale // 2)
        for half in _halves(row, column):
            self._settle(depth, *half)

    def _look(self, depth: int, row: Some, column: Some) -> Settle:
        """Look at a block by the level of this depth; what is returned settles the pairs that may be within bounds."""
        assert self._screen is not None
        rows, columns = self._project(self._levels[depth])
        # Only the vectors of the first level lie in the order of places.
        block = (row, column) if depth == 0 else self._images(row, column)
        values = half_distances(rows, block[0], columns, block[1])
        self._mask_twice(values, row, column, np.inf)
        i, j = self._numbers(row, column)
        bounds, column_bounds = self._bounds(i), self._bounds(j) if self._mutual else None
        row_error, column_error = rows.error[block[0]], columns.error[block[1]]
        limit, column_limit = self._screen.block_limits(values, row_error, column_error, bounds, column_bounds)
        found = _look_within(values, limit, column_limit)
        count = found.count
        if count > _FIRST_PAIRS:
            hit_rows, hit_columns = found.lines
            area = len(hit_rows) * len(hit_columns)
            last = depth == len(self._levels) - 1 and not self._integers
            if count * (_FLOAT64_PAIR_COST if last else self._pair_cost) > area:
                some_rows = row if len(hit_rows) == values.shape[0] else _pick(row, hit_rows)
                some_columns = column if len(hit_columns) == values.shape[1] else _pick(column, hit_columns)
                return partial(self._settle, depth + 1, some_rows, some_columns)
        a, b = found.hits
        half, error = values[a, b], row_error[a.cpu().numpy()] + column_error[b.cpu().numpy()]
        return partial(self._settle_pairs, _pick(row, a), _pick(column, b), half, error)

    def _mask_twice(self, values: torch.Tensor, row: Some, column: Some, value: float) -> None:
        """Set the values of those pairs of a block that another block compares."""
        if not self._ordered:
            return
        # Of one set in any order, each pair is taken where its first place is a row.
        a, b = (_indices(row), _indices(column)) if self._same else self._numbers(row, column)
        overlap = int(np.searchsorted(b, a[-1], side="right"))
        if overlap:
            first, second = (torch.from_numpy(numbers).to(values.device) for numbers in (a, b[:overlap]))
            values[:, :overlap].masked_fill_(first[:, None] >= second, value)

    def _settle_pairs(self, a: Index, b: Index, half: torch.Tensor, error: Floats) -> None:
        """Settle listed pairs exactly, the likeliest first, since bounds may fall on the way."""
        likely = half.double().cpu().numpy()
        order = np.argsort(likely, kind="stable")
        size = _FIRST_PAIRS
        while len(order):
            order = order[likely[order] <= self._limits_of_pairs(a[order], b[order], error[order], half)]
            now, order = order[:size], order[size:]
            self._add(a[now], b[now])
            size *= 4

    def _limits_of_pairs(self, a: Index, b: Index, error: Floats, half: torch.Tensor) -> Floats:
        """(m,) limits of the `half_distances` of listed pairs, from the current bounds of their images."""
        assert self._screen is not None
        bounds = self._bounds(self._row_numbers[a])
        if self._mutual:
            bounds = np.maximum(bounds, self._bounds(self._column_numbers[b]))
        limits: Floats = self._screen.half_limits(bounds, error, half).double().cpu().numpy()
        return limits

    def _add(self, a: Index, b: Index, squared: Array | None = None) -> None:
        """Give the collector pairs of places."""
        if squared is None:
            row, column = self._images(a, b)
            squared = squared_distances(self._rows, self._columns, _indices(row), _indices(column), self._device)
        i, j = self._numbers(a, b)
        if self._mutual:
            i, j, squared = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([squared, squared])
        else:
            i, j = self._oriented(i, j)
        with self._collecting:
            self._collector.add(i, j, squared)

    def _compare(self, row: Some, column: Some) -> Settle:
        """Compare all pairs of a block; what is returned gives the collector those within their bounds."""
        least = Least()
        block = self._images(row, column)
        bounded = bounded_distances(self._rows, self._columns, *block, self._device, least.see)
        self._mask_twice(bounded.low, row, column, _largest(bounded.low.dtype))
        return self._found(row, column, bounded, least)

    def _found(self, row: Some, column: Some, bounded: Bounds, least: Least | None = None) -> Settle:
        """Find the pairs of a block that are within their bounds, by bounds on their distances: only these leave it.

        What is returned gives them to the collector; those that only need counting are counted without being listed.
        """
        i, j = self._numbers(row, column)
        low = bounded.low
        limits = as_limits(self._bounds(i), low)
        others = as_limits(self._bounds(j), low) if self._mutual else None
        if least is None:
            least = Least()
            least.see(low)
        found = find_within(low, limits, others, least)
        large = low.numel() > _ROWS * _COLUMNS
        # Each pair of float32 images that is listed is compared once more.
        few = not found.many and (self._rows.integer or found.count * PAIR_COST <= low.numel())
        if few or (self._collector.sure_squared < 0 and not (large and found.many)):
            a, b = found.hits
            squared = low[a, b].cpu().numpy().astype(np.int64) if self._rows.integer else None
            return partial(self._add, _pick(row, a), _pick(column, b), squared)
        if large:
            return partial(self._found_in_parts, row, column, bounded)
        high = bounded.high if self._collector.sure_squared >= 0 else low
        return partial(self._count_or_add, row, column, *(each.cpu().numpy() for each in (found.mask, low, high)))

    def _found_in_parts(self, row: Some, column: Some, bounded: Bounds) -> None:
        """Give the collector a block's pairs that are too many to be listed or counted at once."""
        for place in slices(0, len(bounded.low), _ROWS):
            for other in slices(0, bounded.low.shape[1], _COLUMNS):
                self._found(_part(row, place), _part(column, other), bounded.part(place, other))()

    def _count_or_add(self, row: Some, column: Some, near: Mask, low: Array, high: Array) -> None:
        """Count the pairs of the mask that only need counting; add the others."""
        if self._collector.sure_squared >= 0:
            i, j = self._numbers(row, column)
            sure = near & (high <= self._collector.sure_squared)
            if sure.any():
                with self._collecting:  # what it needs depends on what it has: no other thread may add in between
                    sure &= ~self._collector.needs(*self._oriented(i[:, None], j), low)
                    self._collector.count(i, j, sure)
                near ^= sure
        hit = np.flatnonzero(near.any(axis=1))
        a, b = np.nonzero(near[hit])
        a = hit[a]
        squared = low[a, b].astype(np.int64) if self._rows.integer else None
        self._add(_indices(row)[a], _indices(column)[b], squared)

    def _bounds(self, i: Index) -> Floats:
        """The collector's bounds, none above what a pair can reach, so that arithmetic with them is finite."""
        with self._collecting:
            bounds = self._collector.bounds(i)
        return np.minimum(bounds, self._most_squared)

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


def _size(some: Some) -> int:
    return some.stop - some.start if isinstance(some, slice) else len(some)


def _part(some: Some, part: slice) -> Some:
    return slice(some.start + part.start, some.start + part.stop) if isinstance(some, slice) else some[part]


def _halves(row: Some, column: Some) -> list[tuple[Some, Some]]:
    """A block cut across its longer side."""
    rows, columns = _size(row), _size(column)
    if rows > columns:
        return [(_part(row, part), column) for part in (slice(0, rows // 2), slice(rows // 2, rows))]
    return [(row, _part(column, part)) for part in (slice(0, columns // 2), slice(columns // 2, columns))]


def _pick(some: Some, which: torch.Tensor) -> Index:
    index: Index = which.cpu().numpy()
    return index + some.start if isinstance(some, slice) else some[index]


def _look_within(half: torch.Tensor, limit: torch.Tensor, column_limit: torch.Tensor | None) -> Found:
    """Find the values of a look that are within limits, which are not negative."""
    # As integers, numbers that are not negative keep their order, and others stay negative.
    kind = torch.int16 if half.dtype == torch.bfloat16 else torch.int32
    bits, limit, least = half.view(kind), limit.view(kind), Least()
    column_limit = None if column_limit is None else column_limit.view(kind)
    for part in cached_parts(bits):
        least.see(bits[part])
    return find_within(bits, limit, column_limit, least)


def _largest(kind: torch.dtype) -> float:
    """A number of this type above every squared distance and every limit."""
    return np.inf if kind.is_floating_point else torch.iinfo(kind).max
