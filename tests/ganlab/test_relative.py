"""Distances relative to their surroundings, and the measures of agreement with people that use them."""

import numpy as np
import pytest

from ganlab.pairs import nearest
from ganlab.quality.relative import NEIGHBOURS, relative_distance
from tests.benchmarks.duplicates import agreement, average_precision, people_pairs


def test_a_copy_in_open_country_is_nearer_than_one_in_a_crowd() -> None:
    np.testing.assert_allclose(relative_distance([[1, 4, 16], [1, 1, 1], [0, 1, 4], [0, 0, 0]]), [0.25, 1, 0, 0])
    for wrong in ([1.0, 2.0], [[1.0]], [[2.0, 1.0]]):
        with pytest.raises(ValueError, match=r"allowed: \(n, k\) of k ≥ 2 distances that rise"):
            relative_distance(wrong)


def test_crowds_hide_copies_from_a_distance_alone() -> None:
    rng = np.random.default_rng(0)
    crowd, spread = rng.normal(size=(600, 16)), rng.normal(size=(600, 16)) * 8
    training = np.concatenate([crowd, spread]).astype(np.float32)
    others = np.concatenate([rng.normal(size=(100, 16)), rng.normal(size=(100, 16)) * 8])
    copies = spread[:20] + rng.normal(size=(20, 16)) * 2  # further from their originals than members of the crowd
    tests = np.concatenate([copies, others]).astype(np.float32)
    people = {test: {600 + test} for test in range(20)}
    found = agreement(tests, training, people)
    assert found.by_relative_distance > 0.95
    assert found.by_distance < 0.5
    assert found.nearest_is_theirs == 1
    squared = nearest(tests, training, NEIGHBOURS).squared_distance.reshape(-1, NEIGHBOURS)
    assert found.by_relative_distance == average_precision(relative_distance(squared), np.arange(220) < 20)


def test_average_precision_of_known_rankings() -> None:
    positive = np.array([True, False, True, False])
    assert average_precision(np.array([1.0, 3.0, 2.0, 4.0]), positive) == 1
    assert average_precision(np.array([2.0, 1.0, 4.0, 3.0]), positive) == 0.5
    assert average_precision(np.array([1.0, 2.0, 3.0, 4.0]), positive) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(4), positive) == 0.5  # equal scores in whatever order


def test_pairs_are_read_by_test_image(folder) -> None:
    (folder / "pairs.csv").write_text("test_index,train_index,judgment\n3,7,1\n3,9,0\n5,1,1\n")
    assert people_pairs(folder / "pairs.csv") == {3: {7, 9}, 5: {1}}
