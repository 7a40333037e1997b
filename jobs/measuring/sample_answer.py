"""Measurement of anyone's samples, in files or folders: the same statistics as those of a trial's snapshot.

Invariant: every unordered pair is compared exactly once; the answer is a Dataset of results with one trial.
"""

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ganlab.pairs.content import content_digests, in_order, random_places, take
from ganlab.pairs.exact import Index
from ganlab.quality.copying import training_cells
from ganlab.quality.fidelity import RealNeighbours
from ganlab.quality.gate import DEFAULT_GATE
from ganlab.quality.kernels import vendi_score
from ganlab.quality.scores import Scores, detail_basis, real_side, score, score_real, scored_images, with_detail
from ganlab.statistics.correlation import choose_distances, correlation_curve
from ganlab.statistics.diversity import FACTORS
from ganlab.statistics.duplicate_distance import RATES, DuplicateDistance
from jobs.measuring.cells import Axes, rate_values, real_values, sample_values, stacked
from jobs.measuring.comparison import (
    Comparison,
    Map,
    PartialResult,
    Progress,
    Source,
    StateStore,
    compare,
    forget_images,
    pair_record,
)
from jobs.measuring.distance import ChosenDistance, Joined, RealImages, choose_distance, real_rates, wanted_rates
from jobs.measuring.facts import RealFacts, SampleFacts, sample_facts
from jobs.measuring.moved import moved_comparison, moved_neighbours, nearest_over_moves
from jobs.measuring.notes import Note, content_notes, figure_notes, type_notes
from jobs.measuring.samples import Embedded, MovedSets, Opened, in_embedding
from jobs.measuring.space import PIXELS, Space
from jobs.spec.sections import Threshold
from storage.pair_records import NearestReal
from storage.results import build_dataset
from storage.samples import DamagedShardError

SAMPLE_SIZES = (10, 20, 50, 100, 200, 400, 1000, 2000, 5000)
CLOSEST = 20
CONFIDENCE = 0.95
NEAREST_OTHER, NEAREST_OF_HELD_OUT = "nearest other real image", "nearest real image of held-out images"
MOVED = "nearest over moves of "
"""Names of parts of the work, under which what is unfinished is kept."""
StoreOf = Callable[[str, Comparison], StateStore]


@dataclass(frozen=True, eq=False)
class SampleAnswer:
    """Answer for one set of samples, with that of real images at the same threshold where there are any."""

    samples: Opened
    reference: Opened | None
    held_out: Opened | None
    space: Space
    chosen: ChosenDistance
    facts: SampleFacts
    real: RealFacts | None
    notes: Sequence[Note]

    @property
    def threshold(self) -> float:
        """Largest distance of a duplicate."""
        return self.chosen.distance

    @property
    def results(self) -> Any:
        """The answer as a Dataset of results with one trial and one snapshot: an xarray.Dataset."""
        labels = sorted({each.label for each in self.facts.classes})
        rates = () if self.real is None else self.real.images.rates
        axes = Axes(SAMPLE_SIZES, labels, CLOSEST, tuple(each.rate for each in rates))
        variables = stacked([[sample_values(self.facts, axes)]]) | {"threshold": self.threshold}
        coordinates: dict[str, Any] = {
            "trial": [self.samples.path.name],
            "family": [""],
            "status": ["completed"],
            "step": [0],
            **axes.coordinates,
            "class": np.array(labels, dtype=np.int64),
        }
        if self.facts.scores is not None:
            coordinates["distance"] = self.facts.scores.curve.distances
        if self.real is not None:
            variables |= real_values(self.real.facts, axes) | rate_values(rates)
        attributes = {
            "title": self.samples.path.name,
            "embedding": self.space.name,
            "embedding_about": self.space.about,
            "embedding_fingerprint": self.space.fingerprint,
            "confidence": self.facts.support.confidence,
            "fidelity_gate": DEFAULT_GATE.largest_ratio,
            "quality_faults": list(map(str, DEFAULT_GATE.faults)),
            "moved_copies": self.real is not None and self.real.images.moved is not None,
            "threshold": self.chosen.attributes,
        }
        if (classifier := self.space.classifier) is not None:
            variables |= {
                "embedding_accuracy": classifier.held_out_accuracy,
                "embedding_training_accuracy": classifier.training_accuracy,
            }
        return build_dataset(coordinates, variables, attributes)


def measure_samples(
    samples: Opened,
    reference: Opened | None,
    threshold: Threshold,
    memory_bytes: int,
    map: Map,
    progress: Progress,
    *,
    held_out: Opened | None = None,
    in_space: Embedded | None = None,
    keep: StoreOf | None = None,
    stage: Callable[[str, float, float], None] = lambda name, done, total: None,
) -> SampleAnswer:
    """Compare all pairs of the samples, and of the reference where there is one.

    Parameters
    ----------
    samples, reference
        Samples, and the real images that their model was trained on, of the same shape and type.
    held_out
        Real images that it was not trained on; without any, each image of the reference is held out in turn.
    threshold
        Largest distance of a duplicate, as in a sweep file; all but a number need the reference.
    map
        `map(function, items)` of some cluster, or Python's own.
    in_space
        What `jobs.measuring.samples.in_embedding` gave; by default pixels.
    keep
        Where unfinished work is kept, from the name of a part of the work and what it depends on; None to keep nothing.
    stage
        Called with (name, done, total) of what is done beside comparing pairs.
    """
    if in_space is None:
        in_space = in_embedding(PIXELS.setting, samples, reference, held_out, map, stage)
    space, source, others, test, moved_sets = in_space
    # Sub-samples are drawn by what the images are, so that the order in which they are stored changes nothing.
    content = {
        each: content_digests(each.source.read, each.source.shape[0], partial(stage, "Reading images"))
        for each in (samples, reference, held_out)
        if each is not None
    }
    places = {each: random_places(digests, each.labels) for each, digests in content.items()}

    def found(wanted: Mapping[str, Comparison]) -> dict[str, PartialResult]:
        kept = {name: (each, None if keep is None else keep(name, each)) for name, each in wanted.items()}
        answers = {}
        for name, answer in compare(kept, memory_bytes, map, progress):
            if isinstance(answer, DamagedShardError):
                raise answer
            answers[name] = answer
        return answers

    near: PartialResult | None = None
    neighbours, real_name = None, _run()
    if others is not None:
        wanted = {NEAREST_OTHER: Comparison(others, real_name, reference=others, itself=True)}
        if test is not None:
            wanted[NEAREST_OF_HELD_OUT] = Comparison(test, _run(), reference=others, reference_name=real_name)
        real_near = found(wanted)
        near = real_near[NEAREST_OTHER]
        beside = real_near.get(NEAREST_OF_HELD_OUT, near)
        nearest = _nearest(beside)
        assert nearest is not None
        assert reference is not None
        count = len(nearest.neighbour)
        cells = training_cells(others.read, others.shape[0], in_order(places[reference]), count)
        of_test = None if test is None else _distance(beside)
        neighbours = RealNeighbours(_distance(near), of_test, nearest.neighbour, cells)
    stage("Real pairs", 0, 1)
    rates: tuple[DuplicateDistance, ...] = ()
    if others is not None and reference is not None:
        every, order = others, places[reference]
        if test is not None and held_out is not None:
            every, order = Joined(others, test), random_places(np.concatenate([content[reference], content[held_out]]))
        rates = real_rates(every, in_order(order), wanted_rates(threshold, RATES))
    stage("Real pairs", 1, 1)
    chosen = choose_distance(threshold, rates, neighbours, source.dtype == np.uint8)
    squared = chosen.squared
    comparisons = {
        "samples": Comparison(
            source, _run(), squared, CLOSEST, others, places=places[samples], reference_name=real_name
        )
    }
    if others is not None and reference is not None:
        comparisons["real"] = Comparison(others, real_name, squared, CLOSEST, places=places[reference])
    answers = found(comparisons)
    records = {
        name: pair_record(each, answers[name], _nearest(near if name == "real" else answers[name]), memory_bytes)
        for name, each in comparisons.items()
    }
    real_order = None if reference is None else records["real"].numbers
    own_scores, real_scores = _scores(
        source, records["samples"].numbers, others, real_order, math.sqrt(squared), rates, stage
    )
    if reference is not None and real_order is not None and real_scores is not None:
        own_scores, real_scores = _with_detail(
            (own_scores, samples, records["samples"].numbers), (real_scores, reference, real_order)
        )
    real = moved = None
    if reference is not None and neighbours is not None:
        labels = None if samples.labels is None else reference.labels
        record = records["real"]
        facts = sample_facts(record, SAMPLE_SIZES, CONFIDENCE, labels=labels, scores=real_scores)
        real_moved = None
        if moved_sets is not None:
            over_moves = _over_moves(moved_sets, found)
            moved = over_moves["samples"]
            real_moved = moved_neighbours(over_moves["reference"], over_moves.get("held_out"), neighbours.cells)
        real = RealFacts(RealImages(neighbours, chosen, rates, real_moved), facts)
    facts = sample_facts(
        records["samples"], SAMPLE_SIZES, CONFIDENCE, labels=samples.labels, scores=own_scores, real=real, moved=moved
    )
    notes = [
        *content_notes(
            content[samples],
            None if reference is None else content[reference],
            None if held_out is None else content[held_out],
        ),
        *type_notes(samples, reference is not None),
        *figure_notes(facts, None if real is None else real.facts, chosen),
    ]
    return SampleAnswer(samples, reference, held_out, space, chosen, facts, real, notes)


def _scores(
    source: Source,
    order: Index,
    others: Source | None,
    real_order: Index | None,
    threshold: float,
    rates: tuple[DuplicateDistance, ...],
    stage: Callable[[str, float, float], None],
) -> tuple[Scores, Scores | None]:
    """Score the samples, and the real images; both are drawn in the order given."""
    count, image_bytes = source.shape[0], source.read(0, 1).nbytes
    forget_images()
    stage("Scoring", 0, 2)
    if others is None:
        some = take(source.read, order[: scored_images(count, count, image_bytes)])
        curve = correlation_curve(some, choose_distances(some, threshold, np.multiply(FACTORS, threshold)))
        return Scores(None, math.nan, curve, vendi=vendi_score(some)), None
    images = scored_images(count, others.shape[0], image_bytes)
    against = real_side(others.read, others.shape[0], images, threshold, real_order, rates)
    of_real = score_real(
        others.read, others.shape[0], against.distances, real_order, against.bandwidth, against.everyone
    )
    stage("Scoring", 1, 2)
    own = score(source.read, count, against, order)
    stage("Scoring", 2, 2)
    return own, of_real


def _with_detail(own: tuple[Scores, Opened, Index], real: tuple[Scores, Opened, Index]) -> tuple[Scores, Scores]:
    """Add fine detail to the scores of samples and of real images, each drawn in the order given."""
    (scores, samples, order), (real_scores, reference, real_order) = own, real
    pictures, real_pictures = samples.pictures, reference.pictures
    if pictures is None or real_pictures is None:
        return scores, real_scores
    basis = detail_basis(real_pictures.read, real_pictures.shape[0], real_order)
    return (
        with_detail(scores, basis, pictures.read, pictures.shape[0], order),
        with_detail(real_scores, basis, real_pictures.read, real_pictures.shape[0], real_order, learnt=True),
    )


def _over_moves(
    sets: MovedSets, found: Callable[[Mapping[str, Comparison]], dict[str, PartialResult]]
) -> dict[str, NearestReal]:
    """The nearest training images over moves of each set, by its name in `MovedSets`."""
    training, *images = sets
    names = [name for name, each in zip(MovedSets._fields[1:], images, strict=True) if each is not None]
    wanted = {
        MOVED + name: moved_comparison(getattr(sets, name), _run(), training, itself=name == "reference")
        for name in names
    }
    results = found(wanted)
    return {
        name: nearest_over_moves(results[MOVED + name], training.dtype, itself=name == "reference") for name in names
    }


def _nearest(found: PartialResult | None) -> NearestReal | None:
    if found is None or found.neighbours is None:
        return None
    return NearestReal(found.neighbours.index[:, 0], found.neighbours.squared_distance[:, 0])


def _distance(found: PartialResult) -> np.ndarray:
    assert found.neighbours is not None
    return np.sqrt(found.neighbours.squared_distance[:, 0])


def _run() -> str:
    """A name for images that are not looked at before they are compared: workers keep what they learn for this run."""
    return uuid.uuid4().hex
