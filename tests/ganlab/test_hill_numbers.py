"""Hill numbers, unseen share and rarefaction: the published example, brute force over samples, and coverage."""

import itertools
import math
import time

import numpy as np
import pytest

from ganlab.statistics.hill_numbers import effective_numbers, rarefaction, unseen_share
from ganlab.statistics.packing import distinct_images
from ganlab.statistics.support import degrees_of, estimate_from_degrees
from tests.benchmarks.hill_numbers import LEAST, degrees_of_counts, measure

# Spiders of two treatments (Sackett et al. 2011), the example of Chao et al. (2014) and of the R package iNEXT.
GIRDLED = [46, 22, 17, 15, 15, 9, 8, 6, 6, 4, *[2] * 4, *[1] * 12]
LOGGED = [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, 4, 4, 4, *[3] * 4, *[2] * 4, *[1] * 14]


@pytest.mark.parametrize(
    ("counts", "observed", "estimated"),
    [
        (GIRDLED, (26.0, 12.059650, 7.84), (43.892857, 13.826253, 8.174825)),
        (LOGGED, (37.0, 14.421002, 6.761499), (61.402778, 16.337069, 6.920350)),
    ],
)
def test_published_example(counts: list[int], observed: tuple[float, ...], estimated: tuple[float, ...]) -> None:
    """iNEXT 3.0 prints these as asymptotic diversity, observed and estimated."""
    numbers = effective_numbers(degrees_of_counts(np.array(counts)))
    assert [number.order for number in numbers] == [0, 1, 2]
    assert [number.observed for number in numbers] == pytest.approx(observed, abs=1e-6)
    assert [number.value for number in numbers] == pytest.approx(estimated, abs=1e-6)
    assert [number.is_lower_bound for number in numbers] == [True, True, False]


@pytest.mark.parametrize(("counts", "interval"), [(GIRDLED, (30.511, 96.971)), (LOGGED, (43.502, 128.583))])
def test_published_interval_of_order_0(counts: list[int], interval: tuple[float, float]) -> None:
    """iNEXT prints these limits of its asymptotic species richness."""
    (number,) = effective_numbers(degrees_of_counts(np.array(counts)), (0,))
    assert (number.low, number.high) == pytest.approx(interval, abs=5e-4)


def test_published_curve() -> None:
    """iNEXT 3.0.2, order 0: sizes up to the 168 spiders seen, and twice as many."""
    curve = rarefaction(degrees_of_counts(np.array(GIRDLED)), [1, 10, 50, 100, 167, 168, 169, 200, 336])
    published = [1, 6.478617, 15.030098, 20.459426, 25.928571, 26, 26.071145, 28.141739, 34.730733]
    assert curve.distinct == pytest.approx(published, abs=1e-6)
    assert (np.diff(curve.distinct) > 0).all()
    assert (curve.low <= curve.distinct).all()
    assert (curve.distinct <= curve.high).all()
    assert (curve.high <= curve.sample_sizes).all()


def hub_and_cluster() -> np.ndarray:
    """Pairs that are not transitive: a hub of five, a chain of four, a triangle; two images without any."""
    chain = [[6, 7], [7, 8], [8, 9]]
    return np.array([*([0, other] for other in range(1, 6)), *chain, [10, 11], [10, 12], [11, 12]])


def test_the_curve_is_the_mean_over_all_smaller_samples_without_transitivity() -> None:
    pairs, images = hub_and_cluster(), 15
    curve = rarefaction(degrees_of(pairs, images), np.arange(1, images + 1))
    for size in (1, 2, 4, 7, 15):
        sums = []
        for chosen in itertools.combinations(range(images), size):
            inside = np.isin(pairs, chosen).all(axis=1)
            degrees = np.bincount(pairs[inside].ravel(), minlength=images)[list(chosen)]
            sums.append(float((1 / (degrees + 1)).sum()))
        assert curve.distinct[size - 1] == pytest.approx(np.mean(sums))
    assert curve.distinct[-1] <= distinct_images(degrees_of(pairs, images), pairs).count


def test_without_transitivity_the_estimates_stay_below_hill_numbers_on_average() -> None:
    """Points on a circle: Z is the same for all, so all Hill numbers are 1/Z; the bound of order 0 is unbiased there."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(200):
        angle = rng.random(400)
        apart = np.abs(angle[:, None] - angle)
        degrees = (np.minimum(apart, 1 - apart) <= 0.001).sum(axis=1) - 1
        values.append([number.value for number in effective_numbers(degrees)])
    assert np.mean(values, axis=0) == pytest.approx([500, 500, 500], rel=0.06)


def test_a_collapsed_sample_is_one_image() -> None:
    degrees = np.full(1000, 999)
    for number in effective_numbers(degrees):
        assert (number.observed, number.value, number.low) == pytest.approx((1, 1, 1))
        assert number.high < 1.05
    share = unseen_share(degrees)
    assert (share.value, share.low) == (0, 0)
    assert share.high < 0.01
    np.testing.assert_allclose(rarefaction(degrees).distinct, 1)


@pytest.mark.parametrize("images", [2, 3, 1000])
def test_without_duplicates_there_are_lower_bounds_only(images: int) -> None:
    degrees = np.zeros(images, int)
    bound = estimate_from_degrees(degrees).low
    for number in effective_numbers(degrees):
        assert (number.value, number.low, number.high, number.is_lower_bound) == (bound, bound, math.inf, True)
        assert number.observed == pytest.approx(images)
    assert unseen_share(degrees).value == 1
    curve = rarefaction(degrees, np.arange(1, 2 * images + 1))
    assert curve.distinct[:images] == pytest.approx(np.arange(1, images + 1))
    assert np.isfinite([curve.distinct, curve.low, curve.high]).all()
    assert (curve.distinct <= curve.sample_sizes).all()


@pytest.mark.parametrize("seed", range(40))
def test_orders_fall(seed: int) -> None:
    """N0 ≥ N1 ≥ N2, ends of the intervals too, where duplicates are few and where duplication is not transitive."""
    rng = np.random.default_rng(seed)
    images = int(rng.integers(2, 120))
    pairs = np.stack(np.triu_indices(images, 1), axis=1)
    pairs = pairs[rng.random(len(pairs)) < rng.choice([0.3 / images, 1 / images, 0.2, 0.9])]
    numbers = effective_numbers(degrees_of(pairs, images))
    for lower, higher in itertools.pairwise(numbers):
        for name in ("observed", "value", "low", "high"):
            assert getattr(lower, name) >= getattr(higher, name) * (1 - 1e-12)
    for number in numbers:
        assert number.low <= number.value * (1 + 1e-12)
        assert number.value <= number.high


CELLS = [
    ("uniform, 1,000", 12),
    ("one of 10%, rest 1,000", 30),
    ("Zipf, exponent 2, 1,000", 5),
    ("points in 2 dimensions", 30),
    ("points in 5 dimensions", 12),
    ("points in 8 dimensions", 12),
    ("hub of 2% near all", 5000),
]


@pytest.mark.parametrize(("law", "expected"), CELLS)
def test_simulated_coverage(law: str, expected: float) -> None:
    cell = measure(law, expected, 150, np.random.default_rng(3))
    assert cell is not None
    assert min(cell.unseen, *cell.below) > LEAST - 3 * math.sqrt(LEAST * (1 - LEAST) / 150)


def test_no_duplicate_does_not_exclude_a_few_expected_ones() -> None:
    """A uniform support of which 3 pairs are expected shows none in 5 % of samples; its unseen share is 1 − 6/n."""
    for images in (100, 1000):
        share = unseen_share(np.zeros(images, int))
        assert 1 - 7 / images < share.low < 1 - 6 / images
        assert share.high == 1


def test_no_pair_seen_is_no_more_certain_than_one() -> None:
    """Beside a heavy image, all others seen once: what is not seen twice adds its variance all the same."""
    none, one = (
        effective_numbers(degrees_of_counts(np.array([40, *[2] * pairs]), 60 - 2 * pairs), (0, 1)) for pairs in (0, 1)
    )
    for without, with_pair in zip(none, one, strict=True):
        assert without.value / without.low > 0.9 * with_pair.value / with_pair.low > 1.5


def test_unseen_share_is_tight_for_a_uniform_support() -> None:
    """An interval that holds by being too wide would be of no use: here it is about that of a binomial share."""
    degrees = degrees_of_counts(np.random.default_rng(0).multinomial(2000, np.full(2000, 1 / 2000)))
    share = unseen_share(degrees)
    assert share.low < math.exp(-1) < share.high
    assert share.high - share.low < 1.9 * 1.96 * 2 * math.sqrt(share.value * (1 - share.value) / 2000)


def test_orders_are_chosen() -> None:
    degrees = degrees_of_counts(np.array(GIRDLED))
    assert effective_numbers(degrees, (2, 0)) == tuple(effective_numbers(degrees)[order] for order in (2, 0))
    with pytest.raises(ValueError, match="order: got 3; allowed are 0, 1 and 2"):
        effective_numbers(degrees, (0, 3))
    with pytest.raises(ValueError, match="order: got -1"):
        effective_numbers(degrees, (-1,))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="each of 2 or more images"):
        unseen_share([0])
    with pytest.raises(ValueError, match="confidence is 1"):
        unseen_share([0, 0], 1)
    with pytest.raises(ValueError, match=r"confidence is 0\.2"):
        rarefaction([0, 0], [1], 0.2)
    for sizes in ([0], [5], [1.5]):
        with pytest.raises(ValueError, match="integers from 1 to 4"):
            rarefaction([0, 0], sizes)


def test_a_million_images_take_little_time() -> None:
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 200_001)
    degrees = rng.permutation(degrees_of_counts(rng.multinomial(10**6, weights / weights.sum())))
    start = time.process_time()
    numbers = effective_numbers(degrees)
    unseen_share(degrees)
    curve = rarefaction(degrees)
    assert time.process_time() - start < 2
    assert numbers[0].value > 150_000
    assert np.isfinite([curve.low, curve.high]).all()
