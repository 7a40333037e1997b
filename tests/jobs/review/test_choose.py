"""The choice of pairs: complete, fair, the same for everybody, and silent about what a blind review hides."""

from collections import Counter

import numpy as np
import pytest

from jobs.measuring.measure import REFERENCE
from jobs.review.choose import Choice, choose
from jobs.spec.sweep import SpecError, load_spec
from storage.layout import SweepLayout
from storage.reference import read_reference
from storage.samples import Samples
from tests.jobs.review.sweeps import make_sweep


def chosen(layout: SweepLayout, blind: bool = False, **options: int) -> Choice:
    spec = load_spec(layout.spec)
    return choose(
        layout,
        spec.trials(),
        spec.collisions,
        blind=blind,
        memory_bytes=2**30,
        map=map,
        progress=lambda *done: None,
        **options,
    )


def test_pairs_are_what_they_say(small: SweepLayout) -> None:
    choice = chosen(small)
    real = read_reference(small).images.reshape(300, -1).astype(np.int64)
    shown = [pair for part in choice.parts for pair in part.pairs]
    for each in shown[::17]:
        images = Samples(small.trial(each.trial)).take(each.pair).reshape(2, -1).astype(np.int64)
        assert each.distance**2 == pytest.approx(((images[0] - images[1]) ** 2).sum())
        for image, number, away in zip(images, each.nearest, each.nearest_distance, strict=True):
            distances = ((real - image) ** 2).sum(1)
            assert distances[number] == distances.min() == pytest.approx(away**2)
    names = [(each.trial, each.step, each.pair) for each in shown]
    assert len(set(names)) == len(names)


def test_a_draw_takes_as_many_of_every_piece_and_the_trials_in_turn(small: SweepLayout) -> None:
    drawn = next(part for part in chosen(small, drawn=90).parts if part.pairs[0].chosen == "drawn").pairs
    relative = np.array([each.distance for each in drawn]) / chosen(small).threshold
    counts = np.histogram(relative, bins=(0, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.35, 1.5001))[0]
    assert counts.tolist() == [10] * 9
    assert {abs(count - 45) <= 9 for count in Counter(each.trial for each in drawn).values()} == {True}


def test_the_closest_of_every_trial_are_all_there(small: SweepLayout) -> None:
    choice = chosen(small, drawn=0)
    closest = [pair for part in choice.parts for pair in part.pairs if pair.chosen == "closest"]
    assert Counter(pair.trial for pair in closest) == {trial.id: 20 for trial in load_spec(small.spec).trials()}
    assert [pair.rank for pair in closest] == [*range(1, 21)] * 2


def test_a_blind_review_mixes_in_real_pairs_and_shuffles_for_each(small: SweepLayout) -> None:
    choice = chosen(small, blind=True)
    for part in choice.parts:
        kinds = Counter(pair.chosen for pair in part.pairs)
        controls = kinds["control"] + kinds["same"]
        assert 0.05 < controls / len(part.pairs) < 0.15
    orders = [[pair.pair for pair in choice.order(name)] for name in ("Ada", "Ada", "Bob")]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    first = choice.order("Ada")[: len(choice.parts[0].pairs)]
    assert set(first) == set(choice.parts[0].pairs)
    real = [pair for pair in first if pair.trial == REFERENCE]
    assert all(pair.nearest == () for pair in real)
    assert all(pair.pair[0] == pair.pair[1] for pair in real if pair.chosen == "same")


def test_the_choice_is_the_same_again_and_of_fewer_pairs_a_part_of_it(small: SweepLayout) -> None:
    assert chosen(small).fingerprint == chosen(small).fingerprint
    assert chosen(small, blind=True).fingerprint != chosen(small).fingerprint
    # Each snapshot has one random order, of which more or less is shown: the pairs of fewer are among those of more.
    fewer, more = (
        {(pair.trial, pair.pair) for pair in chosen(small, drawn=drawn).parts[0].pairs} for drawn in (90, 180)
    )
    assert fewer < more


def test_a_sweep_that_is_not_measured_is_the_users_to_measure(tmp_path) -> None:
    layout, _ = make_sweep(tmp_path / "sweep", measured=False)
    with pytest.raises(SpecError, match="run `ganlab measure"):
        chosen(layout)


def test_a_threshold_of_zero_leaves_nothing_to_draw(tmp_path) -> None:
    layout, _ = make_sweep(tmp_path / "sweep", threshold=0)
    with pytest.raises(SpecError, match="above 0"):
        chosen(layout)


def test_without_a_trial_that_passes_the_gate_all_are_shown_and_it_is_said(tmp_path) -> None:
    layout, _ = make_sweep(tmp_path / "sweep", samples=256, fidelity_gate=0.001, quality_faults=["far"])
    choice = chosen(layout)
    assert not choice.gate_passed
    assert choice.parts
