"""Distances to training images that a shift by one pixel or a mirror image doesn't change much.

Invariant: a function of each image and the training images, the same for samples and for held-out images, so that both
can be compared by `ganlab.quality.copying`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
MOVE_NAMES = ("as it is", "shifted right", "shifted left", "shifted down", "shifted up", "mirrored")
"""Words for an image after each of the `MOVES`."""


class NearestMoved(NamedTuple):
    """The training image nearest to any of the `MOVES` of each image.

    Attributes
    ----------
    neighbour : int64 (n,)
        Its number.
    squared : (n,)
        Least squared distance.
    move : int64 (n,)
        Number of the move that comes so near; the first of several.
    """

    neighbour: Index
    squared: npt.NDArray[Any]
    move: Index


def moved(images: Pixels) -> Pixels:
    """Apply all `MOVES` to images (n, C, H, W): (n · moves, C, H, W), those of one image side by side."""
    every = np.empty((len(images), len(MOVES), *images.shape[1:]), images.dtype)
    for number, move in enumerate(MOVES):
        every[:, number] = move(images)
    return every.reshape(-1, *images.shape[1:])


def least_of_moves(index: Index, squared: npt.NDArray[Any], *, itself: bool = False) -> NearestMoved:
    """Reduce the nearest training images of all `moved` images to the nearest of each image.

    Parameters
    ----------
    index, squared : (n · moves, k)
        Numbers of the k nearest training images, the nearest first, and their squared distances.
    itself
        The images are the training images: of the two nearest an image's own number is left out.
    """
    images = len(index) // len(MOVES)
    own = np.repeat(np.arange(images), len(MOVES))
    column = (index[:, 0] == own).astype(np.int64) if itself else np.zeros(len(index), np.int64)
    rows = np.arange(len(index))
    by_move = squared[rows, column].reshape(images, len(MOVES))
    move = by_move.argmin(axis=1)
    place = np.arange(images), move
    return NearestMoved(index[rows, column].reshape(by_move.shape)[place], by_move[place], move)


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
    found = nearest(features(moved(images)), training, 1 + itself)
    count = len(images) * len(MOVES)
    least = least_of_moves(
        found.index[:, 1].reshape(count, -1), found.squared_distance.reshape(count, -1), itself=itself
    )
    return np.sqrt(least.squared.astype(np.float64)), least.neighbour
