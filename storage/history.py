"""A trial's history: one JSON line per logged step.

Invariant: appending never harms earlier lines; a line cut off by a crash is passed over, and of two lines for one step
the later counts, so a resumed trial reads like an unbroken one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from storage.layout import TrialLayout


class HistoryWriter:
    """Appends rows to a trial's history; as a context manager it closes itself."""

    def __init__(self, trial: TrialLayout) -> None:
        trial.history.parent.mkdir(parents=True, exist_ok=True)
        self._file = trial.history.open("ab", buffering=0)  # nothing is left to write when it is closed
        self._file.write(b"\n")  # ends a line that a crash cut off; readers pass over empty lines

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row, which must hold `step`."""
        self._file.write(json.dumps(dict(row)).encode() + b"\n")

    def sync(self) -> None:
        """Return when every row is on disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Columns by name, float64 (logged steps,), in order of `step`; empty when there is no history yet.

    A quantity missing from a row is NaN there.
    """
    rows: dict[float, dict[str, float]] = {}
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                row = json.loads(line)
                rows[row["step"]] = row
            except (ValueError, KeyError, TypeError):
                continue  # empty, or cut off by a crash
    names = sorted({name for row in rows.values() for name in row})
    ordered = [rows[step] for step in sorted(rows)]
    return {name: np.array([row.get(name, np.nan) for row in ordered], dtype=np.float64) for name in names}


def newest(history: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The newest finite value of each column: some, like the fidelity ratio, are known of few steps."""
    known = {name: column[np.isfinite(column)] for name, column in history.items()}
    return {name: float(column[-1]) for name, column in known.items() if len(column)}
