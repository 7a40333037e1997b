"""The two theorems on small discriminators, in numbers: generators of low support that they don't tell from the data.

Invariant: a gap is measured on real images that the discriminator was neither trained nor chosen on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganlab.models.networks import Discriminator, JointDiscriminator, initialise
from ganlab.optimizers import Adam
from ganlab.randomness import generator_for

UInt8 = npt.NDArray[np.uint8]
BATCH = 64
CHECKS = 20  # times that a training discriminator's gap is looked at, to choose the best
JUDGED = 512  # images of one forward pass


@dataclass(frozen=True)
class Gap:
    """Advantage of one trained discriminator between the data and a generator of low support.

    Attributes
    ----------
    pool : int
        Images in the generator's support, m.
    width, weights : int
        Of the discriminator; `weights` is p.
    seed : int
        Of the pool, the split and the training.
    gap : float
        |E D(real) − E D(generated)| on fresh images, D from 0 to 1.
    training_gap : float
        The same on the real images it was trained on.
    """

    pool: int
    width: int
    weights: int
    seed: int
    gap: float
    training_gap: float


@dataclass(frozen=True)
class Split:
    """Real images for four purposes, disjoint: the pool, training, choosing the best moment, and the verdict."""

    pool: UInt8
    training: UInt8
    choosing: UInt8
    fresh: UInt8

    @classmethod
    def make(cls, images: UInt8, pool: int, seed: int) -> Split:
        """Split images (N, C, H, W): a quarter for the verdict, an eighth for choosing, the rest for training.

        Raises
        ------
        ValueError
            When fewer than `pool` images would be left to train on.
        """
        order = generator_for(seed, "theory split").permutation(len(images))
        fresh, choosing = len(images) // 4, len(images) // 8
        left = len(images) - fresh - choosing - pool
        if left < pool or pool < 1:
            raise ValueError(
                f"pool: got {pool} of {len(images)} images; allowed: 1 to {(len(images) - fresh - choosing) // 2} "
                "(as many again are needed to train on)"
            )
        parts = np.split(order, np.cumsum([fresh, choosing, pool]))
        return cls(pool=images[parts[2]], training=images[parts[3]], choosing=images[parts[1]], fresh=images[parts[0]])


def pool_gap(
    images: UInt8,
    pool: int,
    width: int,
    seed: int,
    *,
    steps: int = 2000,
    learning_rate: float = 1e-3,
    kernel_size: int = 4,
    refine: bool = False,
) -> Gap:
    """Train a discriminator against a generator that is uniform on `pool` real images (Arora et al. 2017, corollary 3.2).

    The discriminator (layer normalisation, so that it judges each image alone) is trained to tell other real images from
    the pool, and kept at the moment when it does so best on images kept for choosing.

    Parameters
    ----------
    images : uint8 (N, C, H, W)
        Real images.
    pool, width
        Size of the pool, and of the discriminator as in `ganlab.models.networks.Discriminator`.
    """
    split = Split.make(images, pool, seed)

    def real(kind: str, count: int | None, draws: np.random.Generator) -> tuple[Tensor]:
        return (_unit(_some(getattr(split, kind), count, draws)),)

    def generated(count: int | None, draws: np.random.Generator) -> tuple[Tensor]:
        return (_unit(_some(split.pool, count, draws)),)

    def make() -> nn.Module:
        _, channels, resolution, _ = images.shape
        return Discriminator(width, channels, resolution, kernel_size, refine, "layer")

    return _train(make, real, generated, pool, width, seed, steps, learning_rate)


class NoisyImages:
    """The encoder–decoder construction (Arora, Risteski & Zhang 2018, section 3): images with noise in fixed pixels.

    A real image is x ⊙ η: noise η ~ N(0, 1) in every `spacing`-th value of the image, x elsewhere. The encoder reads the
    noise off. The generator cuts latent space into `m` blocks of equal mass, by the first coordinate of z, and has one
    image of the pool for each: G(z) = x̃ ⊙ z.

    Parameters
    ----------
    pool : uint8 (m, C, H, W)
        The generator's images.
    spacing : int
        Values of an image from one that carries noise to the next.
    """

    def __init__(self, pool: UInt8, spacing: int) -> None:
        size = math.prod(pool.shape[1:])
        if not 1 <= spacing <= size:
            raise ValueError(f"spacing: got {spacing}; allowed: 1 to {size}, the values of an image")
        self.pool = _unit(pool)
        self.place = torch.arange(spacing // 2, size, spacing)

    @property
    def latent_dim(self) -> int:
        """Length of a code: how many values of an image carry noise."""
        return len(self.place)

    def carry(self, images: Tensor, noise: Tensor) -> Tensor:
        """x ⊙ η: float32 images (n, C, H, W) with noise (n, latent_dim) in its places."""
        flat = images.flatten(1).clone()
        flat[:, self.place] = noise
        return flat.view_as(images)

    def encode(self, images: Tensor) -> Tensor:
        """E(x ⊙ η) = η: one layer that picks the places."""
        return images.flatten(1)[:, self.place]

    def block(self, latent: Tensor) -> Tensor:
        """Number of the block that a latent vector lies in, int64 (n,)."""
        level: Tensor = torch.special.ndtr(latent[:, 0].double())
        return (level * len(self.pool)).long().clamp_(max=len(self.pool) - 1)

    def generate(self, latent: Tensor) -> Tensor:
        """G(z): the image of z's block, carrying z."""
        return self.carry(self.pool[self.block(latent)], latent)

    def without_noise(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Images with the noisy values left out, float32 (n, rest), in grey levels: what a person would compare."""
        kept = torch.ones(images[0].numel(), dtype=torch.bool)
        kept[self.place] = False
        return (images.flatten(1)[:, kept] * 127.5).numpy()


def encoder_decoder_gap(
    images: UInt8,
    pool: int,
    width: int,
    seed: int,
    *,
    spacing: int = 50,
    steps: int = 2000,
    learning_rate: float = 1e-3,
    kernel_size: int = 4,
    refine: bool = False,
) -> Gap:
    """Train a discriminator of pairs against the encoder–decoder construction of `pool` images.

    `gap` is |E D(x⊙η, E(x⊙η)) − E D(G(z), z)| on fresh images and noise: the ε that this discriminator is fooled to.
    Parameters as for `pool_gap`; `spacing` as for `NoisyImages`.
    """
    split = Split.make(images, pool, seed)
    made = NoisyImages(split.pool, spacing)

    def real(kind: str, count: int | None, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
        chosen = _unit(_some(getattr(split, kind), count, draws))
        carried = made.carry(chosen, _normal((len(chosen), made.latent_dim), draws))
        return carried, made.encode(carried)

    def generated(count: int | None, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
        latent = _normal((count or len(split.fresh), made.latent_dim), draws)
        return made.generate(latent), latent

    def make() -> nn.Module:
        return JointDiscriminator(
            images.shape[1:],
            made.latent_dim,
            width,
            kernel_size,
            refine,
            code_width=2 * width,
            dropout=0.0,
            normalise="layer",
        )

    return _train(make, real, generated, pool, width, seed, steps, learning_rate)


def sufficient_pool(weights: int, epsilon: float) -> float:
    """The theorem's pool size without its constants: p log p / ε² (Arora et al. 2017, corollary 3.2)."""
    return weights * math.log(weights) / epsilon**2


def sufficient_encoder_pool(weights: int, epsilon: float) -> float:
    """Pool size of the encoder–decoder theorem without constants: p log² p / ε² (Arora, Risteski & Zhang 2018, thm 3)."""
    return weights * math.log(weights) ** 2 / epsilon**2


@dataclass(frozen=True)
class Exponent:
    """Exponent of a power law with its 95 % interval."""

    value: float
    low: float
    high: float


def exponents(gaps: Sequence[Gap], largest: float = 1.0, floor: float = 1e-3) -> tuple[Exponent, Exponent]:
    """Fit gap ∝ m^a p^b over pools and widths by least squares of logarithms, for each seed apart.

    The gaps of one seed are measured on the same images and are not independent; seeds are. A gap above `largest` is left
    out: near 1 it says nothing of the law. One below `floor` counts as `floor`, since a gap of zero has no logarithm.

    Returns
    -------
    a, b : Exponent
        Mean over seeds with its Student interval. The theorem's bound has a = −1/2 and, but for a logarithm, b = 1/2.

    Raises
    ------
    ValueError
        When there are fewer than two seeds, or one has no spread in pools or widths to fit to.
    """
    from scipy.stats import t

    fits = []
    for seed in sorted({gap.seed for gap in gaps}):
        own = [gap for gap in gaps if gap.seed == seed and gap.gap <= largest]
        columns = np.array([[1.0, math.log(gap.pool), math.log(gap.weights)] for gap in own])
        if len(own) < 3 or np.linalg.matrix_rank(columns) < 3:
            raise ValueError(
                f"gaps: got too few pools or widths for a fit with seed {seed}; allowed: two of each, or more"
            )
        fits.append(np.linalg.lstsq(columns, np.log([max(gap.gap, floor) for gap in own]), rcond=None)[0])
    if len(fits) < 2:
        raise ValueError(f"gaps: got {len(fits)} seeds, which show no spread; allowed: 2 or more")
    mean = np.mean(fits, axis=0)
    half = t.ppf(0.975, len(fits) - 1) * np.std(fits, axis=0, ddof=1) / math.sqrt(len(fits))
    a, b = (Exponent(*(float(x) for x in (mean[i], mean[i] - half[i], mean[i] + half[i]))) for i in (1, 2))
    return a, b


def linear_probe(inputs: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], seed: int) -> tuple[float, int]:
    """Accuracy of a linear classifier on the half of the inputs (n, d) that it wasn't fitted to, and that half's size."""
    from sklearn.linear_model import LogisticRegression

    order = generator_for(seed, "probe split").permutation(len(inputs))
    fitted, held_out = np.split(order, [len(order) // 2])
    centre, scale = inputs[fitted].mean(axis=0), inputs[fitted].std(axis=0) + 1e-6
    scaled = (inputs - centre) / scale
    probe = LogisticRegression(max_iter=2000).fit(scaled[fitted], labels[fitted])
    return float(probe.score(scaled[held_out], labels[held_out])), len(held_out)


Real = Callable[[str, int | None, np.random.Generator], tuple[Tensor, ...]]
Generated = Callable[[int | None, np.random.Generator], tuple[Tensor, ...]]


def _train(
    make: Callable[[], nn.Module],
    real: Real,
    generated: Generated,
    pool: int,
    width: int,
    seed: int,
    steps: int,
    learning_rate: float,
) -> Gap:
    """Train one discriminator by the usual loss; keep the weights with the best advantage on the validation images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator_for(seed, "theory weights").integers(2**63)))
        network = make()
        initialise(network)
    optimizer = Adam(network.parameters(), lr=learning_rate, betas=(0.5, 0.999), fused=True)

    def advantage(kind: str) -> float:
        draws = generator_for(seed, f"theory {kind}")
        return _mean(network, real(kind, None, draws)) - _mean(network, generated(None, draws))

    best, weights = -math.inf, network.state_dict()
    for step in range(1, steps + 1):
        draws = generator_for(seed, "theory training", step)
        on_real, on_generated = network(*real("training", BATCH, draws)), network(*generated(BATCH, draws))
        optimizer.zero_grad(set_to_none=True)
        loss = softplus(-on_real).mean() + softplus(on_generated).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % max(1, steps // CHECKS) == 0 and (gap := advantage("choosing")) > best:
            best, weights = gap, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    count = sum(parameter.numel() for parameter in network.parameters())
    return Gap(pool, width, count, seed, abs(advantage("fresh")), abs(advantage("training")))


@torch.no_grad()
def _mean(network: nn.Module, items: tuple[Tensor, ...]) -> float:
    """Mean of D, from 0 to 1, over items."""
    blocks = zip(*(torch.split(item, JUDGED) for item in items), strict=True)
    return float(torch.cat([network(*block).sigmoid() for block in blocks]).double().mean())


def _some(images: UInt8, count: int | None, draws: np.random.Generator) -> UInt8:
    return images if count is None else images[draws.integers(0, len(images), count)]


def _unit(images: UInt8) -> Tensor:
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1)


def _normal(shape: tuple[int, ...], draws: np.random.Generator) -> Tensor:
    return torch.from_numpy(draws.standard_normal(shape, dtype=np.float32))
