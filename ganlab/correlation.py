"""Duplicate probability at every threshold, generated beside real images: diversity without a choice of threshold.

Invariant: a value is given only where the list of closest pairs is complete, NaN elsewhere.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ThresholdCurve:
    """Duplicate probability of generated and real images at each threshold.

    ``diversity_ratio`` is real over generated p2: the generator's effective support in units of the real data's. It is
    NaN where either set has no pair within the threshold, or where a list of closest pairs stops short of it.
    """

    thresholds: npt.NDArray[np.float64]
    generated: npt.NDArray[np.float64]
    real: npt.NDArray[np.float64]
    diversity_ratio: npt.NDArray[np.float64]


def threshold_curve(
    generated: npt.ArrayLike,
    generated_samples: int,
    real: npt.ArrayLike,
    real_samples: int,
    thresholds: npt.ArrayLike | None = None,
) -> ThresholdCurve:
    """Compare the duplicate probability of generated and real images at every threshold (the correlation integral).

    Parameters
    ----------
    generated, real : array (m,)
        Squared distances of the closest pairs of each set, ascending: all pairs, or as many of the closest as are known.
    generated_samples, real_samples : int
        Number of images in each set.
    thresholds : array (t,), optional
        Distances (not squared). By default every distance that occurs in either list.

    Returns
    -------
    ThresholdCurve

    Raises
    ------
    ValueError
        For distances that are not finite, not ascending, negative, or more than there are pairs.
    """
    squared = [_check_distances(generated, generated_samples), _check_distances(real, real_samples)]
    if thresholds is None:
        at_squared = np.unique(np.concatenate(squared))
        at = np.sqrt(at_squared)
    else:
        at = np.asarray(thresholds, dtype=np.float64)
        at_squared = at**2
    curves = [
        _probability_within(each, samples, at_squared)
        for each, samples in zip(squared, (generated_samples, real_samples), strict=True)
    ]
    positive = (curves[0] > 0) & (curves[1] > 0)
    ratio = np.full(at.shape, np.nan)
    np.divide(curves[1], curves[0], out=ratio, where=positive)
    return ThresholdCurve(at, curves[0], curves[1], ratio)


def _check_distances(squared_distances: npt.ArrayLike, samples: int) -> npt.NDArray[np.float64]:
    array = np.asarray(squared_distances, dtype=np.float64)
    if samples < 2 or array.ndim != 1 or array.size > samples * (samples - 1) // 2:
        raise ValueError(f"{array.size} distances for {samples} images; allowed: one axis, at most one for each pair")
    if not np.isfinite(array).all() or (array < 0).any() or (np.diff(array) < 0).any():
        raise ValueError("squared distances must be finite, not negative and ascending")
    return array


def _probability_within(
    squared: npt.NDArray[np.float64], samples: int, at_squared: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """p2 at each threshold; NaN from the last listed distance on, whose ties may be cut, unless all pairs are listed."""
    pairs = samples * (samples - 1) // 2
    within = np.searchsorted(squared, at_squared, side="right") / pairs
    known = at_squared < squared[-1] if squared.size else np.zeros(at_squared.shape, dtype=bool)
    return within if squared.size == pairs else np.where(known, within, np.nan)
