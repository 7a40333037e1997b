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

from ganlab.data.datasets import ArrayLike, Dataset, DatasetSettings, Progress
from ganlab.data.inputs import InputDescription
from jobs.spec.validation import SpecError


def load_dataset(settings: DatasetSettings, progress: Progress = lambda done, total: None, source: str = "") -> Dataset:
    """Read a sweep's training images.

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
    return replace(dataset, read=read[-1]) if read else dataset


def dataset_shape(settings: DatasetSettings, source: str = "") -> tuple[int, ...]:
    """Shape (N, C, H, W) of the images, or (N, D) of points, from names and sizes of files; reads no pixel.

    Raises
    ------
    SpecError
        When files are missing or not what the settings say, as `load_dataset`.
    """
    from storage.arrays import open_array

    with _faults_named(source):
        return settings.image_count(open_array), *settings.image_shape(open_array)


def dataset_fingerprint(settings: DatasetSettings, source: str = "") -> str:
    """Hexadecimal fingerprint of the settings and of the files they read, as far as listing them tells.

    Where the files lie does not count. Pictures are known by their names (asking a parallel file system for 200,000
    sizes takes too long), other files by name and size.
    """
    with _faults_named(source):
        files = settings.files()
    content: list[object] = [settings.identity(), files]
    if settings.limited:
        content.append("drawn at random")  # version 0.1.0 read the first images
    described = json.dumps(content, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


@contextmanager
def _faults_named(source: str) -> Iterator[None]:
    """Turn the errors of reading a dataset into SpecError: the sweep file, the key at fault, and the reason."""
    try:
        yield
    except ValueError as error:
        raise SpecError(f"dataset.{error}", source=source) from error
    except OSError as error:
        raise SpecError(f"dataset: {error.strerror}: '{error.filename}'", source=source) from error
