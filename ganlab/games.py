"""Zero-sum games of two players with finitely many strategies: equilibria, and what training both players does.

Invariant: the row player maximises the payoff and the column player minimises it; mixed strategies sum to 1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.special import rel_entr

Floats = npt.NDArray[np.float64]

ROCK_PAPER_SCISSORS: Floats = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
"""Payoff of the row player's rock, paper or scissors against the column player's."""


@dataclass(frozen=True, eq=False)
class Solution:
    """An equilibrium in mixed strategies.

    Attributes
    ----------
    value : float
        Payoff that each player can be sure of, whatever the other one does.
    row, column : float64 (m,), (n,)
        Probabilities of the strategies.
    """

    value: float
    row: Floats
    column: Floats


@dataclass(frozen=True, eq=False)
class Play:
    """Mixed strategies over training: `row` float64 (steps + 1, m) and `column` (steps + 1, n), the start first."""

    row: Floats
    column: Floats


def pure_equilibria(payoff: npt.ArrayLike) -> list[tuple[int, int]]:
    """Find the pairs of single strategies from which neither player gains by leaving: saddle points of the payoff."""
    matrix = _matrix(payoff)
    best_row = matrix == matrix.max(axis=0, keepdims=True)
    best_column = matrix == matrix.min(axis=1, keepdims=True)
    return [(int(row), int(column)) for row, column in np.argwhere(best_row & best_column)]


def solve(payoff: npt.ArrayLike) -> Solution:
    """Solve the game by linear programming (von Neumann's minimax theorem).

    Parameters
    ----------
    payoff : float array (m, n)
        Of the row player, for each pair of strategies.
    """
    matrix = _matrix(payoff)
    row, value = _best_guarantee(matrix)
    column, _ = _best_guarantee(-matrix.T)
    return Solution(value, row, column)


def exploitability(payoff: npt.ArrayLike, row: npt.ArrayLike, column: npt.ArrayLike) -> float:
    """Sum of what the two players gain by their best replies; 0 exactly in an equilibrium."""
    matrix = _matrix(payoff)
    return float((matrix @ np.asarray(column)).max() - (np.asarray(row) @ matrix).min())


def train(
    payoff: npt.ArrayLike, row: npt.ArrayLike, column: npt.ArrayLike, *, steps: int, rate: float, alternating: bool
) -> Play:
    """Train both players by gradient steps on the simplex (multiplicative weights).

    Parameters
    ----------
    payoff : float array (m, n)
    row, column : float array (m,), (n,)
        Probabilities to start from, all positive.
    steps : int
    rate : float
        Step size: weights are multiplied by exp(rate · gradient).
    alternating : bool
        Whether the column player replies to the row player's new strategy, as discriminator and generator are trained in
        turn; otherwise both reply to the other's old one.
    """
    matrix = _matrix(payoff)
    rows, columns = [_normalised(np.asarray(row, np.float64))], [_normalised(np.asarray(column, np.float64))]
    for _ in range(steps):
        new = _normalised(rows[-1] * np.exp(rate * (matrix @ columns[-1])))
        seen = new if alternating else rows[-1]
        columns.append(_normalised(columns[-1] * np.exp(-rate * (seen @ matrix))))
        rows.append(new)
    return Play(np.array(rows), np.array(columns))


def divergence(equilibrium: Solution, play: Play) -> Floats:
    """Compute the distance of each step from an equilibrium: both players' Kullback–Leibler divergences, float64 (k,)."""
    row, column = rel_entr(equilibrium.row, play.row), rel_entr(equilibrium.column, play.column)
    away: Floats = row.sum(axis=1) + column.sum(axis=1)
    return away


def _best_guarantee(matrix: Floats) -> tuple[Floats, float]:
    """The mixture of rows whose least payoff is greatest, and that payoff."""
    m, n = matrix.shape
    found = linprog(
        np.append(np.zeros(m), -1.0),
        A_ub=np.hstack([-matrix.T, np.ones((n, 1))]),
        b_ub=np.zeros(n),
        A_eq=[np.append(np.ones(m), 0.0)],
        b_eq=[1.0],
        bounds=[*[(0, None)] * m, (None, None)],
    )
    return found.x[:m], float(found.x[m])


def _normalised(weights: Floats) -> Floats:
    shares: Floats = weights / weights.sum()
    return shares


def _matrix(payoff: npt.ArrayLike) -> Floats:
    matrix = np.asarray(payoff, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise ValueError(f"payoff: got the shape {matrix.shape}; allowed: finite numbers (m, n), at least one")
    return matrix
