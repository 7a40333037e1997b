"""Scores from kernels between images: KID, Vendi score and RKE.

Invariant: a function of the first images given, of a bounded number of them, so that memory and time stay bounded; sums
of products of bytes are exact, and those of 8-bit images in float32 are of their codes (`ganlab.pairs.estimates`).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg, special

from ganlab.pairs.estimates import codes_of, have_codes
from ganlab.pairs.exact import Array, Images, as_images, integer_product

BLOCKS = 10  # disjoint ones that KID is the mean of
BLOCK_IMAGES = 1000  # of each set in a block, at most: what KID is published for
KERNEL_IMAGES = 2000  # that the Vendi score and RKE are of, at most: time grows as their cube
BANDWIDTH_RATE = 0.01  # share of the pairs of real images within the bandwidth of RKE
_FEATURES = 4096  # of an image, taken at a time
Floats = npt.NDArray[np.float64]


def kid_blocks(real: Array, generated: Array) -> Floats:
    """Kernel Inception distance of blocks of images: unbiased squared MMD with a cubic kernel, in any space.

    Parameters
    ----------
    real, generated
        (n, ...) and (m, ...) uint8 images or float32 features, each in random order.

    Returns
    -------
    float64 (b,)
        Independent estimates of `BLOCKS` blocks of up to `BLOCK_IMAGES` images of each set; none where a block would have
        less than two. Negative ones are due.
    """
    size = min(BLOCK_IMAGES, min(len(real), len(generated)) // BLOCKS)
    if size < 2:
        return np.empty(0)
    factors = _factors(real[: BLOCKS * size], generated[: BLOCKS * size])
    blocks = (slice(start, start + size) for start in range(0, BLOCKS * size, size))
    return np.array([_squared_mmd(*(each.take(block) for each in factors)) for block in blocks])


def kid_interval(blocks: Floats, confidence: float) -> tuple[float, float, float]:
    """The mean of two or more block estimates with its Student interval: (value, low, high)."""
    mean, scale = float(blocks.mean()), float(np.abs(blocks).max()) or 1.0  # squares of large ones have no float
    error = scale * float((blocks / scale).std(ddof=1)) / math.sqrt(len(blocks))
    half = float(special.stdtrit(len(blocks) - 1, (1 + confidence) / 2)) * error
    return mean, mean - half, mean + half


def squared_mmd(a: Array, b: Array) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy, with the kernel (x·y / d + 1)³.

    Bińkowski et al. 2018, equation 4. Each set has two images or more, of d values; bytes count as 0 to 1, since the
    kernel is for values of about that size.
    """
    return _squared_mmd(*_factors(a, b))


def products_of(images: Array) -> Floats:
    """Inner products of the first `KERNEL_IMAGES` with one another, which several scores are made of: float64 (m, m)."""
    (factors,) = _factors(images[:KERNEL_IMAGES])
    return _products(factors, factors)


def vendi_score(images: Array, products: Floats | None = None) -> float:
    """Vendi score: exponential of the entropy of the eigenvalues of the images' cosine similarities, over their number.

    1 for equal images, n for n orthogonal ones (Friedman and Dieng 2023, definition 3.1; there of features). Images of
    zeros are like one another, and orthogonal to others. Of the first `KERNEL_IMAGES`; grows with their number.

    Parameters
    ----------
    products
        What `products_of` gave for the images, where it is known.
    """
    rows = images[:KERNEL_IMAGES].reshape(len(images[:KERNEL_IMAGES]), -1)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    zero = lengths == 0
    scale = 1 / np.where(zero, 1, lengths)
    if rows.shape[1] < len(rows):  # the same eigenvalues, of the smaller matrix
        unit = rows * scale[:, None]
        similarity = unit.T @ unit
    else:
        similarity = (products_of(images) if products is None else products) * scale * scale[:, None]
    values = np.append(linalg.eigvalsh(similarity / len(rows)), zero.mean())
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def rke(images: Array, bandwidth: float, products: Floats | None = None) -> float:
    """Rényi kernel entropy score of order 2: n² over the sum of squared Gaussian kernels of all pairs.

    RKE-MC of Jalali et al. 2023, with the kernel exp(−|x − y|² / (2 bandwidth²)). Of the first
    `KERNEL_IMAGES`, each paired with itself, too: at most as many. NaN for a bandwidth of 0.

    Products as for `vendi_score`.
    """
    if not bandwidth > 0:
        return math.nan
    squared = _squared_distances(products_of(images) if products is None else products)
    return float(squared.size / np.exp(-squared / bandwidth**2).sum())


def bandwidth_of(real: Array, products: Floats | None = None) -> float:
    """Distance within which a share `BANDWIDTH_RATE` of the pairs of the first real images lie; NaN of a single image.

    Products as for `vendi_score`.
    """
    if len(real) < 2:
        return math.nan
    squared = _squared_distances(products_of(real) if products is None else products)
    return math.sqrt(np.quantile(squared[np.triu_indices(len(squared), 1)], BANDWIDTH_RATE))


class _Factors(NamedTuple):
    """Images as their products are computed: each is an offset and a step times its values.

    Parameters
    ----------
    values
        (n, d) int8 codes, of uint8 images these less 128; float32 for other images.
    step, offset, total
        (n,) float64; the last is the sum of the values.
    unit
        What counts as 1: 255 in uint8 images.
    """

    values: Array
    step: Floats
    offset: Floats
    total: Floats
    unit: float

    def take(self, some: slice) -> "_Factors":
        """The factors of some of the images, in their order."""
        return _Factors(self.values[some], self.step[some], self.offset[some], self.total[some], self.unit)


def _factors(*sets: Array) -> list[_Factors]:
    """The factors of sets of one kind: codes where all images have them."""
    images = [as_images(each) for each in sets]
    if images[0].integer:
        return [_of_bytes(each) for each in images]
    if have_codes(*images) and all(codes_of(each).fit.all() for each in images):
        return [_Factors(each.values, each.step, each.offset, each.total, 1.0) for each in map(codes_of, images)]
    ones = (np.ones(len(each)) for each in images)
    return [_Factors(each.values, one, 0 * one, one, 1.0) for each, one in zip(images, ones, strict=True)]


def _of_bytes(images: Images) -> _Factors:
    values, _ = images.shifted(slice(None))
    one = np.ones(len(values))
    return _Factors(values, one, 128 * one, values.sum(axis=1, dtype=np.float64), 255.0)


def _squared_mmd(a: _Factors, b: _Factors) -> float:
    features = a.values.shape[1] * a.unit**2

    def kernel(left: _Factors, right: _Factors) -> Floats:
        base = _products(left, right)
        base /= features
        base += 1
        return base * base * base

    within = (_mean_off_diagonal(kernel(each, each)) for each in (a, b))
    return float(sum(within) - 2 * kernel(a, b).mean())


def _products(a: _Factors, b: _Factors) -> Floats:
    """Inner products of all pairs, (n, m)."""
    features = a.values.shape[1]
    if a.values.dtype == np.int8:
        total = integer_product(torch.from_numpy(a.values), torch.from_numpy(b.values)).double().numpy()
        total *= a.step[:, None]
        total *= b.step
        total += a.offset[:, None] * (features * b.offset + b.step * b.total)
        total += (a.step * a.total)[:, None] * b.offset
        return total
    total = np.zeros((len(a.values), len(b.values)))
    for start in range(0, features, _FEATURES):
        part = slice(start, start + _FEATURES)
        values = a.values[:, part].astype(np.float64)
        others = values if a is b else b.values[:, part].astype(np.float64)  # half the work: the product is symmetric
        total += values @ others.T
    return total


def _squared_distances(products: Floats) -> Floats:
    lengths = products.diagonal()
    return np.maximum(lengths[:, None] + lengths - 2 * products, 0)


def _mean_off_diagonal(kernel: Floats) -> float:
    return float((kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1)))
