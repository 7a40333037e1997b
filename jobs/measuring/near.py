"""The pairs around the threshold, of every snapshot that people look at.

Invariant: a list holds every pair within the distance among the first images of its snapshot (of real images, of their
random order), so that what is drawn from it has a known chance of being drawn; it is bound to the images by a fingerprint
and made once.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ganlab.pairs.closest import Pairs
from ganlab.pairs.collisions import Collisions, compare_tile
from ganlab.pairs.content import content_order, take
from ganlab.pairs.exact import Read, squared_limit
from ganlab.pairs.lower_bounds import learn
from ganlab.pairs.tiles import choose_tile_images, plan_tiles
from ganlab.statistics.support import estimate_from_degrees
from ganlab.verdicts.selection import NearPairs, piece_edges
from jobs.measuring.comparison import Map, Source
from jobs.measuring.measure import REFERENCE, Snapshot
from jobs.measuring.measured import MeasuredSnapshot
from jobs.spec.sweep import CollisionSettings, SpecError
from storage.layout import SweepLayout
from storage.near_pairs import NearRecord, read_near_record, write_near_record
from storage.pair_records import PairRecord
from storage.samples import DamagedShardError

LISTED = 100_000  # pairs of a snapshot: enough that they leave the calibration, not the sample, as what is uncertain
FIRST_IMAGES = 4096


class _Task(NamedTuple):
    snapshot: Snapshot
    images: Source
    widest: float
    memory_bytes: int


def edges_of(threshold_squared: float) -> np.ndarray:
    """Edges of the pieces of the distance. Raises SpecError for a threshold of 0."""
    try:
        return piece_edges(float(np.sqrt(threshold_squared)))
    except ValueError as error:
        raise SpecError(f"collisions.threshold: {error}") from None


def protocol_size(record: PairRecord, settings: CollisionSettings) -> int:
    """The sample size that the published protocol is tried at: where a collision is about as likely as not."""
    half = estimate_from_degrees(record.degrees, settings.confidence).sample_size_at_half
    return int(min(settings.sample_sizes, key=lambda size: abs(np.log(size / half))))


def near_pairs(
    layout: SweepLayout,
    wanted: Sequence[MeasuredSnapshot],
    widest: float,
    memory_bytes: int,
    map: Map,
    progress: Callable[[int, int], None],
) -> dict[Snapshot, NearPairs]:
    """Find, or read, the pairs within a distance of every wanted snapshot; one that can't be read is left out.

    Parameters
    ----------
    layout
        Of the space that the snapshots were compared in.
    widest
        Distance.
    memory_bytes
        Of one worker.
    map
        `map(function, items)` gives results in any order.
    progress
        Called with (snapshots done, snapshots in all).
    """
    found: dict[Snapshot, NearPairs] = {}
    names = {each.snapshot: _fingerprint(each, widest) for each in wanted}
    tasks = []
    for each in wanted:
        record = read_near_record(layout, *each.snapshot, names[each.snapshot])
        if record is None:
            tasks.append(_Task(each.snapshot, each.images, widest, memory_bytes))
        else:
            found[each.snapshot] = NearPairs(Pairs(record.index, record.squared), record.samples, each.record.samples)
    progress(0, len(tasks))
    for done, (snapshot, near) in enumerate(map(_find, tasks) if tasks else ()):
        progress(done + 1, len(tasks))
        if near is None:
            continue
        record = NearRecord(names[snapshot], near.pairs.index, near.pairs.squared_distance, near.samples)
        write_near_record(layout, snapshot.trial, snapshot.step, record)
        found[snapshot] = near
    return found


def _fingerprint(each: MeasuredSnapshot, widest: float) -> str:
    return hashlib.sha256(f"{each.name} {widest!r} {LISTED}".encode()).hexdigest()[:16]


def _find(task: _Task) -> tuple[Snapshot, NearPairs | None]:
    """The near pairs of one snapshot; None if its images can't be read."""
    try:
        if task.snapshot.trial != REFERENCE:
            return task.snapshot, _pairs_of_first(task, task.images.read)
        order = content_order(task.images.read, task.images.shape[0])
        near = _pairs_of_first(task, lambda start, stop: take(task.images.read, order[start:stop]))
    except DamagedShardError:
        return task.snapshot, None
    numbered = Pairs(np.sort(order[near.pairs.index], axis=1), near.pairs.squared_distance)
    return task.snapshot, replace(near, pairs=numbered.sorted())


def _pairs_of_first(task: _Task, read: Read) -> NearPairs:
    """All pairs of the first images, twice as many each time until there are enough pairs or no more images."""
    images, limit = task.images.shape[0], float(squared_limit(task.widest))
    screen = learn(task.images.read, images, 1, limit)
    found, compared = Collisions.create(count=1, limit=LISTED), 0
    while compared < images and found.duplicates < LISTED:
        samples = min(images, max(FIRST_IMAGES, 2 * compared))
        size = choose_tile_images(samples, task.images.shape[1:], task.memory_bytes, task.images.dtype.itemsize)
        for tile in plan_tiles(samples, size, compared):
            found = found.merge(compare_tile(read, tile, screen, limit, 1, LISTED))
        compared = samples
    return NearPairs(found.listed.sorted(), min(found.listed_below, compared), images)
