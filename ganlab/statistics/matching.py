"""Comparison of trainings at one fidelity: figures of their snapshots, interpolated where a training reaches it.

Invariant: a figure at a fidelity lies between those of two snapshots of one training that follow one another.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def matched_fidelity(fidelity: npt.ArrayLike) -> float:
    """Choose the fidelity ratio at which trainings can be compared.

    Parameters
    ----------
    fidelity : float array (t, s)
        Fidelity ratio of each snapshot of each training, in the order of steps; NaN for those to be left out.

    Returns
    -------
    float
        Of the ratios that the most trainings reach, the one nearest to the median of the last snapshots; NaN if no two
        trainings reach one. A training reaches the ratios from its least to its greatest.

    Raises
    ------
    ValueError
        If the array is not of two dimensions.
    """
    ratios = _by_training(fidelity)
    known = ratios[np.isfinite(ratios).any(axis=1)]
    if not len(known):
        return float("nan")
    least, greatest = np.nanmin(known, axis=1), np.nanmax(known, axis=1)
    last = np.array([row[np.isfinite(row)][-1] for row in known])
    middle = float(np.median(last))
    candidates = np.unique(np.concatenate([least, greatest, [middle]]))
    reached = ((least[:, None] <= candidates) & (candidates <= greatest[:, None])).sum(axis=0)
    if reached.max() < 2:
        return float("nan")
    best = candidates[reached == reached.max()]
    return float(best[np.abs(best - middle).argmin()])


def at_fidelity(fidelity: npt.ArrayLike, values: npt.ArrayLike, ratio: float, *, geometric: bool = False) -> Floats:
    """Interpolate a figure of each training at one fidelity ratio.

    Parameters
    ----------
    fidelity : float array (t, s)
        As for `matched_fidelity`.
    values : float array (t, s)
        The figure of each snapshot.
    ratio : float
        The fidelity ratio.
    geometric : bool
        Whether to interpolate the logarithm, for figures that are compared by ratios; not negative then.

    Returns
    -------
    float64 array (t,)
        Linear in the fidelity ratio between two snapshots that follow one another and have the ratio between them, the
        last two that do; NaN for a training that does not reach the ratio, or whose figure is missing there.

    Raises
    ------
    ValueError
        If the arrays are not of one shape (t, s).
    """
    ratios, figures = _by_training(fidelity), _by_training(values)
    if ratios.shape != figures.shape:
        raise ValueError(f"fidelity has the shape {ratios.shape} and values {figures.shape}; allowed: one shape (t, s)")
    with np.errstate(divide="ignore"):  # the logarithm of 0 is −∞, and its exponential 0 again
        figures = np.log(figures) if geometric else figures
    found = np.full(len(ratios), np.nan)
    for training, (row, figure) in enumerate(zip(ratios, figures, strict=True)):
        known = np.isfinite(row)
        found[training] = _last_crossing(row[known], figure[known], ratio)
    return np.exp(found) if geometric else found


def _last_crossing(ratios: Floats, figures: Floats, ratio: float) -> float:
    """The figure where a path of snapshots last has this fidelity ratio; NaN where it never has."""
    hits = np.flatnonzero(ratios == ratio)
    between = np.flatnonzero((ratios[:-1] - ratio) * (ratios[1:] - ratio) < 0)
    if hits.size and (not between.size or hits[-1] > between[-1]):
        return float(figures[hits[-1]])
    if not between.size:
        return float("nan")
    before = between[-1]
    share = (ratio - ratios[before]) / (ratios[before + 1] - ratios[before])
    first, second = figures[before], figures[before + 1]
    return float(first if first == second else (1 - share) * first + share * second)


def _by_training(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"got the shape {array.shape}; allowed: (t, s), a row for each training")
    return array
