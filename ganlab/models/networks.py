"""Convolutional networks in the manner of DCGAN, for any power-of-two resolution, and perceptrons, for points.

Invariant: shapes and weight counts follow from the arguments alone; initial weights from the caller's random seed.
"""

import math
from itertools import pairwise

from torch import Tensor, cat, nn

from ganlab.models.convolutions import Conv2d, ConvTranspose2d


def generator_for(shape: tuple[int, ...], latent_dim: int, width: int, kernel_size: int, refine: bool) -> nn.Module:
    """A network from latent vectors (n, latent_dim) to items of `shape`: images in [-1, 1], or points."""
    if len(shape) == 1:
        return Perceptron(latent_dim, width, shape[0], hidden=2, normalise="batch")
    return Generator(latent_dim, width, shape[0], shape[1], kernel_size, refine)


def discriminator_for(
    shape: tuple[int, ...], width: int, kernel_size: int, refine: bool, normalise: str, outputs: int = 1
) -> nn.Module:
    """A network from items of `shape` to one number each, (n,), or to several, (n, outputs)."""
    if len(shape) == 1:  # without batch statistics, by which a discriminator of points sees the whole batch at once
        return Perceptron(shape[0], width, outputs, hidden=3, normalise="none")
    return Discriminator(width, shape[0], shape[1], kernel_size, refine, normalise, outputs)


def stages(resolution: int) -> int:
    """Number of doublings from 4×4 to `resolution` (a power of two from 8 to 128)."""
    return int(math.log2(resolution)) - 2


def initialise(network: nn.Module) -> None:
    """N(0, 0.02) weights and N(1, 0.02) scales (Radford et al. 2015, section 4); linear layers keep torch's own.

    Perceptrons here have no normalisation that would make up for weights as small as these.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
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
            ConvTranspose2d(latent_dim, maps, 4, bias=False),
            nn.BatchNorm2d(maps),
            nn.ReLU(inplace=True),
        ]
        for stage in range(depth):
            if refine:
                layers += [Conv2d(maps, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU(inplace=True)]
            last = stage == depth - 1 and not refine
            following = channels if last else maps // 2
            layers.append(_doubling(maps, following, kernel_size, bias=last))
            if not last:
                layers += [nn.BatchNorm2d(following), nn.ReLU(inplace=True)]
            maps = following
        if refine:
            layers.append(Conv2d(maps, channels, 3, padding=1))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.latent_dim = latent_dim

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = self.layers(latent[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images (n, channels, resolution, resolution) in [-1, 1] to one logit each, (n,), or several, (n, outputs).

    Convolutions of stride 2 with width, 2·width, 4·width, … maps down to 4×4, then one linear unit: at 64×64 the 5-layer
    network whose size Arora & Zhang vary (1706.08224, section 3: 1, 2, 4, 8 × dim maps). `normalise` is "batch", or
    "layer" where a gradient penalty needs images to be independent of one another (Gulrajani et al. 2017, section 4).
    """

    def __init__(
        self,
        width: int,
        channels: int,
        resolution: int,
        kernel_size: int,
        refine: bool,
        normalise: str,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        # Without batch statistics it is under a gradient penalty, and so differentiated twice.
        convolution = Conv2d if normalise == "batch" else nn.Conv2d
        layers: list[nn.Module] = []
        maps = channels
        if refine:
            layers += [convolution(maps, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
            maps = width
        for stage in range(stages(resolution)):
            first = stage == 0 and not refine
            following = width if first else 2 * maps
            layers += _block(convolution, maps, following, kernel_size, 2, "none" if first else normalise)
            maps = following
            if refine:
                layers += _block(convolution, maps, 2 * maps, 3, 1, normalise)
                maps = 2 * maps
        self.layers = nn.Sequential(*layers, convolution(maps, outputs, 4))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.flatten() if self.outputs == 1 else logits.flatten(1)


class Perceptron(nn.Module):
    """Vectors (n, inputs) to one number each, (n,), or several, (n, outputs), by `hidden` layers of `width` units.

    With `normalise` = "batch" (a generator) the hidden units are ReLUs of normalised sums; with "none" leaky ReLUs.
    """

    def __init__(self, inputs: int, width: int, outputs: int, hidden: int, normalise: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(hidden):
            layers.append(nn.Linear(inputs, width, bias=normalise == "none"))
            layers += [nn.BatchNorm1d(width), nn.ReLU()] if normalise == "batch" else [nn.LeakyReLU(0.2)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, outputs))
        self.outputs = outputs

    def forward(self, vectors: Tensor) -> Tensor:
        numbers: Tensor = self.layers(vectors)
        return numbers.flatten() if self.outputs == 1 else numbers


def _block(
    convolution: type[nn.Conv2d], maps: int, following: int, kernel_size: int, stride: int, normalise: str
) -> list[nn.Module]:
    padding = (kernel_size - 1) // 2
    layer = convolution(maps, following, kernel_size, stride, padding, bias=normalise == "none")
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [nn.BatchNorm2d(following)],
        "layer": [nn.GroupNorm(1, following)],
    }
    return [layer, *norms[normalise], nn.LeakyReLU(0.2, inplace=True)]


def _doubling(maps: int, following: int, kernel_size: int, bias: bool) -> nn.ConvTranspose2d:
    return ConvTranspose2d(
        maps, following, kernel_size, 2, padding=(kernel_size - 1) // 2, output_padding=kernel_size % 2, bias=bias
    )


class JointDiscriminator(nn.Module):
    """Pairs of items and codes (n, latent_dim) to one logit each, (n,) (Dumoulin et al. 2017, appendix A).

    A trunk on the item and a perceptron on the code, joined by two hidden layers of 2 · `code_width` units; `dropout`
    before each layer of the perceptrons but the last. The authors' code drops before that and the convolutions, too.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        width: int,
        kernel_size: int,
        refine: bool,
        code_width: int,
        dropout: float,
        normalise: str = "batch",
    ) -> None:
        super().__init__()
        item_features = max(2, code_width // 2)
        self.on_item = discriminator_for(shape, width, kernel_size, refine, normalise, item_features)
        self.on_code = _dropping([latent_dim, code_width, code_width], dropout)
        self.on_both = _dropping([item_features + code_width, 2 * code_width, 2 * code_width], dropout)
        self.head = nn.Linear(2 * code_width, 1)

    def forward(self, items: Tensor, codes: Tensor) -> Tensor:
        features = nn.functional.leaky_relu(self.on_item(items), 0.2)
        logits: Tensor = self.head(self.on_both(cat([features, self.on_code(codes)], dim=1)))
        return logits.flatten()


def _dropping(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Dropout(dropout), nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)
