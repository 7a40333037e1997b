"""The embedding that a text of the sweep file or the command line stands for.

Invariant: no other module names an embedding's class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from ganlab.quality.embeddings import onnx, safetensors, torchscript
from ganlab.quality.embeddings.base import Embedding, EmbeddingError, Features, unit_rows
from ganlab.quality.embeddings.efficientnet import EfficientNetLite0
from ganlab.quality.embeddings.files import FileSettings, Loaded, open_file
from ganlab.quality.embeddings.names import CLASSIFIER, PIXELS, parts_of, settled
from ganlab.quality.embeddings.normalised import Normalised

LOADERS: Mapping[str, Callable[[FileSettings], Loaded]] = {
    ".pt": torchscript.load,
    ".onnx": onnx.load,
    ".safetensors": safetensors.load,
}


@dataclass(frozen=True)
class Pixels:
    """Pixels as float32, for rows of length 1 and for joining."""

    fingerprint = "pixels"
    about = "pixels"
    immediate = True

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Embedding.features`: d is C·H·W."""
        return images.reshape(len(images), -1).astype(np.float32)


NAMED: Mapping[str, Callable[[], Embedding]] = {
    PIXELS: Pixels,
    "normalised": Normalised,
    "efficientnet-lite0": EfficientNetLite0,
}


@dataclass(frozen=True)
class Joined:
    """Features of several embeddings side by side, each row of each scaled to length 1 where asked."""

    parts: tuple[tuple[Embedding, bool], ...]

    @property
    def fingerprint(self) -> str:
        """See `Embedding.fingerprint`."""
        return " + ".join(f"{part.fingerprint}{' unit' if unit else ''}" for part, unit in self.parts)

    @property
    def immediate(self) -> bool:
        """See `Embedding.immediate`."""
        return all(part.immediate for part, _ in self.parts)

    @property
    def about(self) -> str:
        """See `Embedding.about`."""
        return " and ".join(
            f"{part.about}{', each row scaled to length 1' if unit else ''}" for part, unit in self.parts
        )

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Embedding.features`."""
        found = [(part.features(images), unit) for part, unit in self.parts]
        return np.concatenate([unit_rows(each) if unit else each for each, unit in found], axis=1)


def embedding_of(text: str, classifier: Callable[[], Embedding]) -> Embedding:
    """The embedding of names or a file; ``classifier()`` is called where it is part of it.

    Raises
    ------
    EmbeddingError
        A file that is missing, or whose YAML is none; packages that are not installed are found when features are.
    """
    makers = {**NAMED, CLASSIFIER: classifier}
    parts = parts_of(text)
    if parts is None:
        return open_file(file_settings(Path(settled(text))), LOADERS)
    made = tuple((makers[name](), unit) for name, unit in parts)
    return made[0][0] if len(made) == 1 and not made[0][1] else Joined(made)


def file_settings(path: Path) -> FileSettings:
    """Settings from a YAML file; of a network's file from the YAML file of its name beside it, if there is one."""
    described = path if path.suffix == ".yaml" else path.with_suffix(".yaml")
    given: object = {}
    if path.suffix == ".yaml" or described.exists():
        try:
            given = yaml.safe_load(described.read_text())
        except OSError as error:
            raise EmbeddingError(f"{described}: {error.strerror}; allowed: a file that can be read") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise EmbeddingError(f"{described}: got no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(given, dict):
        raise EmbeddingError(
            f"{described}: got {type(given).__name__}; allowed: {', '.join(FileSettings.model_fields)}"
        )
    if path.suffix != ".yaml":
        given = {**given, "file": path}
    try:
        settings = FileSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EmbeddingError(
            f"{described}: {place}{': ' if place else ''}{first['msg'].removeprefix('Value error, ')}; allowed: "
            f"{', '.join(FileSettings.model_fields)}"
        ) from error
    return settings.model_copy(update={"file": (described.parent / settings.file).absolute()})
