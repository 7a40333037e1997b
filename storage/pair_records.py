"""What comparing all pairs of one snapshot found, on disk.

Invariant: a record is whole or absent, and belongs to exactly the images and settings that its fingerprint names.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.atomic import read_arrays, read_json, write_arrays
from storage.layout import SweepLayout, TrialLayout
from storage.samples import Samples

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairRecord:
    """Duplicates, closest pairs and nearest training images of one snapshot; image numbers count from its first image.

    Attributes
    ----------
    fingerprint : str
        Of the images, the training images and the settings.
    samples, pairs_compared : int
        Images, and the unordered pairs of them, each compared once.
    threshold_squared : int
        Squared distance up to which a pair is a duplicate.
    degrees : int64 (samples,)
        Duplicates of each image.
    closest_index, closest_squared : int64 (m, 2), (m,)
        The closest pairs, with their squared distances.
    listed_index, listed_squared : int64 (k, 2), (k,)
        Every duplicate pair of the first `listed_below` images: all of them unless there are too many to list.
    listed_below : int
        See above.
    neighbour, neighbour_squared : int64 (samples,)
        Number of, and squared distance to, each image's nearest training image.
    """

    fingerprint: str
    samples: int
    pairs_compared: int
    threshold_squared: int
    degrees: Ints
    closest_index: Ints
    closest_squared: Ints
    listed_index: Ints
    listed_squared: Ints
    listed_below: int
    neighbour: Ints
    neighbour_squared: Ints


def write_pair_record(layout: SweepLayout, trial_id: str, step: int, record: PairRecord) -> None:
    """Write the record of one snapshot, replacing an older one when it is safely on disk."""
    columns = {field.name: getattr(record, field.name) for field in fields(PairRecord)}
    write_arrays(layout.pair_record(trial_id, step), **columns)


def read_pair_record(layout: SweepLayout, trial_id: str, step: int, fingerprint: str) -> PairRecord | None:
    """The record of one snapshot; None when there is none, it is damaged, or it belongs to other images or settings."""
    columns = _read(layout.pair_record(trial_id, step), fingerprint, {field.name for field in fields(PairRecord)})
    if columns is None:
        return None
    values: dict[str, Any] = {name: column.item() if column.ndim == 0 else column for name, column in columns.items()}
    return PairRecord(**values)


def write_real_neighbours(layout: SweepLayout, fingerprint: str, squared: Ints) -> None:
    """Keep the squared distance of every real image to its nearest other one, int64 (N,)."""
    write_arrays(layout.real_neighbours, fingerprint=fingerprint, squared=squared)


def read_real_neighbours(layout: SweepLayout, fingerprint: str) -> Ints | None:
    """What `write_real_neighbours` kept for the same images; None when there is none or it is damaged."""
    columns = _read(layout.real_neighbours, fingerprint, {"fingerprint", "squared"})
    return None if columns is None else columns["squared"]


def _read(path: Path, fingerprint: str, names: set[str]) -> dict[str, npt.NDArray[Any]] | None:
    try:
        columns = read_arrays(path)
    except (FileNotFoundError, ValueError):
        return None
    return columns if columns.keys() == names and columns["fingerprint"].item() == fingerprint else None


def snapshot_checksums(trial: TrialLayout, samples: Samples, step: int) -> list[int]:
    """CRC-32C of each shard of one snapshot, from its commit records: they name its images."""
    size = samples.plan.shard_images
    numbers = samples.steps[step]
    shards = range(numbers.start // size, numbers.stop // size)
    return [int(read_json(trial.commit(shard))["crc32c"]) for shard in shards]
