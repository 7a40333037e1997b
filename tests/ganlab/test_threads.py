"""Blocks shared by threads: order, errors, threads of torch, and the same answers as in turn."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ganlab.pairs import closest, devices, estimates, exact, filter_refine, lower_bounds
from ganlab.pairs.closest import candidates_within, closest_pairs, nearest, pairs_within
from ganlab.pairs.collisions import compare_tile
from ganlab.pairs.devices import sums_in_float32
from ganlab.pairs.exact import Images, as_images
from ganlab.pairs.lower_bounds import learn
from ganlab.pairs.threads import in_threads
from ganlab.pairs.tiles import Tile
from ganlab.quality.embeddings.normalised import Normalised
from ganlab.quality.manifold import Balls, count_mutually
from ganlab.statistics import correlation
from ganlab.statistics.correlation import correlation_curve, curve_and_degrees

Array = NDArray[Any]


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_items(three_threads: None) -> None:
    def slower_first(item: int) -> tuple[int, int, int]:
        time.sleep(0.02 * (item < 3))
        return item, threading.get_ident(), torch.get_num_threads()

    found = in_threads(slower_first, range(30))
    assert [item for item, *_ in found] == list(range(30))
    assert len({thread for _, thread, _ in found}) == 3, "as many threads as torch had"
    assert threading.get_ident() not in {thread for _, thread, _ in found}
    assert {threads for *_, threads in found} == {1}, "each has one thread for torch"
    assert torch.get_num_threads() == 3
    assert in_threads(slower_first, []) == []


def test_one_thread_takes_items_in_turn_as_they_come(three_threads: None) -> None:
    seen: list[int] = []

    def items() -> Iterator[int]:
        for item in range(3):
            assert seen == list(range(item)), "the items before were done"
            yield item

    in_threads(seen.append, items(), device="meta")  # an accelerator
    torch.set_num_threads(1)
    seen.clear()
    in_threads(seen.append, items())
    assert seen == [0, 1, 2]


def test_blocks_within_blocks_stay_in_their_thread(three_threads: None) -> None:
    def inner(item: int) -> int:
        return threading.get_ident()

    for outer, *others in in_threads(lambda item: [inner(item), *in_threads(inner, range(4))], range(6)):
        assert set(others) == {outer}


def test_an_error_ends_the_call_and_leaves_items_out(three_threads: None) -> None:
    begun = []

    def fail(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        in_threads(fail, range(1000))
    assert len(begun) < 100
    assert torch.get_num_threads() == 3


def test_floating_point_errors_are_raised_as_in_the_caller(three_threads: None) -> None:
    def overflow(item: int) -> Array:
        return np.float32(3e38) * np.ones(2, np.float32) * 2

    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        in_threads(overflow, range(4))
    with np.errstate(over="ignore"):
        assert all(np.isinf(each).all() for each in in_threads(overflow, range(4)))


@pytest.fixture
def products() -> Iterator[Any]:
    """Settings of torch's products, as a program may have them."""
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    yield products
    products.fp32_precision = before


def test_settings_of_products_come_back_when_the_last_thread_is_done(products: Any) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with sums_in_float32():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with sums_in_float32():
        thread.start()
        assert inside.wait(10)
    assert products.fp32_precision == "ieee", "the other thread still needs them"
    leave.set()
    thread.join()
    assert products.fp32_precision == "bf16"
    assert devices._sums.users == 0


def distances(a: Array, b: Array) -> Array:
    left, right = (each.reshape(len(each), -1).astype(np.float64) for each in (a, b))
    return np.stack([np.square(one - right).sum(axis=1) for one in left])


def image_sets() -> dict[str, Array]:
    """Sets with copies, near copies and pairs at equal distances."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (300, 130), dtype=np.uint8)
    small[100:130] = small[:30]
    small[130:160] = small[:30] ^ 1
    smooth = np.cumsum(random.integers(-2, 3, (300, 130)), axis=1).clip(-100, 100)
    smooth[200:260] = smooth[:60] + (np.arange(60) % 3)[:, None]
    return {
        "uint8": small,
        "smooth": (smooth + 128).astype(np.uint8),
        "codes": Normalised().features(small),
        "float32": random.standard_normal((300, 130)).astype(np.float32),
    }


@pytest.mark.parametrize("kind", ["uint8", "smooth", "codes", "float32"])
def test_answers_of_several_threads_are_those_of_brute_force(
    kind: str, three_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (filter_refine, closest, correlation):
        monkeypatch.setattr(module, "_ROWS", 16)
        monkeypatch.setattr(module, "_COLUMNS", 48)
    monkeypatch.setattr(lower_bounds, "_SAMPLE", 64)
    for module, name in ((estimates, "_ENCODED_BYTES"), (exact, "_BATCH_BYTES"), (lower_bounds, "_PART_BYTES")):
        monkeypatch.setattr(module, name, 2**13)
    images = image_sets()[kind]
    squared = distances(images, images)
    i, j = np.triu_indices(len(images), 1)
    order = np.lexsort((j, i, squared[i, j]))
    pairs = np.stack([i, j], axis=1)[order]
    near = np.argsort(squared, axis=1, kind="stable")
    for _ in range(3):  # threads differ in when they add what they find
        found = closest_pairs(images, 25)
        np.testing.assert_array_equal(found.index, pairs[:25])
        np.testing.assert_array_equal(found.squared_distance, squared[i, j][order][:25])
        threshold = float(np.sqrt(squared[i, j][order][400]))
        within = pairs_within(images, threshold)
        count = int((np.sqrt(squared[i, j]) <= threshold).sum())
        np.testing.assert_array_equal(within.index, pairs[:count])
        for queries in (images, images[:270].copy()):
            neighbours = nearest(queries, images, 3)
            np.testing.assert_array_equal(neighbours.index[:, 1].reshape(-1, 3), near[: len(queries), :3])
        limit = float(squared[i, j][order][400])
        tile = Tile(0, len(images), 0, len(images))
        screen = learn(lambda start, stop: images[start:stop], len(images), 20, limit)
        collisions = compare_tile(lambda start, stop: images[start:stop], tile, screen, limit, limit=50)
        duplicates = (squared <= limit).sum(axis=1) - 1
        np.testing.assert_array_equal(collisions.degrees, duplicates)
        np.testing.assert_array_equal(collisions.closest.index, pairs[:20])
        radii = squared[np.arange(len(images)), near[:, 4]]
        balls = (Balls(as_images(some), radii[: len(some)], None) for some in (images, images[:270].copy()))
        (inside, around), _ = count_mutually(*balls)
        np.testing.assert_array_equal(inside, (squared[:, :270] <= radii[:, None]).sum(axis=1))
        np.testing.assert_array_equal(around, (squared[:, :270] <= radii[:270]).sum(axis=1))
        at = np.sqrt(np.quantile(squared[i, j], [0.001, 0.01, 0.3, 0.9]))
        counts = [(np.sqrt(squared[i, j]) <= each).sum() for each in at]
        degrees = [(np.sqrt(squared) <= each).sum(axis=1) - 1 for each in at[:2]]
        curve, by_image = curve_and_degrees(images, at, at[:2])
        np.testing.assert_array_equal(curve.within, counts)
        np.testing.assert_array_equal(by_image, degrees)
        np.testing.assert_array_equal(correlation_curve(images, at).within, counts)
        candidates = candidates_within(images, float(at[2]))
        assert candidates.within(float(exact.squared_limit(at[2]))).sum() == counts[2]


def test_what_is_derived_is_made_once_whichever_thread_needs_it(three_threads: None) -> None:
    images, made = as_images(image_sets()["codes"]), []

    class Made:
        def take(self, which: Any) -> "Made":
            return self

    def make() -> Made:
        time.sleep(0.01)
        made.append(Made())
        return made[-1]

    assert len(set(in_threads(lambda item: images.derived("name", make), range(12)))) == len(made) == 1
    first, second = object(), object()
    kept = images.derived("vectors", make, first)
    assert images.derived("vectors", make, first) is kept
    assert images.derived("vectors", make, second) is not kept
    assert len(images._kept[1]) == 2, "that of the second maker takes the place of that of the first"


def test_checked_images_are_taken_as_they_are() -> None:
    images = Images(np.zeros((3, 2), np.uint8))
    assert as_images(images) is images
    with pytest.raises(ValueError, match="got 3 image"):
        as_images(images, at_least=4)


@pytest.mark.parametrize("kind", ["uint8", "codes", "float32"])
@pytest.mark.parametrize("references", [1, 2, 5, 31, 32, 33])
def test_nearest_of_few_references(
    kind: str, references: int, three_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_refine, "_ROWS", 64)
    images = image_sets()[kind]
    others = images[90 : 90 + references].copy()  # copies of images 0 … among them
    others[-1] = others[0]  # and two that are equal: the first is the nearest
    squared = distances(images, others)
    for count in {1, min(2, references)}:
        found = nearest(images, others, count)
        order = np.argsort(squared, axis=1, kind="stable")[:, :count]
        np.testing.assert_array_equal(found.index[:, 1].reshape(-1, count), order)
        np.testing.assert_array_equal(
            found.squared_distance.reshape(-1, count), np.take_along_axis(squared, order, axis=1)
        )


def test_normalised_features_do_not_depend_on_blocks(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 32, 32), dtype=np.uint8)
    images[7] = 200  # constant
    whole = Normalised().features(images)
    assert (whole[7] == 0).all()
    assert np.array_equal(np.concatenate([Normalised().features(each[None]) for each in images]), whole)
    monkeypatch.setattr("ganlab.quality.embeddings.normalised._BLOCK_BYTES", 1)
    assert np.array_equal(Normalised().features(images), whole)
