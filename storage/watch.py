"""Incremental reading of a trial's files for `ganlab status` and metrics: only changed files are read again.

Invariant: a look never raises and never writes: what is missing, damaged or forbidden is named in `problems`, and what
was known before stays known.
"""

import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.atomic import read_json
from storage.attempts import Attempt, read_attempts
from storage.layout import SweepLayout, TrialLayout
from storage.outcome import Outcome, read_outcome
from storage.plan import ShardPlan
from storage.samples import read_plan
from storage.trial_state import TrialState, trial_state, valid_end
from storage.usage import Usage, read_usage

Signature = tuple[int, int, int] | None


def signature(path: str | Path) -> Signature:
    """Signature of a file or folder: time of its last change (ns), size, inode; None if it does not exist.

    Raises
    ------
    OSError
        If it can't be looked at.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass
class TrialWatch:
    """State of one trial, read from its files.

    Attributes
    ----------
    trial : TrialLayout
        Where it lies.
    settings : dict
        Its resolved settings; empty until they could be read.
    outcome : Outcome or None
        How it ended.
    attempts : list of Attempt
        Every start of it.
    usage : Usage or None
        GPU time and energy that it has used; None if it held no GPU.
    row : dict
        The newest line of its history; `steps` is the highest step in any line, `row_time` when the newest was written.
    plan : ShardPlan or None
        The shards it will write.
    shards, damaged, shard_time
        Shards committed, those of them whose file is missing or cut short, and when the newest was committed.
    checkpoint_time
        When its newest checkpoint was written.
    gone : bool
        Its folder was there once, and is no more.
    problems : dict
        What can't be read now, by file name, and why.

    Times are seconds since 1970 by the file system's clock; 0 for never.
    """

    trial: TrialLayout
    settings: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    row: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    row_time: float = 0.0
    plan: ShardPlan | None = None
    shards: int = 0
    damaged: int = 0
    shard_time: float = 0.0
    checkpoint_time: float = 0.0
    outcome_time: float = 0.0
    gone: bool = False
    problems: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        trial = self.trial
        looks = {
            "settings": (trial.settings, self._read_settings),
            "outcome": (trial.outcome, self._read_outcome),
            "attempts": (trial.attempts, self._read_attempts),
            "usage": (trial.usage, self._read_usage),
            "history": (trial.history, self._read_history),
            "checkpoint": (trial.checkpoint, self._read_checkpoint),
            "plan": (trial.samples / "zarr.json", self._read_plan),
            "commits": (trial.commits, self._count_shards),
            "images": (trial.samples / "images", self._count_shards),
            "points": (trial.samples / "points", self._count_shards),
        }
        # Plain strings: making paths would be most of the cost of a look.
        self._looks = {name: (str(path), read) for name, (path, read) in looks.items()}
        self._root = str(trial.root)
        self._seen: dict[str, Signature] = {}
        self._history_read = 0

    @property
    def id(self) -> str:
        """The trial's id."""
        return self.trial.root.name

    @property
    def end(self) -> Outcome | None:
        """Outcome that ends the trial, by what was read; None for a trial that is to be run, or run on."""
        return valid_end(self.outcome, self.plan is not None and self.shards >= len(self.plan.shards))

    def state(self, active: bool) -> TrialState:
        """State of the trial, `active` as of `storage.trial_state.trial_state`."""
        return trial_state(self.end, self.attempts, active)

    def look(self) -> None:
        """Read what has changed."""
        try:
            self.gone = signature(self._root) is None
        except OSError as error:
            self.problems["folder"] = _reason(error)
            return
        if self.gone:
            return
        # A trial that is done changes only when it is tried again, which removes its outcome, or when it is deleted.
        done = self.end is not None and self.end.status != "failed" and "images" in self._seen
        for name in ("outcome", "usage", "images", "points") if done else self._looks:
            path, read = self._looks[name]
            try:
                now = signature(path)
                if name in self._seen and now == self._seen[name]:
                    continue
                read(now)
                self._seen[name] = now
                self.problems.pop(name, None)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.problems[name] = _reason(error)

    def _read_settings(self, now: Signature) -> None:
        if now is not None:
            self.settings = dict(read_json(self.trial.settings)["settings"])
        elif self.settings:
            raise ValueError("it is missing")

    def _read_outcome(self, now: Signature) -> None:
        self.outcome = None if now is None else read_outcome(self.trial)
        self.outcome_time = _seconds(now)
        if now is None:
            self._seen.pop("images", None)
            self._seen.pop("points", None)

    def _read_attempts(self, now: Signature) -> None:
        self.attempts = read_attempts(self.trial)

    def _read_usage(self, now: Signature) -> None:
        self.usage = read_usage(self.trial)

    def _read_history(self, now: Signature) -> None:
        self.row_time = _seconds(now)
        if now is None or now[1] < self._history_read:  # another file than before
            self._history_read = 0
        if now is None:
            return
        with open(self._looks["history"][0], "rb") as file:
            file.seek(self._history_read)
            new = file.read()
        whole = new.rfind(b"\n") + 1  # a line that is being written is read next time
        self._history_read += whole
        for line in new[:whole].splitlines():
            try:
                row = json.loads(line)
                self.steps = max(self.steps, int(row["step"]))
            except (ValueError, KeyError, TypeError):
                continue  # empty, or cut off by a crash
            self.row = row

    def _read_checkpoint(self, now: Signature) -> None:
        self.checkpoint_time = _seconds(now)

    def _read_plan(self, now: Signature) -> None:
        if now is not None:
            self.plan = read_plan(self.trial)
        elif self.plan is not None:
            raise ValueError("it is missing")

    def _count_shards(self, now: Signature) -> None:
        commits, *arrays = (self._looks[name][0] for name in ("commits", "images", "points"))
        names = {name for name in _names(commits) if name.endswith(".json")}
        sizes = {
            int(parts[1]): entry.stat().st_size
            for array in arrays
            for entry in _entries(array)
            if len(parts := entry.name.split(".")) > 1 and parts[0] == "c"
        }
        expected = self.plan.shard_bytes if self.plan else None
        numbers = {int(name.removesuffix(".json")) for name in names}
        self.shards = len(numbers)
        self.damaged = sum(sizes.get(n) != expected if expected else n not in sizes for n in numbers)
        self.shard_time = _seconds(signature(commits)) if numbers else 0.0


@dataclass(frozen=True)
class PairCounts:
    """Counts of one record of pairs; `degrees` are how many images have each number of duplicates."""

    samples: int
    pairs: int
    duplicates: int
    closest: int
    degrees: tuple[tuple[int, int], ...]

    @property
    def support(self) -> float | None:
        """Effective number of distinct images; None when no duplicate was seen."""
        return self.pairs / self.duplicates if self.duplicates else None


def read_pair_counts(path: str | Path) -> PairCounts:
    """Return the counts of a record of pairs, without reading the rest of it.

    Raises
    ------
    OSError, ValueError
        If it can't be read.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as members:
            degrees, closest = members["degrees"], members["closest_squared"]
            numbers, images = np.unique(degrees, return_counts=True)
            return PairCounts(
                int(members["samples"]),
                int(members["pairs_compared"]),
                int(degrees.sum()) // 2,
                len(closest),
                tuple(zip(numbers.tolist(), images.tolist(), strict=True)),
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged, expected a record of pairs: {error}") from error


def read_nearest(
    path: str | Path, squared: str, neighbour: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the distances to the nearest training images, and their numbers, of a record that has them by these names.

    Raises
    ------
    OSError, ValueError
        If it can't be read.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as members:
            return np.sqrt(members[squared].astype(np.float64)), members[neighbour]
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged, expected nearest training images: {error}") from error


def reference_shape(layout: SweepLayout) -> tuple[int, ...] | None:
    """Shape of a real image (channels, height, width), or of a point (values,); None while they are not there."""
    for array in ("images", "points"):
        try:
            _, *shape = read_json(layout.reference / array / "zarr.json")["shape"]
            return tuple(int(size) for size in shape)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def snapshot_records(layout: SweepLayout, trial_id: str) -> dict[int, tuple[str, Signature]]:
    """File and signature of every record of pairs of one trial, by step."""
    folder = str(layout.pair_record(trial_id, 0).parent)
    found = {}
    for entry in _entries(folder):
        step, end = os.path.splitext(entry.name)
        if end == ".npz" and step.isdigit():
            found[int(step)] = entry.path, signature(entry.path)
    return found


def _names(folder: str) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.name[0] != "."]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _seconds(found: Signature) -> float:
    return 0.0 if found is None else found[0] / 1e9


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
