"""Convolutional generators and discriminators in the manner of DCGAN, for any power-of-two resolution.

Invariant: shapes and weight counts follow from the arguments alone; initial weights from the caller's random seed.
"""

import math

from torch import Tensor, nn


def stages(resolution: int) -> int:
    """Number of doublings from 4×4 to `resolution` (a power of two from 8 to 128)."""
    return int(math.log2(resolution)) - 2


def initialise(network: nn.Module) -> None:
    """N(0, 0.02) weights and N(1, 0.02) scales (Radford et al. 2015, section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Latent vectors (n, latent_dim) to images (n, channels, resolution, resolution) in [-1, 1].

    A 4×4 block of maps, then one transposed convolution of stride 2 a stage, each halving the maps; the last hidden layer
    has `width`. `refine` adds a 3×3 convolution at every size: at 8×8 there are too few layers without it.
    """

    def __init__(self, latent_dim: int, width: int, channels: int, resolution: int, kernel_size: int, refine: bool):
        super().__init__()
        depth = stages(resolution)
        maps = width * 2 ** (depth if refine else depth - 1)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent_dim, maps, 4, bias=False),
            nn.BatchNorm2d(maps),
            nn.ReLU(inplace=True),
        ]
        for stage in range(depth):
            if refine:
                layers += [nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU(inplace=True)]
            last = stage == depth - 1 and not refine
            following = channels if last else maps // 2
            layers.append(_doubling(maps, following, kernel_size, bias=last))
            if not last:
                layers += [nn.BatchNorm2d(following), nn.ReLU(inplace=True)]
            maps = following
        if refine:
            layers.append(nn.Conv2d(maps, channels, 3, padding=1))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.latent_dim = latent_dim

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = self.layers(latent[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images (n, channels, resolution, resolution) in [-1, 1] to one logit each, (n,).

    Convolutions of stride 2 with width, 2·width, 4·width, … maps down to 4×4, then one linear unit: at 64×64 the 5-layer
    network whose size Arora & Zhang vary (1706.08224, section 3.3: 1, 2, 4, 8 × dim maps). `normalise` is "batch", or
    "layer" where a gradient penalty needs images to be independent of one another (Gulrajani et al. 2017, section 4).
    """

    def __init__(self, width: int, channels: int, resolution: int, kernel_size: int, refine: bool, normalise: str):
        super().__init__()
        layers: list[nn.Module] = []
        maps = channels
        if refine:
            layers += [nn.Conv2d(maps, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
            maps = width
        for stage in range(stages(resolution)):
            following = width if maps == channels and not refine else 2 * maps
            first = stage == 0 and not refine
            layers += _block(maps, following, kernel_size, 2, "none" if first else normalise)
            maps = following
            if refine:
                layers += _block(maps, 2 * maps, 3, 1, normalise)
                maps = 2 * maps
        self.layers = nn.Sequential(*layers, nn.Conv2d(maps, 1, 4))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.flatten()


def _block(maps: int, following: int, kernel_size: int, stride: int, normalise: str) -> list[nn.Module]:
    padding = (kernel_size - 1) // 2
    convolution = nn.Conv2d(maps, following, kernel_size, stride, padding, bias=normalise == "none")
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [nn.BatchNorm2d(following)],
        "layer": [nn.GroupNorm(1, following)],
    }
    return [convolution, *norms[normalise], nn.LeakyReLU(0.2, inplace=True)]


def _doubling(maps: int, following: int, kernel_size: int, bias: bool) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(
        maps, following, kernel_size, 2, padding=(kernel_size - 1) // 2, output_padding=kernel_size % 2, bias=bias
    )
