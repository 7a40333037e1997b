"""Games of two players: equilibria of known games, and the circles that training makes where no pure one exists."""

from typing import Any

import numpy as np
import pytest

from ganlab.games import ROCK_PAPER_SCISSORS, Play, divergence, exploitability, pure_equilibria, solve, train

START = ([0.5, 0.3, 0.2], [0.3, 0.3, 0.4])


def played(alternating: bool, steps: int = 4000, rate: float = 0.05) -> Play:
    return train(ROCK_PAPER_SCISSORS, *START, steps=steps, rate=rate, alternating=alternating)


def test_rock_paper_scissors_has_no_pure_equilibrium_and_a_mixture_solves_it() -> None:
    assert pure_equilibria(ROCK_PAPER_SCISSORS) == []
    for row in np.eye(3):
        for column in np.eye(3):
            assert exploitability(ROCK_PAPER_SCISSORS, row, column) >= 1
    found = solve(ROCK_PAPER_SCISSORS)
    assert found.value == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose([found.row, found.column], 1 / 3, atol=1e-9)
    assert exploitability(ROCK_PAPER_SCISSORS, found.row, found.column) == pytest.approx(0, abs=1e-9)


def test_games_of_known_value() -> None:
    assert pure_equilibria([[4, 2, 3], [1, 0, 5]]) == [(0, 1)]
    assert pure_equilibria([[1, 1], [1, 1]]) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    mixed = solve([[3, -1], [-2, 4]])  # (ad − bc) / (a + d − b − c)
    assert mixed.value == pytest.approx(1.0)
    np.testing.assert_allclose(mixed.row, [0.6, 0.4])
    np.testing.assert_allclose(mixed.column, [0.5, 0.5])
    assert solve([[4, 2, 3], [1, 0, 5]]).value == pytest.approx(2)


def test_simultaneous_steps_spiral_away_from_the_equilibrium() -> None:
    play = played(alternating=False, steps=8000)
    away = divergence(solve(ROCK_PAPER_SCISSORS), play)
    assert (np.diff(away) > 0).all()
    assert away[-1] > 20 * away[0]
    assert exploitability(ROCK_PAPER_SCISSORS, play.row[-1], play.column[-1]) > 0.9


def test_alternating_steps_circle_around_it_for_ever() -> None:
    play = played(alternating=True)
    away = divergence(solve(ROCK_PAPER_SCISSORS), play)
    assert away.min() > 0.8 * away[0]
    assert away.max() < 1.2 * away[0]
    favourite = play.row.argmax(axis=1)
    laps = np.count_nonzero((favourite[:-1] == 2) & (favourite[1:] == 0)) + np.count_nonzero(
        (favourite[:-1] == 0) & (favourite[1:] == 2)
    )
    assert laps > 10
    last = [
        exploitability(ROCK_PAPER_SCISSORS, *each) for each in zip(play.row[-400:], play.column[-400:], strict=True)
    ]
    assert min(last) > 0.1


def test_the_mixture_of_all_steps_solves_the_game_that_no_step_does() -> None:
    errors = []
    for steps in (1000, 16_000):
        play = played(alternating=True, steps=steps)
        errors.append(exploitability(ROCK_PAPER_SCISSORS, play.row.mean(axis=0), play.column.mean(axis=0)))
    assert errors[0] < 0.06
    assert errors[1] < errors[0] / 4


def test_a_game_with_a_pure_equilibrium_is_found_by_training() -> None:
    for alternating in (False, True):
        play = train([[4, 2, 3], [1, 0, 5]], [0.5, 0.5], [1 / 3] * 3, steps=2000, rate=0.05, alternating=alternating)
        np.testing.assert_allclose(play.row[-1], [1, 0], atol=1e-6)
        np.testing.assert_allclose(play.column[-1], [0, 1, 0], atol=1e-6)


@pytest.mark.parametrize("payoff", [[1, 2], [[]], [[np.nan, 1.0]]])
def test_what_is_no_game(payoff: Any) -> None:
    with pytest.raises(ValueError, match="allowed: finite numbers"):
        solve(payoff)
