"""Everything that is said of one sample: of a trial's snapshot, and of anyone's file.

Invariant: a function of what comparing found, so that results, table, report and JSON can't contradict one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ganlab.classes import ClassEstimate, estimate_by_class
from ganlab.correlation import CorrelationCurve, diversity_ratio
from ganlab.exact import Index
from ganlab.fidelity import RealNeighbours, fidelity_ratio, passes_gate, realistic
from ganlab.intervals import wilson_interval
from ganlab.modes import HeavyModes, heavy_modes, support_within
from ganlab.scores import Scores
from ganlab.support import (
    Estimate,
    Frequency,
    collision_frequency,
    corrected_support,
    estimate_from_degrees,
    published_support,
    theorem_bound,
)
from storage.pair_records import PairRecord

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Published:
    """What the published test says of a sample whose images collide half of the time at size `sample_size`.

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
    """Of one sample.

    Attributes
    ----------
    record : PairRecord
        What comparing found.
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
    scores : Scores or None
        See `ganlab.scores`; its curve is sharpened by all pairs.
    diversity_ratio : float or None
        Support over that of the real images.
    diversity_ratio_at : float64 (t,) or None
        The same at each distance of the curve.
    """

    record: PairRecord
    support: Estimate
    frequencies: Mapping[int, Frequency]
    heavy: HeavyModes
    published: Published | None
    classes: Sequence[ClassEstimate]
    real: RealNeighbours | None
    fidelity_ratio: float | None
    realistic_share: float | None
    realistic: Estimate | None
    scores: Scores | None
    diversity_ratio: float | None
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

    def passes_gate(self, gate: float) -> bool:
        """Whether the samples are near enough to the real images for a verdict; False without real images."""
        return self.real is not None and passes_gate(self.distance, self.real, gate)


@dataclass(frozen=True, eq=False)
class RealFacts:
    """Of the real images, measured in the same way; `neighbours` are their distances to one another's nearest."""

    neighbours: RealNeighbours
    facts: SampleFacts


def sample_facts(
    record: PairRecord, sample_sizes: Sequence[int], confidence: float, *,
    labels: npt.NDArray[np.int64] | None = None, scores: Scores | None = None, real: RealFacts | None = None,
) -> SampleFacts:  # fmt: skip
    """Say everything of one sample.

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
    """
    support = estimate_from_degrees(record.degrees, confidence)
    # When duplicates are too many to list, the first images in a random order stand for all. Below, images are counted in
    # that order.
    below, numbers = record.listed_below, record.numbers
    pairs = _ranked(record.listed_index, numbers)
    heavy = _numbered(heavy_modes(pairs, below, confidence), numbers)
    sharpened = _sharpened(record, scores)
    ratio = share = among = diversity = diversity_at = None
    if real is not None:
        distance = np.sqrt(record.neighbour_squared.astype(np.float64))
        inside = realistic(distance, real.neighbours)
        ratio, share = fidelity_ratio(distance, real.neighbours), float(inside.mean())
        among = support_within(pairs, inside[numbers[:below]], confidence)
        diversity = support.size / real.facts.support.size
        if sharpened is not None and real.facts.scores is not None:
            diversity_at = diversity_ratio(sharpened.curve, real.facts.scores.curve)
    return SampleFacts(
        record=record,
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
        scores=sharpened,
        diversity_ratio=diversity,
        diversity_ratio_at=diversity_at,
    )  # fmt: skip


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
