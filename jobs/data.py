"""Training images of a sweep: ganlab's datasets with storage's arrays, and a fingerprint of what was read.

Invariant: two equal fingerprints mean the same settings and, as far as names and sizes tell, the same files, wherever
they lie.
"""

import hashlib
import json
from pathlib import Path

from ganlab import datasets
from ganlab.cifar import cifar_files
from ganlab.datasets import Dataset, DatasetSettings, Progress
from ganlab.pictures import picture_files
from jobs.strict import SpecError


def load_dataset(settings: DatasetSettings, progress: Progress | None = None, source: str = "") -> Dataset:
    """Read a sweep's training images.

    `source` is the sweep file's name, for the error.

    Raises
    ------
    SpecError
        When files are missing, damaged or not what the settings say: one line with the key at fault.
    """
    from storage.arrays import open_array

    try:
        return datasets.load(settings, progress, open_array)
    except ValueError as error:
        raise SpecError(f"dataset.{error}", source=source) from error
    except OSError as error:
        raise SpecError(f"dataset: {error.strerror}: '{error.filename}'", source=source) from error


def image_shape(settings: DatasetSettings, source: str = "") -> tuple[int, ...]:
    """Shape (C, H, W) of the images, or (D,) of points; reads no pixel. SpecError for an `array` that can't be opened."""
    from storage.arrays import open_array

    try:
        return datasets.image_shape(settings, open_array)
    except ValueError as error:
        raise SpecError(f"dataset.{error}", source=source) from error


def dataset_fingerprint(settings: DatasetSettings, source: str = "") -> str:
    """Hexadecimal fingerprint of the settings and of the files they read, as far as listing them tells.

    Where the files lie does not count. Pictures are known by their names (asking a parallel file system for 200,000
    sizes takes too long), other files by name and size.
    """
    try:
        files = _files(settings)
    except ValueError as error:
        raise SpecError(f"dataset.{error}", source=source) from error
    described = json.dumps([science(settings), files], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def science(settings: DatasetSettings) -> dict[str, object]:
    """What of the settings decides the images: all but the place of the files."""

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
            return [(name, None) for name in picture_files(settings.path)[: settings.limit]]
        case datasets.Cifar10Settings():
            return [_sized(file, file.parent) for file in cifar_files(settings.path, settings.split)]
        case datasets.ArraySettings() if settings.path.is_dir():
            return [_sized(file, settings.path) for file in sorted(settings.path.rglob("*")) if file.is_file()]
        case datasets.ArraySettings() if settings.path.exists():
            return [_sized(settings.path, settings.path.parent)]
        case datasets.ArraySettings():
            raise ValueError(f"path: got '{settings.path}', which does not exist; allowed: {datasets.ARRAY_FILES}")
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


def _sized(file: Path, folder: Path) -> tuple[str, int]:
    return str(file.relative_to(folder)), file.stat().st_size
