"""What the training loop asks of a family, and the parts that adversarial families share.

Invariant: a family's state (weights, averages, optimizers) is all that a checkpoint needs; it holds no randomness.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

if TYPE_CHECKING:
    from ganlab.train import TrainSettings

NextBatch = Callable[[], Tensor]
AverageGradients = Callable[[Iterable[nn.Parameter]], None]


class Dataset(Protocol):
    """Training images on the family's device: indexed by a tensor of numbers, gives a batch ready for the networks."""

    def __getitem__(self, index: Tensor) -> Tensor: ...


class Family(ABC):
    """One kind of generative model: its networks, one training step and sampling.

    A subclass is made by ``Family(settings, image_shape, train, seed, device, average_gradients)`` and its weights are a
    function of these arguments.
    """

    Settings: ClassVar[type[BaseModel]]
    networks: nn.ModuleDict
    """Every trained network by name; `generator` and `discriminator` where there are such."""

    @abstractmethod
    def __init__(
        self,
        settings: Any,
        image_shape: tuple[int, int, int],
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None: ...

    @abstractmethod
    def prepare(self, images: np.ndarray) -> Dataset:
        """Take the training set, uint8 (N, C, H, W), to the device."""

    @abstractmethod
    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        """One optimizer step of the generator, with the discriminator steps before it; returns scalar losses."""

    @abstractmethod
    def sample(self, count: int, noise: np.random.Generator) -> np.ndarray:
        """Draw `count` independent images, uint8 (count, C, H, W)."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""


class UnitImages:
    """uint8 images on a device, given out in [-1, 1] and in the memory layout of the convolutions."""

    def __init__(self, images: np.ndarray, device: torch.device | str) -> None:
        self._images = torch.from_numpy(np.ascontiguousarray(images)).to(device)

    def __getitem__(self, index: Tensor) -> Tensor:
        batch = self._images[index.to(self._images.device)].float().div_(127.5).sub_(1)
        return batch.contiguous(memory_format=torch.channels_last)


def to_uint8(images: Tensor) -> np.ndarray:
    """Images in [-1, 1], (n, C, H, W), to uint8 by rounding."""
    scaled = images.float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).contiguous().cpu().numpy()


class Average:
    """An exponential moving average of a network: parameters and batch statistics alike.

    Sampling runs it in evaluation mode, so each image is a function of its own latent vector and images of one batch are
    independent, which the birthday test assumes.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._pairs = [
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
        torch._foreach_lerp_([mine for mine, _ in self._pairs], [theirs for _, theirs in self._pairs], 1 - self.decay)
