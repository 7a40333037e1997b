"""Heavy modes are named when there are some, and not when there are none."""

import numpy as np
import pytest

from ganlab.statistics.classes import estimate_by_class, nonuniform_classes
from ganlab.statistics.modes import heavy_modes, support_within
from ganlab.statistics.support import estimate


def drawn(weights: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images drawn, and every pair of equal ones."""
    images = np.random.default_rng(seed).choice(len(weights), samples, p=weights)
    first, second = np.triu_indices(samples, 1)
    same = images[first] == images[second]
    return images, np.stack([first[same], second[same]], axis=1)


def with_heavy(mass: list[float], rest: int) -> np.ndarray:
    return np.append(mass, np.full(rest, (1 - sum(mass)) / rest))


@pytest.mark.parametrize("support", [5, 100, 5000])
def test_a_uniform_support_has_no_heavy_mode(support: int) -> None:
    named = [bool(heavy_modes(drawn(np.full(support, 1 / support), 600, seed)[1], 600).modes) for seed in range(60)]
    assert sum(named) <= 4


def test_heavy_modes_are_named_with_their_members() -> None:
    images, pairs = drawn(with_heavy([0.2, 0.05], 3000), 1000, 0)
    found = heavy_modes(pairs, 1000)
    assert [np.unique(images[mode.members]).tolist() for mode in found.modes] == [[0], [1]]
    for mode, image in zip(found.modes, (0, 1), strict=True):
        assert sorted(mode.members.tolist()) == np.flatnonzero(images == image).tolist()
    assert found.modes[0].low <= 0.2 <= found.modes[0].high
    assert found.modes[1].low <= 0.05 <= found.modes[1].high
    assert found.rest is not None
    assert found.rest.low <= 3000 <= found.rest.high
    assert found.rest.samples == (images > 1).sum()
    assert estimate(pairs, 1000).high < 3000


def test_a_collapsed_sample_is_one_mode() -> None:
    pairs = np.stack(np.triu_indices(40, 1), axis=1)
    found = heavy_modes(pairs, 40)
    assert [len(mode.members) for mode in found.modes] == [40]
    assert found.modes[0].mass == 1
    assert found.rest is None


def test_duplication_need_not_be_transitive() -> None:
    """A hub of pairs that do not duplicate one another: the hub's mode, and nothing of it is left for others."""
    hub = np.stack([np.zeros(30, int), np.arange(1, 31)], axis=1)
    found = heavy_modes(np.concatenate([hub, [[40, 41]]]), 400)
    assert found.modes[0].members[0] == 0
    assert len(found.modes) == 1
    assert found.rest is not None
    assert found.rest.duplicates == 1


def test_no_duplicates_no_modes() -> None:
    found = heavy_modes(np.empty((0, 2), int), 50)
    assert found.modes == ()
    assert found.rest is not None
    assert found.rest.one_sided


def test_support_among_chosen_images_counts_their_pairs_alone() -> None:
    images, pairs = drawn(np.full(50, 0.02), 400, 1)
    chosen = images < 20
    own = np.flatnonzero(chosen)
    first, second = np.triu_indices(len(own), 1)
    expected = (images[own[first]] == images[own[second]]).sum()
    found = support_within(pairs, chosen)
    assert found is not None
    assert (found.duplicates, found.samples) == (expected, len(own))
    assert support_within(pairs, images < 0) is None


def test_classes_are_measured_by_themselves() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 2400)
    images = np.where(labels == 0, rng.integers(0, 40, 2400), 0)
    images = np.where(labels == 1, 100 + rng.integers(0, 400, 2400), images)
    heavy = rng.random(2400) < 0.15
    images = np.where(labels == 2, np.where(heavy, 1000, 2000 + rng.integers(0, 5000, 2400)), images)
    first, second = np.triu_indices(2400, 1)
    same = images[first] == images[second]
    pairs = np.stack([first[same], second[same]], axis=1)
    across = np.stack([np.flatnonzero(labels == 0)[:50], np.flatnonzero(labels == 1)[:50]], axis=1)
    answers = estimate_by_class(np.concatenate([pairs, np.sort(across, axis=1)]), labels)
    assert [each.label for each in answers] == [0, 1, 2]
    assert answers[0].support.low <= 40 <= answers[0].support.high
    assert answers[1].support.low <= 400 <= answers[1].support.high
    assert nonuniform_classes(answers) == [2]
    assert sum(each.support.samples for each in answers) == 2400
    lone = estimate_by_class(np.empty((0, 2), int), np.array([4, 4, 9]))
    assert [each.label for each in lone] == [4]


def first_of_greedy(pairs: np.ndarray, samples: int, count: int) -> list[list[int]]:
    """The image of most duplicates with these, again and again, by the definition."""
    found: list[list[int]] = []
    while len(pairs) and len(found) < count:
        hub = int(np.bincount(pairs.ravel(), minlength=samples).argmax())
        others = sorted(int(pair.sum()) - hub for pair in pairs if hub in pair)
        found.append([hub, *others])
        pairs = pairs[~np.isin(pairs, found[-1]).any(axis=1)]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_modes_are_those_of_the_definition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganlab.statistics.modes.CHANCE", np.inf)  # every mode is heavy
    rng = np.random.default_rng(seed)
    pairs = np.unique(np.sort((rng.random((400, 2)) ** 2 * 200).astype(int), axis=1), axis=0)
    pairs = rng.permutation(pairs[pairs[:, 0] < pairs[:, 1]])
    found = heavy_modes(pairs, 200)
    assert [mode.members.tolist() for mode in found.modes] == first_of_greedy(pairs, 200, 200)
    assert len(found.modes) > 8
    assert found.rest is not None
    assert found.rest.duplicates == 0


def test_every_heavy_mode_is_found() -> None:
    images, pairs = drawn(with_heavy([0.03] * 12, 20_000), 2000, 0)
    found = heavy_modes(pairs, 2000)
    assert sorted(int(images[mode.members[0]]) for mode in found.modes) == list(range(12))
    assert found.rest is not None
    assert found.rest.low <= 20_000 <= found.rest.high
    assert not found.against_real


def real_degrees(weights: np.ndarray, samples: int, seed: int) -> np.ndarray:
    return np.bincount(drawn(weights, samples, seed)[1].ravel(), minlength=samples)


def test_modes_that_the_real_images_have_too_are_not_heavy() -> None:
    law = with_heavy([0.03, 0.02, 0.02, 0.01], 5000)
    against = [
        heavy_modes(drawn(law, 1500, seed)[1], 1500, real_degrees=real_degrees(law, 800, 100 + seed))
        for seed in range(30)
    ]
    assert sum(bool(found.modes) for found in against) <= 1
    assert all(found.against_real for found in against)
    assert len(heavy_modes(drawn(law, 1500, 0)[1], 1500).modes) == 4  # were all equally likely, they would be


def test_modes_beyond_those_of_the_real_images_are_heavy() -> None:
    real = with_heavy([0.03, 0.02, 0.02, 0.01], 5000)
    images, pairs = drawn(with_heavy([0.2, 0.1, 0.02, 0.02], 5000), 1500, 0)
    found = heavy_modes(pairs, 1500, real_degrees=real_degrees(real, 800, 1))
    assert [int(images[mode.members[0]]) for mode in found.modes] == [0, 1]
    assert found.rest is not None
    assert found.rest.samples == (images > 1).sum()


def test_few_real_images_excuse_more() -> None:
    """A mode that so few real images may have missed."""
    pairs = drawn(with_heavy([0.02], 5000), 2000, 0)[1]
    few, many = np.zeros(100, np.int64), np.zeros(2000, np.int64)
    assert heavy_modes(pairs, 2000, real_degrees=few).modes == ()
    assert len(heavy_modes(pairs, 2000, real_degrees=many).modes) == 1
