"""Records on disk of the pairs found in one snapshot.

Invariant: a record is whole or absent, and belongs to exactly the images and settings that its fingerprint names.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from storage.atomic import read_arrays, read_json, write_arrays
from storage.layout import SweepLayout, TrialLayout
from storage.samples import Samples

Ints = npt.NDArray[np.int64]
Squares = npt.NDArray[Any]


@dataclass(frozen=True)
class PairRecord:
    """Duplicates, closest pairs and nearest training images of one snapshot; image numbers count from its first image.

    Attributes
    ----------
    fingerprint : str
        Of the images, the training images and the settings.
    samples, pairs_compared : int
        Images, and the unordered pairs of them, each compared once.
    threshold_squared : int or float
        Squared distance up to which a pair is a duplicate. As all squared distances here, whole of uint8 images and
        float64 of features.
    degrees : int64 (samples,)
        Duplicates of each image.
    closest_index, closest_squared : int64 (m, 2), (m,)
        The closest pairs, with their squared distances.
    listed_index, listed_squared : int64 (k, 2), (k,)
        Every duplicate pair of the first `listed_below` images in `order`: all of them unless there are too many to list.
    listed_below : int
        See above.
    distinct : int
        Size of a set of these images no two of which are duplicates.
    neighbour, neighbour_squared : int64 (samples,)
        Number of, and squared distance to, each image's nearest training image.
    order : int64 (samples,), or empty
        Numbers of the images in a random order, of which a sub-sample takes the first ones; empty for images that are
        independent as they are numbered.
    """

    fingerprint: str
    samples: int
    pairs_compared: int
    threshold_squared: float
    degrees: Ints
    closest_index: Ints
    closest_squared: Squares
    listed_index: Ints
    listed_squared: Squares
    listed_below: int
    distinct: int
    neighbour: Ints
    neighbour_squared: Squares
    order: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def numbers(self) -> Ints:
        """Numbers of all images, int64 (samples,), in the order in which sub-samples are taken."""
        return self.order if len(self.order) else np.arange(self.samples)


def write_pair_record(layout: SweepLayout, trial_id: str, step: int, record: PairRecord) -> None:
    """Write the record of one snapshot, replacing an older one when it is safely on disk."""
    columns = {each.name: getattr(record, each.name) for each in fields(PairRecord)}
    write_arrays(layout.pair_record(trial_id, step), **columns)


def read_pair_record(layout: SweepLayout, trial_id: str, step: int, fingerprint: str) -> PairRecord | None:
    """The record of one snapshot; None when there is none, it is damaged, or it belongs to other images or settings."""
    names = {each.name for each in fields(PairRecord)}
    columns = _read(layout.pair_record(trial_id, step), fingerprint, names, optional={"order"})  # not in version 0.1.0
    if columns is None:
        return None
    values: dict[str, Any] = {name: column.item() if column.ndim == 0 else column for name, column in columns.items()}
    return PairRecord(**values)


class NearestReal(NamedTuple):
    """The nearest training image of every image of a set, of a training image the nearest other one.

    Attributes
    ----------
    neighbour, squared : int64 (N,)
        Its number, and its squared distance.
    move : int64 (N,) or None
        Number of the move (`ganlab.quality.moves`) that brings the image so near; None where images are compared as they
        are.
    """

    neighbour: Ints
    squared: Squares
    move: Ints | None = None


def write_nearest_real(path: Path, fingerprint: str, nearest: NearestReal) -> None:
    """Keep the nearest training images of a set of images."""
    columns = {name: column for name, column in nearest._asdict().items() if column is not None}
    write_arrays(path, fingerprint=fingerprint, **columns)


def read_nearest_real(path: Path, fingerprint: str) -> NearestReal | None:
    """Read the record of `write_nearest_real` for the same images; None if it is missing or damaged."""
    columns = _read(path, fingerprint, {"fingerprint", *NearestReal._fields}, optional={"move"})
    if columns is None:
        return None
    return NearestReal(columns["neighbour"], columns["squared"], columns.get("move"))


def write_real_distances(layout: SweepLayout, fingerprint: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Keep the distances of rates of real pairs, as plain arrays."""
    write_arrays(layout.real_distances, fingerprint=fingerprint, **arrays)


def read_real_distances(layout: SweepLayout, fingerprint: str) -> dict[str, npt.NDArray[Any]] | None:
    """Read the record of `write_real_distances` for the same images; None if it is missing or damaged."""
    try:
        columns = read_arrays(layout.real_distances)
    except (FileNotFoundError, ValueError):
        return None
    return columns if "fingerprint" in columns and columns["fingerprint"].item() == fingerprint else None


def _read(
    path: Path, fingerprint: str, names: Set[str], optional: Set[str] = frozenset()
) -> dict[str, npt.NDArray[Any]] | None:
    try:
        columns = read_arrays(path)
    except (FileNotFoundError, ValueError):
        return None
    complete = names - optional <= columns.keys() <= names
    return columns if complete and columns["fingerprint"].item() == fingerprint else None


def snapshot_checksums(trial: TrialLayout, samples: Samples, step: int) -> list[int]:
    """CRC-32C of each shard of one snapshot that is committed, from the commit records: they name its images."""
    size = samples.plan.shard_images
    numbers = samples.begun[step]
    shards = range(numbers.start // size, numbers.stop // size)
    return [int(read_json(trial.commit(shard))["crc32c"]) for shard in shards]
