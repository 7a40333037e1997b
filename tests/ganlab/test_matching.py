"""Trainings at one fidelity: planted paths of fidelity and diversity, and what comparing them unmatched would show."""

import math

import numpy as np
import pytest

from ganlab.statistics.matching import at_fidelity, matched_fidelity

WEIGHTS = np.array([1e4, 4e4, 1.6e5, 6.4e5])


def exponent(weights: np.ndarray, numbers: np.ndarray) -> float:
    return float(np.polyfit(np.log(weights), np.log(numbers), 1)[0])


def test_noise_that_raises_number_and_fidelity_ratio_together_shows_no_growth() -> None:
    """All trainings lie on one curve; smaller discriminators merely end at noisier samples."""
    ends = np.array([1.20, 1.15, 1.11, 1.08])
    fidelity = 1.02 + (ends[:, None] - 1.02) * np.array([0.25, 0.5, 1.0])
    numbers = 2000 * np.exp(20 * (fidelity - 1))
    assert exponent(WEIGHTS, numbers[:, -1]) < -0.5
    ratio = matched_fidelity(fidelity)
    matched = at_fidelity(fidelity, numbers, ratio, geometric=True)
    assert np.isfinite(matched).all()
    assert abs(exponent(WEIGHTS, matched)) < 1e-12


def test_growth_that_noise_hides_is_found_at_its_exponent() -> None:
    ends = np.array([1.22, 1.16, 1.12, 1.08])
    fidelity = 1.02 + (ends[:, None] - 1.02) * np.array([0.25, 0.5, 1.0])
    numbers = (WEIGHTS**0.7)[:, None] * np.exp(25 * (fidelity - 1))
    assert exponent(WEIGHTS, numbers[:, -1]) < 0.1
    matched = at_fidelity(fidelity, numbers, matched_fidelity(fidelity), geometric=True)
    assert exponent(WEIGHTS, matched) == pytest.approx(0.7)


def test_the_ratio_is_one_that_the_most_reach_nearest_to_where_they_end() -> None:
    fidelity = [[1.00, 1.10], [1.05, 1.20], [1.02, 1.08], [1.30, 1.40], [math.nan, math.nan]]
    assert matched_fidelity(fidelity) == 1.08  # three reach 1.05 to 1.08; the last snapshots' median is 1.15
    assert matched_fidelity(fidelity[:2]) == 1.10
    assert matched_fidelity([[1.2, 1.0], [1.1, 1.0]]) == 1.0
    assert matched_fidelity([[1.0, 1.2], [1.0, 1.1], [0.9, 1.4]]) == 1.1
    assert matched_fidelity([[1.0, 1.2], [1.0, 1.4], [0.9, 1.1], [0.9, 1.1]]) == pytest.approx(1.1)


def test_the_median_itself_is_taken_where_the_most_reach_it() -> None:
    assert matched_fidelity([[1.0, 1.2], [1.0, 1.1], [1.3, 1.05]]) == 1.1
    assert matched_fidelity([[1.0, 1.3, 1.1], [1.0, 1.3, 1.2]]) == pytest.approx(1.15)


@pytest.mark.parametrize(
    "fidelity", [[[1.0, 1.1], [1.2, 1.3]], [[1.0, 1.1]], [[math.nan], [math.nan]], np.empty((0, 2))]
)
def test_no_ratio_that_two_reach(fidelity: list[list[float]]) -> None:
    assert math.isnan(matched_fidelity(fidelity))


def test_the_last_crossing_counts_and_a_training_that_never_crosses_has_none() -> None:
    fidelity = [
        [1.0, 1.2, 1.0],
        [1.2, math.nan, 1.0],
        [1.2, 1.3, 1.4],
        [1.1, 1.3, 1.2],
        [math.nan] * 3,
        [1.0, 1.1, 1.1],
    ]
    values = np.array([[1.0, 2, 4], [8, 99, 2], [1, 2, 3], [5, 6, 7], [1, 2, 3], [1, 2, 3]], np.float64)
    np.testing.assert_allclose(at_fidelity(fidelity, values, 1.1), [3, 5, np.nan, 5, np.nan, 3])
    np.testing.assert_allclose(
        at_fidelity(fidelity, values, 1.1, geometric=True), [np.sqrt(8), 4, np.nan, 5, np.nan, 3]
    )


def test_a_lower_bound_keeps_its_open_end_and_a_missing_figure_stays_missing() -> None:
    fidelity = np.array([[1.0, 1.2]] * 4)
    highs = np.array([[5, math.inf], [math.inf, math.inf], [0, 5], [math.nan, 5]])
    np.testing.assert_array_equal(at_fidelity(fidelity, highs, 1.1, geometric=True), [np.inf, np.inf, 0, np.nan])


def test_arrays_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"\(3,\); allowed: \(t, s\)"):
        matched_fidelity([1.0, 1.1, 1.2])
    with pytest.raises(ValueError, match=r"\(1, 2\) and values \(1, 3\)"):
        at_fidelity([[1.0, 1.1]], [[1, 2, 3]], 1.0)
