"""How many distinct images does the maker of these samples have? The answer for anyone's file, as plain data.

Invariant: every unordered pair is compared exactly once; what is not finite or not measured is null, never a number.
"""

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ganlab.classes import nonuniform_classes
from ganlab.content import content_digests, random_places, take
from ganlab.correlation import choose_distances, correlation_curve
from ganlab.exact import Index
from ganlab.fidelity import RealNeighbours
from ganlab.scores import Scores, real_side, score, score_real, scored_images
from ganlab.support import Estimate
from jobs.measuring.comparison import Comparison, Found, Keep, Map, Progress, Source, compare, pair_record
from jobs.measuring.facts import RealFacts, SampleFacts, sample_facts
from jobs.measuring.notes import Note, content_notes, figure_notes
from jobs.measuring.samples import Opened
from jobs.measuring.space import PIXELS, Space
from storage.pair_records import NearestReal
from storage.samples import DamagedShardError

SAMPLE_SIZES = (10, 20, 50, 100, 200, 400, 1000, 2000, 5000)
CLOSEST = 20
CONFIDENCE = 0.95
NEIGHBOUR_QUANTILE = 0.1  # as `collisions.real_neighbour_quantile` in a sweep file
Keeper = Callable[[str, Comparison], Keep]


@dataclass(frozen=True, eq=False)
class SampleAnswer:
    """What all pairs of one set of samples say, with what real images say at the same threshold where there are any."""

    samples: Opened
    reference: Opened | None
    space: Space
    threshold: float
    threshold_from: str
    facts: SampleFacts
    real: RealFacts | None
    notes: Sequence[Note]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        facts, record, support = self.facts, self.facts.record, self.facts.support
        own = {
            "path": str(self.samples.path), "notes": [note._asdict() for note in self.notes],
            "embedding": _embedding_json(self.space), "samples": support.samples,
            "pairs_compared": record.pairs_compared, "threshold": self.threshold, "threshold_from": self.threshold_from,
            "duplicates": support.duplicates, **_support_json(support),
            "sample_size_at_half": _finite(support.sample_size_at_half),
            "sample_size_at_half_low": _finite(support.sample_size_at_half_low),
            "sample_size_at_half_high": _finite(support.sample_size_at_half_high),
            "nonuniformity": _finite(support.nonuniformity), "largest_mode_mass": support.largest_mode_mass,
            "published": None if facts.published is None else {
                "sample_size": facts.published.sample_size, "support_size": facts.published.support,
                "corrected_support_size": facts.published.corrected, "theorem_bound": _finite(facts.published.bound),
                "theorem_applies": facts.published.applies,
            },
            "heavy_modes": self._modes_json(),
            "without_heavy_modes": None if facts.heavy.rest is None else _support_json(facts.heavy.rest),
            "collision_probability": [
                {"sample_size": size, "seen": each.probability, "low": each.low, "high": each.high,
                 "samples": each.repeats, "model": support.collision_probability(size)}
                for size, each in facts.frequencies.items()
            ],
            "closest": [
                {"images": [int(i), int(j)], "distance": math.sqrt(squared), **self._nearest_json([int(i), int(j)])}
                for (i, j), squared in zip(record.closest_index, record.closest_squared, strict=True)
            ],
            "thresholds": self._curve_json(),
        }  # fmt: skip
        if facts.classes:
            own |= {"classes": self._classes_json(), "nonuniform_classes": nonuniform_classes(facts.classes)}
        return own | self._against_real_json()

    def _against_real_json(self) -> dict[str, Any]:
        facts = self.facts
        if self.real is None or facts.scores is None:
            return {}
        real, manifold = self.real.facts, facts.scores.manifold
        names = ("precision", "recall", "density", "coverage", "neighbours")
        return {
            "fidelity_ratio": _finite(facts.fidelity_ratio), "realistic_share": facts.realistic_share,
            "realistic": None if facts.realistic is None else _support_json(facts.realistic),
            **{name: None if manifold is None else getattr(manifold, name) for name in names},
            "scored_images": None if manifold is None else manifold.generated_images,
            "frechet_distance": _finite(facts.scores.frechet), "diversity_ratio": facts.diversity_ratio,
            "real": {
                "path": None if self.reference is None else str(self.reference.path),
                "samples": real.support.samples, "duplicates": real.support.duplicates, **_support_json(real.support),
                "frechet_distance": None if real.scores is None else _finite(real.scores.frechet),
            },
        }  # fmt: skip

    def _nearest_json(self, images: list[int]) -> dict[str, Any]:
        if self.real is None:
            return {}
        return {"nearest_real": self.facts.record.neighbour[images].tolist(),
                "distance_to_real": self.facts.distance[images].tolist()}  # fmt: skip

    def _modes_json(self) -> list[dict[str, Any]]:
        return [
            {"image": int(mode.members[0]), "duplicates": self.facts.duplicates_of(int(mode.members[0])),
             "members": len(mode.members), "among": self.facts.heavy.samples, "mass": mode.mass, "mass_low": mode.low,
             "mass_high": mode.high, "images": mode.members[:20].tolist(),
             **self._nearest_json(mode.members[:1].tolist())}
            for mode in self.facts.heavy.modes
        ]  # fmt: skip

    def _curve_json(self) -> list[dict[str, Any]]:
        if self.facts.scores is None:
            return []
        curve, ratio = self.facts.scores.curve, self.facts.diversity_ratio_at
        points = [
            {"distance": distance, "probability": probability, "pairs": pairs}
            for distance, probability, pairs in zip(
                curve.distances.tolist(), curve.probability.tolist(), curve.pairs.tolist(), strict=True)
        ]  # fmt: skip
        if self.real is not None and self.real.facts.scores is not None and ratio is not None:
            real = self.real.facts.scores.curve.probability.tolist()
            for point, probability, share in zip(points, real, ratio.tolist(), strict=True):
                point |= {"real_probability": probability, "diversity_ratio": _finite(share)}
        return points

    def _classes_json(self) -> list[dict[str, Any]]:
        real = {} if self.real is None else {each.label: each.support for each in self.real.facts.classes}
        return [
            {"label": each.label, "samples": each.support.samples, "duplicates": each.support.duplicates,
             **_support_json(each.support), "sample_size_at_half": _finite(each.support.sample_size_at_half),
             "nonuniformity": _finite(each.support.nonuniformity), "nonuniform": each.nonuniform,
             "largest_mode_mass": each.support.largest_mode_mass,
             **({"real": _support_json(real[each.label])} if each.label in real else {})}
            for each in self.facts.classes
        ]  # fmt: skip


def measure_samples(
    samples: Opened,
    reference: Opened | None,
    threshold: float | None,
    memory_bytes: int,
    map: Map,
    progress: Progress,
    *,
    in_space: tuple[Space, Source, Source | None] | None = None,
    keep: Keeper | None = None,
    stage: Callable[[str, float, float], None] = lambda name, done, total: None,
) -> SampleAnswer:
    """Compare all pairs of the samples, and of the reference where there is one.

    Parameters
    ----------
    samples, reference
        Samples, and real images of the same shape and type.
    threshold
        Largest distance of a duplicate; by default from the reference, which there must then be (see
        `ganlab.fidelity.RealNeighbours.threshold`).
    map
        `map(function, items)` of some cluster, or Python's own.
    in_space
        What `jobs.measuring.samples.in_embedding` gave; by default pixels.
    keep
        Where unfinished work is kept, from the name of a part of the work and what it depends on; None to keep nothing.
    stage
        Called with (name, done, total) of what is done beside comparing pairs.
    """
    space, source, others = in_space or (PIXELS, samples.source, None if reference is None else reference.source)
    # Sub-samples are drawn by what the images are, so that the order in which they are stored changes nothing.
    content = {
        each: content_digests(each.source.read, each.source.shape[0], partial(stage, "Reading images"))
        for each in (samples, reference)
        if each is not None
    }
    places = {each: random_places(digests, each.labels) for each, digests in content.items()}

    def found(wanted: Mapping[str, Comparison]) -> dict[str, Found]:
        kept = {name: (each, None if keep is None else keep(name, each)) for name, each in wanted.items()}
        answers = {}
        for name, answer in compare(kept, memory_bytes, map, progress):
            if isinstance(answer, DamagedShardError):
                raise answer
            answers[name] = answer
        return answers

    near: Found | None = None
    if others is not None:
        wanted = Comparison(others, _run(), reference=others, itself=True)
        near = found({"nearest other real image": wanted})["nearest other real image"]
    neighbours = None if near is None else RealNeighbours(_distance(near))
    chosen = "--threshold"
    automatic = threshold is None
    if threshold is None:
        assert neighbours is not None, "neither threshold nor reference"
        threshold = neighbours.threshold(NEIGHBOUR_QUANTILE)
        chosen = f"the {NEIGHBOUR_QUANTILE} quantile of real images' distances to their nearest other one"
    integer = source.dtype == np.uint8
    squared = math.floor(threshold**2 + 1e-9) if integer else threshold**2
    comparisons = {"samples": Comparison(source, _run(), squared, CLOSEST, others, places=places[samples])}
    if others is not None and reference is not None:
        comparisons["real"] = Comparison(others, _run(), squared, CLOSEST, places=places[reference])
    answers = found(comparisons)
    records = {
        name: pair_record(each, answers[name], _nearest(near if name == "real" else answers[name]))
        for name, each in comparisons.items()
    }
    real_order = None if reference is None else records["real"].numbers
    own_scores, real_scores = _scores(source, records["samples"].numbers, others, real_order, math.sqrt(squared), stage)
    real = None
    if reference is not None and neighbours is not None:
        labels = None if samples.labels is None else reference.labels
        record = records["real"]
        facts = sample_facts(record, SAMPLE_SIZES, CONFIDENCE, labels=labels, scores=real_scores)
        real = RealFacts(neighbours, facts)
    facts = sample_facts(
        records["samples"], SAMPLE_SIZES, CONFIDENCE, labels=samples.labels, scores=own_scores, real=real
    )
    notes = [
        *content_notes(content[samples], None if reference is None else content[reference]),
        *figure_notes(facts, None if real is None else real.facts, automatic),
    ]
    return SampleAnswer(samples, reference, space, threshold, chosen, facts, real, notes)


def _scores(
    source: Source,
    order: Index,
    others: Source | None,
    real_order: Index | None,
    threshold: float,
    stage: Callable[[str, float, float], None],
) -> tuple[Scores, Scores | None]:
    """Score the samples, and the real images; both are drawn in the order given."""
    count, image_bytes = source.shape[0], source.read(0, 1).nbytes
    stage("Scoring", 0, 2)
    if others is None:
        some = take(source.read, order[: scored_images(count, count, image_bytes)])
        return Scores(None, math.nan, correlation_curve(some, choose_distances(some, threshold))), None
    images = scored_images(count, others.shape[0], image_bytes)
    against = real_side(others.read, others.shape[0], images, threshold, real_order)
    of_real = score_real(others.read, others.shape[0], against.distances, real_order)
    stage("Scoring", 1, 2)
    own = score(source.read, count, against, order)
    stage("Scoring", 2, 2)
    return own, of_real


def _nearest(found: Found | None) -> NearestReal | None:
    if found is None or found.neighbours is None:
        return None
    return NearestReal(found.neighbours.index[:, 0], found.neighbours.squared_distance[:, 0])


def _distance(found: Found) -> np.ndarray:
    assert found.neighbours is not None
    return np.sqrt(found.neighbours.squared_distance[:, 0])


def _run() -> str:
    """A name for images that are not looked at before they are compared: workers keep what they learn for this run."""
    return uuid.uuid4().hex


def _embedding_json(space: Space) -> dict[str, Any]:
    if space.classifier is None:
        return {"name": space.name}
    return {"name": space.name, "held_out_accuracy": space.classifier.held_out_accuracy,
            "training_accuracy": space.classifier.training_accuracy,
            "held_out_images": space.classifier.held_out_images}  # fmt: skip


def _support_json(support: Estimate) -> dict[str, Any]:
    return {
        "support_size": support.size, "support_size_low": support.low, "support_size_high": _finite(support.high),
        "one_sided": support.one_sided, "confidence": support.confidence,
    }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
