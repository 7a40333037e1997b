"""The losses of every family on fixed small tensors, against the formulas of their papers written out here."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from ganlab.models.families import ali, infogan, mix, stacked, vae
from ganlab.models.families.base import NextBatch
from ganlab.models.families.dcgan import discriminator_loss, generator_loss
from ganlab.models.families.pacgan import PacGAN, PacGANSettings
from ganlab.models.families.wgan import WGANSettings
from ganlab.models.families.wgan_gp import WGANGPSettings
from ganlab.models.train import TrainSettings

A = torch.tensor([0.3, -1.2, 2.0])
B = torch.tensor([-0.7, 0.4, 1.5])


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-x))


def test_ali_and_bigan() -> None:
    # Dumoulin et al. 2017, equation 3: max over D of E log D(x, ẑ) + E log(1 − D(x̃, z)); algorithm 1 for the others.
    value = torch.log(sigmoid(A)).mean() + torch.log(1 - sigmoid(B)).mean()
    torch.testing.assert_close(ali.discriminator_loss(A, B), -value)
    swapped = torch.log(1 - sigmoid(A)).mean() + torch.log(sigmoid(B)).mean()
    torch.testing.assert_close(ali.pair_loss(A, B), -swapped)


def test_mix_weighs_every_pair() -> None:
    # Arora et al. 2017, section 5: the sum over i and j of the products of both sides' weights, by loops.
    losses = torch.tensor([[0.3, 1.2, -0.4], [2.0, 0.1, 0.9], [0.5, -1.5, 0.7]])
    of_generators, of_discriminators = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.6, 0.3, 0.1])
    expected = sum(
        float(of_generators[i]) * float(of_discriminators[j]) * float(losses[i, j]) for i in range(3) for j in range(3)
    )
    mixed = mix.mixed(losses, of_generators.log(), of_discriminators.log())
    assert float(mixed) == pytest.approx(expected, rel=1e-6)
    penalty = -(math.log(0.2) + math.log(0.5) + math.log(0.3)) / 3
    assert float(mix.weight_penalty(of_generators.log())) == pytest.approx(penalty, rel=1e-6)
    assert penalty > float(mix.weight_penalty(torch.full((3,), 1 / 3).log())) == pytest.approx(math.log(3))


def test_infogan_bounds_the_mutual_information() -> None:
    # Chen et al. 2016, equation 4: E log Q(c|x) + H(c), Q categorical and normal with unit variance.
    answer = torch.tensor([[1.0, -0.5, 0.2, 0.3, -0.8], [0.1, 0.4, -1.0, 0.9, 0.0]])
    category, continuous = torch.tensor([0, 2]), torch.tensor([[0.5, -0.25], [-1.0, 0.75]])
    expected = math.log(3) + 2 * math.log(2)  # entropies: of 3 categories, and of two uniform laws on [−1, 1]
    for row, c, u in zip(answer.tolist(), category.tolist(), continuous.tolist(), strict=True):
        expected += (row[c] - math.log(sum(math.exp(x) for x in row[:3]))) / 2
        for mean, value in zip(row[3:], u, strict=True):
            expected += math.log(math.exp(-((value - mean) ** 2) / 2) / math.sqrt(2 * math.pi)) / 2
    assert float(infogan.information(answer, category, continuous)) == pytest.approx(expected, rel=1e-6)


def test_infogan_knows_all_when_its_answer_is_sure() -> None:
    sure = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert float(infogan.information(sure, torch.tensor([0, 1]), torch.empty(2, 0))) == pytest.approx(math.log(2))


def test_vae() -> None:
    # Kingma & Welling 2014, equation 10, with a normal decoder; the divergence also by integration.
    mean, log_variance = torch.tensor([[0.5, -1.0], [0.0, 2.0]]), torch.tensor([[-0.3, 0.2], [0.0, -1.0]])
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    expected = 0.0
    for m, v in zip(mean.flatten().tolist(), log_variance.exp().flatten().tolist(), strict=True):
        log_q = -((z - m) ** 2) / (2 * v) - 0.5 * math.log(2 * math.pi * v)
        log_p = -(z**2) / 2 - 0.5 * math.log(2 * math.pi)
        expected += float(torch.trapezoid(log_q.exp() * (log_q - log_p), z)) / 2  # two items
    assert float(vae.divergence(mean, log_variance)) == pytest.approx(expected, rel=1e-6)
    items, decoded = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 0.5], [0.5, -0.5]])
    # −log N(x; x̂, 0.5²) less the constant: (1² + 0.5²) / 0.5 and 1² / 0.5, averaged.
    assert float(vae.reconstruction_loss(items, decoded, 0.5)) == pytest.approx((2.5 + 2.0) / 2)


def test_wgan_and_its_penalty_take_the_published_settings() -> None:
    assert WGANSettings.loss == "wasserstein-clip"
    assert (WGANSettings().discriminator_steps, WGANSettings().weight_clip) == (5, 0.01)
    assert WGANGPSettings.loss == "wasserstein-gp"
    assert (WGANGPSettings().discriminator_steps, WGANGPSettings().gradient_penalty) == (5, 10)
    for settings in (WGANSettings, WGANGPSettings):
        torch.testing.assert_close(discriminator_loss(settings.loss, A, B), B.mean() - A.mean())
        torch.testing.assert_close(generator_loss(settings.loss, B), -B.mean())


def test_pacgan_judges_packs() -> None:
    """Lin et al. 2018, section 3: log D(x₁, …, xₘ) over packs of real and log(1 − D) over packs of generated images."""
    settings = PacGANSettings(latent_dim=3, generator_width=4, discriminator_width=4, packing=2)
    family = PacGAN(settings, (2,), TrainSettings(batch_size=5), 0)
    batches = [torch.randn(5, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    latent = torch.from_numpy(np.random.default_rng(7).standard_normal((10, 3), dtype=np.float32))
    with torch.no_grad():
        made = family.generator(latent)
        expected = 0.0
        for k in range(5):
            real = torch.cat([batches[0][k], batches[1][k]])[None]
            fake = torch.cat([made[k], made[5 + k]])[None]
            expected -= (
                float(
                    torch.log(sigmoid(family.discriminator(real))) + torch.log(1 - sigmoid(family.discriminator(fake)))
                )
                / 5
            )
    given = iter(batches)
    losses = family.step(given_by(given), np.random.default_rng(7))
    assert float(losses["discriminator_loss"]) == pytest.approx(expected, rel=1e-5)
    assert next(given, None) is None


def given_by(batches: Any) -> NextBatch:
    return lambda: next(batches)


def test_stacked_discriminators_by_their_class_logits() -> None:
    # Salimans et al. 2016, section 5: D(x) = Z / (Z + 1) with Z = Σ exp(logits).
    real = torch.tensor([[0.2, -1.0, 0.7], [1.5, 0.3, -0.2]])
    fake = torch.tensor([[-0.5, 0.1, -2.0], [0.0, 0.4, 0.9]])
    d_real, d_fake = (torch.exp(x).sum(1) / (torch.exp(x).sum(1) + 1) for x in (real, fake))
    expected = -0.5 * torch.log(d_real).mean() - 0.5 * torch.log(1 - d_fake).mean()
    torch.testing.assert_close(stacked.adversarial_loss(real, fake), expected)
    torch.testing.assert_close(sigmoid(stacked.realness(real)), d_real)
