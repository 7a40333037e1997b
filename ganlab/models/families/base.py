"""Interface of a family of generative models to the training loop.

Invariant: a family's state is all that a checkpoint needs; it holds no randomness.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor, nn

if TYPE_CHECKING:
    from ganlab.models.train_settings import TrainSettings

Shape = tuple[int, ...]
"""Shape of one image (channels, height, width) or of one point (coordinates,)."""
NextBatch = Callable[[], Any]
"""Gives the next training batch: a Tensor, or (Tensor, labels) where the family is `labelled`."""
AverageGradients = Callable[[Iterable[nn.Parameter]], None]


class Dataset(Protocol):
    """Training data on the family's device: indexed by a tensor of numbers, gives a batch ready for the networks."""

    def __getitem__(self, index: Tensor) -> Any: ...


class GeneratedBatch(NamedTuple):
    """Generated images, uint8 (n, C, H, W), or points, float32 (n, D), with labels, int64 (n,), if the family has any."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None = None


class Family(ABC):
    """One kind of generative model: its networks, one training step and sampling.

    A subclass is made by ``Family(settings, shape, train, seed, device, average_gradients)`` and its weights are a
    function of these arguments.
    """

    Settings: ClassVar[type[BaseModel]]
    labelled: ClassVar[bool] = False
    """True if the family is trained on labels and generates a label with every image."""
    trained: ClassVar[bool] = True
    """True if its weights come from its steps, or its `prepare`, and not from a user's file or code."""
    RENAMED: ClassVar[Mapping[str, str]] = {
        "measures": "diagnostics",
        "descend": "optimizer_step",
        "arithmetic": "autocast",
    }
    """Methods of version 0.1 that nothing calls any more, with their names of today."""
    networks: nn.ModuleDict
    """Every trained network by name; `generator`, `discriminator` and `encoder` where there are such."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a subclass that overrides a method by its old name."""
        super().__init_subclass__(**options)
        for old, new in cls.RENAMED.items():
            if old in vars(cls):
                raise TypeError(f"{cls.__name__}.{old}: this method is called {new} since version 0.2")

    @abstractmethod
    def __init__(
        self,
        settings: Any,
        shape: Shape,
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None: ...

    @classmethod
    def check(cls, settings: Any, shape: Shape, classes: int | None) -> None:
        """Raise ValueError for data that the family can't learn: items of `shape`, labelled 0 to classes − 1, or not."""
        if cls.labelled and classes is None:
            raise ValueError(
                f"got {settings.family}, which learns from labels, but the dataset has none; allowed: "
                "a dataset with classes, or a family that needs none"
            )

    @classmethod
    def gives_labels(cls, settings: Any) -> bool:
        """Return True if every image that it draws comes with a label."""
        return cls.labelled

    @abstractmethod
    def prepare(self, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
        """Take the training set, uint8 (N, C, H, W) or float32 (N, D), and its labels, int64 (N,), to the device."""

    @abstractmethod
    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        """One optimizer step of the generator, with the discriminator steps before it; returns scalars to be logged."""

    @abstractmethod
    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        """Draw `count` independent images or points."""

    def pass_first_phase(self) -> None:  # noqa: B027
        """Skip steps that are unlike most, if the family begins with such, so that one timed now is typical."""

    def diagnostics(self, images: np.ndarray, noise: np.random.Generator) -> Mapping[str, float]:
        """Numbers of the family's own, reported at each snapshot; `images` is the training set."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """State from which training continues bit for bit."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; called before `prepare`."""
