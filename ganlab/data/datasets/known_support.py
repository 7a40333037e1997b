"""Data of known diversity: images drawn from a pool of known size, with known probabilities.

Invariant: the pool and the draws are a function of the settings and of the base's images.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from ganlab.data.datasets.base import (
    Dataset,
    DatasetSettings,
    FileIdentity,
    OpenArray,
    Progress,
    RealSettings,
    silent,
)
from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.datasets.registry import any_of
from ganlab.randomness import generator_for

UInt8 = npt.NDArray[np.uint8]
Law = Literal["uniform", "zipf", "geometric", "one-heavy"]

if TYPE_CHECKING:
    RealDataset = RealSettings
else:
    RealDataset = any_of(RealSettings)


class KnownSupportSettings(DatasetSettings):
    """Images drawn with replacement from a pool of known size: data whose diversity is known exactly."""

    name: Literal["known-support"] = "known-support"
    base: RealDataset = DigitsSettings()
    """Dataset whose images fill the pool; when the pool is larger than it, the pool is random pictures of its shape."""
    pool: Annotated[int, Field(ge=1, le=10_000_000)]
    """Number of distinct images."""
    images: Annotated[int, Field(ge=2, le=100_000_000)] = 10_000
    """Number of images drawn."""
    law: Law = "uniform"
    """Probabilities of the pool's images."""
    exponent: Annotated[float, Field(gt=0, le=10)] = 1.0
    """For zipf: the k-th image has probability ∝ k^−exponent."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """For geometric: each image's probability over that of the one before."""
    heavy_mass: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """For one-heavy: probability of the first image; the others share the rest."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Relative probabilities of the pool's images, one each, instead of a law."""
    pixel_noise: Annotated[int, Field(ge=0, le=64)] = 1
    """Every pixel moves by a whole number drawn uniformly from −pixel_noise to pixel_noise."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the pool and the draws."""

    @field_validator("base")
    @classmethod
    def _all_of_it(cls, base: RealSettings) -> RealSettings:
        if base.held_out:
            raise ValueError(
                f"got held_out: {base.held_out}; allowed: no held_out here, since the images drawn are no real ones"
            )
        return base

    @field_validator("weights")
    @classmethod
    def _one_each(cls, weights: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        pool = info.data.get("pool")
        if weights is not None and pool is not None and (len(weights) != pool or not sum(weights) > 0):
            raise ValueError(
                f"got {len(weights)} numbers of sum {sum(weights):g}; allowed: pool = {pool} numbers with a sum above 0"
            )
        return weights

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        with _of_base():
            base = self.base.load(progress, open_array)
        pool = known_support_pool(base.images, self.pool, self.seed)
        if self.weights is None:
            weights = known_support_weights(
                self.pool, self.law, exponent=self.exponent, ratio=self.ratio, heavy_mass=self.heavy_mass
            )
        else:
            weights = np.array(self.weights) / np.sum(self.weights)
        draws = generator_for(self.seed, "known-support draws")
        chosen = draws.choice(self.pool, self.images, p=weights).astype(np.int64)
        images = pool[chosen]
        if (most := self.pixel_noise) > 0:
            moved = images.astype(np.int16) + draws.integers(-most, most + 1, images.shape, dtype=np.int16)
            images = np.clip(moved, 0, 255).astype(np.uint8)
        return Dataset(images, chosen, skipped=base.skipped, read=base.read)

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return self.base.image_shape(open_array)

    def image_count(self, open_array: OpenArray | None = None) -> int:
        with _of_base():
            self.base.image_count(open_array)  # names a file that is missing
        return self.images

    def label_count(self) -> int | None:
        return self.pool

    def files(self) -> list[FileIdentity]:
        with _of_base():
            return self.base.files()

    def identity(self) -> dict[str, object]:
        """Settings that decide the images: all but the place of the files."""
        return {**super().identity(), "base": self.base.identity()}

    @property
    def limited(self) -> bool:
        """True if only some of the base's images are read, drawn at random."""
        return self.base.limited


@contextmanager
def _of_base() -> Iterator[None]:
    """Name the base in the errors of reading it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"base.{error}") from error


def known_support_pool(images: UInt8, m: int, seed: int) -> UInt8:
    """Choose a pool of `m` different images.

    Parameters
    ----------
    images : uint8 array of shape (N, C, H, W)
        The real images. Exact copies among them count once.
    m
        Size of the pool.
    seed
        Decides which.

    Returns
    -------
    uint8 array of shape (m, C, H, W)
        Real images where there are enough; else random pictures, every pixel uniform from 0 to 255.
    """
    draws = generator_for(seed, "known-support pool")
    distinct: dict[bytes, int] = {}
    for index, image in enumerate(images):
        distinct.setdefault(blake2b(image.tobytes(), digest_size=16).digest(), index)
    if m <= len(distinct):
        chosen = draws.permutation(list(distinct.values()))[:m]
        return np.take(images, chosen, axis=0)
    # With 64 pixels or more, two equal ones have a chance below m² 256⁻⁶⁴.
    return draws.integers(0, 256, (m, *images.shape[1:]), dtype=np.uint8)


def known_support_weights(
    m: int, law: Law = "uniform", *, exponent: float = 1.0, ratio: float = 0.99, heavy_mass: float = 0.1
) -> npt.NDArray[np.float64]:
    """Probabilities of a pool's `m` images, float64 (m,), falling, with sum 1.

    uniform: all 1/m. zipf: ∝ k^−exponent, k = 1 … m. geometric: ∝ ratio^k. one-heavy: the first `heavy_mass`, the
    others equal shares of the rest.
    """
    ranks = np.arange(m, dtype=np.float64)
    if m == 1:
        return np.ones(1)
    laws: dict[Law, Callable[[], npt.NDArray[np.float64]]] = {
        "uniform": lambda: np.ones(m),
        "zipf": lambda: (ranks + 1) ** -exponent,
        "geometric": lambda: ratio**ranks,
        "one-heavy": lambda: np.where(ranks == 0, heavy_mass, (1 - heavy_mass) / (m - 1)),
    }
    weights = laws[law]()
    weights /= weights.sum()
    return weights
