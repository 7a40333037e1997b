"""Diversity at a rate of real pairs: against known laws, with the distance's own uncertainty."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from ganlab.pairs.closest import pairs_within
from ganlab.statistics.correlation import pairs_curve
from ganlab.statistics.diversity import Diversity, diversity, diversity_of, sensitivity
from ganlab.statistics.duplicate_distance import DuplicateDistance, duplicate_distance
from ganlab.statistics.support import estimate
from tests.benchmarks.coverage import LEAST

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
    known = measured(
        generated, dataclasses.replace(real, low=real.distance, low_by_variance=real.distance, high=real.distance)
    )
    assert (known.low, known.high) == pytest.approx((known.generated.low, known.generated.high))
    assert with_distance.effective_number == known.effective_number
    assert with_distance.low < known.low
    assert with_distance.high > known.high


def test_an_end_by_the_largest_mode_does_not_add_to_the_others() -> None:
    """Few duplicates: what one unseen mode may hold reaches further than the variance, and than the distance's error."""
    real, generated = duplicate_distance(normal(300, 0), RATE / 10), normal(300, 1)
    known = measured(generated, dataclasses.replace(real, high=real.distance))
    sample = known.generated
    assert sample.p2_high > 1.1 * sample.p2_high_by_variance
    assert known.low == pytest.approx(1 / sample.p2_high)
    both = measured(generated, real)
    assert 1 / sample.p2_high > both.low > real.distance / real.high / sample.p2_high
    assert real.low < real.low_by_variance < real.distance
    unseen = measured(generated, dataclasses.replace(real, low=0.0))  # of a mode nearer than any generated pair
    assert unseen.high == pytest.approx((sample.duplicates + 0.5) / 0.5 * sample.size)


@pytest.mark.parametrize("copies", [0, 7, 12])
def test_a_heavy_image_that_may_be_unseen_is_covered_with_the_distance(copies: int) -> None:
    """Of 300 generated points so many copies of one are expected, beside 45 other duplicates; 300 real points."""
    rng, rate, count, draws = np.random.default_rng(copies), 1e-3, 300, 150
    truth = rate / ((1 - copies / count) ** 2 * rate + (copies / count) ** 2)
    held, i, j = 0, *np.triu_indices(count, 1)
    for _ in range(draws):
        real = duplicate_distance(rng.standard_normal((count, 3)).astype(np.float32), rate)
        generated = rng.standard_normal((count, 3))
        generated[rng.random(count) < copies / count] = 50
        squared = ((generated[i] - generated[j]) ** 2).sum(1)
        near = squared <= real.high**2
        found = diversity(np.stack([i, j], axis=1)[near], squared[near], count, real)
        held += found.ratio_low <= truth <= found.ratio_high
    assert held >= (LEAST - 3 * math.sqrt(LEAST * (1 - LEAST) / draws)) * draws


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


def repeating(count: int, seed: int, share: float) -> np.ndarray:
    """Draws of a source that gives one image again and again, with a probability of `share`."""
    drawn = normal(count, seed)
    drawn[np.random.default_rng([seed, 1]).random(count) < share] = 5
    return drawn


@pytest.mark.parametrize(("share", "most"), [(0.05, math.inf), (0.2, math.inf), (0.0, 1.6)])
def test_a_source_that_repeats_images_is_not_held_against_a_generator_of_the_same_source(share, most) -> None:
    """And without copies nothing is added to the interval."""
    found = [
        measured(repeating(1500, 100 + seed, share), duplicate_distance(repeating(400, seed, share), RATE))
        for seed in range(30)
    ]
    assert sum(each.ratio_low <= 1 <= each.ratio_high for each in found) >= 27
    assert np.median([each.ratio_high for each in found]) < most
    if not share:
        assert all(each.ratio_high == each.real.probability * each.high for each in found)


def test_images_that_a_data_set_holds_twice_make_nobody_less_diverse() -> None:
    """Neither a generator of the same source, which repeats none."""
    real = normal(400, 0)
    once, twice = duplicate_distance(real, RATE), duplicate_distance(np.repeat(real, 2, axis=0), RATE)
    assert (twice.distance, twice.copies, twice.images) == (once.distance, 400, 800)
    assert once.with_copies == once.probability
    pairs = 4 * once.within + 400
    assert twice.with_copies == pytest.approx(pairs / math.comb(800, 2))
    generated = normal(1500, 1)
    assert measured(generated, twice).ratio_low == measured(generated, once).ratio_low <= 1
    assert measured(generated, twice).ratio_high >= measured(generated, once).ratio_high >= 1


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_the_distance_counts_where_pairs_beyond_it_are_those_of_some_of_the_images(spread: float) -> None:
    distance_squared = 2 * stats.chi2.ppf(RATE, 3)
    truth = RATE / stats.chi2.cdf(distance_squared / (2 * spread**2), 3)
    held = 0
    for seed in range(40):
        real, generated = duplicate_distance(normal(150, seed), RATE), normal(1500, 1000 + seed, spread)
        whole = pairs_within(generated, real.high)
        some = pairs_within(generated[:400], real.high)
        inside = whole.index[whole.squared_distance <= real.distance**2]
        found = diversity_of(
            estimate(inside, 1500),
            pairs_curve(some.squared_distance, 400, real.distances),
            real,
            pairs_curve(whole.squared_distance, 1500, real.distances),
        )
        held += found.ratio_low <= truth <= found.ratio_high
        assert found.ratio_low <= measured(generated, real).ratio_low * 1.05
        assert found.ratio_high == measured(generated, real).ratio_high
    assert held >= 36


def test_of_some_images_without_any_pair_the_distance_may_matter_much() -> None:
    real, generated = duplicate_distance(normal(150, 0), RATE), normal(1500, 1, 2.0)
    whole = pairs_within(generated, real.high)
    sample = estimate(whole.index[whole.squared_distance <= real.distance**2], 1500)
    none = pairs_curve([], 30, real.distances)
    close = pairs_curve(whole.squared_distance, 1500, real.distances)
    assert diversity_of(sample, none, real, close).ratio_low < 0.5 * measured(generated, real).ratio_low
