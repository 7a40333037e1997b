import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ganlab.statistics.intervals import largest_mode_size, pair_probability_interval, wilson_interval
from tests.benchmarks.coverage import LARGE, LEAST, SUPPORTS, measure, samples_for
from tests.benchmarks.interval_0_1_0 import interval_0_1_0
from tests.benchmarks.supports import normal_points


def test_one_heavy_image_is_covered_at_every_sample_size():
    """Exact, no simulation: the size of the only mode that repeats is binomial."""
    for mass in (0.01, 0.05, 0.1, 0.5):
        for n in np.unique(np.linspace(2, 14 / mass, 120).astype(int)):
            seen = np.arange(min(n, 60) + 1.0)
            size = np.maximum(seen, 1)
            low, high = pair_probability_interval(n, size * (size - 1), size * (size - 1) * (size - 2), size)
            covered = (low <= mass**2) & (mass**2 <= high)
            assert stats.binom.pmf(seen, n, mass)[covered].sum() >= LEAST, (mass, n)


@pytest.mark.parametrize("mass", [0.005, 0.02, 0.1, 0.5])
def test_an_image_near_all_others_is_covered_at_every_sample_size_that_shows_it(mass: float) -> None:
    """Exact, no simulation: the copies of the hub are binomial, and the rest is never drawn twice."""
    least_before = 1.0
    for n in np.unique(np.linspace(math.log(0.05) / math.log1p(-mass), 20 / mass, 100).astype(int) + 1):
        seen = np.arange(min(n, 120) + 1.0)
        weights = stats.binom.pmf(seen, n, mass)
        pairs = seen * (2 * (n - seen) + seen - 1)
        triples = seen * (n - 1) * (n - 2) + (n - seen) * seen * (seen - 1)
        size = np.minimum(seen + 1, n)
        before = interval_0_1_0(n, pairs, triples, np.where(seen, n - 1, 0))
        low, high = pair_probability_interval(n, pairs, triples, size)
        p2 = 1 - (1 - mass) ** 2
        assert weights[(low <= p2) & (p2 <= high)].sum() >= LEAST, n
        least_before = min(least_before, weights[(before[0] <= p2) & (p2 <= before[1])].sum())
    assert least_before < 0.9 or mass > 0.4


def test_both_tails_hold_the_error_where_the_variance_is_of_pairs() -> None:
    """Exact, no simulation: duplicates of images that are hardly ever drawn twice are a Poisson count."""
    n, seen = 100_000, np.arange(1.0, 2000)
    low, high = pair_probability_interval(n, 2 * seen, 0, 2)
    missed = []
    for expected in np.geomspace(5, 1000, 60):
        p2, weights = expected / math.comb(n, 2), stats.poisson.pmf(seen, expected)
        missed.append((weights[low > p2].sum(), weights[high < p2].sum()))
    below, above = np.transpose(missed)
    assert max(below + above) <= 0.05
    assert np.mean(below + above) > 0.038  # a count takes whole numbers
    assert max(above) <= 0.025


def test_hubs_near_a_part_of_the_images_are_covered() -> None:
    rng = np.random.default_rng(12)
    cells = [measure(name, LARGE[name], 1000, 1000, rng) for name in ("hub of 1%, near 20%", "10 stars", "100 stars")]
    chance = 3 * math.sqrt(LEAST * (1 - LEAST) / 1000)
    assert [cell for cell in cells if cell.today.coverage < LEAST - chance] == []
    assert cells[0].before.coverage < 0.9


def test_points_in_space_have_an_interval_as_wide_as_their_spread() -> None:
    """No image is heavy and none a hub: the interval is that of a known standard deviation, almost."""
    cell = measure("points", normal_points(5, 1e-3, 8000), 1500, 300, np.random.default_rng(13))
    assert cell.today.coverage >= LEAST
    assert math.log(cell.today.width) < 1.15 * math.log(cell.ideal_width)


def test_simulated_coverage():
    rng = np.random.default_rng(11)
    names = [name for name in SUPPORTS if "10,000" not in name]
    cells = [
        measure(name, SUPPORTS[name], samples_for(expected, SUPPORTS[name].p2), 800, rng)
        for name in names
        for expected in (1, 5, 20, 100)
    ]
    chance = 3 * math.sqrt(LEAST * (1 - LEAST) / 800)
    assert [cell for cell in cells if cell.today.coverage < LEAST - chance] == []
    assert 0.95 < np.mean([cell.today.coverage for cell in cells if cell.expected > 4]) <= 0.985


def test_the_simulation_can_tell_a_bad_interval():
    cell = measure("Zipf", SUPPORTS["Zipf, exponent 2, 1,000"], 8, 2000, np.random.default_rng(0))
    assert cell.gamma.coverage < 0.9 < cell.today.coverage


def test_half_hits_of_twenty():
    low, high = wilson_interval(10, 20)
    assert (low, high) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    supports = [400 * 399 / (-2 * math.log1p(-each)) for each in (high, low)]
    assert supports == pytest.approx([66_200, 224_300], rel=0.01)


@pytest.mark.parametrize(("hits", "repeats"), [(0, 1), (0, 500), (1, 3), (17, 200), (200, 200)])
def test_the_score_interval_is_wilsons(hits: int, repeats: int) -> None:
    for confidence in (0.5, 0.95, 0.999):
        interval = stats.binomtest(hits, repeats).proportion_ci(confidence, method="wilson")
        assert wilson_interval(hits, repeats, confidence) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_wilson_refuses():
    with pytest.raises(ValueError, match="repeats"):
        wilson_interval(3, 2)


def test_a_hub_whose_duplicates_are_not_each_others_has_a_bound_like_its_neighbours() -> None:
    hubs = np.arange(1, 400)
    _, high = pair_probability_interval(2000, 2 * hubs, hubs * (hubs - 1), 2)
    assert (np.diff(high) > 0).all()
    assert high[-1] < 0.01


def test_fractions_of_a_duplicate_say_less_than_one() -> None:
    pairs = np.array([0.01, 0.3, 0.9, 1.5, 1.999, 2.0])
    low, high = pair_probability_interval(2000, pairs, 0.0, 1 + pairs / 2)
    one = [float(end) for end in pair_probability_interval(2000, 2, 0, 2)]
    assert (low <= one[0]).all()
    assert (low <= pairs / (2000 * 1999)).all()
    assert (high >= pair_probability_interval(2000, 0, 0, 1)[1]).all()
    assert (high <= 1.001 * one[1]).all()


def test_the_lower_end_is_never_below_the_bound_of_markov() -> None:
    pairs = np.array([1.0, 2, 7, 2000, 4_000_000])
    for triples in (0.0, 10.0, 1e9):
        low, _ = pair_probability_interval(2001, 2 * pairs, triples, 2)
        assert (low >= (1 - 1e-12) * 0.015 * 2 * pairs / (2001 * 2000)).all()


class TestLargestModeSize:
    def test_it_is_the_largest_mode_where_duplication_is_transitive(self) -> None:
        modes = np.array([[5, 4, 4, 1, 1, 1], [2, 2, 2, 0, 0, 0], [1, 1, 1, 0, 0, 9], [1, 1, 0, 0, 0, 0]])
        assert largest_mode_size(np.maximum(modes - 1, 0), modes).tolist() == [5, 2, 9, 1]

    def test_a_hub_is_no_mode(self) -> None:
        assert largest_mode_size([999] + [1] * 999) == 2
        assert largest_mode_size([999, 999] + [2] * 998) == 3

    def test_it_bounds_the_largest_set_of_mutual_duplicates(self) -> None:
        rng = np.random.default_rng(14)
        for share in (0.2, 0.5, 0.8):
            near = np.triu(rng.random((10, 10)) < share, 1)
            near |= near.T
            mutual = max(
                size
                for size in range(1, 11)
                for chosen in itertools.combinations(range(10), size)
                if near[np.ix_(chosen, chosen)].sum() == size * (size - 1)
            )
            assert mutual <= largest_mode_size(near.sum(1)) <= 1 + near.sum(1).max()

    def test_fractions(self) -> None:
        assert largest_mode_size([0.5, 0.5, 0.0]) == pytest.approx(1.5)
