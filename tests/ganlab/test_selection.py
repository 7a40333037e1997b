"""Drawing pairs with a known chance, and the weights that undo it."""

import numpy as np
import pytest

from ganlab.pairs.closest import Pairs
from ganlab.verdicts.selection import closest_of_samples, draw, in_turn, piece_edges, pieces, weights

EDGES = piece_edges(100.0)


def test_pieces_of_the_distance() -> None:
    assert EDGES[[0, 5, -1]].tolist() == [0, 100, 150]
    assert pieces([0, 49.9, 50, 99.9, 100, 150, 150.1], EDGES).tolist() == [0, 0, 1, 4, 5, 8, -1]
    with pytest.raises(ValueError, match="above 0"):
        piece_edges(0)


def test_every_pair_of_a_piece_is_drawn_equally_often() -> None:
    distance = np.concatenate([np.full(8, 105.0), np.full(50, 20.0), [400.0]])
    excluded = np.arange(59) == 3
    times = np.zeros(59)
    for seed in range(2000):
        orders = draw(distance, excluded, EDGES, 3, np.random.default_rng(seed))
        assert [len(order) for order in orders] == [3, 0, 0, 0, 0, 3, 0, 0, 0]
        times[np.concatenate(orders)] += 1
    assert times[3] == times[58] == 0
    # Binomial with p = 3/7 and 3/50: within five standard errors.
    near = times[[0, 1, 2, 4, 5, 6, 7]]
    assert np.abs(near - 2000 * 3 / 7).max() < 5 * np.sqrt(2000 * 3 / 7 * 4 / 7)
    assert np.abs(times[8:58] - 2000 * 0.06).max() < 5 * np.sqrt(2000 * 0.06 * 0.94)


def test_sets_take_turns_and_keep_their_order() -> None:
    taken = in_turn([np.arange(5), np.arange(1), np.arange(9)], 7, np.random.default_rng(0))
    assert sorted(taken[:3]) == [(0, 0), (1, 0), (2, 0)]
    for owner in (0, 2):
        assert [place for each, place in taken if each == owner] == [0, 1, 2]


def test_weights_undo_the_selection() -> None:
    """A share of pairs that depends on the set and on being closest comes out right on average."""
    random = np.random.default_rng(1)
    sizes, closest = [40, 4000], 10
    truth = [np.arange(size) < share * size for size, share in zip(sizes, (0.5, 0.1), strict=True)]
    estimates = []
    for _ in range(400):
        owner, certain, population, said = [], [], [], []
        for number, size in enumerate(sizes):
            drawn = random.permutation(np.arange(closest, size))[:15]
            for place in (*range(closest), *drawn):
                owner.append(number)
                certain.append(place < closest)
                population.append(size)
                said.append(truth[number][place])
        weight = weights(owner, np.zeros(len(owner), dtype=int), certain, population)
        estimates.append(np.average(said, weights=weight))
    expected = np.mean([each.mean() for each in truth])  # every set counts alike
    assert np.mean(estimates) == pytest.approx(expected, abs=4 * np.std(estimates) / 20)
    unweighted = 0.5 * (20 + 15 * 10 / 30) / 25 + 0.5 * (10 + 15 * 390 / 3990) / 25
    assert abs(unweighted - expected) > 0.1  # what the weights are for


def test_a_piece_weighs_as_much_as_its_weights_are_worth() -> None:
    equal = weights([0] * 6, [0] * 6, [False] * 6, [100] * 6)
    np.testing.assert_allclose(equal, 1)
    uneven = weights([0] * 6, [0] * 6, [True] * 5 + [False], [1000] * 6)
    assert 1 < uneven.sum() < 1.1  # five pairs that stand for themselves, one for 995


def test_closest_pairs_of_disjoint_samples() -> None:
    index = np.array([[0, 1], [0, 5], [4, 5], [5, 6], [2, 3], [4, 7], [8, 9]])
    near = Pairs(index, np.array([1, 2, 9, 4, 5, 6, 3]))
    found = closest_of_samples(near, 9, 4, 2)
    assert [index[places].tolist() for places in found] == [[[0, 1], [2, 3]], [[5, 6], [4, 7]]]
