"""Known modes of the data that each snapshot holds, for datasets whose modes are known.

Invariant: a function of the committed samples and the dataset's settings.
"""

from functools import lru_cache
from typing import Any

from ganlab.data.datasets import DatasetSettings, ModeCounter
from ganlab.data.known_modes import ModeCount
from storage.layout import SweepLayout, TrialLayout
from storage.pair_records import snapshot_checksums
from storage.samples import DamagedShardError, Samples

COUNTED = 26_000  # samples looked at, at most: as many as the published tables of stacked digits


def mode_cell(layout: SweepLayout, dataset: DatasetSettings, trial_id: str, step: int) -> dict[str, Any]:
    """Count the known modes of one snapshot; empty for data without known modes, and while the snapshot is not whole."""
    found = _found(layout.trial(trial_id), dataset, step)
    if found is None:
        return {}
    return {
        "modes_found": found.found,
        "high_quality_share": found.high_quality,
        "mode_divergence": found.divergence,
    }


def _found(trial: TrialLayout, dataset: DatasetSettings, step: int) -> ModeCount | None:
    if not trial.samples.exists() or _counter(dataset) is None:
        return None
    samples = Samples(trial)
    if step not in samples.steps:
        return None
    try:
        return _counted(trial, dataset, step, tuple(snapshot_checksums(trial, samples, step)))
    except DamagedShardError:
        return None


@lru_cache(maxsize=10_000)
def _counted(trial: TrialLayout, dataset: DatasetSettings, step: int, checksums: tuple[int, ...]) -> ModeCount:
    """Count once for each content of the shards: reading three digits an image takes seconds."""
    counter, samples = _counter(dataset), Samples(trial)
    assert counter is not None
    numbers = samples.steps[step]
    return counter(samples.read(numbers.start, min(numbers.stop, numbers.start + COUNTED)))


@lru_cache(maxsize=2)
def _counter(dataset: DatasetSettings) -> ModeCounter | None:
    return dataset.modes()
