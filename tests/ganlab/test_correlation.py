"""The curve of p2 over thresholds: exact counts, and a ratio of what both sets hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganlab.pairs.closest import pairs_within
from ganlab.statistics import correlation
from ganlab.statistics.correlation import CorrelationCurve, choose_distances, correlation_curve, diversity_ratio


def all_squared(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.int64 if images.dtype == np.uint8 else np.float64)
    i, j = np.triu_indices(len(flat), 1)
    return ((flat[i] - flat[j]) ** 2).sum(1)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 80), kind=st.sampled_from(["uint8", "float32"]))
def test_counts_are_those_of_brute_force(seed: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 6, (count, 1, 3, 3)).astype(kind)
    if kind == "float32":
        images = rng.normal(1e3, 1e-3, images.shape).astype(kind)  # where differences of rounded products mean nothing
    squared = all_squared(images)
    # At distances that occur, so that rounding a root would show; of floats just beside them.
    occurring = rng.choice(squared, 5) * (1 if kind == "uint8" else 1 + 1e-9)
    distances = np.unique(np.append(np.sqrt(occurring), [0, 1e-3, 2.5]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correlation, "_ROWS", 7)
        patch.setattr(correlation, "_COLUMNS", 16)
        curve = correlation_curve(images, distances)
    expected = [(squared <= distance**2 * (1 + 1e-14)).sum() for distance in distances]
    assert curve.within.tolist() == expected
    assert (curve.pairs == len(squared)).all()


def test_near_distances_are_sharpened_by_a_larger_sample() -> None:
    images = np.random.default_rng(0).integers(0, 8, (300, 12), dtype=np.uint8)
    distances = np.array([3.0, 4.0, 6.0, 9.0])
    close = pairs_within(images, 6.0).squared_distance
    curve = correlation_curve(images[:50], distances).sharpened(close, 300, complete_to=6.0)
    squared = all_squared(images)
    assert curve.within[:3].tolist() == [(squared <= distance**2).sum() for distance in distances[:3]]
    assert curve.pairs.tolist() == [300 * 299 // 2] * 3 + [50 * 49 // 2]
    assert curve.within[3] == (all_squared(images[:50]) <= 81).sum()


def test_ratio_is_real_over_generated() -> None:
    distances = np.array([1.0, 2.0, 3.0])
    generated = CorrelationCurve(distances, np.array([0, 10, 30]), np.full(3, 100))
    real = CorrelationCurve(distances, np.array([1, 4, 120]), np.full(3, 200))
    np.testing.assert_allclose(diversity_ratio(generated, real), [np.nan, 0.2, 2.0])
    with pytest.raises(ValueError, match="different distances"):
        diversity_ratio(generated, CorrelationCurve(distances + 1, real.within, real.pairs))


def test_distances_reach_to_the_median_and_hold_the_threshold() -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 30), dtype=np.uint8)
    distances = choose_distances(images, 123.4)
    assert 123.4 in distances
    assert len(distances) == correlation.POINTS + 1
    assert 0.4 < (np.sqrt(all_squared(images)) <= distances[-1]).mean() < 0.6
    assert choose_distances(np.zeros((9, 3), np.uint8), 0.0).tolist() == [0.0]


@pytest.mark.parametrize("distances", [[2.0, 1.0], [-1.0], [np.nan], [[1.0]]])
def test_bad_distances_are_refused(distances: list[float]) -> None:
    with pytest.raises(ValueError, match="rising"):
        correlation_curve(np.zeros((3, 2), np.uint8), distances)
