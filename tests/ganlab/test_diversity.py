"""Diversity at a rate of real pairs: against known laws, with the distance's own uncertainty."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from ganlab.pairs.closest import pairs_within
from ganlab.statistics.diversity import Diversity, diversity, sensitivity
from ganlab.statistics.duplicate_distance import DuplicateDistance, duplicate_distance

RATE = 1e-2


def normal(count: int, seed: int, spread: float = 1.0) -> np.ndarray:
    return (spread * np.random.default_rng(seed).standard_normal((count, 3))).astype(np.float32)


def measured(generated: np.ndarray, real: DuplicateDistance) -> Diversity:
    close = pairs_within(generated, real.high)
    return diversity(close.index, close.squared_distance, len(generated), real)


@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_the_interval_holds_the_truth(spread: float) -> None:
    distance_squared = 2 * stats.chi2.ppf(RATE, 3)
    truth = RATE / stats.chi2.cdf(distance_squared / (2 * spread**2), 3)
    found = [
        measured(normal(800, 1000 + seed, spread), duplicate_distance(normal(200, seed), RATE)) for seed in range(40)
    ]
    assert sum(each.ratio_low <= truth <= each.ratio_high for each in found) >= 36
    assert np.median([each.ratio for each in found]) == pytest.approx(truth, rel=0.1)
    for each in found:
        assert each.low < each.effective_number < each.high
        assert each.ratio == each.real.probability * each.effective_number


def test_the_distance_is_part_of_the_uncertainty() -> None:
    real, generated = duplicate_distance(normal(100, 0), RATE), normal(2000, 1)
    with_distance = measured(generated, real)
    known = measured(generated, dataclasses.replace(real, low=real.distance, high=real.distance))
    assert (known.low, known.high) == pytest.approx((known.generated.low, known.generated.high))
    assert with_distance.effective_number == known.effective_number
    assert with_distance.low < known.low
    assert with_distance.high > known.high


def test_no_duplicate_is_a_bound() -> None:
    real = duplicate_distance(normal(200, 0), RATE)
    found = measured(1000 * np.arange(300, dtype=np.float32).reshape(100, 3), real)
    assert math.isinf(found.high)
    assert math.isinf(found.ratio_high)
    assert 1 < found.low == found.effective_number <= found.generated.size
    collapsed = measured(np.zeros((50, 3), np.float32), real)
    assert (collapsed.effective_number, collapsed.low) == (1, 1)


def test_sensitivity_counts_pairs_around_the_distance() -> None:
    images = normal(300, 0)
    i, j = np.triu_indices(300, 1)
    distances = np.sqrt(((images[i].astype(float) - images[j]) ** 2).sum(1))
    curve = sensitivity(pairs_within(images, 0.55).squared_distance, 300, 0.5)
    assert curve.distances.tolist() == pytest.approx([0.45, 0.5, 0.55])
    assert curve.within.tolist() == [(distances <= at).sum() for at in curve.distances]
    assert curve.effective_number.tolist() == [len(i) / count for count in curve.within]
    assert np.isinf(sensitivity(np.empty(0), 300, 0.1).effective_number).all()
