"""Interval of p2 as ganlab 0.1.0 computed it: the rule to beat in tests/benchmarks/coverage.py.

Invariant: these functions are those of ganlab 0.1.0, unchanged.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

Float = npt.NDArray[np.float64]

PRIOR_TRIPLES = 0.5
"""Triples of mutual duplicates added to those seen, as none seen does not mean that they add no variance."""

LOWER_SHARE = 0.4
"""Share of the error spent below p2, ½ being spent above it: with no duplicate the bound above spends all of it."""

HIDDEN_MODE_TAIL = 3.0
"""Tail of the heaviest mode's mass, in units of the error, where that mode may be hidden among modes of its size."""


def interval_0_1_0(
    samples: npt.ArrayLike,
    ordered_pairs: npt.ArrayLike,
    ordered_triples: npt.ArrayLike,
    largest_degree: npt.ArrayLike,
    confidence: float = 0.95,
) -> tuple[Float, Float]:
    """Interval of p2 from Σ d, Σ d(d − 1) and the largest d, as ganlab 0.1.0 computed it."""
    n, pairs, triples, degree = np.broadcast_arrays(
        *(np.asarray(each, dtype=np.float64) for each in (samples, ordered_pairs, ordered_triples, largest_degree))
    )
    none_seen = pairs == 0
    # A fraction of one duplicate says less than one: as far down from it, and up to where one may reach.
    fraction = np.clip(pairs / 2, 0, 1)
    part = (pairs > 0) & (fraction < 1)
    pairs, triples, degree = np.where(part, 2, pairs), np.where(part, 0, triples), np.where(part, 1, degree)
    one_sided = special.betaincinv(2, n - 1, confidence) ** 2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        low, high = _two_sided(n, pairs, triples, degree, 1 - confidence)
    return np.where(none_seen, 0.0, low * np.where(part, fraction, 1)), np.where(none_seen, one_sided, high)


def _two_sided(n: Float, pairs: Float, triples: Float, degree: Float, error: float) -> tuple[Float, Float]:
    """Interval of p2 where at least one duplicate was seen; other entries are not used."""
    all_pairs = n * (n - 1)
    p2 = pairs / all_pairs
    # Where duplication is not transitive a hub may have more neighbours than its mode could hold pairs.
    size = np.minimum(degree + 1, (1 + np.sqrt(1 + 4 * pairs)) / 2)
    rest_pairs = np.maximum(pairs - size * (size - 1), 0)
    rest_pairs = np.where(rest_pairs < 1e-9 * pairs, 0, rest_pairs)  # what rounding leaves is no duplicate
    rest_triples = np.maximum(triples - size * (size - 1) * (size - 2), 0)
    rest = n - size
    rest_p2 = rest_pairs / np.maximum(rest * (rest - 1), 1)
    rest_low, rest_high = _pooled(rest, rest_pairs, rest_triples, error)
    rest_high = np.where(rest < 2, 1.0, rest_high)

    # 1 when the largest mode stands out, falling to 0 as the rest would hold one like it anyway.
    rate = _rate(rest_pairs, rest_triples)
    expected_alike = np.where(rest_pairs > 0, rest_pairs / rate**2 * special.gammainc(size, rate), 0)
    distinct = np.exp(-expected_alike)

    mass = np.sqrt(size * (size - 1) / all_pairs)
    tail = (error / 2) ** distinct * min(HIDDEN_MODE_TAIL * error, 0.5) ** (1 - distinct)
    mass_low = special.betaincinv(size, n - size + 1, LOWER_SHARE * error)
    mass_high = _mass_high(size, n, tail)

    centre = _joined(mass, rest_p2)
    above_by_mass = np.maximum(_joined(mass_high, rest_p2), _joined(mass_low, rest_p2)) - centre
    high = p2 + np.hypot(np.maximum(above_by_mass, 0), _joined(mass, rest_high) - centre)

    # A smaller mode leaves more to the rest, so p2 is lowest at some mass between, and for the lowest rest.
    lowest_mass = np.clip(rest_low / (1 + rest_low), mass_low, np.maximum(mass, mass_low))
    below_by_mass = _joined(mass, rest_low) - _joined(lowest_mass, rest_low)
    apart = np.maximum(p2 - np.hypot(below_by_mass, centre - _joined(mass, rest_low)), mass_low**2)
    pooled, _ = _pooled(n, pairs, triples, error)
    low = np.exp((1 - distinct) * np.log(pooled) + distinct * np.log(apart))
    return np.minimum(low, p2), np.clip(high, p2, 1.0)


def _pooled(n: Float, pairs: Float, triples: Float, error: float) -> tuple[Float, Float]:
    """Interval of p2 that takes no mode apart.

    A support of J equal modes that share the mass w has p2 = w²/J and p3 = w³/J², hence w = p2²/p3, and every support
    has the sampling variance of the one that matches its p2 and p3. So n·w images fall in modes (binomial), and the
    duplicates among them number about Poisson, less 1/J; the two errors add in quadrature on the log scale.
    """
    all_pairs = np.maximum(n * (n - 1), 1)
    fraction = np.clip(pairs / 2, 0, 1)  # of one duplicate, as above
    pairs = np.where(pairs > 0, np.maximum(pairs, 2), 0)
    p2 = pairs / all_pairs
    p3 = (triples + 6 * PRIOR_TRIPLES) / np.maximum(all_pairs * (n - 2), 1)
    mass = np.minimum(p2**2 / p3, 1)
    inside = np.maximum(n * mass, 1e-9)
    count = pairs / 2 / np.clip(1 - p2 / mass**2, 1e-9, 1)
    by_mass = 2 * np.log(special.betaincinv(inside, n - inside + 1, LOWER_SHARE * error) / mass)
    by_count = np.log(special.gammaincinv(count, LOWER_SHARE * error) / count)
    low = np.where(pairs > 0, fraction * p2 * np.exp(-np.hypot(by_mass, by_count)), 0.0)
    by_mass = 2 * np.log(_mass_high(inside, n, error / 2) / mass)
    by_count = np.log(special.gammainccinv(count + 1, error / 2) / count)
    none = 2 * special.gammainccinv(1, error / 2) / all_pairs
    return low, np.minimum(np.where(pairs > 0, p2 * np.exp(np.hypot(by_mass, by_count)), none), 1)


def _joined(mass: Float, rest_p2: Float) -> Float:
    return mass**2 + (1 - mass) ** 2 * rest_p2


def _rate(pairs: Float, triples: Float) -> Float:
    """Images of a mode expected in the sample, averaged over duplicates: n·p3/p2."""
    return (triples + 6 * PRIOR_TRIPLES) / pairs


def _mass_high(seen: Float, n: Float, tail: Float | float) -> Float:
    """Clopper–Pearson upper bound of a proportion, ``seen`` in ``n``."""
    return np.where(seen >= n, 1.0, special.betainccinv(seen + 1, np.maximum(n - seen, 1e-9), tail))
