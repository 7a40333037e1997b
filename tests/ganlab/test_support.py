import functools
import math

import numpy as np
import pytest
from scipy import stats

from ganlab.statistics.intervals import pair_probability_interval
from ganlab.statistics.support import (
    Estimate,
    SeedMean,
    collision_frequency,
    degrees_of,
    error_of_log,
    estimate,
    estimate_from_degrees,
    mean_over_seeds,
    ratio_interval,
    spread,
    without_largest_mode,
)
from tests.benchmarks.coverage import SUPPORTS, gamma_law
from tests.benchmarks.supports import heavy


def pairs_of_clusters(*sizes: int) -> np.ndarray:
    pairs, start = [], 0
    for size in sizes:
        pairs += [(start + i, start + j) for i in range(size) for j in range(i + 1, size)]
        start += size
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


class TestEstimators:
    def test_p2_and_p3_are_their_definitions_counted_out(self):
        rng = np.random.default_rng(1)
        adjacent = np.triu(rng.random((12, 12)) < 0.3, 1)
        adjacent |= adjacent.T
        n = 12
        triples = sum(adjacent[i, j] and adjacent[i, k] for i in range(n) for j in range(n) for k in range(n) if j != k)
        result = estimate(np.argwhere(np.triu(adjacent)), n)
        assert result.duplicates == np.triu(adjacent).sum()
        assert result.p2 == pytest.approx(adjacent.sum() / (n * (n - 1)))
        assert result.p3 == pytest.approx(triples / (n * (n - 1) * (n - 2)))

    def test_p2_and_p3_are_unbiased(self):
        mass = np.array([0.4, 0.2, 0.2, 0.1, 0.1])
        rng = np.random.default_rng(2)
        p2, p3 = [], []
        for counts in rng.multinomial(9, mass, size=3000):
            result = estimate_from_degrees(np.repeat(counts - 1, counts))
            p2.append(result.p2)
            p3.append(result.p3)
        for values, truth in ((p2, (mass**2).sum()), (p3, (mass**3).sum())):
            assert abs(np.mean(values) - truth) < 4 * np.std(values) / math.sqrt(len(values))

    def test_degrees_are_sufficient_and_order_does_not_matter(self):
        pairs = pairs_of_clusters(2, 5, 3)
        shuffled = np.random.default_rng(0).permutation(pairs)[:, ::-1]
        assert estimate(pairs, 40) == estimate(shuffled, 40) == estimate_from_degrees(degrees_of(pairs, 40))

    def test_uniform_support_is_found(self):
        images = np.random.default_rng(3).integers(0, 2000, 4000)
        counts = np.bincount(images, minlength=2000)
        result = estimate_from_degrees(counts[images] - 1)
        assert result.low < 2000 < result.high
        assert result.size == pytest.approx(2000, rel=0.05)
        assert result.nonuniformity == pytest.approx(1, abs=0.1)

    def test_one_heavy_image_shows(self):
        result = estimate(pairs_of_clusters(30, 2), 300)
        assert result.largest_mode_mass == pytest.approx(29 / 299)
        assert result.nonuniformity > 5
        assert result.size == pytest.approx(300 * 299 / 2 / 436)
        assert result.size_without_largest_mode == pytest.approx(270 * 269 / 2)
        assert without_largest_mode(pairs_of_clusters(30, 2), 300).size == result.size_without_largest_mode

    def test_without_largest_mode_drops_the_hub_and_its_neighbours(self):
        star_and_pairs = np.array([[0, 1], [0, 2], [0, 3], [3, 4], [5, 6]])
        result = without_largest_mode(star_and_pairs, 10)
        assert (result.samples, result.duplicates) == (6, 1)
        with pytest.raises(ValueError, match="collapsed"):
            without_largest_mode(pairs_of_clusters(5), 5)

    def test_ten_million_images(self):
        degrees = np.zeros(10_000_000, dtype=np.int64)
        degrees[:200] = 1
        assert estimate_from_degrees(degrees).size == pytest.approx(1e7 * (1e7 - 1) / 200)
        collapsed = estimate_from_degrees(np.full(10_000_000, 9_999_999))
        assert collapsed.size == 1
        assert collapsed.p3 == pytest.approx(1)
        assert collapsed.high < 1.00001

    def test_interval_of_the_probability_holds_the_value(self):
        result = estimate(pairs_of_clusters(3, 2, 2), 100)
        low, high = result.collision_interval(20)
        assert 0 < low < result.collision_probability(20) < high < 1
        assert result.sample_size_at_half_low <= result.sample_size_at_half <= result.sample_size_at_half_high

    def test_width_is_close_to_poisson_where_the_support_is_wide(self):
        count, samples = 100, 100_000
        result = estimate(pairs_of_clusters(*[2] * count), samples)
        poisson = stats.gamma.ppf(0.975, count + 1) / stats.gamma.ppf(0.025, count)
        assert 0.98 * poisson < result.high / result.low < 1.06 * poisson

    def test_simulated_counts_are_those_of_the_estimate(self):
        counts = SUPPORTS["geometric, ratio 0.9"].draw(50, 1, np.random.default_rng(4))
        one = heavy(1.0, 0).draw(7, 1, np.random.default_rng(4))
        assert counts.ordered_pairs[0] % 2 == 0
        assert (one.ordered_pairs[0], one.ordered_triples[0], one.mode_size[0]) == (42, 210, 7)
        low, high = pair_probability_interval(7, 42, 210, 7)
        collapsed = estimate_from_degrees(np.full(7, 6))
        assert (collapsed.p2_low, collapsed.p2_high) == (float(low), float(high))
        assert np.all(gamma_law(7, one, 0.95)[0] <= 1)


class TestEdges:
    @pytest.mark.parametrize("samples", [2, 3, 30, 10_000])
    def test_no_duplicates_give_a_one_sided_bound(self, samples):
        result = estimate(np.empty((0, 2), dtype=np.int64), samples)
        assert result.one_sided
        assert 0 < result.size == result.low < math.inf == result.high
        mass = math.sqrt(1 / result.low)
        assert stats.binom.cdf(1, samples, mass) == pytest.approx(0.05)
        assert math.isfinite(result.sample_size_at_half)
        assert result.sample_size_at_half_high == math.inf
        assert result.collision_interval(10)[0] == 0 < result.collision_probability(10)
        assert math.isnan(result.nonuniformity)

    @pytest.mark.parametrize("samples", [2, 3, 50, 1000])
    def test_a_collapsed_sample_is_support_one(self, samples):
        result = estimate(pairs_of_clusters(samples), samples)
        assert result.size == result.low == 1
        assert 1 < result.high <= 1 / 0.015 + 1e-9  # two images: 1 over the error that is spent below p₂
        assert result.largest_mode_mass == 1
        assert result.sample_size_at_half == 2

    @pytest.mark.parametrize("confidence", [0.6, 0.9, 0.95, 0.99])
    def test_ends_are_ordered_finite_and_grow_with_confidence(self, confidence):
        rng = np.random.default_rng(5)
        for _ in range(50):
            sizes = rng.integers(2, 9, rng.integers(1, 6))
            pairs, samples = pairs_of_clusters(*sizes), int(sizes.sum() + rng.integers(0, 100))
            result = estimate(pairs, samples, confidence)
            wider = estimate(pairs, samples, confidence + 0.005)
            assert 1 <= wider.low <= result.low <= result.size <= result.high <= wider.high < math.inf

    def test_a_hub_whose_neighbours_are_no_duplicates_of_each_other(self):
        star = np.array([[0, i] for i in range(1, 40)])
        result = estimate(star, 1000)
        assert 0 < result.low < result.size < result.high < math.inf

    @pytest.mark.parametrize(
        ("duplicates", "samples", "message"),
        [
            ([[0, 0]], 5, "itself"),
            ([[0, 5]], 5, "0 to 4"),
            ([[-1, 2]], 5, "0 to 4"),
            ([[0, 1], [1, 0]], 5, "twice"),
            ([[0, 1, 2]], 5, "shape"),
            ([[0.0, 1.0]], 5, "integers"),
            ([[0, 1]], 1, "samples is 1"),
        ],
    )
    def test_bad_pairs_are_refused(self, duplicates, samples, message):
        with pytest.raises(ValueError, match=message):
            estimate(np.array(duplicates), samples)

    @pytest.mark.parametrize(
        ("degrees", "message"),
        [([1, 0, 0], "odd"), ([3, 1, 1], "0 to 2"), ([-1, 1], "0 to 1"), ([0.0, 0.0], "integers"), ([0], "2 or more")],
    )
    def test_bad_degrees_are_refused(self, degrees, message):
        with pytest.raises(ValueError, match=message):
            estimate_from_degrees(np.array(degrees))

    @pytest.mark.parametrize("confidence", [0, 0.5, 1, 95, math.nan])
    def test_bad_confidence_is_refused(self, confidence):
        with pytest.raises(ValueError, match="confidence"):
            estimate([[0, 1]], 5, confidence)


class TestFrequency:
    def test_hits_are_blocks_with_a_duplicate_inside(self):
        pairs = [[0, 1], [2, 3], [8, 12], [20, 24], [31, 32]]
        result = collision_frequency(pairs, 33, 10)
        assert (result.hits, result.repeats, result.probability) == (2, 3, 2 / 3)
        assert result.low < result.probability < result.high

    @pytest.mark.parametrize("size", [1, 34])
    def test_impossible_sizes_are_refused(self, size):
        with pytest.raises(ValueError, match="sample_size"):
            collision_frequency([[0, 1]], 33, size)


class TestRatio:
    @staticmethod
    @functools.cache
    def of_pairs(count: int, samples: int = 1000, confidence: float = 0.95) -> Estimate:
        return estimate(pairs_of_clusters(*[2] * count), samples, confidence)

    def test_a_certain_side_leaves_the_interval_of_the_other(self):
        """Compare a few duplicates with a p2 that 20,000,000 images make certain to within 1 %."""
        few, sure = self.of_pairs(12), estimate_from_degrees(np.repeat([1, 0], [200_000, 19_800_000]))
        low, high = ratio_interval(few, sure)
        assert (low, high) == pytest.approx((few.p2_low / sure.p2, few.p2_high / sure.p2), rel=0.002)
        assert ratio_interval(sure, few) == pytest.approx((1 / high, 1 / low))

    def test_two_equal_sides_are_wider_by_the_root_of_two(self):
        side = self.of_pairs(300)
        low, high = ratio_interval(side, side)
        assert low == pytest.approx(1 / high)
        assert math.log(high / low) == pytest.approx(math.sqrt(2) * math.log(side.high / side.low), rel=0.01)

    def test_no_duplicate_on_a_side_leaves_it_open(self):
        none, some = self.of_pairs(0), self.of_pairs(40)
        assert ratio_interval(none, none) == (0, math.inf)
        low, high = ratio_interval(some, none)
        assert some.p2_low / none.p2_high < low < some.p2 / none.p2_high
        assert high == math.inf
        assert ratio_interval(none, some) == pytest.approx((0, 1 / low))

    def test_two_levels_are_refused(self):
        with pytest.raises(ValueError, match=r"levels 0\.95 and 0\.9"):
            ratio_interval(self.of_pairs(3), self.of_pairs(3, confidence=0.9))

    def test_it_holds_the_ratio(self):
        """Two supports of one kind, one of them with a heavy image, where each interval alone is skewed."""
        rng = np.random.default_rng(21)
        held, trials = 0, 400
        uniform, heavy_image = np.full(1000, 1e-3), np.append(0.1, np.full(2000, 0.9 / 2000))
        truth = (uniform**2).sum() / (heavy_image**2).sum()
        for _ in range(trials):
            real, generated = (
                estimate_from_degrees(np.repeat(counts - 1, counts))
                for counts in (rng.multinomial(200, uniform), rng.multinomial(150, heavy_image))
            )
            low, high = ratio_interval(real, generated)
            held += low <= truth <= high
        assert 0.93 * trials < held


class TestSpread:
    @staticmethod
    @functools.cache
    def seed(clusters: int, samples: int = 1000) -> Estimate:
        return estimate(pairs_of_clusters(*[2] * clusters), samples)

    def test_summary(self):
        seeds = [self.seed(count) for count in (10, 20, 40)]
        result = spread(seeds)
        assert result.seeds == 3
        assert result.median == seeds[1].size == pytest.approx(result.mean)
        assert (result.minimum, result.maximum) == (seeds[2].size, seeds[0].size)
        sd = math.log(2)
        assert result.high / result.mean == pytest.approx(math.exp(stats.t.ppf(0.975, 2) * sd / math.sqrt(3)), rel=0.01)

    def test_seeds_that_agree_by_luck_keep_their_own_uncertainty(self):
        seeds = [self.seed(20)] * 4
        result = spread(seeds)
        assert result.low < seeds[0].size / 1.2 < seeds[0].size * 1.2 < result.high

    def test_interval_covers_the_mean_of_log_size_over_seeds(self):
        rng = np.random.default_rng(8)
        covered = 0
        for _ in range(200):
            sizes = np.exp(rng.normal(math.log(20_000), 0.7, 5))
            counts = np.maximum(rng.poisson(1000 * 999 / 2 / sizes), 1)
            result = spread([self.seed(int(count)) for count in counts])
            covered += result.low <= 20_000 <= result.high
        assert covered >= 180

    def test_one_seed_says_nothing_about_others(self):
        result = spread([self.seed(20)])
        assert result.median == pytest.approx(result.mean)
        assert math.isnan(result.low)
        assert math.isnan(result.high)

    def test_a_seed_without_duplicates_leaves_the_top_open(self):
        result = spread([self.seed(20), estimate([], 1000), self.seed(10)])
        assert result.one_sided
        assert 0 < result.low < result.high == math.inf

    def test_one_seed_without_duplicates_is_open_above(self):
        result = spread([estimate([], 1000)])
        assert math.isnan(result.low)
        assert result.high == math.inf

    def test_no_seeds(self):
        with pytest.raises(ValueError, match="at least one"):
            spread([])


class TestMeanOverSeeds:
    def test_arithmetic_mean_has_students_interval(self):
        values = [0.5, 0.7, 0.9, 0.7]
        result = mean_over_seeds(values, confidence=0.9)
        reference = stats.ttest_1samp(values, 0).confidence_interval(0.9)
        assert (result.mean, result.low, result.high) == pytest.approx((0.7, reference.low, reference.high))

    def test_geometric_mean_has_students_interval_of_the_logarithms(self):
        result = mean_over_seeds([100, 400, 1600], geometric=True)
        half = stats.t.ppf(0.975, 2) * math.log(4) / math.sqrt(3)
        expected = (400, 400 * math.exp(-half), 400 * math.exp(half))
        assert (result.mean, result.low, result.high) == pytest.approx(expected)

    def test_own_errors_count_where_seeds_agree_by_luck_and_not_where_they_differ(self):
        half = stats.t.ppf(0.975, 1) * 0.1 / math.sqrt(2)
        assert mean_over_seeds([3, 3], 0.1).high == pytest.approx(3 + half)
        assert mean_over_seeds([3, 5], 0.1) == mean_over_seeds([3, 5])

    def test_a_lower_bound_leaves_the_top_open_alone(self):
        bounded = mean_over_seeds([100, 400, 1600], [0, math.inf, 0], geometric=True)
        plain = mean_over_seeds([100, 400, 1600], geometric=True)
        assert bounded == SeedMean(plain.mean, plain.low, math.inf)
        assert mean_over_seeds([100, 200], math.inf, geometric=True).high == math.inf

    def test_one_seed_has_no_interval(self):
        result = mean_over_seeds([7], geometric=True)
        assert result.mean == pytest.approx(7)
        assert np.isnan([result.low, result.high]).all()

    def test_missing_and_zero_values_are_not_passed_over(self):
        assert math.isnan(mean_over_seeds([1, math.nan]).mean)
        zero = mean_over_seeds([0, 2], geometric=True)
        assert zero.mean == 0
        assert math.isnan(zero.low)

    @pytest.mark.parametrize(
        ("values", "confidence", "message"), [([], 0.95, r"shape \(0,\)"), ([1], 1, "confidence is 1")]
    )
    def test_what_is_refused(self, values: list[float], confidence: float, message: str):
        with pytest.raises(ValueError, match=message):
            mean_over_seeds(values, confidence=confidence)

    def test_error_of_log(self):
        assert error_of_log(10, 10 * math.exp(2 * stats.norm.ppf(0.95)), 0.9) == pytest.approx(1)
        assert error_of_log(10, math.inf, 0.9) == error_of_log(0, math.inf, 0.9) == math.inf
        assert math.isnan(error_of_log(0, 10, 0.9))

    def test_an_error_that_is_not_defined_leaves_no_interval(self):
        result = mean_over_seeds([100, 400], [0.1, math.nan], geometric=True)
        assert result.mean == pytest.approx(200)
        assert np.isnan([result.low, result.high]).all()
