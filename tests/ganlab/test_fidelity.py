"""Fidelity: near the training images, as near as real ones, or noise."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ganlab.pairs.closest import nearest
from ganlab.quality.fidelity import RealNeighbours, fidelity_probe, fidelity_ratio, real_neighbours, realistic


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """600 real digits, shuffled: in the file's order the last are other people's hands than the first."""
    chosen = np.random.default_rng(0).permutation(1797)[:600]
    return np.rint(load_digits().images[chosen, None] * (255 / 16)).astype(np.uint8)


def brute_force(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.int64)
    squared = ((flat[:, None] - flat[None]) ** 2).sum(2)
    np.fill_diagonal(squared, np.iinfo(np.int64).max)
    return squared.min(1)


def test_real_neighbours_leave_each_image_out(digits: np.ndarray) -> None:
    np.testing.assert_array_equal(real_neighbours(digits[:200]), brute_force(digits[:200]))


def test_equal_real_images_are_neighbours_at_distance_zero(digits: np.ndarray) -> None:
    assert (real_neighbours(np.concatenate([digits[:50], digits[:50]])) == 0).all()


def test_the_threshold_is_met_by_the_share_of_real_images(digits: np.ndarray) -> None:
    real = RealNeighbours(np.sqrt(real_neighbours(digits)))
    assert abs((real.distance <= real.threshold(0.1)).mean() - 0.1) < 0.01


def test_held_out_digits_are_as_near_as_real_and_noise_is_not(digits: np.ndarray) -> None:
    training, held_out = digits[:500], digits[500:]
    probe = fidelity_probe(training)
    assert 0.85 < probe(held_out)["fidelity_ratio"] < 1.2
    noise = np.random.default_rng(0).integers(0, 256, held_out.shape, dtype=np.uint8)
    assert probe(noise)["fidelity_ratio"] > 2
    assert probe(training)["fidelity_ratio"] == 0


def test_realistic_samples_are_those_inside_the_manifold(digits: np.ndarray) -> None:
    real = RealNeighbours(np.sqrt(real_neighbours(digits)))
    distance = np.sqrt(nearest(digits, digits, count=2).squared_distance[1::2])
    assert abs(realistic(distance, real).mean() - 0.95) < 0.01
    assert not realistic(np.array([real.radius + 1]), real).any()
    assert fidelity_ratio(distance, real) == 1
