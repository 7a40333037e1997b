"""Training images of a sweep: stored arrays, one-line faults with their key, fingerprints."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganlab.data.datasets.array import ArraySettings
from ganlab.data.datasets.cifar10 import Cifar10Settings
from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.datasets.fashion_mnist import FashionMnistSettings
from ganlab.data.datasets.idx import IdxSettings
from ganlab.data.datasets.images import ImagesSettings
from ganlab.data.datasets.known_support import KnownSupportSettings
from jobs.spec.datasets import dataset_fingerprint, dataset_shape, load_dataset
from jobs.spec.validation import SpecError


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), np.uint8)


def save_zarr(path: Path, images: np.ndarray) -> None:
    import zarr

    zarr.open_group(path, mode="w").create_array("images", data=images)


SAVERS: dict[str, Any] = {
    "a.npy": np.save,
    "a.npz": lambda path, images: np.savez(path, images=images),
    "a.zarr": save_zarr,
}


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


def test_a_limited_array_is_not_taken_for_one_of_the_first_images(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "array.npy", images)
    settings = ArraySettings(path=tmp_path / "array.npy", limit=2)
    described = [settings.identity(), [["array.npy", (tmp_path / "array.npy").stat().st_size]]]
    first = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    assert dataset_fingerprint(settings) != first  # what version 0.1.0 called the first two


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


# --- what was read ---


def test_one_array_of_several_is_named_in_the_path(tmp_path: Path, images: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", real=images, fake=255 - images)
    with pytest.raises(SpecError, match=r"dataset\.path: .*a\.npz: .*2 of its arrays could be the images"):
        load_dataset(ArraySettings(path=tmp_path / "a.npz"))
    real, fake = (ArraySettings(path=tmp_path / f"a.npz:{name}") for name in ("real", "fake"))
    dataset = load_dataset(fake)
    assert np.array_equal(dataset.images, 255 - images)
    assert dataset.read is not None
    assert dataset.read.member == "fake"
    assert dataset_shape(fake)[1:] == (3, 8, 8)
    assert dataset_fingerprint(real) != dataset_fingerprint(fake)
    with pytest.raises(SpecError, match=r"dataset\.path: got .*gone\.npz:fake', which does not exist"):
        dataset_fingerprint(ArraySettings(path=tmp_path / "gone.npz:fake"))


def test_an_array_with_missing_images_trains_nothing(tmp_path: Path, images: np.ndarray) -> None:
    import zarr

    array = zarr.create_array(tmp_path / "a.zarr", shape=images.shape, dtype="uint8", chunks=(5, 3, 8, 8))
    array[:15] = images[:15]
    for reader in (load_dataset, dataset_shape):
        with pytest.raises(SpecError, match=r"dataset\.path: .*5 of 20 images are missing \(numbers 15 to 19\)"):
            reader(ArraySettings(path=tmp_path / "a.zarr"))


def test_pictures_with_several_frames_need_a_word(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8), 50 * number) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(SpecError, match=r"dataset\.path: picture .*a\.tif' has several frames .*frames: first or all"):
        load_dataset(ImagesSettings(path=tmp_path, resolution=8))
    every = load_dataset(ImagesSettings(path=tmp_path, resolution=8, frames="all"))
    assert every.images[:, 0, 0, 0].tolist() == [0, 50, 100]
    assert every.read is not None
    assert (every.read.files, every.read.resized_to) == (1, 8)


def test_a_base_says_what_was_read(tmp_path: Path, images: np.ndarray) -> None:
    for number in range(3):
        Image.fromarray(images[number].transpose(1, 2, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_text("text")
    base = ImagesSettings(path=tmp_path, resolution=8, skip_unreadable=True)
    dataset = load_dataset(KnownSupportSettings(pool=3, images=5, base=base))
    assert dataset.skipped == ("bad.png",)
    assert dataset.read is not None
    assert dataset.read.left_out == {"unreadable": 1}


def test_settings_without_frames_keep_their_fingerprint() -> None:
    assert "frames" not in ImagesSettings(path=Path("x")).identity()
    assert ImagesSettings(path=Path("x"), frames="all").identity()["frames"] == "all"


# --- held-out images ---


def contents(images: np.ndarray) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


@pytest.mark.parametrize(("held_out", "count"), [("auto", 180), (0.1, 180), (0.5, 898), (400, 400)])
def test_a_share_or_a_number_of_the_images_is_held_out(held_out: Any, count: int) -> None:
    every, dataset = DigitsSettings().load(), load_dataset(DigitsSettings(held_out=held_out))
    assert dataset.held_out is not None
    assert len(dataset.held_out.images) == count
    assert dataset_shape(DigitsSettings(held_out=held_out)) == dataset.images.shape
    assert contents(np.concatenate([dataset.images, dataset.held_out.images])) == contents(every.images)
    assert every.labels is not None
    label = {image.tobytes(): number for image, number in zip(every.images, every.labels, strict=True)}
    for part in (dataset, dataset.held_out):
        assert part.labels is not None
        assert [label[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_which_images_are_held_out_does_not_depend_on_their_order(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", images[np.random.default_rng(1).permutation(len(images))])
    found = [load_dataset(ArraySettings(path=tmp_path / name, held_out=5)).held_out for name in ("a.npy", "b.npy")]
    assert found[0] is not None
    assert found[1] is not None
    assert contents(found[0].images) == contents(found[1].images)


def test_nothing_is_held_out_unless_asked(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", np.repeat(images, 10, axis=0)[:194])
    assert load_dataset(ArraySettings(path=tmp_path / "a.npy", held_out="auto")).held_out is None, "19 are too few"
    assert load_dataset(DigitsSettings()).held_out is None
    assert DigitsSettings(held_out=0).identity() == {"name": "digits", "resolution": 8}


def write_idx(path: Path, images: np.ndarray) -> None:
    header = np.array([0x803, *images.shape], ">u4").tobytes()
    path.write_bytes(header + images.tobytes())


def test_images_of_a_path_are_held_out(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "training.npy", images)
    np.save(tmp_path / "test.npy", 255 - images[:7])
    for folder, some in (("training", images), ("test", 255 - images[:7])):
        (tmp_path / folder).mkdir()
        write_idx(tmp_path / f"{folder}.idx", some[:, 0])
        for number, image in enumerate(some):
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / folder / f"{number}.png")
    for settings in (
        ArraySettings(path=tmp_path / "training.npy", held_out=tmp_path / "test.npy", limit=9),
        ImagesSettings(path=tmp_path / "training", held_out=tmp_path / "test", resolution=8, limit=9),
        IdxSettings(path=tmp_path / "training.idx", held_out=tmp_path / "test.idx", limit=9),
    ):
        dataset = load_dataset(settings)
        assert dataset.held_out is not None
        expected = 255 - images[:7] if dataset.images.shape[1] == 3 else 255 - images[:7, :1]
        assert contents(dataset.held_out.images) == contents(expected)
        assert dataset.images.shape == dataset_shape(settings)
        assert len(dataset.images) == 9
        elsewhere = settings.model_copy(update={"held_out": Path("/elsewhere")})
        assert elsewhere.identity() == settings.identity() != settings.model_copy(update={"held_out": 0}).identity()
    before = dataset_fingerprint(settings)
    write_idx(tmp_path / "test.idx", images[:3, 0])
    assert dataset_fingerprint(settings) != before


def test_published_test_images_are_held_out(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for name, count in (("train", 30), ("t10k", 20)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", noise.integers(0, 256, (count, 28, 28), np.uint8))
        labels = np.array([0x801, count], ">u4").tobytes() + bytes(range(10)) * (count // 10)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    settings = FashionMnistSettings(path=tmp_path, held_out="test", limit=25)
    dataset = load_dataset(settings)
    assert dataset.held_out is not None
    published = FashionMnistSettings(path=tmp_path, split="test").load()
    np.testing.assert_array_equal(dataset.held_out.images, published.images)
    np.testing.assert_array_equal(dataset.held_out.labels, published.labels)
    assert dataset_shape(settings) == (25, 1, 32, 32)
    with pytest.raises(SpecError, match=r"dataset\.held_out: got test, with split: test; allowed: a share"):
        load_dataset(FashionMnistSettings(path=tmp_path, held_out="test", split="test"))


@pytest.mark.parametrize("reader", [load_dataset, dataset_shape])
@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (0.01, r"held_out: got 0\.01, which holds out 0 of 20 images; allowed: 2 or more, with 2 or more left"),
        (0.99, r"held_out: got 0\.99, which holds out 20 of 20 images; allowed: 2 or more"),
        (1, "held_out: got 1, which holds out 1 of 20 images"),
        (19, "held_out: got 19, which holds out 19 of 20 images"),
        ("gone.npy", r"held_out: got '.*gone\.npy', which does not exist"),
        (
            "other.npy",
            r"held_out: got images of shape \(1, 16, 16\); allowed: that of the training images, \(3, 8, 8\)",
        ),
        ("one.npy", "held_out: got 1 image; allowed: 2 or more"),
    ],
)
def test_too_few_or_other_held_out_images_are_one_line(
    tmp_path: Path, images: np.ndarray, reader: Any, held_out: float | int | str, words: str
) -> None:
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "other.npy", np.zeros((5, 1, 16, 16), np.uint8))
    np.save(tmp_path / "one.npy", images[:1])
    chosen = tmp_path / held_out if isinstance(held_out, str) else held_out
    with pytest.raises(SpecError, match=rf"^my\.yaml: dataset\.{words}"):
        reader(ArraySettings(path=tmp_path / "a.npy", held_out=chosen), source="my.yaml")
