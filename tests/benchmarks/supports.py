"""Distributions of images with a known p2, from which the coverage benchmark draws samples.

Invariant: `p2` is exact, so a sample's interval either holds the truth or does not.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse, stats
from scipy.spatial import cKDTree

from ganlab.data.datasets.digits import DigitsSettings
from ganlab.models.families.dcgan import DCGAN, DCGANSettings
from ganlab.models.train import TrainSettings, draw
from ganlab.pairs.closest import pairs_within
from ganlab.randomness import generator_for
from ganlab.statistics.intervals import largest_mode_size

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Statistics of the degrees that the intervals are made of, one entry per simulated sample."""

    ordered_pairs: Float
    ordered_triples: Float
    largest_degree: Float
    mode_size: Float

    @classmethod
    def of(cls, degrees: Float, images: Float, mode_size: Float | None = None) -> "Counts":
        """Statistics of samples (rows) of which ``images`` have each of these ``degrees``."""
        some = np.where(images > 0, degrees, 0)
        pairs = images * some
        size = largest_mode_size(some, images) if mode_size is None else mode_size
        return cls(pairs.sum(1), (pairs * (some - 1)).sum(1), some.max(1), size)


@dataclass(frozen=True)
class Support:
    """Images that repeat and images that never do; hubs among them are near others without being their duplicates.

    Parameters
    ----------
    repeating
        (J,) probabilities of the images that can repeat, hubs first.
    once
        (G,) probabilities of the groups of images that never repeat; by default one, with what is left of 1.
    near
        (H, J + G) of 0 and 1: which of them each hub is near; nothing for the hubs themselves.
    """

    repeating: Float
    once: Float | None = None
    near: Float | None = None

    @property
    def _masses(self) -> Float:
        left = [max(0.0, 1 - self.repeating.sum())] if self.once is None else self.once
        return np.concatenate([self.repeating, left])

    @property
    def _hubs(self) -> int:
        return 0 if self.near is None else len(self.near)

    @property
    def hub_mass(self) -> float:
        """Probability that an image is a hub."""
        return float(self.repeating[: self._hubs].sum())

    @property
    def p2(self) -> float:
        same = float((self.repeating**2).sum())
        return same if self.near is None else same + 2 * float(self._masses[: self._hubs] @ self.near @ self._masses)

    def draw(self, samples: int, replicates: int, rng: np.random.Generator) -> Counts:
        images = rng.multinomial(samples, self._masses, replicates).astype(float)
        degrees = images - 1
        degrees[:, len(self.repeating) :] = 0
        if self.near is None:
            # The largest mode is the most frequent image; sorting thousands of them would take most of the time.
            return Counts.of(degrees, images, np.maximum(images[:, : len(self.repeating)].max(1), 1))
        degrees += images[:, : self._hubs] @ self.near
        degrees[:, : self._hubs] += images @ self.near.T
        return Counts.of(degrees, images)


@dataclass(frozen=True)
class Line:
    """Normal points on a line, duplicates within a distance: duplication that is not transitive."""

    reach: float
    hub_mass: float = 0.0

    @property
    def p2(self) -> float:
        return float(2 * stats.norm.cdf(self.reach / math.sqrt(2)) - 1)

    def draw(self, samples: int, replicates: int, rng: np.random.Generator) -> Counts:
        rows = np.arange(replicates)[:, None] * 100.0
        points = np.sort(rng.standard_normal((replicates, samples)) + rows, axis=1).ravel()
        right = np.searchsorted(points, points + self.reach, side="right")
        degree = (right - np.searchsorted(points, points - self.reach) - 1).reshape(replicates, samples).astype(float)
        return Counts.of(degree, np.ones_like(degree))


@dataclass(frozen=True)
class Pool:
    """Images drawn with replacement from a pool of which every pair of duplicates is known.

    Parameters
    ----------
    size
        Images in the pool.
    pairs
        (m, 2) integers: each pair of different images that are duplicates, once. An image is its own duplicate.
    """

    size: int
    pairs: npt.NDArray[np.int32]
    hub_mass: float = 0.0
    _near: sparse.csr_matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows, columns = np.concatenate([self.pairs, self.pairs[:, ::-1]]).T
        ones = np.ones(len(rows), dtype=np.float32)
        near = sparse.csr_matrix((ones, (rows, columns)), shape=(self.size, self.size))
        object.__setattr__(self, "_near", near)

    @property
    def p2(self) -> float:
        return (self.size + 2 * len(self.pairs)) / self.size**2

    def draw(self, samples: int, replicates: int, rng: np.random.Generator) -> Counts:
        degrees, images = np.zeros((2, replicates, samples))
        for row in range(replicates):
            drawn = np.bincount(rng.integers(0, self.size, samples), minlength=self.size)
            kept = np.flatnonzero(drawn)
            degrees[row, : len(kept)] = self._near[kept] @ drawn + drawn[kept] - 1
            images[row, : len(kept)] = drawn[kept]
        return Counts.of(degrees, images)


AnySupport = Support | Line | Pool


def normalised(weights: Float) -> Support:
    return Support(weights / weights.sum())


def heavy(mass: float, others: int) -> Support:
    return Support(np.concatenate([[mass], np.full(others, (1 - mass) / max(others, 1))]))


def two_level(images: int, mass: float, others: int) -> Support:
    return Support(np.concatenate([np.full(images, mass / images), np.full(others, (1 - mass) / others)]))


def heavy_tail(*masses: float) -> Support:
    """Heavy images of these masses over a power law of 10,000."""
    tail = np.arange(1.0, 10_001) ** -0.5
    return Support(np.concatenate([masses, tail / tail.sum() * (1 - sum(masses))]))


def lognormal(sigma: float) -> Support:
    return normalised(np.exp(sigma * stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)))


def hub(mass: float, share: float = 1.0, others: int = 0) -> Support:
    """One image near a share of the images that never repeat, or near all of ``others`` equally likely images."""
    rest = np.full(others, (1 - mass) / max(others, 1))
    once = np.array([0.0]) if others else (1 - mass) * np.array([share, 1 - share])
    near = np.concatenate([[0], np.ones(others), np.ones(len(once)) if others else [1, 0]])
    return Support(np.append(mass, rest), once, near[None])


def stars(hubs: int, hub_mass: float, satellite_mass: float) -> Support:
    """Hubs of equal mass, each near satellites of its own that never repeat; the other images are near none."""
    once = np.append(np.full(hubs, satellite_mass / hubs), 1 - hub_mass - satellite_mass)
    near = np.concatenate([np.zeros((hubs, hubs)), np.eye(hubs), np.zeros((hubs, 1))], axis=1)
    return Support(np.full(hubs, hub_mass / hubs), once, near)


def normal_points(dimensions: int, p2: float, size: int = 50_000) -> Pool:
    """Pool of normal points that are duplicates within the distance of about this p2."""
    points = np.random.default_rng(dimensions).standard_normal((size, dimensions))
    distance = math.sqrt(2 * stats.chi2.ppf(p2, dimensions))
    return Pool(size, cKDTree(points).query_pairs(distance, output_type="ndarray").astype(np.int32))


def trained_gan(file: Path, size: int = 100_000, distance: float = 191.6) -> Pool:
    """Pool of a DCGAN trained on 8×8 digits; its pairs are read from ``file``, which is written first if there is none.

    The distance is the automatic threshold of the digits.
    """
    if not file.exists():
        images = DigitsSettings().load().images
        settings = TrainSettings(steps=2000, learning_rate=0.001)
        model = DCGANSettings(latent_dim=32, generator_width=32, discriminator_width=16, refine=True)
        family = DCGAN(model, images.shape[1:], settings, 0, "cpu")
        dataset = family.prepare(images, None)
        for step in range(1, settings.steps + 1):
            draws = generator_for(0, "train", step)
            chosen = torch.from_numpy(draws.integers(0, len(images), settings.batch_size))
            family.step(lambda chosen=chosen: dataset[chosen], draws)
        drawn = draw(family, size, generator_for(0, "sample", settings.steps)).images
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, pairs_within(drawn, distance).index.astype(np.int32))
    return Pool(size, np.load(file))
