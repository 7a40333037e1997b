"""Models that are not ours: any callable that makes images, or a whole `Family`, named ``import:package.module:factory``.

Invariant: what a user's model draws is checked before it is used: equal random numbers give equal images, others
give others, and every batch has the number, shape and type that were asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn

from ganlab.models.families.base import AverageGradients, Dataset, Family, GeneratedBatch, NextBatch, Shape
from ganlab.randomness import generator_for

if TYPE_CHECKING:
    from ganlab.models.train_settings import TrainSettings

PREFIX = "import:"
TRIED = 16
"""Images that are drawn thrice when a trial starts, to see what they depend on."""


class ModelError(ValueError):
    """A user's model failed, or does not do what its interface asks; one sentence."""


class CheckpointFile(BaseModel):
    """A user's file of weights, or folder of files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    """Path of the checkpoint file."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Hash of its content, which the trial's id depends on instead of the path."""


class ImportedSettings(BaseModel):
    """A user's model; every other key is given to its factory."""

    model_config = ConfigDict(extra="allow", frozen=True)

    family: str
    """import:package.module:factory."""
    checkpoint: CheckpointFile | None = None
    """File of weights, given to the factory as a path."""

    @field_validator("family")
    @classmethod
    def _form(cls, name: str) -> str:
        word = r"[A-Za-z_][A-Za-z0-9_]*"
        if not re.fullmatch(rf"{PREFIX}{word}(\.{word})*:{word}", name) or len(name) > 200:
            raise ValueError(f'got "{name}"; allowed: {PREFIX}package.module:factory, each part a Python name')
        return name

    @property
    def keys(self) -> dict[str, Any]:
        """Keyword arguments of the factory."""
        given = dict(self.model_extra or {})
        return given if self.checkpoint is None else {**given, "checkpoint": self.checkpoint.path}


def find_factory(name: str) -> Callable[..., Any]:
    """Import what ``import:package.module:factory`` names.

    Raises
    ------
    ValueError
        One sentence: there is no such module, it can't be imported, or holds no such callable.
    """
    module_name, _, attribute = name.removeprefix(PREFIX).rpartition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            raise ModelError(
                f"got {name}, but there is no module {missing}; allowed: a module beside the sweep file, in "
                "the folder ganlab was started in, or installed"
            ) from error
        raise ModelError(f"got {name}, but importing {module_name} fails: {_said(error)}") from error
    factory: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        close = difflib.get_close_matches(attribute, own, n=1)
        state = "there is no" if factory is None else "no function or class is"
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ModelError(
            f"got {name}, but {state} {attribute} in {module.__file__ or module_name}; allowed: a callable "
            f"of that module{hint}"
        )
    return factory


def imported_family(settings: ImportedSettings) -> type[Family]:
    """The family that a factory is, or that makes one of its callable. Raises ValueError, see `find_factory`."""
    factory = find_factory(settings.family)
    return factory if inspect.isclass(factory) and issubclass(factory, Family) else Imported


def settings_of_subclass(family: type[Family], settings: ImportedSettings) -> BaseModel:
    """The settings of a user's `Family`, checked by its own `Settings`. Raises ValueError: one sentence."""
    name_wanted = "family" in family.Settings.model_fields and family.Settings.model_fields["family"].is_required()
    given = {**({"family": settings.family} if name_wanted else {}), **settings.keys}
    try:
        return family.Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{settings.family} refuses its settings: {place}: {first['msg']}") from error


class Untrained(Family):
    """A family whose weights come from elsewhere: training does nothing, and what it draws is tried before it is used."""

    trained = False
    name: str
    shape: Shape
    seed: int
    remedy: str
    """Description of what is allowed, for an error about images that do not depend on the random numbers given."""

    def prepare(self, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
        first, again, other = (
            self.sample(TRIED, generator_for(self.seed, "trying", number)).images for number in (0, 0, 1)
        )
        if not np.array_equal(first, again):
            raise ModelError(
                f"{self.name} gave other images when asked again with equal random numbers; allowed: {self.remedy} "
                "and from nothing else (docs/own-gan.md)"
            )
        if np.array_equal(first, other) and not (first == first[:1]).all():
            raise ModelError(
                f"{self.name} gave the same {TRIED} images whatever its generator; allowed: "
                f"{self.remedy} (docs/own-gan.md)"
            )
        return torch.zeros(len(images))

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        return None


class Imported(Untrained):
    """Family of a user's sampling callable; see `Family` for the arguments.

    The factory is called with the keys of the model section; `device`, `shape` and `seed` are given besides if it has
    parameters of these names.
    """

    Settings = ImportedSettings
    remedy = "a sample(count, generator) that draws from its generator"

    def __init__(
        self,
        settings: ImportedSettings,
        shape: Shape,
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None:
        self.name, self.shape, self.seed = settings.family, tuple(shape), seed
        self.networks = nn.ModuleDict()
        factory = find_factory(settings.family)
        own = {"device": str(device), "shape": self.shape, "seed": seed}
        try:
            model = factory(**_arguments(factory, settings.keys, own))
        except Exception as error:
            self._failed("the factory", error)
        self._sample = getattr(model, "sample", model)
        if not callable(self._sample):
            raise ModelError(
                f"{self.name} returned a {type(model).__name__}; allowed: a callable sample(count, "
                "generator), or an object with such a method"
            )

    @classmethod
    def check(cls, settings: ImportedSettings, shape: Shape, classes: int | None) -> None:
        factory = find_factory(settings.family)
        try:
            inspect.signature(factory).bind(
                **_arguments(factory, settings.keys, dict.fromkeys(("device", "shape", "seed")))
            )
        except ValueError:  # a builtin, whose signature is not known
            return
        except TypeError as error:
            keys = ", ".join(settings.keys) or "none"
            raise ModelError(f"{settings.family} can't be called with the keys given ({keys}): {error}") from error

    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        try:
            drawn = self._sample(count, noise)
        except Exception as error:
            self._failed("drawing", error)
        images = drawn.detach().cpu().numpy() if isinstance(drawn, Tensor) else drawn
        wanted, words = (np.uint8, "uint8") if len(self.shape) == 3 else (np.float32, "float32")
        if not isinstance(images, np.ndarray) or images.dtype != wanted or images.shape != (count, *self.shape):
            got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else f"a {type(images).__name__}"
            raise ModelError(
                f"{self.name} gave {got} for sample({count}, generator); allowed: {words} "
                f"{(count, *self.shape)}{self._hint(images)}"
            )
        if wanted is np.float32 and not np.isfinite(images).all():
            raise ModelError(f"{self.name} gave points that are not finite")
        return GeneratedBatch(np.ascontiguousarray(images))

    def _hint(self, images: object) -> str:
        if not isinstance(images, np.ndarray) or len(self.shape) != 3:
            return ""
        if images.shape[1:] == (*self.shape[1:], self.shape[0]) != self.shape:
            return "; channels come before height and width"
        if images.shape[1:] == self.shape and images.dtype.kind == "f":
            return "; from [-1, 1] that is round(127.5 · (x + 1))"
        return ""

    def _failed(self, doing: str, error: Exception) -> NoReturn:
        """Say in one sentence whose error it is; but running out of GPU memory is told apart by its class."""
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise error
        raise ModelError(f"{self.name}: {doing} failed: {_said(error)}") from error


def _arguments(factory: Callable[..., Any], keys: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    try:
        asked = inspect.signature(factory).parameters
    except ValueError:
        return dict(keys)
    return {**{name: value for name, value in own.items() if name in asked}, **keys}


def _said(error: BaseException) -> str:
    """An error in one line, with its kind, which often says more than its text."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
