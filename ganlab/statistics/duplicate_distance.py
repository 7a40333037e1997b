"""The distance within which two images count as duplicates: that of a given share of the pairs of different real images.

Invariant: copies among the real images change neither the distance nor the pairs that it rests on, and more real images
of one source change how well the distance is known, not what it is.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ganlab.pairs.closest import Candidates, candidates_within
from ganlab.pairs.exact import Array, Images, as_images, squared_distances, squared_limit
from ganlab.randomness import generator_for
from ganlab.statistics.support import estimate_from_degrees

RATE = 1e-4
"""Share of the pairs of different real images that are duplicates at the default distance."""

RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
LEAST_PAIRS = 10
"""Pairs within a distance that show its rate: with fewer, the distance is known to no better than a factor."""

COPY_SHARE = 1 / 16
"""Distance of copies, in units of the median distance of two real images."""

LEAST_DIFFERENT = 1 / 10
"""Share of the images left when near copies are set aside; less would be left of tight clusters, which are no copies."""

MOST_IMAGES = 2**14
_MOST_LISTED = 2**22  # pairs
_ALL_PAIRS = 2**17  # so few are listed without looking for a limit
_PILOT = 500  # images whose pairs give the typical distance
_MARGIN = 2  # pairs listed, in units of those that the largest rate asks for


@dataclass(frozen=True)
class DuplicateDistance:
    """A distance of duplicates, and the real pairs that it rests on.

    Attributes
    ----------
    distance : float
        Euclidean, in units of the images' values.
    low, high : float
        Interval of the distance that the rate has among all pairs of the source of the real images.
    low_by_variance : float
        Where it would begin without the bound by the largest mode of the real images: at least `low`.
    rate : float
        Share of the pairs of different real images that was asked for.
    images, copies : int
        Real images compared, and how many of them were set aside as copies of others.
    pairs, within : int
        Pairs of different real images, and how many of them are at most `distance` apart. Equal distances can make
        ``within / pairs`` larger than `rate`.
    with_copies, with_copies_high : float
        Share of all pairs of the real images, copies with them, that are at most `distance` apart, and the upper end of
        its interval: what p2 is if the source itself repeats images.
    """

    distance: float
    low: float
    low_by_variance: float
    high: float
    rate: float
    images: int
    copies: int
    pairs: int
    within: int
    with_copies: float
    with_copies_high: float

    @property
    def distances(self) -> tuple[float, float, float, float]:
        """Ends of the interval and the distance between them, in ascending order."""
        return self.low, self.low_by_variance, self.distance, self.high

    @property
    def probability(self) -> float:
        """P(two different real images are at most `distance` apart): p2 of the real images."""
        return self.within / self.pairs


def images_needed(rate: float) -> int:
    """Return the number of different real images whose pairs show a rate: `LEAST_PAIRS` of them within its distance.

    Raises
    ------
    ValueError
        For a rate that is not between 0 and 1, exclusive.
    """
    _check_rate(rate)
    images = math.ceil((1 + math.sqrt(1 + 8 * LEAST_PAIRS / rate)) / 2)
    return images if _expected(rate, images) >= LEAST_PAIRS else images + 1


def default_rate(images: int) -> float:
    """Return `RATE`, or the smallest of `RATES` above it that the pairs of so many different real images show.

    Raises
    ------
    ValueError
        For too few images for the largest of `RATES`.
    """
    for rate in sorted(RATES):
        if rate >= RATE and images >= images_needed(rate):
            return rate
    raise ValueError(_too_few(max(RATES), images))


def duplicate_distance(
    images: Array, rate: float = RATE, confidence: float = 0.95, order: npt.NDArray[np.int64] | None = None
) -> DuplicateDistance:
    """Measure the distance within which a share of the pairs of different real images lie.

    Parameters and errors are those of `duplicate_distances`; ValueError too when the rate can't be shown.
    """
    (found,), close = _distances(images, (rate,), confidence, order)
    if found is None:
        raise ValueError(_too_few(rate, close.different))
    return found


def duplicate_distances(
    images: Array,
    rates: Sequence[float] = RATES,
    confidence: float = 0.95,
    order: npt.NDArray[np.int64] | None = None,
) -> dict[float, DuplicateDistance | None]:
    """Measure the distances within which given shares of the pairs of different real images lie.

    Pairs nearer than `COPY_SHARE` of the median distance are copies when they stand apart: when no more pairs lie
    between that distance and twice it than within it. Otherwise equal images alone are. One image of each group of
    copies is kept.

    Parameters
    ----------
    images
        (n, ...) uint8 or float32, n >= 2.
    rates
        Shares of the pairs, each between 0 and 1.
    confidence
        Level of the intervals.
    order : int64 (n,), optional
        Numbers of the images in the order in which they are looked at; by default one fixed random order. It decides
        which image of a group of copies is kept and, of more than `MOST_IMAGES`, which are compared.

    Returns
    -------
    dict
        The distance of each rate; None where fewer than `images_needed` different images are left.

    Raises
    ------
    ValueError
        Images that cannot be compared, or a rate that is not between 0 and 1.
    """
    found, _ = _distances(images, rates, confidence, order)
    return dict(zip(rates, found, strict=True))


@dataclass(frozen=True, eq=False)
class _ClosePairs:
    """All pairs of different images up to a distance, and perhaps others.

    Attributes
    ----------
    pairs : Candidates
        Of the images of the mask `kept` alone.
    squared_limit : float
        Largest squared distance of which all pairs are listed.
    kept : bool (n,)
        The images that are no copies of others.
    with_copies : Candidates
        Pairs of all n images.
    times : int64 (n,)
        How often each of these was there.
    """

    pairs: Candidates
    squared_limit: float
    kept: npt.NDArray[np.bool_]
    with_copies: Candidates
    times: npt.NDArray[np.int64]

    @property
    def images(self) -> int:
        return int(self.times.sum())

    @property
    def different(self) -> int:
        return int(self.kept.sum())

    @property
    def total(self) -> int:
        return math.comb(self.different, 2)

    def kth(self, count: float) -> float:
        """Distance of the `count`-th closest pair; infinite for one that isn't listed."""
        place = max(math.ceil(count) - 1, 0)
        squared = self.pairs.smallest(place) if place < len(self.pairs.low) else math.inf
        if squared > self.squared_limit:
            return math.inf
        distance = math.sqrt(squared)
        return distance if distance**2 >= squared else math.nextafter(distance, math.inf)

    def degrees(self, distance: float) -> npt.NDArray[np.int64]:
        """(different,) the number of images at most so far from each."""
        near = self.pairs.index[self.pairs.within(distance**2)]
        return np.bincount(near.ravel(), minlength=len(self.kept))[self.kept]

    def degrees_with_copies(self, distance: float) -> npt.NDArray[np.int64]:
        """(images,) the number of images at most so far from each, copies with them on both sides."""
        i, j = self.with_copies.index[self.with_copies.within(distance**2)].T
        degrees = self.times - 1
        for one, other in ((i, j), (j, i)):
            degrees = degrees + np.bincount(one, self.times[other], len(degrees)).astype(np.int64)
        return np.repeat(degrees, self.times)


def _distances(
    images: Array, rates: Sequence[float], confidence: float, order: npt.NDArray[np.int64] | None
) -> tuple[list[DuplicateDistance | None], _ClosePairs]:
    """The distance of each rate, and the pairs that it was found among."""
    for rate in rates:
        _check_rate(rate)
    rows = as_images(images, at_least=2).values
    if order is None:
        order = generator_for(0, "duplicate distance").permutation(len(rows))
    looked = _picked(rows, order[:MOST_IMAGES])
    share = _MARGIN * max(rates)
    while True:
        close = _close_pairs(looked, share)
        found = [_distance(close, rate, confidence) for rate in rates]
        if all(each is None or math.isfinite(each.high) for each in found):
            return found, close
        share *= 2


def _close_pairs(rows: Array, share: float) -> _ClosePairs:
    """List the closest pairs of different images, about this share of all, at least."""
    group = _groups_of_equal(rows)
    first = np.unique(group, return_index=True)[1]
    distinct = _picked(rows, first)
    if len(distinct) < 2:
        none = Candidates(Images(distinct), np.empty((0, 2), np.int64), np.empty(0), np.empty(0))
        return _ClosePairs(none, math.inf, np.ones(len(distinct), bool), none, np.bincount(group))
    typical = _pair_distances(distinct[:_PILOT])
    copy_distance = COPY_SHARE * float(np.median(typical))
    beyond = typical[typical > copy_distance]
    # Copies of few images, each a little different, are many pairs: fewer images bound their number.
    listed = (len(typical) - len(beyond)) / len(typical) + share
    most = int(math.sqrt(2 * _MOST_LISTED / listed))
    if most < len(distinct):
        distinct, group = distinct[:most], group[: first[most]]
    everything = math.comb(len(distinct), 2) <= _ALL_PAIRS or share >= 1
    limit = _reach(distinct) if everything else float(np.quantile(beyond, share))
    reach = max(limit, 2 * copy_distance)
    close = candidates_within(distinct, reach)
    kept = _one_of_each(close, len(distinct), copy_distance)
    both_kept = kept[close.index[:, 0]] & kept[close.index[:, 1]]
    return _ClosePairs(close.take(both_kept), float(squared_limit(reach)), kept, close, np.bincount(group))


def _picked(rows: Array, numbers: npt.NDArray[np.int64]) -> Array:
    """The images of these numbers; no copy of all where they are all in their order."""
    picked: Array = rows if np.array_equal(numbers, np.arange(len(rows))) else rows[numbers]
    return picked


def _groups_of_equal(rows: Array) -> npt.NDArray[np.int64]:
    """(n,) number of each image's group of equal ones, in the order in which these are first seen."""
    groups: dict[bytes, int] = {}
    digests = (hashlib.blake2b(row, digest_size=16).digest() for row in rows)
    return np.array([groups.setdefault(digest, len(groups)) for digest in digests], dtype=np.int64)


def _reach(rows: Array) -> float:
    """A distance that no pair exceeds: twice the largest from the first image (triangle inequality)."""
    images = Images(rows)
    from_first = squared_distances(images, images, np.zeros(len(rows), np.int64), np.arange(len(rows)))
    return 2 * math.sqrt(from_first.max())


def _pair_distances(rows: Array) -> npt.NDArray[np.float64]:
    images = Images(rows)
    i, j = np.triu_indices(len(rows), 1)
    return np.sqrt(squared_distances(images, images, i, j).astype(np.float64))


def _one_of_each(close: Candidates, images: int, copy_distance: float) -> npt.NDArray[np.bool_]:
    """Mask of the images to keep: the first of each group of copies."""
    equal, near, twice = (close.within(squared) for squared in (0, copy_distance**2, 4 * copy_distance**2))
    if twice.sum() > 2 * near.sum():  # close pairs of all distances, as different images have
        near = equal
    first = _first_of_each(close.index[near], images)
    if len(first) < LEAST_DIFFERENT * images:
        first = _first_of_each(close.index[equal], images)
    kept = np.zeros(images, dtype=bool)
    kept[first] = True
    return kept


def _first_of_each(pairs: npt.NDArray[np.int64], images: int) -> npt.NDArray[np.int64]:
    """The first image of each group that some pairs connect."""
    i, j = pairs.T
    _, group = connected_components(coo_array((np.ones(len(pairs), bool), (i, j)), (images, images)), directed=False)
    return np.unique(group, return_index=True)[1]


def _distance(close: _ClosePairs, rate: float, confidence: float) -> DuplicateDistance | None:
    """The distance of one rate: None where it can't be shown, with ends that are infinite where too few are listed."""
    wanted = _expected(rate, close.different)
    if wanted < LEAST_PAIRS:
        return None
    distance = close.kth(wanted)
    degrees = close.degrees(distance)
    within = int(degrees.sum()) // 2
    p2 = estimate_from_degrees(degrees, confidence)
    # Were p2 at this distance larger than the count says, by a factor, so would it be at those a little nearer: the
    # distance of the rate would be that of fewer pairs, by the factor.
    low, by_variance = (close.kth(within * p2.p2 / high) for high in (p2.p2_high, p2.p2_high_by_variance))
    high = close.kth(min(within * p2.p2 / p2.p2_low, close.total))
    copies = close.images - close.different
    if copies and math.isfinite(distance):
        p2 = estimate_from_degrees(close.degrees_with_copies(distance), confidence)
    return DuplicateDistance(
        distance, low, by_variance, high, rate, close.images, copies, close.total, within, p2.p2, p2.p2_high
    )


def _expected(rate: float, images: int) -> float:
    return rate * math.comb(images, 2)


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(
            f"rate: got {rate}; allowed is between 0 and 1, exclusive; give a share of the pairs, such as 1e-4"
        )


def _too_few(rate: float, different: int) -> str:
    return (
        f"real images: got {different:,} different ones; a rate of {rate:g} needs {images_needed(rate):,} "
        f"({LEAST_PAIRS} pairs within its distance); give more real images, a larger rate, or a distance"
    )
