"""Description of one sample: a trial's snapshot or a user's file.

Invariant: a function of what comparing found, so that results, table, report and JSON can't contradict one another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ganlab.pairs.exact import Index
from ganlab.quality.copying import Copying, copying
from ganlab.quality.fidelity import RealNeighbours, fidelity_ratio, realistic
from ganlab.quality.gate import DEFAULT_GATE, Evidence, Gate, Judgement, Quality, judge
from ganlab.quality.scores import Scores
from ganlab.statistics.classes import ClassEstimate, estimate_by_class
from ganlab.statistics.correlation import CorrelationCurve, diversity_ratio, pairs_curve
from ganlab.statistics.diversity import FACTORS, Diversity, diversity_of
from ganlab.statistics.hill_numbers import (
    EffectiveNumber,
    Rarefaction,
    UnseenShare,
    effective_numbers,
    rarefaction,
    unseen_share,
)
from ganlab.statistics.intervals import wilson_interval
from ganlab.statistics.modes import HeavyModes, heavy_modes, support_within
from ganlab.statistics.support import (
    Estimate,
    Frequency,
    collision_frequency,
    corrected_support,
    estimate_from_degrees,
    published_support,
    ratio_interval,
    theorem_bound,
)
from jobs.measuring.distance import RealImages
from jobs.spec.sections import CollisionSettings
from storage.pair_records import NearestReal, PairRecord

MULTIPLES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Sizes of samples, in units of the images seen, for which distinct images are estimated."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Published:
    """Result of the published test for a sample with a collision probability of one half at size `sample_size`.

    Attributes
    ----------
    support, corrected, bound : float
        s²; s²/(2 ln 2), which a uniform support has; size of a set that holds all probability, by the theorem.
    applies : bool
        The theorem fails when a few images are heavy, and so does the test: they alone make samples collide.
    """

    sample_size: float
    support: float
    corrected: float
    bound: float
    applies: bool


@dataclass(frozen=True, eq=False)
class SampleFacts:
    """Scores of one sample.

    Attributes
    ----------
    record : PairRecord
        What comparing found.
    original : NearestReal or None
        Training image that each sample may be a copy of, over moves where moved copies are looked for; None without real
        images.
    support : Estimate
        Of all its pairs.
    frequencies : mapping of int to Frequency
        Disjoint samples with a duplicate, by sample size.
    heavy : HeavyModes
        Its heavy modes, and the support without them; as classes and the realistic support of `listed_samples` images.
    published : Published or None
        None when no duplicate was seen.
    classes : list of ClassEstimate
        By label; none for images without labels.
    real : RealNeighbours or None
        Distances among the real images; None without.
    fidelity_ratio, realistic_share : float or None
        Against the real images; None without. The ratio is not a number where it is not defined.
    realistic : Estimate or None
        Support among the realistic images alone.
    judgement : Judgement or None
        Of the quality gate; None without real images.
    copying : Copying or None
        Whether samples are copies of training images; None without real images.
    scores : Scores or None
        See `ganlab.quality.scores`; its curve is sharpened by all pairs.
    diversity_ratio : tuple of float, or None
        p2 of the real images over p2 of these, with its interval: (value, low, high). NaN without a duplicate here.
    at_rates : tuple of Diversity
        Diversity at the distances of rates of real pairs, of the images looked at for the scores.
    sensitivity : tuple of float, or None
        Effective number at 0.9 and 1.1 of the distance of duplicates.
    unseen : UnseenShare
        Probability that one more sample duplicates none of these.
    numbers : tuple of EffectiveNumber
        Hill numbers of order 0, 1 and 2.
    distinct_curve : Rarefaction
        Distinct images among samples of other sizes.
    diversity_ratio_at : float64 (t,) or None
        Diversity ratio at each distance of the curve.
    """

    record: PairRecord
    original: NearestReal | None
    support: Estimate
    frequencies: Mapping[int, Frequency]
    heavy: HeavyModes
    published: Published | None
    classes: Sequence[ClassEstimate]
    real: RealNeighbours | None
    fidelity_ratio: float | None
    realistic_share: float | None
    realistic: Estimate | None
    judgement: Judgement | None
    copying: Copying | None
    scores: Scores | None
    diversity_ratio: tuple[float, float, float] | None
    at_rates: tuple[Diversity, ...]
    sensitivity: tuple[float, ...] | None
    unseen: UnseenShare
    numbers: tuple[EffectiveNumber, ...]
    distinct_curve: Rarefaction
    diversity_ratio_at: Floats | None

    @property
    def distance(self) -> Floats:
        """(n,) distance of each image to its nearest real one."""
        return np.sqrt(self.record.neighbour_squared.astype(np.float64))

    @property
    def listed_samples(self) -> int:
        """Images, all of them or drawn at random, that figures from lists of duplicates are of."""
        return self.record.listed_below

    def duplicates_of(self, image: int) -> int:
        """Images of the whole sample that duplicate one of them."""
        return int(self.record.degrees[image])


@dataclass(frozen=True, eq=False)
class RealFacts:
    """The real images, and what is said of them as of a sample."""

    images: RealImages
    facts: SampleFacts

    @property
    def neighbours(self) -> RealNeighbours:
        """Distances of real images to their nearest other one."""
        return self.images.neighbours

    @property
    def held_out(self) -> Evidence:
        """Real images as the quality gate looks at them, each left out in turn."""
        scores = self.facts.scores
        detail = None if scores is None else scores.detail
        return Evidence(self.neighbours.distance, detail, copy_distance=self.images.copies.distance)


def gate_of(settings: CollisionSettings) -> Gate:
    """Quality gate of a sweep, from its settings."""
    return Gate(settings.fidelity_gate, tuple(map(Quality, settings.quality_faults)))


def evidence(record: PairRecord, scores: Scores | None, copy_distance: Floats | None = None) -> Evidence:
    """Samples as the quality gate looks at them, with their distance over moves where moved copies are looked for."""
    distance = np.sqrt(record.neighbour_squared.astype(np.float64))
    if scores is None or scores.detail is None:
        return Evidence(distance, copy_distance=copy_distance)
    looked_at = record.numbers[: scores.detail.shape[1]]
    return Evidence(distance, scores.detail, 1 / (1 + record.degrees[looked_at]), copy_distance)


def sample_facts(
    record: PairRecord,
    sample_sizes: Sequence[int],
    confidence: float,
    *,
    labels: npt.NDArray[np.int64] | None = None,
    scores: Scores | None = None,
    real: RealFacts | None = None,
    gate: Gate = DEFAULT_GATE,
    moved: NearestReal | None = None,
) -> SampleFacts:
    """Compute all statistics of one sample.

    Parameters
    ----------
    record
        What comparing found.
    sample_sizes
        Of disjoint samples; those larger than the sample are left out.
    labels : int64 (n,), optional
        The class of each image.
    scores
        What is known beside the pairs.
    real
        The real images, where there are any; left out for these themselves.
    gate
        What passes the quality gate.
    moved
        The nearest training images over moves, where `real` has those of the real images.
    """
    support = estimate_from_degrees(record.degrees, confidence)
    # When duplicates are too many to list, the first images in a random order stand for all. Below, images are counted in
    # that order.
    below, numbers = record.listed_below, record.numbers
    pairs = _ranked(record.listed_index, numbers)
    real_degrees = None if real is None else real.facts.record.degrees
    heavy = _numbered(heavy_modes(pairs, below, confidence, real_degrees), numbers)
    sharpened = _sharpened(record, scores)
    ratio = share = among = judgement = copied = original = ratio_to_real = diversity_at = None
    at_rates: tuple[Diversity, ...] = ()
    if real is not None:
        distance = np.sqrt(record.neighbour_squared.astype(np.float64))
        inside = realistic(distance, real.neighbours)
        ratio, share = fidelity_ratio(distance, real.neighbours), float(inside.mean())
        original = NearestReal(record.neighbour, record.neighbour_squared) if moved is None else moved
        to_original = np.sqrt(original.squared.astype(np.float64))
        judgement = judge(evidence(record, scores, to_original), real.held_out, gate)
        copied = copying(to_original, original.neighbour, real.images.copies, confidence, blurred=judgement.blurred)
        among = support_within(pairs, inside[numbers[:below]], confidence)
        ratio_to_real = _ratio_to_real(record, support, scores, real)
        at_rates = _at_rates(scores, real, confidence)
        if sharpened is not None and real.facts.scores is not None:
            diversity_at = diversity_ratio(sharpened.curve, real.facts.scores.curve)
    return SampleFacts(
        record=record,
        original=original,
        support=support,
        frequencies={
            size: _frequency(pairs, below, size, confidence) for size in sample_sizes if size <= record.samples
        },
        heavy=heavy,
        published=None if support.one_sided else _published(support, heavy),
        classes=[] if labels is None else estimate_by_class(pairs, labels[numbers[:below]], confidence),
        real=None if real is None else real.neighbours,
        fidelity_ratio=ratio,
        realistic_share=share,
        realistic=among,
        judgement=judgement,
        copying=copied,
        scores=sharpened,
        diversity_ratio=ratio_to_real,
        at_rates=at_rates,
        sensitivity=None if sharpened is None else _sensitivity(sharpened.curve, math.sqrt(record.threshold_squared)),
        unseen=unseen_share(record.degrees, confidence),
        numbers=effective_numbers(record.degrees, confidence=confidence),
        distinct_curve=rarefaction(
            record.degrees, np.maximum(np.multiply(MULTIPLES, record.samples), 1).astype(np.int64), confidence
        ),
        diversity_ratio_at=diversity_at,
    )


def _ratio_to_real(
    record: PairRecord, support: Estimate, scores: Scores | None, real: RealFacts
) -> tuple[float, float, float]:
    """p2 of the real images over p2 of the samples, and its interval.

    Where the distance stands for a rate of real pairs, the interval has the uncertainty of the distance, and copies among
    the real images count for its upper end alone. Without a duplicate among the samples the ratio is its lower bound.
    """
    chosen = real.images.chosen.real
    if chosen is not None and scores is not None:
        whole = record.listed_below == record.samples
        close = pairs_curve(record.listed_squared, record.samples, scores.curve.distances) if whole else None
        found = diversity_of(support, scores.curve, chosen, close)
        return found.ratio, found.ratio_low, found.ratio_high
    low, high = ratio_interval(real.facts.support, support)
    return (low if support.one_sided else real.facts.support.p2 / support.p2), low, high


def _at_rates(scores: Scores | None, real: RealFacts, confidence: float) -> tuple[Diversity, ...]:
    """Diversity at each rate, of the images looked at for the scores."""
    if scores is None or not scores.rate_degrees.size:
        return ()
    degrees = scores.rate_degrees
    return tuple(
        diversity_of(estimate_from_degrees(row, confidence), scores.curve, rate)
        for row, rate in zip(degrees, real.images.rates, strict=True)
    )


def _sensitivity(curve: CorrelationCurve, distance: float) -> tuple[float, ...]:
    """Effective number at 0.9 and 1.1 of a distance; infinite where no pair is so close."""
    places = np.searchsorted(curve.distances, np.multiply((FACTORS[0], FACTORS[-1]), distance) * (1 - 1e-12))
    return tuple(curve.effective_number[places].tolist())


def _ranked(pairs: Index, numbers: Index) -> Index:
    """Pairs of images as pairs of their ranks in an order of all images."""
    rank = np.empty_like(numbers)
    rank[numbers] = np.arange(len(numbers))
    ranked: Index = rank[pairs]
    return ranked


def _numbered(heavy: HeavyModes, numbers: Index) -> HeavyModes:
    """Heavy modes of ranked images with the images' numbers."""
    modes = tuple(replace(mode, members=numbers[mode.members]) for mode in heavy.modes)
    return replace(heavy, modes=modes)


def _frequency(pairs: Index, below: int, size: int, confidence: float) -> Frequency:
    """Disjoint samples with a duplicate, among the images whose duplicates are listed.

    Of a sample size beyond them one sample is known: the first images, which hold more duplicates than could be listed.
    """
    if size <= below:
        return collision_frequency(pairs, below, size, confidence)
    low, high = wilson_interval(1, 1, confidence)
    return Frequency(1, 1, 1.0, low, high)


def _published(support: Estimate, heavy: HeavyModes) -> Published:
    size = support.sample_size_at_half
    bound = theorem_bound(size, 0.5)
    return Published(size, published_support(size), corrected_support(size), bound, not heavy.modes)


def _sharpened(record: PairRecord, scores: Scores | None) -> Scores | None:
    """The scores, with all pairs of the sample counted in the curve as far as they are listed."""
    if scores is None or record.listed_below < record.samples:
        return scores
    threshold = float(np.sqrt(record.threshold_squared))
    curve: CorrelationCurve = scores.curve.sharpened(record.listed_squared, record.samples, threshold)
    return replace(scores, curve=curve)
