"""Diversity of a generator beyond order 2: unseen share, Hill numbers of order 0, 1 and 2, and the rarefaction curve.

Invariant: everything is computed from the number of duplicates of each image, and what holds in expectation holds
whether or not duplication is transitive. docs/statistics.md derives the formulas.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from ganlab.statistics.support import check_confidence, degree_histogram, estimate_from_degrees

Float = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Contribution = Callable[[Float], Float]


@dataclass(frozen=True)
class UnseenShare:
    """Probability that the next image duplicates none of those seen, with its interval.

    Attributes
    ----------
    value : float
        Share of the images that have no duplicate (Good–Turing).
    low, high : float
        Interval of the probability, for the images that were seen.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class EffectiveNumber:
    """Hill number of one order: as diverse as so many equally likely images, no two of them duplicates.

    Attributes
    ----------
    order : int
        0, 1 or 2; the higher, the less the images count that are rarely made.
    observed : float
        Hill number of the sample, as if it were all that the generator makes.
    value : float
        Estimate for the generator, at least that of any higher order.
    low, high : float
        Interval. Where `is_lower_bound`, `low` is a confidence limit of the Hill number, and `high` is the sampling
        error of `value` alone: no sample sets an upper limit on what was not seen.
    is_lower_bound : bool
        True when `value` estimates a lower bound: order 0 and 1; and order 2 when no duplicate was seen. Then all
        orders have the one-sided bound of order 2 for `value` and `low`, and an infinite `high`.
    """

    order: int
    observed: float
    value: float
    low: float
    high: float
    is_lower_bound: bool


@dataclass(frozen=True, eq=False)
class Rarefaction:
    """Expected number of distinct images in samples of several sizes, with intervals.

    Attributes
    ----------
    sample_sizes : int64 (k,)
        Images of the sample.
    distinct, low, high : float64 (k,)
        Distinct images among them: up to the number of images seen by interpolation, beyond it by extrapolation.
    """

    sample_sizes: Index
    distinct: Float
    low: Float
    high: Float


def unseen_share(degrees: npt.ArrayLike, confidence: float = 0.95) -> UnseenShare:
    """Estimate the probability that the next image duplicates none of those seen.

    Parameters
    ----------
    degrees : integer array (n,)
        Number of duplicates of each image.
    confidence : float
        Level of the interval, between 0.5 and 1 (exclusive).

    Returns
    -------
    UnseenShare
        The share N₀/n of images without duplicates: unbiased for the probability after n − 1 images. Its squared error
        is, but for terms of order 1/n², [u(1 − u) + 2E/n]/n, with E the pairs of duplicates that have no other
        duplicate (Esty 1983 when duplication is transitive). The interval is the score interval of that variance with
        N₁, the images of one duplicate, for 2E, which is at most N₁.

    Raises
    ------
    ValueError
        As `ganlab.statistics.support.estimate_from_degrees`.
    """
    check_confidence(confidence)
    return _Sample.of(degrees).unseen_share(confidence)


def effective_numbers(
    degrees: npt.ArrayLike, orders: Sequence[int] = (0, 1, 2), confidence: float = 0.95
) -> tuple[EffectiveNumber, ...]:
    """Estimate Hill numbers of a generator: its diversity of order 0, 1 and 2.

    With Z(x) = P(X ~ x), the probability that an image duplicates x, they are E[1/Z(X)], exp(−E[log Z(X)]) and
    1/E[Z(X)] (Leinster and Cobbold 2012). When duplication is transitive, these are the number of distinct images, the
    exponential of their Shannon entropy, and the support size of `ganlab.statistics.support`. In any case none exceeds
    the largest number of images of the generator no two of which are duplicates.

    Parameters
    ----------
    degrees : integer array (n,)
        Number of duplicates of each image.
    orders : sequence of int
        Orders wanted, of 0, 1 and 2.
    confidence : float
        Level of the intervals, between 0.5 and 1 (exclusive).

    Returns
    -------
    tuple of EffectiveNumber
        In the order asked for. Order 0 is the lower bound of Chao (1984), order 1 the entropy estimator of Chao, Wang and
        Jost (2013), order 2 that of `ganlab.statistics.support`. An estimate below one of a higher order is raised to
        it, and so are the ends of its interval, since the Hill numbers are in that order.

    Raises
    ------
    ValueError
        Another order; else as `ganlab.statistics.support.estimate_from_degrees`.
    """
    for order in orders:
        if order not in (0, 1, 2):
            raise ValueError(f"order: got {order}; allowed are 0, 1 and 2; leave others out")
    sample = _Sample.of(degrees)
    support = estimate_from_degrees(degrees, confidence)
    second = EffectiveNumber(2, sample.observed(2), support.size, support.low, support.high, support.one_sided)
    if support.one_sided:
        numbers = tuple(replace(second, order=order, observed=sample.observed(order)) for order in (0, 1, 2))
    else:
        first = _raised(sample.first_order(confidence), second)
        numbers = _raised(sample.zeroth_order(confidence), first), first, second
    return tuple(numbers[order] for order in orders)


def rarefaction(
    degrees: npt.ArrayLike, sample_sizes: npt.ArrayLike | None = None, confidence: float = 0.95
) -> Rarefaction:
    """Estimate how many distinct images smaller samples hold, and larger ones would.

    Parameters
    ----------
    degrees : integer array (n,)
        Number of duplicates of each image.
    sample_sizes : integer array (k,), optional
        Sizes from 1 to 2n; by default 20 of them, evenly spaced, and n.
    confidence : float
        Level of the intervals, between 0.5 and 1 (exclusive).

    Returns
    -------
    Rarefaction
        Up to n the mean of Σ 1/(d + 1) over the samples of that size among those seen, d counted within the sample:
        the mean number of kinds when duplication is transitive (Hurlbert 1971), else a lower bound of the largest
        number of mutually distinct images. Beyond n as Chao et al. (2014), from the lower bound of order 0.

    Raises
    ------
    ValueError
        A size out of range; else as `ganlab.statistics.support.estimate_from_degrees`.
    """
    check_confidence(confidence)
    sample = _Sample.of(degrees)
    most = 2 * sample.size
    if sample_sizes is None:
        sample_sizes = np.union1d(np.linspace(1, most, 20, dtype=np.int64), sample.size)
    sizes = np.asarray(sample_sizes)
    if sizes.ndim != 1 or not np.issubdtype(sizes.dtype, np.integer) or not ((sizes > 0) & (sizes <= most)).all():
        raise ValueError(
            f"sample_sizes: got {sizes.dtype} {sizes.tolist()}; allowed are integers from 1 to {most}, twice the images "
            "seen; extrapolation beyond is not reliable"
        )
    points = [sample.distinct_among(int(size), confidence) for size in sizes]
    columns = np.array(points, dtype=np.float64).reshape(-1, 3).T
    return Rarefaction(sizes.astype(np.int64), *columns)


def _raised(number: EffectiveNumber, higher_order: EffectiveNumber) -> EffectiveNumber:
    """The number with value and interval raised to those of a higher order where they are below."""
    ends = {name: max(getattr(number, name), getattr(higher_order, name)) for name in ("value", "low", "high")}
    return replace(number, **ends)


def _kinds(degree: Float) -> Float:
    """Contribution of an image to the number of kinds."""
    return 1 / (degree + 1)


def _quantile(confidence: float) -> float:
    return float(special.ndtri((1 + confidence) / 2))


@dataclass(frozen=True)
class _Sum:
    """A sum over images, its standard deviation, and the part of that due to duplicates of different degrees."""

    value: float
    deviation: float
    by_hubs: float


@dataclass(frozen=True, eq=False)
class _Sample:
    """Degrees of a sample, ascending, and how many images have each: 0, 1 and 2 first, even where no image has them.

    An image of a kind seen m times has degree m − 1, so kinds seen once number f1 = N₀ and those seen twice f2 = N₁/2.
    Where duplication is not transitive that is their definition.
    """

    degree: Float
    images: Float

    @classmethod
    def of(cls, degrees: npt.ArrayLike) -> "_Sample":
        seen, images = degree_histogram(degrees)
        degree = np.union1d(np.arange(min(3, images.sum())), seen)
        counts = np.zeros(len(degree))
        counts[np.searchsorted(degree, seen)] = images
        return cls(degree.astype(np.float64), counts)

    @property
    def size(self) -> int:
        return int(self.images.sum())

    @property
    def once(self) -> float:
        return float(self.images[0])

    @property
    def twice(self) -> float:
        return float(self.images[1]) / 2

    def observed(self, order: int) -> float:
        share = (self.degree + 1) / self.size
        weight = self.images / self.size
        if order == 1:
            return math.exp(-float(weight @ np.log(share)))
        return float((weight @ share ** (order - 1)) ** (1 / (1 - order)))

    def unseen_share(self, confidence: float) -> UnseenShare:
        value = self.once / self.size
        part = _quantile(confidence) ** 2 / self.size
        ones = float(self.images[1]) / self.size + part  # the centre of its own score interval: none seen may be some
        centre = (value + part / 2) / (1 + part)
        half = math.sqrt(centre**2 - (value**2 - part * ones) / (1 + part))
        return UnseenShare(value, max(centre - half, 0.0), min(centre + half, 1.0))

    def zeroth_order(self, confidence: float) -> EffectiveNumber:
        z, seen = _quantile(confidence), self._sum(_kinds)
        unseen, by_once, by_twice = self._unseen_kinds()
        below = above = 0.0
        if unseen > 0:  # the interval of Chao (1987)
            twice = max(self.twice, 1.0)
            variance = self.once * by_once * (2 + by_once) + twice * by_twice * (2 + by_twice) - unseen
            factor = math.exp(z * math.sqrt(math.log1p(variance / unseen**2)))
            below, above = unseen - unseen / factor, unseen * factor - unseen
        # What was seen is certain when duplication is transitive, and not when it hangs on a few hubs.
        hubs = z * self._sum(_kinds, by_once, by_twice).by_hubs
        value = seen.value + unseen
        low = value - math.hypot(below, -value * math.expm1(-hubs / value))
        return EffectiveNumber(0, seen.value, value, max(low, 0), value + math.hypot(above, hubs), True)

    def first_order(self, confidence: float) -> EffectiveNumber:
        def contribution(degree: Float) -> Float:
            return np.asarray((special.digamma(self.size) - special.digamma(degree + 1)) / self.size)

        unseen, by_once, by_twice = self._unseen_entropy()
        seen = self._sum(contribution, by_once, by_twice)
        entropy, width = seen.value + unseen, _quantile(confidence) * seen.deviation
        ends = math.exp(entropy), math.exp(entropy - width), math.exp(entropy + width)
        return EffectiveNumber(1, self.observed(1), *ends, True)

    def distinct_among(self, size: int, confidence: float) -> tuple[float, float, float]:
        """Expected distinct images among so many, and their interval."""
        n = self.size

        def contribution(degree: Float) -> Float:
            if size >= n:
                return _kinds(degree)
            others = n - degree - 1
            missed = special.gammaln(others + 1) - special.gammaln(others - size + 1)
            missed -= special.gammaln(n + 1) - special.gammaln(n - size + 1)
            return np.asarray(-np.expm1(missed) * _kinds(degree))

        added, by_once, by_twice = self._added_kinds(max(size - n, 0))
        seen = self._sum(contribution, by_once, by_twice)
        value = min(seen.value + added, float(size))
        factor = math.exp(_quantile(confidence) * seen.deviation / value)
        return value, max(value / factor, 1.0), min(value * factor, float(size))

    def _unseen_kinds(self) -> tuple[float, float, float]:
        """Lower bound of the kinds not seen (Chao 1984), and its derivatives by f1 and f2."""
        once, twice, share = self.once, self.twice, 1 - 1 / self.size
        if twice >= 1:
            return share * once**2 / (2 * twice), share * once / twice, -share * once**2 / (2 * twice**2)
        pairs = share * once * (once - 1) / 2
        return pairs, share * (once - 0.5), -pairs

    def _unseen_entropy(self) -> tuple[float, float, float]:
        """Entropy of the unseen kinds (Chao, Wang and Jost 2013), and its derivatives by f1 and f2."""
        n, once, twice = self.size, self.once, self.twice
        if once == 0:
            return 0.0, 0.0, 0.0
        if twice < 1:
            once, twice = once - 1, 1.0
        both = (n - 1) * once + 2 * twice
        ratio = 2 * twice / both
        tail, slope = _geometric_tail(n, ratio)
        per_once, per_twice = -ratio * (n - 1) / both, 2 / both * (1 - ratio)
        weight = self.once / n
        return weight * tail, tail / n + weight * slope * per_once, weight * slope * per_twice

    def _added_kinds(self, more: int) -> tuple[float, float, float]:
        """Kinds that so many more images would add (Chao et al. 2014), and its derivatives by f1 and f2."""
        n, once = self.size, self.once
        unseen, by_once, by_twice = self._unseen_kinds()
        if unseen == 0:
            return 0.0, 0.0, 0.0
        both = n * unseen + once
        missed = (n * unseen / both) ** more
        by_ratio = more * missed * both / (n * unseen)  # of `missed`
        by_unseen = 1 - missed - unseen * by_ratio * n * once / both**2
        return (
            unseen * (1 - missed),
            by_unseen * by_once + unseen * by_ratio * n * unseen / both**2,
            by_unseen * by_twice,
        )

    def _sum(self, contribution: Contribution, by_once: float = 0.0, by_twice: float = 0.0) -> "_Sum":
        """The sum over the images of what each contributes, and how far it may be off.

        The deviation is found by leaving out one image after the other: its own contribution goes, and those of its
        duplicates change as their degrees fall by one. On average that is not below the variance (Efron and Stein 1981).
        Degrees do not say which images are whose duplicates; those of an image of degree d are taken to be the d images
        that come next in the order of falling degrees. When duplication is transitive that is true.

        Parameters
        ----------
        contribution
            By degree.
        by_once, by_twice
            Derivatives by f1 and f2 of a term that is added to the sum, for its deviation.
        """
        now = contribution(self.degree)
        value = float(self.images @ now)
        step = now - contribution(np.maximum(self.degree - 1, 0))
        term = np.array([by_once, by_twice / 2, 0.0])[: self.size]
        now[: len(term)] += term
        step[: len(term)] += np.diff(term, prepend=by_once)
        images = self.images.copy()
        images[1] = max(images[1], 2.0)  # no pair seen may yet be some
        place = np.concatenate([[0.0], np.cumsum(images[::-1])])
        steps = np.concatenate([[0.0], np.cumsum((images * step)[::-1])])
        following = np.interp(place[:-1] + self.degree[::-1] + 1, place, steps) - steps[:-1]
        of_duplicates = following[::-1] - step
        change = now + of_duplicates
        variance = float(images @ change**2 - (images @ change) ** 2 / images.sum())
        by_hubs = float(images @ (of_duplicates - self.degree * step) ** 2)
        return _Sum(value, math.sqrt(max(variance, 0.0)), math.sqrt(by_hubs))


def _geometric_tail(start: int, ratio: float) -> tuple[float, float]:
    """Σ (1 − ratio)^j / (start − 1 + j) over j ≥ 1, and its derivative by the ratio, for 0 < ratio ≤ 1.

    The sum is ∫ (1 − ratio) exp(−start·u) / (1 − (1 − ratio) exp(−u)) du over u > 0, by the trapezoidal rule in log u,
    which converges exponentially: no cancellation, and a few hundred terms for any ratio.
    """
    step = 0.25
    u = np.exp(np.arange(math.log(1e-17 * min(1 / start, ratio)), math.log(750 / start), step))
    weight, below = step * u * np.exp(-start * u), ratio - (1 - ratio) * np.expm1(-u)
    return (1 - ratio) * float((weight / below).sum()), -float((weight / below**2).sum())
