"""Quality gate: whether samples are good enough for figures on their diversity, and which fault they have if not.

Invariant: a fault is one only where it is both large and significant, so that neither a few images fail by chance nor a
million by a trifle.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import special

from ganlab.statistics.intervals import wilson_interval

COPY_QUANTILE, FAR_QUANTILE = 0.01, 0.95  # of held-out images' distances to their nearest training image
LEAST_SHARE = 0.05  # of the samples that a fault concerns, in excess of what held-out images show
NOISE_QUANTILE = 0.05  # of held-out images' finest detail: that of the smoothest ones
NOISE_RATIO = 1.4  # samples may have so many times as much,
NOISE_DEVIATION = 3.0  # or more by noise of so many grey levels
ROUGH_QUANTILE = 0.95  # of held-out images' finest detail: that of the roughest ones
BLUR_RATIO = 0.5  # least mean of fine detail, over that of held-out images
DISTINCT_BLUR_RATIO = 0.6  # the same with duplicates counted once: those that count in full are the sharpest
CONFIDENCE = 0.99  # of every bound that a fault is judged by
Floats = npt.NDArray[np.float64]


class Quality(StrEnum):
    """Word of the quality gate on a set of samples.

    Where several faults are found the word is that of the fault with most samples, of which `FAR` counts half, since
    samples with another fault lie far, too.
    """

    PASSED = "passed"
    COPIES = "copies"
    """Nearer to training images than 99 % of held-out images are."""
    NOISE = "noise"
    """More of the finest detail than held-out images have: in the smoothest samples, or in some by far."""
    BLUR = "blur"
    """Less than half of the fine detail of held-out images."""
    FAR = "far"
    """Farther from the training images than held-out images."""


FAULTS: tuple[Quality, ...] = tuple(each for each in Quality if each is not Quality.PASSED)


@dataclass(frozen=True)
class Gate:
    """Limits of the quality gate.

    Attributes
    ----------
    largest_ratio : float
        How many times as far from the training images as held-out ones samples may lie.
    faults : tuple of Quality
        Faults that do not pass; others are not looked for.
    """

    largest_ratio: float = 1.25
    faults: tuple[Quality, ...] = FAULTS


DEFAULT_GATE = Gate()


@dataclass(frozen=True, eq=False)
class Evidence:
    """A set of images as the gate looks at it.

    Attributes
    ----------
    distance : float64 (n,)
        Distance to the nearest training image; of training images to the nearest other one.
    detail : float64 (2, m) or None
        Fine and finest detail of some of them, see `ganlab.quality.detail`; None of what is no picture.
    weight : float64 (m,) or None
        Weights of these, 1 over the images that each stands for: of duplicates, which say of detail what one image says.
        None for images that are all different.
    copy_distance : float64 (n,) or None
        Distance that copies are judged by, over moves (`ganlab.quality.moves`); None for `distance`.
    """

    distance: Floats
    detail: Floats | None = None
    weight: Floats | None = None
    copy_distance: Floats | None = None

    @property
    def to_originals(self) -> Floats:
        """Distance that copies are judged by."""
        return self.distance if self.copy_distance is None else self.copy_distance


@dataclass(frozen=True)
class Judgement:
    """Result of the quality gate.

    Attributes
    ----------
    quality : Quality
        Its word.
    shares : dict
        Share of the samples that each fault concerns, where it was found.
    detail_ratio : float or None
        Mean fine detail of samples over that of held-out images; None where there is none.
    blurred : bool
        The samples are blurred, whether or not that is a fault.
    """

    quality: Quality
    shares: dict[Quality, float]
    detail_ratio: float | None
    blurred: bool

    @property
    def passes(self) -> bool:
        """True if no fault was found."""
        return self.quality is Quality.PASSED


def judge(samples: Evidence, held_out: Evidence, gate: Gate = DEFAULT_GATE) -> Judgement:
    """Judge samples against held-out real images.

    Without held-out images the training images stand in for them, each left out in turn.
    """
    near = np.quantile(held_out.to_originals, COPY_QUANTILE)
    found = {
        Quality.COPIES: _excess(samples.to_originals <= near, held_out.to_originals <= near),
        Quality.FAR: _far(samples.distance, held_out.distance, gate.largest_ratio),
    }
    detail_ratio = None
    if samples.detail is not None and held_out.detail is not None:
        weight = np.ones(samples.detail.shape[1]) if samples.weight is None else samples.weight
        found[Quality.NOISE] = _noisy(samples.detail[1], weight, held_out.detail[1])
        found[Quality.BLUR] = _blurred(samples.detail[0], weight, held_out.detail[0])
        mean = held_out.detail[0].mean()
        detail_ratio = float(samples.detail[0].mean() / mean) if mean else None
    shares = {fault: found[fault] for fault in FAULTS if fault in gate.faults and found.get(fault, 0) > 0}

    def importance(fault: Quality) -> float:
        return shares[fault] / 2 if fault is Quality.FAR else shares[fault]

    word = max(shares, key=importance, default=Quality.PASSED)
    return Judgement(word, shares, detail_ratio, found.get(Quality.BLUR, 0) > 0)


def _far(distance: Floats, held_out: Floats, largest_ratio: float) -> float:
    """Share of samples that lie too far off: of most of them, or of more than a few by far."""
    median = np.median(held_out)
    beyond = distance > largest_ratio * median
    larger = np.median(distance) > largest_ratio * median
    if larger and _bounded_difference(_share(beyond), _share(held_out > median)) > 0:
        return float(beyond.mean())
    limit = largest_ratio * np.quantile(held_out, FAR_QUANTILE)
    return _excess(distance > limit, held_out > limit)


def _noisy(finest: Floats, weight: Floats, held_out: Floats) -> float:
    """Share of samples with noise: a little, which leaves none as smooth as the smoothest real images, or much."""

    def limit(detail: float) -> float:
        return max(NOISE_RATIO * detail, detail + NOISE_DEVIATION**2)

    rough = limit(float(np.quantile(held_out, ROUGH_QUANTILE)))
    floor = float(np.quantile(held_out, NOISE_QUANTILE))
    smooth = finest <= limit(floor)
    smooth_held_out = held_out <= floor
    less_smooth = _bounded_difference(_share(smooth_held_out), _share(smooth, weight)) > 0
    more_rough = _bounded_difference(_share(finest > rough, weight), _share(held_out > rough)) > LEAST_SHARE
    share = 1 - float(smooth.mean() / smooth_held_out.mean())
    return max(
        share if less_smooth and share > LEAST_SHARE else 0.0,
        float((finest > rough).mean() - (held_out > rough).mean()) if more_rough else 0.0,
    )


def _blurred(fine: Floats, weight: Floats, held_out: Floats) -> float:
    """1 where the mean of fine detail is surely too small for the set as a whole, or else 0.

    It must be too small with duplicates counted once, too, so that one smooth image is no blur. Its limit is higher and
    not tested for significance, since blur makes most of the images that it took the most detail from duplicates: of a
    GAN's blurred faces with 0.34 to 0.43 of the real detail, those counted once have 0.51 to 0.52.
    """
    real = held_out.mean()
    error = BLUR_RATIO * held_out.std() * np.sqrt(1 / weight.sum() + 1 / len(held_out))
    surely = BLUR_RATIO * real - fine.mean() > special.ndtri(CONFIDENCE) * error
    return float(surely and weight @ fine / weight.sum() < DISTINCT_BLUR_RATIO * real)


def _excess(samples: npt.NDArray[np.bool_], held_out: npt.NDArray[np.bool_]) -> float:
    """Share of samples in excess of that of held-out images, where it is surely more than `LEAST_SHARE`; or else 0."""
    excess = float(samples.mean() - held_out.mean())
    return excess if _bounded_difference(_share(samples), _share(held_out)) > LEAST_SHARE else 0.0


def _share(found: npt.NDArray[np.bool_], weight: Floats | None = None) -> tuple[float, float]:
    """Share of images, and the number of them that it is of."""
    weight = np.ones(len(found)) if weight is None else weight
    return float(weight @ found / weight.sum()), float(weight.sum())


def _bounded_difference(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Lower bound of the difference of two shares, each (share, number of images); Newcombe 1998, method 10."""
    level = 2 * CONFIDENCE - 1  # the bound on one side is the end of an interval with twice the error
    images = [max(1, round(each[1])) for each in (one, other)]
    low, _ = wilson_interval(round(one[0] * images[0]), images[0], level)
    _, high = wilson_interval(round(other[0] * images[1]), images[1], level)
    return one[0] - other[0] - math.hypot(one[0] - low, high - other[0])
