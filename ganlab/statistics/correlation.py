"""Duplicate probability at every threshold, generated beside real images: diversity without a choice of threshold.

Invariant: counts of pairs within each distance are exact; each probability comes with the number of pairs it was
counted over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganlab.pairs.estimates import bounded_distances
from ganlab.pairs.exact import (
    Array,
    Images,
    as_images,
    block_distances,
    squared_distances,
    squared_limit,
)

POINTS = 100
_ROWS, _COLUMNS = 512, 4096
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
    some = Images(rows.values[:: -(-len(rows) // 1000)])
    i, j = np.triu_indices(len(some), 1)
    top = max(float(np.sqrt(np.median(squared_distances(some, some, i, j)))), 2 * threshold) if len(i) else threshold
    return np.unique(np.concatenate([np.linspace(0, top, POINTS + 1)[1:], [threshold], np.ravel(others)]))


@np.errstate(over="raise", divide="raise", invalid="raise")
def correlation_curve(images: Array, distances: npt.ArrayLike) -> CorrelationCurve:
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
    rows = as_images(images, at_least=2)
    at = np.asarray(distances, dtype=np.float64)
    if at.ndim != 1 or not np.isfinite(at).all() or (at < 0).any() or (np.diff(at) <= 0).any():
        raise ValueError(f"distances: got {at}; allowed are finite numbers of at least 0, rising")
    limits = squared_limit(at)
    histogram = np.zeros(len(at) + 1, np.int64)
    for start in range(0, len(rows), _ROWS):
        stop = min(start + _ROWS, len(rows))
        for first in range(start, len(rows), _COLUMNS):
            last = min(first + _COLUMNS, len(rows))
            later = np.arange(start, stop)[:, None] < np.arange(first, last)
            histogram += _histogram(rows, slice(start, stop), slice(first, last), later, limits)
    pairs = len(rows) * (len(rows) - 1) // 2
    return CorrelationCurve(at, np.cumsum(histogram[:-1]), np.full(len(at), pairs))


@np.errstate(over="raise", divide="raise", invalid="raise")
def degrees_within(images: Array, distances: npt.ArrayLike) -> Counts:
    """Count the duplicates of each image of a set at several distances, by looking at all pairs.

    Parameters
    ----------
    images
        (n, ...) uint8 or float32, n >= 2.
    distances : array (t,)
        Distances (not squared), in any order.

    Returns
    -------
    int64 (t, n)

    Raises
    ------
    ValueError
        As `correlation_curve`.
    """
    rows = as_images(images, at_least=2)
    limits = squared_limit(np.asarray(distances, dtype=np.float64))
    degrees = np.zeros((len(limits), len(rows)), np.int64)
    for start in range(0, len(rows), _ROWS):
        row = slice(start, min(start + _ROWS, len(rows)))
        for first in range(start, len(rows), _COLUMNS):
            column = slice(first, min(first + _COLUMNS, len(rows)))
            later = np.arange(row.start, row.stop)[:, None] < np.arange(column.start, column.stop)
            for degree, near in zip(degrees, _within(rows, row, column, limits), strict=True):
                near &= later
                degree[row] += near.sum(axis=1)
                degree[column] += near.sum(axis=0)
    return degrees


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


def _within(rows: Images, row: slice, column: slice, limits: Floats) -> Iterator[npt.NDArray[np.bool_]]:
    """Masks of the pairs of a block within each of several squared distances."""
    if rows.integer:
        squared = block_distances(rows, rows, row, column).numpy()
        yield from (squared <= limit for limit in limits)
        return
    bounded = bounded_distances(rows, rows, row, column)
    low, high = bounded.low.numpy(), bounded.high.numpy()
    for limit in limits:
        near = high <= limit
        i, j = np.nonzero(~near & (low <= limit))
        near[i, j] = squared_distances(rows, rows, i + row.start, j + column.start) <= limit
        yield near


def _histogram(rows: Images, row: slice, column: slice, wanted: npt.NDArray[np.bool_], limits: Floats) -> Counts:
    """(t + 1,) pairs of a block by the first limit that they do not exceed."""
    if rows.integer:
        return _counted(block_distances(rows, rows, row, column).numpy()[wanted], limits)
    bounded = bounded_distances(rows, rows, row, column)
    low, high = bounded.low.double().numpy()[wanted], bounded.high.numpy()[wanted]
    place, highest = np.searchsorted(limits, low), np.searchsorted(limits, high)
    doubtful = np.flatnonzero(place != highest)
    i, j = (part[doubtful] for part in np.nonzero(wanted))
    place[doubtful] = np.searchsorted(limits, squared_distances(rows, rows, i + row.start, j + column.start))
    return np.bincount(place, minlength=len(limits) + 1)


def _counted(squared: Array, limits: Floats) -> Counts:
    return np.bincount(np.searchsorted(limits, squared), minlength=len(limits) + 1)
