"""The constructions of the theory: exact where they are exact; discriminators fooled, or not, as they should be."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.datasets.stacked_digits import StackedDigitsSettings
from ganlab.statistics.support import estimate_from_degrees
from ganlab.theory import (
    Gap,
    NoisyImages,
    Split,
    encoder_decoder_gap,
    exponents,
    linear_probe,
    pool_gap,
)

STACKS = StackedDigitsSettings(images=6000).load().images


def test_the_four_parts_are_disjoint() -> None:
    images = np.arange(800, dtype=np.int64).view(np.uint8).reshape(800, 1, 2, 4)
    split = Split.make(images, 50, seed=3)
    parts = [
        part.reshape(len(part), 8).view(np.int64).ravel()
        for part in (split.pool, split.training, split.choosing, split.fresh)
    ]
    assert [len(part) for part in parts] == [50, 450, 100, 200]
    assert len(np.unique(np.concatenate(parts))) == 800
    with pytest.raises(ValueError, match="pool: got 300 of 800 images; allowed: 1 to 250"):
        Split.make(images, 300, seed=0)


def test_the_encoder_undoes_the_generator_exactly() -> None:
    made = NoisyImages(STACKS[:100], spacing=10)
    latent = torch.randn(5000, made.latent_dim, generator=torch.Generator().manual_seed(0))
    images = made.generate(latent)
    assert torch.equal(made.encode(images), latent)
    carried = made.carry(images.roll(1, 0), latent)
    assert torch.equal(made.encode(carried), latent)
    kept = made.without_noise(images)
    assert kept.shape == (5000, 192 - made.latent_dim)
    np.testing.assert_array_equal(kept, made.without_noise(made.pool[made.block(latent)]))


def test_blocks_have_equal_mass_and_the_birthday_test_finds_the_pool() -> None:
    made = NoisyImages(STACKS[:80], spacing=50)
    latent = torch.randn(1000, made.latent_dim, generator=torch.Generator().manual_seed(1))
    counts = np.bincount(made.block(latent), minlength=80)
    assert ((counts - 1000 / 80) ** 2 / (1000 / 80)).sum() < 79 + 4 * math.sqrt(2 * 79)
    images = made.without_noise(made.generate(latent))
    same = (images[:, None] == images[None, :]).all(axis=2)
    support = estimate_from_degrees(same.sum(axis=1) - 1)
    assert support.low <= 80 <= support.high


def test_codes_are_noise_and_images_are_not() -> None:
    digits = DigitsSettings().load()
    assert digits.labels is not None
    made = NoisyImages(digits.images[:10], spacing=8)
    images = torch.from_numpy(digits.images.astype(np.float32) / 127.5 - 1)
    noise = torch.randn(len(images), made.latent_dim, generator=torch.Generator().manual_seed(0))
    codes = made.encode(made.carry(images, noise)).numpy()
    on_codes, held_out = linear_probe(codes, digits.labels, seed=0)
    on_images, _ = linear_probe(made.without_noise(images), digits.labels, seed=0)
    assert on_codes < 0.1 + 4 * math.sqrt(0.1 * 0.9 / held_out)
    assert on_images > 0.85


@pytest.mark.parametrize("gap", [pool_gap, encoder_decoder_gap])
def test_a_large_pool_fools_a_small_discriminator_and_a_small_pool_does_not(gap) -> None:
    few, many = (gap(STACKS, pool, width=2, seed=0, steps=150, learning_rate=5e-3) for pool in (2, 1500))
    assert few.weights == many.weights
    assert few.gap > 0.3
    assert many.gap < 0.1
    assert gap(STACKS, 1500, width=2, seed=0, steps=150, learning_rate=5e-3) == many  # a function of its arguments


def test_exponents_of_a_law_are_found() -> None:
    draws = np.random.default_rng(0)
    gaps = [
        Gap(m, 1, p, seed, 0.5 * m**-0.5 * p**0.3 * math.exp(0.05 * draws.standard_normal()), 1.0)
        for m in (10, 100, 1000)
        for p in (50, 500, 5000)
        for seed in range(3)
    ]
    a, b = exponents(gaps)
    assert a.low < -0.5 < a.high
    assert b.low < 0.3 < b.high
    assert a.high - a.low < 0.1
    saturated = [replace(gap, gap=min(1.0, 2 * gap.gap)) for gap in gaps]
    assert exponents(saturated)[0].low > -0.45
    a, b = exponents(saturated, largest=0.99)
    assert a.low < -0.5 < a.high
    assert b.low < 0.3 < b.high
    with pytest.raises(ValueError, match="too few pools or widths"):
        exponents(gaps[:3])
    with pytest.raises(ValueError, match="got 1 seeds"):
        exponents([gap for gap in gaps if gap.seed == 0])
