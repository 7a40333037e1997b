"""The distance of a rate of real pairs: brute force, known laws, copies, and what too few images show."""

import math
import re

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from ganlab.statistics import duplicate_distance as module
from ganlab.statistics.duplicate_distance import (
    LEAST_PAIRS,
    RATES,
    DuplicateDistance,
    default_rate,
    duplicate_distance,
    duplicate_distances,
    images_needed,
)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return np.rint(load_digits().images[:, None] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def of_digits(digits: np.ndarray) -> DuplicateDistance:
    return duplicate_distance(digits)


def all_distances(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.int64 if images.dtype == np.uint8 else np.float64)
    i, j = np.triu_indices(len(flat), 1)
    return np.sort(np.sqrt(((flat[i] - flat[j]) ** 2).sum(1)))


def noisy(images: np.ndarray, seed: int) -> np.ndarray:
    """Copies that differ by at most three grey levels."""
    levels = np.random.default_rng(seed).integers(-3, 4, images.shape)
    return np.clip(images.astype(int) + levels, 0, 255).astype(np.uint8)


def normal(count: int, seed: int, dimensions: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def exact(rate: float, dimensions: int = 3) -> float:
    """The distance within which a share of all pairs of standard normal points lie."""
    return math.sqrt(2 * stats.chi2.ppf(rate, dimensions))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("count", [60, 500])
def test_distances_are_order_statistics_of_all_pairs(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 4, 5)).astype(kind)
    distances = all_distances(images)
    for limited in (False, True):  # by a limit that is at first too near
        if limited:
            monkeypatch.setattr(module, "_ALL_PAIRS", 0)
            monkeypatch.setattr(module, "_MARGIN", 0.3)
        found = duplicate_distances(images)
        assert list(found) == list(RATES)
        for rate, each in found.items():
            wanted = rate * len(distances)
            if wanted < LEAST_PAIRS:
                assert each is None
                continue
            assert each is not None
            assert each.distance == pytest.approx(distances[math.ceil(wanted) - 1], rel=1e-12)
            assert each.within == (distances <= each.distance).sum()
            assert (each.images, each.copies, each.pairs) == (count, 0, len(distances))
            assert each.low <= each.distance <= each.high
            assert each.probability == each.within / each.pairs >= rate


def test_large_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 105, 105), dtype=np.uint8)
    found = duplicate_distance(np.concatenate([images, images[:5]]), 0.1)
    assert (found.copies, found.pairs, found.within) == (5, 1770, 177)
    assert found.distance == pytest.approx(all_distances(images)[176])


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3, 0.6])
def test_the_square_of_a_distance_reaches_its_pair(rate: float) -> None:
    """The root of a whole number, squared, may fall short of it: of 6, 12 and 13, for example."""
    images = np.random.default_rng(0).integers(0, 2, (100, 24), dtype=np.uint8)
    found = duplicate_distance(images, rate)
    squared = np.rint(all_distances(images) ** 2).astype(int)
    assert found.within == (squared <= found.distance**2).sum() >= rate * len(squared)


@pytest.mark.parametrize("count", [200, 600, 1500])
def test_the_distance_does_not_move_with_the_number_of_images(count: int) -> None:
    rate = 1e-3
    found = [duplicate_distance(normal(count, seed), rate) for seed in range(20)]
    assert np.median([each.distance for each in found]) == pytest.approx(exact(rate), rel=0.05)
    assert sum(each.low <= exact(rate) <= each.high for each in found) >= 17
    assert np.median([each.high / each.low for each in found]) < 1 + 4 / math.sqrt(rate * math.comb(count, 2))


def test_fewer_digits_give_the_same_distance(digits: np.ndarray, of_digits: DuplicateDistance) -> None:
    rng = np.random.default_rng(0)
    subsets = [duplicate_distance(digits[rng.permutation(1797)[:600]]) for _ in range(10)]
    assert np.median([each.distance for each in subsets]) == pytest.approx(of_digits.distance, rel=0.03)
    assert sum(each.low <= of_digits.distance <= each.high for each in subsets) >= 9


def test_exact_copies_change_nothing(digits: np.ndarray, of_digits: DuplicateDistance) -> None:
    found = duplicate_distance(np.concatenate([digits, digits[:100]]))
    assert (found.images, found.copies) == (1897, 100)
    assert (found.distance, found.within, found.pairs) == (of_digits.distance, of_digits.within, of_digits.pairs)


@pytest.mark.parametrize("case", ["each twice", "both of each noisy", "half of them one image", "100 near copies"])
def test_near_copies_change_little(digits: np.ndarray, of_digits: DuplicateDistance, case: str) -> None:
    others = {
        "each twice": noisy(digits, 0),
        "both of each noisy": noisy(digits, 0),
        "half of them one image": noisy(digits[:1].repeat(len(digits), 0), 1),
        "100 near copies": noisy(digits[:100], 2),
    }[case]
    first = noisy(digits, 3) if case == "both of each noisy" else digits
    found = duplicate_distance(np.concatenate([first, others]))
    assert found.copies == len(others)
    assert found.distance == pytest.approx(of_digits.distance, rel=0.02)
    assert found.probability == pytest.approx(of_digits.probability, rel=0.02)


def test_close_but_different_images_are_no_copies(of_digits: DuplicateDistance) -> None:
    assert of_digits.copies == 0
    assert duplicate_distance(normal(2000, 0, 2), 1e-3).copies == 0
    far = normal(2000, 0, 2)
    far[:5] = far[5:10]  # equal points are, in any number of dimensions
    assert duplicate_distance(far, 1e-3).copies == 5


def test_copies_in_bounded_memory(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LISTED", 20_000)
    found = duplicate_distance(np.concatenate([digits[:600], noisy(digits[:1].repeat(600, 0), 1)]), 1e-2)
    assert found.images < 600
    assert 0.4 < found.copies / found.images < 0.6
    assert found.low < 377.3 < found.high


@pytest.mark.parametrize("rate", RATES)
def test_the_number_of_images_that_a_rate_needs(rate: float) -> None:
    needed = images_needed(rate)
    assert rate * math.comb(needed, 2) >= LEAST_PAIRS > rate * math.comb(needed - 1, 2)


def test_a_rate_that_the_pairs_do_not_show_is_refused(digits: np.ndarray) -> None:
    needed = images_needed(1e-4)
    assert duplicate_distance(digits[:needed]).within >= LEAST_PAIRS
    some = np.concatenate([digits[: needed - 1], digits[:7]])
    assert duplicate_distances(some)[1e-4] is None
    with pytest.raises(
        ValueError, match=re.escape(f"got {needed - 1} different ones; a rate of 0.0001 needs {needed} ")
    ):
        duplicate_distance(some)
    with pytest.raises(ValueError, match="got 1 different ones"):
        duplicate_distance(digits[:1].repeat(50, 0))
    with pytest.raises(ValueError, match="rate: got 0; allowed is between 0 and 1"):
        duplicate_distance(digits, 0)


def test_few_images_are_measured_at_the_smallest_rate_they_show() -> None:
    assert [default_rate(count) for count in (46, 141, 142, 447, 448, 10**6)] == [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4]
    with pytest.raises(ValueError, match=r"got 45 different ones; a rate of 0\.01 needs 46"):
        default_rate(45)


def test_an_order_by_content_makes_the_file_order_irrelevant(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 500)
    rng = np.random.default_rng(0)
    order, shuffled = rng.permutation(1797), rng.permutation(1797)
    place = np.argsort(shuffled)
    found = duplicate_distance(digits, order=order)
    assert found.images == 500
    assert duplicate_distance(digits[shuffled], order=place[order]) == found
    assert duplicate_distance(digits[order[:500]], order=np.arange(500)) == found
