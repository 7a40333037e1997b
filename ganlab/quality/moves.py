"""Distances to training images that a shift by one pixel or a mirror image doesn't change much.

Invariant: a function of each image and the training images, the same for samples and for held-out images, so that both
can be compared by `ganlab.quality.copying`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ganlab.pairs.closest import nearest
from ganlab.pairs.exact import Array, Index

Pixels = npt.NDArray[np.uint8]


def _shifted(images: Pixels, axis: int, by: int) -> Pixels:
    """Shifted by one pixel along an axis, the edge repeated."""
    size = images.shape[axis]
    return images.take(np.clip(np.arange(size) - by, 0, size - 1), axis)


MOVES: Sequence[Callable[[Pixels], Pixels]] = (
    lambda images: images,
    lambda images: _shifted(images, -1, 1),
    lambda images: _shifted(images, -1, -1),
    lambda images: _shifted(images, -2, 1),
    lambda images: _shifted(images, -2, -1),
    lambda images: images[..., ::-1],
)
"""An image itself, its shifts by one pixel, and its mirror image."""


def nearest_moved(
    images: Pixels,
    training: Array,
    features: Callable[[Pixels], Array] = lambda images: images,
    *,
    itself: bool = False,
) -> tuple[npt.NDArray[np.float64], Index]:
    """The training image nearest to any of the `MOVES` of each image; the work of so many calls of `nearest`.

    Parameters
    ----------
    images : uint8 (n, C, H, W)
    training : (N, ...)
        What `features` gave for the training images.
    features
        Of the space that distances are taken in; by default pixels.
    itself
        The images are the training images: the nearest other one is found.

    Returns
    -------
    distance : float64 (n,)
        Least Euclidean distance, in units of the features.
    neighbour : int64 (n,)
        Number of that training image.

    Raises
    ------
    ValueError
        Images that can't be compared, or a single training image that is to be compared with another one.
    """
    least = np.full(len(images), np.inf)
    neighbour = np.zeros(len(images), np.int64)
    for move in MOVES:
        found = nearest(features(move(images)), training, 1 + itself)
        index = found.index[:, 1].reshape(len(images), -1)
        column = (index[:, 0] == np.arange(len(images))) if itself else np.zeros(len(images), bool)
        place = (np.arange(len(images)), column.astype(int))
        distance = np.sqrt(found.squared_distance.reshape(index.shape)[place].astype(np.float64))
        nearer = distance < least
        least[nearer], neighbour[nearer] = distance[nearer], index[place][nearer]
    return least, neighbour
