import math

import numpy as np
import pytest
from scipy import stats

from ganlab.intervals import pair_probability_interval, wilson_interval
from tests.benchmarks.coverage import LEAST, MOST, SUPPORTS, measure


def test_one_heavy_image_is_covered_at_every_sample_size():
    """Exact, no simulation: the size of the only mode that repeats is binomial."""
    for mass in (0.01, 0.05, 0.1, 0.5):
        for n in np.unique(np.linspace(2, 14 / mass, 60).astype(int)):
            seen = np.arange(min(n, 60) + 1.0)
            size = np.maximum(seen, 1)
            low, high = pair_probability_interval(n, size * (size - 1), size * (size - 1) * (size - 2), size - 1)
            covered = (low <= mass**2) & (mass**2 <= high)
            assert stats.binom.pmf(seen, n, mass)[covered].sum() >= LEAST, (mass, n)


def test_simulated_coverage():
    rng = np.random.default_rng(11)
    names = [name for name in SUPPORTS if "10,000" not in name]
    cells = [measure(name, expected, 800, rng) for name in names for expected in (1, 5, 20, 100)]
    chance = 3 * math.sqrt(LEAST * (1 - LEAST) / 800)
    assert [cell for cell in cells if cell.coverage < LEAST - chance] == []
    assert 0.95 < np.mean([cell.coverage for cell in cells if cell.expected >= 5]) <= MOST


def test_the_simulation_can_tell_a_bad_interval():
    cell = measure("Zipf, exponent 2, 1,000", 12, 2000, np.random.default_rng(0))
    assert cell.gamma_coverage < 0.9 < cell.coverage


def test_half_hits_of_twenty():
    low, high = wilson_interval(10, 20)
    assert (low, high) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    supports = [400 * 399 / (-2 * math.log1p(-each)) for each in (high, low)]
    assert supports == pytest.approx([66_200, 224_300], rel=0.01)


def test_wilson_refuses():
    with pytest.raises(ValueError, match="repeats"):
        wilson_interval(3, 2)


def test_a_hub_whose_duplicates_are_not_each_others_has_a_bound_like_its_neighbours() -> None:
    """What rounding leaves of the rest is no duplicate: it once made the bound 1 for one hub in four."""
    hubs = np.arange(1, 400)
    _, high = pair_probability_interval(2000, 2 * hubs, hubs * (hubs - 1), hubs)
    assert (np.diff(high) > 0).all()
    assert high[-1] < 0.01


def test_fractions_of_a_duplicate_say_less_than_one() -> None:
    pairs = np.array([0.01, 0.3, 0.9, 1.5, 1.999, 2.0])
    low, high = pair_probability_interval(2000, pairs, 0.0, pairs / 2)
    one = [float(end) for end in pair_probability_interval(2000, 2, 0, 1)]
    assert (low <= one[0]).all()
    assert (low <= pairs / (2000 * 1999)).all()
    assert (high >= pair_probability_interval(2000, 0, 0, 0)[1]).all()
    assert (high <= 1.001 * one[1]).all()
