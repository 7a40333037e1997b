"""The Fréchet distance: of laws it is known for, of pieces, and of what can't be compared."""

import numpy as np
import pytest
from scipy import linalg
from sklearn.linear_model import LinearRegression

from ganlab.quality.frechet import MOST_FEATURES, Moments, frechet_at_infinity, frechet_distance, moments_of


def of(vectors: np.ndarray) -> Moments:
    return Moments.create(vectors.shape[1]).add(vectors)


def by_formula(a: np.ndarray, b: np.ndarray) -> float:
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real))


def test_it_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 6)).astype(np.float32) @ rng.normal(size=(6, 6)).astype(np.float32)
    b = rng.normal(size=(300, 6)).astype(np.float32) + 2
    expected = by_formula(a.astype(float), b.astype(float))
    assert frechet_distance(of(a), of(b)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(of(b), of(a)) == pytest.approx(expected, rel=1e-9)


def test_normal_laws_of_one_dimension() -> None:
    """(μ₁ − μ₂)² + (σ₁ − σ₂)², from numbers whose moments are exact."""
    a, b = np.array([[-1], [1]], np.float32), np.array([[7], [13]], np.float32)
    assert frechet_distance(of(a), of(b)) == pytest.approx(10**2 + (3 - 1) ** 2 * 2)


def test_it_falls_to_zero_as_one_law_is_sampled_more() -> None:
    rng = np.random.default_rng(1)
    sizes = (100, 1000, 10_000)
    near = [frechet_distance(*(of(rng.normal(size=(n, 10)).astype(np.float32)) for _ in "ab")) for n in sizes]
    assert near[0] > 3 * near[1] > 9 * near[2] > 0
    same = of(rng.normal(size=(500, 10)).astype(np.float32))
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_pieces_of_any_size_give_the_same_moments(kind: str) -> None:
    images = np.random.default_rng(2).integers(0, 256, (1000, 3, 4, 4)).astype(kind)
    whole = Moments.create(48).add(images)
    parts = [Moments.create(48).add(images[start : start + 37]) for start in range(0, 1000, 37)]
    merged = parts[0]
    for part in parts[:0:-1]:
        merged = part.merge(merged)
    np.testing.assert_array_equal(merged.products, whole.products)  # whole numbers: exact
    np.testing.assert_array_equal(merged.total, whole.total)
    flat = images.reshape(1000, -1).astype(float)
    np.testing.assert_allclose(merged.covariance, np.cov(flat.T), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(moments_of(lambda start, stop: images[start:stop], 1000).products, whole.products)


def test_collapsed_sets_are_at_the_distance_of_their_images() -> None:
    a, b = np.full((50, 4), 10, np.uint8), np.full((50, 4), 13, np.uint8)
    assert frechet_distance(of(a), of(b)) == pytest.approx(36)


def test_at_infinity_is_the_intercept_of_a_line_in_1_over_n() -> None:
    rng = np.random.default_rng(3)
    real, images = (rng.normal(size=(n, 3)).astype(np.float32) + at for n, at in ((500, 0), (200, 1)))
    sizes = [20, 65, 110, 155, 200]
    distances = [by_formula(real.astype(float), images[:n].astype(float)) for n in sizes]
    line = LinearRegression().fit(1 / np.array(sizes)[:, None], distances)
    assert frechet_at_infinity(images, of(real)) == pytest.approx(line.intercept_, rel=1e-6)
    assert np.isnan(frechet_at_infinity(images[:11], of(real)))


def test_at_infinity_hardly_any_bias_is_left() -> None:
    rng = np.random.default_rng(4)
    real = of(rng.normal(size=(20_000, 10)).astype(np.float32))
    sets = [rng.normal(size=(400, 10)).astype(np.float32) + np.float32(0.1) for _ in range(40)]
    bias = np.mean([frechet_distance(of(images), real) for images in sets]) - 0.1
    assert bias > 0.06
    assert abs(np.mean([frechet_at_infinity(images, real) for images in sets]) - 0.1) < bias / 3


def test_bad_input() -> None:
    few = of(np.zeros((1, 3), np.uint8))
    with pytest.raises(ValueError, match="two or more of each"):
        frechet_distance(few, few)
    with pytest.raises(ValueError, match="use an embedding"):
        frechet_distance(of(np.zeros((3, 2), np.uint8)), of(np.zeros((3, 4), np.uint8)))
    long = Moments(5, np.zeros(MOST_FEATURES + 1), np.zeros((0, 0)))
    with pytest.raises(ValueError, match="use an embedding"):
        frechet_distance(long, long)
