"""The losses of the DCGAN family against their published formulas, and the sizes of its networks."""

import math

import numpy as np
import pytest
import torch

from ganlab.models.families.dcgan import (
    DCGAN,
    DCGANSettings,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from ganlab.models.networks import Discriminator, Generator
from ganlab.models.train import TrainSettings

REAL = torch.tensor([0.3, -1.2, 2.0])
FAKE = torch.tensor([-0.7, 0.4, 1.5])


def sigmoid(logits: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-logits))


def test_non_saturating_and_log() -> None:
    # Goodfellow et al. 2014, equation 1, and the generator's loss of section 3.
    maximised = torch.log(sigmoid(REAL)).mean() + torch.log(1 - sigmoid(FAKE)).mean()
    for loss in ("non-saturating", "log"):
        torch.testing.assert_close(discriminator_loss(loss, REAL, FAKE), -maximised)
    torch.testing.assert_close(generator_loss("non-saturating", FAKE), -torch.log(sigmoid(FAKE)).mean())
    torch.testing.assert_close(generator_loss("log", FAKE), torch.log(1 - sigmoid(FAKE)).mean())


@pytest.mark.parametrize("loss", ["wasserstein-clip", "wasserstein-gp"])
def test_wasserstein(loss: str) -> None:
    # Arjovsky et al. 2017, algorithm 1.
    torch.testing.assert_close(discriminator_loss(loss, REAL, FAKE), FAKE.mean() - REAL.mean())
    torch.testing.assert_close(generator_loss(loss, FAKE), -FAKE.mean())


def test_gradient_penalty_of_a_linear_critic() -> None:
    # Its gradient is its weight everywhere: the penalty is (‖w‖ − 1)².
    weight = torch.tensor([3.0, 4.0])
    images = torch.randn(5, 1, 1, 2)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight, images, -images, torch.rand(5, 1, 1, 1))
    torch.testing.assert_close(penalty, torch.tensor((5.0 - 1) ** 2))


def test_gradient_penalty_is_taken_between_real_and_generated() -> None:
    # Of D(x) = ‖x‖² / 2 the gradient at x̂ is x̂.
    real, fake, mix = torch.randn(5, 1, 1, 2), torch.randn(5, 1, 1, 2), torch.rand(5, 1, 1, 1)
    penalty = gradient_penalty(lambda x: x.flatten(1).square().sum(1) / 2, real, fake, mix)
    expected = 0.0
    for x, made, share in zip(real.view(5, 2).tolist(), fake.view(5, 2).tolist(), mix.flatten().tolist(), strict=True):
        between = [share * a + (1 - share) * b for a, b in zip(x, made, strict=True)]
        expected += (math.hypot(*between) - 1) ** 2 / 5
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-5)


def test_clipping_bounds_every_weight() -> None:
    settings = DCGANSettings(latent_dim=4, generator_width=4, discriminator_width=4, loss="wasserstein-clip")
    family = DCGAN(settings, (1, 8, 8), TrainSettings(), seed=0)
    dataset = family.prepare(np.zeros((8, 1, 8, 8), np.uint8))
    family.step(lambda: dataset[torch.arange(8)], np.random.default_rng(0))
    assert max(float(p.detach().abs().max()) for p in family.discriminator.parameters()) <= settings.weight_clip


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("kernel_size", [4, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128])
def test_shapes_at_every_resolution(resolution: int, channels: int, kernel_size: int, refine: bool) -> None:
    with torch.device("meta"):
        images = Generator(7, 4, channels, resolution, kernel_size, refine)(torch.empty(2, 7))
        logits = Discriminator(4, channels, resolution, kernel_size, refine, "batch")(images)
    assert images.shape == (2, channels, resolution, resolution)
    assert logits.shape == (2,)


@pytest.mark.parametrize(("width", "millions"), [(16, 0.27), (32, 1.08), (64, 4.31), (128, 17.2)])
def test_the_published_discriminators_have_the_published_weights(width: int, millions: float) -> None:
    """Arora & Zhang vary the size of this network: 5×5 kernels at 64×64 with 1, 2, 4, 8 × width maps."""
    with torch.device("meta"):
        network = Discriminator(width, 3, 64, kernel_size=5, refine=False, normalise="batch")
    weights = sum(p.numel() for name, p in network.named_parameters() if p.ndim == 4)
    assert math.isclose(weights / 1e6, millions, rel_tol=0.02)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_maps_double_whatever_the_channels(channels: int) -> None:
    network = Discriminator(4, channels, 64, kernel_size=4, refine=False, normalise="batch")
    assert [layer.out_channels for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)] == [
        4,
        8,
        16,
        32,
        1,
    ]


def test_samples_are_uint8_images() -> None:
    settings = DCGANSettings(latent_dim=4, generator_width=4, discriminator_width=4)
    images = DCGAN(settings, (3, 16, 16), TrainSettings(), seed=0).sample(5, np.random.default_rng(0)).images
    assert images.shape == (5, 3, 16, 16)
    assert images.dtype == np.uint8
