"""A trial's history: one JSON line per logged step.

Invariant: appending never harms earlier lines; a line cut off by a crash is passed over, and of two lines for one step
the later counts, so a resumed trial reads like an unbroken one.
"""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from storage.layout import TrialLayout
from storage.patience import patiently


class HistoryWriter:
    """Appends rows to a trial's history; as a context manager it closes itself."""

    _torn = False

    def __init__(self, trial: TrialLayout) -> None:
        self._path = trial.history
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Nothing is left to write when it is closed.
        self._file = patiently(lambda: trial.history.open("ab", buffering=0))
        self._write(b"\n")  # ends a line that a crash cut off; readers pass over empty lines

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row, which must hold `step`."""
        self._write(json.dumps(dict(row)).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        def write(line: bytes) -> None:
            if (self._file.write(line) or 0) < len(line):
                self._torn = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

        # What a full disk has cut off stays on a line of its own.
        patiently(lambda: write(b"\n" + line if self._torn else line))
        self._torn = False

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
