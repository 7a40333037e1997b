"""The space images are compared in: their pixels, or the features of an embedding.

Invariant: a set of images has one array of features in a space, computed once in fixed blocks and kept; everything that
is measured in the space reads those.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ganlab.pairs.content import content_digests, in_order, random_places
from ganlab.quality.embedding import Classifier, check_labelled, embedding_key, train_classifier
from ganlab.quality.embeddings.base import Embedding, EmbeddingError, check_embedding
from ganlab.quality.embeddings.names import PIXELS as PIXELS_NAME
from ganlab.quality.embeddings.names import short_name
from ganlab.quality.embeddings.registry import Pixels, embedding_of
from jobs.measuring.comparison import Map, Source
from jobs.spec.validation import SpecError
from storage.features import CHUNK_ROWS, Features, read_features, read_record, write_features, write_record
from storage.layout import SweepLayout
from storage.lock import one_at_a_time
from storage.reference import read_reference
from storage.samples import DamagedShardError

Key = TypeVar("Key")
Progress = Callable[[float, float], None]
LabelledImages = Callable[[], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class StoredClassifier:
    """A classifier in a file, which each worker loads for itself.

    Attributes
    ----------
    path : Path
    fingerprint : str
        Of its weights.
    """

    path: Path
    fingerprint: str
    about = Classifier.about
    immediate = Classifier.immediate

    def features(self, images: np.ndarray) -> np.ndarray:
        """See `ganlab.quality.embeddings.base.Embedding`."""
        return _classifier(self.path).features(images)


@dataclass(frozen=True)
class Space:
    """Space in which distances are computed.

    Parameters
    ----------
    setting
        As the sweep file or the command line has it.
    embedding
        Whose features they are between; None for pixels.
    classifier
        The trained classifier where it is a part of the embedding.
    """

    setting: str
    embedding: Embedding | None = None
    classifier: Classifier | None = None

    @property
    def name(self) -> str:
        """For people: names of shipped embeddings, or the name of a file."""
        return short_name(self.setting)

    @property
    def about(self) -> str:
        """Description of what distances are measured between."""
        return PIXELS_NAME if self.embedding is None else self.embedding.about

    @property
    def fingerprint(self) -> str:
        """Two spaces of one fingerprint give the same distances."""
        return self.name if self.embedding is None else f"{self.name} {self.embedding.fingerprint}"

    def name_of(self, images: Any) -> str:
        """A name for images in this space, from plain data that name the images."""
        return hashlib.sha256(json.dumps([self.fingerprint, images]).encode()).hexdigest()[:16]

    def integer(self, images: Source) -> bool:
        """True if squared distances of these images are whole numbers in this space."""
        return self.embedding is None and images.dtype == np.uint8


PIXELS = Space(PIXELS_NAME)


def sweep_space(layout: SweepLayout, embedding: str, progress: Progress = lambda done, total: None) -> Space:
    """The space of a sweep; a classifier is trained on the sweep's real images once, and kept in its folder.

    Raises
    ------
    SpecError
        The embedding can't be had for these real images.
    """
    if embedding == PIXELS.setting:
        return PIXELS
    reference = read_reference(layout)
    key = embedding_key(reference.fingerprint)
    return embedding_space(
        embedding,
        layout.classifier(key),
        key,
        lambda: (reference.images, reference.labels),
        reference.shape[1:],
        progress,
        "collisions.embedding",
    )


def check_setting(setting: str, image_shape: tuple[int, ...], asked: str) -> None:
    """Raise SpecError, beginning with `asked`, for an embedding that can't be had for such images; trains none."""
    try:
        check_embedding(embedding_of(setting, Pixels), image_shape)
    except EmbeddingError as error:
        raise SpecError(f"{asked}: {short_name(setting)}: {error}") from error


def embedding_space(
    setting: str,
    path: Path,
    key: str,
    labelled: LabelledImages,
    image_shape: tuple[int, ...],
    progress: Progress,
    asked: str,
) -> Space:
    """The space of an embedding, tried on images of this shape.

    A classifier is the one kept at `path` under the name `key`, or is trained on ``labelled()`` images and kept there.

    Raises
    ------
    SpecError
        Its text begins with `asked`.
    """
    trained: list[Classifier] = []

    def classifier() -> Embedding:
        trained.append(_kept_classifier(path, key, labelled, progress, asked))
        return StoredClassifier(path, trained[-1].fingerprint)

    try:
        embedding = embedding_of(setting, classifier)
        check_embedding(embedding, image_shape)
    except EmbeddingError as error:
        raise SpecError(f"{asked}: {short_name(setting)}: {error}") from error
    return Space(setting, embedding, trained[-1] if trained else None)


def _kept_classifier(path: Path, key: str, labelled: LabelledImages, progress: Progress, asked: str) -> Classifier:
    kept = read_record(path, key)
    if kept is not None:
        return Classifier.from_arrays(kept)
    images, labels = labelled()
    try:
        labels = check_labelled(images, labels)
        # In an order of their content, so that how they are stored decides nothing.
        order = in_order(random_places(content_digests(lambda start, stop: images[start:stop], len(images)), labels))
        classifier = train_classifier(images[order], labels[order], progress=progress)
    except ValueError as error:
        raise SpecError(f"{asked}: classifier needs labelled real images: {error}") from error
    write_record(path, key, **classifier.to_arrays())
    return classifier


class FeatureRequest(NamedTuple):
    """Images whose features are wanted: where to keep them, and what names the images and the space."""

    images: Source
    path: Path
    fingerprint: str


def embed(
    space: Space, wanted: Mapping[Key, FeatureRequest], map: Map, progress: Progress = lambda done, total: None
) -> dict[Key, Features | DamagedShardError]:
    """The features of sets of images, computed where they are not kept already; or why they can't be read.

    Parameters
    ----------
    map
        `map(function, items)` of some cluster, or Python's own; not called when nothing is to be computed.
    progress
        Called with (images done, images in all).

    Raises
    ------
    SpecError
        Features that are not finite or vary in length; none of that set of images are kept.
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
        assert space.embedding is not None
        count = images.shape[0]
        starts = range(0, count, CHUNK_ROWS)
        tasks = [_Task(space.embedding, images, start, min(start + CHUNK_ROWS, count)) for start in starts]
        for start, values in map(_run, tasks):
            if isinstance(values, DamagedShardError):
                raise values
            done += len(values)
            progress(done, total)
            yield start, values

    for key, each in missing.items():
        try:
            with one_at_a_time(each.path.with_name(f".{each.path.name}.lock")):
                kept = read_features(each.path, each.fingerprint)  # another command may have computed them meanwhile
                if kept is None:
                    computed = blocks(each.images)
                    first = next(computed)
                    shape = (each.images.shape[0], first[1].shape[1])
                    kept = write_features(each.path, shape, each.fingerprint, chain([first], computed))
            found[key] = kept
        except DamagedShardError as error:
            found[key] = error
        except EmbeddingError as error:
            raise SpecError(f"embedding {space.name}: {error}") from error
    return found


class _Task(NamedTuple):
    embedding: Embedding
    images: Source
    start: int
    stop: int


def _run(task: _Task) -> tuple[int, np.ndarray | DamagedShardError]:
    """Compute one block, on whatever worker it lands."""
    try:
        images = task.images.read(task.start, task.stop)
    except DamagedShardError as error:  # others go on
        return task.start, error
    return task.start, task.embedding.features(images)


@lru_cache(maxsize=1)
def _classifier(path: Path) -> Classifier:
    from storage.atomic import read_arrays

    arrays = read_arrays(path)
    arrays.pop("fingerprint")
    return Classifier.from_arrays(arrays)
