"""Checkpoints of other libraries, by their format, as one function; a library is imported when its format is asked for.

Invariant: what a model draws is a function of its inputs and one seed; a missing library is named with the command that
installs it.
"""

from __future__ import annotations

import difflib
import importlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.models.confined import ConfinedError, ConfinedModel

Format = Literal["torchscript", "torch-export", "onnx", "diffusers", "pickle"]
FORMATS: tuple[Format, ...] = get_args(Format)
RUNS_CODE = ("torch-export", "pickle")
"""Formats whose files run code when they are loaded: `torch.export.load` falls back to unpickling."""
PIPELINES = ("DDIMPipeline", "DDPMPipeline")
"""Pipelines of diffusers that draw images from noise alone."""


class AdapterError(ValueError):
    """A checkpoint can't be loaded or run; one line: what was found, and what is allowed."""


class Adapter(NamedTuple):
    """A loaded checkpoint.

    Attributes
    ----------
    draw : callable
        From (seed, latent float32 (n, …) or None, label (n, …) or None) to images (n, C, H, W).
    latent_shape : tuple of int, or None
        Shape of one latent vector as the checkpoint itself states it; None where it does not, () where it takes none.
    value_range : (float, float)
        Range of the images' values that the format implies.
    """

    draw: Callable[[int, int, NDArray[Any] | None, NDArray[Any] | None], NDArray[Any]]
    latent_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)


def open_checkpoint(path: Path, form: Format, device: str, entry: str, code: Path | None, steps: int | None) -> Adapter:
    """Load a checkpoint.

    Parameters
    ----------
    path, form
        File, or for "diffusers" folder, and its format.
    device
        "cpu" or "cuda".
    entry, code
        Of pickles: the key of the network in a dictionary, and the folder that its code is imported from.
    steps
        Steps of a diffusers pipeline's sampler; None is the pipeline's default.

    Raises
    ------
    AdapterError
        In one line: a missing library, a file that is no checkpoint of this format, an unknown architecture.
    """
    if form == "torchscript":
        return _torchscript(path, device)
    if form == "onnx":
        return _onnx(path, device)
    if form == "diffusers":
        return _diffusers(path, device, steps)
    return _confined(path, form, device, entry, code)


def _extra(module: str, extra: str) -> Any:
    """Import a library of an optional extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AdapterError(f'{module} is not installed; install it with: pip install "ganlab[{extra}]"') from error


def _torchscript(path: Path, device: str) -> Adapter:
    try:
        with warnings.catch_warnings():  # that TorchScript is deprecated: of a file that is there already
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        _unreadable(path, "torch.jit.save", error)

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        given = [torch.from_numpy(each).to(device) for each in (latent, label) if each is not None]
        with torch.random.fork_rng(devices=[] if device == "cpu" else None), torch.no_grad():
            torch.manual_seed(seed)
            try:
                images = module(*given)
            except RuntimeError as error:  # the interpreter's own traceback comes before what went wrong
                raise AdapterError(str(error).strip().splitlines()[-1]) from error
        if not isinstance(images, torch.Tensor):
            raise AdapterError(f"the checkpoint gave a {type(images).__name__}; allowed: one tensor of images")
        return images.cpu().numpy()  # type: ignore[no-any-return]

    return Adapter(draw)


def _onnx(path: Path, device: str) -> Adapter:
    runtime = _extra("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised; they need not be printed, too
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # of classes that onnxruntime keeps to itself
        _unreadable(path, "an ONNX exporter", error)
    kinds = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(double)": np.float64,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
    }
    inputs = [(each.name, kinds.get(each.type, np.float32)) for each in session.get_inputs()]
    shape = session.get_inputs()[0].shape[1:]
    stated = tuple(shape) if all(isinstance(size, int) for size in shape) else None

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        given = [each for each in (latent, label) if each is not None]
        if len(given) != len(inputs):
            names = ", ".join(name for name, _ in inputs)
            raise AdapterError(
                f"the checkpoint has {len(inputs)} inputs ({names}) and {len(given)} are given; allowed: "
                "latent vectors, and labels where `classes` is given"
            )
        feed = {name: each.astype(kind) for (name, kind), each in zip(inputs, given, strict=True)}
        return np.asarray(session.run(None, feed)[0])

    return Adapter(draw, stated)


def _diffusers(path: Path, device: str, steps: int | None) -> Adapter:
    library = _extra("diffusers", "diffusers")
    _extra("safetensors", "diffusers")
    try:
        name = json.loads((path / "model_index.json").read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise AdapterError(
            f"{path} is no diffusers folder: model_index.json with a _class_name can't be read there; "
            "allowed: a folder that a pipeline's save_pretrained has written"
        ) from error
    if name not in PIPELINES:
        close = difflib.get_close_matches(str(name), PIPELINES, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise AdapterError(
            f"{path / 'model_index.json'}: unknown architecture {name}; allowed: {' or '.join(PIPELINES)}{hint}"
        )
    library.utils.logging.disable_progress_bar()
    try:
        pipeline = getattr(library, name).from_pretrained(str(path), local_files_only=True, use_safetensors=True)
    except Exception as error:  # of many libraries: OSError, ValueError, SafetensorError, …
        _unreadable(path, "save_pretrained with safetensors", error)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    options = {} if steps is None else {"num_inference_steps": steps}

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        # A generator for each image, on the CPU: its noise is then the same on every device and in every batch.
        seeds = np.random.default_rng(seed).integers(2**63, size=count)
        generators = [torch.Generator().manual_seed(int(each)) for each in seeds]
        images = pipeline(batch_size=count, generator=generators, output_type="np", **options).images
        return np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2))

    return Adapter(draw, (), (0.0, 1.0))


def _confined(path: Path, form: str, device: str, entry: str, code: Path | None) -> Adapter:
    request = {
        "path": str(path),
        "format": form,
        "entry": entry,
        "code": None if code is None else str(code.absolute()),
        "device": device,
        "threads": torch.get_num_threads(),
    }
    try:
        model = ConfinedModel(request)
    except ConfinedError as error:
        raise AdapterError(f"{path} can't be loaded as {form}: {error}") from error

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        given = {"latent": latent, "label": label}
        try:
            return model(seed, **{name: each for name, each in given.items() if each is not None})
        except ConfinedError as error:
            raise AdapterError(str(error)) from error

    return Adapter(draw, (model.facts["z_dim"],) if "z_dim" in model.facts else None)


def _unreadable(path: Path, writer: str, error: Exception) -> NoReturn:
    said = " ".join(str(error).split())
    raise AdapterError(
        f"{path} can't be read ({said[:160]}); allowed: a whole file written by {writer} (was it cut short, or is it of "
        "another format?)"
    ) from error
