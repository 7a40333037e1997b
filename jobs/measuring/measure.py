"""All pairs of every trial's committed samples, and what they say about its diversity and fidelity.

Invariant: every number follows from committed shards and the collision settings alone; a finished record is bound to both
by its fingerprint, so measuring again recomputes only what is new, and comes to the same bits.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ganlab.pairs.content import content_digests, content_order, random_places
from ganlab.pairs.exact import Index
from ganlab.quality.copying import training_cells
from ganlab.quality.embeddings.names import folder_name
from ganlab.quality.fidelity import RealNeighbours
from ganlab.quality.scores import Scores
from ganlab.statistics.duplicate_distance import RATES
from jobs.measuring.comparison import ENGINE, Comparison, Map, PartialResult, Progress, Source, compare, pair_record
from jobs.measuring.distance import (
    RATE_FIELDS,
    Joined,
    RealImages,
    choose_distance,
    rates_from_arrays,
    rates_to_arrays,
    real_rates,
    wanted_rates,
)
from jobs.measuring.moved import MovedImages, moved_comparison, moved_name, moved_neighbours, nearest_over_moves
from jobs.measuring.scoring import ScoreRequest, has_distances, read_scores, scores_name, write_scores
from jobs.measuring.space import PIXELS, FeatureRequest, Space, embed, sweep_space
from jobs.spec.sweep import CollisionSettings, TrialSettings
from storage.layout import SweepLayout
from storage.pair_records import (
    NearestReal,
    read_nearest_real,
    read_pair_record,
    read_real_distances,
    snapshot_checksums,
    write_nearest_real,
    write_pair_record,
    write_real_distances,
)
from storage.partial_pairs import PartialPairs
from storage.progress import recorded
from storage.reference import Reference, read_held_out, read_reference
from storage.samples import DamagedShardError, Samples

Stage = Callable[[str, float, float], None]
REFERENCE = "reference"  # stands for the real images where a trial's id may stand
CELLS = "cells"  # name of the cells of training images among what is kept of the real images
HELD_OUT = "held-out"  # stands for the real images that no trial was trained on
REAL_ORDER = "by content"  # in which duplicates of the real images are listed
# A snapshot that is still being drawn is compared from so many images on, and again when there are so many times as many.
BEGIN_IMAGES, BEGIN_GROWTH = 50_000, 1.5


class Snapshot(NamedTuple):
    """The samples of one trial at one step; or real images: (REFERENCE, 0) of training, (HELD_OUT, 0) held out."""

    trial: str
    step: int


@dataclass(frozen=True)
class SnapshotImages:
    """Reads the images of one snapshot, numbered from 0; cheap to send to a worker."""

    source: Samples | Reference
    first: int
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Images, channels, height, width."""
        return (self.count, *self.source.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 of images, float32 of points."""
        return self.source.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop): uint8 (n, C, H, W), or float32 (n, values) of points."""
        return self.source.read(self.first + start, self.first + stop)


@dataclass(frozen=True)
class CommittedSnapshot:
    """A snapshot as far as its shards are committed, in order from the first.

    Parameters
    ----------
    snapshot, images
        Which, and its images so far, not yet in the space they are compared in.
    complete
        Every shard is committed.
    dependencies
        What a record depends on beside the images.
    checksums, shard_images
        Of each of its shards, and how many images each holds.
    """

    snapshot: Snapshot
    images: Source
    complete: bool
    dependencies: tuple[Any, ...]
    checksums: tuple[Any, ...]
    shard_images: int

    def fingerprint(self, images: int) -> str | None:
        """Names the first so many images, the training images and the settings."""
        shards, rest = divmod(images, self.shard_images)
        if rest or shards > len(self.checksums):
            return None
        content = json.dumps([*self.dependencies, self.checksums[:shards]])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def complete_fingerprint(self) -> str:
        """The fingerprint of all its images."""
        name = self.fingerprint(self.images.shape[0])
        assert name is not None
        return name


@dataclass(frozen=True)
class MeasureContext:
    """The sweep, the settings and the executor that all steps of a measurement share.

    Attributes
    ----------
    layout
        Of the sweep; of its folder for the space where that is not pixels.
    memory_bytes
        Of one worker.
    map
        `map(function, items)` of some cluster, or Python's own; it is not called when there is nothing to compare.
    progress
        Called with what is compared of all pairs.
    stage
        Called with (name, done, total) of what is done beside comparing pairs.
    space
        In which distances are measured.
    """

    layout: SweepLayout
    settings: CollisionSettings
    memory_bytes: int
    map: Map
    progress: Progress
    stage: Stage = lambda name, done, total: None
    space: Space = PIXELS


class MeasurementResult(NamedTuple):
    """Result of `measure_sweep` beside the records."""

    real: RealImages
    damaged: dict[Snapshot, DamagedShardError]


def measure_sweep(
    context: MeasureContext, trials: Sequence[TrialSettings], newest: int | None = None
) -> MeasurementResult:
    """Bring the records of a sweep up to what is committed; cheap when nothing is new, so it may be called in a loop.

    The space is that of the settings; the one of `context` is not asked. With `newest`, only the real images and the last
    complete snapshot of each trial that has at most so many images.

    Returns
    -------
    MeasurementResult
        With the snapshots that can't be read; all others have their records.

    Raises
    ------
    DamagedShardError
        If the real images can't be read.
    SpecError
        If the embedding can't be had for these real images.
    """
    layout, settings = context.layout, context.settings
    space = sweep_space(layout, settings.embedding, partial(context.stage, "Training the classifier"))
    layout = layout.in_space(folder_name(space.setting))
    context = replace(context, layout=layout, progress=recorded(context.layout, context.progress), space=space)
    real = real_images_of(context)
    threshold_squared = real.chosen.squared
    found = list(committed(layout, trials, settings, threshold_squared, space))
    if newest is not None:
        small = [each for each in found[1:] if each.complete and each.images.shape[0] <= newest]
        found = [found[0], *{each.snapshot.trial: each for each in small}.values()]
    wanted = [each for each in found if unmeasured(layout, each)]
    damaged = measure_snapshots(context, wanted, threshold_squared)
    complete = [each for each in found if each.complete and each.snapshot not in damaged]
    damaged |= score_snapshots(context, complete, real)
    if settings.moved_copies:
        samples = [each for each in complete if each.snapshot.trial != REFERENCE and each.snapshot not in damaged]
        damaged |= search_over_moves(context, samples, {each.snapshot: each.complete_fingerprint for each in samples})
    return MeasurementResult(real, damaged)


def real_images_of(context: MeasureContext) -> RealImages:
    """Choose the distance of duplicates, from what is computed once of the real images for all measurements of a sweep.

    Raises
    ------
    DamagedShardError
        If the real images can't be read.
    SpecError
        If they can't show the rate that is asked for.
    """
    layout, settings, space, map = context.layout, context.settings, context.space, context.map
    reference = read_reference(layout)
    held_out = held_out_in(layout, space, map)
    nearest = _nearest_real(context)
    others = nearest if held_out is None else _nearest_of_held_out(context, held_out)
    rates = wanted_rates(settings.threshold, RATES)
    name = f"{space.name_of(reference.fingerprint)} {rates} {RATE_FIELDS} {CELLS}"
    kept = read_real_distances(layout, name)
    if kept is None:
        training = reference_in(layout, space, map)
        images = training if held_out is None else Joined(training, held_out)
        found = real_rates(images, content_order(images.read, images.shape[0]), rates)
        order = content_order(training.read, training.shape[0])
        cells = training_cells(training.read, training.shape[0], order, len(others.squared))
        write_real_distances(layout, name, rates_to_arrays(found) | {CELLS: cells})
    else:
        found, cells = rates_from_arrays(kept), kept[CELLS]
    neighbours = RealNeighbours(
        np.sqrt(nearest.squared), None if held_out is None else np.sqrt(others.squared), others.neighbour, cells
    )
    chosen = choose_distance(settings.threshold, found, neighbours, space.integer(reference))
    return RealImages(neighbours, chosen, found, _moved_real(context, cells) if settings.moved_copies else None)


def _moved_real(context: MeasureContext, cells: Index) -> RealNeighbours:
    """Distances over moves of the training images to one another, and of held-out images to them."""
    layout, space = context.layout, context.space
    sets = [_real(layout, ()), *([] if (held_out := _held_out(layout)) is None else [held_out])]
    names = {each.snapshot: space.name_of([each.checksums, read_reference(layout).fingerprint]) for each in sets}
    for error in search_over_moves(context, sets, names).values():
        raise error
    found = [read_moved(layout, snapshot, name) for snapshot, name in names.items()]
    assert found[0] is not None
    return moved_neighbours(found[0], found[1] if held_out is not None else None, cells)


def search_over_moves(
    context: MeasureContext, wanted: Sequence[CommittedSnapshot], names: Mapping[Snapshot, str]
) -> dict[Snapshot, DamagedShardError]:
    """Find the training image nearest to any move of each image of complete sets, where that is not known.

    Parameters
    ----------
    names
        What names the images of each set, the training images and the space.

    Returns
    -------
    dict
        Those whose images can't be read; all others have their records.
    """
    layout, space, map = context.layout, context.space, context.map
    missing = [each for each in wanted if read_moved(layout, each.snapshot, names[each.snapshot]) is None]
    if not missing:
        return {}
    sources = {each.snapshot: MovedImages(each.images) for each in missing}
    images: Mapping[Snapshot, Source | DamagedShardError] = sources
    if space.embedding is not None:
        requests = {
            snapshot: FeatureRequest(source, layout.moved_features(*snapshot), moved_name(names[snapshot]))
            for snapshot, source in sources.items()
        }
        images = embed(space, requests, map)
    reference = reference_in(layout, space, map)
    damaged = {snapshot: each for snapshot, each in images.items() if isinstance(each, DamagedShardError)}
    comparisons = {}
    for snapshot, source in images.items():
        if isinstance(source, DamagedShardError):
            continue
        name = moved_name(names[snapshot])
        keep = PartialPairs(layout.partial_moved_neighbours(*snapshot), partial(_named, name))
        itself = snapshot.trial == REFERENCE
        comparisons[snapshot] = moved_comparison(source, _kept_as(layout, name), reference, itself=itself), keep
    for snapshot, found in compare(comparisons, context.memory_bytes, map, context.progress):
        if isinstance(found, DamagedShardError):
            damaged[snapshot] = found
            continue
        nearest = nearest_over_moves(found, reference.dtype, itself=snapshot.trial == REFERENCE)
        write_nearest_real(layout.moved_neighbours(*snapshot), moved_name(names[snapshot]), nearest)
    return damaged


def _named(name: str, images: int) -> str:
    """Name of the state of a comparison of a set that does not grow."""
    return name


def read_moved(layout: SweepLayout, snapshot: Snapshot, name: str) -> NearestReal | None:
    """The record of `search_over_moves` for images, training images and a space of this name; None if it is missing."""
    return read_nearest_real(layout.moved_neighbours(*snapshot), moved_name(name))


def _nearest_real(context: MeasureContext) -> NearestReal:
    """The nearest other training image of every training image."""
    layout, space = context.layout, context.space
    name = space.name_of(read_reference(layout).fingerprint)
    known = read_nearest_real(layout.real_neighbours, name)
    if known is None:
        images = reference_in(layout, space, context.map)
        wanted = Comparison(images, _reference_name(layout, space), reference=images, itself=True)
        known = _compared(context, wanted, name, REFERENCE, layout.partial_real_neighbours)
        write_nearest_real(layout.real_neighbours, name, known)
    return known


def _kept_as(layout: SweepLayout, name: str) -> str:
    """Name under which workers keep images of a sweep, from their name in it, which two sweeps may share."""
    return f"{layout.root.absolute()} {name}"


def _reference_name(layout: SweepLayout, space: Space) -> str:
    """Name under which workers keep the training images in the space, for several sets."""
    return _kept_as(layout, space.name_of(read_reference(layout).fingerprint))


def _nearest_of_held_out(context: MeasureContext, held_out: Source) -> NearestReal:
    """The nearest training image of every held-out image."""
    layout, space = context.layout, context.space
    name = space.name_of([HELD_OUT, read_reference(layout).fingerprint])
    known = read_nearest_real(layout.held_out_neighbours, name)
    if known is None:
        reference = reference_in(layout, space, context.map)
        wanted = Comparison(
            held_out, _kept_as(layout, name), reference=reference, reference_name=_reference_name(layout, space)
        )
        known = _compared(context, wanted, name, HELD_OUT, layout.partial_held_out_neighbours)
        write_nearest_real(layout.held_out_neighbours, name, known)
    return known


def _compared(context: MeasureContext, wanted: Comparison, name: str, key: str, partial_file: Path) -> NearestReal:
    """Compare real images with the training images; raises DamagedShardError if some can't be read."""
    keep = PartialPairs(partial_file, partial(_named, name))
    ((_, found),) = compare({key: (wanted, keep)}, context.memory_bytes, context.map, context.progress)
    if isinstance(found, DamagedShardError):
        raise found
    return _nearest(found, wanted.images)


@np.errstate(invalid="raise")
def _nearest(found: PartialResult, images: Source) -> NearestReal:
    assert found.neighbours is not None
    kind = np.int64 if images.dtype == np.uint8 else np.float64
    return NearestReal(found.neighbours.index[:, 0], found.neighbours.squared_distance[:, 0].astype(kind))


def reference_in(layout: SweepLayout, space: Space, map: Map) -> Source:
    """The real images in the space. Raises DamagedShardError if they can't be read."""
    return _in_space(layout, _real(layout, ()), space, map)


def held_out_in(layout: SweepLayout, space: Space, map: Map) -> Source | None:
    """The held-out images in the space; None without any. Raises DamagedShardError if they can't be read."""
    held_out = _held_out(layout)
    return None if held_out is None else _in_space(layout, held_out, space, map)


def _in_space(layout: SweepLayout, real: CommittedSnapshot, space: Space, map: Map) -> Source:
    (images,) = in_space(layout, [real], space, map).values()
    if isinstance(images, DamagedShardError):
        raise images
    return images


def in_space(
    layout: SweepLayout, wanted: Sequence[CommittedSnapshot], space: Space, map: Map
) -> dict[Snapshot, Source | DamagedShardError]:
    """The images of complete snapshots in the space: as they are, or their features, computed where they are not kept."""
    if space.embedding is None:
        return {each.snapshot: each.images for each in wanted}
    features = {
        each.snapshot: FeatureRequest(each.images, layout.features(*each.snapshot), space.name_of(each.checksums))
        for each in wanted
    }
    return dict(embed(space, features, map))


def unmeasured(layout: SweepLayout, each: CommittedSnapshot) -> bool:
    """True if a snapshot has no valid record and is complete, or is large and still being drawn."""
    ready = each.complete or each.images.shape[0] >= BEGIN_IMAGES
    return ready and read_pair_record(layout, *each.snapshot, each.complete_fingerprint) is None


def measure_snapshots(
    context: MeasureContext, wanted: Sequence[CommittedSnapshot], threshold_squared: float
) -> dict[Snapshot, DamagedShardError]:
    """Compare all pairs of the `wanted` snapshots, and write the record of each when it is complete.

    Returns
    -------
    dict
        The snapshots with a damaged shard; their records are missing.
    """
    if not wanted:
        return {}
    layout, settings, space, map = context.layout, context.settings, context.space, context.map
    # Features are computed of whole snapshots: those still being drawn wait.
    wanted = [each for each in wanted if each.complete or space.embedding is None]
    images = in_space(layout, wanted, space, map)
    reference, reference_name = reference_in(layout, space, map), _reference_name(layout, space)
    damaged = {snapshot: each for snapshot, each in images.items() if isinstance(each, DamagedShardError)}
    snapshots = {each.snapshot: each for each in wanted if each.snapshot not in damaged}
    comparisons = {}
    for snapshot, each in snapshots.items():
        keep = PartialPairs(layout.partial_pairs(*snapshot), each.fingerprint, keep_finished=not each.complete)
        if not each.complete and _enough_for_now(keep, each.images.shape[0]):
            continue
        others, places = (None, _real_places(layout)) if snapshot.trial == REFERENCE else (reference, None)
        own = images[snapshot]
        assert not isinstance(own, DamagedShardError)
        wanted_pairs = Comparison(
            own,
            _kept_as(layout, each.complete_fingerprint),
            threshold_squared,
            settings.flagged,
            others,
            places=places,
            reference_name=reference_name,
        )
        comparisons[snapshot] = wanted_pairs, keep
    for snapshot, found in compare(comparisons, context.memory_bytes, map, context.progress):
        each = snapshots[snapshot]
        if isinstance(found, DamagedShardError):
            damaged[snapshot] = found
        elif each.complete:
            nearest = _nearest_real(context) if snapshot.trial == REFERENCE else _nearest(found, reference)
            record = pair_record(
                comparisons[snapshot][0], found, nearest, context.memory_bytes, each.complete_fingerprint
            )
            write_pair_record(layout, *snapshot, record)
    return damaged


def _real_places(layout: SweepLayout) -> Index:
    """Place of each real image in their random order: data sets are often stored class by class."""
    reference = read_reference(layout)
    return random_places(content_digests(reference.read, reference.shape[0]), reference.labels)


def score_snapshots(
    context: MeasureContext, wanted: Sequence[CommittedSnapshot], real: RealImages
) -> dict[Snapshot, DamagedShardError]:
    """Score complete snapshots that are not scored yet, the real images before all others.

    Scores at other distances than those of the real images count as missing, as do those of the real images without the
    distances in use.

    Returns
    -------
    dict
        Those whose images can't be read.
    """
    layout, threshold = context.layout, float(np.sqrt(real.chosen.squared))
    reference = next((each for each in wanted if each.snapshot.trial == REFERENCE), None)
    damaged: dict[Snapshot, DamagedShardError] = {}
    distances = None
    if reference is not None:
        scores = _scores(layout, reference)
        if scores is None or not has_distances(scores, threshold, real.rates):
            damaged = _score(context, [reference], real, threshold, None)
            scores = _scores(layout, reference)
        distances = None if scores is None else scores.curve.distances
    missing = [each for each in wanted if each is not reference and _scores(layout, each, distances) is None]
    return damaged | _score(context, missing, real, threshold, distances)


def _scores(
    layout: SweepLayout, each: CommittedSnapshot, distances: npt.NDArray[np.float64] | None = None
) -> Scores | None:
    """Scores of a snapshot that are kept, as `read_scores`."""
    return read_scores(layout.scores(*each.snapshot), scores_name(each.complete_fingerprint), distances)


def _score(
    context: MeasureContext,
    wanted: Sequence[CommittedSnapshot],
    real: RealImages,
    threshold: float,
    distances: npt.NDArray[np.float64] | None,
) -> dict[Snapshot, DamagedShardError]:
    """Score these snapshots; returns those that can't be read."""
    if not wanted:
        return {}
    layout, space, map = context.layout, context.space, context.map
    images = in_space(layout, wanted, space, map)
    damaged = {snapshot: each for snapshot, each in images.items() if isinstance(each, DamagedShardError)}
    requests = {
        each.snapshot: ScoreRequest(
            own,
            each.images,
            layout.scores(*each.snapshot),
            scores_name(each.complete_fingerprint),
            each.snapshot.trial == REFERENCE,
        )
        for each in wanted
        if not isinstance(own := images[each.snapshot], DamagedShardError)
    }
    name = space.name_of(read_reference(layout).fingerprint)
    of_real = _real(layout, ()).images
    reference = reference_in(layout, space, map)
    return damaged | write_scores(
        requests, reference, of_real, name, threshold, real.rates, map, partial(context.stage, "Scoring"), distances
    )


def _enough_for_now(keep: PartialPairs, images: int) -> bool:
    """A snapshot that is still being drawn has not grown much since it was last compared."""
    before = keep.load()
    return before is not None and not len(before["left"]) and images < BEGIN_GROWTH * int(before["compared"])


def fingerprints(
    layout: SweepLayout,
    trials: Sequence[TrialSettings],
    settings: CollisionSettings,
    threshold_squared: float,
    space: Space = PIXELS,
) -> Iterator[tuple[Snapshot, str]]:
    """Every snapshot that is complete, the real images first, and the fingerprint of its record."""
    for each in committed(layout, trials, settings, threshold_squared, space):
        if each.complete:
            yield each.snapshot, each.complete_fingerprint


def committed(
    layout: SweepLayout,
    trials: Sequence[TrialSettings],
    settings: CollisionSettings,
    threshold_squared: float,
    space: Space = PIXELS,
) -> Iterator[CommittedSnapshot]:
    """Every snapshot that has images, the real images first; images as they are, fingerprints those of the space."""
    dependencies = (ENGINE, space.fingerprint, settings.flagged, threshold_squared, read_reference(layout).fingerprint)
    yield _real(layout, (*dependencies, REAL_ORDER))
    for trial in trials:
        own = layout.trial(trial.id)
        if not own.samples.exists():
            continue
        samples = Samples(own)
        for step, numbers in samples.begun.items():
            if numbers:
                yield CommittedSnapshot(
                    Snapshot(trial.id, step),
                    SnapshotImages(samples, numbers.start, len(numbers)),
                    step in samples.steps,
                    dependencies,
                    tuple(snapshot_checksums(own, samples, step)),
                    samples.plan.shard_images,
                )


def _held_out(layout: SweepLayout) -> CommittedSnapshot | None:
    """The held-out images, as if they were a snapshot of one shard; None without any."""
    held_out = read_held_out(layout)
    if held_out is None:
        return None
    images = SnapshotImages(held_out, 0, held_out.shape[0])
    checksums = ("held-out images", held_out.fingerprint)
    return CommittedSnapshot(Snapshot(HELD_OUT, 0), images, True, (), checksums, images.count)


def _real(layout: SweepLayout, dependencies: tuple[Any, ...]) -> CommittedSnapshot:
    """The real images, as if they were a snapshot of one shard."""
    reference = read_reference(layout)
    images = reference.shape[0]
    checksums = ("real images", reference.fingerprint)
    return CommittedSnapshot(
        Snapshot(REFERENCE, 0), SnapshotImages(reference, 0, images), True, dependencies, checksums, images
    )
