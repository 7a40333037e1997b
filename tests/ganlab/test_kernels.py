"""KID, Vendi score and RKE: published formulas by brute force, peers, numbers by hand, and bounded memory."""

import itertools
import math

import numpy as np
import pytest
from vendi_score import vendi

from ganlab.pairs.estimates import have_codes
from ganlab.pairs.exact import as_images
from ganlab.quality import kernels
from ganlab.quality.kernels import (
    BLOCK_IMAGES,
    BLOCKS,
    KERNEL_IMAGES,
    bandwidth_of,
    kid_blocks,
    kid_interval,
    products_of,
    rke,
    squared_mmd,
    vendi_score,
)


def images(kind: str, count: int, shape: tuple[int, ...] = (1, 4, 5), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "uint8":
        return rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return rng.normal(0.3, 1, (count, *shape)).astype(np.float32)


def mmd_by_formula(a: np.ndarray, b: np.ndarray) -> float:
    """Bińkowski et al. 2018, equation 4, pair by pair."""
    a, b = (each / 255 if each.dtype == np.uint8 else each.astype(float) for each in (a, b))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x.ravel() @ y.ravel()) / x.size + 1) ** 3

    m, n = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    within_b = sum(kernel(b[i], b[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    return within_a + within_b - 2 * sum(kernel(x, y) for x in a for y in b) / (m * n)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_squared_mmd_is_the_published_estimate(kind: str) -> None:
    a, b = images(kind, 12), images(kind, 9, seed=1)
    assert squared_mmd(a, b) == pytest.approx(mmd_by_formula(a, b), rel=1e-9)
    # By hand: 1 within {0, 1}, 27 within {1, 2}, (1 + 1 + 8 + 27) / 4 between.
    few = [np.array([[x], [y]], np.float32) for x, y in ((0, 1), (1, 2))]
    assert squared_mmd(*few) == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_scores_of_8_bit_images_in_float32_are_those_of_their_values() -> None:
    bytes_ = [images("uint8", count, (3, 6, 7), seed) for seed, count in enumerate((40, 30))]
    rows = [each.astype(np.float32) * np.float32(0.031) - 3 for each in bytes_]
    assert have_codes(*map(as_images, rows))
    assert squared_mmd(*rows) == pytest.approx(mmd_by_formula(*rows), abs=1e-6)  # kernels are about 50
    exact = rows[0].reshape(40, -1).astype(float)
    products = exact @ exact.T
    np.testing.assert_allclose(products_of(rows[0]), products, rtol=0, atol=1e-6 * products.max())
    rows[1][7] = np.random.default_rng(0).normal(0, 2, rows[1][7].shape)  # one image without codes: none are taken
    assert squared_mmd(*rows) == pytest.approx(mmd_by_formula(*rows), rel=1e-9)
    assert vendi_score(rows[0]) == pytest.approx(vendi.score_dual(exact), rel=1e-6)


def test_kid_is_the_mean_of_blocks_with_its_interval() -> None:
    a, b = images("float32", 95), images("float32", 90, seed=1)
    blocks = kid_blocks(a, b)
    expected = [mmd_by_formula(a[start : start + 9], b[start : start + 9]) for start in range(0, 90, 9)]
    np.testing.assert_allclose(blocks, expected, rtol=1e-6)
    value, low, high = kid_interval(blocks, 0.95)
    assert value == pytest.approx(np.mean(expected))
    half = 2.262157 * np.std(expected, ddof=1) / math.sqrt(10)
    assert (value - low, high - value) == pytest.approx((half, half), rel=1e-5)
    assert len(kid_blocks(a[: 2 * BLOCKS - 1], b)) == 0


def test_kid_of_one_law_is_0_within_its_interval_and_of_two_is_not() -> None:
    def of(shift: float, seed: int) -> tuple[float, float, float]:
        sets = [images("float32", 300, (4,), 2 * seed + each) for each in (0, 1)]
        return kid_interval(kid_blocks(sets[0], sets[1] + np.float32(shift)), 0.95)

    held = [low <= 0 <= high for _, low, high in (of(0, seed) for seed in range(200))]
    assert sum(held) >= 180  # fewer of 200 at 95 % have a probability below 1 %
    assert min(of(0.5, seed)[1] for seed in range(20)) > 0


@pytest.mark.parametrize(("count", "features"), [(40, 7), (12, 200)], ids=["long", "wide"])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_vendi_score_is_the_peers(kind: str, count: int, features: int) -> None:
    rows = images(kind, count, (features,))
    assert vendi_score(rows) == pytest.approx(vendi.score_dual(rows.astype(np.float64)), rel=1e-6)


@pytest.mark.parametrize("width", [3, 50])
def test_vendi_scores_by_hand(width: int) -> None:
    rows = np.zeros((8, width), np.uint8)
    assert vendi_score(rows) == pytest.approx(1), "equal images, of zeros"
    rows[:, 0] = np.arange(1, 9)
    assert vendi_score(rows) == pytest.approx(1), "one direction"
    rows[:2] = 0
    rows[0, 1], rows[1, 1] = 200, 10
    two = math.exp(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert vendi_score(rows) == pytest.approx(two)
    rows[:2] = 0
    assert vendi_score(rows) == pytest.approx(two), "zeros are a direction of their own"


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_rke_is_the_published_formula(kind: str) -> None:
    rows = images(kind, 25)
    values = rows.reshape(25, -1).astype(float)
    squared = ((values[:, None] - values[None]) ** 2).sum(axis=2)
    bandwidth = bandwidth_of(rows)
    assert bandwidth == pytest.approx(math.sqrt(np.quantile(squared[np.triu_indices(25, 1)], 0.01)))
    kernel = np.exp(-squared / (2 * bandwidth**2)) / 25
    assert rke(rows, bandwidth) == pytest.approx(1 / np.linalg.norm(kernel) ** 2, rel=1e-6)
    # By hand: two images at the bandwidth from each other, and equal ones.
    assert rke(np.array([[0], [3]], kind), 3.0) == pytest.approx(4 / (2 + 2 / math.e))
    assert rke(np.full((7, 5), 9, kind), 3.0) == pytest.approx(1)


def test_what_cannot_be_had_is_missing() -> None:
    same = images("uint8", 1).repeat(10, axis=0)
    assert bandwidth_of(same) == 0
    assert math.isnan(rke(same, bandwidth_of(same)))
    assert math.isnan(bandwidth_of(same[:1]))
    assert vendi_score(same[:1]) == pytest.approx(1)


def test_time_and_memory_are_bounded() -> None:
    """A million images, none of which takes memory, are as many as the first ones."""
    rows = images("uint8", KERNEL_IMAGES, (2,))
    many = np.concatenate([rows, images("uint8", 500, (2,), seed=1)])
    assert vendi_score(many) == vendi_score(rows)
    assert rke(many, 5.0) == rke(rows, 5.0)
    assert bandwidth_of(many) == bandwidth_of(rows)
    first = BLOCKS * BLOCK_IMAGES
    endless = np.broadcast_to(np.arange(2, dtype=np.uint8), (10**6, 2))
    assert len(kid_blocks(endless, endless)) == BLOCKS
    assert kid_blocks(endless, endless).tolist() == kid_blocks(endless[:first], endless[:first]).tolist()


def test_images_of_more_features_than_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = images("float32", 6, (3, 7, 5))
    monkeypatch.setattr(kernels, "_FEATURES", 32)
    assert vendi_score(rows) == pytest.approx(vendi.score_dual(rows.reshape(6, -1).astype(np.float64)), rel=1e-6)
    assert squared_mmd(rows, rows[:3]) == pytest.approx(mmd_by_formula(rows, rows[:3]), rel=1e-9)
