"""The published embedding: the top layer of a small classifier trained on the labelled real images.

Invariant: weights are a function of the images, labels and settings, and an image's features of the weights, the image
and its place among `BLOCK` neighbours: never of how many images are asked for at a time, or on how many threads.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ganlab.optimizers import AdamW
from ganlab.quality.embeddings.base import LARGEST_BLOCK as BLOCK
from ganlab.quality.embeddings.base import EmbeddingError, by_block, one_thread
from ganlab.randomness import generator_for

FEATURES = 128
SHARDS = 2  # parts of a batch, a thread each; a part of what the weights are a function of
_NETWORK = "one at half size and two, batch-normalised"  # the layers and training beside the settings
MOST_CLASSES = 1000
Progress = Callable[[int, int], None]


class ClassifierSettings(BaseModel):
    """Training settings of the classifier; the defaults are those of `collisions.embedding: classifier`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = 3
    """Times that every image is trained on, on average."""
    least_steps: int = 500
    """Steps of a small set of images, which then has more epochs."""
    batch_size: int = 256
    """Images of a step; a multiple of `SHARDS`."""
    learning_rate: float = 5e-3
    """The highest: it rises over the first quarter of the steps, and falls to 0 at the last."""
    weight_decay: float = 1e-2
    held_out: float = 0.1
    """Share of the images that is never trained on."""
    seed: int = 0


class Network(nn.Module):
    """Three convolutions, two fully connected layers, softmax (Arora & Zhang 2017, section 3), for any image shape.

    A 5×5 convolution of 32 maps at every other pixel; 3×3 convolutions of 64 and 128 maps, each followed by 2×2 max
    pooling; fully connected layers of 256 and `FEATURES` units; each but the last with batch normalisation, all with
    ReLU; class scores, which the softmax takes. Sizes and training are our choice.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        height, width = -(-height // 2), -(-width // 2)
        layers: list[nn.Module] = [nn.Conv2d(channels, 32, 5, stride=2, padding=2, bias=False)]
        layers += [nn.BatchNorm2d(32), nn.ReLU()]
        for before, maps in ((32, 64), (64, 128)):
            layers += [nn.Conv2d(before, maps, 3, padding=1, bias=False), nn.MaxPool2d(2, ceil_mode=True)]
            layers += [nn.BatchNorm2d(maps), nn.ReLU()]
            height, width = -(-height // 2), -(-width // 2)
        layers += [nn.Flatten(), nn.Linear(128 * height * width, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()]
        self.top = nn.Sequential(*layers, nn.Linear(256, FEATURES), nn.ReLU())
        self.scores = nn.Linear(FEATURES, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (n, classes) of images (n, C, H, W) in [-1, 1]."""
        scores: Tensor = self.scores(self.top(images))
        return scores


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier: plain arrays, cheap to send to a worker.

    Attributes
    ----------
    weights : mapping of str to float32 array
        Of `Network`.
    image_shape : tuple of int
        Channels, height, width of the images it takes.
    classes : int64 (K,)
        The labels it tells apart.
    held_out_accuracy, training_accuracy : float
        Share of images classified rightly, among those never trained on and those trained on.
    held_out_images : int
        Number of the former.
    """

    weights: Mapping[str, NDArray[np.float32]]
    image_shape: tuple[int, int, int]
    classes: NDArray[np.int64]
    held_out_accuracy: float
    training_accuracy: float
    held_out_images: int
    immediate: ClassVar[bool] = False
    about: ClassVar[str] = "the top layer of a classifier trained on the labelled real images"

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the weights: two embeddings of one fingerprint give the same features."""
        content = hashlib.sha256()
        for name, values in sorted(self.weights.items()):
            content.update(name.encode() + values.tobytes())
        return content.hexdigest()[:16]

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of images: the second fully connected layer after its ReLU, from which the class scores are made.

        Parameters
        ----------
        images : uint8 (n, C, H, W)
            Beginning at a multiple of `BLOCK` among their like, so that the same images always stand together.

        Returns
        -------
        float32 (n, FEATURES)
            Not negative, without unit.

        Raises
        ------
        ValueError
            Images of another type or shape than those it was trained on.
        """
        return self._by_block(images, self._network.top)

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(n,) int64: the likeliest class of each image, uint8 (n, C, H, W)."""
        likeliest = self._by_block(images, self._network).argmax(axis=1)
        return np.asarray(self.classes[likeliest], dtype=np.int64)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for example for numpy.savez."""
        weights = {f"weights.{name}": values for name, values in self.weights.items()}
        accuracy = np.array([self.held_out_accuracy, self.training_accuracy])
        return weights | {
            "image_shape": np.array(self.image_shape),
            "classes": self.classes,
            "accuracy": accuracy,
            "held_out_images": np.array(self.held_out_images),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Classifier":
        """Inverse of `to_arrays`. Raises ValueError for arrays that are no classifier's."""
        weights = {name.removeprefix("weights."): values for name, values in arrays.items() if "." in name}
        try:
            channels, height, width = (int(size) for size in arrays["image_shape"])
            held_out, training = (float(share) for share in arrays["accuracy"])
            made = cls(
                weights,
                (channels, height, width),
                arrays["classes"],
                held_out,
                training,
                int(arrays["held_out_images"]),
            )
            assert made._network is not None
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"no classifier's weights: {error}; train it again") from error
        return made

    def _by_block(self, images: NDArray[np.uint8], layers: nn.Module) -> NDArray[np.float32]:
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise EmbeddingError(
                f"images: got {images.dtype} of shape {images.shape[1:]}; allowed is uint8 of shape {self.image_shape}, "
                "which the classifier was trained on; resize them"
            )
        return by_block(images, BLOCK, lambda part: layers(_unit(part)).numpy())

    @cached_property
    def _network(self) -> Network:
        network = Network(self.image_shape, len(self.classes))
        network.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in self.weights.items()})
        return network.eval()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_network"}


def train_classifier(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    settings: ClassifierSettings | None = None,
    progress: Progress = lambda done, total: None,
) -> Classifier:
    """Train the classifier on labelled real images, on `SHARDS` CPU threads.

    Each step's batch is cut into `SHARDS` parts; a thread computes the gradient of its part, with batch statistics of
    that part, and the gradients are added in the order of the parts. So the weights are the same on any number of cores.

    Parameters
    ----------
    images : uint8 (N, C, H, W)
        Real images.
    labels : int64 (N,)
        The class of each.
    progress
        Called with (steps done, steps in all).

    Raises
    ------
    ValueError
        See `check_labelled`.
    """
    settings = settings or ClassifierSettings()
    labels = check_labelled(images, labels)
    steps = max(settings.least_steps, settings.epochs * len(images) // settings.batch_size)
    classes, target = np.unique(labels, return_inverse=True)
    order = generator_for(settings.seed, "held-out images").permutation(len(images))
    held_out, kept = np.split(order, [max(1, round(settings.held_out * len(images)))])
    targets = torch.from_numpy(target.astype(np.int64))
    shape = (images.shape[1], images.shape[2], images.shape[3])
    pool = ThreadPoolExecutor(SHARDS, initializer=_alone)
    with one_thread(), torch.random.fork_rng(devices=[]), pool as threads:
        torch.manual_seed(int(generator_for(settings.seed, "classifier weights").integers(2**63)))
        network = Network(shape, len(classes))
        parts = [_sharing(network) for _ in range(SHARDS)]
        optimizer = AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, steps, pct_start=0.25)
        for step in range(steps):
            draws = generator_for(settings.seed, "classifier batch", step)
            batch = kept[draws.integers(0, len(kept), settings.batch_size)]
            inputs = np.split(_moved(images[batch], draws), SHARDS)
            gradients = list(threads.map(_gradients, parts, inputs, targets[batch].chunk(SHARDS)))
            for values, *own in zip(network.parameters(), *gradients, strict=True):
                values.grad = sum(own[1:], start=own[0]) / SHARDS
            optimizer.step()
            rate.step()
            progress(step + 1, steps)
        for into, *own in zip(network.buffers(), *(part.buffers() for part in parts), strict=True):
            into.copy_(sum(own[1:], start=own[0]) / SHARDS)
    weights = {name: values.numpy().copy() for name, values in network.state_dict().items()}
    trained = Classifier(weights, shape, classes.astype(np.int64), 0.0, 0.0, len(held_out))
    some = kept[: 10 * len(held_out)]
    accuracy = [float((trained.classify(images[which]) == labels[which]).mean()) for which in (held_out, some)]
    return Classifier(weights, shape, trained.classes, accuracy[0], accuracy[1], len(held_out))


def _sharing(network: Network) -> Network:
    """A copy with the same parameters, in memory as well, and batch statistics of its own."""
    own = deepcopy(network)
    for mine, shared in zip(own.parameters(), network.parameters(), strict=True):
        mine.data = shared.data
    return own


def _gradients(network: Network, images: NDArray[np.uint8], targets: Tensor) -> tuple[Tensor, ...]:
    loss = nn.functional.cross_entropy(network(_unit(images)), targets)
    return torch.autograd.grad(loss, list(network.parameters()))


def _alone() -> None:
    torch.set_num_threads(1)


def _moved(images: NDArray[np.uint8], draws: np.random.Generator) -> NDArray[np.uint8]:
    """Each image shifted by up to a sixteenth of its side, its edge repeated; colour images mirrored half of the time."""
    count, channels, height, width = images.shape
    most = min(height, width) // 16
    down, right = draws.integers(-most, most + 1, (2, count, 1))
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    if channels == 3:
        mirrored = draws.random(count) < 0.5
        columns[mirrored] = columns[mirrored, ::-1]
    moved = images[np.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.transpose(0, 3, 1, 2)


def check_labelled(images: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The labels, or ValueError with the remedy when no classifier can be trained on these images and labels."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"got {images.dtype} of shape {images.shape}; allowed are uint8 images (N, C, H, W), or the embedding pixels"
        )
    if labels is None:
        raise ValueError("got images without labels; allowed are labelled images, or the embedding pixels")
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels: got {labels.dtype} {labels.shape}; allowed are integers, one for each of {len(images)} images"
        )
    classes = len(np.unique(labels))
    if not 2 <= classes <= MOST_CLASSES or len(images) < 20:
        raise ValueError(
            f"got {len(images)} images of {classes} classes; allowed are 20 or more images of 2 to {MOST_CLASSES} "
            "classes; use the embedding pixels"
        )
    return labels


def embedding_key(images_fingerprint: str, settings: ClassifierSettings | None = None) -> str:
    """Name of the classifier that these images and settings give, hexadecimal: what a cache keeps it under."""
    how = (settings or ClassifierSettings()).model_dump(mode="json")
    made = [images_fingerprint, how, FEATURES, BLOCK, SHARDS, _NETWORK]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def _unit(images: NDArray[np.uint8]) -> Tensor:
    values = torch.from_numpy(np.ascontiguousarray(images)).to(torch.float32, memory_format=torch.channels_last)
    return values.div_(127.5).sub_(1)
