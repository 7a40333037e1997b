"""Training images of a sweep: ganlab's datasets with storage's arrays, and a fingerprint of what was read.

Invariant: two equal fingerprints mean the same settings and, as far as names and sizes tell, the same files, wherever
they lie.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ganlab.data.datasets import LEAST_REAL, ArrayLike, Dataset, DatasetSettings, Progress, RealSettings
from ganlab.data.inputs import InputDescription
from ganlab.pairs.content import Digests, are_among, content_digests, in_order, random_places
from jobs.spec.validation import SpecError


def load_dataset(settings: DatasetSettings, progress: Progress = lambda done, total: None, source: str = "") -> Dataset:
    """Read a sweep's training images, and the images that are held out.

    Those that a share or a number of the images holds out are the first in the random order that follows from their
    content (`ganlab.pairs.content`), whatever their order in the files.

    `source` is the sweep file's name, for the error.

    Raises
    ------
    SpecError
        When files are missing, damaged or not what the settings say: one line with the key at fault.
    """
    from jobs.spec.inputs import describe_array
    from storage.arrays import open_array

    read: list[InputDescription] = []

    def described(path: Path) -> ArrayLike:
        array = open_array(path)
        read.append(describe_array(path, array))
        return array

    with _faults_named(source):
        dataset = settings.load(progress, described)
        if read:
            dataset = replace(dataset, read=read[-1])
        if not isinstance(settings, RealSettings):
            return dataset
        others = settings.held_out_settings()
        if others is None:
            return _split(dataset, settings.held_out_count(len(dataset.images)))
        with _of_held_out():
            held_out = others.load(progress, open_array)
            _check_held_out(held_out.images.shape, dataset.images.shape[1:])
        return replace(dataset, held_out=held_out, skipped=dataset.skipped + held_out.skipped)


def held_out_in_words(dataset: Dataset) -> str:
    """Say how many images are held out of training, and how many of them training has, too."""
    assert dataset.held_out is not None
    own, training = _digests(dataset.held_out.images), _digests(dataset.images)
    text = f"{len(own):,} images, beside {len(training):,} to train on"
    copies = int(are_among(own, training).sum())
    return f"{text}; {copies:,} of them are exact copies of training images" if copies else text


def dataset_shape(settings: DatasetSettings, source: str = "") -> tuple[int, ...]:
    """Shape (N, C, H, W) of the training images, or (N, D) of points, from names and sizes of files; reads no pixel.

    Raises
    ------
    SpecError
        When files are missing or not what the settings say, as `load_dataset`.
    """
    from storage.arrays import open_array

    with _faults_named(source):
        count, shape = settings.image_count(open_array), settings.image_shape(open_array)
        if not isinstance(settings, RealSettings):
            return count, *shape
        others = settings.held_out_settings()
        if others is None:
            return count - settings.held_out_count(count), *shape
        with _of_held_out():
            held_out = others.image_count(open_array), *others.image_shape(open_array)
            _check_held_out(held_out, shape)
        return count, *shape


def dataset_fingerprint(settings: DatasetSettings, source: str = "") -> str:
    """Hexadecimal fingerprint of the settings and of the files they read, as far as listing them tells.

    Where the files lie does not count. Pictures are known by their names (asking a parallel file system for 200,000
    sizes takes too long), other files by name and size.
    """
    with _faults_named(source):
        files = settings.files()
        others = settings.held_out_settings() if isinstance(settings, RealSettings) else None
        with _of_held_out():
            of_held_out = [] if others is None else others.files()
    content: list[object] = [settings.identity(), files, *([of_held_out] if of_held_out else [])]
    if settings.limited:
        content.append("drawn at random")  # version 0.1.0 read the first images
    described = json.dumps(content, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _split(dataset: Dataset, count: int) -> Dataset:
    """Hold out so many images: the first in their random order."""
    if not count:
        return dataset
    images, labels = dataset.images, dataset.labels
    order = in_order(random_places(_digests(images), labels))
    held_out, kept = np.sort(order[:count]), np.sort(order[count:])
    parts = [Dataset(images[part], None if labels is None else labels[part]) for part in (held_out, kept)]
    return replace(dataset, images=parts[1].images, labels=parts[1].labels, held_out=parts[0])


def _digests(images: np.ndarray) -> Digests:
    return content_digests(lambda start, stop: images[start:stop], len(images))


def _check_held_out(held_out: tuple[int, ...], shape: tuple[int, ...]) -> None:
    count, *own = held_out
    if tuple(own) != shape:
        raise ValueError(f"got images of shape {tuple(own)}; allowed: that of the training images, {shape}")
    if count < LEAST_REAL:
        raise ValueError(f"got {count} image; allowed: {LEAST_REAL} or more")


@contextmanager
def _of_held_out() -> Iterator[None]:
    """Name the held-out images in the errors of reading them."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"held_out: {str(error).removeprefix('path: ')}") from error


@contextmanager
def _faults_named(source: str) -> Iterator[None]:
    """Turn the errors of reading a dataset into SpecError: the sweep file, the key at fault, and the reason."""
    try:
        yield
    except ValueError as error:
        raise SpecError(f"dataset.{error}", source=source) from error
    except OSError as error:
        raise SpecError(f"dataset: {error.strerror}: '{error.filename}'", source=source) from error
