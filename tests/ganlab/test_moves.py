"""Distances over shifts and mirror images: brute force, an image left out of its own neighbours, copies found by them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ganlab.pairs.closest import nearest
from ganlab.quality.copying import Word, copying
from ganlab.quality.embeddings.normalised import Normalised
from ganlab.quality.fidelity import RealNeighbours
from ganlab.quality.moves import MOVES, nearest_moved


def by_hand(image: np.ndarray) -> list[np.ndarray]:
    """An image (C, H, W), its four shifts with the edge repeated, and its mirror image."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), "edge")
    _, height, width = image.shape
    shifts = ((1, 1), (1, 0), (1, 2), (0, 1), (2, 1))
    return [padded[:, y : y + height, x : x + width] for y, x in shifts] + [np.flip(image, 2)]


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_it_is_brute_force(itself: bool, normalised: bool) -> None:
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (30, 2, 3, 4), dtype=np.uint8)
    images = training if itself else rng.integers(0, 256, (20, 2, 3, 4), dtype=np.uint8)
    features = Normalised().features if normalised else lambda some: some
    distance, neighbour = nearest_moved(images, features(training), features, itself=itself)
    assert len(MOVES) == 6
    known = features(training).reshape(30, -1).astype(float)
    for place, image in enumerate(images):
        moved = features(np.array(by_hand(image))).reshape(6, -1).astype(float)
        each = np.sqrt(((moved[:, None] - known[None]) ** 2).sum(axis=2)).min(axis=0)
        if itself:
            each[place] = np.inf
        assert distance[place] == pytest.approx(each.min())
        assert each[neighbour[place]] == pytest.approx(each.min())


def test_equal_training_images_are_each_others_nearest() -> None:
    training = np.random.default_rng(1).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)[[0, 1, 2, 3, 4, 2]]
    distance, neighbour = nearest_moved(training, training, itself=True)
    assert (distance[[2, 5]] == 0).all()
    assert neighbour[[2, 5]].tolist() == [5, 2]
    assert (neighbour != np.arange(6)).all()


@pytest.mark.parametrize("move", [1, 2, 3, 4, 5])
def test_moved_copies_are_found(move: int) -> None:
    images = np.rint(load_digits().images[:, None] * (255 / 16)).astype(np.uint8)
    training, held_out, others = np.split(images[np.random.default_rng(2).permutation(1797)], [800, 1300])
    copies = np.concatenate([MOVES[move](training[:100]), others[:400]])

    def word(samples: np.ndarray, moved: bool) -> Word:
        def compared(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if moved:
                return nearest_moved(some, training)
            found = nearest(some, training)
            return np.sqrt(found.squared_distance.astype(np.float64)), found.index[:, 1]

        return copying(*compared(samples), RealNeighbours(np.ones(800), *compared(held_out))).word

    assert [word(copies, moved) for moved in (False, True)] == [Word.NONE_SEEN, Word.COPIES]
    assert [word(others, moved) for moved in (False, True)] == [Word.NONE_SEEN, Word.NONE_SEEN]
