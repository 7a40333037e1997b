"""Pairs of one snapshot around the threshold, from which those that people judge are drawn.

Invariant: a record is whole or absent, and belongs to exactly the images and distance that its fingerprint names.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy.typing as npt

from storage.atomic import read_arrays, write_arrays
from storage.layout import SweepLayout


@dataclass(frozen=True, eq=False)
class NearRecord:
    """Every pair of a snapshot's first images within a distance; image numbers count from its first image.

    Attributes
    ----------
    fingerprint : str
        Of the images and the distance.
    index : int64 (m, 2)
        The pairs.
    squared : int64 or float64 (m,)
        Their squared distances.
    samples : int
        Images among which all pairs are listed.
    """

    fingerprint: str
    index: npt.NDArray[Any]
    squared: npt.NDArray[Any]
    samples: int


def write_near_record(layout: SweepLayout, trial_id: str, step: int, record: NearRecord) -> None:
    """Write the record of one snapshot, replacing an older one when it is safely on disk."""
    write_arrays(layout.near_pairs(trial_id, step), **asdict(record))


def read_near_record(layout: SweepLayout, trial_id: str, step: int, fingerprint: str) -> NearRecord | None:
    """The record of one snapshot; None when there is none, it is damaged, or it belongs to other images."""
    try:
        columns = read_arrays(layout.near_pairs(trial_id, step))
        record = NearRecord(str(columns["fingerprint"]), columns["index"], columns["squared"], int(columns["samples"]))
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return record if record.fingerprint == fingerprint else None
