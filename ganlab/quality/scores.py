"""Scores of a sample beside its duplicates: manifold scores, Fréchet distance, kernels, counts at all thresholds.

Invariant: a function of the images alone: of real images those looked at follow from their content, so that the order in
which they are stored changes nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ganlab.pairs.content import content_order, take
from ganlab.pairs.exact import Array, Images, Index, Read, as_images
from ganlab.quality.detail import DetailBasis, is_picture
from ganlab.quality.frechet import MOST_FEATURES, Moments, frechet_at_infinity, frechet_distance, moments_of
from ganlab.quality.kernels import bandwidth_of, kid_blocks, products_of, rke, vendi_score
from ganlab.quality.manifold import NEIGHBOURS, Balls, ManifoldScores, balls_of, manifold_scores
from ganlab.statistics.correlation import CorrelationCurve, choose_distances, correlation_curve, curve_and_degrees
from ganlab.statistics.diversity import FACTORS
from ganlab.statistics.duplicate_distance import DuplicateDistance

MOST_IMAGES = 10_000  # of each set: what balls of neighbours are published for (Naeem et al. 2020, section 5)
MOST_BYTES = 2**28  # and not more than this of them
_BLOCK = 4096
_PLAIN = ("frechet", "frechet_at_infinity", "vendi", "rke", "kid_blocks", "without_ball", "rate_degrees")
"""Fields of `Scores` that are numbers or arrays."""


@dataclass(frozen=True, eq=False)
class LookedAt:
    """Images that are looked at, with what several scores are made of.

    Attributes
    ----------
    images : array (m, ...)
        uint8 or float32.
    """

    images: Array

    @cached_property
    def rows(self) -> Images:
        """The images, ready for comparison."""
        return as_images(self.images)

    @cached_property
    def products(self) -> npt.NDArray[np.float64]:
        """See `ganlab.quality.kernels.products_of`."""
        return products_of(self.images)

    def first(self, images: int) -> "LookedAt":
        """The first of the images; these themselves where that is all."""
        return self if images >= len(self.images) else LookedAt(self.images[:images])


@dataclass(frozen=True, eq=False)
class RealSide:
    """Prepared real images that samples of one size are compared with.

    Attributes
    ----------
    some : LookedAt
        Real images, drawn without replacement, as many as samples are looked at.
    everyone : LookedAt
        All real images that are looked at, of which those are the first.
    balls : Balls or None
        Theirs; None when there are too few images.
    moments : Moments or None
        Of all real images; None when they have more than `MOST_FEATURES` values.
    distances : float64 (t,)
        Where the curves are drawn.
    rate_distances : float64 (r,)
        Distances at which the duplicates of each image are counted.
    bandwidth : float
        Of RKE.
    """

    some: LookedAt
    everyone: LookedAt
    balls: Balls | None
    moments: Moments | None
    distances: npt.NDArray[np.float64]
    rate_distances: npt.NDArray[np.float64]
    bandwidth: float

    @property
    def images(self) -> Array:
        """The real images of `some`."""
        return self.some.images


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one sample.

    Attributes
    ----------
    manifold : ManifoldScores or None
        None when there are not more images than neighbours, or real images without a ball.
    frechet : float
        Fréchet distance to the real images (of real images: of one half to the other); NaN where it cannot be had.
    curve : CorrelationCurve
        Of at most `MOST_IMAGES` of the images, however many real ones there are.
    without_ball : int
        Real images that have so many exact copies that their ball has radius 0 and holds ties alone.
    rate_degrees : int64 (r, m)
        Duplicates of each image of the curve among these, at each of the distances of `RealSide.rate_distances`.
    detail : float64 (2, m) or None
        Fine and finest detail (`ganlab.quality.detail`) of the images looked at; None of what is no picture.
    frechet_at_infinity, vendi, rke : float
        See `ganlab.quality.frechet` and `ganlab.quality.kernels`, of the images looked at; NaN where they cannot be had.
    kid_blocks : float64 (b,)
        Kernel Inception distance of blocks of these; empty where it cannot be had.
    """

    manifold: ManifoldScores | None
    frechet: float
    curve: CorrelationCurve
    without_ball: int = 0
    rate_degrees: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    detail: npt.NDArray[np.float64] | None = None
    frechet_at_infinity: float = math.nan
    vendi: float = math.nan
    rke: float = math.nan
    kid_blocks: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def to_arrays(self) -> dict[str, Array]:
        """Plain arrays by name, for example for numpy.savez."""
        arrays: dict[str, Array] = {name: np.asarray(value) for name, value in vars(self.curve).items()}
        for name in _PLAIN:
            arrays[name] = np.asarray(getattr(self, name))
        if self.detail is not None:
            arrays["detail"] = self.detail
        if self.manifold is not None:
            arrays |= {f"manifold.{name}": np.asarray(value) for name, value in vars(self.manifold).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Scores":
        """Restore from the arrays of `to_arrays`."""
        names = {name.removeprefix("manifold."): value.item() for name, value in arrays.items() if "." in name}
        curve = CorrelationCurve(arrays["distances"], arrays["within"], arrays["pairs"])
        manifold = ManifoldScores(**names) if names else None
        plain: dict[str, Any] = {
            name: arrays[name].item() if arrays[name].ndim == 0 else arrays[name] for name in _PLAIN
        }
        return cls(manifold=manifold, curve=curve, detail=arrays.get("detail"), **plain)


def scored_images(generated: int, real: int, image_bytes: int) -> int:
    """Number of images used of each set: equally many, as published scores are of equal sets."""
    return max(2, min(generated, real, MOST_IMAGES, MOST_BYTES // image_bytes))


def detail_basis(read: Read, count: int, order: Index) -> DetailBasis | None:
    """Learn where real images have little detail; None of what is no picture, and of a single image.

    Half of the images looked at are left to compare with: those that directions were chosen by have less detail there.

    Parameters
    ----------
    read, count, order
        As for `real_side`, of the pictures themselves in every space.
    """
    some = _looked_at(read, count, order)
    return DetailBasis.learn(some[: len(some) // 2]) if is_picture(some) and len(some) > 1 else None


def with_detail(
    scores: Scores,
    basis: DetailBasis | None,
    read: Read,
    count: int,
    order: Index | None = None,
    *,
    learnt: bool = False,
) -> Scores:
    """Add the fine detail of images to their scores.

    Parameters
    ----------
    read, count, order
        As for `score`, of the pictures themselves in every space.
    learnt
        These are the images that `detail_basis` learnt from: only the others of those looked at are taken.
    """
    if basis is None:
        return scores
    some = _looked_at(read, count, order)
    return replace(scores, detail=basis.detail(some[len(some) // 2 :] if learnt else some))


def _looked_at(read: Read, count: int, order: Index | None) -> Array:
    images = scored_images(count, count, read(0, 1).nbytes)
    return read(0, min(images, count)) if order is None else take(read, order[:images])


def real_side(
    read: Read,
    count: int,
    images: int,
    threshold: float,
    order: Index | None = None,
    rates: Sequence[DuplicateDistance] = (),
    distances: npt.NDArray[np.float64] | None = None,
) -> RealSide:
    """Prepare the real images for samples of which `images` are looked at.

    Parameters
    ----------
    read, count
        `read(start, stop)` gives real images [start, stop) of `count`, uint8 or float32.
    images
        See `scored_images`.
    threshold
        Distance of duplicates, which will be one of the distances of the curves.
    order : int64 (count,), optional
        Numbers of the images in random order, if known; by default that of `ganlab.pairs.content.content_order`.
    rates
        Distances of rates of real pairs: the curves have their distances and the ends of these, and 0.9 and 1.1 of the
        threshold.
    distances
        Distances of the curves, if they are decided already.
    """
    order = content_order(read, count) if order is None else order
    everyone = LookedAt(take(read, order[: scored_images(count, count, read(0, 1).nbytes)]))
    some = everyone.first(images)
    balls = balls_of(some.rows) if len(some.images) > NEIGHBOURS else None
    moments = moments_of(read, count) if some.rows.features <= MOST_FEATURES else None
    if distances is None:
        distances = choose_distances(everyone.images, threshold, needed_distances(threshold, rates))
    at_rates = np.array([each.distance for each in rates], np.float64)
    bandwidth = bandwidth_of(everyone.images, everyone.products)
    return RealSide(some, everyone, balls, moments, distances, at_rates, bandwidth)


def needed_distances(threshold: float, rates: Sequence[DuplicateDistance]) -> list[float]:
    """Distances that the curves have beside those that are evenly spaced: see `real_side`."""
    ends = (end for each in rates for end in each.distances)
    return [threshold, *np.multiply(FACTORS, threshold).tolist(), *ends]


def score(read: Read, count: int, real: RealSide, order: Index | None = None) -> Scores:
    """Score a sample of generated images: its first ones, as many as `real` was prepared for; pairs are of more of them.

    Parameters
    ----------
    read, count
        `read(start, stop)` gives images [start, stop) of `count`, of the type and shape of the real ones.
    order : int64 (count,), optional
        Numbers of the images in random order; by default as they are stored, for images that are independent so.
    """
    images = min(count, len(real.images))
    looked = max(images, scored_images(count, count, read(0, 1).nbytes))
    everyone = LookedAt(read(0, looked) if order is None else take(read, order[:looked]))
    first = everyone.first(images)
    without_ball = 0 if real.balls is None else int((real.balls.squared_radii == 0).sum())
    manifold = None
    if real.balls is not None and not without_ball and images > NEIGHBOURS:
        manifold = manifold_scores(real.some.rows, first.rows, real_balls=real.balls)
    frechet = at_infinity = math.nan
    if real.moments is not None and min(count, real.moments.count) >= 2:
        frechet = frechet_distance(moments_of(read, count), real.moments)
        at_infinity = frechet_at_infinity(first.images, real.moments)
    curve, rate_degrees = curve_and_degrees(everyone.rows, real.distances, real.rate_distances)
    return Scores(
        manifold,
        frechet,
        curve,
        without_ball,
        rate_degrees,
        frechet_at_infinity=at_infinity,
        vendi=vendi_score(first.images, first.products),
        rke=rke(first.images, real.bandwidth, first.products),
        kid_blocks=kid_blocks(real.images, first.images),
    )


def score_real(
    read: Read,
    count: int,
    distances: npt.NDArray[np.float64],
    order: Index | None = None,
    bandwidth: float = math.nan,
    everyone: LookedAt | None = None,
) -> Scores:
    """Score the real images themselves: their curve, and the Fréchet distance between random halves of them.

    Parameters
    ----------
    read, count, order
        As for `real_side`.
    distances : float64 (t,)
        Where the curve is drawn.
    bandwidth
        Of RKE.
    everyone
        Those of `real_side`, where they are at hand.
    """
    order = content_order(read, count) if order is None else order
    if everyone is None:
        everyone = LookedAt(take(read, order[: scored_images(count, count, read(0, 1).nbytes)]))
    features, frechet = everyone.rows.features, math.nan
    if features <= MOST_FEATURES and count >= 4:
        half = np.zeros(count, dtype=bool)
        half[order[: count // 2]] = True
        halves = [Moments.create(features)] * 2
        for start in range(0, count, _BLOCK):
            images, own = read(start, min(start + _BLOCK, count)), half[start : start + _BLOCK]
            halves = [halves[0].add(images[own]), halves[1].add(images[~own])]
        frechet = frechet_distance(*halves)
    images, products = everyone.images, everyone.products
    return Scores(
        None,
        frechet,
        correlation_curve(everyone.rows, distances),
        vendi=vendi_score(images, products),
        rke=rke(images, bandwidth, products),
    )
