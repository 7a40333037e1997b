"""The Fréchet distance of two sets of images: between the normal laws of their means and covariances.

Invariant: moments are sums in float64, so sets are read in pieces of any size; for uint8 images they are exact integers.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.exact import Array, Read

MOST_FEATURES = 2048  # of a vector; the covariance of more takes too long, and more images than there are
SIZES = 5  # numbers of images from which the distance at infinitely many is extrapolated
_BLOCK = 4096
_EXACT = 2**53 / 255**2  # so many squares of bytes can be added in float64


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the feature vectors of a set, from which mean and covariance follow.

    Attributes
    ----------
    count : int
        Vectors added.
    total : float64 (d,)
        Their sum.
    products : float64 (d, d)
        The sum of their outer products.
    """

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def create(cls, features: int) -> "Moments":
        """Moments of an empty set."""
        return cls(0, np.zeros(features), np.zeros((features, features)))

    def add(self, vectors: Array) -> "Moments":
        """With these vectors, (n, ...) uint8 or float32."""
        rows = vectors.reshape(len(vectors), -1).astype(np.float64)
        return Moments(self.count + len(rows), self.total + rows.sum(axis=0), self.products + rows.T @ rows)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together."""
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    @property
    def mean(self) -> NDArray[np.float64]:
        """(d,) mean vector."""
        return self.total / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(d, d) unbiased covariance; of at least two vectors."""
        assert self.count >= 2
        assert self.count < _EXACT
        mean = self.mean
        centred: NDArray[np.float64] = (self.products - self.count * np.outer(mean, mean)) / (self.count - 1)
        return centred


def moments_of(read: Read, count: int) -> Moments:
    """Moments of images [0, count), read a block at a time, always the same blocks.

    Parameters
    ----------
    read
        `read(start, stop)` gives images [start, stop), uint8 or float32 (stop - start, ...).
    """
    first = read(0, min(count, 1))
    moments = Moments.create(int(np.prod(first.shape[1:])))
    for start in range(0, count, _BLOCK):
        moments = moments.add(read(start, min(start + _BLOCK, count)))
    return moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """|μ₁ − μ₂|² + Tr(C₁ + C₂ − 2 (C₁ C₂)^½) (Dowson & Landau 1982; of images: Heusel et al. 2017).

    It is a squared distance, in squared units of the features. Of finite sets it is too large, by less the more images
    there are: compare only distances of equally many images.

    Raises
    ------
    ValueError
        Vectors of two sizes or of more than `MOST_FEATURES` values, or fewer than two of them.
    """
    if len(a.total) != len(b.total) or len(a.total) > MOST_FEATURES:
        raise ValueError(
            f"got vectors of {len(a.total)} and {len(b.total)} values; allowed is one number up to {MOST_FEATURES}; "
            "use an embedding"
        )
    if min(a.count, b.count) < 2:
        raise ValueError(f"got {a.count} and {b.count} images; allowed are two or more of each")
    return _distance(a, _root(a), b)


def frechet_at_infinity(images: Array, real: Moments) -> float:
    """Fréchet distance that infinitely many images of the same law would have to these real ones.

    The distance at `SIZES` numbers of the images, the first ones each, is extrapolated to 1/n = 0 by least squares
    (Chong and Forsyth 2020, section 4). It may be negative. The real images are as many as they are.

    Parameters
    ----------
    images
        (n, ...) uint8 or float32, in random order.

    Returns
    -------
    float
        In squared units of the features; NaN with fewer than four images for each value of a vector.
    """
    features, count = len(real.total), len(images)
    # With as many images as values or fewer, the covariance is singular, and the bias not in proportion to 1/n.
    least = max(2 * features, count // 10, 2)
    if least > count // 2:
        return math.nan
    sizes = np.linspace(least, count, SIZES).astype(np.int64)
    root, moments, distances = _root(real), Moments.create(features), []
    for start, stop in zip([0, *sizes[:-1]], sizes, strict=True):
        for first in range(start, stop, _BLOCK):
            moments = moments.add(images[first : min(first + _BLOCK, stop)])
        distances.append(_distance(real, root, moments))
    return float(np.polyfit(1 / sizes, distances, 1)[1])


def _root(moments: Moments) -> NDArray[np.float64]:
    """Square root of the covariance."""
    from scipy import linalg

    values, vectors = linalg.eigh(moments.covariance)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def _distance(a: Moments, root: NDArray[np.float64], b: Moments) -> float:
    from scipy import linalg

    # The product of both has the eigenvalues of this symmetric matrix, which none of rounding makes complex.
    between = linalg.eigvalsh(root @ b.covariance @ root)
    cross = float(np.sqrt(np.clip(between, 0, None)).sum())
    gap = a.mean - b.mean
    return max(float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance)) - 2 * cross, 0.0)
