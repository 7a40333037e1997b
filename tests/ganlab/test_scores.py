"""Scores beside the duplicates: of real digits against themselves, against noise, and to disk and back."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ganlab.quality import scores
from ganlab.quality.kernels import kid_interval
from ganlab.quality.scores import MOST_IMAGES, Scores, real_side, score, score_real, scored_images


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    order = np.random.default_rng(0).permutation(1797)
    return np.rint(load_digits().images[order, None] * (255 / 16)).astype(np.uint8)


def reader(images: np.ndarray):
    def read(start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= len(images)
        return images[start:stop]

    return read


def test_held_out_digits_are_like_digits_and_noise_is_not(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_BLOCK", 100)
    training, held_out = digits[:900], digits[900:]
    real = real_side(reader(training), 900, scored_images(897, 900, 64), 150.0)
    assert len(real.images) == 897
    alike = score(reader(held_out), 897, real)
    noise = np.random.default_rng(1).integers(0, 256, held_out.shape, dtype=np.uint8)
    other = score(reader(noise), 897, real)
    control = score_real(reader(training), 900, real.distances)
    assert alike.manifold is not None
    assert other.manifold is not None
    assert min(alike.manifold.precision, alike.manifold.recall, alike.manifold.coverage) > 0.85
    assert 0.8 < alike.manifold.density < 1.2
    assert other.manifold.precision == other.manifold.coverage == 0
    assert other.frechet > 50 * alike.frechet
    assert 0.3 < alike.frechet / control.frechet < 0.7  # of halves it is twice as large, as its bias is
    assert -0.5 * alike.frechet < alike.frechet_at_infinity < 0.9 * alike.frechet
    low, high = kid_interval(alike.kid_blocks, 0.99)[1:]
    assert low < 0 < high
    assert kid_interval(other.kid_blocks, 0.99)[1] > 0
    of_real = score_real(reader(training), 900, real.distances, bandwidth=real.bandwidth)
    assert alike.vendi == pytest.approx(of_real.vendi, rel=0.05)
    assert alike.rke == pytest.approx(of_real.rke, rel=0.15)
    assert other.rke > 3 * alike.rke
    assert 150.0 in real.distances
    ratio = control.curve.probability[-1] / alike.curve.probability[-1]
    assert 0.9 < ratio < 1.1
    assert control.curve.pairs[0] == 900 * 899 // 2


def test_to_disk_and_back(digits: np.ndarray) -> None:
    real = real_side(reader(digits), 1797, 300, 100.0)
    found = score(reader(digits[:300]), 300, real)
    back = Scores.from_arrays(found.to_arrays())
    assert back.manifold == found.manifold
    for name in ("frechet", "frechet_at_infinity", "vendi", "rke"):
        assert getattr(back, name) == getattr(found, name)
    assert back.kid_blocks.tolist() == found.kid_blocks.tolist()
    np.testing.assert_array_equal(back.curve.within, found.curve.within)
    lone = score_real(reader(digits), 1797, real.distances)
    assert Scores.from_arrays(lone.to_arrays()).manifold is None


def test_few_or_large_images_leave_gaps_and_no_error() -> None:
    few = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    real = real_side(reader(few), 4, scored_images(4, 4, 3072), 10.0)
    found = score(reader(few), 4, real)
    assert found.manifold is None
    assert np.isnan(found.frechet)
    assert found.curve.within[-1] >= 1


def test_equally_many_of_both_are_looked_at() -> None:
    assert scored_images(20_000, 1797, 64) == 1797
    assert scored_images(2_000, 50_000, 3072) == 2_000
    assert scored_images(10**6, 10**6, 64) == MOST_IMAGES
    assert scored_images(10**6, 10**6, 3 * 256 * 256) == 2**28 // (3 * 256 * 256)
