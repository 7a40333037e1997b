"""An embedding by a network from a file that the user brings, with its preprocessing in YAML.

Invariant: the fingerprint is a function of the file's content and the settings, not of where the file lies.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganlab.quality.embeddings.base import EmbeddingError, Features, block_of, by_block, unit_rows
from ganlab.quality.embeddings.preprocessing import Preprocessing

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class FileSettings(Preprocessing):
    """A network's file, how images are prepared for it, and which of its values are the features."""

    file: Path
    """TorchScript (.pt), ONNX (.onnx) or weights (.safetensors); relative to the YAML file."""
    architecture: str | None = None
    """Architecture of a .safetensors file: timm/NAME or open_clip/NAME."""
    layer: str | None = None
    """Values taken as features: of .pt a method, such as encode_image; of .onnx an output; of .safetensors a module. By
    default the network's output, or with timm the input of its class scores."""
    pool: Literal["mean", "flatten"] | None = None
    """Reduction of maps (n, values, …): their mean over all places, or all values in one row."""
    unit: bool = False
    """Scale every row to length 1."""


class Loaded(NamedTuple):
    """A network that is ready: its function of prepared images, and the batch that it takes if only one will do."""

    run: Run
    batch: int | None = None


@dataclass(frozen=True)
class NetworkFile:
    """The values of one layer of a network from a file.

    Attributes
    ----------
    settings : FileSettings
    sha256 : str
        Hash of the file's content.
    load : callable
        Opens the file: one of the registry's loaders.
    """

    settings: FileSettings
    sha256: str
    load: Callable[[FileSettings], Loaded]
    immediate: ClassVar[bool] = False

    @property
    def fingerprint(self) -> str:
        """See `Embedding.fingerprint`."""
        made = self.settings.model_dump(mode="json", exclude={"file"}) | {"suffix": self.settings.file.suffix}
        return hashlib.sha256(json.dumps([self.sha256, made], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def about(self) -> str:
        """See `Embedding.about`."""
        own = self.settings.model_dump(mode="json", exclude={"file"}, exclude_none=True)
        return f"{self.settings.file.name} (SHA-256 {self.sha256[:16]}…), {own}"

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Embedding.features`."""
        settings, loaded = self.settings, _load(self)
        height, width = settings.size(*images.shape[2:])
        block = loaded.batch or block_of(height * width)

        def compute(part: NDArray[np.uint8]) -> Features:
            prepared = settings.prepare(part)
            try:
                found = loaded.run(prepared)
            except (RuntimeError, ValueError, TypeError) as error:
                raise EmbeddingError(
                    f"{settings.file}: fails on images of shape {prepared.shape[1:]}: {reason(error)}; set resize, crop, "
                    "mean and std as the network's own documentation says"
                ) from error
            if settings.pool is not None and found.ndim > 2:
                found = found.reshape(*found.shape[:2], -1)
                found = found.mean(axis=2) if settings.pool == "mean" else found.reshape(len(found), -1)
            return found

        try:
            features = by_block(images, block, compute)
        except EmbeddingError as error:
            raise error if str(settings.file) in str(error) else EmbeddingError(f"{settings.file}: {error}") from error
        return unit_rows(features) if settings.unit else features


def open_file(settings: FileSettings, loaders: Mapping[str, Callable[[FileSettings], Loaded]]) -> NetworkFile:
    """The embedding of a file, its content hashed. Raises EmbeddingError when it can't be read or is of no known kind."""
    if settings.file.suffix not in loaders:
        raise EmbeddingError(f"{settings.file}: got a file of no known kind; allowed: {', '.join(loaders)}")
    return NetworkFile(settings, _sha256(settings.file), loaders[settings.file.suffix])


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbeddingError(f"{path}: {error.strerror}; allowed: a file that can be read") from error


@lru_cache(maxsize=2)
def _load(network: NetworkFile) -> Loaded:
    if _sha256(network.settings.file) != network.sha256:
        raise EmbeddingError(f"{network.settings.file}: its content has changed since this work began; start it again")
    return network.load(network.settings)


def reason(error: Exception) -> str:
    """Return an error's own words on one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:159]}…"


def missing(package: str, extra: str, error: ImportError) -> EmbeddingError:
    """The error for a package that is not installed, with the command that installs it."""
    return EmbeddingError(
        f"needs {package}, which can't be imported ({error.name or reason(error)}); install it: pip "
        f"install {package} (ganlab's extra {extra})"
    )
