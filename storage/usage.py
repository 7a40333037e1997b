"""GPU time and energy that each trial has used, one small file for each process that ever worked on it.

Invariant: a file is written by its process alone, whose totals never fall; a trial's usage is the sum over its files, and
energy that one of them does not know makes the sum unknown.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.atomic import DamagedError, read_json, write_json
from storage.layout import TrialLayout


@dataclass(frozen=True)
class Usage:
    """GPU time held, in GPU-seconds (NaN if unknown), and energy in joules (None if unknown)."""

    gpu_s: float = 0.0
    energy_j: float | None = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        energies = (self.energy_j, other.energy_j)
        return Usage(self.gpu_s + other.gpu_s, None if None in energies else sum(filter(None, energies)))


def write_usage(trial: TrialLayout, name: str, usage: Usage) -> None:
    """Replace what the process `name` has recorded of the trial. Raises OSError."""
    write_json(trial.usage / f"{name}.json", asdict(usage))


def read_usage(trial: TrialLayout) -> Usage | None:
    """Return what the trial has used so far; None if no process has recorded anything, as when none held a GPU.

    A record that can't be read makes all of it unknown: NaN, and None.
    """
    try:
        files = sorted(path for path in trial.usage.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except FileNotFoundError:
        return None
    return sum(map(_read, files), Usage()) if files else None


def _read(path: Path) -> Usage:
    try:
        return Usage(**read_json(path))
    except (DamagedError, TypeError):
        return Usage(math.nan, None)
