"""Training images of a sweep: stored arrays, one-line faults with their key, fingerprints."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganlab.datasets import ArraySettings, Cifar10Settings, DigitsSettings, ImagesSettings, KnownSupportSettings
from jobs.data import dataset_fingerprint, dataset_shape, load_dataset
from jobs.strict import SpecError


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), np.uint8)


def save_zarr(path: Path, images: np.ndarray) -> None:
    import zarr

    zarr.open_group(path, mode="w").create_array("images", data=images)


SAVERS: dict[str, Any] = {
    "a.npy": np.save, "a.npz": lambda path, images: np.savez(path, images=images), "a.zarr": save_zarr,
}  # fmt: skip


@pytest.mark.parametrize("name", SAVERS)
def test_stored_arrays_are_read(tmp_path: Path, images: np.ndarray, name: str) -> None:
    SAVERS[name](tmp_path / name, images)
    settings = ArraySettings(path=tmp_path / name)
    assert np.array_equal(load_dataset(settings).images, images)
    assert dataset_shape(settings) == (len(load_dataset(settings).images), 3, 8, 8)
    based = KnownSupportSettings(pool=20, images=50, base=settings, pixel_noise=0)
    drawn = {image.tobytes() for image in load_dataset(based).images}
    assert drawn <= {image.tobytes() for image in images}
    assert dataset_shape(based) == (len(load_dataset(based).images), 3, 8, 8)


@pytest.mark.parametrize("reader", [load_dataset, dataset_shape, dataset_fingerprint])
def test_a_missing_path_is_one_line_with_its_key(tmp_path: Path, reader: Any) -> None:
    settings = ArraySettings(path=tmp_path / "gone.npy")
    with pytest.raises(SpecError, match=r"^my\.yaml: dataset\.path: got '.*gone\.npy', which does not exist; allowed"):
        reader(settings, source="my.yaml")


def test_a_truncated_array_is_one_line_with_its_key(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", images)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(SpecError) as caught:
        load_dataset(ArraySettings(path=tmp_path / "a.npy"), source="my.yaml")
    assert str(caught.value).startswith("my.yaml: dataset.path: ")
    assert "a.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_of_a_base_names_the_whole_key(tmp_path: Path) -> None:
    settings = KnownSupportSettings(pool=2, base=ImagesSettings(path=tmp_path))
    for reader in (load_dataset, dataset_fingerprint):
        with pytest.raises(SpecError, match=r"^dataset\.base\.path: got .*holds no pictures"):
            reader(settings)


def test_a_fingerprint_is_that_of_settings_and_files_wherever_they_lie(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    for name in "ab":
        Image.new("L", (8, 8)).save(first / f"{name}.png")
    shutil.copytree(first, tmp_path / "second")
    fingerprint = dataset_fingerprint(ImagesSettings(path=first))
    assert dataset_fingerprint(ImagesSettings(path=tmp_path / "second")) == fingerprint
    assert dataset_fingerprint(ImagesSettings(path=first, resolution=8)) != fingerprint
    assert dataset_fingerprint(ImagesSettings(path=first, limit=1)) != fingerprint
    (tmp_path / "second" / "c.png").touch()
    assert dataset_fingerprint(ImagesSettings(path=tmp_path / "second")) != fingerprint


@pytest.mark.parametrize("name", SAVERS)
def test_a_fingerprint_tells_arrays_of_another_size_apart(tmp_path: Path, images: np.ndarray, name: str) -> None:
    settings = ArraySettings(path=tmp_path / name)
    SAVERS[name](tmp_path / name, images)
    fingerprint = dataset_fingerprint(settings)
    assert dataset_fingerprint(settings) == fingerprint
    SAVERS[name](tmp_path / name, np.concatenate([images, images]))
    assert dataset_fingerprint(settings) != fingerprint


def test_fingerprints_of_different_datasets_differ(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(b"x")
    found = [
        DigitsSettings(),
        DigitsSettings(resolution=16),
        KnownSupportSettings(pool=2),
        KnownSupportSettings(pool=3),
        Cifar10Settings(path=tmp_path, split="test"),
    ]
    assert len({dataset_fingerprint(settings) for settings in found}) == len(found)
