"""Data whose modes are known one by one, and how many of them a sample holds.

Invariant: what counts as a mode is fixed beforehand by the data, never found in the sample.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SIDE = 5
SPACING = 2.0
HIGH_QUALITY = 3.0  # a point within so many standard deviations of a centre is of high quality (PacGAN, section 4.1)


def grid_centres() -> npt.NDArray[np.float32]:
    """The 25 centres {−4, −2, 0, 2, 4}², float32 (25, 2)."""
    line = SPACING * (np.arange(SIDE, dtype=np.float32) - SIDE // 2)
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


def draw_grid(
    points: int, scale: float, draws: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draw from 25 equal normal laws on the grid: points float32 (n, 2) and their modes int64 (n,)."""
    mode = draws.integers(0, SIDE * SIDE, points)
    return (grid_centres()[mode] + scale * draws.standard_normal((points, 2))).astype(np.float32), mode


def draw_stacks(
    digits: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], images: int, draws: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Stack three random digits as the channels of each image; its mode is the number that they spell.

    Parameters
    ----------
    digits : uint8 (N, 1, H, W)
    labels : int64 (N,)
        From 0 to 9.

    Returns
    -------
    uint8 (images, 3, H, W), int64 (images,) from 0 to 999
    """
    chosen = draws.integers(0, len(digits), (images, 3))
    return digits[chosen, 0], labels[chosen] @ np.array([100, 10, 1])


@dataclass(frozen=True)
class ModeCount:
    """Counts of known modes among samples.

    Attributes
    ----------
    found, modes : int
        Modes with at least one sample that counts, and modes there are.
    high_quality : float
        Share of the samples that count: near a centre; all of them where modes are classes.
    divergence : float
        KL divergence in nats of the counting samples' modes from the uniform law, which the data have.
    samples : int
        Samples looked at.
    """

    found: int
    modes: int
    high_quality: float
    divergence: float
    samples: int


def grid_modes(points: npt.NDArray[np.float32], scale: float) -> ModeCount:
    """Modes of the grid that points (n, 2) hold: a point within 3 `scale` of a centre belongs to its mode."""
    distance = np.linalg.norm(points[:, None].astype(np.float64) - grid_centres(), axis=2)
    good = distance.min(axis=1) <= HIGH_QUALITY * scale
    return _count(distance.argmin(axis=1)[good], SIDE * SIDE, len(points))


def class_modes(classes: npt.NDArray[np.int64], modes: int) -> ModeCount:
    """Classes among `modes` that samples hold, from the class (n,) that a classifier gives each image."""
    return _count(classes, modes, len(classes))


class StackReader:
    """Reads the number that three stacked digits spell: a support vector machine trained on the real digits."""

    def __init__(self, digits: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        from sklearn.svm import SVC

        # C = 10 tells more of held-out digits apart than the default; the tests hold it to nine stacks in ten.
        self._machine = SVC(C=10).fit(digits.reshape(len(digits), -1) / 255.0, labels)

    def read(self, stacks: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Numbers int64 (n,) from 0 to 999 of uint8 (n, 3, H, W)."""
        pixels = stacks.reshape(len(stacks) * 3, -1) / 255.0
        spelled = self._machine.predict(pixels).reshape(-1, 3) @ np.array([100, 10, 1])
        return np.asarray(spelled, dtype=np.int64)


def _count(mode: npt.NDArray[np.int64], modes: int, samples: int) -> ModeCount:
    counts = np.bincount(mode, minlength=modes)
    share = counts[counts > 0] / max(1, counts.sum())
    return ModeCount(
        found=int((counts > 0).sum()),
        modes=modes,
        high_quality=len(mode) / samples,
        divergence=float((share * np.log(share * modes)).sum()) if len(mode) else math.inf,
        samples=samples,
    )
