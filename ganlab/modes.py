"""Heavy modes: images that a generator makes so often that the support size says little about the others.

Invariant: modes share no image, and each is an image with images that duplicate it: duplication need not be transitive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from scipy import stats

from ganlab.intervals import wilson_interval
from ganlab.support import Estimate, estimate

Index = npt.NDArray[np.int64]
MOST_MODES = 8
CHANCE = 0.01  # of naming a mode in a sample of equally likely images


@dataclass(frozen=True, eq=False)
class Mode:
    """An image that stands for many.

    Attributes
    ----------
    members : int64 (m,)
        Numbers of its images: first the one that most others duplicate, then those, in order.
    mass, low, high : float
        Share of the sample that duplicates the first one (itself left out), and its Wilson interval. The largest of many
        overstates a mode that was seen only a few times.
    """

    members: Index
    mass: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class HeavyModes:
    """Modes too large for a sample of equally likely images, the largest first; and the diversity without them.

    Attributes
    ----------
    modes : tuple of Mode
        At most `MOST_MODES`; none for a uniform support (with a chance of `CHANCE` to name one all the same).
    samples : int
        Images that they were looked for among.
    rest : Estimate or None
        Support of the images in none of these modes; None when fewer than two are left.
    """

    modes: tuple[Mode, ...]
    samples: int
    rest: Estimate | None


def heavy_modes(duplicates: npt.ArrayLike, samples: int, confidence: float = 0.95) -> HeavyModes:
    """Find the heavy modes of a sample.

    A mode is heavy when, were all images equally likely and as many as the support size says, the most frequent of them
    would have so many copies in less than one of a hundred samples. The images of modes found before are left out.

    Parameters
    ----------
    duplicates : integer array (m, 2)
        Every duplicate pair of the sample once.
    samples : int
        Number of images; at least 2.
    confidence : float
        Level of the intervals.

    Raises
    ------
    ValueError
        As `ganlab.support.estimate`.
    """
    rest: Estimate | None = estimate(duplicates, samples, confidence)
    pairs = np.asarray(duplicates, dtype=np.int64).reshape(-1, 2)
    modes: list[Mode] = []
    left = np.ones(samples, dtype=bool)
    for members in islice(_greedy(pairs, samples), MOST_MODES):
        if rest is None or not _is_heavy(len(members), rest):
            break
        copies = len(members) - 1
        low, high = wilson_interval(copies, samples - 1, confidence)
        modes.append(Mode(members, copies / (samples - 1), low, high))
        left[members] = False
        rest = support_within(pairs, left, confidence)
    return HeavyModes(tuple(modes), samples, rest)


def support_within(
    duplicates: npt.ArrayLike, chosen: npt.NDArray[np.bool_], confidence: float = 0.95
) -> Estimate | None:
    """Support among some images of a sample, from the duplicates of all; None when fewer than two are chosen.

    Parameters
    ----------
    duplicates : integer array (m, 2)
        Every duplicate pair of the sample once.
    chosen : bool (n,)
        Which of the sample's images.
    """
    pairs = np.asarray(duplicates, dtype=np.int64).reshape(-1, 2)
    left = int(chosen.sum())
    if left < 2:
        return None
    number = np.cumsum(chosen) - 1
    return estimate(number[pairs[chosen[pairs].all(axis=1)]], left, confidence)


def _is_heavy(members: int, among: Estimate) -> bool:
    """Whether no image of a uniform support of this size would be seen so often, in 99 of 100 samples."""
    if members == among.samples:
        return True  # the sample collapsed
    # The images that could be the most frequent one are as many as the support (Bonferroni).
    return among.size * float(stats.binom.sf(members - 1, among.samples, 1 / max(among.size, 1.0))) < CHANCE


def _greedy(pairs: Index, samples: int) -> Iterator[Index]:
    """The image of most duplicates with these, again and again among the images not yet taken."""
    left = pairs
    while len(left):
        degrees = np.bincount(left.ravel(), minlength=samples)
        hub = int(degrees.argmax())
        of_hub = left[(left == hub).any(axis=1)]
        others = np.sort(of_hub.sum(axis=1) - hub)
        yield np.concatenate([[hub], others])
        taken = np.zeros(samples, dtype=bool)
        taken[hub] = True
        taken[others] = True
        left = left[~taken[left].any(axis=1)]
