"""Precision, recall, density and coverage against the formulae and against prdc."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from ganlab.pairs.exact import as_images
from ganlab.quality.manifold import Balls, balls_of, count_mutually, manifold_scores


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    kind = np.int64 if a.dtype == np.uint8 else np.float64
    x, y = (images.reshape(len(images), -1).astype(kind) for images in (a, b))
    return ((x[:, None] - y[None]) ** 2).sum(2)


def by_formula(real: np.ndarray, generated: np.ndarray, k: int) -> dict[str, float]:
    """The papers' definitions, word by word: an image's own distance is left out by its place, not by its value."""
    radii = []
    for images in (real, generated):
        own = squared_distances(images, images).astype(float)
        np.fill_diagonal(own, np.inf)
        radii.append(np.sort(own, axis=1)[:, k - 1])
    between = squared_distances(real, generated)
    in_real, in_generated = between <= radii[0][:, None], between <= radii[1][None, :]
    return {
        "precision": in_real.any(0).mean(),
        "recall": in_generated.any(1).mean(),
        "density": in_real.sum() / (k * len(generated)),
        "coverage": in_real.any(1).mean(),
    }


def pictures(rng: np.random.Generator, count: int, kind: str, spread: int) -> np.ndarray:
    centres = np.random.default_rng(7).integers(0, 200, (6, 2, 4, 4))
    return (centres[rng.integers(0, 6, count)] + rng.integers(0, spread + 1, (count, 2, 4, 4))).astype(kind)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    real=st.integers(8, 70),
    generated=st.integers(8, 90),
    k=st.integers(1, 7),
    kind=st.sampled_from(["uint8", "float32"]),
    spread=st.sampled_from([0, 1, 40]),
)
def test_scores_are_the_formulae(seed: int, real: int, generated: int, k: int, kind: str, spread: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = pictures(rng, real, kind, spread), pictures(rng, generated, kind, 2 * spread)
    scores = manifold_scores(a, b, k)
    for name, value in by_formula(a, b, k).items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-12), name
    assert (scores.neighbours, scores.real_images, scores.generated_images) == (k, real, generated)


@pytest.mark.parametrize("k", [3, 5])
def test_scores_agree_with_prdc(k: int) -> None:
    """Continuous features, so that whether the rim belongs to a ball (theirs is open) makes no difference."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(600, 16)).astype(np.float32)
    generated = (0.8 * rng.normal(size=(500, 16)) + 0.3).astype(np.float32)
    scores = manifold_scores(real, generated, k)
    theirs = compute_prdc(real_features=real, fake_features=generated, nearest_k=k)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(scores, name) == pytest.approx(theirs[name], abs=1e-9)


def test_a_collapsed_generator_is_precise_and_covers_nothing() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=(500, 8)).astype(np.float32)
    generated = np.repeat(real[:1] * 0.01, 500, axis=0)
    scores = manifold_scores(real, generated)
    assert scores.precision == 1
    assert scores.recall == 0
    assert scores.coverage < 0.2


def test_radii_leave_each_image_out() -> None:
    images = np.array([[0], [0], [3], [10]], np.uint8)
    assert balls_of(images, 1).squared_radii.tolist() == [0, 0, 9, 49]
    assert balls_of(images, 3).squared_radii.tolist() == [100, 100, 49, 100]


def test_the_rim_belongs_to_the_ball() -> None:
    balls = Balls(as_images(np.array([[0], [100]], np.uint8)), np.array([9, 8]), None)
    points = Balls(as_images(np.array([[3], [4], [103]], np.uint8)), np.zeros(3), None)
    (inside, _), (_, around) = count_mutually(balls, points)
    assert inside.tolist() == [1, 0]
    assert around.tolist() == [1, 0, 0]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbours: got 5 of 5 images; allowed is at most 4"):
        manifold_scores(np.zeros((5, 2), np.uint8), np.zeros((9, 2), np.uint8))
