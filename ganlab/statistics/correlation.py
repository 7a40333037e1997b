"""Duplicate probability at every threshold, generated beside real images: diversity without a choice of threshold.

Invariant: counts of pairs within each distance are exact; each probability comes with the number of pairs it was
counted over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ganlab.pairs.closest import candidates_within
from ganlab.pairs.estimates import Bounds, as_limits, bounded_distances
from ganlab.pairs.exact import Array, Images, as_images, squared_distances, squared_limit
from ganlab.pairs.threads import in_threads

POINTS = 100
_ROWS, _COLUMNS = 512, 4096
_CELLS = 2**15  # by which distances are counted; few hold a limit
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CorrelationCurve:
    """Pairs of one set within each distance: the correlation integral (Grassberger & Procaccia 1983).

    Attributes
    ----------
    distances : float64 (t,)
        Rising.
    within, pairs : int64 (t,)
        Pairs at most so far apart, of how many that were counted.
    """

    distances: Floats
    within: Counts
    pairs: Counts

    @property
    def probability(self) -> Floats:
        """(t,) P(two images are at most so far apart): p2 at every threshold."""
        return self.within / self.pairs

    @property
    def effective_number(self) -> Floats:
        """(t,) 1/p2 at every threshold; infinite where no pair is so close."""
        number = np.full(len(self.distances), np.inf)
        np.divide(self.pairs, self.within, out=number, where=self.within > 0)
        return number

    def sharpened(self, squared: npt.ArrayLike, samples: int, complete_to: float) -> "CorrelationCurve":
        """With the counts over all pairs of a larger sample, as far as its close pairs are known.

        Parameters
        ----------
        squared : array (m,)
            Squared distances of every pair of the sample that is at most `complete_to` apart.
        samples : int
            Images of the sample.
        complete_to : float
            Distance (not squared).
        """
        known = self.distances <= complete_to
        larger = pairs_curve(squared, samples, self.distances)
        within, pairs = np.where(known, larger.within, self.within), np.where(known, larger.pairs, self.pairs)
        return CorrelationCurve(self.distances, within, pairs)


def choose_distances(images: Array, threshold: float, others: npt.ArrayLike = ()) -> Floats:
    """(t,) distances to draw a curve at: evenly up to the median distance of these images, the threshold, and others.

    Beyond the median distance of two images nothing is learnt about duplicates; it is that of a thousand of the images,
    taken from across the set, or of all. Raises ValueError as `correlation_curve`.
    """
    if not 0 <= 2 * threshold < np.inf:
        raise ValueError(f"threshold: got {threshold}; allowed is a finite distance >= 0, in units of the values")
    rows = as_images(images, at_least=2)
    some = candidates_within(rows.values[:: -(-len(rows) // 1000)], np.inf)
    middle = [some.smallest(rank) for rank in ((len(some.low) - 1) // 2, len(some.low) // 2)]
    top = max(float(np.sqrt(np.mean(middle))), 2 * threshold)
    return np.unique(np.concatenate([np.linspace(0, top, POINTS + 1)[1:], [threshold], np.ravel(others)]))


@np.errstate(over="raise", divide="raise", invalid="raise")
def curve_and_degrees(
    images: Array | Images, distances: npt.ArrayLike, rate_distances: npt.ArrayLike
) -> tuple[CorrelationCurve, Counts]:
    """Count the pairs of a set within each distance, and the duplicates of each image, looking once at each pair.

    Parameters
    ----------
    distances : array (t,)
        Of the curve.
    rate_distances : array (r,)
        At which the duplicates of each image are counted.
    """
    return _counted(as_images(images, at_least=2), _checked(distances), np.asarray(rate_distances, dtype=np.float64))


@np.errstate(over="raise", divide="raise", invalid="raise")
def correlation_curve(images: Array | Images, distances: npt.ArrayLike) -> CorrelationCurve:
    """Count the pairs of a set within each distance, by looking at all of them.

    Parameters
    ----------
    images
        (n, ...) uint8 or float32, n >= 2; time grows as n², about as for a matrix product of all pairs.
    distances : array (t,)
        Distances (not squared), rising.

    Raises
    ------
    ValueError
        Images that cannot be compared, or distances that are not rising, negative or not finite.
    """
    return _counted(as_images(images, at_least=2), _checked(distances), np.empty(0))[0]


def pairs_curve(squared: npt.ArrayLike, samples: int, distances: npt.ArrayLike) -> CorrelationCurve:
    """Count the listed pairs of a sample within each distance.

    Parameters
    ----------
    squared : array (m,)
        Squared distances of the pairs, in any order: at least of all that are at most the largest distance apart.
    samples : int
        Images of the sample.
    distances : array (t,)
        Distances (not squared), not falling.
    """
    at = np.asarray(distances, dtype=np.float64)
    within = np.searchsorted(np.sort(np.asarray(squared)), squared_limit(at), side="right").astype(np.int64)
    return CorrelationCurve(at, within, np.full(len(at), samples * (samples - 1) // 2))


def diversity_ratio(generated: CorrelationCurve, real: CorrelationCurve) -> Floats:
    """(t,) real over generated p2 at each distance: the generator's support in units of the data's.

    NaN where either set has no pair so close. ValueError for curves at different distances.
    """
    if not np.array_equal(generated.distances, real.distances):
        raise ValueError("got curves at different distances; allowed is one set of distances for both")
    ratio = np.full(len(real.distances), np.nan)
    both = (generated.within > 0) & (real.within > 0)
    np.divide(real.probability, generated.probability, out=ratio, where=both)
    return ratio


def _checked(distances: npt.ArrayLike) -> Floats:
    at = np.asarray(distances, dtype=np.float64)
    if at.ndim != 1 or not np.isfinite(at).all() or (at < 0).any() or (np.diff(at) <= 0).any():
        raise ValueError(f"distances: got {at}; allowed are finite numbers of at least 0, rising")
    return at


def _counted(rows: Images, distances: Floats, rate_distances: Floats) -> tuple[CorrelationCurve, Counts]:
    """The curve, and the duplicates of each image at the other distances, (r, n), of one look at all pairs."""
    limits, rate_limits = squared_limit(distances), squared_limit(rate_distances)

    def count(block: tuple[slice, slice]) -> tuple[Counts, list[tuple[Counts, Counts]]]:
        row, column = block
        bounds = bounded_distances(rows, rows, row, column)
        histogram = _histogram(rows, row, column, bounds, limits) if len(limits) else np.zeros(1, np.int64)
        return histogram, [
            (near.sum(axis=1), near.sum(axis=0)) for near in _within(rows, row, column, bounds, rate_limits)
        ]

    histogram = np.zeros(len(limits) + 1, np.int64)
    degrees = np.zeros((len(rate_limits), len(rows)), np.int64)
    blocks = list(_blocks(len(rows)))
    for (row, column), (part, degrees_of_part) in zip(blocks, in_threads(count, blocks), strict=True):
        histogram += part
        for degree, (by_row, by_column) in zip(degrees, degrees_of_part, strict=True):
            degree[row] += by_row
            degree[column] += by_column
    pairs = len(rows) * (len(rows) - 1) // 2
    return CorrelationCurve(distances, np.cumsum(histogram[:-1]), np.full(len(distances), pairs)), degrees


def _blocks(images: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of all pairs i < j: rows with themselves, then with later columns."""
    for start in range(0, images, _ROWS):
        row = slice(start, min(start + _ROWS, images))
        yield row, row
        for first in range(row.stop, images, _COLUMNS):
            yield row, slice(first, min(first + _COLUMNS, images))


def _within(rows: Images, row: slice, column: slice, bounds: Bounds, limits: Floats) -> Iterator[npt.NDArray[np.bool_]]:
    """Masks of the pairs of a block within each of several squared distances; of a row with itself those with i < j."""
    high = bounds.high if len(limits) else bounds.low
    for limit in limits:
        near = high <= as_limits(limit, high)
        if bounds.slack is not None:
            i, j = torch.nonzero(~near & (bounds.low <= as_limits(limit, bounds.low)), as_tuple=True)
            near[i, j] = torch.from_numpy(_squared(rows, row, column, i, j) <= limit)
        yield (near.triu_(1) if row == column else near).numpy()


def _histogram(rows: Images, row: slice, column: slice, bounds: Bounds, limits: Floats) -> Counts:
    """(t + 1,) pairs of a block by the first limit that they do not exceed; of a row with itself only those with i < j.

    Most are counted by cells of equal width; only pairs of a cell that may hold a limit are looked at.
    """
    values, pairs = bounds.low.flatten(), None
    if row == column:
        pairs = torch.nonzero(torch.ones_like(bounds.low, dtype=torch.bool).triu_(1).flatten())[:, 0]
        values = values[pairs]
    cell, edges = _cells(values, float(limits.max(initial=0)))
    slack = 0.0 if bounds.slack is None else sum(float(each.max()) for each in bounds.slack)
    first = np.searchsorted(limits, edges[:-3], side="left")  # with one cell more on each side, for what is rounded
    held = first != np.searchsorted(limits, edges[3:] + slack, side="right")
    counted = torch.bincount(cell, minlength=len(held)).numpy()
    histogram = np.bincount(first[~held], counted[~held], len(limits) + 1).astype(np.int64)
    looked = torch.nonzero(torch.from_numpy(held)[cell])[:, 0]
    looked = looked if pairs is None else pairs[looked]
    i, j = looked // bounds.low.shape[1], looked % bounds.low.shape[1]
    place = np.searchsorted(limits, bounds.low[i, j].double().numpy())
    doubtful = np.flatnonzero(place != np.searchsorted(limits, bounds.high_of(i, j)))
    place[doubtful] = np.searchsorted(limits, _squared(rows, row, column, i[doubtful], j[doubtful]))
    return histogram + np.bincount(place, minlength=len(limits) + 1)


def _cells(values: torch.Tensor, top: float) -> tuple[torch.Tensor, Floats]:
    """The cell of each value, and the edges of all cells with one more on each side.

    Cells are of one width up to the largest value, or `top`; the first one has all values below 0, the last all above.
    """
    top = min(top, float(values.max())) if len(values) else 0.0
    width = top / _CELLS if top > _CELLS * np.finfo(np.float64).tiny else 1.0
    edges = np.arange(-1, _CELLS + 5, dtype=np.float64) * width
    edges[0], edges[-1] = -np.inf, np.inf
    return (values.double() / width).clamp_(0, _CELLS + 2).int(), edges


def _squared(rows: Images, row: slice, column: slice, i: torch.Tensor, j: torch.Tensor) -> Array:
    """Exact squared distances of some pairs of a block."""
    return squared_distances(rows, rows, i.numpy() + row.start, j.numpy() + column.start)
