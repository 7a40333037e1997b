"""Copying: planted shares of copies, false alarms, exact laws of counts, Mann-Whitney statistic and cells."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from ganlab.pairs.closest import nearest
from ganlab.quality.copying import (
    QUANTILES,
    SHOWN,
    USUAL,
    Copying,
    Word,
    copying,
    in_cells,
    mann_whitney,
    training_cells,
)
from ganlab.quality.fidelity import RealNeighbours


def of(distance: np.ndarray, control: np.ndarray, held_out: bool = True, confidence: float = 0.95) -> Copying:
    """Copying by distances alone: all samples are nearest to one training image."""
    real = RealNeighbours(np.ones(1), control) if held_out else RealNeighbours(control)
    return copying(distance, np.zeros(len(distance), np.int64), real, confidence)


def planted(rng: np.random.Generator, images: int, share: float) -> np.ndarray:
    """Distances from 1 to 2 of the law of held-out images, and exact copies."""
    copies = round(share * images)
    return np.concatenate([np.zeros(copies), 1 + rng.random(images - copies)])


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_a_planted_share_of_copies_is_found(share: float) -> None:
    rng = np.random.default_rng(0)
    found = of(planted(rng, 5000, share), 1 + rng.random(1000))
    usual = found.share()
    assert found.word == Word.COPIES
    assert usual is not None
    assert usual.low <= share <= usual.high
    assert usual.value == pytest.approx(share, abs=0.01)
    assert found.z < -3 or share < 0.1
    assert found.authenticity == pytest.approx(1 - share)
    assert found.held_out == 1000


@pytest.mark.parametrize("held_out", [20, 180, 2000])
@pytest.mark.parametrize("images", [200, 3000])
def test_false_alarms_are_rare_and_a_share_that_would_be_seen_is(held_out: int, images: int) -> None:
    rng = np.random.default_rng(1)
    clean = [of(planted(rng, images, 0), 1 + rng.random(held_out)) for _ in range(150)]
    # At most 5 %: more than 14 of 150 have a probability below 1 %.
    assert sum(each.word == Word.COPIES for each in clean) <= 14
    seen = clean[0].seen
    assert seen <= 0.3
    far = [np.concatenate([np.zeros(math.ceil(seen * images)), np.full(images - math.ceil(seen * images), 9.0)])] * 60
    # Others of them far off, so that copies alone are near: the hardest case.
    words = [of(each, 1 + rng.random(held_out)).word for each in far]
    assert words.count(Word.COPIES) >= 55
    less = round(0.1 * seen * images)
    assert (
        of(np.concatenate([np.zeros(less), np.full(images - less, 9.0)]), 1 + rng.random(held_out)).word == "none-seen"
    )


def test_intervals_hold_the_planted_share() -> None:
    rng = np.random.default_rng(2)
    held = dict.fromkeys(QUANTILES, 0)
    for _ in range(200):
        for share in of(planted(rng, 1000, 0.03), 1 + rng.random(1000)).shares:
            held[share.quantile] += share.low <= 0.03 <= share.high
    assert min(held.values()) >= 183  # fewer of 200 at 95 % have a probability below 1 %


def test_the_interval_is_that_of_the_exact_law_of_counts() -> None:
    """Without copies the number of samples below the k-th of m held-out distances has a beta-binomial law."""
    control = np.arange(1.0, 401)
    law = stats.betabinom(300, 4, 400 + 1 - 4)
    fewest = next(count for count in range(300) if law.sf(count - 1) < 0.025)
    for count, above in ((fewest - 1, False), (fewest, True)):
        share = of(np.concatenate([np.full(count, 0.5), np.full(300 - count, 900.5)]), control).share()
        assert share is not None
        assert share.distance == 4
        assert (share.low > 0) == above


def test_copies_among_the_held_out_images_are_usual() -> None:
    rng = np.random.default_rng(3)
    control = planted(rng, 2000, 0.04)
    assert of(planted(rng, 5000, 0.04), control).word == Word.NONE_SEEN
    found = of(planted(rng, 5000, 0.12), control)
    assert found.word == Word.COPIES
    assert found.share().low <= (0.12 - 0.04) / 0.96 <= found.share().high  # type: ignore[union-attr]


def test_training_images_stand_in_and_their_number_counts_half() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(150):
        pairs = np.repeat(1 + rng.random(500), 2)  # each other's nearest image, at one distance
        alarms += of(1 + rng.random(2000), pairs, held_out=False).word == Word.COPIES
    assert alarms <= 14
    found = of(planted(rng, 2000, 0.1), np.repeat(1 + rng.random(500), 2), held_out=False)
    assert (found.word, found.held_out) == (Word.COPIES, 0)


def test_too_few_images_say_nothing() -> None:
    rng = np.random.default_rng(5)
    assert of(1 + rng.random(1000), 1 + rng.random(4)).word == Word.UNKNOWN
    assert of(np.zeros(1000), 1 + rng.random(4)).word == Word.COPIES, "all of them"
    nothing = of(np.zeros(100), np.zeros(50))
    assert (nothing.word, math.isnan(nothing.seen)) == (Word.UNKNOWN, True)
    real = RealNeighbours(np.ones(1), 1 + rng.random(1000))
    near = planted(rng, 1000, 0.3), np.zeros(1000, np.int64), real
    assert [copying(*near, blurred=blurred).word for blurred in (False, True)] == [Word.COPIES, Word.UNKNOWN]
    assert {each.quantile for each in of(np.ones(9), 1 + rng.random(99)).shares} == {USUAL, 0.05}


def test_the_statistic_is_that_of_mann_and_whitney() -> None:
    rng = np.random.default_rng(6)
    samples, held_out = rng.integers(0, 30, 40).astype(float), rng.integers(5, 40, 25).astype(float)
    wins = sum((x > y) + (x == y) / 2 for x, y in itertools.product(samples, held_out))
    expected = (wins - 40 * 25 / 2) / math.sqrt(40 * 25 * 66 / 12)
    assert mann_whitney(samples, held_out) == pytest.approx(expected)
    assert mann_whitney(samples, held_out) < 0, "the samples are nearer"
    law = [mann_whitney(rng.random(80), rng.random(50)) for _ in range(500)]
    assert abs(np.mean(law)) < 0.15
    assert np.std(law) == pytest.approx(1, abs=0.1)


def test_copying_in_one_cell_shows_there() -> None:
    """Copies of one cell's images, and samples too far in the others: together they look like held-out images."""
    rng = np.random.default_rng(7)
    cells, held_out_cells = np.repeat([0, 1], 500), np.repeat([0, 1], 300)
    samples = np.concatenate([rng.random(500), 2 + rng.random(500)])
    held_out = 1 + rng.random(600)
    parts = [mann_whitney(samples[cells == cell], held_out[held_out_cells == cell]) for cell in (0, 1)]
    assert in_cells(samples, cells, held_out, held_out_cells) == pytest.approx(np.mean(parts))
    assert math.isnan(in_cells(samples[:10], cells[:10], held_out, held_out_cells)), "too few in every cell"


def test_cells_of_training_images_are_found_again_in_any_order() -> None:
    rng = np.random.default_rng(8)
    centres = rng.integers(0, 256, (3, 1, 6, 6))
    true = rng.integers(0, 3, 900)
    images = np.clip(centres[true] + rng.integers(-5, 6, (900, 1, 6, 6)), 0, 255).astype(np.uint8)
    order = rng.permutation(900)
    for some in (images, images.astype(np.float32) / 255):
        cells = training_cells(lambda start, stop, some=some: some[start:stop], 900, order, 150)
        assert len(np.unique(cells)) <= 3
        purity = sum(np.bincount(true[cells == cell]).max() for cell in np.unique(cells)) / 900
        assert purity > 0.6
        back = np.argsort(order)
        moved = training_cells(lambda start, stop, some=some[order]: some[start:stop], 900, back[order], 150)
        np.testing.assert_array_equal(moved, cells[order])


def test_the_training_images_copied_most_are_named() -> None:
    stored = np.rint(load_digits().images[:, None] * (255 / 16)).astype(np.uint8)
    stored = stored[np.random.default_rng(0).permutation(len(stored))]
    training, held_out, others = stored[:1000], stored[1000:1300], stored[1300:]
    near = training[5].astype(int)
    near[0, 3, 3] ^= 1
    samples = np.concatenate([others, training[[7] * 30], near[None].astype(np.uint8), training[[5] * 50]])
    found = [nearest(images, training) for images in (samples, held_out)]
    distance, control = (np.sqrt(each.squared_distance.astype(float)) for each in found)
    own = np.sqrt(nearest(training, training, 2).squared_distance[1::2].astype(float))
    real = RealNeighbours(own, control, found[1].index[:, 1], np.arange(1000) % 3)
    answer = copying(distance, found[0].index[:, 1], real)
    assert answer.word == Word.COPIES
    assert answer.copied[:2].tolist() == [5, 7]
    assert answer.times[0] >= 51
    assert answer.times[1] >= 30
    assert distance[answer.copy[:2]].tolist() == [0, 0]
    assert np.array_equal(samples[answer.copy[0]], training[5])
    expected = (distance > own[found[0].index[:, 1]]).mean()
    assert answer.authenticity == expected
    assert answer.held_out_authenticity == (control > own[found[1].index[:, 1]]).mean()
    assert math.isfinite(answer.z_in_cells)


def test_the_images_shown_are_copies_and_not_those_that_are_near_by_chance() -> None:
    """A hundred images copied once each; four samples lie near another one, no nearer than some real images do."""
    rng = np.random.default_rng(0)
    real, samples = rng.normal(20, 2, (2, 20_000))
    neighbour = np.arange(len(samples))
    samples[:100], neighbour[:100] = 0, np.arange(100)
    samples[100:104], neighbour[100:104] = np.quantile(real, 0.005), 500
    found = copying(samples, neighbour, RealNeighbours(rng.normal(20, 2, 20_000), real))
    assert found.word is Word.COPIES
    assert found.copied.tolist() == list(range(SHOWN))
