"""Scores from kernels between images: KID, Vendi score and RKE.

Invariant: a function of the first images given, of a bounded number of them, so that memory and time stay bounded; sums
of products of bytes are exact.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from ganlab.pairs.exact import Array

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
    blocks = range(0, BLOCKS * size, size) if size >= 2 else ()
    return np.array([squared_mmd(real[start : start + size], generated[start : start + size]) for start in blocks])


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
    features = math.prod(a.shape[1:]) * (255**2 if a.dtype == np.uint8 else 1)
    within_a, within_b, between = ((_products(*both) / features + 1) ** 3 for both in ((a, a), (b, b), (a, b)))
    return float(_mean_off_diagonal(within_a) + _mean_off_diagonal(within_b) - 2 * between.mean())


def products_of(images: Array) -> Floats:
    """Inner products of the first `KERNEL_IMAGES` with one another, which several scores are made of: float64 (m, m)."""
    some = images[:KERNEL_IMAGES]
    return _products(some, some)


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


def _products(a: Array, b: Array) -> Floats:
    """Inner products of all pairs, (n, m)."""
    left, right = a.reshape(len(a), -1), b.reshape(len(b), -1)
    total = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], _FEATURES):
        part = slice(start, start + _FEATURES)
        values = left[:, part].astype(np.float64)
        others = values if a is b else right[:, part].astype(np.float64)  # half the work: the product is symmetric
        total += values @ others.T
    return total


def _squared_distances(products: Floats) -> Floats:
    lengths = products.diagonal()
    return np.maximum(lengths[:, None] + lengths - 2 * products, 0)


def _mean_off_diagonal(kernel: Floats) -> float:
    return float((kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1)))
