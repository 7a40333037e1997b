"""Agreement of reviewers beyond chance.

Invariant: a kappa is 1 for reviewers who always agree, about 0 for verdicts given by chance, and NaN where it says
nothing: nothing was judged by two, or all verdicts are the same.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST_PAIRS = 50
"""Judged by two or more, for an interval."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of reviewers on the pairs that two or more of them judged.

    `kappa` is Cohen's for two reviewers and Fleiss' for more (`method` says which); `low` and `high` are its interval;
    `observed` is the share of pairs of verdicts on one pair of images that are the same.
    """

    method: str
    kappa: float
    low: float
    high: float
    observed: float
    pairs: int


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Cohen's kappa of two reviewers (J. Cohen, Educational and Psychological Measurement 20, 1960).

    Parameters
    ----------
    first, second : integer (m,)
        Category that each gave to each item.

    Raises
    ------
    ValueError
        For two lists of different length.
    """
    one, two = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"got verdicts of shape {one.shape} and {two.shape}; allowed: two lists about the same pairs")
    if not one.size:
        return float("nan")
    kinds = int(max(one.max(), two.max())) + 1
    chance = float(np.bincount(one, minlength=kinds) @ np.bincount(two, minlength=kinds)) / one.size**2
    return _beyond_chance(float((one == two).mean()), chance)


def fleiss_kappa(counts: npt.ArrayLike) -> float:
    """Fleiss' kappa of any number of reviewers (J. L. Fleiss, Psychological Bulletin 76, 1971).

    Items may have different numbers of verdicts: agreement on an item is the share of pairs of its verdicts that are the
    same, and every item with two or more verdicts counts once.

    Parameters
    ----------
    counts : integer (m, k)
        Verdicts of each of k categories on each of m items.

    Raises
    ------
    ValueError
        For counts that are not of two axes, or below 0.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or (table < 0).any():
        raise ValueError(f"counts have shape {table.shape}; allowed: (items, categories), none below 0")
    table = table[table.sum(1) >= 2]
    if not len(table):
        return float("nan")
    given = table.sum(1)
    observed = float((((table * (table - 1)).sum(1)) / (given * (given - 1))).mean())
    share = (table / given[:, None]).mean(0)
    return _beyond_chance(observed, float((share**2).sum()))


def agreement(verdicts: npt.ArrayLike, confidence: float = 0.95, draws: int = 1000, seed: int = 0) -> Agreement:
    """Agreement of all reviewers, with a bootstrap interval over pairs where `LEAST_PAIRS` were judged by two or more.

    Of fewer the interval is too short, often of length 0: of 20 pairs it holds the truth in 77 to 88 of 100 cases.

    Parameters
    ----------
    verdicts : integer (m, r)
        Category (0, 1, …) that each of r reviewers gave to each of m pairs; -1 where one gave none.
    """
    table = np.asarray(verdicts, dtype=np.int64)
    table = table[(table >= 0).sum(1) >= 2]
    table = table[:, (table >= 0).any(0)] if len(table) else table
    if not len(table):
        nothing = float("nan")
        return Agreement("none", nothing, nothing, nothing, nothing, 0)
    two = table.shape[1] == 2
    counts = np.stack([(table == kind).sum(1) for kind in range(int(table.max()) + 1)], axis=1)
    given = counts.sum(1)
    observed = float(((counts * (counts - 1)).sum(1) / (given * (given - 1))).mean())

    def kappa(rows: npt.NDArray[np.int64]) -> float:
        return cohen_kappa(table[rows, 0], table[rows, 1]) if two else fleiss_kappa(counts[rows])

    random = np.random.default_rng(seed)
    drawn = np.array([kappa(random.integers(0, len(table), len(table))) for _ in range(draws)])
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - confidence) / 2
    known = len(table) >= LEAST_PAIRS and len(drawn)
    low, high = np.quantile(drawn, (tail, 1 - tail)) if known else (np.nan, np.nan)
    return Agreement(
        "Cohen" if two else "Fleiss", kappa(np.arange(len(table))), float(low), float(high), observed, len(table)
    )


def _beyond_chance(observed: float, chance: float) -> float:
    return float("nan") if chance >= 1 - 1e-12 else (observed - chance) / (1 - chance)
