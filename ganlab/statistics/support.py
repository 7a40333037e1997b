"""Effective number of images (order 2) and its interval from the near-duplicates of one sample of independent images.

Invariant: everything except the disjoint-sample frequencies is computed from the number of duplicates of each image, so
a collapsed generator whose every pair is a duplicate costs no more memory than a diverse one.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ganlab.statistics.birthday import (
    collision_probability,
    corrected_support,
    published_support,
    sample_size_at_half,
    theorem_bound,
)
from ganlab.statistics.intervals import largest_mode_size, pair_probability_ends, wilson_interval

__all__ = [
    "Estimate",
    "Frequency",
    "SeedMean",
    "Spread",
    "check_confidence",
    "collision_frequency",
    "collision_probability",
    "corrected_support",
    "degree_histogram",
    "degrees_of",
    "error_of_log",
    "estimate",
    "estimate_from_degrees",
    "mean_over_seeds",
    "published_support",
    "ratio_interval",
    "sample_size_at_half",
    "spread",
    "theorem_bound",
    "without_largest_mode",
]


@dataclass(frozen=True)
class Estimate:
    """Effective number of images (order 2) of a generator, with its interval, from one sample.

    Attributes
    ----------
    samples : int
        Images compared, all with all.
    duplicates : int
        Pairs of them that are duplicates.
    confidence : float
        Level of every interval.
    p2 : float
        Unbiased estimate of P(X ~ Y), the chance that two images are duplicates.
    p3 : float
        Unbiased estimate of P(X ~ Y and X ~ Z); NaN with two images.
    p2_low, p2_high : float
        Interval of p2, if every image near so many others that it matters for p2 was drawn. With no duplicate it is
        one-sided, for transitive duplication: ``p2_low`` is 0.
    p2_high_by_variance : float
        Where the interval would end without the bound by the largest mode: at most ``p2_high``.
    largest_mode_mass : float
        Share of the other images that are duplicates of the image with the most duplicates: 0 without duplicates, 1
        when all are equal. It is the maximum of many, so it overstates a mode that was seen only a few times.
    size_without_largest_mode : float
        Point estimate of the effective number without the largest mode (the ``k`` images of most duplicates, ``k - 1``
        the most duplicates of any); infinite when no duplicate is left, NaN when fewer than two images are.
    """

    samples: int
    duplicates: int
    confidence: float
    p2: float
    p3: float
    p2_low: float
    p2_high: float
    p2_high_by_variance: float
    largest_mode_mass: float
    size_without_largest_mode: float

    @property
    def one_sided(self) -> bool:
        """True if no duplicate was seen: ``size`` is then the lower bound ``low``, and ``high`` is infinite."""
        return self.duplicates == 0

    @property
    def size(self) -> float:
        """Effective number 1 / p2 (Hill number of order 2); with no duplicate, the lower bound ``low``."""
        return self.low if self.one_sided else math.comb(self.samples, 2) / self.duplicates

    @property
    def low(self) -> float:
        """Lower end of the interval of ``size``."""
        return 1 / self.p2_high

    @property
    def high(self) -> float:
        """Upper end of the interval of ``size``; infinite when no duplicate was seen."""
        return math.inf if self.one_sided else 1 / self.p2_low

    @property
    def nonuniformity(self) -> float:
        """Ratio p3 / p2²: 1 for a uniform support, larger when few images hold much; NaN with no duplicate."""
        return math.nan if self.one_sided else self.p3 / self.p2**2

    @property
    def sample_size_at_half(self) -> float:
        """Smallest sample that holds a duplicate with probability at least one half, by the model (images)."""
        return sample_size_at_half(self.size)

    @property
    def sample_size_at_half_low(self) -> float:
        """Lower end of the interval of ``sample_size_at_half``."""
        return sample_size_at_half(self.low)

    @property
    def sample_size_at_half_high(self) -> float:
        """Upper end of the interval of ``sample_size_at_half``; infinite when no duplicate was seen."""
        return sample_size_at_half(self.high)

    def collision_probability(self, sample_size: int) -> float:
        """Return P(a sample of this size holds a duplicate) by the model; with no duplicate seen, its upper bound."""
        return collision_probability(1 / self.size, sample_size)

    def collision_interval(self, sample_size: int) -> tuple[float, float]:
        """Return the interval (low, high) of ``collision_probability(sample_size)``."""
        return collision_probability(self.p2_low, sample_size), collision_probability(self.p2_high, sample_size)


@dataclass(frozen=True)
class Frequency:
    """Number of disjoint samples that hold a duplicate, with the Wilson interval of the probability."""

    hits: int
    repeats: int
    probability: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Effective numbers of several seeds of one setting.

    ``mean`` is the geometric mean; ``low`` and ``high`` are the Student interval of the mean of log size, whose
    variance holds both the differences between seeds and each seed's own uncertainty, as of `mean_over_seeds`.
    ``one_sided``: a seed without duplicates gave only a bound, so ``high`` is infinite.
    """

    seeds: int
    median: float
    minimum: float
    maximum: float
    mean: float
    low: float
    high: float
    one_sided: bool


@dataclass(frozen=True)
class SeedMean:
    """Mean of a figure over the seeds of one setting, with the ends of its interval."""

    mean: float
    low: float
    high: float


def estimate(duplicates: npt.ArrayLike, samples: int, confidence: float = 0.95) -> Estimate:
    """Estimate the effective number of images (order 2) from a list of duplicate pairs.

    Parameters
    ----------
    duplicates : integer array (m, 2)
        The two image numbers of each duplicate pair, every pair once, in any order.
    samples : int
        Number of images that were compared, all with all; at least 2.
    confidence : float
        Level of the intervals, between 0.5 and 1 (exclusive).

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        For a wrong shape or type, image numbers out of range, an image paired with itself, a pair listed twice.
    """
    return estimate_from_degrees(degrees_of(duplicates, samples), confidence)


def estimate_from_degrees(degrees: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Estimate the effective number of images (order 2) from the number of duplicates of each image.

    Parameters
    ----------
    degrees : integer array (n,)
        How many of the other images duplicate each image; the sum is even.
    confidence : float
        Level of the intervals, between 0.5 and 1 (exclusive).

    Returns
    -------
    Estimate
        Unbiased p2 = C / (n choose 2) and p3 = Σ d(d − 1) / [n(n − 1)(n − 2)]; intervals as docs/statistics.md derives.

    Raises
    ------
    ValueError
        For a wrong shape or type, fewer than two images, or counts that no set of pairs can have.
    """
    counts, images = degree_histogram(degrees)
    check_confidence(confidence)
    samples = int(images.sum())
    duplicates = int(counts @ images) // 2
    pairs = math.comb(samples, 2)
    weights = images.astype(np.float64)
    ordered_triples = float(weights @ (counts * (counts - 1.0)))
    largest = int(counts[-1])
    mode_size = largest_mode_size(counts, images)
    low, by_variance, high = pair_probability_ends(samples, 2 * duplicates, ordered_triples, mode_size, confidence)
    all_triples = samples * (samples - 1) * (samples - 2)
    return Estimate(
        samples=samples,
        duplicates=duplicates,
        confidence=confidence,
        p2=duplicates / pairs,
        p3=ordered_triples / all_triples if all_triples else math.nan,
        p2_low=float(low),
        p2_high=float(high),
        p2_high_by_variance=float(by_variance),
        largest_mode_mass=largest / (samples - 1),
        size_without_largest_mode=_size_without_largest_mode(counts, images),
    )


def without_largest_mode(duplicates: npt.ArrayLike, samples: int, confidence: float = 0.95) -> Estimate:
    """Estimate the effective number without the image of most duplicates and its duplicates.

    Parameters and errors are those of `estimate`; ValueError too when fewer than two images are left. The interval
    takes the mode as given, though it was chosen for being the largest seen.
    """
    pairs = _check_duplicates(duplicates, samples)
    degrees = np.bincount(pairs.ravel(), minlength=samples)
    hub = int(np.argmax(degrees))
    dropped = np.zeros(samples, dtype=bool)
    dropped[hub] = True
    dropped[pairs[(pairs == hub).any(axis=1)]] = True
    left = samples - int(dropped.sum())
    if left < 2:
        raise ValueError(f"{left} images left without the largest mode; at least 2 are needed: the sample collapsed")
    kept = pairs[~dropped[pairs].any(axis=1)]
    return estimate_from_degrees(np.bincount(kept.ravel(), minlength=samples)[~dropped], confidence)


def collision_frequency(
    duplicates: npt.ArrayLike, samples: int, sample_size: int, confidence: float = 0.95
) -> Frequency:
    """Count the disjoint samples of one size that hold a duplicate: the published test, repeated.

    Parameters
    ----------
    duplicates : integer array (m, 2)
        As for `estimate`; images that are independent in their stored order.
    samples : int
        Number of images compared.
    sample_size : int
        Images in each disjoint sample: 2 to ``samples``. A rest smaller than this is not used.
    confidence : float
        Level of the Wilson interval.

    Returns
    -------
    Frequency

    Raises
    ------
    ValueError
        As `estimate`, and for a sample size of less than 2 or more than ``samples``.
    """
    pairs = _check_duplicates(duplicates, samples)
    check_confidence(confidence)
    if not 2 <= sample_size <= samples:
        raise ValueError(f"sample_size is {sample_size}; allowed: 2 to the {samples} images of the sample")
    repeats = samples // sample_size
    block = pairs // sample_size
    within = block[(block[:, 0] == block[:, 1]) & (block[:, 0] < repeats), 0]
    hits = int(np.count_nonzero(np.bincount(within)))
    low, high = wilson_interval(hits, repeats, confidence)
    return Frequency(hits, repeats, hits / repeats, low, high)


def ratio_interval(real: Estimate, generated: Estimate) -> tuple[float, float]:
    """Compute the interval of the diversity ratio, p2 of the real over p2 of the generated images.

    Parameters
    ----------
    real, generated : Estimate
        Estimates from independent samples at one fixed distance and one level, that of the interval.

    Returns
    -------
    low, high : float
        Method of variance estimates recovery for a ratio (Donner & Zou, Statistical Methods in Medical Research 21,
        2012): it needs no variance, only the two intervals, so it holds where they are skewed. It takes them by their
        variances; what the largest mode of one side alone may be is the other way to an end. Without a duplicate
        among the real images ``low`` is 0, without one among the generated ``high`` is infinite.

    Raises
    ------
    ValueError
        For estimates of different levels.
    """
    if real.confidence != generated.confidence:
        raise ValueError(
            f"estimates have the levels {real.confidence} and {generated.confidence}; allowed: one level for both"
        )

    greatest = _least_ratio(generated, real)
    return _least_ratio(real, generated), 1 / greatest if greatest > 0 else math.inf


def spread(estimates: list[Estimate], confidence: float = 0.95) -> Spread:
    """Summarise the effective numbers of several seeds.

    Parameters
    ----------
    estimates : list of Estimate
        One per seed, at least one.
    confidence : float
        Level of the interval of the geometric mean.

    Returns
    -------
    Spread

    Raises
    ------
    ValueError
        Without estimates.
    """
    if not estimates:
        raise ValueError("no estimates; at least one seed is needed")
    check_confidence(confidence)
    sizes = [each.size for each in estimates]
    errors = [error_of_log(each.low, each.high, each.confidence) for each in estimates]
    found = mean_over_seeds(sizes, errors, geometric=True, confidence=confidence)
    return Spread(
        seeds=len(estimates),
        median=float(np.median(sizes)),
        minimum=min(sizes),
        maximum=max(sizes),
        mean=found.mean,
        low=found.low,
        high=found.high,
        one_sided=any(each.one_sided for each in estimates),
    )


def mean_over_seeds(
    values: npt.ArrayLike, errors: npt.ArrayLike = 0.0, *, geometric: bool = False, confidence: float = 0.95
) -> SeedMean:
    """Compute the mean of a figure over the seeds of one setting, with the Student interval of that mean.

    Parameters
    ----------
    values : float array (n,)
        The figure of each seed, at least one; not negative if ``geometric``. A lower bound stands for itself.
    errors : float array (n,), or one number for all
        Standard error of each value, of its logarithm if ``geometric``; infinite for a lower bound, NaN where it is not
        defined, and so then are the ends.
    geometric : bool
        Whether to take the mean of the logarithms, for figures that are compared by ratios.
    confidence : float
        Level of the interval, between 0.5 and 1 (exclusive).

    Returns
    -------
    SeedMean
        The variance is that between the seeds, which holds each seed's own error, or the mean of the seeds' own where
        that is larger: a few seeds may agree by luck. The ends are NaN for one seed; ``high`` is infinite if any value
        is a lower bound. A value that is NaN makes all of it NaN.

    Raises
    ------
    ValueError
        Without values, and for a level out of range.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"values have the shape {found.shape}; allowed: (n,), one for each of at least one seed")
    check_confidence(confidence)
    own = np.broadcast_to(np.asarray(errors, dtype=np.float64), found.shape)
    bounded = np.isinf(own)
    with np.errstate(divide="ignore", invalid="ignore"):  # the logarithm of 0, and its distance to itself
        scaled = np.log(found) if geometric else found
        half_width = math.nan
        if found.size > 1:
            variance = np.maximum(scaled.var(ddof=1), np.mean(own[~bounded] ** 2) if not bounded.all() else 0.0)
            half_width = special.stdtrit(found.size - 1, (1 + confidence) / 2) * np.sqrt(variance / found.size)
        ends = scaled.mean() + np.array([0.0, -half_width, math.inf if bounded.any() else half_width])
    return SeedMean(*(np.exp(ends) if geometric else ends).tolist())


def error_of_log(low: float, high: float, confidence: float) -> float:
    """Return the standard error of the logarithm of a figure from its interval at a level.

    It is infinite if ``high`` is, of a lower bound, and else NaN if ``low`` is 0: the logarithm then has no interval.
    """
    if math.isinf(high):
        return math.inf
    return math.nan if low <= 0 else math.log(high / low) / (2 * float(special.ndtri((1 + confidence) / 2)))


def degrees_of(duplicates: npt.ArrayLike, samples: int) -> npt.NDArray[np.int64]:
    """Return the number of duplicates of each of ``samples`` images; the errors are those of `estimate`."""
    return np.bincount(_check_duplicates(duplicates, samples).ravel(), minlength=samples).astype(np.int64)


def _least_ratio(over: Estimate, under: Estimate) -> float:
    """Lower end of the interval of p2 over p2; the upper end is the inverse of the other ratio's lower end."""
    both = over.p2 * under.p2
    lowest = over.p2_low * (2 * over.p2 - over.p2_low)
    highest = under.p2_high_by_variance * (2 * under.p2 - under.p2_high_by_variance)
    by_variance = lowest / (both + math.sqrt(max(both**2 - lowest * highest, 0))) if lowest > 0 else 0.0
    return min(by_variance, over.p2 / under.p2_high)


def _size_without_largest_mode(counts: npt.NDArray[np.int64], images: npt.NDArray[np.int64]) -> float:
    """Drop the ``largest + 1`` images of most duplicates; exact when duplication is transitive."""
    left = int(images.sum()) - (int(counts[-1]) + 1)
    if left < 2:
        return math.nan
    above = np.cumsum(images[::-1])[::-1] - images
    dropped = np.clip(int(counts[-1]) + 1 - above, 0, images)
    duplicates = float(counts @ (images - dropped)) / 2
    return math.inf if duplicates == 0 else left * (left - 1) / 2 / duplicates


def degree_histogram(degrees: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the distinct degrees, ascending, and how many images have each; errors as `estimate_from_degrees`."""
    array = np.asarray(degrees)
    if array.ndim != 1 or array.size < 2 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"degrees are {array.dtype} {array.shape}; allowed: integers, one for each of 2 or more images"
        )
    if array.min() < 0 or array.max() >= array.size:
        raise ValueError(f"degrees span {array.min()} to {array.max()}; allowed: 0 to {array.size - 1} other images")
    histogram = np.bincount(array)
    counts = np.flatnonzero(histogram)
    images = histogram[counts]
    if int(counts @ images) % 2:
        raise ValueError("degrees sum to an odd number; each duplicate must count for both of its images")
    return counts, images


def _check_duplicates(duplicates: npt.ArrayLike, samples: int) -> npt.NDArray[np.int64]:
    pairs = np.asarray(duplicates)
    if samples < 2:
        raise ValueError(f"samples is {samples}; allowed: 2 or more images")
    if pairs.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"duplicates are {pairs.dtype} of shape {pairs.shape}; allowed: integers of shape (m, 2)")
    if pairs.min() < 0 or pairs.max() >= samples:
        raise ValueError(f"duplicates name images {pairs.min()} to {pairs.max()}; allowed: 0 to {samples - 1}")
    first, second = np.minimum(*pairs.T).astype(np.int64), np.maximum(*pairs.T).astype(np.int64)
    if (first == second).any():
        raise ValueError("duplicates pair an image with itself; list pairs of different images only")
    numbers = np.sort(first * samples + second)  # several times as fast as np.unique
    if (numbers[1:] == numbers[:-1]).any():
        raise ValueError("duplicates list a pair twice; list every pair once")
    return np.stack([first, second], axis=1)


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless the level of an interval is between 0.5 and 1, exclusive."""
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; allowed: between 0.5 and 1, exclusive, such as 0.95")
