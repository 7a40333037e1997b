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

from ganlab.data import datasets
from ganlab.data.cifar import cifar_files
from ganlab.data.datasets import Dataset, DatasetSettings, Progress
from ganlab.data.inputs import InputDescription
from ganlab.data.pictures import chosen_files
from jobs.spec.validation import SpecError


def load_dataset(settings: DatasetSettings, progress: Progress | None = None, source: str = "") -> Dataset:
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

    def described(path: Path) -> datasets.ArrayLike:
        array = open_array(path)
        read.append(describe_array(path, array))
        return array

    with _faults_named(source):
        dataset = datasets.load(settings, progress, described)
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
        return datasets.image_count(settings, open_array), *datasets.image_shape(settings, open_array)


def dataset_fingerprint(settings: DatasetSettings, source: str = "") -> str:
    """Hexadecimal fingerprint of the settings and of the files they read, as far as listing them tells.

    Where the files lie does not count. Pictures are known by their names (asking a parallel file system for 200,000
    sizes takes too long), other files by name and size.
    """
    with _faults_named(source):
        files = _files(settings)
    content: list[object] = [science(settings), files]
    if _limited(settings):
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


def science(settings: DatasetSettings) -> dict[str, object]:
    """Settings that determine the images: all but the place of the files."""

    def without_path(part: dict[str, object]) -> dict[str, object]:
        return {
            key: without_path(value) if isinstance(value, dict) else value is not None if key == "labels" else value
            for key, value in part.items()
            if key != "path"
        }

    return without_path(settings.model_dump(mode="json"))


def _files(settings: DatasetSettings) -> list[tuple[str, int | None]]:
    match settings:
        case datasets.ImagesSettings():
            return [(name, None) for name in chosen_files(settings.path, settings.limit)]
        case datasets.Cifar10Settings():
            return [_sized(file, file.parent) for file in cifar_files(settings.path, settings.split)]
        case datasets.ArraySettings():
            return _array_files(settings.path)
        case datasets.IdxSettings():
            datasets.image_shape(settings)  # names a file that is missing
            files = [settings.path, *([settings.labels] if settings.labels is not None else [])]
            return [_sized(file, file.parent) for file in files if file.is_file()]
        case datasets.FashionMnistSettings():
            return _files(settings.files)
        case datasets.KnownSupportSettings():
            try:
                return _files(settings.base)
            except ValueError as error:
                raise ValueError(f"base.{error}") from error
    return []


def _limited(settings: DatasetSettings) -> bool:
    if isinstance(settings, datasets.KnownSupportSettings):
        return _limited(settings.base)
    return getattr(settings, "limit", None) is not None


def _array_files(path: Path) -> list[tuple[str, int | None]]:
    file = datasets.array_file(path)
    if not file.exists():
        raise ValueError(f"path: got '{path}', which does not exist; allowed: {datasets.ARRAY_FILES}")
    files: list[tuple[str, int | None]] = [_sized(file, file.parent)]
    if file.is_dir():
        files = [_sized(each, file) for each in sorted(file.rglob("*")) if each.is_file()]
    member = str(path).removeprefix(str(file))
    return [*files, (member, None)] if member else files


def _sized(file: Path, folder: Path) -> tuple[str, int]:
    return str(file.relative_to(folder)), file.stat().st_size
