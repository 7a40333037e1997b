"""The calibration of distances by verdicts: exact where it can be, by simulation where it is statistics."""

import math

import numpy as np
import pytest

from ganlab.statistics.support import estimate
from ganlab.verdicts.calibration import Calibration, calibrate, calibrated_support
from ganlab.verdicts.selection import piece_edges
from tests.benchmarks.calibration import CURVES, simulate

EDGES = piece_edges(100.0)


def judged(seed: int, pairs: int = 300, centre: float = 100.0, width: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    distance = random.uniform(0, 150, pairs)
    return distance, (random.random(pairs) < 1 / (1 + np.exp((distance - centre) / width))).astype(float)


def test_the_curve_falls_and_its_interval_holds_it() -> None:
    distance, said = judged(0)
    found = calibrate(distance, said, np.ones(300), EDGES)
    at = np.linspace(0, 150, 200)
    curves = found.curves(at)
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    low, high = found.interval(at)
    assert ((low <= found.probability(at)) & (found.probability(at) <= high)).all()
    assert found.probability([150.0001])[0] == 0
    assert 90 < found.threshold_interval[0] < found.threshold < found.threshold_interval[1] < 110


def test_verdicts_that_contradict_any_falling_curve_still_give_one() -> None:
    distance, said = judged(0)
    found = calibrate(distance, 1 - said, np.ones(300), EDGES, draws=50)
    assert (np.diff(found.curves(np.linspace(0, 150, 99)), axis=1) <= 1e-12).all()


def test_weights_count_as_so_many_pairs() -> None:
    distance, said = judged(3, 60)
    times = np.random.default_rng(0).integers(1, 4, 60)
    weighted = calibrate(distance, said, times, EDGES, draws=1)
    repeated = calibrate(np.repeat(distance, times), np.repeat(said, times), np.ones(times.sum()), EDGES, draws=1)
    at = np.linspace(0, 150, 50)
    np.testing.assert_allclose(weighted.probability(at), repeated.probability(at), atol=1e-6)


@pytest.mark.parametrize(("verdict", "threshold"), [(0.0, (0, 60)), (1.0, (130, math.inf))])
def test_all_alike_put_the_threshold_to_that_side(verdict: float, threshold: tuple[float, float]) -> None:
    distance, _ = judged(0, 200)
    found = calibrate(distance, np.full(200, verdict), np.ones(200), EDGES, draws=100)
    assert threshold[0] <= found.threshold <= threshold[1]
    low, high = found.threshold_interval
    assert low <= found.threshold <= high


def test_people_who_switch_at_once_leave_the_gap_between_two_pairs() -> None:
    distance = np.arange(1.0, 150.0)
    found = calibrate(distance, (distance < 87.3).astype(float), np.ones(149), EDGES)
    low, high = found.threshold_interval
    assert 80 <= low <= 87
    assert 88 <= high <= 95


def test_a_step_at_the_threshold_is_the_plain_estimate() -> None:
    """With no doubt about the curve, the support is that of counted duplicates."""
    random = np.random.default_rng(4)
    index = np.stack([random.permutation(400)[:200], np.arange(400, 600)], axis=1)
    distance = np.where(np.arange(200) < 120, 20.0, 140.0)
    sure = Calibration(
        np.array([0.0, 99.0, 101.0, 150.0]), np.tile([60.0, 60.0, -60.0, -60.0], (50, 1)), 0.95, distance
    )
    found = calibrated_support(index, distance, 600, sure)
    counted = estimate(index[:120], 600)
    assert found.duplicates == pytest.approx(120)
    assert (found.size, found.low, found.high) == pytest.approx((counted.size, counted.low, counted.high), rel=1e-6)


def test_doubt_about_the_curve_widens_the_interval() -> None:
    random = np.random.default_rng(4)
    index = np.arange(1000).reshape(500, 2)
    distance = random.uniform(50, 150, 500)
    few, many = (
        calibrated_support(index, distance, 2000, calibrate(*judged(1, pairs), np.ones(pairs), EDGES))
        for pairs in (30, 1500)
    )
    assert few.high / few.low > 1.1 * many.high / many.low


def test_without_a_near_pair_there_is_a_bound() -> None:
    distance, said = judged(0)
    found = calibrated_support(np.empty((0, 2), int), [], 500, calibrate(distance, said, np.ones(300), EDGES, draws=20))
    assert found.one_sided
    assert found.size == found.low == pytest.approx(estimate(np.empty((0, 2), int), 500).low)
    assert math.isinf(found.high)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": []}, "one axis"),
        ({"distance": [200.0] * 3}, "0 to the last edge"),
        ({"share": [2, 0, 0]}, "between"),
        ({"weight": [0, 1, 1]}, "above 0"),
        ({"edges": [1, 2]}, "the first 0"),
        ({"confidence": 0.3}, "0.5 and 1"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    good = {"distance": [1.0, 2.0, 3.0], "share": [1, 0.5, 0], "weight": [1, 1, 1], "edges": [0, 5, 10]}
    with pytest.raises(ValueError, match=message):
        calibrate(**(good | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("curve", ["logistic", "lapses"])
def test_intervals_hold_the_truth(curve: str) -> None:
    """The full simulation is `python -m tests.benchmarks.calibration`: 200 runs of each curve."""
    runs = [simulate(CURVES[curve], seed, draws=160) for seed in range(12)]
    # With a coverage of 0.93, fewer than 9 of 12 happen once in some 500 tries.
    assert sum(run.threshold_held for run in runs) >= 9
    assert sum(run.support_held for run in runs) >= 9
