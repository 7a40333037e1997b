"""Confidence intervals for the probability that two independent images are duplicates, and for a plain proportion.

Invariant: a bound is a function of counts alone and takes whole arrays of them, so that the coverage simulation
(tests/benchmarks/coverage.py) measures the code that users run. docs/statistics.md derives the formulas.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

Float = npt.NDArray[np.float64]

LOWER_SHARE = 0.3
"""Share of the error spent below p2 where the variance is of images that are drawn often; where it is of pairs, all that
is not spent above.

A sample without a duplicate has its whole error above, so an image near all others that is absent with probability 5 %
is missed with 5 % above and this share of 5 % below: 0.4 would leave 0.920 at best. In a sample that holds such an image
the variance is of images.
"""


def wilson_interval(hits: int, repeats: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a probability from ``hits`` in ``repeats`` independent trials."""
    if repeats < 1 or not 0 <= hits <= repeats:
        raise ValueError(f"{hits} hits in {repeats} repeats; allowed: 0 to repeats, and at least one repeat")
    z_squared = float(special.ndtri((1 + confidence) / 2)) ** 2
    centre = (hits + z_squared / 2) / (repeats + z_squared)
    half_width = math.sqrt(z_squared * (hits * (repeats - hits) / repeats + z_squared / 4)) / (repeats + z_squared)
    return 0.0 if hits == 0 else centre - half_width, 1.0 if hits == repeats else centre + half_width


def largest_mode_size(degrees: npt.ArrayLike, images: npt.ArrayLike = 1.0) -> Float:
    """Compute the most images of a sample that can all be duplicates of one another.

    Parameters
    ----------
    degrees : array (..., k)
        Numbers of duplicates, in any order; fractions where a pair is a duplicate with some probability.
    images : array (..., k), broadcast with ``degrees``
        How many images have each of these numbers.

    Returns
    -------
    float64 array (...)
        Largest k such that k images have at least k − 1 duplicates: the size of the largest mode where duplication is
        transitive, and an upper bound of it everywhere. An image near all others, which are no duplicates, has size 2.
    """
    degree, count = np.broadcast_arrays(np.asarray(degrees, dtype=np.float64), np.asarray(images, dtype=np.float64))
    order = np.argsort(-degree, axis=-1)
    seen = np.cumsum(np.take_along_axis(count, order, axis=-1), axis=-1)
    return np.asarray(np.minimum(np.take_along_axis(degree, order, axis=-1) + 1, seen).max(axis=-1))


def pair_probability_interval(
    samples: npt.ArrayLike,
    ordered_pairs: npt.ArrayLike,
    ordered_triples: npt.ArrayLike,
    mode_size: npt.ArrayLike,
    confidence: float = 0.95,
) -> tuple[Float, Float]:
    """Compute the interval of p2 = P(X ~ Y) from the duplicates among ``samples`` independent images.

    Duplication need not be transitive, but the sample must show what matters: an image of mass m that is near most
    others adds 2m to p2 and is absent from the sample with probability (1 − m)^n. Without that assumption no bound above
    p2 can be lower than 1 − (1 − confidence)^(2/n), which one such image attains (docs/statistics.md).

    Parameters
    ----------
    samples : array of counts
        Images compared, all with all; at least 2.
    ordered_pairs, ordered_triples : array of counts
        Σ d and Σ d(d − 1) over the images, where d is an image's number of duplicates. Fractions where a pair is a
        duplicate with some probability: they vary less than counts, for which the interval is made.
    mode_size : array of counts
        `largest_mode_size` of the same d.
    confidence : float
        Level of the interval.

    Returns
    -------
    low, high : float64 arrays, broadcast from the inputs
        With no duplicate ``low`` is 0 and ``high`` the one-sided bound: the p2 of one mode of such a mass that it is
        seen at most once with probability ``1 - confidence``, the least favourable of all supports whose duplication is
        transitive.
    """
    low, _, high = pair_probability_ends(samples, ordered_pairs, ordered_triples, mode_size, confidence)
    return low, high


def pair_probability_ends(
    samples: npt.ArrayLike,
    ordered_pairs: npt.ArrayLike,
    ordered_triples: npt.ArrayLike,
    mode_size: npt.ArrayLike,
    confidence: float = 0.95,
) -> tuple[Float, Float, Float]:
    """Compute the interval of `pair_probability_interval`, and where it would end by the variance alone.

    Parameters are those of `pair_probability_interval`; counts may be arrays.

    Returns
    -------
    low, high_by_variance, high : float64 arrays
        ``high`` is the larger of ``high_by_variance`` and what the mass of the largest mode may be. An interval that has
        another uncertainty besides takes them one by one (`ganlab.statistics.diversity`). Without a duplicate the two are
        the one-sided bound.
    """
    n, pairs, triples, size = np.broadcast_arrays(
        *(np.asarray(each, dtype=np.float64) for each in (samples, ordered_pairs, ordered_triples, mode_size))
    )
    none_seen = pairs == 0
    # A fraction of one duplicate says less than one: as far down from it, and up to where one may reach.
    fraction = np.where(none_seen, 1, np.minimum(pairs / 2, 1))
    part = pairs < 2
    pairs, triples, size = np.where(part, 2, pairs), np.where(part, 0, triples), np.where(part, 2, size)
    error = 1 - confidence
    by_mode = _mode_bound(n, pairs, size, error)
    low, by_variance = _two_sided(n, pairs, triples, by_mode, error)
    one_sided = special.betaincinv(2, n - 1, confidence) ** 2
    by_variance, by_mode = (np.where(none_seen, one_sided, np.minimum(high, 1.0)) for high in (by_variance, by_mode))
    return np.where(none_seen, 0.0, low * fraction), by_variance, np.maximum(by_variance, by_mode)


def _two_sided(n: Float, pairs: Float, triples: Float, by_mode: Float, error: float) -> tuple[Float, Float]:
    """Interval of p2 from the variance of its estimate, where at least one duplicate was seen.

    The variance has a part from images that are drawn often, that of the square of a proportion of which ``seen`` of n
    images are the count (Clopper–Pearson limits), and a part from pairs, about Poisson (Garwood's limits). They add in
    quadrature on the log scale. Where the interval reaches up to ``by_mode``, it leaves some error above, which is spent
    below, in proportion to the part from pairs.
    """
    p2 = pairs / (n * (n - 1))
    spread = np.maximum(triples / pairs**2 - (n - 2) / (n * (n - 1)), 0)
    seen = 1 / (spread + 1 / n)
    count = pairs / 2 / np.maximum(1 - p2, 1e-12)
    of_pairs = 1 / (1 + 4 * spread * count)  # share of the pairs in the variance
    above = np.hypot(
        2 * np.log(_mass_high(seen, n, error / 2) * n / seen),
        np.log(special.gammainccinv(count + 1, error / 2) / count),
    )
    reached = np.maximum(np.log(by_mode / p2) / above, 1)
    spent_above = special.ndtr(special.ndtri(error / 2) * reached)
    tail = LOWER_SHARE * error + ((1 - LOWER_SHARE) * error - spent_above) * of_pairs
    below = np.hypot(
        2 * np.log(special.betaincinv(seen, n - seen + 1, tail) * n / seen),
        np.log(special.gammaincinv(count, tail) / count),
    )
    # Markov: C reaches the value seen with probability at most its mean over that value, for any support.
    return p2 * np.maximum(np.exp(-below), tail), p2 * np.exp(above)


def _mode_bound(n: Float, pairs: Float, size: Float, error: float) -> Float:
    """Upper bound of p2 by the mass of the largest mode alone, the rest repeating as it did in the sample."""
    rest = n - size
    rest_p2 = np.minimum((pairs - size * (size - 1)) / np.maximum(rest * (rest - 1), 1), 1)
    mass = _mass_high(size, n, (1 - LOWER_SHARE) * error)
    return np.asarray(mass**2 + (1 - mass) ** 2 * rest_p2)


def _mass_high(seen: Float, n: Float, tail: float) -> Float:
    """Clopper–Pearson upper bound of a proportion, ``seen`` in ``n``."""
    return np.where(seen >= n, 1.0, special.betainccinv(seen + 1, np.maximum(n - seen, 1e-9), tail))
