"""Everything that is said of one sample: of a trial's snapshot, and of anyone's file.

Invariant: a function of what comparing found, so that results, table, report and JSON can't contradict one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganlab.classes import ClassEstimate, estimate_by_class
from ganlab.correlation import CorrelationCurve, diversity_ratio
from ganlab.fidelity import RealNeighbours, fidelity_ratio, realistic
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
        Its heavy modes, and the support without them.
    published : Published or None
        None when no duplicate was seen.
    classes : list of ClassEstimate
        By label; none for images without labels.
    fidelity_ratio, realistic_share : float or None
        Against the real images; None without.
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
    # When duplicates are too many to list, the first images stand for all: they are as independent as any.
    below, pairs = record.listed_below, record.listed_index
    heavy = heavy_modes(pairs, below, confidence)
    sharpened = _sharpened(record, scores)
    ratio = share = among = diversity = diversity_at = None
    if real is not None:
        distance = np.sqrt(record.neighbour_squared.astype(np.float64))
        inside = realistic(distance, real.neighbours)
        ratio, share = fidelity_ratio(distance, real.neighbours), float(inside.mean())
        among = support_within(pairs, inside[:below], confidence)
        diversity = support.size / real.facts.support.size
        if sharpened is not None and real.facts.scores is not None:
            diversity_at = diversity_ratio(sharpened.curve, real.facts.scores.curve)
    return SampleFacts(
        record=record,
        support=support,
        frequencies={
            size: collision_frequency(pairs, max(below, size), size, confidence)
            for size in sample_sizes if size <= record.samples
        },
        heavy=heavy,
        published=None if support.one_sided else _published(support, heavy),
        classes=[] if labels is None else estimate_by_class(pairs, labels[:below], confidence),
        fidelity_ratio=ratio,
        realistic_share=share,
        realistic=among,
        scores=sharpened,
        diversity_ratio=diversity,
        diversity_ratio_at=diversity_at,
    )  # fmt: skip


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
    return Scores(scores.manifold, scores.frechet, curve)
