"""Checkpoints of diffusers: the folder of a pipeline, or the weights of one network alone (.safetensors).

Invariant: every weight of a network comes from its file; classes are the library's own, by name, so that nothing is
downloaded and no code that lies beside a file is run.
"""

from __future__ import annotations

import inspect
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.models.adapter_base import Adapter, AdapterError, Request, extra_module, nearest, reason, refuse_file

PIPELINES = ("DDIMPipeline", "DDPMPipeline")
"""Pipelines that draw images from noise alone."""
SAMPLERS = {"DDIMScheduler": "DDIMPipeline", "DDPMScheduler": "DDPMPipeline"}
"""Samplers that these pipelines run, and the one that runs each for weights alone."""
DENOISER = "UNet2DModel"
DECODERS = ("AutoencoderDC", "AutoencoderKL", "AutoencoderTiny", "VQModel")
"""Networks whose `decode` makes images of latent noise."""
SCHEDULE = ("num_train_timesteps", "prediction_type", "beta_schedule", "beta_start", "beta_end")
"""Arguments of a sampler that say how its network was trained; where `trained_betas` is given, the first two do."""


def open_folder(request: Request) -> Adapter:
    """Load a pipeline that `save_pretrained` has written. Raises AdapterError, see `open_checkpoint`."""
    library, path = _library(), request.path
    name, kind = _class_in(path / "model_index.json"), _class_in(path / "scheduler" / "scheduler_config.json")
    if name not in PIPELINES:
        raise AdapterError(
            f"{path / 'model_index.json'}: unknown architecture {name}; allowed: {' or '.join(PIPELINES)}"
            f"{nearest(str(name), PIPELINES)}"
        )
    if str(kind) not in SAMPLERS:  # others need noise or inputs at a scale that these pipelines do not give them
        raise AdapterError(f"{path / 'scheduler'}: got {kind}; allowed: {' or '.join(SAMPLERS)}, which a {name} runs")
    try:
        scheduler = getattr(library, kind).from_pretrained(str(path / "scheduler"), local_files_only=True)
    except Exception as error:  # whatever its code meets
        refuse_file(path / "scheduler", "save_pretrained", error)
    return _sampler(getattr(library, name)(_network(library, DENOISER, path / "unet", path), scheduler), request)


def open_weights(request: Request) -> Adapter:
    """Load one network from its weights. Raises AdapterError, see `open_checkpoint`."""
    library, path, name = _library(), request.path, str(request.architecture).partition("/")[2]
    safetensors = extra_module("safetensors", "diffusers")
    try:
        safetensors.safe_open(str(path), "pt")
    except (OSError, safetensors.SafetensorError) as error:
        refuse_file(path, "safetensors' save_file", error)
    config = dict(request.config or {})
    with torch.device("meta"):  # checks the config without memory or time for weights
        _made(getattr(library, name), config, "config")
    # In a folder with the names of save_pretrained, since from_pretrained alone knows older names of weights.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config | {"_class_name": name}), "utf-8")
        Path(folder, "diffusion_pytorch_model.safetensors").symlink_to(path.absolute())
        network = _network(library, name, Path(folder), path)
    if name == DENOISER:
        sampler = dict(request.scheduler or {})
        kind = sampler.pop("_class_name")
        scheduler = _made(getattr(library, kind), sampler, "scheduler")
        return _sampler(getattr(library, SAMPLERS[kind])(network, scheduler), request)
    network.to(request.device)

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        with torch.no_grad():
            images = network.decode(torch.from_numpy(latent).to(request.device)).sample
        return images.cpu().numpy()  # type: ignore[no-any-return]

    return Adapter(draw, classes=0)


def _class_in(file: Path) -> Any:
    """Name of the class in a JSON file of `save_pretrained`. Raises AdapterError where it can't be read."""
    try:
        return json.loads(file.read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(
            f"{file.parent} is no diffusers folder: {file.name} with a _class_name can't be read there; allowed: a "
            "folder that a pipeline's save_pretrained has written"
        ) from error


def _library() -> Any:
    library = extra_module("diffusers", "diffusers")
    extra_module("safetensors", "diffusers")
    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity(logging.CRITICAL)  # what is wrong is raised; it need not be printed, too
    return library


def _network(library: Any, name: str, folder: Path, shown: Path) -> Any:
    """Load a network from `folder` with every weight from its file; errors name the path `shown`."""
    try:
        network, loaded = getattr(library, name).from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            ignore_mismatched_sizes=True,  # they are counted below, not ignored
            output_loading_info=True,
        )
    except Exception as error:  # of many libraries: OSError, ValueError, SafetensorError, …
        raise AdapterError(
            f"{shown}: its {name} can't be loaded ({reason(error)}); allowed: the config that it was trained with, and "
            "its whole weights as safetensors"
        ) from error
    faults = {
        "missing": loaded["missing_keys"],
        "unknown": loaded["unexpected_keys"],
        "of another shape": [key for key, *_ in loaded["mismatched_keys"]],
    }
    if any(faults.values()):
        counts = ", ".join(f"{len(keys)} {fault}" for fault, keys in faults.items())
        first = min(next(keys for keys in faults.values() if keys))
        raise AdapterError(
            f"{shown}: not the weights of this {name}: {counts}, such as {first}; allowed: exactly its weights, and "
            "the config that it was trained with"
        )
    return network


def _made(kind: Any, given: Mapping[str, Any], key: str) -> Any:
    """Make an object of a class of the library. Raises AdapterError for arguments that it does not know or allow."""
    known = inspect.signature(kind.__init__).parameters
    for name, value in given.items():
        choices = _choices(known[name]) if name in known else ()
        if choices and value not in choices:
            raise AdapterError(f"{key}.{name}: got {value}; allowed: {', '.join(map(json.dumps, choices))}")
    try:
        made, failure = kind(**{name: value for name, value in given.items() if name in known}), None
    except Exception as error:  # whatever its code meets
        made, failure = None, error
    for name in given:
        if name not in known and (made is None or name not in made.config):  # a config also holds what a class derives
            raise AdapterError(
                f"{key}.{name}: unknown key; allowed: an argument of {kind.__name__}{nearest(name, known)}"
            )
    if failure is not None:
        raise AdapterError(
            f"{key}: no {kind.__name__} can be made of it ({reason(failure)}); allowed: the arguments of its training"
        ) from failure
    return made


def _choices(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """All values that an argument may have, if they are few: those of a Literal, or true and false."""
    if isinstance(parameter.default, bool):
        return (True, False)
    return get_args(parameter.annotation) if get_origin(parameter.annotation) is Literal else ()


def _sampler(pipeline: Any, request: Request) -> Adapter:
    """Draw images by a pipeline of a U-Net and its sampler."""
    config = pipeline.unet.config
    size = config.sample_size
    sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, list | tuple) else []
    if len(sides) != 2:
        raise AdapterError(
            f"{request.path}: sample_size of its config is {size}; allowed: the images' side, or height and width"
        )
    embedding = getattr(pipeline.unet, "class_embedding", None)
    if not isinstance(embedding, torch.nn.Embedding | None):
        raise AdapterError(
            f"{request.path}: class_embed_type of its config is {config.class_embed_type}; allowed: null, where "
            "num_class_embeds is the number of classes, or nothing"
        )

    labels: list[torch.Tensor] = []
    """Labels of the batch that is being drawn, which the pipelines do not pass on."""

    def with_labels(network: Any, arguments: Any, more: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return arguments, more | {"class_labels": labels[0]}

    if embedding is not None:
        pipeline.unet.register_forward_pre_hook(with_labels, with_kwargs=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(request.device)
    options = {} if request.steps is None else {"num_inference_steps": request.steps}

    def draw(seed: int, count: int, latent: NDArray[Any] | None, label: NDArray[Any] | None) -> NDArray[Any]:
        labels[:] = [] if label is None else [torch.from_numpy(label).to(request.device)]
        # A generator for each image, on the CPU: its noise is then the same on every device and in every batch.
        seeds = np.random.default_rng(seed).integers(2**63, size=count)
        generators = [torch.Generator().manual_seed(int(each)) for each in seeds]
        images = pipeline(batch_size=count, generator=generators, output_type="np", **options).images
        return np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2))

    classes = 0 if embedding is None else embedding.num_embeddings
    return Adapter(draw, (), (0.0, 1.0), (config.in_channels, *sides), classes)
