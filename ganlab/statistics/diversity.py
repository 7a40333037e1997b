"""Effective number of generated images at a rate of real pairs, and its ratio to that of the real images.

Invariant: an interval holds the uncertainty of the sample and that of the distance, which the real images leave.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ganlab.statistics.correlation import CorrelationCurve, pairs_curve
from ganlab.statistics.duplicate_distance import DuplicateDistance
from ganlab.statistics.support import Estimate, estimate

FACTORS = (0.9, 1.0, 1.1)
COLLAPSED_RATIO = 0.01
_HALF = 0.5  # a pair, added to both counts whose ratio is formed: either may be 0


@dataclass(frozen=True)
class Diversity:
    """Diversity of generated images at the distance of one rate of real pairs.

    Attributes
    ----------
    real : DuplicateDistance
        Distance, and the real pairs that it rests on.
    generated : Estimate
        Estimate at that distance; its interval takes the distance as known.
    low, high : float
        Interval of the effective number at the rate. Without a duplicate `high` is infinite.
    """

    real: DuplicateDistance
    generated: Estimate
    low: float
    high: float

    @property
    def effective_number(self) -> float:
        """1/p2 of the generated images at the distance; without a duplicate, the bound `low`."""
        return self.low if self.generated.one_sided else self.generated.size

    @property
    def ratio(self) -> float:
        """p2 of the real over p2 of the generated images: 1 for a perfect generator; without a duplicate, its bound."""
        return self.real.probability * self.effective_number

    @property
    def ratio_low(self) -> float:
        """Lower end of the interval of `ratio`."""
        return self.real.probability * self.low

    @property
    def ratio_high(self) -> float:
        """Upper end of the interval of `ratio`; infinite without a duplicate.

        Copies among the real images may be of the data set alone, stored twice, or of the source, which draws some images
        again and again: then a perfect generator does so, too. So the end is where both are covered.
        """
        real, generated = self.real, self.generated
        if not real.copies or generated.one_sided:
            return real.probability * self.high
        up = math.hypot(math.log(real.with_copies_high / real.with_copies), math.log(generated.p2 / generated.p2_low))
        return max(real.probability * self.high, real.with_copies / generated.p2 * math.exp(up))


def diversity(
    index: npt.NDArray[np.int64],
    squared: npt.ArrayLike,
    samples: int,
    real: DuplicateDistance,
    confidence: float = 0.95,
) -> Diversity:
    """Estimate the effective number of generated images at a rate of real pairs.

    The distance that has the rate in the source of the real images lies between `real.low` and `real.high`. The number
    of generated pairs within these says how far p2 is off with the distance; this and the error of the sample are
    independent, so their effects on log p2 are added in quadrature, as far as they come from a variance. What the
    largest mode of one set alone may be is the other way to an end: two rare things are not expected at once.

    Parameters
    ----------
    index : int64 (m, 2)
        Pairs of generated images, every pair once: at least all that are at most `real.high` apart.
    squared : array (m,)
        Their squared distances.
    samples : int
        Number of generated images, compared all with all.
    real : DuplicateDistance
        Distance of the rate, of the same level as `confidence`.
    confidence : float
        Level of the intervals.

    Returns
    -------
    Diversity

    Raises
    ------
    ValueError
        As `ganlab.statistics.support.estimate`.
    """
    curve = pairs_curve(squared, samples, real.distances)
    duplicates = np.asarray(index)[np.asarray(squared) <= real.distance**2]
    return diversity_of(estimate(duplicates, samples, confidence), curve, real)


def diversity_of(
    generated: Estimate, curve: CorrelationCurve, real: DuplicateDistance, close: CorrelationCurve | None = None
) -> Diversity:
    """Estimate the effective number at a rate from the estimate at its distance.

    Parameters
    ----------
    generated : Estimate
        Of the generated images, at `real.distance`.
    curve : CorrelationCurve
        Pairs of these images, or of some of them drawn at random, within distances that hold `real.distances`; the same
        pairs at all of them.
    real : DuplicateDistance
        Distance of the rate, of the same level as the estimate.
    close : CorrelationCurve, optional
        Pairs of all these images within the same distances, right up to `real.distance`, where `curve` has some.
    """
    places = np.searchsorted(curve.distances, real.distances)
    assert len(set(curve.pairs[places].tolist())) == 1, "counts of different pairs do not compare"
    nearest, nearer, here = (curve if close is None else close).within[places[:3]] + _HALF
    pairs = math.comb(generated.samples, 2)
    centre = max(generated.duplicates, _HALF) / pairs
    beyond, counted = int(curve.within[places[3]] - curve.within[places[2]]), int(curve.pairs[places[0]])
    if counted == pairs:
        farther = math.log1p(beyond / here)
    else:  # of some of the pairs, as many as there may be where so few were seen
        most = float(special.gammaincinv(beyond + 1, (1 + generated.confidence) / 2))
        farther = math.log1p(most / counted / centre)
    above = math.hypot(math.log(generated.p2_high_by_variance / centre), farther)
    above = max(above, math.log(generated.p2_high / centre))
    low = 1 / min(centre * math.exp(above), 1.0)
    if generated.one_sided:
        return Diversity(real, generated, low, math.inf)
    below = math.hypot(math.log(centre / generated.p2_low), math.log(here / nearer))
    below = max(below, math.log(here / nearest))
    return Diversity(real, generated, low, math.exp(below) / centre)


def collapsed(ratio_high: float) -> bool:
    """Return whether a generator has collapsed: duplicates are over 100 times as frequent as among the real images.

    The ratio means the same at any threshold, since both frequencies are at the same one, and at any sample size, since
    both are shares of pairs. The share of the largest mode would not do: it grows with the threshold, and it is biased
    upwards in small samples. Where 1 in 10⁴ pairs of real images is a duplicate, a mode with a tenth of the samples
    reaches the limit by itself. The end of the interval is taken so that a few duplicates by chance are no collapse.

    Parameters
    ----------
    ratio_high : float
        Upper end of the interval of the diversity ratio, p2 of the real over p2 of the generated images; infinite without
        a duplicate, not a number without real images.
    """
    return ratio_high < COLLAPSED_RATIO


def sensitivity(squared: npt.ArrayLike, samples: int, distance: float) -> CorrelationCurve:
    """Count the pairs at 0.9, 1 and 1.1 of a distance: how far the effective number depends on it.

    Parameters
    ----------
    squared : array (m,)
        Squared distances of all pairs of a sample that are at most 1.1 of `distance` apart, in any order.
    samples : int
        Images of the sample.
    distance : float
        Distance of duplicates (not squared).

    Returns
    -------
    CorrelationCurve
        At the three distances; see its `effective_number`. Where pairs were too many to list, `correlation_curve` of the
        first images at ``np.multiply(FACTORS, distance)`` gives the same of fewer pairs.
    """
    return pairs_curve(squared, samples, np.multiply(FACTORS, distance))
