"""Measured snapshots of a sweep: each with its record, in the space it was compared in.

Invariant: read from records alone; a snapshot whose record is missing, or whose images can't be read, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ganlab.quality.embeddings.names import folder_name
from ganlab.quality.fidelity import RealNeighbours
from jobs.measuring.comparison import Map, Source
from jobs.measuring.measure import REFERENCE, MeasureContext, Snapshot, committed, in_space, real_images_of
from jobs.measuring.space import sweep_space
from jobs.spec.sweep import CollisionSettings, TrialSettings
from storage.layout import SweepLayout
from storage.pair_records import PairRecord, read_pair_record
from storage.samples import DamagedShardError, Samples


@dataclass(frozen=True, eq=False)
class MeasuredSnapshot:
    """A measured snapshot.

    Attributes
    ----------
    snapshot, images
        Which, and its images in the space.
    record
        What comparing them found; image numbers count from the first.
    first : int
        Number of its first image among the samples of its trial.
    name : str
        Of images, settings and space.
    """

    snapshot: Snapshot
    images: Source
    record: PairRecord
    first: int
    name: str


@dataclass(frozen=True, eq=False)
class MeasuredSweep:
    """All of them, in the order of trials and steps, the real images first.

    Attributes
    ----------
    layout : SweepLayout
        Where this space keeps its pairs.
    embedding : str
        Name of the space.
    real : RealNeighbours
        Distances among the real images.
    threshold_squared : float
        Of the automatic threshold, or the one set.
    snapshots : dict
        By trial and step.
    """

    layout: SweepLayout
    embedding: str
    real: RealNeighbours
    threshold_squared: float
    snapshots: dict[Snapshot, MeasuredSnapshot]


def measured_sweep(
    layout: SweepLayout, trials: Sequence[TrialSettings], settings: CollisionSettings, memory_bytes: int, map: Map
) -> MeasuredSweep:
    """Read what is measured of a sweep; its real images are compared where they have not been.

    Raises
    ------
    DamagedShardError
        If the real images can't be read.
    """
    space = sweep_space(layout, settings.embedding)
    own = layout.in_space(folder_name(space.setting))
    real = real_images_of(MeasureContext(own, settings, memory_bytes, map, lambda *done: None, space=space))
    threshold_squared = real.chosen.squared
    complete = [each for each in committed(own, trials, settings, threshold_squared, space) if each.complete]
    records = {each.snapshot: read_pair_record(own, *each.snapshot, each.complete_fingerprint) for each in complete}
    complete = [each for each in complete if records[each.snapshot] is not None]
    images = in_space(own, complete, space, map)
    found = {}
    for each in complete:
        source, record = images[each.snapshot], records[each.snapshot]
        if isinstance(source, DamagedShardError) or record is None:
            continue
        trial, step = each.snapshot
        first = 0 if trial == REFERENCE else Samples(layout.trial(trial)).steps[step].start
        found[each.snapshot] = MeasuredSnapshot(each.snapshot, source, record, first, each.complete_fingerprint)
    return MeasuredSweep(own, space.setting, real.neighbours, threshold_squared, found)
