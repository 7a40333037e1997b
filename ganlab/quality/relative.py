"""A distance relative to its surroundings: how much nearer the nearest reference is than the next few.

Invariant: a second look at exact nearest distances, such as those of `ganlab.pairs.nearest`; it finds no pairs itself.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEIGHBOURS = 5


def relative_distance(squared: ArrayLike) -> NDArray[np.float64]:
    """Distance to the nearest over that to the k-th nearest.

    Where references lie densely, as plain skies do, the nearest is near without being a copy, and so is the k-th; the
    ratio of both is small for copies alone (the ratio test of Lowe 2004, section 7.1, with the k-th for the second).

    Parameters
    ----------
    squared : (n, k)
        Squared distances of each image to its k nearest references, rising; k is 2 or more; in the figures of
        docs/statistics.md `NEIGHBOURS`.

    Returns
    -------
    float64 (n,)
        From 0 to 1; 0 where all k distances are 0.

    Raises
    ------
    ValueError
        Fewer than two neighbours, or distances that fall.
    """
    distances = np.asarray(squared, dtype=np.float64)
    if distances.ndim != 2 or distances.shape[1] < 2 or (np.diff(distances, axis=1) < 0).any():
        raise ValueError(
            f"squared: got shape {distances.shape}; allowed: (n, k) of k ≥ 2 distances that rise; sort them"
        )
    last = distances[:, -1]
    return np.sqrt(distances[:, 0] / np.where(last > 0, last, 1))
