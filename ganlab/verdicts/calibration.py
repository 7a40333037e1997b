"""From people's verdicts to P(duplicate | distance), the distance where it is ½, and support sizes that rest on it.

Invariant: the fitted curve never rises with distance, and every figure taken from it carries an interval that holds
what is not known of the curve; docs/review.md derives the method.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from ganlab.statistics.intervals import largest_mode_size, pair_probability_interval

Float = npt.NDArray[np.float64]

DRAWS = 400
"""Bootstrap curves: enough for the ends of a 95 % interval, which are the tenth lowest and highest of them."""

STEEPEST = 100.0
"""Prior mean of the fall of the logit between distance 0 and the widest distance, where verdicts allow any fall."""

BEND = 2.0
"""Weight of the plain logistic curve in the slope of each piece, in pseudo-observations."""

ROUNDS = 60
"""Newton steps at most; about ten are needed."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """P(duplicate | distance): one fitted curve, and bootstrap curves that say how well it is known.

    Attributes
    ----------
    edges : float64 (k + 1,)
        Distances between which the logit falls linearly, from 0 to the widest that was judged. Farther pairs are no
        duplicates.
    logits : float64 (1 + draws, k + 1)
        The logit of each curve at the edges, the fitted one first.
    confidence : float
        Level of every interval.
    judged : float64 (m,)
        Distances of the judged pairs that it was fitted to, rising.
    """

    edges: Float
    logits: Float
    confidence: float
    judged: Float

    @property
    def widest(self) -> float:
        """Largest distance at which the curve is defined."""
        return float(self.edges[-1])

    def curves(self, distance: npt.ArrayLike) -> Float:
        """Every curve at these distances (m,), float64 (1 + draws, m); the fitted one first."""
        at = np.asarray(distance, dtype=np.float64)
        place = np.clip(np.searchsorted(self.edges, at, side="right") - 1, 0, len(self.edges) - 2)
        along = (at - self.edges[place]) / np.diff(self.edges)[place]
        logit = self.logits[:, place] * (1 - along) + self.logits[:, place + 1] * along
        return np.where(at > self.widest, 0.0, special.expit(logit))

    def probability(self, distance: npt.ArrayLike) -> Float:
        """The fitted curve at these distances (m,)."""
        at = np.asarray(distance, dtype=np.float64)
        fitted: Float = replace(self, logits=self.logits[:1]).curves(at)[0]
        return fitted

    def interval(self, distance: npt.ArrayLike) -> tuple[Float, Float]:
        """Pointwise interval of the curve at these distances (m,)."""
        low, high = self._ends(self.curves(distance)[1:])
        return low, high

    @property
    def threshold(self) -> float:
        """The distance at which half of the pairs are duplicates; infinite when more than half are at the widest."""
        return float(self._crossings()[0])

    @property
    def threshold_interval(self) -> tuple[float, float]:
        """Interval of `threshold`; its ends lie on judged pairs, as nothing is known between two of them."""
        low, high = self._ends(self._crossings()[1:])
        below = np.searchsorted(self.judged, low, side="left") - 1
        above = np.searchsorted(self.judged, high, side="right")
        beyond = math.inf if np.isinf(high) else self.widest
        return (
            float(self.judged[below]) if below >= 0 else 0.0,
            float(self.judged[above]) if above < len(self.judged) else beyond,
        )

    def _crossings(self) -> Float:
        return np.array([_crossing(self.edges, logits) for logits in self.logits])

    def _ends(self, draws: Float) -> tuple[Float, Float]:
        tail = (1 - self.confidence) / 2
        # Order statistics, not means of two: a draw may be infinite.
        low, high = np.quantile(draws, (tail, 1 - tail), axis=0, method="inverted_cdf")
        return low, high


@dataclass(frozen=True)
class CalibratedSupport:
    """Support size 1 / p2, where p2 is the chance that people call two images duplicates.

    `low` and `high` hold both what the sample of images leaves open and what the calibration does. `one_sided`: no
    pair of the sample is near enough, so `size` is the lower bound `low` and `high` is infinite. `duplicates` is the
    expected number of pairs that people would call so.
    """

    size: float
    low: float
    high: float
    one_sided: bool
    duplicates: float


def calibrate(
    distance: npt.ArrayLike,
    share: npt.ArrayLike,
    weight: npt.ArrayLike,
    edges: npt.ArrayLike,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Calibration:
    """Fit P(duplicate | distance) to judged pairs.

    The logit is linear between edges and never rises: a logistic curve that bends where the verdicts insist. Its
    interval is a Bayesian bootstrap (Rubin, The Annals of Statistics 9, 1981) over pairs, each with all its verdicts.

    Parameters
    ----------
    distance : (m,)
        Of each judged pair, 0 to the last edge.
    share : (m,)
        Share of its verdicts that say duplicate, 0 to 1.
    weight : (m,)
        How many pairs each stands for, up to a factor in each piece: see `ganlab.verdicts.selection.weights`.
    edges : (k + 1,)
        Rising distances from 0.
    confidence : float
        Level of the intervals.
    draws, seed : int
        Bootstrap curves, and the seed of their weights.

    Raises
    ------
    ValueError
        Without judged pairs, or for values out of these ranges.
    """
    at, said, weights, knots = (np.asarray(each, dtype=np.float64) for each in (distance, share, weight, edges))
    if not at.size or not at.shape == said.shape == weights.shape or at.ndim != 1:
        raise ValueError(
            f"{at.shape} distances, {said.shape} shares, {weights.shape} weights; allowed: one axis, alike"
        )
    if knots.ndim != 1 or len(knots) < 2 or knots[0] != 0 or not (np.diff(knots) > 0).all():
        raise ValueError(f"edges are {knots}; allowed: rising distances, the first 0")
    if not ((at >= 0) & (at <= knots[-1])).all():
        raise ValueError(f"distances span {at.min()} to {at.max()}; allowed: 0 to the last edge, {knots[-1]}")
    if not ((said >= 0) & (said <= 1)).all() or not (weights > 0).all() or not np.isfinite(weights).all():
        raise ValueError("shares must lie between 0 and 1, weights above 0")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; allowed: between 0.5 and 1, exclusive, such as 0.95")
    random = np.random.default_rng(seed)
    resampled = np.concatenate([np.ones((1, at.size)), random.exponential(size=(draws, at.size))])
    logits = _fit(at, said, weights * resampled, knots)
    return Calibration(knots, logits, confidence, np.sort(at))


def calibrated_support(
    index: npt.ArrayLike, distance: npt.ArrayLike, samples: int, calibration: Calibration
) -> CalibratedSupport:
    """Support size of a sample of independent images when each pair is a duplicate as often as people say.

    Parameters
    ----------
    index : integer array (m, 2)
        Every pair of the sample that is at most `calibration.widest` apart, once.
    distance : (m,)
        Of each of them.
    samples : int
        Images, all compared with all.

    Raises
    ------
    ValueError
        For fewer than two images, or an index beyond them.
    """
    pairs, at = np.asarray(index, dtype=np.int64).reshape(-1, 2), np.asarray(distance, dtype=np.float64)
    if samples < 2 or len(pairs) != len(at) or (len(pairs) and not 0 <= pairs.min() <= pairs.max() < samples):
        raise ValueError(
            f"{len(pairs)} pairs, {len(at)} distances, {samples} images; allowed: pairs of 2 or more images"
        )
    chance = calibration.probability(at)
    degree = np.bincount(pairs.ravel(), np.repeat(chance, 2), samples)
    squares = np.bincount(pairs.ravel(), np.repeat(chance**2, 2), samples)
    expected = float(chance.sum())
    triples = np.maximum(degree**2 - squares, 0).sum()
    ends = pair_probability_interval(samples, 2 * expected, triples, largest_mode_size(degree), calibration.confidence)
    low, high = (float(end) for end in ends)
    all_pairs = math.comb(samples, 2)
    p2 = expected / all_pairs
    if p2 == 0:
        return CalibratedSupport(1 / high, 1 / high, math.inf, True, 0.0)
    # Draws by histogram: a curve moves little within a five-hundredth of the range.
    counts, bins = np.histogram(at, bins=500, range=(0.0, calibration.widest))
    drawn = calibration.curves((bins[:-1] + bins[1:]) / 2) @ counts
    by_curve = [end / drawn[0] for end in calibration._ends(drawn[1:])]
    # The two sources are independent: their distances on the log scale add in quadrature (docs/statistics.md).
    above = math.hypot(math.log(high / p2), math.log(max(by_curve[1], 1)))
    below = math.hypot(math.log(p2 / low) if low > 0 else math.inf, math.log(1 / min(max(by_curve[0], 1e-300), 1)))
    return CalibratedSupport(1 / p2, 1 / min(p2 * math.exp(above), 1.0), _inverse(p2, below), False, expected)


def _inverse(p2: float, below: float) -> float:
    return math.exp(below) / p2 if below < 700 else math.inf


def _crossing(edges: Float, logits: Float) -> float:
    """Zero of a falling, piecewise linear logit."""
    if logits[0] <= 0:
        return 0.0
    if logits[-1] > 0:
        return math.inf
    place = int(np.flatnonzero(logits > 0)[-1])
    step = logits[place] / (logits[place] - logits[place + 1])
    return float(edges[place] + step * (edges[place + 1] - edges[place]))


def _fit(at: Float, said: Float, weights: Float, edges: Float) -> Float:
    """Logits at the edges, (replicates, k + 1), each replicate with weights (replicates, m) of its own.

    Two pseudo-verdicts hold the ends: equal images are duplicates, and those at the widest distance, for want of other
    evidence, are not.
    """
    at, said = np.append(at, (0.0, edges[-1])), np.append(said, (1.0, 0.0))
    weights = np.concatenate([weights, np.tile((1.0, 0.5), (len(weights), 1))], axis=1)
    widths = np.diff(edges)
    ramps = np.clip((at[:, None] - edges[:-1]) / widths, 0, 1)
    # A plain logistic curve first, then its pieces freed.
    whole = _newton((ramps @ (widths / edges[-1]))[:, None], said, weights, np.full((len(weights), 1), STEEPEST), 0.0)
    expected = whole[:, 1:] * (widths / edges[-1])
    bent = _newton(ramps, said, weights, expected, BEND, start=np.concatenate([whole[:, :1], expected], axis=1))
    fallen = np.concatenate([np.zeros((len(bent), 1)), np.cumsum(bent[:, 1:], axis=1)], axis=1)
    logits: Float = bent[:, :1] - fallen
    return logits


def _newton(
    ramps: Float, said: Float, weights: Float, expected: Float, strength: float, start: Float | None = None
) -> Float:
    """Most probable (intercept, falls) of every replicate, by damped Newton steps on a convex objective.

    logit = intercept - ramps @ falls. A fall has a gamma prior: of shape 1 + strength and mode `expected`; with strength
    0, the exponential of that mean.
    """
    design = np.concatenate([np.ones((len(ramps), 1)), -ramps], axis=1)
    outer = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    size = design.shape[1]
    rate = max(strength, 1.0) / expected

    def objective(values: Float) -> Float:
        logit = values @ design.T
        loss = np.logaddexp(0, logit) - said * logit
        falls = values[:, 1:]
        total: Float = (weights * loss).sum(1) + (rate * falls - strength * np.log(falls)).sum(1)
        return total

    values = np.concatenate([np.zeros((len(weights), 1)), 0.1 * expected], axis=1) if start is None else start.copy()
    current = objective(values)
    for _ in range(ROUNDS):
        chance = special.expit(values @ design.T)
        falls = values[:, 1:]
        gradient = (weights * (chance - said)) @ design
        gradient[:, 1:] += rate - strength / falls
        hessian = ((weights * chance * (1 - chance)) @ outer).reshape(-1, size, size)
        hessian[:, range(1, size), range(1, size)] += strength / falls**2
        hessian[:, range(size), range(size)] += 1e-9
        step = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        # Falls stay positive: no step goes more than nine tenths of the way to zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(step[:, 1:] < 0, -0.9 * falls / step[:, 1:], np.inf).min(1)
        length = np.minimum(1.0, room)
        for _ in range(30):
            proposed = values + length[:, None] * step
            reached = objective(proposed)
            worse = reached > current + 1e-12
            if not worse.any():
                break
            length = np.where(worse, length / 2, length)
        better = reached <= current
        values = np.where(better[:, None], proposed, values)
        gained = np.where(better, current - reached, 0)
        current = np.where(better, reached, current)
        if gained.max() < 1e-9:
            break
    return values
