"""Distinct images seen: brute-force greedy packing, whether from the list of duplicates or by distance."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ganlab.pairs import filter_refine
from ganlab.pairs import lower_bounds as screen
from ganlab.pairs.closest import pairs_within
from ganlab.pairs.lower_bounds import learn
from ganlab.statistics import packing
from ganlab.statistics.packing import distinct_images, search_distinct_images
from ganlab.statistics.support import degrees_of

Array = NDArray[Any]


@pytest.fixture
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_SAMPLE", 64)
    monkeypatch.setattr(screen, "_FIRST", 6)
    monkeypatch.setattr(screen, "_WHOLE", 8)
    monkeypatch.setattr(filter_refine, "_ROWS", 32)
    monkeypatch.setattr(filter_refine, "_COLUMNS", 50)
    monkeypatch.setattr(packing, "_LISTED", 60)
    monkeypatch.setattr(packing, "_LEAST_BLOCK", 10)


def brute(near: Array, order: Array) -> list[int]:
    kept: list[int] = []
    for image in order:
        if not near[image, kept].any():
            kept.append(image)
    return sorted(kept)


def squared_matrix(images: Array) -> Array:
    rows = images.reshape(len(images), -1).astype(np.float64)
    return np.stack([np.square(row - rows).sum(axis=1) for row in rows])


def kinds_of(rng: np.random.Generator, samples: int, kinds: int, spread: int, kind: str) -> tuple[Array, Array]:
    """Images of several kinds far apart, those of one kind `spread` levels apart; and the kind of each."""
    centres = rng.integers(0, 200, (kinds, 3, 4, 4))
    drawn = rng.integers(0, kinds, samples)
    return (centres[drawn] + rng.integers(0, spread + 1, (samples, 3, 4, 4))).astype(kind), drawn


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("small_levels")
def test_both_ways_are_brute_force_in_any_order_and_tiles(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    samples = data.draw(st.integers(2, 150))
    images, _ = kinds_of(
        rng, samples, data.draw(st.integers(1, 60)), 4, data.draw(st.sampled_from(["uint8", "float32"]))
    )
    squared = squared_matrix(images)
    pairs = squared[np.triu_indices(samples, 1)]
    threshold_squared = float(np.quantile(pairs, data.draw(st.sampled_from([0, 0.01, 0.1, 0.5, 1])), method="lower"))
    near = squared <= threshold_squared
    first, second = np.nonzero(np.triu(near, 1))
    degrees = near.sum(axis=1) - 1
    order = data.draw(st.sampled_from([None, rng.permutation(samples)]))
    expected = brute(near, np.argsort(degrees, kind="stable") if order is None else order)

    listed = distinct_images(degrees, np.stack([second, first], axis=1), order)
    learnt = data.draw(st.sampled_from([None, learn(lambda a, b: images[a:b], samples, 7, threshold_squared)]))
    searched = search_distinct_images(
        images.__getitem__, degrees, threshold_squared, learnt, order, tile_images=data.draw(st.integers(2, 200))
    )
    assert listed.images.tolist() == searched.images.tolist() == expected
    if order is None:
        assert listed.count >= np.sum(1 / (degrees + 1.0)) - 1e-9


def test_of_known_kinds_as_many_are_found_as_were_drawn() -> None:
    images, drawn = kinds_of(np.random.default_rng(0), 3000, 700, 2, "uint8")
    pairs = pairs_within(images, 20.0)
    assert (drawn[pairs.index[:, 0]] == drawn[pairs.index[:, 1]]).all()
    degrees = degrees_of(pairs.index, 3000)
    listed = distinct_images(degrees, pairs.index)
    learnt = learn(lambda a, b: images[a:b], 3000, 20, 400.0)
    searched = search_distinct_images(images.__getitem__, degrees, 400.0, learnt, tile_images=300)
    assert listed.count == len(np.unique(drawn)) == len(np.unique(drawn[listed.images]))
    np.testing.assert_array_equal(listed.images, searched.images)


def test_images_without_duplicates_are_not_read() -> None:
    images, _ = kinds_of(np.random.default_rng(1), 400, 900, 2, "float32")
    degrees = degrees_of(pairs_within(images, 20.0).index, 400)
    asked: list[Array] = []

    def take(numbers: Array) -> Array:
        asked.append(numbers)
        return images[numbers]

    assert search_distinct_images(take, degrees, 400.0, tile_images=50).count > (degrees == 0).sum() > 200
    assert degrees[np.concatenate(asked)].min() > 0
    assert search_distinct_images(take, np.zeros(400, int), 0.0).count == 400


def test_tiles_are_read_in_stored_order_and_few_span_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a stored sample is read whole: images in any other order would be the whole sample, for each tile."""
    monkeypatch.setattr(packing, "_LEAST_BLOCK", 100)
    images, _ = kinds_of(np.random.default_rng(3), 4000, 800, 2, "uint8")
    degrees = degrees_of(pairs_within(images, 20.0).index, 4000)
    spans: list[int] = []

    def take(numbers: Array) -> Array:
        assert (np.diff(numbers) > 0).all()
        assert len(numbers) <= 200
        spans.append(int(numbers[-1] - numbers[0] + 1))
        return images[numbers]

    found = search_distinct_images(take, degrees, 400.0, tile_images=200)
    assert found.images.tolist() == search_distinct_images(images.__getitem__, degrees, 400.0).images.tolist()
    assert np.mean([span for span in spans if span > 1]) < len(images) / 4


def test_a_sample_that_a_tile_holds_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and projecting an image costs as much as thousands of its pairs, so no block may repeat it."""
    monkeypatch.setattr(packing, "_LEAST_BLOCK", 100)
    images, _ = kinds_of(np.random.default_rng(4), 3000, 1500, 2, "uint8")
    pairs = pairs_within(images, 20.0).index
    degrees = degrees_of(pairs, 3000)
    learnt = learn(lambda a, b: images[a:b], 3000, 1, 400.0)
    assert learnt is not None
    read = np.zeros(3000, int)
    projected = 0
    project = screen.Screen._project

    def take(numbers: Array) -> Array:
        read[numbers] += len(numbers) > 1  # the first of each part is looked at for its shape
        return images[numbers]

    def count(self: screen.Screen, some: Any, level: int, device: str) -> screen.Projection:
        nonlocal projected
        projected += len(some)
        return project(self, some, level, device)

    monkeypatch.setattr(screen.Screen, "_project", count)
    found = search_distinct_images(take, degrees, 400.0, learnt, tile_images=3000)
    assert found.images.tolist() == distinct_images(degrees, pairs).images.tolist()
    assert read.max() == 1
    assert projected <= len(learnt.levels) * (degrees > 0).sum()


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("spread", [0, 3])
def test_a_collapsed_generator_is_packed_in_bounded_memory(kind: str, spread: int) -> None:
    samples = 6000
    images = (100 + np.random.default_rng(2).integers(0, spread + 1, (samples, 3, 8, 8))).astype(kind)
    learnt = learn(lambda a, b: images[a:b], samples)
    tracemalloc.start()
    found = search_distinct_images(images.__getitem__, np.full(samples, samples - 1), 1e6, learnt)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.images.tolist() == [0]
    assert peak < 400 * 2**20  # its 18 million duplicates would take more at each of several steps


def test_a_hub_is_visited_last_and_left_out() -> None:
    hub = np.stack([np.zeros(30, int), np.arange(1, 31)], axis=1)
    degrees = degrees_of(hub, 40)
    assert distinct_images(degrees, hub).images.tolist() == list(range(1, 40))
    assert distinct_images(degrees, hub, np.arange(40)).images.tolist() == [0, *range(31, 40)]


def test_bad_input() -> None:
    pairs = np.array([[0, 1], [1, 2]])
    degrees = degrees_of(pairs, 4)
    with pytest.raises(ValueError, match="use search_distinct_images"):
        distinct_images(degrees, pairs[:1])
    with pytest.raises(ValueError, match="order: got int64"):
        distinct_images(degrees, pairs, [0, 1, 2, 2])
    with pytest.raises(ValueError, match="each duplicate must count for both"):
        distinct_images([1, 0, 0], np.empty((0, 2), int))
    images = np.zeros((4, 5), np.float32)
    with pytest.raises(ValueError, match="threshold_squared: got -1"):
        search_distinct_images(images.__getitem__, degrees, -1)
    with pytest.raises(ValueError, match="tile_images: got 1"):
        search_distinct_images(images.__getitem__, degrees, 1, tile_images=1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        search_distinct_images((images + np.nan).__getitem__, degrees, 1)
