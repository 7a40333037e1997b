"""Comparing in parts: killed and begun again, grown, and with images that can't be read."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ganlab.quality.fidelity import real_neighbours
from jobs.measuring import comparison
from jobs.measuring.comparison import Comparison, compare
from storage.arrays import open_array
from storage.partial_pairs import PartialPairs
from storage.samples import DamagedShardError

MEMORY = 2**30


class KilledError(Exception):
    """Stands for whatever ends a process."""


def killed_after(parts: int):
    """A map that dies when it has given so many results."""

    def results(function, items):
        yield from map(function, itertools.islice(items, parts))
        raise KilledError

    return results


def silent(done: float, total: float, left: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "choose_tile_images", lambda *arguments: 100)


@pytest.fixture
def wanted(folder: Path, small_tiles: None):
    """All pairs of 700 images, and the 2 nearest of 150 others for each: 28 + 14 parts."""
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, (300, 1, 6, 6), dtype=np.uint8)
    for name, count in (("samples", 700), ("others", 150)):
        np.save(
            folder / f"{name}.npy", pool[rng.integers(0, 300, count)] ^ rng.integers(0, 2, (count, 1, 6, 6), np.uint8)
        )
    images, others = open_array(folder / "samples.npy"), open_array(folder / "others.npy")
    return Comparison(images, str(folder), 40.0, 5, others, neighbours=2)


def answer(wanted, keep=None, map=map, progress=silent):
    ((key, found),) = compare({"it": (wanted, keep)}, MEMORY, map, progress)
    assert key == "it"
    return found


def assert_same(found, expected) -> None:
    for a, b in zip(found, expected, strict=True):
        a, b = a.to_arrays(), b.to_arrays()
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_what_is_finished_is_not_done_again(wanted, folder) -> None:
    expected = answer(wanted)
    keep = PartialPairs(folder / "it.npz", lambda images: "name" if images == 700 else None)
    done = []
    for parts in (5, 20, 3):
        with pytest.raises(KilledError):
            answer(wanted, keep, killed_after(parts), lambda d, t, left: done.append(left))
    assert [done[0], done[6], done[27]] == [42, 37, 17], "each begins where the one before ended"
    assert_same(answer(wanted, keep), expected)
    assert not keep.path.exists(), "a finished comparison leaves no state"


def test_smaller_tiles_go_on_with_what_larger_ones_left(wanted, folder, monkeypatch) -> None:
    expected = answer(wanted)
    keep = PartialPairs(folder / "it.npz", lambda images: "name")
    with pytest.raises(KilledError):
        answer(wanted, keep, killed_after(9))
    monkeypatch.setattr(comparison, "choose_tile_images", lambda *arguments: 33)
    assert_same(answer(wanted, keep), expected)


def test_a_state_is_written_now_and_then(wanted, folder, monkeypatch) -> None:
    monkeypatch.setattr(comparison, "SAVE_EVERY_S", 0.0)
    keep = PartialPairs(folder / "it.npz", lambda images: "name")
    saved = []

    def watch(done: float, total: float, left: int) -> None:
        saved.append(keep.load() is not None)

    answer(wanted, keep, progress=watch)
    assert not any(saved[:2])
    assert all(saved[2:-1])


def test_only_new_images_are_compared(wanted, folder) -> None:
    expected = answer(wanted)
    whole = wanted.images.read(0, 700)
    keep = PartialPairs(folder / "it.npz", lambda images: f"{whole[:images].sum()}", keep_finished=True)
    for images, before in ((250, 0), (600, 250), (700, 600)):
        np.save(folder / f"{images}.npy", whole[:images])
        grown = Comparison(open_array(folder / f"{images}.npy"), str(images), 40.0, 5, wanted.reference, neighbours=2)
        seen = []
        found = answer(grown, keep, progress=lambda done, total, left, seen=seen: seen.append(done))
        assert seen[0] == before * (before - 1) // 2 + before * 150
    assert_same(found, expected)


@pytest.mark.parametrize("damage", ["cut", "of other images", "no such file"])
def test_a_state_that_does_not_fit_is_not_used(wanted, folder, damage) -> None:
    names = {"now": "these images"}
    keep = PartialPairs(folder / "it.npz", lambda images: names["now"])
    expected = answer(wanted)
    with pytest.raises(KilledError):
        answer(wanted, keep, killed_after(30))
    if damage == "cut":
        keep.path.write_bytes(keep.path.read_bytes()[:-50])
    elif damage == "of other images":
        names["now"] = "others"
    else:
        keep.path.unlink()
    left = []
    assert_same(answer(wanted, keep, progress=lambda done, total, tiles: left.append(tiles)), expected)
    assert left[0] == 42


class _Damaged:
    """A set of images of which one can't be read."""

    shape, dtype = (700, 1, 6, 6), np.dtype(np.uint8)

    def read(self, start: int, stop: int) -> np.ndarray:
        if start <= 350 < stop:
            raise DamagedShardError(Path("c.3.0.0.0"), "it is cut short", Path("trial"))
        return np.zeros((stop - start, 1, 6, 6), np.uint8)


def test_one_damaged_set_does_not_stop_the_others(wanted) -> None:
    bad = Comparison(_Damaged(), "damaged", 40.0)
    ran = []

    def counting(function, items):
        for item in items:
            ran.append(item.key)
            yield function(item)

    found = dict(compare({"bad": (bad, None), "good": (wanted, None)}, MEMORY, counting, silent))
    assert isinstance(found["bad"], DamagedShardError)
    assert_same(found["good"], answer(wanted))
    assert ran.count("bad") < 28, "the rest of a damaged set is not tried"


def test_nearest_other_images_of_a_set(wanted) -> None:
    images = wanted.images
    found = answer(Comparison(images, "itself", reference=images, itself=True))
    assert found.collisions is None
    np.testing.assert_array_equal(found.neighbours.squared_distance[:, 0], real_neighbours(images.read(0, 700)))
    assert (found.neighbours.index[:, 0] != np.arange(700)).all()


def test_rows_make_room_before_others_are_read(monkeypatch) -> None:
    """Else a worker would hold three parts of a tile where two are planned."""

    class Zeros:
        shape, dtype = (4, 1, 2, 2), np.dtype(np.uint8)

        def read(self, start: int, stop: int) -> np.ndarray:
            return np.zeros((stop - start, 1, 2, 2), np.uint8)

    held: list[int] = []
    load = comparison.load_rows

    def look(*arguments):
        held.append(len(comparison._KEPT))
        return load(*arguments)

    monkeypatch.setattr(comparison, "load_rows", look)
    comparison.forget_images()
    rows, columns = comparison._Named("rows", Zeros()), comparison._Named("columns", Zeros())
    first = comparison._loaded(rows, 0, 2)
    assert comparison._loaded(columns, 0, 2) is not first
    assert comparison._loaded(rows, 0, 2) is first, "the other set left it in place"
    comparison._loaded(columns, 2, 4)
    assert comparison._loaded(rows, 0, 2) is first, "columns that were used less lately made room"
    assert held == [0, 1, 1]
    comparison.forget_images()
    assert comparison._loaded(rows, 0, 2) is not first


class _Counted:
    """Images that count how many of them are read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.shape, self.read_images = images, images.shape, 0

    def read(self, start: int, stop: int) -> np.ndarray:
        self.read_images += stop - start
        return self.images[start:stop]


@pytest.mark.parametrize(("names", "times"), [(("training", "training"), 1), (("", ""), 2), (("training", "test"), 2)])
def test_a_reference_that_has_a_name_is_read_once_for_several_sets(names: tuple[str, str], times: int) -> None:
    comparison.forget_images()
    rng = np.random.default_rng(0)
    first, second, reference = (rng.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8) for count in (40, 50, 60))
    counted = _Counted(reference)
    others = [counted, counted] if names[0] == names[1] else [counted, _Counted(reference[::-1].copy())]
    wanted = {
        name: (Comparison(_Counted(images), name, reference=other, reference_name=named), None)
        for name, images, other, named in zip(("first", "second"), (first, second), others, names, strict=True)
    }
    found = dict(compare(wanted, MEMORY, map, silent))
    for name, images, other in zip(("first", "second"), (first, second), others, strict=True):
        flat, of_others = (each.reshape(len(each), -1).astype(np.int64) for each in (images, other.images))
        squared = np.square(flat[:, None] - of_others).sum(axis=2)
        np.testing.assert_array_equal(found[name].neighbours.index[:, 0], squared.argmin(axis=1))
    assert sum(each.read_images for each in set(others)) == times * 61  # and one to know what they are


def test_workers_get_what_is_left_when_work_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent, kept = [0.0], [], []

    def work(seconds: float) -> float:
        now[0] += seconds
        comparison._KEPT["rows"] = seconds
        return seconds

    def workers(function, items):
        kept.append(len(comparison._KEPT))
        for item in items:
            sent.append(item)
            yield function(item)

    monkeypatch.setattr(comparison.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(comparison, "_KEPT", {})
    map = comparison.alone_first(workers)
    assert list(map(work, [])) == []
    assert list(map(work, [4.0, 5.9])) == [4.0, 5.9]
    assert (sent, kept) == ([], [])
    assert list(map(work, [0.2])) == [0.2]  # nothing is left for workers
    assert (sent, kept) == ([], [])
    assert list(map(work, [1.0, 2.0])) == [1.0, 2.0]
    assert (sent, kept) == ([1.0, 2.0], [0])  # their memory is free


def test_distinct_images_are_packed_in_tiles_that_memory_alone_limits(folder: Path, monkeypatch) -> None:
    """Tiles that share the work among workers are smaller, and what is left would be read again for each block."""
    np.save(folder / "same.npy", np.zeros((700, 1, 6, 6), np.uint8))  # more duplicates than are listed
    monkeypatch.setattr(comparison, "SPLIT_FROM", 0)
    wanted = Comparison(open_array(folder / "same.npy"), "same", 0.0)
    assert wanted.tile_images(MEMORY) < 700
    tiles: list[int] = []
    packed = comparison.search_distinct_images

    def look(*arguments, tile_images: int):
        tiles.append(tile_images)
        return packed(*arguments, tile_images=tile_images)

    monkeypatch.setattr(comparison, "search_distinct_images", look)
    assert comparison.pair_record(wanted, answer(wanted), None, MEMORY).distinct == 1
    assert tiles == [700]


@pytest.mark.parametrize(("names", "times"), [(("same", "same"), 1), (("one", "other"), 2), (("", ""), 2)])
def test_what_is_learnt_of_a_reference_serves_every_comparison_with_it(
    wanted, names: tuple[str, str], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison._neighbours_screen.cache_clear()
    learnt = []
    learn = comparison.learn_for_neighbours

    def look(*arguments):
        learnt.append(arguments)
        return learn(*arguments)

    monkeypatch.setattr(comparison, "learn_for_neighbours", look)
    alone = answer(wanted)
    learnt.clear()
    for fingerprint, name in zip(("first", "second"), names, strict=True):
        assert_same(answer(replace(wanted, fingerprint=fingerprint, reference_name=name)), alone)
    assert len(learnt) == times
