"""Heavy modes: images that a generator makes so often that the support size says little about the others.

Invariant: modes share no image, and each is an image with images that duplicate it: duplication need not be transitive.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.sparse import coo_array

from ganlab.statistics.intervals import wilson_interval
from ganlab.statistics.support import Estimate, degrees_of, estimate

Index = npt.NDArray[np.int64]
Law = Callable[[int, int, int], float]
"""Expected number of modes of so many images, or more, in a sample: ``law(members, samples, duplicates)``."""

CHANCE = 0.01  # of naming a mode in a sample that follows the law


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
    """All modes that are larger than their law allows, the largest first; and the diversity without them.

    Attributes
    ----------
    modes : tuple of Mode
        None for a sample that follows the law (with a chance of `CHANCE` to name one all the same).
    samples : int
        Images that they were looked for among.
    rest : Estimate or None
        Support of the images in none of these modes; None when fewer than two are left.
    against_real : bool
        Whether the law is that of the real images; else it is that of equally likely images.
    """

    modes: tuple[Mode, ...]
    samples: int
    rest: Estimate | None
    against_real: bool


def heavy_modes(
    duplicates: npt.ArrayLike,
    samples: int,
    confidence: float = 0.95,
    real_degrees: npt.NDArray[np.int64] | None = None,
) -> HeavyModes:
    """Find the heavy modes of a sample.

    A mode is an image and its duplicates, the image with the most duplicates first; the images of modes found before are
    left out. It is heavy when less than one sample in a hundred would hold a mode so large by chance: were the sample
    drawn from the source of the real images; without real images, were all images equally likely and as many as the
    support size of the images left says.

    Parameters
    ----------
    duplicates : integer array (m, 2)
        Every duplicate pair of the sample once.
    samples : int
        Number of images; at least 2.
    confidence : float
        Level of the intervals.
    real_degrees : int64 (r,), optional
        Duplicates of each real image among the real images, at the same distance.

    Raises
    ------
    ValueError
        As `ganlab.statistics.support.estimate`.
    """
    degrees = degrees_of(duplicates, samples)
    pairs = np.asarray(duplicates, dtype=np.int64).reshape(-1, 2)
    law = _uniform_law if real_degrees is None else _real_law(real_degrees)
    modes: list[Mode] = []
    left = np.ones(samples, dtype=bool)
    images, among = samples, len(pairs)
    for members, removed in _greedy(pairs, degrees):
        if law(len(members), images, among) >= CHANCE:
            break
        copies = len(members) - 1
        low, high = wilson_interval(copies, samples - 1, confidence)
        modes.append(Mode(members, copies / (samples - 1), low, high))
        left[members] = False
        images, among = images - len(members), among - removed
    return HeavyModes(tuple(modes), samples, support_within(pairs, left, confidence), real_degrees is not None)


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


def _uniform_law(members: int, samples: int, duplicates: int) -> float:
    """Were all images equally likely and as many as the duplicates say."""
    size = math.comb(samples, 2) / duplicates
    # The images that could be the most frequent one are as many as the support (Bonferroni).
    return 0.0 if members == samples else size * float(special.betainc(members, samples - members + 1, 1 / size))


def _real_law(degrees: npt.NDArray[np.int64]) -> Law:
    """Were the sample drawn from the source of the real images, of which each stands for an equal part.

    The images of a part are duplicates of others at one rate, known from the d duplicates of its real image: gamma, of
    shape d + ½ (Jeffreys). So the duplicates of an image in another sample are negative binomial.
    """
    degree, images = np.unique(degrees, return_counts=True)
    others = len(degrees) - 1

    def expected(members: int, samples: int, duplicates: int) -> float:
        more = special.betainc(members - 1, degree + 0.5, (samples - 1) / (others + samples - 1))
        return min(1.0, samples / len(degrees)) * float(more @ images)

    return expected


def _greedy(pairs: Index, degrees: npt.NDArray[np.int64]) -> Iterator[tuple[Index, int]]:
    """The image of most duplicates with these, again and again among the images not yet taken; and how many pairs are
    no longer left without them."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    graph = coo_array((np.ones(len(both), bool), (both[:, 0], both[:, 1])), (len(degrees), len(degrees))).tocsr()
    degrees = degrees.copy()
    left = np.ones(len(degrees), dtype=bool)
    # Degrees only fall, so an entry of the heap that is out of date is too high and comes up in time.
    heap = [(-degree, image) for image, degree in enumerate(degrees.tolist()) if degree]
    heapq.heapify(heap)

    def neighbours(image: int) -> Index:
        of_image: Index = graph.indices[graph.indptr[image] : graph.indptr[image + 1]]
        return of_image[left[of_image]]

    while heap:
        degree, hub = heap[0]
        now = int(degrees[hub]) if left[hub] else 0
        if now == 0:
            heapq.heappop(heap)
        elif now != -degree:
            heapq.heapreplace(heap, (-now, hub))
        else:
            members = np.concatenate([[hub], np.sort(neighbours(hub))])
            ends = np.concatenate([neighbours(image) for image in members.tolist()])
            left[members] = False
            outside = ends[left[ends]]
            np.subtract.at(degrees, outside, 1)
            yield members, (len(ends) - len(outside)) // 2 + len(outside)
