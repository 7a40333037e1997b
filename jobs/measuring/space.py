"""The space images are compared in: their pixels, or the top layer of a classifier trained on the real ones.

Invariant: a set of images has one array of features in a space, computed once in fixed blocks and kept; everything that
is measured in the space reads those.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ganlab.pairs.content import content_digests, in_order, random_places
from ganlab.quality.embedding import FEATURES, Classifier, check_labelled, embedding_key, train_classifier
from jobs.measuring.comparison import Map, Source
from jobs.spec.validation import SpecError
from storage.features import CHUNK_ROWS, Features, read_features, read_record, write_features, write_record
from storage.layout import SweepLayout
from storage.reference import read_reference
from storage.samples import DamagedShardError

Key = TypeVar("Key")
Progress = Callable[[float, float], None]
EMBEDDINGS = ("pixels", "classifier")


@dataclass(frozen=True)
class Space:
    """Space in which distances are computed.

    Parameters
    ----------
    name
        One of `EMBEDDINGS`.
    classifier, path
        Whose top layer it is, and the file that holds it; None for pixels.
    """

    name: str
    classifier: Classifier | None = None
    path: Path | None = None

    @property
    def fingerprint(self) -> str:
        """Two spaces of one fingerprint give the same distances."""
        return self.name if self.classifier is None else f"{self.name} {self.classifier.fingerprint}"

    def name_of(self, images: Any) -> str:
        """A name for images in this space, from plain data that name the images."""
        return hashlib.sha256(json.dumps([self.fingerprint, images]).encode()).hexdigest()[:16]

    def integer(self, images: Source) -> bool:
        """True if squared distances of these images are whole numbers in this space."""
        return self.classifier is None and images.dtype == np.uint8


PIXELS = Space("pixels")


def sweep_space(layout: SweepLayout, embedding: str, progress: Progress = lambda done, total: None) -> Space:
    """The space of a sweep; a classifier is trained on the sweep's real images once, and kept in its folder.

    Raises
    ------
    SpecError
        The real images have no labels to train one on.
    """
    if embedding == PIXELS.name:
        return PIXELS
    reference = read_reference(layout)
    key = embedding_key(reference.fingerprint)
    path = layout.classifier(key)
    return classifier_space(path, key, lambda: (reference.images, reference.labels), progress, "collisions.embedding")


def classifier_space(
    path: Path, key: str, labelled: Callable[[], tuple[np.ndarray, np.ndarray | None]], progress: Progress, asked: str
) -> Space:
    """The classifier kept at `path` under the name `key`; otherwise trained on ``labelled()`` images, and kept there."""
    kept = read_record(path, key)
    if kept is not None:
        return Space("classifier", Classifier.from_arrays(kept), path)
    images, labels = labelled()
    try:
        labels = check_labelled(images, labels)
        # In an order of their content, so that how they are stored decides nothing.
        order = in_order(random_places(content_digests(lambda start, stop: images[start:stop], len(images)), labels))
        classifier = train_classifier(images[order], labels[order], progress=progress)
    except ValueError as error:
        raise SpecError(f"{asked}: classifier needs labelled real images: {error}") from error
    write_record(path, key, **classifier.to_arrays())
    return Space("classifier", classifier, path)


class Wanted(NamedTuple):
    """Images whose features are wanted: where to keep them, and what names the images and the space."""

    images: Source
    path: Path
    fingerprint: str


def embed(
    space: Space, wanted: Mapping[Key, Wanted], map: Map, progress: Progress = lambda done, total: None
) -> dict[Key, Features | DamagedShardError]:
    """The features of sets of images, computed where they are not kept already; or why they can't be read.

    Parameters
    ----------
    map
        `map(function, items)` of some cluster, or Python's own; not called when nothing is to be computed.
    progress
        Called with (images done, images in all).
    """
    found: dict[Key, Features | DamagedShardError] = {}
    missing = {}
    for key, each in wanted.items():
        kept = read_features(each.path, each.fingerprint)
        if kept is None:
            missing[key] = each
        else:
            found[key] = kept
    total = sum(each.images.shape[0] for each in missing.values())
    done = 0

    def blocks(images: Source) -> Iterator[tuple[int, np.ndarray]]:
        nonlocal done
        assert space.path is not None
        count = images.shape[0]
        starts = range(0, count, CHUNK_ROWS)
        tasks = [_Task(space.path, images, start, min(start + CHUNK_ROWS, count)) for start in starts]
        for start, values in map(_run, tasks):
            if isinstance(values, DamagedShardError):
                raise values
            done += len(values)
            progress(done, total)
            yield start, values

    for key, each in missing.items():
        try:
            shape = (each.images.shape[0], FEATURES)
            found[key] = write_features(each.path, shape, each.fingerprint, blocks(each.images))
        except DamagedShardError as error:
            found[key] = error
    return found


class _Task(NamedTuple):
    classifier: Path
    images: Source
    start: int
    stop: int


def _run(task: _Task) -> tuple[int, np.ndarray | DamagedShardError]:
    """Compute one block, on whatever worker it lands."""
    try:
        images = task.images.read(task.start, task.stop)
    except DamagedShardError as error:  # others go on
        return task.start, error
    return task.start, _classifier(task.classifier).features(images)


@lru_cache(maxsize=1)
def _classifier(path: Path) -> Classifier:
    from storage.atomic import read_arrays

    arrays = read_arrays(path)
    arrays.pop("fingerprint")
    return Classifier.from_arrays(arrays)
