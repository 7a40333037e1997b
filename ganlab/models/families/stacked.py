"""Stacked GAN (Huang et al. 2017): one generator makes a classifier's features of a class, the next an image of these.

Invariant: training has three phases, told apart by the number of steps alone: the classifier, then each generator by
itself on real features, then both joined, as they are sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot, softplus

from ganlab.models.families.base import Dataset, GeneratedBatch, NextBatch, Shape
from ganlab.models.families.trained import Labelled, NetworkSettings, Optimization, TrainedFamily, Width
from ganlab.models.networks import Perceptron, discriminator_for, generator_for
from ganlab.optimizers import Adam

JOINT_GRADIENT = 0.01  # share of the lower generator's loss that reaches the upper one, as in the authors' code


class StackedSettings(NetworkSettings):
    """Networks of a stacked GAN; `latent_dim` is the noise of the lower generator, which makes the image."""

    family: Literal["stacked"] = "stacked"
    latent_dim: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Length of the noise of the lower generator, from features to image."""
    upper_latent_dim: Annotated[int, Field(ge=1, le=65_536)] = 50
    """Length of the noise of the upper generator, from class to features."""
    upper_width: Width = 512
    """Units of the hidden layers of the upper generator and discriminator."""
    classes: Annotated[int, Field(ge=2, le=10_000)] = 10
    """Number of classes: labels are 0 to classes − 1."""
    features: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Units of the classifier's fully connected layer: what the upper generator makes."""
    classifier_steps: Annotated[int, Field(ge=1)] = 1000
    """First steps of the training, in which the classifier alone is trained."""
    joint_after: Annotated[int, Field(ge=0)] | None = None
    """Steps after the classifier's from which the generators are trained joined; the default is never."""
    conditional_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss for features that the classifier does not find again."""
    entropy_weight: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the loss for noise that the discriminator can't recover."""


class Classifier(nn.Module):
    """Images to `features` (n, features) and logits of the classes: conv64-5, pool, conv128-5, pool, fc, softmax."""

    trained_steps: Tensor

    def __init__(self, shape: Shape, features: int, classes: int) -> None:
        super().__init__()
        channels, side = shape[0], shape[1] // 4
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128 * side * side, features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)
        # Steps of the whole training so far: where a checkpoint, which keeps buffers, goes on.
        self.register_buffer("trained_steps", torch.zeros((), dtype=torch.int64))

    def _apply(self, function: Any, recurse: bool = True) -> Classifier:
        """Change tensors, as `to` does, but the counter, which stays on the processor: each step reads it."""
        steps = self.trained_steps
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        self.trained_steps = steps
        return self


def _embedding(inputs: int, width: int) -> nn.Sequential:
    """A layer of its own for each input, normalised, so that neither is drowned by the other."""
    return nn.Sequential(nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())


class UpperGenerator(nn.Module):
    """Classes (n, K), one-hot, and noise (n, upper_latent_dim) to the classifier's features, which are never negative."""

    def __init__(self, classes: int, latent_dim: int, width: int, features: int) -> None:
        super().__init__()
        self.of_class, self.of_noise = _embedding(classes, width), _embedding(latent_dim, width)
        self.layers = Perceptron(2 * width, width, features, hidden=2, normalise="batch")

    def forward(self, classes: Tensor, noise: Tensor) -> Tensor:
        features: Tensor = self.layers(torch.cat([self.of_class(classes), self.of_noise(noise)], dim=1))
        return features.relu()


class LowerGenerator(nn.Module):
    """Features and noise (n, latent_dim) to images."""

    def __init__(
        self, shape: Shape, features: int, latent_dim: int, width: int, kernel_size: int, refine: bool
    ) -> None:
        super().__init__()
        embedded = max(1, features // 2)
        self.of_noise = _embedding(latent_dim, embedded)
        self.layers = generator_for(shape, features + embedded, width, kernel_size, refine)

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        images: Tensor = self.layers(torch.cat([features, self.of_noise(noise)], dim=1))
        return images


def realness(logits: Tensor) -> Tensor:
    """Logit (n,) of "real" of a discriminator that gives class logits (n, K) (Salimans et al. 2016, section 5)."""
    return logits.logsumexp(dim=1)


def adversarial_loss(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """Discriminator's adversarial loss from class logits (n, K); half of each side, as in the authors' code."""
    return 0.5 * (softplus(-realness(on_real)).mean() + softplus(realness(on_fake)).mean())


class Stacked(TrainedFamily):
    """The family; see `Family` for the arguments. The lower networks are `generator` and `discriminator`.

    Samples are of the data's classes, each as likely. Weights of losses, noise and the joint gradient are those of the
    authors' code; the generators' adversarial loss is the paper's, −log D, with one step of each network.
    """

    Settings = StackedSettings
    labelled = True
    optimization: ClassVar = Optimization("adam", 1e-4, (0.5, 0.999))  # type: ignore[misc]
    averaged = ("generator", "upper_generator")

    @classmethod
    def check(cls, settings: StackedSettings, shape: Shape, classes: int | None) -> None:
        super().check(settings, shape, classes)
        if len(shape) != 3:
            raise ValueError("got stacked, whose classifier is of images, but the dataset has points; allowed: images")
        if classes is not None and classes > settings.classes:
            raise ValueError(
                f"got classes = {settings.classes}, but the dataset has {classes}; allowed: {classes} or more"
            )

    def build(self) -> Mapping[str, nn.Module]:
        s = self.settings
        self.present = np.arange(s.classes)  # those of the data, when it is known
        self.classifier = Classifier(self.shape, s.features, s.classes)
        self.upper_generator = UpperGenerator(s.classes, s.upper_latent_dim, s.upper_width, s.features)
        self.generator = LowerGenerator(
            self.shape, s.features, s.latent_dim, s.generator_width, s.kernel_size, s.refine
        )
        self.upper_discriminator = Perceptron(
            s.features, s.upper_width, s.classes + s.upper_latent_dim, hidden=2, normalise="none"
        )
        self.discriminator = discriminator_for(
            self.shape, s.discriminator_width, s.kernel_size, s.refine, "batch", s.classes + s.latent_dim
        )
        return {
            "classifier": self.classifier,
            "upper_generator": self.upper_generator,
            "generator": self.generator,
            "upper_discriminator": self.upper_discriminator,
            "discriminator": self.discriminator,
        }

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        if name == "classifier":
            return Adam(self.classifier.parameters(), lr=1e-3, fused=True)
        return super()._optimizer(name)

    def prepare(self, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
        assert labels is not None, "stacked learns from labels"
        self.present = np.unique(labels)
        return Labelled(super().prepare(images), labels, self.device)

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        s = self.settings
        items, labels = next_batch()
        self.classifier.trained_steps += 1
        steps = int(self.classifier.trained_steps) - s.classifier_steps
        if steps <= 0:
            return self._train_classifier(items, labels)
        joint = s.joint_after is not None and steps > s.joint_after
        return self._train_generators(items, labels, joint, draws)

    def _train_classifier(self, items: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        with self.autocast():
            loss = cross_entropy(self.classifier.head(self.classifier.features(items)).float(), labels)
        self.optimizer_step(loss, "classifier")
        return {"classifier_loss": loss.detach()}

    def _train_generators(
        self, items: Tensor, labels: Tensor, joint: bool, draws: np.random.Generator
    ) -> Mapping[str, Tensor]:
        s, classes = self.settings, self.settings.classes
        # Uniform noise, as in the authors' code: the weight of the entropy loss is for its variance.
        upper_noise = self.uniform(len(items), s.upper_latent_dim, draws)
        lower_noise = self.uniform(len(items), s.latent_dim, draws)
        with self.frozen("classifier"), self.autocast():
            with torch.no_grad():
                features = self.classifier.features(items).float()
            made = self.upper_generator(one_hot(labels, classes).float(), upper_noise).float()
            given = made.detach() + JOINT_GRADIENT * (made - made.detach()) if joint else features
            fake = self.generator(given, lower_noise)

            def judged(name: str, real: Tensor, fake: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
                on_real, on_fake = self.networks[name](real).float(), self.networks[name](fake.detach()).float()
                adversarial = adversarial_loss(on_real[:, :classes], on_fake[:, :classes])
                recovered = mse_loss(on_fake[:, classes:], noise)
                return adversarial, cross_entropy(on_real[:, :classes], labels) + s.entropy_weight * recovered

            upper, upper_rest = judged("upper_discriminator", features, made, upper_noise)
            lower, lower_rest = judged("discriminator", items, fake, lower_noise)
        self.optimizer_step(upper + upper_rest + lower + lower_rest, "upper_discriminator", "discriminator")
        with self.frozen("classifier", "upper_discriminator", "discriminator"):
            with self.autocast():
                on_made, on_fake = self.upper_discriminator(made).float(), self.discriminator(fake).float()
                upper_conditional = cross_entropy(self.classifier.head(made).float(), labels)
                lower_conditional = mse_loss(self.classifier.features(fake).float(), given)
            on_upper = softplus(-realness(on_made[:, :classes])).mean()
            on_lower = softplus(-realness(on_fake[:, :classes])).mean()
            entropy = mse_loss(on_made[:, classes:], upper_noise) + mse_loss(on_fake[:, classes:], lower_noise)
            conditional = upper_conditional + lower_conditional
            loss = on_upper + on_lower + s.conditional_weight * conditional + s.entropy_weight * entropy
            self.optimizer_step(loss, "upper_generator", "generator")
        self.update_averages()
        return {
            "generator_loss": on_lower.detach(),
            "discriminator_loss": lower.detach(),
            "upper_generator_loss": on_upper.detach(),
            "upper_discriminator_loss": upper.detach(),
            "conditional_loss": conditional.detach(),
            "entropy_loss": entropy.detach(),
        }

    def pass_first_phase(self) -> None:
        self.classifier.trained_steps.fill_(self.settings.classifier_steps)

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        s = self.settings
        labels = self.present[noise.integers(0, len(self.present), count)]
        classes = one_hot(torch.from_numpy(labels).to(self.device), s.classes).float()
        with self.autocast():
            upper, lower = self.averages["upper_generator"].network, self.averages["generator"].network
            features = upper(classes, self.uniform(count, s.upper_latent_dim, noise))
            items = lower(features, self.uniform(count, s.latent_dim, noise))
        return GeneratedBatch(self.to_array(items), labels)
