"""Scores of snapshots beside their pairs, as tasks for any `map`.

Invariant: the scores of a snapshot are kept under a fingerprint of its images, the real ones and the space, and computed
once; their curve is at the distances of the real images' curve.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ganlab.pairs.content import content_order
from ganlab.pairs.exact import Index
from ganlab.quality.detail import BANDS, PATCH, DetailBasis
from ganlab.quality.frechet import SIZES
from ganlab.quality.kernels import BANDWIDTH_RATE, BLOCK_IMAGES, BLOCKS, KERNEL_IMAGES
from ganlab.quality.manifold import NEIGHBOURS
from ganlab.quality.scores import (
    MOST_IMAGES,
    RealSide,
    Scores,
    detail_basis,
    needed_distances,
    real_side,
    score,
    score_real,
    scored_images,
    with_detail,
)
from ganlab.statistics.correlation import POINTS
from ganlab.statistics.diversity import FACTORS
from ganlab.statistics.duplicate_distance import RATES, DuplicateDistance
from jobs.measuring.comparison import Map, Source, forget_images
from storage.features import read_record, write_record
from storage.samples import DamagedShardError

ORDER = "by content"  # how the real images that are looked at are drawn
Key = TypeVar("Key")
Progress = Callable[[float, float], None]
Distances = npt.NDArray[np.float64]


class ScoreRequest(NamedTuple):
    """A set of images to score.

    Attributes
    ----------
    images, pictures
        The images in the space, and as they are.
    path, fingerprint
        Where to keep the scores, and what names the images, the real ones and the space.
    is_real
        True of the real images.
    """

    images: Source
    pictures: Source
    path: Path
    fingerprint: str
    is_real: bool = False


def scores_name(measured: str) -> str:
    """Name of the scores of a snapshot whose pair record has this fingerprint."""
    made = [measured, MOST_IMAGES, NEIGHBOURS, POINTS, ORDER, RATES, FACTORS, PATCH, BANDS]
    made += [SIZES, BLOCKS, BLOCK_IMAGES, KERNEL_IMAGES, BANDWIDTH_RATE]
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]


def read_scores(path: Path, fingerprint: str, distances: Distances | None = None) -> Scores | None:
    """Read the record of `write_scores`; None if it is missing, of other images, or has its curve at other distances.

    Parameters
    ----------
    distances : float64 (t,), optional
        Those of the real images' curve: only curves at the same ones compare. Two versions of this program, or of its
        libraries, may choose different ones.
    """
    arrays = read_record(path, fingerprint)
    scores = None if arrays is None else Scores.from_arrays(arrays)
    if scores is None or distances is None or np.array_equal(scores.curve.distances, distances):
        return scores
    return None


def has_distances(scores: Scores, threshold: float, rates: Sequence[DuplicateDistance]) -> bool:
    """True if the curve has the threshold, and the distances of the rates, among its distances."""
    return bool(np.isin(needed_distances(threshold, rates), scores.curve.distances).all())


def write_scores(
    wanted: Mapping[Key, ScoreRequest],
    reference: Source,
    pictures: Source,
    name: str,
    threshold: float,
    rates: tuple[DuplicateDistance, ...],
    map: Map,
    progress: Progress,
    distances: Distances | None = None,
) -> dict[Key, DamagedShardError]:
    """Score sets of images, and keep the scores.

    Parameters
    ----------
    reference, pictures, name
        The real images in the space, and as they are, and what names them and the space: workers keep what they prepare
        under it.
    threshold, rates
        Distance of duplicates, and distances of rates of real pairs.
    progress
        Called with (pairs looked at, pairs in all).
    distances : float64 (t,), optional
        Of the real images' curve, where they are scored already.

    Returns
    -------
    dict
        Those whose images can't be read.
    """
    real = reference.shape[0]
    image_bytes = reference.read(0, 1).nbytes if wanted else 0
    curve = None if distances is None else tuple(distances.tolist())
    tasks = [
        _Task(
            key,
            each.images,
            each.pictures,
            each.is_real,
            _Real(
                name,
                scored_images(each.images.shape[0], real, image_bytes),
                threshold,
                rates,
                curve,
                reference,
                pictures,
            ),
        )
        for key, each in wanted.items()
    ]
    total, done = sum(task.pairs for task in tasks), 0
    damaged = {}
    for key, pairs, found in map(_run, tasks) if tasks else ():
        done += pairs
        progress(done, total)
        if isinstance(found, DamagedShardError):
            damaged[key] = found
        else:
            write_record(wanted[key].path, wanted[key].fingerprint, **found.to_arrays())
    return damaged


@dataclass(frozen=True)
class _Real:
    """Key of prepared real images; two are equal if name, number and distances are."""

    name: str
    images: int
    threshold: float
    rates: tuple[DuplicateDistance, ...]
    distances: tuple[float, ...] | None
    source: Source = field(compare=False)
    pictures: Source = field(compare=False)


class _Prepared(NamedTuple):
    side: RealSide
    basis: DetailBasis | None
    order: Index


class _Task(NamedTuple):
    key: Any
    images: Source
    pictures: Source
    is_real: bool
    real: _Real

    @property
    def pairs(self) -> int:
        """Pairs it looks at, about: of samples, of both sets twice, for the curve and the balls."""
        return (1 if self.is_real else 4) * self.real.images**2


def _run(task: _Task) -> tuple[Any, int, Scores | DamagedShardError]:
    """Score one set, on whatever worker it lands."""
    found: Scores | DamagedShardError
    forget_images()
    try:
        real, count = _prepared(task.real), task.images.shape[0]
        order = real.order if task.is_real else None
        found = (
            score_real(task.images.read, count, real.side.distances, order, real.side.bandwidth, real.side.everyone)
            if task.is_real
            else score(task.images.read, count, real.side)
        )
        found = with_detail(found, real.basis, task.pictures.read, count, order, learnt=task.is_real)
    except DamagedShardError as error:  # others go on
        found = error
    return task.key, task.pairs, found


@lru_cache(maxsize=2)
def _prepared(real: _Real) -> _Prepared:
    """Prepared by every worker for itself: seconds, where sending it with every task would cost more."""
    read, count = real.source.read, real.source.shape[0]
    order = content_order(read, count)
    distances = None if real.distances is None else np.array(real.distances)
    side = real_side(read, count, real.images, real.threshold, order, real.rates, distances)
    return _Prepared(side, detail_basis(real.pictures.read, count, order), order)
