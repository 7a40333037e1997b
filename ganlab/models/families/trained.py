"""Base of families of torch networks: weights from the seed, optimizers, averaged weights, arithmetic, data.

Invariant: initial weights are a function of the settings and the seed; whatever else a step draws comes from its `draws`.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganlab.models.families.base import AverageGradients, Dataset, Family, Shape
from ganlab.models.networks import initialise
from ganlab.optimizers import Adam, RMSprop
from ganlab.randomness import generator_for

if TYPE_CHECKING:
    from ganlab.models.train_settings import TrainSettings

_SEEDING = Lock()  # torch's random numbers belong to the whole process: replicas in threads are made one after another

Width = Annotated[int, Field(ge=1, le=4096)]


class GeneratorSettings(BaseModel):
    """Sizes of a generator; of points, perceptrons of these widths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    latent_dim: Annotated[int, Field(ge=1, le=65_536)] = 100
    """Length of the normal latent vector."""
    generator_width: Width = 64
    """Maps of the generator's last hidden layer; layers before it have 2, 4, … times as many."""
    kernel_size: Literal[4, 5] = 4
    """Kernel size of the strided convolutions; 5 in the published study."""
    refine: bool = False
    """Add a 3×3 convolution at every size of both networks (wanted at 8×8, where there are few layers)."""


class NetworkSettings(GeneratorSettings):
    """Sizes of a generator and a discriminator."""

    discriminator_width: Width = 64
    """Maps of the discriminator's first layer; layers after it have 2, 4, … times as many."""


class Optimization(NamedTuple):
    """Optimizer settings that were published with a model."""

    optimizer: Literal["adam", "rmsprop"]
    learning_rate: float
    betas: tuple[float, float] = (0.0, 0.0)


class TrainedFamily(Family):
    """A family whose every network is trained by gradients; a subclass says which networks, and what one step is."""

    optimization: Optimization
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    """Networks that samples come from, by averaged weights."""

    def __init__(
        self,
        settings: Any,
        shape: Shape,
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None:
        self.settings, self.shape, self.train, self.device = settings, tuple(shape), train, torch.device(device)
        self.average_gradients = average_gradients or (lambda parameters: None)
        with _SEEDING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator_for(seed, "weights").integers(2**63)))
            self.networks = nn.ModuleDict(self.build())
            for network in self.networks.values():
                self.initialise(network)
        self.networks.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averages = {name: EMA(self.networks[name], train.ema_decay) for name in self.averaged}

    @cached_property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimizer of each network, by its name; made when first asked for."""
        return {name: self._optimizer(name) for name in self.networks}

    @abstractmethod
    def build(self) -> Mapping[str, nn.Module]:
        """Make every network, by name; torch's random numbers come from the seed here."""

    def initialise(self, network: nn.Module) -> None:
        """Draw a network's first weights; torch's random numbers come from the seed here."""
        initialise(network)

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        kind, rate, betas = self.optimization
        rate = self.train.learning_rate or rate
        if "discriminator" in name:
            rate = self.train.discriminator_learning_rate or rate
        parameters = self.networks[name].parameters()
        if kind == "rmsprop":
            return RMSprop(parameters, lr=rate, foreach=True)
        return Adam(parameters, lr=rate, betas=betas, fused=True)

    def prepare(self, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
        return UnitImages(images, self.device) if len(self.shape) == 3 else Points(images, self.device)

    def normal(self, count: int, size: int, noise: np.random.Generator) -> Tensor:
        """Draw normal vectors, float32 (count, size), on the device."""
        return torch.from_numpy(noise.standard_normal((count, size), dtype=np.float32)).to(self.device)

    def uniform(self, count: int, size: int, noise: np.random.Generator) -> Tensor:
        """Draw vectors uniform in [0, 1), float32 (count, size), on the device."""
        return torch.from_numpy(noise.random((count, size), dtype=np.float32)).to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Run convolutions and matrix products within it in the precision that was asked for."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.train.precision == "bfloat16")

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """Compute no gradients of these networks' weights within it."""
        for name in names:
            self.networks[name].requires_grad_(False)
        yield
        for name in names:
            self.networks[name].requires_grad_(True)

    def optimizer_step(self, loss: Tensor, *names: str) -> None:
        """One optimizer step of these networks."""
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for name in names:
            self.average_gradients(self.networks[name].parameters())
            self.optimizers[name].step()

    def update_averages(self) -> None:
        """Move the averaged weights; the end of every step."""
        for average in self.averages.values():
            average.update()

    def to_array(self, items: Tensor) -> np.ndarray:
        """Generator's output as it is stored: images uint8 (n, C, H, W), points float32 (n, D)."""
        return to_uint8(items) if len(self.shape) == 3 else items.float().cpu().numpy()

    def state(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "averages": {name: average.network.state_dict() for name, average in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        for name, average in self.averages.items():
            average.network.load_state_dict(state["averages"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


class UnitImages:
    """uint8 images on a device, given out in [-1, 1] and in the memory layout of the convolutions."""

    def __init__(self, images: np.ndarray, device: torch.device | str) -> None:
        self._images = torch.from_numpy(np.ascontiguousarray(images)).to(device)

    def __getitem__(self, index: Tensor) -> Tensor:
        batch = self._images[index.to(self._images.device)].float().div_(127.5).sub_(1)
        return batch.contiguous(memory_format=torch.channels_last)


class Points:
    """float32 points on a device, given out as they are."""

    def __init__(self, points: np.ndarray, device: torch.device | str) -> None:
        self._points = torch.from_numpy(np.ascontiguousarray(points)).to(device)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self._points[index.to(self._points.device)]


class Labelled:
    """Items with their labels."""

    def __init__(self, items: Dataset, labels: np.ndarray, device: torch.device | str) -> None:
        self._items, self._labels = items, torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self._items[index], self._labels[index.to(self._labels.device)]


def to_uint8(images: Tensor) -> np.ndarray:
    """Images in [-1, 1], (n, C, H, W), to uint8 by rounding."""
    scaled = images.float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).contiguous().cpu().numpy()


class EMA:
    """An exponential moving average of a network: parameters and batch statistics alike.

    Sampling runs it in evaluation mode, so each image is a function of its own latent vector and images of one batch are
    independent, which the birthday test assumes.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.follow(network)

    def follow(self, network: nn.Module) -> None:
        """Average the tensors that the network has now; to be called again when it was given others."""
        self.pairs = [
            (mine, theirs)
            for mine, theirs in zip(self._tensors(self.network), self._tensors(network), strict=True)
            if mine.is_floating_point()
        ]

    @staticmethod
    def _tensors(network: nn.Module) -> list[Tensor]:
        return [*(p.detach() for p in network.parameters()), *network.buffers()]

    @torch.no_grad()
    def update(self) -> None:
        """Move one step towards the network's present values."""
        torch._foreach_lerp_([mine for mine, _ in self.pairs], [theirs for _, theirs in self.pairs], 1 - self.decay)
