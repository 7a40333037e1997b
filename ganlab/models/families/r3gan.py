"""R3GAN (Huang et al. 2024, arXiv 2501.05441): a relativistic loss and two gradient penalties, on residual networks.

Invariant: no layer of a discriminator normalises, so a logit is a function of one item alone, as the penalties suppose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, leaky_relu, softplus

from ganlab.models.families.base import GeneratedBatch, NextBatch, Shape
from ganlab.models.families.trained import Optimization, TrainedFamily, Width
from ganlab.models.networks import discriminator_for, generator_for, stages

GROUP = 16
"""Channels of one group of the 3×3 convolutions, at most (section 3.3: ResNeXt's grouped convolutions)."""
EXPANSION = 2
"""Channels inside a residual block for each channel outside of it (section 3.3, inverted bottleneck)."""
SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))


class R3GANSettings(BaseModel):
    """Networks and penalties of an R3GAN; of points, perceptrons of these widths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["r3gan"] = "r3gan"
    latent_dim: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Length of the normal latent vector."""
    generator_width: Width = 64
    """Maps of the generator's stages up to 32×32; at 64×64 half, and at 128×128 a quarter as many."""
    discriminator_width: Width = 64
    """Maps of the discriminator's stages, as of the generator's."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 1
    """Residual blocks at each size of both networks; the paper has 2."""
    gradient_penalty: Annotated[float, Field(ge=0)] = 1.0
    """γ, the weight of both penalties: R1 on real and R2 on generated images. The authors' code begins with 0.05 on
    CIFAR-10 and with 2 on faces at 64×64."""


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """−E log σ(D(x) − D(G(z))), from logits (n,) of real images, each paired with a generated one (equation 2)."""
    return softplus(fake - real).mean()


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """−E log σ(D(G(z)) − D(x)), the generator's side of the same pairs (equation 2)."""
    return softplus(real - fake).mean()


def zero_centred_penalty(logits: Tensor, items: Tensor) -> Tensor:
    """½ E‖∇D‖² at `items`, from the logits (n,) computed of them: R1 on real, R2 on generated items (section 2)."""
    (gradient,) = torch.autograd.grad(logits.sum(), items, create_graph=True)
    return 0.5 * gradient.float().square().flatten(1).sum(1).mean()


class Convolution(nn.Module):
    """A convolution without bias, whose weights are N(0, gain² / fan-in), so that each layer preserves the variance."""

    def __init__(self, maps: int, following: int, size: int, gain: float = 1.0, groups: int = 1, padding: int = 0):
        super().__init__()
        fan_in = maps // groups * size**2
        self.weight = nn.Parameter(torch.randn(following, maps // groups, size, size) * (gain / math.sqrt(fan_in)))
        self.groups, self.padding = groups, padding

    def forward(self, images: Tensor) -> Tensor:
        return conv2d(images, self.weight, padding=self.padding, groups=self.groups)


class Activation(nn.Module):
    """A bias for each map, then a leaky ReLU."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, images: Tensor) -> Tensor:
        return leaky_relu(images + self.bias[:, None, None], SLOPE)


class ResidualBlock(nn.Module):
    """x + f(x) with f of 1×1, grouped 3×3 and 1×1 convolutions (section 3.3).

    Fix-up initialisation (Zhang et al. 2019) in place of normalisation: the last weights begin as zeros, the others are
    scaled by L^(−1/4) with L = `depth`, the number of blocks in the network.
    """

    def __init__(self, maps: int, depth: int) -> None:
        super().__init__()
        inner = EXPANSION * maps
        gain = GAIN * depth**-0.25
        self.layers = nn.Sequential(
            Convolution(maps, inner, 1, gain),
            Activation(inner),
            Convolution(inner, inner, 3, gain, groups=inner // math.gcd(inner, GROUP), padding=1),
            Activation(inner),
            Convolution(inner, maps, 1, 0.0),
        )

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = images + self.layers(images)
        return result


class Resampling(nn.Module):
    """Bilinear interpolation to twice or half the size, and a 1×1 convolution where the number of maps changes."""

    def __init__(self, maps: int, following: int, *, doubling: bool) -> None:
        super().__init__()
        self.doubling = doubling
        self.change = Convolution(maps, following, 1) if following != maps else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        # Halving bilinearly is the mean of 2×2 pixels.
        resized = interpolate(images, scale_factor=2, mode="bilinear") if self.doubling else avg_pool2d(images, 2)
        result: Tensor = self.change(resized)
        return result


def _widths(width: int, resolution: int) -> list[int]:
    """Maps at 4×4, 8×8, … `resolution`: `width` up to 32×32, then half as many at each doubling."""
    return [max(1, width * 32 // max(32, 4 * 2**stage)) for stage in range(stages(resolution) + 1)]


class R3Generator(nn.Module):
    """Latent vectors (n, latent_dim) to images (n, channels, resolution, resolution), about in [-1, 1].

    A learned 4×4 block of maps, each scaled by a linear function of the latent vector; residual blocks and doublings.
    """

    def __init__(self, latent_dim: int, width: int, channels: int, resolution: int, blocks: int) -> None:
        super().__init__()
        widths = _widths(width, resolution)
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.scale = nn.Linear(latent_dim, widths[0], bias=False)
        nn.init.normal_(self.scale.weight, 0.0, latent_dim**-0.5)
        layers: list[nn.Module] = []
        for stage, maps in enumerate(widths):
            if stage:
                layers.append(Resampling(widths[stage - 1], maps, doubling=True))
            layers += [ResidualBlock(maps, blocks * len(widths)) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, Convolution(widths[-1], channels, 1))

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = self.layers(self.scale(latent)[:, :, None, None] * self.basis)
        return images


class R3Discriminator(nn.Module):
    """Images (n, channels, resolution, resolution) to one logit each, (n,): the generator's layers in reverse."""

    def __init__(self, width: int, channels: int, resolution: int, blocks: int) -> None:
        super().__init__()
        widths = _widths(width, resolution)[::-1]
        layers: list[nn.Module] = [Convolution(channels, widths[0], 1)]
        for stage, maps in enumerate(widths):
            if stage:
                layers.append(Resampling(widths[stage - 1], maps, doubling=False))
            layers += [ResidualBlock(maps, blocks * len(widths)) for _ in range(blocks)]
        layers.append(Convolution(widths[-1], widths[-1], 4, groups=widths[-1]))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 1, bias=False)
        nn.init.normal_(self.head.weight, 0.0, widths[-1] ** -0.5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(images).flatten(1))
        return logits.flatten()


class R3GAN(TrainedFamily):
    """The family; see `Family` for the arguments. Learning rates and penalties stay as they are, without a schedule."""

    Settings: ClassVar[type[BaseModel]] = R3GANSettings
    optimization: ClassVar = Optimization("adam", 2e-4, (0.0, 0.99))  # type: ignore[misc]

    def build(self) -> Mapping[str, nn.Module]:
        s, shape = self.settings, self.shape
        self.generator = _generator(s, shape)
        self.discriminator = _discriminator(s, shape)
        return {"generator": self.generator, "discriminator": self.discriminator}

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        real = next_batch().detach().requires_grad_()
        with self.autocast():
            with torch.no_grad():
                fake = self.generator(self.normal(len(real), self.settings.latent_dim, draws)).float()
            fake.requires_grad_()
            on_real, on_fake = self.discriminator(real).float(), self.discriminator(fake).float()
            penalty = zero_centred_penalty(on_real, real) + zero_centred_penalty(on_fake, fake)
        loss = discriminator_loss(on_real, on_fake)
        self.optimizer_step(loss + self.settings.gradient_penalty * penalty, "discriminator")
        with self.frozen("discriminator"):
            with self.autocast():
                with torch.no_grad():
                    on_real = self.discriminator(real).float()
                made = self.generator(self.normal(len(real), self.settings.latent_dim, draws))
                on_generator = generator_loss(on_real, self.discriminator(made).float())
            self.optimizer_step(on_generator, "generator")
        self.update_averages()
        return {
            "generator_loss": on_generator.detach(),
            "discriminator_loss": loss.detach(),
            "gradient_penalty": penalty.detach(),
        }

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        with self.autocast():
            items = self.averages["generator"].network(self.normal(count, self.settings.latent_dim, noise))
        return GeneratedBatch(self.to_array(items))


def _generator(s: R3GANSettings, shape: Shape) -> nn.Module:
    if len(shape) == 1:
        return generator_for(shape, s.latent_dim, s.generator_width, 4, False)
    return R3Generator(s.latent_dim, s.generator_width, shape[0], shape[1], s.blocks)


def _discriminator(s: R3GANSettings, shape: Shape) -> nn.Module:
    if len(shape) == 1:
        return discriminator_for(shape, s.discriminator_width, 4, False, "none")
    return R3Discriminator(s.discriminator_width, shape[0], shape[1], s.blocks)
