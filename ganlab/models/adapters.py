"""Checkpoints of other libraries, by their format, as one function; a library is imported when its format is asked for.

Invariant: what a model draws is a function of its inputs and one seed; a missing library is named with the command that
installs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.models.adapter_base import Adapter, AdapterError, Format, Request, extra_module, refuse_file
from ganlab.models.confined import ConfinedError, ConfinedModel
from ganlab.models.from_diffusers import open_folder, open_weights

RUNS_CODE = ("torch-export", "pickle")
"""Formats whose files run code when they are loaded: `torch.export.load` falls back to unpickling."""


def open_checkpoint(request: Request) -> Adapter:
    """Load a checkpoint.

    Raises
    ------
    AdapterError
        In one line: a missing library, a file that is no checkpoint of this format, an unknown architecture, weights
        that are not those of the architecture.
    """
    return OPENED_BY[request.format](request)


def _torchscript(request: Request) -> Adapter:
    path, device = request.path, request.device
    try:
        with warnings.catch_warnings():  # that TorchScript is deprecated: of a file that is there already
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        refuse_file(path, "torch.jit.save", error)

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        given = [torch.from_numpy(each).to(device) for each in (latent, label) if each is not None]
        with torch.random.fork_rng(devices=[] if device == "cpu" else None), torch.no_grad():
            torch.manual_seed(seed)
            try:
                images = module(*given)
            except torch.cuda.OutOfMemoryError:
                raise
            except (RuntimeError, torch.jit.Error) as error:  # the interpreter's traceback comes before what went wrong
                raise AdapterError(str(error).strip().splitlines()[-1]) from error
        if not isinstance(images, torch.Tensor):
            raise AdapterError(f"the checkpoint gave a {type(images).__name__}; allowed: one tensor of images")
        images = images.float() if images.dtype == torch.bfloat16 else images  # which NumPy does not have
        return images.cpu().numpy()  # type: ignore[no-any-return]

    return Adapter(draw)


def _onnx(request: Request) -> Adapter:
    path, device = request.path, request.device
    runtime = extra_module("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised; they need not be printed, too
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # of classes that onnxruntime keeps to itself
        refuse_file(path, "an ONNX exporter", error)
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


def _confined(request: Request) -> Adapter:
    plain = {
        "path": str(request.path),
        "format": request.format,
        "entry": request.entry,
        "code": None if request.code is None else str(request.code.absolute()),
        "device": request.device,
        "threads": torch.get_num_threads(),
    }
    try:
        model = ConfinedModel(plain)
    except ConfinedError as error:
        raise AdapterError(f"{request.path} can't be loaded as {request.format}: {error}") from error

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        given = {"latent": latent, "label": label}
        try:
            return model(seed, **{name: each for name, each in given.items() if each is not None})
        except ConfinedError as error:
            raise AdapterError(str(error)) from error

    latent_shape = (model.facts["z_dim"],) if "z_dim" in model.facts else None
    return Adapter(draw, latent_shape, classes=model.facts.get("c_dim"))


OPENED_BY: dict[Format, Callable[[Request], Adapter]] = {
    "torchscript": _torchscript,
    "torch-export": _confined,
    "onnx": _onnx,
    "diffusers": open_folder,
    "safetensors": open_weights,
    "pickle": _confined,
}
