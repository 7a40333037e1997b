"""A loaded checkpoint of another library, the request to load one, and the errors that its adapters share.

Invariant: an error of an adapter is one line that says what was found and what is allowed.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from numpy.typing import NDArray

Format = Literal["torchscript", "torch-export", "onnx", "diffusers", "safetensors", "pickle"]


class AdapterError(ValueError):
    """A checkpoint can't be loaded or run; one line: what was found, and what is allowed."""


class Request(NamedTuple):
    """Request to load a checkpoint on a device.

    Attributes
    ----------
    path, format
        File, or for "diffusers" folder, and its format.
    device
        "cpu" or "cuda".
    entry, code
        Of pickles: the key of the network in a dictionary, and the folder that its code is imported from.
    steps
        Steps of a diffusers sampler; None is the default of its pipeline.
    architecture, config, scheduler
        Of weights alone: "diffusers/NAME"; arguments of the network's class; `_class_name` of the sampler's class and
        its arguments, None of a decoder.
    """

    path: Path
    format: Format
    device: str
    entry: str
    code: Path | None
    steps: int | None
    architecture: str | None
    config: Mapping[str, Any] | None
    scheduler: Mapping[str, Any] | None


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
    image_shape : tuple of int, or None
        Channels, height and width of one image as the checkpoint itself states them; None where it does not.
    classes : int, or None
        Classes that the checkpoint itself states, 0 if it takes no labels; None where it does not.
    """

    draw: Callable[[int, int, NDArray[Any] | None, NDArray[Any] | None], NDArray[Any]]
    latent_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)
    image_shape: tuple[int, ...] | None = None
    classes: int | None = None


def extra_module(module: str, extra: str) -> Any:
    """Import a library of an optional extra. Raises AdapterError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AdapterError(f'{module} is not installed; install it with: pip install "ganlab[{extra}]"') from error


def refuse_file(path: Path, writer: str, error: Exception) -> NoReturn:
    """Raise AdapterError for a file that can't be read as one written by `writer`."""
    raise AdapterError(
        f"{path} can't be read ({reason(error)}); allowed: a whole file written by {writer} (was it cut short, or is "
        "it of another format?)"
    ) from error


def reason(error: Exception) -> str:
    """Text of an error on one line, shortened."""
    return " ".join(str(error).split())[:160]


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return "; did you mean …?", or nothing where no known word is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
