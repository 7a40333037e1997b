"""Nearest training images over shifts and mirror images, for the search for moved copies.

Invariant: samples, held-out images and training images are moved alike, and every distance is the pair engine's.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganlab.quality.fidelity import RealNeighbours
from ganlab.quality.moves import MOVE_NAMES, MOVES, least_of_moves, moved
from jobs.measuring.comparison import ENGINE, Comparison, PartialResult, Source
from jobs.spec.validation import SpecError
from storage.pair_records import NearestReal


@dataclass(frozen=True)
class MovedImages:
    """Every image of a set under each of `ganlab.quality.moves.MOVES`, those of one image side by side.

    Attributes
    ----------
    pictures : Source
        uint8 (n, C, H, W).
    """

    pictures: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Moved images, and the shape of one."""
        count, *shape = self.pictures.shape
        return (count * len(MOVES), *shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""
        return self.pictures.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Moved images [start, stop), uint8 (n, C, H, W)."""
        first = start // len(MOVES)
        images = moved(self.pictures.read(first, -(-stop // len(MOVES))))
        return images[start - first * len(MOVES) : stop - first * len(MOVES)]


def check_movable(pictures: bool, images: Source | np.ndarray, asked: str, remedy: str) -> None:
    """Raise SpecError, beginning with `asked`, unless a set of images (n, ...) is one of pictures."""
    if not pictures:
        raise SpecError(
            f"{asked}: got {images.dtype} of shape {tuple(images.shape[1:])}, which has no pixels to shift or mirror; "
            f"allowed: pictures (uint8, of one or three channels), or {remedy}"
        )


def moved_comparison(images: Source, fingerprint: str, training: Source, *, itself: bool = False) -> Comparison:
    """The comparison of moved images, in the space of the training images, with these.

    Parameters
    ----------
    images
        `MovedImages`, or their features.
    itself
        They are those of the training images.
    """
    return Comparison(images, fingerprint, reference=training, neighbours=1 + itself)


def nearest_over_moves(found: PartialResult, dtype: np.dtype[Any], *, itself: bool = False) -> NearestReal:
    """The nearest training image of each image, from what its `moved_comparison` of images of this type found."""
    assert found.neighbours is not None
    least = least_of_moves(found.neighbours.index, found.neighbours.squared_distance, itself=itself)
    return NearestReal(least.neighbour, least.squared.astype(np.int64 if dtype == np.uint8 else np.float64), least.move)


def moved_neighbours(training: NearestReal, held_out: NearestReal | None, cells: np.ndarray | None) -> RealNeighbours:
    """Distances of real images over moves, as samples' distances over moves are compared with them."""
    beside = training if held_out is None else held_out
    of_held_out = None if held_out is None else np.sqrt(held_out.squared.astype(np.float64))
    return RealNeighbours(np.sqrt(training.squared.astype(np.float64)), of_held_out, beside.neighbour, cells)


def moved_name(name: str) -> str:
    """Name of a record of distances over moves, of images and a space that have a name themselves."""
    return hashlib.sha256(json.dumps([ENGINE, MOVE_NAMES, name]).encode()).hexdigest()[:16]
