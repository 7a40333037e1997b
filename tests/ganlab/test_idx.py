import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from ganlab.data.datasets.fashion_mnist import FashionMnistSettings
from ganlab.data.datasets.idx import IdxSettings


def idx(file: Path, array: np.ndarray, *, cut: int = 0, extra: bytes = b"") -> Path:
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes() + extra
    content = content[: len(content) - cut]
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_padded_images_keep_every_pixel(folder: Path, images: np.ndarray, name: str) -> None:
    labels = np.arange(7)
    settings = IdxSettings(path=idx(folder / name, images), labels=idx(folder / "labels", labels), pad=2)
    found = settings.load()
    assert found.images.shape == (7, 1, 32, 32)
    assert settings.image_shape() == (1, 32, 32)
    assert (found.images[:, 0, 2:-2, 2:-2] == images).all()
    assert found.images.sum() == images.sum()  # the border is black
    assert found.labels is not None
    assert found.labels.tolist() == labels.tolist()
    assert settings.label_count() == 7
    assert settings.model_copy(update={"limit": 3}).load().images.shape == (3, 1, 32, 32)


def test_images_are_resized(folder: Path, images: np.ndarray) -> None:
    settings = IdxSettings(path=idx(folder / "images", images), resolution=16)
    assert settings.load().images.shape == (7, 1, 16, 16)
    assert settings.image_shape() == (1, 16, 16)
    assert settings.load().labels is None


def test_fashion_mnist_finds_its_files(folder: Path, images: np.ndarray) -> None:
    for split in ("train", "t10k"):
        idx(folder / f"{split}-images-idx3-ubyte.gz", images[: 7 if split == "train" else 2])
        idx(folder / f"{split}-labels-idx1-ubyte", np.arange(7 if split == "train" else 2))
    assert FashionMnistSettings(path=folder).load().images.shape == (7, 1, 32, 32)
    assert FashionMnistSettings(path=folder, split="test").load().images.shape == (2, 1, 32, 32)
    assert FashionMnistSettings(path=folder, pad=0, resolution=32).image_shape() == (1, 32, 32)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"cut": 1}, "is cut short: 5,503 bytes, where its header promises 5,504"),
        ({"extra": b"x"}, "is too long"),
        ({"array": np.arange(7)}, "holds labels"),
        ({"array": np.zeros((7, 0, 28))}, "holds no images"),
    ],
)
def test_wrong_files_are_refused(folder: Path, images: np.ndarray, change: dict, fault: str) -> None:
    file = idx(folder / "images", **{"array": images, **change})
    with pytest.raises(ValueError, match=fault):
        IdxSettings(path=file, pad=2).load()


def test_other_refusals(folder: Path, images: np.ndarray) -> None:
    file = idx(folder / "images.gz", images)
    with pytest.raises(ValueError, match="holds 6 labels; allowed: one for each of 7"):
        IdxSettings(path=file, pad=2, labels=idx(folder / "labels", np.arange(6))).load()
    with pytest.raises(ValueError, match="items of shape"):
        IdxSettings(path=file, pad=2, labels=file).load()
    with pytest.raises(ValueError, match=r"which makes the images .* 34×34"):
        IdxSettings(path=file, pad=3).load()
    with pytest.raises(ValueError, match=r"which makes the images .* 28×28"):
        IdxSettings(path=file).image_shape()
    with pytest.raises(ValueError, match="does not exist"):
        IdxSettings(path=folder / "nothing").load()
    with pytest.raises(ValueError, match="apt-get install dataset-fashion-mnist"):
        FashionMnistSettings(path=folder / "nothing").load()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged or cut short"):
        IdxSettings(path=file, pad=2).load()
    text = folder / "text"
    text.write_text("this is no idx file")
    with pytest.raises(ValueError, match="is no idx file of unsigned bytes"):
        IdxSettings(path=text, pad=2).load()
