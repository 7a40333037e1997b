"""Are the samples as near to the training images as held-out real images are? Without that, diversity means nothing.

Invariant: every diversity figure can be set beside a fidelity figure computed from the same images.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganlab.pairs.closest import nearest

MANIFOLD_QUANTILE = 0.95  # an image is realistic when it is nearer to the training images than 95 % of real ones are


@dataclass(frozen=True)
class RealNeighbours:
    """Distances of real images to their nearest training image.

    Attributes
    ----------
    training : float64 (N,)
        Of each training image to its nearest other one: each held out in turn. Euclidean, in units of the features
        (pixels: 0–255 per channel).
    held_out : float64 (m,) or None
        Of real images that no model was trained on; None without any.
    nearest : int64 or None
        Number of the nearest training image of each image of `distance`.
    cells : int64 (N,) or None
        Cell of each training image, see `ganlab.quality.copying`.
    """

    training: npt.NDArray[np.float64]
    held_out: npt.NDArray[np.float64] | None = None
    nearest: npt.NDArray[np.int64] | None = None
    cells: npt.NDArray[np.int64] | None = None

    @property
    def distance(self) -> npt.NDArray[np.float64]:
        """Distances that samples of the real law would have: of the held-out images, or in their place of training's."""
        return self.training if self.held_out is None else self.held_out

    @property
    def median(self) -> float:
        """Median distance, the unit of the fidelity ratio."""
        return float(np.median(self.distance))

    @property
    def radius(self) -> float:
        """Images farther than this from every training image are outside the real manifold."""
        return float(np.quantile(self.distance, MANIFOLD_QUANTILE))

    def threshold(self, quantile: float) -> float:
        """The distance within which a share `quantile` of the training images have another one: distinct real images
        hardly ever come closer, so generated ones that do are called duplicates."""
        return float(np.quantile(self.training, quantile))


def real_neighbours(images: np.ndarray) -> np.ndarray:
    """Squared distance (N,) of each real image, of (N, …) uint8 or float32, to its nearest other one."""
    two = nearest(images, images, count=2)  # of the two nearest one is the image itself, or an equal one at distance 0
    return two.squared_distance[1::2]


def fidelity_ratio(distance: npt.NDArray[np.floating], real: RealNeighbours) -> float:
    """Median distance of samples to their nearest training image over that of held-out real images; 1 is as near as real.

    Much below 1 the model has memorised; much above 1 its samples are no such images, and their diversity has no meaning.
    Not a number where most real images have an exact copy among them: there is no unit then.
    """
    return float(np.median(distance)) / real.median if real.median else math.nan


def realistic(distance: npt.NDArray[np.floating], real: RealNeighbours) -> npt.NDArray[np.bool_]:
    """Mask of the samples inside the real manifold; their share is the precision."""
    return np.asarray(distance <= real.radius)


def fidelity_probe(images: np.ndarray) -> Callable[[np.ndarray], Mapping[str, float]]:
    """A function that gives the `fidelity_ratio` of a few samples against these training images."""
    real = RealNeighbours(np.sqrt(real_neighbours(images)))

    def probe(samples: np.ndarray) -> Mapping[str, float]:
        distance = np.sqrt(nearest(samples, images).squared_distance.astype(np.float64))
        ratio = fidelity_ratio(distance, real)
        # A search has to rank trials also where the ratio is not defined.
        return {"fidelity_ratio": ratio if math.isfinite(ratio) else math.inf if np.median(distance) else 1.0}

    return probe
