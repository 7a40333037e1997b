"""The Fréchet distance of two sets of images: between the normal laws of their means and covariances.

Invariant: moments are sums in float64, so sets are read in pieces of any size; for uint8 images they are exact integers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.exact import Array, Read

MOST_FEATURES = 2048  # of a vector; the covariance of more takes too long, and more images than there are
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
    from scipy import linalg

    if len(a.total) != len(b.total) or len(a.total) > MOST_FEATURES:
        raise ValueError(
            f"got vectors of {len(a.total)} and {len(b.total)} values; allowed is one number up to {MOST_FEATURES}; "
            "use an embedding"
        )
    if min(a.count, b.count) < 2:
        raise ValueError(f"got {a.count} and {b.count} images; allowed are two or more of each")
    values, vectors = linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    # The product of both has the eigenvalues of this symmetric matrix, which none of rounding makes complex.
    between = linalg.eigvalsh(root @ b.covariance @ root)
    cross = float(np.sqrt(np.clip(between, 0, None)).sum())
    gap = a.mean - b.mean
    return max(float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance)) - 2 * cross, 0.0)
