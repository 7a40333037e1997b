"""Scores of snapshots beside their pairs, as tasks for any `map`.

Invariant: the scores of a snapshot are kept under a fingerprint of its images, the real ones and the space, and computed
once.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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
    real_side,
    score,
    score_real,
    scored_images,
    with_detail,
)
from ganlab.statistics.correlation import POINTS
from ganlab.statistics.diversity import FACTORS
from ganlab.statistics.duplicate_distance import RATES, DuplicateDistance
from jobs.measuring.comparison import Map, Source
from storage.features import read_record, write_record
from storage.samples import DamagedShardError

ORDER = "by content"  # how the real images that are looked at are drawn
Key = TypeVar("Key")
Progress = Callable[[float, float], None]


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


def read_scores(path: Path, fingerprint: str) -> Scores | None:
    """Read the record of `write_scores`; None if it is missing or of other images."""
    arrays = read_record(path, fingerprint)
    return None if arrays is None else Scores.from_arrays(arrays)


def write_scores(
    wanted: Mapping[Key, ScoreRequest],
    reference: Source,
    pictures: Source,
    name: str,
    threshold: float,
    rates: tuple[DuplicateDistance, ...],
    map: Map,
    progress: Progress,
) -> dict[Key, DamagedShardError]:
    """Score every set of images that is not scored yet, and keep the scores.

    Parameters
    ----------
    reference, pictures, name
        The real images in the space, and as they are, and what names them and the space: workers keep what they prepare
        under it.
    threshold, rates
        Distance of duplicates, and distances of rates of real pairs.
    progress
        Called with (pairs looked at, pairs in all).

    Returns
    -------
    dict
        Those whose images can't be read.
    """
    missing = {key: each for key, each in wanted.items() if read_record(each.path, each.fingerprint) is None}
    real = reference.shape[0]
    image_bytes = reference.read(0, 1).nbytes if missing else 0
    tasks = [
        _Task(
            key,
            each.images,
            each.pictures,
            each.is_real,
            _Real(name, scored_images(each.images.shape[0], real, image_bytes), threshold, rates, reference, pictures),
        )
        for key, each in missing.items()
    ]
    total, done = sum(task.pairs for task in tasks), 0
    damaged = {}
    for key, pairs, found in map(_run, tasks) if tasks else ():
        done += pairs
        progress(done, total)
        if isinstance(found, DamagedShardError):
            damaged[key] = found
        else:
            write_record(missing[key].path, missing[key].fingerprint, **found.to_arrays())
    return damaged


@dataclass(frozen=True)
class _Real:
    """Key of prepared real images; two are equal if name, number and distances are."""

    name: str
    images: int
    threshold: float
    rates: tuple[DuplicateDistance, ...]
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
    try:
        real, count = _prepared(task.real), task.images.shape[0]
        order = real.order if task.is_real else None
        found = (
            score_real(task.images.read, count, real.side.distances, order, real.side.bandwidth)
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
    side = real_side(read, count, real.images, real.threshold, order, real.rates)
    return _Prepared(side, detail_basis(real.pictures.read, count, order), order)
