"""Fine detail of pictures: against a plain computation, and under noise and averaging."""

import numpy as np
import pytest

from ganlab.quality.detail import BANDS, DetailBasis, is_picture


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth pictures with two channels, whose sides are no multiples of a patch."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[:12, :20]
    phase = rng.uniform(0, 6, (300, 2, 4, 1, 1))
    waves = np.cos(phase + rng.normal(0, 0.3, phase.shape) * down + rng.normal(0, 0.3, phase.shape) * across)
    return np.rint(128 + 25 * waves.sum(axis=2)).astype(np.uint8)


def plain_patches(picture: np.ndarray) -> np.ndarray:
    corners = [(y, x) for y in (0, 4) for x in (0, 8, 12)]
    return np.array([picture[:, y : y + 8, x : x + 8].ravel() for y, x in corners], dtype=np.float64)


def test_detail_is_the_mean_square_beyond_a_share_of_the_variance(pictures: np.ndarray) -> None:
    basis = DetailBasis.learn(pictures)
    patches = np.concatenate([plain_patches(each) for each in pictures])
    np.testing.assert_allclose(basis.mean, patches.mean(axis=0))
    centred = patches - patches.mean(axis=0)
    variance = centred.var(axis=0).sum()
    for band, directions, detail in zip(BANDS, basis.directions, basis.detail(pictures), strict=True):
        k = directions.shape[1]
        np.testing.assert_allclose(directions.T @ directions, np.eye(k), atol=1e-9)
        left = np.square(centred @ directions).sum(axis=1)
        assert left.mean() <= (1 - band) * variance * (1 + 1e-9)
        np.testing.assert_allclose(detail, left.reshape(len(pictures), -1).mean(axis=1) / k)
        weakest = np.linalg.eigvalsh(centred.T @ centred / len(centred))[: k + 1]
        np.testing.assert_allclose(left.mean(), weakest[:k].sum(), rtol=1e-6, atol=1e-9)
        assert weakest.sum() > (1 - band) * variance, "no direction more fits in the band"


def test_detail_of_a_picture_does_not_depend_on_the_others(pictures: np.ndarray) -> None:
    basis = DetailBasis.learn(pictures)
    detail = basis.detail(pictures)
    np.testing.assert_array_equal(basis.detail(pictures[7:8])[:, 0], detail[:, 7])
    np.testing.assert_array_equal(basis.detail(pictures[5::-1]), detail[:, 5::-1])
    assert basis.detail(pictures[:0]).shape == (2, 0)


def test_noise_adds_its_variance_and_averaging_takes_detail_away(pictures: np.ndarray) -> None:
    basis = DetailBasis.learn(pictures)
    clean = basis.detail(pictures).mean(axis=1)
    noisy = np.clip(np.rint(pictures + np.random.default_rng(1).normal(0, 6, pictures.shape)), 0, 255).astype(np.uint8)
    np.testing.assert_allclose(basis.detail(noisy).mean(axis=1) - clean, 36, rtol=0.05)
    half = np.rint((pictures + pictures.mean(axis=0)) / 2).astype(np.uint8)
    assert (basis.detail(half).mean(axis=1) < 0.5 * clean + 1).all()


def test_pictures_without_variance_have_no_detail() -> None:
    same = np.full((5, 1, 4, 4), 7, np.uint8)
    basis = DetailBasis.learn(same)
    assert not basis.detail(same).any()


def test_features_and_points_are_no_pictures(pictures: np.ndarray) -> None:
    assert is_picture(pictures)
    assert not is_picture(np.zeros((3, 2), np.float32))
    assert not is_picture(np.zeros((3, 64), np.uint8))
