"""The committed samples of a trial, read back.

Invariant: only what a valid commit record names is read, and every byte of it is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.atomic import DamagedError, read_json
from storage.layout import TrialLayout
from storage.plan import Shard, ShardPlan, array_of, kind_of

Images = NDArray[Any]
"""uint8 (n, C, H, W), or points, float32 (n, D)."""


class DamagedShardError(RuntimeError):
    """A file of images is not what was written: `path` names it, and without `owner` it would be made again."""

    def __init__(self, path: Path, reason: str, owner: Path) -> None:
        super().__init__(path, reason, owner)
        self.path, self.reason, self.owner = path, reason, owner

    def __str__(self) -> str:
        return f"damaged shard {self.path}: {self.reason}; restore it from a copy, or delete {self.owner} and run again"


class Samples:
    """The committed samples of one trial, as they were when this was made; cheap to send to another process.

    Parameters
    ----------
    trial : TrialLayout
        Where.

    Raises
    ------
    ValueError
        If the trial has no ``samples.zarr`` yet, or its description is damaged.
    """

    def __init__(self, trial: TrialLayout) -> None:
        self.trial = trial
        self.plan = read_plan(trial)
        self.committed = committed_shards(trial, self.plan)

    @property
    def shape(self) -> tuple[int, ...]:
        """Images of the plan, committed or not, and their channels, height and width; points, and their coordinates."""
        return (self.plan.samples, *self.plan.image_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values: uint8 of images, float32 of points."""
        return kind_of(self.plan.image_shape)

    @property
    def steps(self) -> dict[int, range]:
        """Sample numbers of each snapshot whose every shard is committed, by generator step."""
        ranges = self.plan.snapshot_ranges()
        return {step: numbers for step, numbers in self.begun.items() if len(numbers) == len(ranges[step])}

    @property
    def begun(self) -> dict[int, range]:
        """Sample numbers of every snapshot up to its first shard that is not committed, by generator step."""
        size = self.plan.shard_images
        found = {}
        for step, numbers in self.plan.snapshot_ranges().items():
            shards = range(numbers.start // size, numbers.stop // size)
            first = next((shard for shard in shards if shard not in self.committed), shards.stop)
            found[step] = range(numbers.start, first * size)
        return found

    def read(self, start: int, stop: int) -> Images:
        """Return samples [start, stop) as uint8 (stop - start, C, H, W), or as points, float32 (stop - start, D).

        Raises
        ------
        ValueError
            If some of them do not exist or are not committed.
        DamagedShardError
            If a shard is missing, cut short, or fails a checksum.
        """
        parts = self._parts(start, stop)
        images = np.empty((stop - start, *self.plan.image_shape), dtype=self.dtype)
        for index, first, last in parts:
            images[first - start : last - start] = read_shard(
                self._array,
                self.trial.shard(index, len(self.shape)),
                self.plan.shard_bytes,
                slice(first, last),
                self.trial.root,
            )
        return images

    def labels(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the labels of samples [start, stop), int64; None when they have none. Raises as `read` does."""
        if not self.plan.labelled:
            return None
        parts = self._parts(start, stop)
        labels = np.empty(stop - start, dtype=np.int64)
        for index, first, last in parts:
            labels[first - start : last - start] = read_shard(
                self._labels, self.trial.label_shard(index), self.plan.label_bytes, slice(first, last), self.trial.root
            )
        return labels

    def _parts(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Return the shards that hold [start, stop), each with the samples wanted of it."""
        if not 0 <= start <= stop <= self.plan.samples:
            raise ValueError(f"samples {start} to {stop}: {self.trial.samples} has 0 to {self.plan.samples}")
        size = self.plan.shard_images
        shards = range(start // size, -(-stop // size)) if start < stop else ()
        for index in shards:
            if index not in self.committed:
                raise ValueError(
                    f"samples {index * size} to {(index + 1) * size} of {self.trial.root} are not committed; "
                    "read only snapshots listed in steps"
                )
        return [(index, max(start, index * size), min(stop, (index + 1) * size)) for index in shards]

    def take(self, numbers: ArrayLike) -> Images:
        """Return the samples of these numbers, in this order, as uint8 (n, C, H, W). Raises as `read` does."""
        return read_numbers(self.read, np.asarray(numbers, dtype=np.int64))

    @cached_property
    def _array(self) -> Any:
        return open_images(self.trial.samples, self.plan.image_shape)

    @cached_property
    def _labels(self) -> Any:
        import zarr

        return zarr.open_array(self.trial.samples / "label", mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_array", "_labels")}


def read_plan(trial: TrialLayout) -> ShardPlan:
    """Return the plan that ``samples.zarr`` was made for.

    Raises
    ------
    ValueError
        If the trial has no samples yet, or the description is damaged.
    """
    path = trial.samples / "zarr.json"
    try:
        stored = read_json(path)["attributes"]["plan"]
        plan = ShardPlan(
            tuple((int(step), int(images)) for step, images in stored["snapshots"]),
            tuple(stored["image_shape"]),
            stored["shard_images"],
            stored["chunk_images"],
            bool(stored.get("labelled", False)),
        )
    except FileNotFoundError:
        raise ValueError(f"{trial.samples}: no samples here yet; run the trial first") from None
    except (KeyError, TypeError) as error:
        raise DamagedError(path, "the plan of the samples", repr(error)) from error
    if plan.fingerprint != stored.get("fingerprint"):
        raise DamagedError(path, "the plan of the samples", "it does not match its fingerprint")
    return plan


def committed_shards(trial: TrialLayout, plan: ShardPlan) -> frozenset[int]:
    """Return the numbers of the shards that are on disk: those with a valid commit record of this plan."""
    names = {path.name for path in trial.commits.glob("[0-9]*.json")} if trial.commits.is_dir() else set()
    return frozenset(
        s.index for s in plan.shards if trial.commit(s.index).name in names and is_committed(trial, plan, s)
    )


def all_committed(trial: TrialLayout) -> bool:
    """Return whether every shard of the trial's plan is on disk; false when it has no plan yet."""
    if not trial.samples.exists():
        return False
    plan = read_plan(trial)
    return len(committed_shards(trial, plan)) == len(plan.shards)


def is_committed(trial: TrialLayout, plan: ShardPlan, shard: Shard) -> bool:
    """Return whether a shard has a valid commit record of this plan."""
    try:
        record = read_json(trial.commit(shard.index))
    except (FileNotFoundError, ValueError):
        return False  # a record that is not whole is none: the shard is written again, to the same bytes
    expected = commit_record(plan, shard, checksum=0)
    return isinstance(record, dict) and {**record, "crc32c": 0} == expected


def commit_record(plan: ShardPlan, shard: Shard, checksum: int) -> dict[str, object]:
    """Return the commit record of a shard; `checksum` is the CRC-32C of the checksums in its file."""
    return {
        "shard": shard.index,
        "start": shard.start,
        "stop": shard.stop,
        "step": shard.step,
        "bytes": plan.shard_bytes + plan.label_bytes,
        "crc32c": checksum,
        "plan": plan.fingerprint,
    }


def read_numbers(read: Callable[[int, int], Images], numbers: NDArray[np.int64]) -> Images:
    """Return the images of these numbers, in this order; each run of neighbours is read at once.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns images [start, stop).
    numbers : int64 (n,)
        Any numbers, any number of times.

    Returns
    -------
    uint8 (n, C, H, W)
    """
    wanted, place = np.unique(numbers, return_inverse=True)
    if not wanted.size:
        return read(0, 0)
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
    images = [read(int(run[0]), int(run[-1]) + 1) for run in runs]
    if len(runs) == 1 and np.array_equal(wanted, numbers):
        return images[0]
    return np.concatenate(images)[place]


def open_images(group: Path, image_shape: tuple[int, ...]) -> Any:
    """Return the Zarr array `images` or `points` of a group, for reading."""
    import zarr

    return zarr.open_array(group / array_of(image_shape), mode="r")


def dimensions(image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes of the array on disk."""
    return ("sample", "channel", "y", "x") if len(image_shape) == 3 else ("sample", "coordinate")


def read_shard(array: Any, path: Path, expected_bytes: int | None, samples: slice, owner: Path) -> Images:
    """Return samples that lie in one shard, after checking that the file is there: Zarr reads zeros when it is not.

    Raises
    ------
    DamagedShardError
        If the file is missing, cut short, or fails a checksum.
    """
    try:
        found = path.stat().st_size
        if expected_bytes is not None and found != expected_bytes:
            raise DamagedShardError(path, f"it has {found} bytes, expected {expected_bytes}", owner)
        return np.asarray(array[samples])
    except FileNotFoundError:
        raise DamagedShardError(path, "the file is missing", owner) from None
    except (ValueError, IndexError, EOFError) as error:
        raise DamagedShardError(path, str(error), owner) from error
