"""Checkpoints of other libraries: each format by its library's own writer, drawn again bit for bit; what is refused."""

import json
import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from ganlab.models import adapters
from ganlab.models.adapter_base import Format
from ganlab.models.confined import ConfinedError, ConfinedModel
from ganlab.models.families import FAMILIES, make_family
from ganlab.models.families.imported import ModelError
from ganlab.models.train import TrainSettings, draw

SHAPE, LATENT = (1, 8, 8), 6


class Small(nn.Module):
    """A generator from latent vectors, and labels if it has classes, to images in [-1, 1]."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.classes, self.layer = classes, nn.Linear(LATENT + classes, 64)

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        if label is not None:
            latent = torch.cat([latent, nn.functional.one_hot(label, self.classes).to(latent.dtype)], dim=1)
        return torch.tanh(3 * self.layer(latent)).view(-1, 1, 8, 8)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def settings(path: Path, form: str, **more: Any) -> Any:
    given = {"latent_dim": LATENT, **more, "format": form, "checkpoint": path}
    given |= {name: {"path": str(given[name]), "sha256": "0" * 64} for name in ("checkpoint", "code") if name in given}
    return FAMILIES["checkpoint"].Settings.model_validate({k: v for k, v in given.items() if v is not None})


def opened(path: Path, form: str, shape: tuple[int, ...] = SHAPE, **more: Any) -> Any:
    return make_family(settings(path, form, **more), shape, TrainSettings(steps=1), 0)


def traced(model: nn.Module, path: Path, *inputs: torch.Tensor) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, inputs or (torch.zeros(2, LATENT),)).save(str(path))
    return path


def of_onnx(model: Any, path: Path) -> Path:
    """The same generator by ONNX's own helpers: Gemm, Mul, Tanh, Reshape."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weights = [
        numpy_helper.from_array(array, name)
        for name, array in (
            ("weight", model.layer.weight.detach().numpy()),
            ("bias", model.layer.bias.detach().numpy()),
            ("three", np.array(3, np.float32)),
            ("shape", np.array([-1, 1, 8, 8], np.int64)),
        )
    ]
    nodes = [
        helper.make_node("Gemm", ["latent", "weight", "bias"], ["sum"], transB=1),
        helper.make_node("Mul", ["sum", "three"], ["scaled"]),
        helper.make_node("Tanh", ["scaled"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["images"]),
    ]
    given = helper.make_tensor_value_info("latent", onnx.TensorProto.FLOAT, ["n", LATENT])
    made = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 1, 8, 8])
    graph = helper.make_graph(nodes, "small", [given], [made], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def exported(model: nn.Module, path: Path) -> Path:
    size = torch.export.Dim("n", min=1, max=1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (torch.zeros(4, LATENT),), dynamic_shapes={"latent": {0: size}})
        torch.export.save(program, path)
    return path


def expected(model: nn.Module, family: Any, count: int, seed: int) -> np.ndarray:
    """What the model makes of the latent vectors that the family must draw, batch by batch."""
    noise, images = np.random.default_rng(seed), []
    for first in range(0, count, 64):
        noise.integers(2**63)
        latent = noise.standard_normal((64, LATENT), dtype=np.float32)
        noise.integers(0, 1, 64)
        with torch.no_grad():
            images.append(model(torch.from_numpy(latent))[: min(64, count - first)].numpy())
    return np.concatenate(images)


def assert_draws(family: Any, wanted: np.ndarray) -> None:
    images = draw(family, len(wanted), np.random.default_rng(3)).images
    assert images.shape == wanted.shape
    assert np.abs(images - ((wanted + 1) * 127.5)).max() <= 0.51
    np.testing.assert_array_equal(draw(family, len(wanted), np.random.default_rng(3)).images, images)
    assert (draw(family, len(wanted), np.random.default_rng(4)).images != images).any()
    family.prepare(np.empty((0, *SHAPE)))


def test_torchscript(model: nn.Module, tmp_path: Path) -> None:
    family = opened(traced(model, tmp_path / "g.pt"), "torchscript")
    assert_draws(family, expected(model, family, 100, 3))


def test_onnx(model: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    family = opened(of_onnx(model, tmp_path / "g.onnx"), "onnx")
    assert_draws(family, expected(model, family, 100, 3))
    with pytest.raises(ModelError, match=r"got latent_dim 7, but .* takes latent vectors of 6; allowed: latent_dim: 6"):
        opened(tmp_path / "g.onnx", "onnx", latent_dim=7)


@pytest.mark.process
def test_torch_export(model: nn.Module, tmp_path: Path) -> None:
    family = opened(exported(model, tmp_path / "g.pt2"), "torch-export", trust=True)
    assert_draws(family, expected(model, family, 100, 3))


@pytest.mark.filterwarnings("ignore:Initializing zero-element")  # by diffusers, as it makes its U-Net
@pytest.mark.parametrize("sampler", ["DDPM", "DDIM"])
def test_diffusers(sampler: str, tmp_path: Path) -> None:
    """A tiny U-Net by diffusers itself: each image is a function of its own seed, however many are drawn at once."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    pipeline = getattr(diffusers, f"{sampler}Pipeline")(network, getattr(diffusers, f"{sampler}Scheduler")())
    pipeline.save_pretrained(tmp_path / "folder", safe_serialization=True)
    family = opened(tmp_path / "folder", "diffusers", latent_dim=None, sampling_steps=2, batch_size=3)
    images = draw(family, 4, np.random.default_rng(0)).images
    assert images.shape == (4, *SHAPE)
    np.testing.assert_array_equal(draw(family, 4, np.random.default_rng(0)).images, images)
    seeds = np.random.default_rng(int(np.random.default_rng(0).integers(2**63))).integers(2**63, size=3)
    pipeline.set_progress_bar_config(disable=True)
    alone = pipeline(1, generator=torch.Generator().manual_seed(int(seeds[1])), num_inference_steps=2, output_type="np")
    assert np.abs(alone.images[0, :, :, 0] * 255 - images[1, 0]).max() <= 1.01
    index = tmp_path / "folder" / "model_index.json"
    index.write_text(index.read_text().replace(f"{sampler}Pipeline", f"{sampler}Pipelin"))
    with pytest.raises(ModelError, match=rf"unknown architecture {sampler}Pipelin; .*did you mean {sampler}Pipeline\?"):
        opened(tmp_path / "folder", "diffusers", latent_dim=None)
    index.write_text("{")
    with pytest.raises(ModelError, match=r"is no diffusers folder"):
        opened(tmp_path / "folder", "diffusers", latent_dim=None)


def test_labels_are_drawn_given_and_stored(tmp_path: Path) -> None:
    """A model that paints its label: what is stored beside an image is what the model was given."""

    class Painter(nn.Module):
        def forward(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return (label[:, None, None, None] / 10 + 0 * latent.sum()).expand(-1, 1, 8, 8)

    path = traced(Painter(), tmp_path / "p.pt", torch.zeros(2, LATENT), torch.zeros(2, dtype=torch.int64))
    family = opened(path, "torchscript", classes=10, range=(0.0, 1.0), batch_size=7)
    assert family.gives_labels(family.settings)
    drawn = draw(family, 1000, np.random.default_rng(0))
    assert drawn.labels is not None
    np.testing.assert_allclose(drawn.images[:, 0, 0, 0], drawn.labels * 25.5, atol=0.51)
    assert np.bincount(drawn.labels, minlength=10).min() > 60


def pickled(tmp_path: Path, text: str, make: str) -> tuple[Path, Path]:
    """A pickle of `make`, whose class is defined by the module `text`, which only the folder `code` holds."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "their_network.py").write_text(text)
    sys.path.insert(0, str(code))
    try:
        import their_network  # type: ignore[import-not-found]

        held = eval(make, vars(their_network))
        (tmp_path / "net.pkl").write_bytes(pickle.dumps(held))
    finally:
        sys.path.remove(str(code))
        sys.modules.pop("their_network", None)
    return tmp_path / "net.pkl", code


NETWORK = """
import torch
from torch import nn
class Network(nn.Module):
    z_dim, c_dim = 6, 3
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 64)
    def forward(self, z, c):
        noise = 0.1 * torch.randn(len(z), 64)
        print("a model may print")
        return torch.tanh(3 * self.layer(torch.cat([z, c], 1)) + noise).view(-1, 1, 8, 8)
"""


@pytest.mark.process
def test_a_pickle_in_the_manner_of_stylegan(tmp_path: Path) -> None:
    """One-hot labels, code from its repository, noise of its own from a seed of ours, and the entry of a dictionary."""
    path, code = pickled(tmp_path, NETWORK, "{'G': None, 'G_ema': Network()}")
    more = {"trust": True, "code": str(code), "classes": 3, "one_hot": True}
    family = opened(path, "pickle", **more)
    drawn = draw(family, 70, np.random.default_rng(0))
    again = draw(opened(path, "pickle", **more), 70, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.images, again.images)
    np.testing.assert_array_equal(drawn.labels, again.labels)
    assert len(np.unique(drawn.images, axis=0)) == 70
    family.prepare(np.empty((0, *SHAPE)))
    with pytest.raises(ModelError, match=r"got latent_dim 7, but .* allowed: latent_dim: 6"):
        opened(path, "pickle", **more, **{"latent_dim": 7})
    with pytest.raises(ModelError, match=r"got classes 4, but .* has 3; allowed: classes: from 1 to 3"):
        opened(path, "pickle", **more | {"classes": 4})
    with pytest.raises(ModelError, match=r"there is no g in it; allowed: entry: G or G_ema"):
        opened(path, "pickle", **more, entry="g")
    with pytest.raises(ModelError, match=r"No module named 'their_network'"):
        opened(path, "pickle", trust=True)


class Hostile:
    """Runs a program when it is unpickled."""

    def __init__(self, program: str) -> None:
        self.program = program

    def __reduce__(self) -> Any:
        return exec, (self.program, {})


TRIES = """
import json, os, signal, socket
found = {}
def attempt(name, do):
    try:
        do()
        found[name] = 'done'
    except Exception as error:
        found[name] = type(error).__name__
attempt('write', lambda: open(OUTSIDE + '/written', 'w'))
attempt('truncate', lambda: os.truncate(OUTSIDE + '/precious', 0))
attempt('append', lambda: open(OUTSIDE + '/precious', 'a'))
attempt('remove', lambda: os.remove(OUTSIDE + '/precious'))
attempt('rename', lambda: os.rename(OUTSIDE + '/precious', OUTSIDE + '/moved'))
attempt('link', lambda: os.symlink('/etc', OUTSIDE + '/link'))
attempt('folder', lambda: os.mkdir(OUTSIDE + '/folder'))
attempt('shell', lambda: (os.system('echo x > ' + OUTSIDE + '/shell'), os.stat(OUTSIDE + '/shell')))
attempt('kill', lambda: os.kill(PARENT, 0))
attempt('connect', lambda: socket.create_connection(('127.0.0.1', PORT), 2))
attempt('parents environment', lambda: open(f'/proc/{PARENT}/environ').read())
attempt('parents memory map', lambda: open(f'/proc/{PARENT}/maps').read())
attempt('own folder', lambda: open('own', 'w').write('x'))
everything = repr(dict(os.environ)) + open('/proc/self/environ').read()
attempt('secret', lambda: everything.index('GANLAB_TEST_SECRET'))
raise RuntimeError(json.dumps(found))
"""


@pytest.mark.process
def test_a_hostile_pickle_changes_nothing_and_sees_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    monkeypatch.setenv("GANLAB_TEST_SECRET", "token")
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {"OUTSIDE": str(outside), "PARENT": os.getpid(), "PORT": server.getsockname()[1]}
        program = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + TRIES
        (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile(program)))
        request = {"path": str(tmp_path / "hostile.pkl"), "format": "pickle", "entry": "", "code": None}
        with pytest.raises(ConfinedError) as raised:
            ConfinedModel(request | {"device": "cpu", "threads": 1})
    found = json.loads(str(raised.value).removeprefix("RuntimeError: "))
    assert found.pop("own folder") == "done"
    assert found.pop("secret") == "ValueError"
    assert found.pop("shell") == "FileNotFoundError"
    assert found == dict.fromkeys(found, "PermissionError")
    assert len(found) == 11
    assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("precious", "mine")]


def test_a_file_that_runs_code_is_not_touched_without_trust(tmp_path: Path) -> None:
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile(f"open({str(tmp_path / 'ran')!r}, 'w')")))
    for form in ("pickle", "torch-export"):
        with pytest.raises(ValueError, match=rf"got format {form}, whose files run code .* allowed: with trust: true"):
            settings(tmp_path / "hostile.pkl", form)
    assert not (tmp_path / "ran").exists()


@pytest.mark.process
def test_no_process_or_folder_is_left(tmp_path: Path) -> None:
    path, code = pickled(tmp_path, NETWORK, "Network()")
    request = {"path": str(path), "format": "pickle", "entry": "", "code": str(code), "device": "cpu", "threads": 1}
    model = ConfinedModel(request)
    process, folder = model._process, Path(model.folder)
    assert folder.is_dir()
    del model
    assert process.poll() is not None
    assert not folder.exists()


@pytest.mark.process
@pytest.mark.parametrize(("form", "name"), [("torchscript", "g.pt"), ("onnx", "g.onnx"), ("torch-export", "g.pt2")])
def test_a_checkpoint_cut_short(form: str, name: str, model: nn.Module, tmp_path: Path) -> None:
    make = {"torchscript": traced, "onnx": of_onnx, "torch-export": exported}[form]
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    path = make(model, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError) as raised:
        opened(path, form, trust=form == "torch-export")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latent_dim": 7}, r"fails on 64 latent vectors of 7: .*\(64x7 and 6x64\); allowed: latent_dim"),
        ({"shape": (1, 16, 16)}, r"gave float32 \(64, 1, 8, 8\) for 64 images; allowed: \(64, 1, 16, 16\)"),
        ({"shape": (8, 8, 1)}, r"gave float32 \(64, 1, 8, 8\)"),
        (
            {"range": (0.0, 1.0)},
            r"gave values from -[\d.]+ to [\d.]+ in 16 images, \d+% of them beyond 0 to 1; allowed: range",
        ),
        ({"range": (0.0, 255.0)}, r"gave values from -[\d.]+ to [\d.]+ in 16 images"),
        ({"range": (-20.0, 255.0)}, r"gave values from -[\d.]+ to [\d.]+ in 16 images"),
    ],
)
def test_what_was_said_and_what_was_seen(changes: dict[str, Any], says: str, model: nn.Module, tmp_path: Path) -> None:
    family = opened(traced(model, tmp_path / "g.pt"), "torchscript", **{"shape": SHAPE, **changes})
    with pytest.raises(ModelError, match=says):
        family.prepare(np.empty((0, *SHAPE)))


def test_images_in_bfloat16(tmp_path: Path) -> None:
    class Half(nn.Module):
        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            return torch.tanh(latent[:, :1, None, None] * torch.ones(1, 1, 8, 8)).to(torch.bfloat16)

    family = opened(traced(Half(), tmp_path / "g.pt"), "torchscript")
    images = draw(family, 64, np.random.default_rng(0)).images
    noise = np.random.default_rng(0)
    noise.integers(2**63)
    latent = torch.from_numpy(noise.standard_normal((64, LATENT), dtype=np.float32))
    wanted = Half()(latent).float().numpy()
    assert np.abs(images - (wanted + 1) * 127.5).max() <= 0.51


def test_an_error_of_the_model_is_its_last_line(tmp_path: Path) -> None:
    class Fails(nn.Module):
        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            if latent.size(0) > 2:
                raise ValueError("too many")
            return latent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Fails()).save(str(tmp_path / "g.pt"))
    with pytest.raises(ModelError, match=r"fails on 64 latent vectors of 6: [\w.]*Error: too many; allowed"):
        draw(opened(tmp_path / "g.pt", "torchscript"), 16, np.random.default_rng(0))


def test_images_that_do_not_depend_on_their_latent_vectors_are_refused(tmp_path: Path) -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.images = nn.Parameter(torch.linspace(-1, 1, 64 * 64).view(64, 64).t().reshape(64, 1, 8, 8))

        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            return self.images + 0 * latent.sum()

    family = opened(traced(Deaf(), tmp_path / "g.pt"), "torchscript")
    with pytest.raises(ModelError, match=r"gave the same 16 images whatever"):
        family.prepare(np.empty((0, *SHAPE)))


@pytest.mark.parametrize(
    ("form", "module", "command"),
    [
        ("onnx", "onnxruntime", 'pip install "ganlab[onnx]"'),
        ("diffusers", "diffusers", 'pip install "ganlab[diffusers]"'),
        ("safetensors", "diffusers", 'pip install "ganlab[diffusers]"'),
        ("safetensors", "safetensors", 'pip install "ganlab[diffusers]"'),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    form: str, module: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    (tmp_path / "g").mkdir()
    weights = {"architecture": "diffusers/AutoencoderKL", "config": {}} if form == "safetensors" else {}
    with pytest.raises(ModelError) as raised:
        opened(tmp_path / "g", form, latent_dim=None if form == "diffusers" else LATENT, **weights)
    assert str(raised.value) == f"{module} is not installed; install it with: {command}"


def test_every_extra_is_in_the_project_file() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"onnx", "diffusers"} <= project["optional-dependencies"].keys()
    assert adapters.OPENED_BY.keys() == set(get_args(Format))
