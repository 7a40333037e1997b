"""All pairs of every trial's committed samples, and what they say about its diversity and fidelity.

Invariant: every number follows from committed shards and the collision settings alone; a finished record is bound to both
by its fingerprint, so measuring again recomputes only what is new, and comes to the same bits.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ganlab.collisions import Collisions, compare_tile
from ganlab.fidelity import RealNeighbours, real_neighbours
from ganlab.pairs import nearest
from ganlab.screen import Screen, learn
from ganlab.tiles import Tile, choose_tile_images, plan_tiles
from jobs.spec import CollisionSettings, TrialSettings
from storage.layout import SweepLayout
from storage.pair_records import (
    PairRecord,
    read_pair_record,
    read_real_neighbours,
    snapshot_checksums,
    write_pair_record,
    write_real_neighbours,
)
from storage.reference import Reference, read_reference
from storage.samples import Samples

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
Progress = Callable[[float, float], None]
REFERENCE = "reference"  # stands for the real images where a trial's id may stand


class Snapshot(NamedTuple):
    """The samples of one trial at one step; or the real images, as (REFERENCE, 0)."""

    trial: str
    step: int


@dataclass(frozen=True)
class SnapshotImages:
    """Reads the images of one snapshot, numbered from 0; cheap to send to a worker."""

    snapshot: Snapshot
    source: Samples | Reference
    first: int
    count: int

    @classmethod
    def open(cls, layout: SweepLayout, snapshot: Snapshot) -> "SnapshotImages":
        """The images of a snapshot whose every shard is committed, or the real images."""
        if snapshot.trial == REFERENCE:
            reference = read_reference(layout)
            return cls(snapshot, reference, 0, reference.shape[0])
        samples = Samples(layout.trial(snapshot.trial))
        numbers = samples.steps[snapshot.step]
        return cls(snapshot, samples, numbers.start, len(numbers))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop), uint8 (n, C, H, W)."""
        return self.source.read(self.first + start, self.first + stop)


class _TileTask(NamedTuple):
    images: SnapshotImages
    tile: Tile
    screen: Screen | None
    threshold_squared: int
    closest: int


class _NeighbourTask(NamedTuple):
    sweep: Path
    images: SnapshotImages
    start: int
    stop: int
    wanted: int


class _Result(NamedTuple):
    snapshot: Snapshot
    pairs: float  # compared
    collisions: Collisions | None = None
    start: int = 0
    neighbours: tuple[np.ndarray, np.ndarray] | None = None


def _work(task: _TileTask | _NeighbourTask) -> _Result:
    """Run one task, on whatever worker it lands."""
    if isinstance(task, _TileTask):
        found = compare_tile(task.images.read, task.tile, task.screen, task.threshold_squared, task.closest)
        return _Result(task.images.snapshot, found.pairs_compared, collisions=found)
    queries, reference = task.images.read(task.start, task.stop), _reference(task.sweep)
    found_pairs = nearest(queries, reference, count=task.wanted)
    arrays = (found_pairs.index[:, 1], found_pairs.squared_distance)
    return _Result(task.images.snapshot, len(queries) * len(reference), start=task.start, neighbours=arrays)


@lru_cache(maxsize=1)
def _reference(sweep: Path) -> np.ndarray:
    return read_reference(SweepLayout(sweep)).images


def real_neighbours_of(layout: SweepLayout) -> RealNeighbours:
    """Distance of every real image to its nearest other one; computed once for all measurements of a sweep."""
    reference = read_reference(layout)
    squared = read_real_neighbours(layout, reference.fingerprint)
    if squared is None:
        squared = real_neighbours(_reference(layout.root))
        write_real_neighbours(layout, reference.fingerprint, squared)
    return RealNeighbours(np.sqrt(squared))


TASKS, SPLIT_FROM = 16, 50_000  # tiles at least, of snapshots of so many images, so that workers end together
BLOCK = 4096  # queries per nearest-neighbour task


def threshold_of(settings: CollisionSettings, real: RealNeighbours) -> int:
    """Squared distance within which two images are duplicates: as set, or where real images hardly ever pair."""
    distance = real.threshold(settings.real_neighbour_quantile) if settings.threshold == "auto" else settings.threshold
    return int(np.floor(float(distance) ** 2 + 1e-9))


def unmeasured(
    layout: SweepLayout, trials: Sequence[TrialSettings], settings: CollisionSettings, threshold_squared: int
) -> dict[Snapshot, str]:
    """Every committed snapshot that has no valid record yet, and the fingerprint that its record will have."""
    return {
        snapshot: fingerprint
        for snapshot, fingerprint in fingerprints(layout, trials, settings, threshold_squared)
        if read_pair_record(layout, snapshot.trial, snapshot.step, fingerprint) is None
    }


def measure_snapshots(
    layout: SweepLayout,
    wanted: Mapping[Snapshot, str],
    settings: CollisionSettings,
    threshold_squared: int,
    memory_bytes: int,
    map: Map,
    progress: Progress,
) -> None:
    """Compare all pairs of the `wanted` snapshots, and write the record of each when it is complete."""
    reference = _reference(layout.root)
    work = {
        snapshot: _Work(
            layout, snapshot, len(reference), reference.shape[1:], settings, threshold_squared, memory_bytes
        )
        for snapshot in wanted
    }
    total = sum(each.pairs for each in work.values())
    done = 0.0
    progress(done, total)
    tasks = (task for each in list(work.values()) for task in each.tasks())
    for result in map(_work, tasks):
        snapshot = result.snapshot
        each = work[snapshot]
        each.add(result)
        done += result.pairs
        progress(done, total)
        if each.finished:
            write_pair_record(layout, snapshot.trial, snapshot.step, each.record(wanted[snapshot]))
            del work[snapshot]
    assert not work


class _Work:
    """What is left to do for one snapshot, and what was found so far."""

    def __init__(
        self, layout: SweepLayout, snapshot: Snapshot, references: int, image_shape: tuple[int, ...],
        settings: CollisionSettings, threshold_squared: int, memory_bytes: int,
    ) -> None:  # fmt: skip
        self.snapshot, self.settings, self.threshold_squared = snapshot, settings, threshold_squared
        self.sweep = layout.root
        self.images = SnapshotImages.open(layout, snapshot)
        self.samples = self.images.count
        tasks = TASKS if self.samples >= SPLIT_FROM else 1
        self.tiles = plan_tiles(self.samples, choose_tile_images(self.samples, image_shape, memory_bytes, tasks=tasks))
        self.blocks = range(0, self.samples, BLOCK)
        self.neighbour_count = 2 if snapshot.trial == REFERENCE else 1
        self.pairs = self.samples * (self.samples - 1) / 2 + self.samples * references
        self.left = len(self.tiles) + len(self.blocks)
        self.collisions: Collisions | None = None
        self.neighbour = np.empty(self.samples, dtype=np.int64)
        self.neighbour_squared = np.empty(self.samples, dtype=np.int64)

    def tasks(self) -> Iterator[_TileTask | _NeighbourTask]:
        screen = learn(self.images.read, self.samples, self.settings.flagged, self.threshold_squared)
        for tile in self.tiles:
            yield _TileTask(self.images, tile, screen, self.threshold_squared, self.settings.flagged)
        for start in self.blocks:
            yield _NeighbourTask(self.sweep, self.images, start, min(start + BLOCK, self.samples), self.neighbour_count)

    def add(self, result: _Result) -> None:
        self.left -= 1
        if result.collisions is not None:
            self.collisions = result.collisions if self.collisions is None else self.collisions.merge(result.collisions)
        if result.neighbours is not None:
            index, squared = (column[self.neighbour_count - 1 :: self.neighbour_count] for column in result.neighbours)
            place = slice(result.start, result.start + len(index))
            self.neighbour[place], self.neighbour_squared[place] = index, squared

    @property
    def finished(self) -> bool:
        return self.left == 0

    def record(self, fingerprint: str) -> PairRecord:
        found = self.collisions
        assert found is not None
        return PairRecord(
            fingerprint=fingerprint, samples=self.samples, pairs_compared=found.pairs_compared,
            threshold_squared=self.threshold_squared, degrees=found.degrees,
            closest_index=found.closest.index, closest_squared=found.closest.squared_distance,
            listed_index=found.listed.index, listed_squared=found.listed.squared_distance,
            listed_below=found.listed_below, neighbour=self.neighbour, neighbour_squared=self.neighbour_squared,
        )  # fmt: skip


def fingerprints(
    layout: SweepLayout, trials: Sequence[TrialSettings], settings: CollisionSettings, threshold_squared: int
) -> Iterator[tuple[Snapshot, str]]:
    """Every snapshot that can be measured now, the real images first, and the fingerprint of its record."""

    def digest(content: object) -> str:
        made = [content, settings.embedding, settings.flagged, threshold_squared, reference]
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]

    reference = read_reference(layout).fingerprint
    yield Snapshot(REFERENCE, 0), digest("real images")
    for trial in trials:
        own = layout.trial(trial.id)
        if not own.samples.exists():
            continue
        samples = Samples(own)
        for step in samples.steps:
            yield Snapshot(trial.id, step), digest(snapshot_checksums(own, samples, step))
