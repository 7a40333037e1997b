"""Trained models of other libraries, by a file: TorchScript, torch.export, ONNX, diffusers, safetensors, pickles.

Invariant: latent vectors, labels and seeds come from the generator given, in batches of one size, so a shard can be drawn
again bit for bit; a file that runs code is loaded by a process that can do little else, and only if it is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from torch import nn

from ganlab.models.adapter_base import AdapterError, Format, Request, nearest
from ganlab.models.adapters import RUNS_CODE, open_checkpoint
from ganlab.models.families.base import AverageGradients, Dataset, GeneratedBatch, Shape
from ganlab.models.families.imported import CheckpointFile, ModelError, Untrained
from ganlab.models.from_diffusers import DECODERS, DENOISER, SAMPLERS, SCHEDULE

if TYPE_CHECKING:
    from ganlab.models.train_settings import TrainSettings

Size = Annotated[int, Field(ge=1, le=65_536)]
PREFIX = "diffusers/"
ARCHITECTURES = tuple(f"{PREFIX}{name}" for name in (DENOISER, *DECODERS))
OUTSIDE = 0.05
"""Share of values that may lie further than this share of the range beyond it: generators without a bound overshoot."""


def _is_none(value: object) -> bool:
    """True for what is left out of a trial's settings, whose id is then the one that they had before the key existed."""
    return value is None


class CheckpointSettings(BaseModel):
    """A trained model of another library, named by its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["checkpoint"] = "checkpoint"
    checkpoint: CheckpointFile
    """File, or folder, of the trained model, as a path."""
    format: Format
    """Format of the file; "torch-export" and "pickle" run code when they are loaded, and need `trust`."""
    architecture: str | None = Field(default=None, exclude_if=_is_none)
    """Class of the network whose weights a .safetensors file holds, such as diffusers/UNet2DModel."""
    config: dict[str, Any] | None = Field(default=None, exclude_if=_is_none)
    """Arguments of that class: a mapping, or the path of a JSON file; by default config.json beside the checkpoint. What
    is left out has the value that the class gives it."""
    scheduler: dict[str, Any] | None = Field(default=None, exclude_if=_is_none)
    """Sampler of diffusers/UNet2DModel: its class as _class_name, and its arguments, the schedule of training among them;
    a mapping, or the path of a JSON file such as scheduler_config.json."""
    latent_dim: Size | tuple[Size, ...] | None = None
    """Length, or shape, of one latent vector; none for samplers: format diffusers, and diffusers/UNet2DModel."""
    latent: Literal["normal", "uniform"] = "normal"
    """Law of the latent vector's numbers; uniform is from −1 to 1."""
    range: tuple[float, float] | None = None
    """Least and largest value of the images, if they are not uint8; the default is −1 to 1, of samplers 0 to 1."""
    classes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of classes of a class-conditional model: labels are drawn uniformly, given to it, and stored."""
    one_hot: bool = False
    """True if it takes labels as float32 (n, classes), as StyleGAN does, and not as int64 (n,)."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Images for each call of the model."""
    sampling_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Steps of a sampler; the default is that of its pipeline in diffusers: 50 of DDIM, 1000 of DDPM."""
    entry: str = "G_ema"
    """Key of the network, if a pickle holds a dictionary."""
    code: CheckpointFile | None = None
    """Folder that a pickle's code is imported from, as a path, such as a clone of the repository that wrote it."""
    trust: bool = False
    """True if a file may run code, in a process that changes no file and sees no variable of yours."""

    def __hash__(self) -> int:
        """Hash of the file alone, since mappings have none."""
        return hash(self.checkpoint)

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is None or name in ARCHITECTURES:
            return name
        why = ", but timm has no generators" if name.startswith("timm/") else ""
        hint = "" if why else nearest(name.rpartition("/")[2], (DENOISER, *DECODERS), PREFIX)
        raise ValueError(f"got {name}{why}; allowed: {', '.join(ARCHITECTURES)}{hint}")

    @field_validator("config")
    @classmethod
    def _is_of_the_architecture(cls, config: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if config is None or (architecture := info.data.get("architecture")) is None:
            return config
        stated = f"{PREFIX}{config['_class_name']}" if "_class_name" in config else architecture
        if stated != architecture:
            raise ValueError(f"got the config of {stated} for {architecture}; allowed: that of the architecture")
        return {key: value for key, value in config.items() if not key.startswith("_")}

    @field_validator("scheduler")
    @classmethod
    def _states_the_schedule(cls, scheduler: dict[str, Any] | None) -> dict[str, Any] | None:
        if scheduler is None:
            return None
        name, betas = scheduler.get("_class_name"), scheduler.get("trained_betas")
        if str(name) not in SAMPLERS:
            raise ValueError(f"got _class_name {name}; allowed: {' or '.join(SAMPLERS)}{nearest(str(name), SAMPLERS)}")
        needed = SCHEDULE if betas is None else SCHEDULE[:2]
        if missing := [key for key in needed if key not in scheduler]:
            raise ValueError(
                f"got no {' and no '.join(missing)}; allowed: a sampler with the schedule that its network was trained "
                f"with ({', '.join(SCHEDULE)})"
            )
        if isinstance(betas, list) and len(betas) != scheduler["num_train_timesteps"]:
            steps = scheduler["num_train_timesteps"]
            raise ValueError(f"got {len(betas)} trained_betas and num_train_timesteps {steps}; allowed: as many")
        return {key: value for key, value in scheduler.items() if key == "_class_name" or not key.startswith("_")}

    @model_validator(mode="after")
    def _fits_the_format(self) -> Self:
        if self.format in RUNS_CODE and not self.trust:
            raise ValueError(
                f"got format {self.format}, whose files run code of their author's when they are loaded; allowed: with "
                "trust: true, whose limits stand in docs/own-gan.md"
            )
        self._check_architecture()
        what = self.architecture or self.format
        if self.is_sampler != (self.latent_dim is None):
            allowed = f"no latent_dim for {what}" if self.is_sampler else "latent_dim, as the model has it"
            raise ValueError(f"got latent_dim {self.latent_dim} for {what}; allowed: {allowed}")
        if self.sampling_steps is not None and not self.is_sampler:
            raise ValueError(
                f"got sampling_steps {self.sampling_steps} for {what}; allowed: none, as it has no sampler"
            )
        if self.latent != "normal" and self.is_sampler:
            raise ValueError(
                f"got latent {self.latent} for {what}; allowed: normal, the noise that samplers begin with"
            )
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"got range {list(self.range)}; allowed: the least value, then a larger one")
        return self

    def _check_architecture(self) -> None:
        """Raise ValueError unless architecture, config and scheduler are there where they must be, and only there."""
        weights = self.format == "safetensors"
        if weights and self.architecture is None:
            raise ValueError(
                f"got weights alone and no architecture; allowed: architecture: {', '.join(ARCHITECTURES)}"
            )
        for key in () if weights else ("architecture", "config", "scheduler"):
            if getattr(self, key) is not None:
                raise ValueError(f"got {key} for {self.format}; allowed: for format: safetensors")
        if weights and self.config is None:
            raise ValueError(
                f"got no config of {self.architecture}, and no config.json beside the checkpoint; allowed: config: its "
                "arguments, or the path of the JSON file that holds them"
            )
        if weights and self.is_sampler != (self.scheduler is not None):
            allowed = f"scheduler: {' or '.join(SAMPLERS)} as _class_name, with {', '.join(SCHEDULE)}"
            raise ValueError(
                f"got no scheduler for {self.architecture}; allowed: {allowed}, or the path of a scheduler_config.json"
                if self.is_sampler
                else f"got a scheduler for {self.architecture}, which decodes latent noise in one step; allowed: none"
            )

    @property
    def is_sampler(self) -> bool:
        """True if images are drawn in steps, from noise that a sampler draws by seeds; no latent vectors are given."""
        return self.format == "diffusers" or self.architecture == f"{PREFIX}{DENOISER}"

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent vector; () where there is none."""
        given = self.latent_dim
        return (given,) if isinstance(given, int) else given or ()


class Checkpoint(Untrained):
    """The family; see `Family` for the arguments."""

    Settings = CheckpointSettings
    remedy = "a model that draws its images from its latent vectors, labels and torch's seed"

    def __init__(
        self,
        settings: CheckpointSettings,
        shape: Shape,
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None:
        self.settings, self.shape, self.seed = settings, tuple(shape), seed
        self.name = f"the checkpoint {settings.checkpoint.path}"
        self.networks = nn.ModuleDict()
        try:
            self._adapter = open_checkpoint(
                Request(
                    path=settings.checkpoint.path,
                    format=settings.format,
                    device=str(device),
                    entry=settings.entry,
                    code=None if settings.code is None else settings.code.path,
                    steps=settings.sampling_steps,
                    architecture=settings.architecture,
                    config=settings.config,
                    scheduler=settings.scheduler,
                )
            )
        except AdapterError as error:
            raise ModelError(str(error)) from error
        stated = self._adapter.latent_shape
        if stated is not None and stated != settings.latent_shape:
            raise ModelError(
                f"got latent_dim {_size(settings.latent_shape)}, but {self.name} takes latent vectors of "
                f"{_size(stated)}; allowed: latent_dim: {_size(stated)}"
            )
        known, classes = self._adapter.classes, settings.classes or 0
        if known is not None and (classes > known or (known > 0 and classes == 0)):
            allowed = f"classes: from 1 to {known}" if known else "none"
            raise ModelError(f"got classes {settings.classes}, but {self.name} has {known}; allowed: {allowed}")
        drawn = self._adapter.image_shape
        if drawn is not None and drawn != self.shape:
            raise ModelError(
                f"{self.name} draws images of shape {drawn}, not {self.shape}; allowed: {drawn}, of the data too"
            )
        self._range = settings.range or self._adapter.value_range

    @classmethod
    def check(cls, settings: CheckpointSettings, shape: Shape, classes: int | None) -> None:
        if len(shape) != 3:
            raise ModelError("got a dataset of points; allowed: images, which checkpoints draw")

    @classmethod
    def gives_labels(cls, settings: CheckpointSettings) -> bool:
        return settings.classes is not None

    def prepare(self, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
        self._check_range(np.concatenate([drawn for _, drawn in self._batches(16, np.random.default_rng(self.seed))]))
        return super().prepare(images, labels)

    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        parts = list(self._batches(count, noise))
        images = np.concatenate([self._to_uint8(images) for _, images in parts])
        if self.settings.classes is None:
            return GeneratedBatch(images)
        return GeneratedBatch(images, np.concatenate([labels for labels, _ in parts]))

    def _batches(self, count: int, noise: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Draw in batches of one size: (labels, images), checked for their shape and type.

        The last batch is drawn whole and cut, since models exported for one size take no other, and kernels round
        differently by the size.
        """
        s = self.settings
        for first in range(0, count, s.batch_size):
            size = min(s.batch_size, count - first)
            whole = size if s.is_sampler else s.batch_size
            seed = int(noise.integers(2**63))
            latent = None
            if s.latent_shape:
                normal = s.latent == "normal"
                latent = (
                    noise.standard_normal((whole, *s.latent_shape), dtype=np.float32)
                    if normal
                    else 2 * noise.random((whole, *s.latent_shape), dtype=np.float32) - 1
                )
            labels = noise.integers(0, s.classes or 1, whole)
            given = None if s.classes is None else np.eye(s.classes, dtype=np.float32)[labels] if s.one_hot else labels
            try:
                images = self._adapter.draw(seed, whole, latent, given)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:
                said = " ".join(f"{type(error).__name__}: {error}".removeprefix("AdapterError: ").split())
                took = f"latent vectors of {_size(s.latent_shape)}" if s.latent_shape else "seeds"
                took += "" if given is None else f" and {'one-hot ' if s.one_hot else ''}labels of {s.classes} classes"
                keys = "sampling_steps and batch_size" if s.is_sampler else "latent_dim, classes and batch_size"
                raise ModelError(
                    f"{self.name} fails on {whole} {took}: {said[:300]}; allowed: {keys} as the model has them"
                ) from error
            self._check_shape(images, whole)
            yield labels[:size], images[:size]

    def _check_shape(self, images: NDArray[Any], count: int) -> None:
        if images.shape != (count, *self.shape):
            last = images.shape[1:] == (*self.shape[1:], self.shape[0])
            hint = "; channels come before height and width" if last else ""
            raise ModelError(
                f"{self.name} gave {images.dtype} {images.shape} for {count} images; allowed: "
                f"{(count, *self.shape)}, of the shape said{hint}"
            )
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise ModelError(f"{self.name} gave {images.dtype}; allowed: uint8, or floating-point numbers")
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise ModelError(f"{self.name} gave values that are not finite")

    def _check_range(self, images: NDArray[Any]) -> None:
        """Refuse images whose values are beyond the range said, or all in one half of it: seen on several images."""
        if images.dtype == np.uint8:
            return
        low, high = self._range
        slack = OUTSIDE * (high - low)
        beyond = float(((images < low - slack) | (images > high + slack)).mean())
        middle = (low + high) / 2
        half = images.min() > middle - slack or images.max() < middle + slack
        if beyond > OUTSIDE or half:
            raise ModelError(
                f"{self.name} gave values from {images.min():.4g} to {images.max():.4g} in {len(images)} images, "
                f"{beyond:.0%} of them beyond {low:g} to {high:g}; allowed: range: [least, largest], as the model has it"
            )

    def _to_uint8(self, images: NDArray[Any]) -> NDArray[np.uint8]:
        if images.dtype == np.uint8:
            return np.ascontiguousarray(images)
        low, high = self._range
        scaled = (images.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
        return np.ascontiguousarray(scaled.round().clip(0, 255).astype(np.uint8))


def _size(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else str(list(shape))
