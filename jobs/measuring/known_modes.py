"""How many of the data's known modes each snapshot holds, for datasets whose modes are known.

Invariant: a function of the committed samples and the dataset's settings.
"""

from functools import lru_cache
from typing import Any

from ganlab.data.datasets import DatasetSettings, DigitsSettings, GaussiansGridSettings, StackedDigitsSettings, load
from ganlab.data.known_modes import ModeCount, StackReader, class_modes, grid_modes
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
        "modes_found": found.found, "high_quality_share": found.high_quality, "mode_divergence": found.divergence,
    }  # fmt: skip


def _found(trial: TrialLayout, dataset: DatasetSettings, step: int) -> ModeCount | None:
    if not isinstance(dataset, GaussiansGridSettings | StackedDigitsSettings) or not trial.samples.exists():
        return None
    samples = Samples(trial)
    if step not in samples.steps:
        return None
    try:
        return _counted(trial, dataset, step, tuple(snapshot_checksums(trial, samples, step)))
    except DamagedShardError:
        return None


@lru_cache(maxsize=10_000)
def _counted(
    trial: TrialLayout, dataset: GaussiansGridSettings | StackedDigitsSettings, step: int, checksums: tuple[int, ...]
) -> ModeCount:
    """Count once for each content of the shards: reading three digits an image takes seconds."""
    samples = Samples(trial)
    numbers = samples.steps[step]
    items = samples.read(numbers.start, min(numbers.stop, numbers.start + COUNTED))
    if isinstance(dataset, GaussiansGridSettings):
        return grid_modes(items, dataset.scale)
    return class_modes(_reader(dataset.resolution).read(items), 1000)


@lru_cache(maxsize=2)
def _reader(resolution: Any) -> StackReader:
    digits = load(DigitsSettings(resolution=resolution))
    assert digits.labels is not None
    return StackReader(digits.images, digits.labels)
