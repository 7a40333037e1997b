"""Copying: whether samples lie nearer to the training images than real images that no model was trained on.

Invariant: a function of exact distances to the nearest training images alone; samples of the law of the held-out images
are called copies with a probability of at most 1 less the confidence, however few images are held out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import special

from ganlab.pairs.closest import nearest
from ganlab.pairs.content import take
from ganlab.pairs.exact import Array, Index, Read
from ganlab.quality.fidelity import RealNeighbours

QUANTILES = (0.001, 0.01, 0.05)
"""Quantiles of held-out images' distances to their nearest training image; samples that are nearer are counted."""
DECIDING = (0.001, 0.01)
"""Quantiles that decide the word; with more of them each would need a longer interval."""
USUAL = 0.01
"""The one whose share of copies is called `copied_share`."""
POWER = 0.95  # probability of finding the share that "would have been seen"
MOST_SEEN = 0.5  # without power against a smaller share than this nothing can be said
NODES = 300  # of the numerical mean over the share of real images within a distance: ends are off by less than 5e-5
LEAST_IN_CELL = 20  # samples that a cell must have to be compared (Meehan et al. 2020, section 4.3)
IMAGES_PER_CELL, MOST_CELLS = 50, 32
CELL_IMAGES, CELL_ROUNDS = 5000, 20  # training images that cells are found with, and most rounds of Lloyd's algorithm
SHOWN = 8  # training images copied most that are listed
_BLOCK = 4096
Floats = npt.NDArray[np.float64]


class Word(StrEnum):
    """Answer to whether samples are copies."""

    COPIES = "copies"
    NONE_SEEN = "none-seen"
    UNKNOWN = "unknown"
    """Half of the samples might be copies and not be found: images are too few, or the samples blurred."""


@dataclass(frozen=True)
class CopiedShare:
    """Share of the samples that are copies, by one distance.

    Attributes
    ----------
    quantile : float
        Of held-out images' distances, as asked for.
    distance : float
        What it is; all that lie as near count.
    value, low, high : float
        Share of copies c, with its interval: samples lie as near with probability c + (1 − c) u, where a share u of real
        images do.
    seen : float
        Share of exact copies that would be found with probability `POWER`, wherever the other samples lie; NaN where
        none would.
    """

    quantile: float
    distance: float
    value: float
    low: float
    high: float
    seen: float


@dataclass(frozen=True, eq=False)
class Copying:
    """Statement on copying of one sample.

    Attributes
    ----------
    word : Word
    shares : tuple of CopiedShare
        By quantile, of those that the number of held-out images allows.
    authenticity, held_out_authenticity : float
        Share of samples, and of held-out images, that lie farther from their nearest training image than that lies from
        its own nearest other one (Alaa et al. 2022, section 4).
    z, z_in_cells : float
        Mann-Whitney statistic of samples' distances against held-out images', negative where samples are nearer: of all,
        and its mean over cells by their share of held-out images (Meehan et al. 2020, equation 2); NaN without cells.
    held_out : int
        Held-out images; 0 where the training images stand in for them.
    copied, times, copy : int64 (k,)
        Training images with most copies: their numbers, how many samples within the smallest distance that shows copies
        (else that of `USUAL`) are nearest to each, and the number of the nearest one.
    """

    word: Word
    shares: tuple[CopiedShare, ...]
    authenticity: float
    held_out_authenticity: float
    z: float
    z_in_cells: float
    held_out: int
    copied: Index
    times: Index
    copy: Index

    def share(self, quantile: float = USUAL) -> CopiedShare | None:
        """The share of copies by a quantile; None where too few images are held out for it."""
        return next((each for each in self.shares if each.quantile == quantile), None)

    @property
    def seen(self) -> float:
        """Share of exact copies that would have been found; NaN where none would."""
        found = [each.seen for each in self.shares if each.quantile in DECIDING and not math.isnan(each.seen)]
        return min(found, default=math.nan)


def copying(
    distance: Floats, neighbour: Index, real: RealNeighbours, confidence: float = 0.95, *, blurred: bool = False
) -> Copying:
    """Compare samples' distances to the training images with those of held-out images.

    Without held-out images each training image stands in for one, held out in turn. These are often each other's nearest
    image, so that their number counts half.

    Parameters
    ----------
    distance : float64 (n,)
        Of each sample to its nearest training image.
    neighbour : int64 (n,)
        Number of that image.
    real
        The same of the real images.
    confidence
        Of the intervals. The word is "copies" where the low end at one of `DECIDING` is above 0: by chance each is with
        at most half of 1 less the confidence.
    blurred
        The samples are blurred, which brings them near to training images whether they are copies or not: then nothing is
        said. As less than half of the fine detail is left, less than half of the samples are sharp copies.
    """
    control = np.sort(real.distance)
    weight = 0.5 if real.held_out is None else 1.0
    shares = tuple(
        _copied_share(distance, control, weight, quantile, confidence)
        for quantile in QUANTILES
        if quantile == USUAL or quantile * len(control) * weight >= 1
    )
    found = any(each.low > 0 for each in shares if each.quantile in DECIDING)
    usual = next(each for each in shares if each.quantile == USUAL)
    # Within the smallest distance that shows copies fewer samples are near by chance.
    shown = next((each for each in shares if each.quantile in DECIDING and each.low > 0), usual)
    near = np.flatnonzero(distance <= shown.distance)
    copied, times, copy = _most_copied(near, distance, neighbour)
    cells = real.cells
    result = Copying(
        Word.COPIES if found else Word.NONE_SEEN,
        shares,
        _authenticity(distance, neighbour, real.training),
        _authenticity(real.distance, real.nearest, real.training),
        mann_whitney(distance, control),
        math.nan
        if cells is None or real.nearest is None
        else in_cells(distance, cells[neighbour], real.distance, cells[real.nearest]),
        0 if real.held_out is None else len(real.held_out),
        copied,
        times,
        copy,
    )
    if not blurred and (found or result.seen <= MOST_SEEN):
        return result
    return replace(result, word=Word.UNKNOWN)


def mann_whitney(samples: Floats, held_out: Floats) -> float:
    """Standardised number of pairs in which the sample lies farther, ties half (Meehan et al. 2020, section 4.1).

    Much below 0 samples are nearer to the training images than held-out images are; about normal with variance 1 where
    both are of one law without ties. With ties the variance is less; where training images stand in it may be more.
    """
    m, n, ordered = len(samples), len(held_out), np.sort(held_out)
    farther = np.searchsorted(ordered, samples, "left").sum() + np.searchsorted(ordered, samples, "right").sum()
    return float((farther / 2 - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))


def in_cells(samples: Floats, sample_cells: Index, held_out: Floats, held_out_cells: Index) -> float:
    """The statistic C_T: the mean of `mann_whitney` over cells, weighted by their held-out images.

    Cells of fewer than `LEAST_IN_CELL` samples are left out; NaN where no cell is left. A sample is in the cell of its
    nearest training image, so that cells divide the space and no other distance is needed.
    """
    total = weights = 0.0
    for cell in np.unique(held_out_cells):
        own, others = samples[sample_cells == cell], held_out[held_out_cells == cell]
        if len(own) >= LEAST_IN_CELL:
            total += len(others) * mann_whitney(own, others)
            weights += len(others)
    return total / weights if weights else math.nan


def training_cells(read: Read, count: int, order: Index, held_out: int) -> Index:
    """Cells of k-means among the training images, int64 (count,).

    There is a cell for every `IMAGES_PER_CELL` held-out images, and not more than `MOST_CELLS`. Centres are rounded where
    images are whole numbers, so that distances to them are exact.

    Parameters
    ----------
    read, count
        `read(start, stop)` gives training images [start, stop) of `count`, uint8 or float32.
    order : int64 (count,)
        Their numbers in a random order: cells are found with the first `CELL_IMAGES`, and begin at the very first.
    held_out
        Number of held-out images.
    """
    some = take(read, order[:CELL_IMAGES])
    centres = some[: max(1, min(MOST_CELLS, held_out // IMAGES_PER_CELL, len(some)))].copy()
    found = np.full(len(some), -1)
    for _ in range(CELL_ROUNDS):
        before, found = found, _nearest_centre(some, centres)
        if np.array_equal(before, found):
            break
        for cell in np.unique(found):
            mean = some[found == cell].mean(axis=0, dtype=np.float64)
            centres[cell] = np.rint(mean) if some.dtype == np.uint8 else mean
    parts = [_nearest_centre(read(start, min(start + _BLOCK, count)), centres) for start in range(0, count, _BLOCK)]
    return np.concatenate(parts)


def _nearest_centre(images: Array, centres: Array) -> Index:
    index: Index = nearest(images, centres).index[:, 1]
    return index


def _copied_share(distance: Floats, control: Floats, weight: float, quantile: float, confidence: float) -> CopiedShare:
    """Share of copies by the distance that is a quantile of `control`, rising, of which `weight` count as independent."""
    images, real = len(distance), len(control) * weight
    near = float(control[max(1, round(quantile * len(control))) - 1])
    within = np.searchsorted(control, near, "right") * weight
    found = int((distance <= near).sum())
    error = (1 - confidence) / 2
    # The share of the real law that lies within one of the held-out images' distances has a beta law. Where samples lie
    # at just that distance (0, if held-out images are copies, too) it reaches up to the next image's.
    least = _real_shares(within, real)
    most = _real_shares(within + weight, real) if (distance == near).any() else least
    usual = within / (real + weight)
    value = max(0.0, (found / images - usual) / (1 - usual))
    low = _share_where(lambda c: _at_least(found, images, c + (1 - c) * most) - error)
    high = _share_where(lambda c: 1 - _at_least(found + 1, images, c + (1 - c) * least) - error, falling=True)
    return CopiedShare(quantile, near, value, min(low, value), max(high, value), _seen(images, most, error))


def _real_shares(rank: float, images: float) -> Floats:
    """Equally likely values of the share of a law that lies within the distance of the image of a rank among images."""
    levels = (np.arange(NODES) + 0.5) / NODES
    shares: Floats = special.betaincinv(rank, images + 1 - rank, levels) if rank <= images else np.ones(NODES)
    return shares


def _at_least(count: int, images: int, chance: Floats) -> float:
    """P(count or more of the images), the mean over equally likely chances."""
    if count <= 0:
        return 1.0
    return float(special.betainc(count, images - count + 1, chance).mean()) if count <= images else 0.0


def _share_where(difference: Callable[[float], float], falling: bool = False) -> float:
    """The share at which a monotone difference is 0: the least one, from 0 on, at which it is above (or below) 0."""
    sign = -1 if falling else 1
    if sign * difference(0.0) >= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(24):  # to 10⁻⁷
        middle = (low + high) / 2
        low, high = (low, middle) if sign * difference(middle) >= 0 else (middle, high)
    return high


def _seen(images: int, most: Floats, error: float) -> float:
    """Share of exact copies of which enough are found, with probability `POWER`, for a low end above 0."""
    low, high = 0, images + 1  # the fewest images that are more than chance
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _at_least(middle, images, most) < error else (middle, high)
    return float(special.betaincinv(high, images - high + 1, POWER)) if high <= images else math.nan


def _authenticity(distance: Floats, neighbour: Index | None, training: Floats) -> float:
    return math.nan if neighbour is None else float((distance > training[neighbour]).mean())


def _most_copied(near: Index, distance: Floats, neighbour: Index) -> tuple[Index, Index, Index]:
    """Training images nearest to most of the samples `near`, how many those are, and the nearest of them."""
    nearest_first = near[np.lexsort((near, distance[near]))]
    copied, first, times = np.unique(neighbour[nearest_first], return_index=True, return_counts=True)
    copy = nearest_first[first]
    order = np.lexsort((copied, distance[copy], -times))[:SHOWN]
    return copied[order], times[order].astype(np.int64), copy[order]
