"""Precision, recall, density and coverage: how two sets of images lie among each other's nearest neighbours.

Invariant: every count is that of brute force; a ball holds the images on its rim.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.exact import Array, Images, Index, Read, as_images, check_same_kind
from ganlab.pairs.filter_refine import search_nearest
from ganlab.pairs.lower_bounds import Floats, Screen
from ganlab.pairs.neighbours import is_long_search, learn_for_neighbours, nearest_images

NEIGHBOURS = 5  # Naeem et al. 2020, section 4


@dataclass(frozen=True)
class ManifoldScores:
    """Precision, recall, density and coverage of generated images.

    Attributes
    ----------
    precision : float
        Share of the generated images that lie in the ball of some real image (Kynkäänniemi et al. 2019, equation 2).
    recall : float
        Share of the real images that lie in the ball of some generated image (the same, equation 3).
    density : float
        Balls of real images that a generated image lies in, on average, over `neighbours`: 1 when both sets are alike,
        more when generated images crowd where real ones are dense (Naeem et al. 2020, equation 4).
    coverage : float
        Share of the real images whose ball holds a generated image (the same, equation 5).
    neighbours : int
        k: the ball of an image reaches to its k-th nearest other image of its own set.
    real_images, generated_images : int
        Sizes of the sets; scores of unequal sets are not comparable with published ones.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    neighbours: int
    real_images: int
    generated_images: int


@dataclass(frozen=True, eq=False)
class Balls:
    """Balls around the images of a set.

    Attributes
    ----------
    centres : Images
    squared_radii : array (n,)
        Squared distance of each image to its k-th nearest other one.
    screen : Screen or None
        What was learnt from the images to find these, for other searches among them.
    """

    centres: Images
    squared_radii: Array
    screen: Screen | None


def balls_of(images: Array | Images, neighbours: int = NEIGHBOURS, device: str = "cpu") -> Balls:
    """Find the ball of each image, which reaches to its k-th nearest other one; ValueError for k or fewer images."""
    if len(images) <= neighbours:
        raise ValueError(
            f"neighbours: got {neighbours} of {len(images)} images; allowed is at most {len(images) - 1}; "
            "give more images"
        )
    rows, count = as_images(images), neighbours + 1  # one of them is the image, or one equal to it
    long = is_long_search(len(rows), len(rows), rows.features)
    screen = learn_for_neighbours(_reader(rows), len(rows), count, long)
    found = nearest_images(rows, rows, screen, count, device=device)
    return Balls(rows, found.squared_distance[:, neighbours], screen)


def count_mutually(
    real: Balls, generated: Balls, device: str = "cpu"
) -> tuple[tuple[Index, Index], tuple[Index, Index]]:
    """Count which balls of two sets hold which centres of the other set, by one look at all pairs.

    Returns
    -------
    tuple of tuple of ndarray
        Of real images, (n,) int64: the generated ones in the ball of each, and the balls of those that each lies in;
        then the same of the generated images.

    Raises
    ------
    ValueError
        Images of two kinds.
    """
    rows, columns = real.centres, generated.centres
    check_same_kind(rows, columns, "real, generated")
    counter = _Counter(np.concatenate([real.squared_radii, generated.squared_radii]))
    search_nearest(rows, columns, real.screen, counter, column_start=len(rows), mutual=True, device=device)
    (inside, other_inside), (around, other_around) = (
        np.split(each, [len(rows)]) for each in (counter.inside, counter.around)
    )
    return (inside, around), (other_inside, other_around)


def manifold_scores(
    real: Array | Images,
    generated: Array | Images,
    neighbours: int = NEIGHBOURS,
    real_balls: Balls | None = None,
    device: str = "cpu",
) -> ManifoldScores:
    """Compare generated with real images.

    Parameters
    ----------
    real, generated
        (n, ...) and (m, ...) uint8 images or float32 features, of one shape; more than `neighbours` of each.
    neighbours
        k.
    real_balls
        What `balls_of` gave for the real images, where it is known.

    Raises
    ------
    ValueError
        Too few images, or images that cannot be compared.
    """
    of_real = balls_of(real, neighbours, device) if real_balls is None else real_balls
    of_generated = balls_of(as_images(generated, "generated"), neighbours, device)
    # One screen, so that each set is projected once.
    (inside_real, around_real), (_, around_generated) = count_mutually(of_real, of_generated, device)
    return ManifoldScores(
        precision=float((around_generated > 0).mean()),
        recall=float((around_real > 0).mean()),
        density=float(around_generated.mean() / neighbours),
        coverage=float((inside_real > 0).mean()),
        neighbours=neighbours,
        real_images=len(real),
        generated_images=len(generated),
    )


def _reader(images: Images) -> Read:
    return lambda start, stop: images.values[start:stop]


class _Counter:
    """Counts the pairs within the radius of either image, each of which comes twice.

    Rows are numbered from 0, columns after them.
    """

    def __init__(self, squared_radii: Floats) -> None:
        self._radii = squared_radii
        self.sure_squared = float(squared_radii.min())
        self.inside, self.around = np.zeros((2, len(squared_radii)), np.int64)

    def bounds(self, i: Index) -> Floats:
        return self._radii[i]

    def add(self, i: Index, j: Index, squared: Array) -> None:
        inside = squared <= self._radii[i]
        for counts, number in ((self.inside, i), (self.around, j)):
            counts += np.bincount(number[inside], minlength=len(counts))

    def needs(self, i: Index, j: Index, low: Array) -> NDArray[np.bool_]:
        return np.zeros(low.shape, dtype=bool)

    def count(self, i: Index, j: Index, sure: NDArray[np.bool_]) -> None:
        by_row, by_column = sure.sum(axis=1), sure.sum(axis=0)
        for counts in (self.inside, self.around):
            counts[i] += by_row
            counts[j] += by_column
