"""Networks that look at an item with noise in it and at a time: a U-Net for images, a perceptron for points.

Invariant: no layer normalises over a batch, so each output is a function of one item and its time alone.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from ganlab.models.networks import stages

Layer = TypeVar("Layer", bound=nn.Module)
GROUPS = 8
"""Groups of group normalisation, at most; DDPM has 32, with 128 maps and more."""


def denoiser_for(shape: tuple[int, ...], width: int, blocks: int) -> nn.Module:
    """A network from items (n, *shape) and times (n,) in [0, 1] to something of the items' shape, at first zero."""
    if len(shape) == 1:
        return TimedPerceptron(shape[0], width, hidden=3)
    return UNet(shape[0], shape[1], width, blocks)


def time_features(time: Tensor, size: int) -> Tensor:
    """Sines and cosines of 1000 · time, (n, size), at wavelengths in geometric progression from 2π to 2π · 10,000.

    So Vaswani et al. 2017, section 3.5, encode positions and DDPM the number of 1000 steps of noise.
    """
    rates = torch.exp(torch.arange(size // 2, device=time.device) * (-math.log(10_000) / max(1, size // 2 - 1)))
    angles = 1000 * time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class UNet(nn.Module):
    """A small U-Net of DDPM's kind (Ho et al. 2020, appendix B), for any power-of-two resolution from 8 to 128.

    Residual blocks with group normalisation at every size down to 4×4, `width` maps at the first and twice as many at the
    others; self-attention at 4×4; the same way up, beside what the way down left at that size.
    """

    def __init__(self, channels: int, resolution: int, width: int, blocks: int) -> None:
        super().__init__()
        widths = [width, *[2 * width] * stages(resolution)]
        self.time_size = 2 * width
        timed = 4 * width
        self.on_time = nn.Sequential(nn.Linear(self.time_size, timed), nn.SiLU(), nn.Linear(timed, timed), nn.SiLU())
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept, maps = [width], width
        for level, following in enumerate(widths):
            if level:
                self.down.append(Halving(maps))
                kept.append(maps)
            for _ in range(blocks):
                self.down.append(TimedBlock(maps, following, timed))
                kept.append(maps := following)
        self.middle = nn.ModuleList([TimedBlock(maps, maps, timed), Attention(maps), TimedBlock(maps, maps, timed)])
        for level, following in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(TimedBlock(maps + kept.pop(), following, timed))
                maps = following
            if level:
                self.up.append(Doubling(maps))
        self.last = nn.Sequential(_norm(maps), nn.SiLU(), _zero(nn.Conv2d(maps, channels, 3, padding=1)))

    def forward(self, images: Tensor, time: Tensor) -> Tensor:
        timed = self.on_time(time_features(time, self.time_size))
        kept = [maps := self.first(images)]
        for layer in self.down:
            kept.append(maps := layer(maps, timed))
        for layer in self.middle:
            maps = layer(maps, timed)
        for layer in self.up:
            if isinstance(layer, TimedBlock):
                maps = torch.cat([maps, kept.pop()], dim=1)
            maps = layer(maps, timed)
        result: Tensor = self.last(maps)
        return result


class TimedBlock(nn.Module):
    """A residual block whose maps are shifted by a linear function of the time's features."""

    def __init__(self, maps: int, following: int, timed: int) -> None:
        super().__init__()
        self.before = nn.Sequential(_norm(maps), nn.SiLU(), nn.Conv2d(maps, following, 3, padding=1))
        self.shift = nn.Linear(timed, following)
        self.after = nn.Sequential(_norm(following), nn.SiLU(), _zero(nn.Conv2d(following, following, 3, padding=1)))
        self.beside = nn.Conv2d(maps, following, 1) if maps != following else nn.Identity()

    def forward(self, maps: Tensor, timed: Tensor) -> Tensor:
        inner = self.before(maps) + self.shift(timed)[:, :, None, None]
        result: Tensor = self.beside(maps) + self.after(inner)
        return result


class Attention(nn.Module):
    """Self-attention of the pixels of one image, with one head, added to its input."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.norm, self.inputs = _norm(maps), nn.Conv2d(maps, 3 * maps, 1)
        self.output = _zero(nn.Conv2d(maps, maps, 1))

    def forward(self, maps: Tensor, timed: Tensor) -> Tensor:
        query, key, value = (
            part.flatten(2).transpose(1, 2) for part in self.inputs(self.norm(maps)).chunk(3, dim=1)
        )  # (n, pixels, maps)
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(maps.shape)
        result: Tensor = maps + self.output(attended)
        return result


class Halving(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(maps, maps, 3, 2, padding=1)

    def forward(self, maps: Tensor, timed: Tensor) -> Tensor:
        result: Tensor = self.layer(maps)
        return result


class Doubling(nn.Module):
    """Each pixel four times, then a convolution."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(maps, maps, 3, padding=1)

    def forward(self, maps: Tensor, timed: Tensor) -> Tensor:
        result: Tensor = self.layer(interpolate(maps, scale_factor=2, mode="nearest"))
        return result


class TimedPerceptron(nn.Module):
    """Points (n, size) and times (n,) to vectors (n, size), by `hidden` layers of `width` units."""

    def __init__(self, size: int, width: int, hidden: int) -> None:
        super().__init__()
        self.time_size = 2 * width
        layers: list[nn.Module] = []
        inputs = size + self.time_size
        for _ in range(hidden):
            layers += [nn.Linear(inputs, width), nn.SiLU()]
            inputs = width
        self.layers = nn.Sequential(*layers, _zero(nn.Linear(inputs, size)))

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        result: Tensor = self.layers(torch.cat([points, time_features(time, self.time_size)], dim=1))
        return result


def _norm(maps: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(maps, GROUPS), maps)


def _zero(layer: Layer) -> Layer:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
