"""Collisions of any tiles, merged in any order, are those of all pairs at once."""

import pickle
import tracemalloc
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ganlab.pairs import filter_refine
from ganlab.pairs import lower_bounds as screen
from ganlab.pairs.closest import closest_pairs, pairs_within
from ganlab.pairs.collisions import Collisions, compare_tile
from ganlab.pairs.lower_bounds import Screen, learn
from ganlab.pairs.tiles import Tile, plan_tiles

Array = NDArray[Any]


class Reader:
    """Reads an array as a task would read a store."""

    def __init__(self, images: Array) -> None:
        self.images = images

    def __call__(self, start: int, stop: int) -> Array:
        assert 0 <= start < stop <= len(self.images)
        return self.images[start:stop].copy()


@pytest.fixture
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_SAMPLE", 64)
    monkeypatch.setattr(screen, "_FIRST", 6)
    monkeypatch.setattr(screen, "_WHOLE", 8)
    monkeypatch.setattr(filter_refine, "_ROWS", 32)
    monkeypatch.setattr(filter_refine, "_COLUMNS", 50)


def compare(
    images: Array,
    tiles: tuple[Tile, ...],
    learnt: Screen | None,
    threshold_squared: float,
    count: int = 7,
    limit: int = 100_000,
) -> list[Collisions]:
    return [compare_tile(Reader(images), tile, learnt, threshold_squared, count, limit) for tile in tiles]


def assert_same(found: Collisions, expected: Collisions) -> None:
    a, b = found.to_arrays(), expected.to_arrays()
    assert a.keys() == b.keys()
    for name, values in a.items():
        np.testing.assert_array_equal(values, b[name], err_msg=name)


def images_of(rng: np.random.Generator, samples: int, kind: str) -> Array:
    centres = rng.integers(0, 256, (9, 2, 4, 5))
    images = centres[rng.integers(0, 9, samples)] // 2 + rng.integers(0, 4, (samples, 2, 4, 5))
    return images.astype(kind)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("small_levels")
def test_any_tiling_gives_the_same_result(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    samples = data.draw(st.integers(2, 150))
    images = images_of(rng, samples, data.draw(st.sampled_from(["uint8", "float32"])))
    everything = pairs_within(images, 1e9)
    place = data.draw(st.integers(0, len(everything) - 1))
    threshold_squared = everything.squared_distance[place]
    limit = data.draw(st.integers(0, 300))
    learnt = data.draw(st.sampled_from([None, learn(Reader(images), samples, 7)]))
    tiles = plan_tiles(samples, data.draw(st.integers(20, 200)))
    parts = compare(images, tiles, learnt, threshold_squared, 7, limit)
    rng.shuffle(parts)  # type: ignore[arg-type]
    found = reduce(Collisions.merge, parts)

    duplicates = everything[everything.squared_distance <= threshold_squared]
    assert found.complete
    assert found.samples == samples
    assert found.duplicates == len(duplicates)
    np.testing.assert_array_equal(found.degrees, np.bincount(duplicates.index.ravel(), minlength=samples))
    np.testing.assert_array_equal(found.closest.index, everything.index[:7])
    np.testing.assert_array_equal(found.closest.squared_distance, everything.squared_distance[:7])
    largest = np.sort(duplicates.index[:, 1])
    below = samples if len(duplicates) <= limit else int(largest[limit])
    assert found.listed_below == below
    listed = duplicates[duplicates.index[:, 1] < below]
    order = np.lexsort((listed.index[:, 0], listed.index[:, 1]))
    np.testing.assert_array_equal(found.listed.index, listed.index[order])
    np.testing.assert_array_equal(found.listed.squared_distance, listed.squared_distance[order])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), limit=st.integers(0, 500), count=st.integers(1, 30))
@pytest.mark.usefixtures("small_levels")
def test_merge_is_associative_and_commutative(seed: int, limit: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    images = images_of(rng, 90, "uint8")
    a, b, c = compare(images, plan_tiles(90, 45), None, 60, count, limit)
    assert_same(a.merge(b), b.merge(a))
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert_same(a.merge(Collisions.create(0, count, limit)), a)
    assert_same(Collisions.create(0, count, limit).merge(a), a)


def test_results_go_to_disk_and_between_workers(tmp_path: Any) -> None:
    images = images_of(np.random.default_rng(0), 60, "float32")
    found = reduce(Collisions.merge, compare(images, plan_tiles(60, 20), None, 60.0, limit=2))
    assert found.listed_below < 60
    np.savez(tmp_path / "record.npz", **found.to_arrays())
    with np.load(tmp_path / "record.npz") as arrays:
        assert_same(Collisions.from_arrays(arrays), found)
    assert_same(pickle.loads(pickle.dumps(found)), found)


def test_new_images_are_compared_with_old_ones_only() -> None:
    images = images_of(np.random.default_rng(1), 200, "uint8")
    old = reduce(Collisions.merge, compare(images[:120], plan_tiles(120, 50), None, 60))
    added = reduce(Collisions.merge, compare(images, plan_tiles(200, 50, 120), None, 60))
    assert_same(old.merge(added), reduce(Collisions.merge, compare(images, plan_tiles(200, 200), None, 60)))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("spread", [0, 3])
def test_a_collapsed_generator_is_counted_in_bounded_memory(kind: str, spread: int) -> None:
    samples, limit = 3000, 5000
    rng = np.random.default_rng(2)
    images = (100 + rng.integers(0, spread + 1, (samples, 3, 8, 8))).astype(kind)
    learnt = learn(Reader(images), samples)
    assert learnt is not None
    tracemalloc.start()
    parts = compare(images, plan_tiles(samples, 2000), learnt, 1e6, 20, limit)
    found = reduce(Collisions.merge, parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.duplicates == samples * (samples - 1) // 2
    assert np.all(found.degrees == samples - 1)
    assert found.listed_below == 100  # 100 * 99 / 2 duplicates are listed; 101 images would have 5050
    assert len(found.listed) == 100 * 99 // 2
    np.testing.assert_array_equal(found.closest.index, closest_pairs(images).index)
    assert peak < 400 * 2**20  # a list of all of them would take 110 MB at each of several steps


def test_a_task_and_its_result_are_small() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3000, 3, 64, 64), dtype=np.uint8) // 16
    images += np.random.default_rng(1).integers(0, 200, (3000, 1, 1, 1), dtype=np.uint8)
    learnt = learn(Reader(images), 3000)
    assert learnt is not None
    assert len(pickle.dumps(learnt)) < 8e6
    result = compare_tile(Reader(images), Tile(0, 1500, 1500, 3000), learnt, 1e4)
    assert len(pickle.dumps(result)) < 1e5


def test_a_screen_of_other_images_is_refused() -> None:
    images = images_of(np.random.default_rng(0), 2000, "uint8")
    learnt = learn(Reader(images), 2000)
    with pytest.raises(ValueError, match="learn it from this sample"):
        compare_tile(Reader(images[:, :1]), Tile(0, 100, 0, 100), learnt, 5)


def test_bad_input() -> None:
    good = images_of(np.random.default_rng(0), 300, "float32")
    broken = good.copy()
    broken[257, 0, 0, 0] = np.inf
    tile = Tile(0, 300, 0, 300)
    with pytest.raises(ValueError, match="threshold_squared: got -1"):
        compare_tile(Reader(good), tile, None, -1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        compare_tile(Reader(broken), tile, None, 1)
    with pytest.raises(ValueError, match="uint8 and float32"):
        compare_tile(Reader(good.astype(np.float64)), tile, None, 1)
    with pytest.raises(ValueError, match="one shape"):
        compare_tile(lambda start, stop: good[start:stop, : 1 + (stop > 1)], tile, None, 1)
    many = np.concatenate([broken] * 6)
    with pytest.raises(ValueError, match="NaN or infinite"):
        learn(Reader(many), len(many))
    with pytest.raises(ValueError, match="one shape"):
        learn(lambda start, stop: many[start:stop, : 1 + (start > 0), :1, :1], len(many))
    with pytest.raises(ValueError, match="same settings"):
        Collisions.create(5, count=3).merge(Collisions.create(5, count=4))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), limit=st.integers(0, 300), size=st.integers(20, 200))
@pytest.mark.usefixtures("small_levels")
def test_duplicates_are_listed_in_the_order_of_given_places(seed: int, limit: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    images, places = images_of(rng, 120, "uint8"), rng.permutation(120) * 7
    parts = [
        compare_tile(
            Reader(images),
            tile,
            learn(Reader(images), 120, 7),
            60,
            7,
            limit,
            places=(places[tile.row_start : tile.row_stop], places[tile.column_start : tile.column_stop]),
        )
        for tile in plan_tiles(120, size)
    ]
    rng.shuffle(parts)  # type: ignore[arg-type]
    found = reduce(Collisions.merge, parts)
    duplicates = pairs_within(images, 60**0.5).index
    later = places[duplicates].max(axis=1)
    cut = np.inf if len(later) <= limit else np.sort(later)[limit]
    assert found.duplicates == len(duplicates)
    assert found.listed_before_cut(places) == (places < cut).sum()
    assert {tuple(pair) for pair in found.listed.index} == {tuple(pair) for pair in duplicates[later < cut]}
    np.testing.assert_array_equal(found.listed_place, np.sort(later[later < cut]))


def test_a_state_of_the_first_version_goes_on() -> None:
    images = images_of(np.random.default_rng(3), 90, "uint8")
    first, *others = compare(images, plan_tiles(90, 45), None, 60, limit=40)
    stored = {name: values for name, values in first.to_arrays().items() if name != "listed_place"}
    assert_same(
        reduce(Collisions.merge, others, Collisions.from_arrays(stored)), reduce(Collisions.merge, [first, *others])
    )
