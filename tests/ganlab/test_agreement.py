"""Kappas against published examples and against what they must be."""

import math

import numpy as np
import pytest

from ganlab.verdicts.agreement import LEAST_PAIRS, agreement, cohen_kappa, fleiss_kappa


def test_cohen_of_a_table_by_hand() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: observed 0.7, by chance 0.5.
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_fleiss_of_a_table_by_hand() -> None:
    # Three reviewers, four pairs: agreement 1, 1/3, 1/3, 1; shares 7/12 and 5/12.
    counts = [[3, 0], [2, 1], [1, 2], [1, 2]]
    observed, chance = (1 + 1 / 3 + 1 / 3 + 1 / 3) / 4, (7 / 12) ** 2 + (5 / 12) ** 2
    assert fleiss_kappa(counts) == pytest.approx((observed - chance) / (1 - chance))


def test_fleiss_counts_pairs_with_any_number_of_verdicts() -> None:
    assert fleiss_kappa([[2, 0], [0, 5], [1, 0]]) == pytest.approx(1)
    assert math.isnan(fleiss_kappa([[1, 0], [0, 1]]))


def test_agreement_always_never_and_by_chance() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(0, 2, (2, 4000))
    assert agreement(np.stack([one, one], axis=1)).kappa == 1
    assert agreement(np.stack([one, 1 - one], axis=1)).kappa == pytest.approx(-1, abs=0.01)
    by_chance = agreement(np.stack([one, other], axis=1), draws=200)
    assert by_chance.low < 0 < by_chance.high
    assert by_chance.observed == pytest.approx(0.5, abs=0.05)
    assert (by_chance.method, by_chance.pairs) == ("Cohen", 4000)


def test_three_reviewers_are_fleiss_and_missing_verdicts_are_left_out() -> None:
    table = [[0, 0, -1], [1, 1, 1], [1, -1, -1], [-1, 0, 1], [0, 0, 0]]
    found = agreement(table, draws=50)
    assert (found.method, found.pairs) == ("Fleiss", 4)
    assert found.observed == pytest.approx(3 / 4)


@pytest.mark.parametrize("table", [np.empty((0, 2)), [[0, -1], [-1, 1]], [[0, 0], [0, 0]]])
def test_where_nothing_can_be_said_kappa_is_nan(table: object) -> None:
    assert math.isnan(agreement(table, draws=20).kappa)  # type: ignore[arg-type]


@pytest.mark.parametrize(("pairs", "known"), [(LEAST_PAIRS - 1, False), (LEAST_PAIRS, True)])
def test_of_few_pairs_there_is_no_interval(pairs: int, known: bool) -> None:
    """It would be of length 0 where all agree, whatever the next pairs would show."""
    verdicts = np.repeat(np.arange(pairs)[:, None] % 2, 2, axis=1)
    found = agreement(verdicts)
    assert found.kappa == 1
    assert np.isfinite([found.low, found.high]).all() == known
