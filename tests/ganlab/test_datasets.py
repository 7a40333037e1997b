"""Datasets: the published files read as published, and every damaged or missing one named."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from sklearn.datasets import load_digits

from ganlab.data.cifar import RECORDS
from ganlab.data.datasets import DATASETS, Dataset, DatasetSettings, registry
from ganlab.data.datasets.array import ArraySettings
from ganlab.data.datasets.cifar10 import Cifar10Settings
from ganlab.data.datasets.cifar100 import Cifar100Settings
from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.datasets.gaussians_grid import GaussiansGridSettings
from ganlab.data.datasets.images import ImagesSettings
from ganlab.data.datasets.known_support import KnownSupportSettings, known_support_pool, known_support_weights
from ganlab.data.datasets.stacked_digits import StackedDigitsSettings
from ganlab.data.pictures import picture_files, read_pictures, resized
from tests.blocks import blocks


def seen() -> tuple[list[tuple[int, int]], Callable[[int, int], None]]:
    calls: list[tuple[int, int]] = []
    return calls, lambda done, total: calls.append((done, total))


# --- digits ---


def test_digits_are_the_real_ones_from_0_to_255() -> None:
    digits = DigitsSettings().load()
    stored = load_digits()
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.min() == 0
    assert digits.images.max() == 255
    assert np.array_equal(np.rint(digits.images[:, 0] * (16 / 255)), stored.images)
    assert digits.labels is not None
    assert np.array_equal(digits.labels, stored.target)


def test_digits_that_the_library_keeps_elsewhere_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = DigitsSettings().load()
    monkeypatch.setattr("ganlab.data.datasets.digits.find_spec", lambda name: None)
    digits = DigitsSettings().load()
    assert np.array_equal(digits.images, expected.images)
    assert np.array_equal(digits.labels, expected.labels)


@pytest.mark.parametrize("resolution", [16, 32])
def test_digits_are_resized_on_request(resolution: int) -> None:
    calls, progress = seen()
    settings = DigitsSettings(resolution=resolution)
    digits = settings.load(progress)
    assert digits.images.shape[1:] == settings.image_shape() == (1, resolution, resolution)
    assert len(digits.images) == settings.image_count()
    assert calls == [(1000, 1797), (1797, 1797)]
    shrunk = resized(digits.images, 8)
    assert np.corrcoef(shrunk.ravel(), DigitsSettings().load().images.ravel())[0, 1] > 0.95  # the same digits


def test_resizing_keeps_flat_images_flat() -> None:
    flat = np.full((2, 3, 8, 8), 200, np.uint8)
    assert (resized(flat, 32) == 200).all()
    assert resized(flat, 8) is flat


# --- CIFAR-10 ---


@pytest.fixture(scope="session")
def cifar_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Five batches' worth: image k has the colour k mod 251 and the label k mod 10."""
    numbers = np.arange(5 * RECORDS)
    return np.repeat((numbers % 251).astype(np.uint8)[:, None], 3072, axis=1), numbers % 10


def python2_pickle(data: np.ndarray, **labels: np.ndarray) -> bytes:
    """A batch as Python 2 wrote it: protocol 2, keys as byte strings, NumPy under its old module names."""

    def key(name: bytes) -> bytes:
        return b"U" + bytes([len(name)]) + name  # SHORT_BINSTRING

    def content(value: Any) -> bytes:
        text = io.BytesIO()
        pickle._Pickler(text, protocol=2).dump(value)  # type: ignore[attr-defined]
        return text.getvalue()[2:-1]

    raw = data.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + b"cnumpy\nndarray\n"
        + b"K\x00\x85"
        + b"U\x01b"
        + b"\x87R"
        + b"(K\x01"
        + content(data.shape)
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89"
        + b"T"
        + len(raw).to_bytes(4, "little")
        + raw
        + b"tb"
    )
    lists = b"".join(key(name.encode()) + content(values.tolist()) for name, values in labels.items())
    return b"\x80\x02}(" + key(b"data") + array + lists + b"u."


@pytest.fixture(scope="session")
def cifar_python(tmp_path_factory: pytest.TempPathFactory, cifar_arrays: tuple[np.ndarray, np.ndarray]) -> Path:
    folder = tmp_path_factory.mktemp("python") / "cifar-10-batches-py"
    folder.mkdir()
    data, labels = cifar_arrays
    for number in range(5):
        part = slice(number * RECORDS, (number + 1) * RECORDS)
        (folder / f"data_batch_{number + 1}").write_bytes(python2_pickle(data[part], labels=labels[part]))
    return folder


@pytest.fixture(scope="session")
def cifar_binary(tmp_path_factory: pytest.TempPathFactory, cifar_arrays: tuple[np.ndarray, np.ndarray]) -> Path:
    folder = tmp_path_factory.mktemp("binary") / "cifar-10-batches-bin"
    folder.mkdir()
    data, labels = cifar_arrays
    records = np.concatenate([labels[:, None].astype(np.uint8), data], axis=1)
    for number in range(5):
        records[number * RECORDS : (number + 1) * RECORDS].tofile(folder / f"data_batch_{number + 1}.bin")
    return folder


@pytest.mark.parametrize("version", ["cifar_python", "cifar_binary"])
def test_cifar10_reads_both_published_versions(version: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(version)
    calls, progress = seen()
    cifar = Cifar10Settings(path=folder).load(progress)
    numbers = np.arange(50_000)
    assert cifar.images.shape == (50_000, 3, 32, 32)
    assert np.array_equal(cifar.images[:, 2, 31, 0], numbers % 251)
    assert cifar.labels is not None
    assert np.array_equal(cifar.labels, numbers % 10)
    assert calls == [(n, 5) for n in range(1, 6)]


def test_cifar10_takes_the_folder_above_and_selects_classes(cifar_binary: Path) -> None:
    settings = Cifar10Settings(path=cifar_binary.parent, classes=("truck", "cat"))
    chosen = settings.load()
    assert chosen.labels is not None
    assert set(chosen.labels) == {3, 9}
    assert np.array_equal(chosen.images[:3, 0, 0, 0], [3, 9, 13])
    assert (
        len(chosen.images)
        == Cifar10Settings(path=cifar_binary.parent, classes=("truck", "cat")).image_count()
        == 10_000
    )


def test_planes_are_red_green_blue_row_by_row(tmp_path: Path) -> None:
    records = np.zeros((RECORDS, 3073), np.uint8)
    records[0, 1:] = np.arange(3072) % 256
    records.tofile(tmp_path / "test_batch.bin")
    image = Cifar10Settings(path=tmp_path, split="test").load().images[0]
    assert image[0, 0, 1] == 1
    assert image[0, 1, 0] == 32
    assert image[1, 0, 0] == 1024 % 256
    assert np.array_equal(image.ravel(), np.arange(3072) % 256)


@pytest.mark.parametrize(
    ("version", "keep"),
    [
        ("cifar_python", 100),
        ("cifar_python", 5_000_000),
        ("cifar_python", -3),
        ("cifar_binary", 3073 * 9_999),
        ("cifar_binary", 12_345),
    ],
)
def test_a_cifar10_file_cut_short_is_named(
    version: str, keep: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(version)
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    broken = sorted(tmp_path.iterdir())[2]
    content = broken.read_bytes()[:keep]
    broken.unlink()
    broken.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^path: file .*data_batch_3.*cut short.*allowed: the published file of 10,000"
    ):
        Cifar10Settings(path=tmp_path).load()


def test_a_cifar10_file_runs_no_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harm",)

    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Payload()}))
    with pytest.raises(ValueError, match=r"test_batch.*is not a CIFAR-10 batch.*names"):
        Cifar10Settings(path=tmp_path, split="test").load()
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (pickle.dumps([1]), "is not a CIFAR-10 batch"),
        (pickle.dumps({b"data": 3, b"labels": []}), "holds int instead of uint8"),
        (
            pickle.dumps({b"data": np.zeros((5, 3072), np.uint8), b"labels": [0] * 5}),
            r"holds uint8 \(5, 3072\) instead of",
        ),
        (pickle.dumps({b"data": np.zeros((RECORDS, 3072), np.uint8), b"labels": [11] * RECORDS}), "holds labels"),
        (b"hello", "is not a CIFAR-10 batch"),
        (b"", "is cut short"),
    ],
)
def test_a_cifar10_file_that_is_something_else_is_named(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=f"^path: file .*test_batch.*{fault}"):
        Cifar10Settings(path=tmp_path, split="test").load()


def test_missing_cifar10_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path: got .*no-such.*does not exist; allowed: the unpacked folder"):
        Cifar10Settings(path=tmp_path / "no-such").load()
    with pytest.raises(ValueError, match="holds no batch files; allowed: the unpacked folder"):
        Cifar10Settings(path=tmp_path).load()
    (tmp_path / "data_batch_1.bin").touch()
    (tmp_path / "data_batch_5.bin").touch()
    with pytest.raises(ValueError, match=r"lacks data_batch_2.bin, data_batch_3.bin, data_batch_4.bin; allowed"):
        Cifar10Settings(path=tmp_path).load()


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test images of both versions: image k has the colour k mod 251, the superclass k mod 20 and the class k mod 100."""
    above = tmp_path_factory.mktemp("cifar100")
    numbers = np.arange(10_000)
    data = np.repeat((numbers % 251).astype(np.uint8)[:, None], 3072, axis=1)
    for name, content in (
        ("cifar-100-python/test", python2_pickle(data, fine_labels=numbers % 100, coarse_labels=numbers % 20)),
        ("cifar-100-binary/test.bin", np.c_[numbers % 20, numbers % 100, data].astype(np.uint8).tobytes()),
    ):
        (above / name).parent.mkdir()
        (above / name).write_bytes(content)
    return above


@pytest.mark.parametrize("version", [".", "cifar-100-python", "cifar-100-binary"])
@pytest.mark.parametrize(("labels", "classes"), [("fine", 100), ("coarse", 20)])
def test_cifar100_reads_both_published_versions(version: str, labels: Any, classes: int, cifar100: Path) -> None:
    settings = Cifar100Settings(path=cifar100 / version, split="test", labels=labels)
    cifar = settings.load()
    numbers = np.arange(10_000)
    assert cifar.images.shape == (settings.image_count(), *settings.image_shape()) == (10_000, 3, 32, 32)
    assert np.array_equal(cifar.images[:, 2, 31, 0], numbers % 251)
    assert cifar.labels is not None
    assert np.array_equal(cifar.labels, numbers % classes)
    assert settings.label_count() == classes


@pytest.mark.parametrize("file", ["cifar-100-python/test", "cifar-100-binary/test.bin"])
def test_a_cifar100_file_cut_short_is_named(file: str, cifar100: Path, tmp_path: Path) -> None:
    broken = tmp_path / Path(file).name
    broken.write_bytes((cifar100 / file).read_bytes()[:-7])
    with pytest.raises(ValueError, match=rf"{broken}.*cut short.*published file of 10,000 images"):
        Cifar100Settings(path=tmp_path, split="test").load()


def test_missing_cifar100_files_are_named(cifar100: Path) -> None:
    with pytest.raises(
        ValueError, match=r"path: got .* holds neither train nor train.bin; allowed: .*cifar-100-python"
    ):
        Cifar100Settings(path=cifar100).files()
    with pytest.raises(ValueError, match=r"path: got .* does not exist"):
        Cifar100Settings(path=cifar100 / "nowhere").files()


# --- folders of pictures ---


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seventy flat pictures of different sizes in nested folders; picture k has the grey value 3k."""
    folder = tmp_path / "some pictures"
    for k in range(70):
        file = folder / f"part {k % 2}" / f"{k:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + k % 5, 18), (3 * k,) * 3).save(file)
    (folder / "notes.txt").write_text("no picture")
    (folder / "._000.png").write_text("another system's leftovers")
    return folder


def test_pictures_come_in_sorted_order_with_subfolders(pictures: Path) -> None:
    calls, progress = seen()
    images = ImagesSettings(path=pictures, resolution=8).load(progress).images
    expected = [3 * k for k in range(0, 70, 2)] + [3 * k for k in range(1, 70, 2)]
    assert images.shape == (70, 3, 8, 8)
    assert images[:, 0, 4, 4].tolist() == expected
    assert calls == [(64, 70), (70, 70)]


def test_a_limit_draws_at_random(pictures: Path) -> None:
    """Names that go folder by folder, as those of classes do: some of both folders, and always the same."""
    everything = ImagesSettings(path=pictures, resolution=8).load().images[:, 0, 0, 0].tolist()
    few, more, all_of_them = (
        ImagesSettings(path=pictures, resolution=8, limit=limit).load().images[:, 0, 0, 0].tolist()
        for limit in (12, 24, 70)
    )
    assert set(few) < set(more) < set(everything)
    assert more == [value for value in everything if value in more]
    assert 6 <= sum(value % 2 for value in more) <= 18
    assert all_of_them == everything


def test_grey_and_rgb(pictures: Path) -> None:
    settings = ImagesSettings(path=pictures, resolution=16, channels=1)
    assert settings.load().images.shape == (settings.image_count(), *settings.image_shape()) == (70, 1, 16, 16)


def test_the_square_is_cut_from_the_centre(tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 10:50] = 100  # the largest centred square
    picture[12:28, 22:38] = 200  # the centred square of 16
    Image.fromarray(picture).save(tmp_path / "a.png")
    largest = ImagesSettings(path=tmp_path, resolution=8).load().images[0]
    assert (largest[:, 0] == 100).all()
    assert largest[0, 4, 4] > 190
    assert (ImagesSettings(path=tmp_path, resolution=16, crop_pixels=16).load().images == 200).all()
    beyond = ImagesSettings(path=tmp_path, resolution=8, crop_pixels=1000).load().images[0]
    assert np.array_equal(beyond, largest)


def test_a_turned_photograph_stands_upright(tmp_path: Path) -> None:
    picture = Image.new("L", (8, 8), 0)
    picture.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180°
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = ImagesSettings(path=tmp_path, resolution=8, channels=1).load().images[0, 0].astype(int)
    assert image[0].max() < 30
    assert image[7].min() > 225


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "16 bits"])
def test_a_picture_that_cannot_be_read_is_named_or_skipped(pictures: Path, damage: str) -> None:
    broken = pictures / "part 1" / "003.png"
    content = broken.read_bytes()
    match damage:
        case "cut":
            broken.write_bytes(content[: len(content) // 2])
        case "text":
            broken.write_text("not a picture")
        case "empty":
            broken.write_bytes(b"")
        case "16 bits":
            Image.fromarray(np.full((20, 20), 300, np.uint16)).save(broken)
    with pytest.raises(ValueError, match=r"^path: picture .*part 1/003\.png' cannot be read .*skip_unreadable: true"):
        ImagesSettings(path=pictures, resolution=8).load()
    rest = ImagesSettings(path=pictures, resolution=8, skip_unreadable=True).load()
    assert rest.skipped == ("part 1/003.png",)
    assert len(rest.images) == 69
    assert 9 not in rest.images[:, 0, 0, 0]


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"^path: got .*, which holds no pictures; allowed: .*\.jpg"):
        ImagesSettings(path=tmp_path).load()
    with pytest.raises(ValueError, match=r"^path: got .*gone', which does not exist; allowed: a folder"):
        ImagesSettings(path=tmp_path / "gone").load()
    with pytest.raises(ValueError, match=r"^path: got .*notes.txt', which is not a folder"):
        ImagesSettings(path=tmp_path / "notes.txt").load()
    (tmp_path / "a.png").write_text("broken")
    with pytest.raises(ValueError, match=r"where none of 1 pictures can be read"):
        ImagesSettings(path=tmp_path, skip_unreadable=True).load()


def test_pictures_may_keep_their_own_size(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 10), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    images, skipped, _ = read_pictures(tmp_path)
    assert np.array_equal(images, pixels[:, None])
    assert skipped == ()
    Image.new("L", (10, 13)).save(tmp_path / "3.png")
    with pytest.raises(ValueError, match=r"3\.png.*it is 10×13, the first is 10×12"):
        read_pictures(tmp_path)


def test_where_a_folder_lies_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    before = picture_files(pictures)
    moved = pictures.rename(tmp_path / "elsewhere")
    assert picture_files(moved) == before


# --- arrays ---


class Stored:
    """An array that counts how much is read at a time."""

    def __init__(self, content: np.ndarray) -> None:
        self.content, self.shape, self.dtype, self.largest = content, content.shape, content.dtype, 0

    def read(self, start: int, stop: int) -> np.ndarray:
        self.largest = max(self.largest, self.content[start:stop].nbytes)
        return self.content[start:stop]


@pytest.mark.parametrize(("shape", "axes"), [((30, 3, 16, 16), (0, 1, 2, 3)), ((30, 16, 16, 3), (0, 3, 1, 2))])
def test_arrays_are_brought_into_order(tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    content = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    settings = ArraySettings(path=tmp_path)
    found = settings.load(open_array=lambda path: Stored(content))
    assert np.array_equal(found.images, content.transpose(axes))
    assert settings.image_shape(lambda path: Stored(content)) == (3, 16, 16)


def test_a_large_array_is_read_in_parts(tmp_path: Path) -> None:
    stored = Stored(np.zeros((1500, 3, 128, 128), np.uint8))
    calls, progress = seen()
    ArraySettings(path=tmp_path).load(progress, lambda path: stored)
    assert stored.largest <= 2**26
    assert calls[-1] == (1500, 1500)


def test_a_limit_draws_from_a_whole_array(tmp_path: Path) -> None:
    brightness = np.sort(np.random.default_rng(0).integers(0, 256, 3000)).astype(np.uint8)
    stored = Stored(brightness.repeat(64).reshape(3000, 1, 8, 8))
    calls, progress = seen()
    images = ArraySettings(path=tmp_path, limit=500).load(progress, lambda path: stored).images
    assert images.shape == (500, 1, 8, 8)
    assert calls[-1] == (500, 500)
    assert abs(images.mean() - 127.5) < 12
    assert (np.diff(images[:, 0, 0, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (np.zeros((5, 1, 8, 8)), "holds float64; allowed: uint8"),
        (np.zeros((5, 1, 12, 12), np.uint8), r"whose shape is \(5, 1, 12, 12\); allowed: .*8, 16, 32, 64 or 128"),
        (np.zeros((5, 2, 8, 8), np.uint8), "C = 1 or 3"),
        (np.zeros((5, 1, 8, 16), np.uint8), "H = W"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, content: np.ndarray, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^path: got .*{fault}"):
        ArraySettings(path=tmp_path).load(open_array=lambda path: Stored(content))


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path: got .*gone\.npy', which does not exist; allowed: a \.npy"):
        ArraySettings(path=tmp_path / "gone.npy").load(open_array=lambda path: Stored(np.empty(0)))


# --- known support ---


def test_a_pool_of_real_images_is_drawn_from_them() -> None:
    digits = DigitsSettings().load().images
    pool = known_support_pool(digits, 1000, seed=3)
    real = {image.tobytes() for image in digits}
    assert len({image.tobytes() for image in pool}) == 1000
    assert {image.tobytes() for image in pool} <= real
    assert np.array_equal(pool, known_support_pool(digits, 1000, seed=3))
    assert not np.array_equal(pool, known_support_pool(digits, 1000, seed=4))


def test_copies_among_the_real_images_count_once() -> None:
    images = np.repeat(np.arange(10, dtype=np.uint8), 5)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    assert sorted(known_support_pool(images, 10, seed=0)[:, 0, 0, 0]) == list(range(10))
    assert len(np.unique(known_support_pool(images, 11, seed=0))) > 100  # beyond: random pictures


def test_a_pool_beyond_the_real_images_is_random_and_distinct() -> None:
    pool = known_support_pool(np.zeros((3, 1, 8, 8), np.uint8), 5000, seed=0)
    assert pool.shape == (5000, 1, 8, 8)
    assert len({image.tobytes() for image in pool}) == 5000
    assert 126 < pool.mean() < 129


@pytest.mark.parametrize("m", [1, 2, 1000])
@pytest.mark.parametrize("law", ["uniform", "zipf", "geometric", "one-heavy"])
def test_weights_are_probabilities_by_their_law(m: int, law: Any) -> None:
    weights = known_support_weights(m, law, exponent=2.0, ratio=0.5, heavy_mass=0.6)
    assert weights.shape == (m,)
    assert weights.sum() == pytest.approx(1)
    if m == 1000:
        assert weights[0] / weights[1] == pytest.approx(
            {"uniform": 1, "zipf": 4, "geometric": 2}.get(law, 0.6 / 0.4 * 999)
        )


def test_known_support_draws_from_its_pool_with_little_noise() -> None:
    settings = KnownSupportSettings(pool=10, images=4000, law="one-heavy", heavy_mass=0.5, pixel_noise=2, seed=1)
    drawn = settings.load()
    assert drawn.labels is not None
    pool = known_support_pool(DigitsSettings().load().images, 10, seed=1)
    moved = drawn.images.astype(int) - pool[drawn.labels]
    assert moved.min() == -2
    assert moved.max() == 2
    assert len(np.unique(drawn.labels)) == 10
    assert 0.46 < np.mean(drawn.labels == 0) < 0.54
    assert np.array_equal(drawn.images, settings.load().images)
    assert settings.image_shape() == (1, 8, 8)


def test_known_support_takes_given_weights() -> None:
    drawn = KnownSupportSettings(pool=3, images=3000, weights=(1, 0, 3), pixel_noise=0).load()
    assert drawn.labels is not None
    assert 1 not in drawn.labels
    assert 0.72 < np.mean(drawn.labels == 2) < 0.78
    assert len(np.unique(drawn.images.reshape(3000, -1), axis=0)) == 2


def test_a_fault_of_the_base_is_named(tmp_path: Path) -> None:
    settings = KnownSupportSettings(pool=3, base=ImagesSettings(path=tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"^base\.path: got .*gone"):
        settings.load()


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"name": "digits", "resolution": 48}, "resolution"),
        ({"name": "digits", "size": 8}, "size"),
        ({"name": "images"}, "path"),
        ({"name": "cifar10", "path": "x", "classes": ["lion"]}, "classes"),
        ({"name": "known-support", "pool": 2, "weights": [1, 1, 1]}, "weights"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        DATASETS[settings["name"]].model_validate(settings)


def test_paths_become_absolute_and_variables_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert ImagesSettings(path=Path("faces")).path == tmp_path / "faces"
    assert ImagesSettings(path=Path("$SCRATCH/faces")).path == Path("/scratch/me/faces")
    assert ImagesSettings(path=Path("~/faces")).path == Path.home() / "faces"


def test_a_dataset_is_uint8_with_four_axes() -> None:
    with pytest.raises(AssertionError):
        Dataset(np.zeros((3, 8, 8), np.uint8))


def test_the_dataset_of_the_documentation_needs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganlab.data import datasets

    page = Path(__file__).parents[2] / "docs" / "adding-a-dataset.md"
    (code,) = [block.text for block in blocks(page) if block.value("title") == "stripes.py"]
    assert "stripes" not in datasets.DATASETS
    (tmp_path / "stripes.py").write_text(code)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    found = registry.datasets(DatasetSettings)
    assert found.keys() == datasets.DATASETS.keys() | {"stripes"}
    settings = TypeAdapter(registry.any_of(DatasetSettings)).validate_python({"name": "stripes", "resolution": 8})
    loaded = settings.load()
    assert loaded.images.shape == (settings.image_count(), *settings.image_shape()) == (20, 1, 8, 8)
    assert set(loaded.labels) == set(range(settings.label_count()))
    assert loaded.images[0, 0, 0].tolist() == loaded.images[10, 0, :, 0].tolist() == [0, 255] * 4


@pytest.mark.parametrize("method", ["load", "image_shape", "image_count", "label_count", "files"])
def test_a_dataset_without_a_method_cannot_be_made(method: str) -> None:
    forgotten = type("Forgotten", (DigitsSettings,), {method: getattr(DatasetSettings, method)})
    with pytest.raises(TypeError, match=method):
        forgotten.model_validate({})


@pytest.mark.parametrize("settings", [DigitsSettings(), GaussiansGridSettings(), StackedDigitsSettings(images=10)])
def test_modes_are_known_of_two_datasets(settings: DatasetSettings) -> None:
    counter, loaded = settings.modes(), settings.load()
    if isinstance(settings, DigitsSettings):
        assert counter is None
        return
    assert counter is not None
    found = counter(loaded.images)
    assert found.modes == settings.label_count()
    assert found.found == len(set(loaded.labels.tolist()))
