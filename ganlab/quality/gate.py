"""Quality gate: whether samples are good enough for figures on their diversity, and which fault they have if not.

Invariant: a fault is one only where it is both large and significant, so that neither a few images fail by chance nor a
million by a trifle.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import special

from ganlab.statistics.intervals import wilson_interval

COPY_QUANTILE, FAR_QUANTILE = 0.01, 0.95  # of held-out images' distances to their nearest training image
LEAST_SHARE = 0.05  # of the samples that a fault concerns, in excess of what held-out images show
NOISE_QUANTILE = 0.05  # of held-out images' finest detail: that of the smoothest ones
NOISE_RATIO, NOISE_DEVIATION = (
    1.4,
    3.0,
)  # samples' may be so many times as much, or more by noise of so many grey levels
BLUR_RATIO = 0.5  # least mean of fine detail, over that of held-out images
CONFIDENCE = 0.99  # of every bound that a fault is judged by
Floats = npt.NDArray[np.float64]


class Quality(StrEnum):
    """Word of the quality gate on a set of samples.

    Where several faults are found the word is that of the fault with most samples.
    """

    PASSED = "passed"
    COPIES = "copies"
    """Nearer to training images than 99 % of held-out images are."""
    NOISE = "noise"
    """More of the finest detail than held-out images have, also in the smoothest samples."""
    BLUR = "blur"
    """Less than half of the fine detail of held-out images."""
    FAR = "far"
    """Farther from the training images than held-out images."""


FAULTS: tuple[Quality, ...] = tuple(each for each in Quality if each is not Quality.PASSED)


@dataclass(frozen=True)
class Gate:
    """What passes.

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
    """

    distance: Floats
    detail: Floats | None = None


@dataclass(frozen=True)
class Judgement:
    """What the gate found.

    Attributes
    ----------
    quality : Quality
        Its word.
    shares : dict
        Share of the samples that each fault concerns, where it was found.
    detail_ratio : float or None
        Mean fine detail of samples over that of held-out images; None where there is none.
    """

    quality: Quality
    shares: dict[Quality, float]
    detail_ratio: float | None

    @property
    def passes(self) -> bool:
        """Whether no fault was found."""
        return self.quality is Quality.PASSED


def judge(samples: Evidence, held_out: Evidence, gate: Gate = DEFAULT_GATE) -> Judgement:
    """Judge samples against held-out real images.

    Without held-out images the training images stand in for them, each left out in turn.
    """
    near = np.quantile(held_out.distance, COPY_QUANTILE)
    found = {
        Quality.COPIES: _excess(samples.distance <= near, held_out.distance <= near),
        Quality.FAR: _far(samples.distance, held_out.distance, gate.largest_ratio),
    }
    detail_ratio = None
    if samples.detail is not None and held_out.detail is not None:
        found[Quality.NOISE] = _noisy(samples.detail[1], held_out.detail[1])
        found[Quality.BLUR] = _blurred(samples.detail[0], held_out.detail[0])
        mean = held_out.detail[0].mean()
        detail_ratio = float(samples.detail[0].mean() / mean) if mean else None
    shares = {fault: found[fault] for fault in FAULTS if fault in gate.faults and found.get(fault, 0) > 0}
    return Judgement(max(shares, key=lambda fault: shares[fault], default=Quality.PASSED), shares, detail_ratio)


def _far(distance: Floats, held_out: Floats, largest_ratio: float) -> float:
    """Share of samples that lie too far off: of most of them, or of more than a few by far."""
    if np.median(distance) > largest_ratio * np.median(held_out):
        return float((distance > largest_ratio * np.median(held_out)).mean())
    limit = largest_ratio * np.quantile(held_out, FAR_QUANTILE)
    return _excess(distance > limit, held_out > limit)


def _noisy(finest: Floats, held_out: Floats) -> float:
    """Share of samples with noise, which leaves no image as smooth as the smoothest real ones are."""
    floor = np.quantile(held_out, NOISE_QUANTILE)
    limit = max(NOISE_RATIO * floor, floor + NOISE_DEVIATION**2)
    smooth, smooth_held_out = finest <= limit, held_out <= floor
    share = 1 - float(smooth.mean() / smooth_held_out.mean())
    return share if share > LEAST_SHARE and _difference(smooth_held_out, smooth)[1] > 0 else 0.0


def _blurred(fine: Floats, held_out: Floats) -> float:
    """1 where the mean of fine detail is too small for the set as a whole, or else 0."""
    means, errors = zip(*((each.mean(), each.std() / np.sqrt(len(each))) for each in (fine, held_out)), strict=True)
    if not means[1]:
        return 0.0
    difference = BLUR_RATIO * means[1] - means[0]
    error = np.hypot(BLUR_RATIO * errors[1], errors[0])
    return float(difference > special.ndtri(CONFIDENCE) * error)


def _excess(samples: npt.NDArray[np.bool_], held_out: npt.NDArray[np.bool_]) -> float:
    """Share of samples in excess of that of held-out images, where it is surely more than `LEAST_SHARE`; or else 0."""
    difference, low = _difference(samples, held_out)
    return difference if low > LEAST_SHARE else 0.0


def _difference(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Difference of two shares and its lower bound (Newcombe 1998, method 10)."""
    shares = [float(each.mean()) for each in (one, other)]
    # A bound on one side at a confidence is the end of an interval with twice the error.
    low = wilson_interval(int(one.sum()), len(one), 2 * CONFIDENCE - 1)[0]
    high = wilson_interval(int(other.sum()), len(other), 2 * CONFIDENCE - 1)[1]
    difference = shares[0] - shares[1]
    return difference, difference - float(np.hypot(shares[0] - low, high - shares[1]))
