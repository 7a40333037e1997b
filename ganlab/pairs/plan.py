"""The cheapest way to search for the nearest: which levels to look at, in which order of the images.

Invariant: a plan changes the time of a search, never its answer.
"""

from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from ganlab.pairs.blocks import groups_hit, within
from ganlab.pairs.devices import least_seconds
from ganlab.pairs.exact import Images, Index, integer_product
from ganlab.pairs.lower_bounds import PAIR_COST, Floats, Projection, Screen, half_distances, vector_type
from ganlab.pairs.pivots import by_clusters

_JUDGED = 512  # rows, and columns, of any order, in which survival is measured
_JUDGED_BLOCKS, _ONE_OF = 8, 32  # most blocks in their order in which it is measured, and the share of all blocks
_GOLDEN = 0.618  # places spread evenly whatever their number
# Of passing over one value of a look, and over one of an exact block, in products of two int8 values, on one processor.
_LOOK_PASSES, _EXACT_PASSES = 400, 700
_HIT_PASSES = 2  # more, of a look, over groups that have a hit
_TIMED = 128, 1024  # values of vectors, and of images, by whose products the cost of a look is measured
_TIMED_ROWS, _TIMED_COLUMNS = 128, 1024  # of them: so few that hardly anything comes between
_LEAST_COST, _LARGEST_COST = 0.5, 8.0  # of a look's product: what lies outside was disturbed


class Plan(NamedTuple):
    """The way to search for the nearest.

    Parameters
    ----------
    levels
        The levels to look at, in turn; none for exact products of all.
    mutual
        Whether pairs matter within the bound of either image, so that each pair of a set is compared only once.
    order
        The numbers of the rows, and of the columns, in the order of clusters; None for that of first coordinates,
        in which windows of the columns are compared with the rows.
    """

    levels: tuple[int, ...]
    mutual: bool
    order: tuple[Index, Index] | None


def cheapest_plan(
    rows: Images,
    columns: Images,
    screen: Screen | None,
    bounds: Floats,
    column_bounds: Floats | None,
    exact_cost: float | None,
    block: tuple[int, int],
    device: str = "cpu",
    itself: bool = False,
) -> Plan:
    """The plan of the least cost, judged by what each level leaves of a sample of the pairs.

    Parameters
    ----------
    rows, columns, screen
        As for a search.
    bounds, column_bounds
        (r,) and (c,) squared distances within which the pairs of rows matter, and of columns, if they do.
    exact_cost
        Cost of an exact product for each pair, in products of two int8 values; None where it is one of these.
    block
        Most rows and columns that are compared at a time.
    device
        Where products run.
    itself
        Rows and columns are one set.
    """
    levels, mutual = () if screen is None else screen.levels_for(rows, columns), column_bounds is not None
    if screen is None or not levels:
        return Plan((), mutual, None)
    first_rows, first_columns = (screen.project(images, levels[0], device) for images in (rows, columns))
    order = by_clusters(first_rows, first_columns, bounds, column_bounds)
    judged_rows, judged_columns = _judged(len(rows), 0.25), _judged(len(columns), 0.75)  # of one set no image twice
    some_rows, some_columns = Images(rows.values[judged_rows]), Images(columns.values[judged_columns])
    short_rows, short_columns, every = first_rows.take(judged_rows), first_columns.take(judged_columns), slice(0, None)
    pairs_left, area_left = [], []
    for depth, level in enumerate(levels):
        if depth:
            short_rows, short_columns = (screen.project(images, level, device) for images in (some_rows, some_columns))
        left = _survive(screen, short_rows, every, short_columns, every, bounds[judged_rows], None)
        pairs_left.append(float(left.double().mean()))
        area_left.append(_area(left))
    windows = _window(first_rows, first_columns, screen, bounds)
    ordered = _area_in_order(screen, first_rows, first_columns, bounds, column_bounds, order, block)
    exact = rows.features + _EXACT_PASSES if exact_cost is None else exact_cost
    look_cost = _look_cost(device)

    def cost(chosen: tuple[int, ...], in_order: bool) -> float:
        """Estimated cost of a plan for each of all pairs, in products of two int8 values."""
        area = 1.0 if in_order else windows
        total, left = 0.0, area
        for depth in chosen:
            passes = 1 + _HIT_PASSES * groups_hit(pairs_left[depth])
            total += left * (levels[depth] * look_cost + _LOOK_PASSES * passes)
            if in_order:
                left = min(left, ordered * min(1.0, area_left[depth] / max(area_left[0], 1e-9)))
            elif exact_cost is not None:  # before one of integers hardly any row or column of a window is left out
                left = min(left, area * area_left[depth])
        total += min(left * exact, pairs_left[chosen[-1]] * PAIR_COST * rows.features) if chosen else area * exact
        return total * (0.5 if itself and in_order else 1.0)

    some = [chosen for size in range(1, len(levels) + 1) for chosen in combinations(range(len(levels)), size)]
    orders = (True,) if mutual and not itself else (True, False)  # windows are those of the bounds of rows
    ways = [((), True), *((chosen, in_order) for chosen in some for in_order in orders)]
    chosen, in_order = min(ways, key=lambda way: cost(*way))
    return Plan(
        tuple(levels[depth] for depth in chosen),
        mutual and in_order,
        order if in_order and (chosen or mutual) else None,
    )


def _survive(
    screen: Screen,
    rows: Projection,
    row: slice | Index,
    columns: Projection,
    column: slice | Index,
    bounds: Floats,
    column_bounds: Floats | None,
) -> torch.Tensor:
    """(r, c) mask of the pairs of a block that a look leaves, of which no column's bound or every one is given."""
    half = half_distances(rows, row, columns, column)
    return within(half, *screen.block_limits(half, rows.error[row], columns.error[column], bounds, column_bounds))


def _area(left: torch.Tensor) -> float:
    """Share of a block that the rows and columns with a pair left take."""
    return float(left.any(dim=1).double().mean() * left.any(dim=0).double().mean())


def _area_in_order(
    screen: Screen,
    rows: Projection,
    columns: Projection,
    bounds: Floats,
    column_bounds: Floats | None,
    order: tuple[Index, Index],
    block: tuple[int, int],
) -> float:
    """Share of blocks that a first look leaves, measured in some blocks of images in order."""
    row_blocks, column_blocks = (-(-len(each) // size) for each, size in zip(order, block, strict=True))
    some = max(1, min(_JUDGED_BLOCKS, row_blocks * column_blocks // _ONE_OF))
    area = 0.0
    for number in range(some):
        start = int((number + 0.5) * row_blocks / some) * block[0]
        first = int(number * _GOLDEN % 1 * column_blocks) * block[1]
        row, column = order[0][start : start + block[0]], order[1][first : first + block[1]]
        other = None if column_bounds is None else column_bounds[column]
        left = _survive(screen, rows, row, columns, column, bounds[row], other)
        area += _area(left) / some
    return area


@cache
def _look_cost(device: str) -> float:
    """Cost of a product of two values of vectors, in products of two int8 values; tried once."""
    short, long = _TIMED
    sizes = (_TIMED_ROWS, _TIMED_COLUMNS)
    vectors = [torch.ones(rows, short, dtype=vector_type(device), device=device) for rows in sizes]
    images = [torch.ones(rows, long, dtype=torch.int8, device=device) for rows in sizes]
    look, exact = least_seconds(
        [lambda: vectors[0] @ vectors[1].T, lambda: integer_product(images[0], images[1], device)], device
    )
    return min(max((look / short) / (exact / long), _LEAST_COST), _LARGEST_COST)


def _judged(images: int, offset: float) -> Index:
    """Places of images, evenly spaced, among which survival is measured."""
    some = min(_JUDGED, -(-images // 2))
    return ((np.arange(some) + offset) * (images / some)).astype(int)


def _window(rows: Projection, columns: Projection, screen: Screen, bounds: Floats) -> float:
    """Share of the pairs whose first coordinates are near enough for their row's bound."""
    if not (np.isfinite(rows.squared).all() and np.isfinite(columns.squared).all()):
        return 1.0
    reach = screen.reach(bounds, rows.error + columns.error.max())
    first = np.sort(columns.first_coordinate)
    start, stop = (np.searchsorted(first, rows.first_coordinate + sign * reach) for sign in (-1, 1))
    return float(np.mean(stop - start)) / len(first)
