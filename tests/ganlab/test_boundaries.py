"""Both sides of every number at which the pair engine changes its arithmetic or its path, against brute force.

docs/pairs.md lists the numbers.
"""

import math
from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ganlab.pairs import blocks, estimates, exact, filter_refine, pivots, plan
from ganlab.pairs import lower_bounds as screen
from ganlab.pairs.closest import Closest, Pairs, closest_pairs, nearest, pairs_within
from ganlab.pairs.collisions import LISTED, Collisions, compare_tile
from ganlab.pairs.exact import (
    Images,
    as_images,
    integer_product,
    load_rows,
    squared_distances,
    squared_lengths,
    squared_limit,
    squared_threshold,
)
from ganlab.pairs.filter_refine import search
from ganlab.pairs.lower_bounds import learn
from ganlab.pairs.neighbours import Neighbours, nearest_in_tile
from ganlab.pairs.tiles import plan_rectangle, plan_tiles
from ganlab.quality.frechet import MOST_FEATURES, Moments, frechet_distance, moments_of
from ganlab.quality.manifold import Balls, balls_of, count_mutually, manifold_scores
from ganlab.quality.scores import MOST_BYTES, MOST_IMAGES, scored_images
from ganlab.statistics import correlation
from ganlab.statistics.correlation import choose_distances, correlation_curve
from ganlab.statistics.modes import heavy_modes
from ganlab.statistics.support import estimate, estimate_from_degrees

Array = NDArray[Any]
LARGEST = float(np.finfo(np.float32).max)
INFINITE_AND_LARGE = (1e5, 1e10, 1e153, 1e200, math.inf)


def brute(a: Array, b: Array) -> Array:
    """(n, m) squared distances: integers of uint8 images, float64 sums of a row's squares of float32 ones."""
    wide = np.int64 if a.dtype == np.uint8 else np.float64
    a, b = (each.reshape(len(each), -1).astype(wide) for each in (a, b))
    if wide == np.int64 and len(a) > 300:
        return np.rint(cdist(a, b, "sqeuclidean")).astype(np.int64)  # whole numbers below 2**53: exact
    return np.stack([np.square(row - b).sum(axis=1) for row in a])


def pairs_of(squared: Array, most: int | None = None) -> Pairs:
    """The pairs i < j of a square matrix in order; the first ones, where `most` says how many."""
    i, j = np.triu_indices(len(squared), 1)
    values = squared[i, j]
    if most is not None and most < len(values):
        near = np.flatnonzero(values <= np.partition(values, most)[most])
        i, j, values = i[near], j[near], values[near]
    order = np.lexsort((j, i, values))[:most]
    return Pairs(np.stack([i[order], j[order]], axis=1), values[order])


def assert_pairs(found: Pairs, expected: Pairs) -> None:
    np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)
    np.testing.assert_array_equal(found.index, expected.index)


def within(pairs: Pairs, threshold: float) -> Pairs:
    return pairs[np.sqrt(pairs.squared_distance.astype(np.float64)) <= threshold]


def assert_engine(images: Array, thresholds: tuple[float, ...] = (), tile: int | None = None) -> None:
    """Compare every answer of the engine about one set, in memory and in tiles, with brute force."""
    squared, n = brute(images, images), len(images)
    every = pairs_of(squared)
    for count in (1, 20, len(every) + 5):
        assert_pairs(closest_pairs(images, count), every[:count])
    some = [math.sqrt(every.squared_distance[place]) for place in (0, len(every) // 2, len(every) - 1)]
    for threshold in (0.0, *some, *thresholds):
        assert_pairs(pairs_within(images, threshold), within(every, threshold))
        assert_tiles(images, every, squared_threshold(threshold, images.dtype == np.uint8), tile or n // 2 + 1)
    for count in {1, min(3, n)}:
        order = np.stack([np.lexsort((np.arange(n), row))[:count] for row in squared])
        found = nearest(images, images, count)
        np.testing.assert_array_equal(found.index[:, 1].reshape(n, count), order)
        np.testing.assert_array_equal(
            found.squared_distance.reshape(n, count), np.take_along_axis(squared, order, axis=1)
        )
    assert_neighbour_tiles(images, squared, tile or n // 2 + 1)


def read(images: Array) -> exact.Read:
    return lambda start, stop: images[start:stop]


def assert_tiles(images: Array, every: Pairs, threshold_squared: float, tile: int) -> None:
    n, count = len(images), 5
    learnt = learn(read(images), n, count, threshold_squared)
    parts = [compare_tile(read(images), each, learnt, threshold_squared, count) for each in plan_tiles(n, tile)]
    found = reduce(Collisions.merge, reversed(parts))
    duplicates = every[every.squared_distance <= threshold_squared]
    assert found.complete
    assert found.duplicates == len(duplicates)
    np.testing.assert_array_equal(found.degrees, np.bincount(duplicates.index.ravel(), minlength=n))
    assert_pairs(found.closest, every[:count])
    if len(duplicates) <= LISTED:
        assert_pairs(found.listed.sorted(), duplicates)


def assert_neighbour_tiles(images: Array, squared: Array, tile: int) -> None:
    n = len(images)
    others = squared.astype(np.float64)
    np.fill_diagonal(others, np.inf)
    learnt = learn(read(images), n, 1)
    tiles = plan_rectangle(0, n, n, tile)
    parts = [nearest_in_tile(read(images), read(images), each, learnt, 1, itself=True) for each in tiles]
    found = reduce(Neighbours.merge, reversed(parts))
    np.testing.assert_array_equal(found.index[:, 0], others.argmin(axis=1))
    np.testing.assert_array_equal(found.squared_distance[:, 0], others.min(axis=1))


def planted(n: int, features: int, seed: int = 0) -> Array:
    """Noise, with the farthest pair there is, equal images in both halves, and images that differ in one bit."""
    images = np.random.default_rng(seed).integers(0, 256, (n, features), dtype=np.uint8)
    images[0], images[-1] = 0, 255
    if n > 6:
        images[n // 2], images[n - 2] = images[1], images[2]
        images[n - 2, -1] ^= 1
    return images


FEATURES = [1, 2, 15, 16, 17, 123, 124, 125, 511, 512, 513, 2**15 - 1, 2**15, 33_026, 2**17 - 1, 2**17, 2**17 + 1]


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("features", FEATURES)
def test_uint8_images_of_any_number_of_values(features: int, int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not int8:
        monkeypatch.setattr(exact, "_int8_is_best", lambda: False)
    for n in (2, 8):
        assert_engine(planted(n, features), INFINITE_AND_LARGE, tile=3)


@pytest.mark.parametrize("features", [2, 512, 2**15 - 1, 2**15, 2**17])
@pytest.mark.parametrize("value", [0, 255])
def test_collapsed_sets_of_any_number_of_values(features: int, value: int) -> None:
    images, pairs = np.full((40, features), value, np.uint8), 40 * 39 // 2
    for threshold_squared in (0, 1e20, np.inf):
        parts = [compare_tile(read(images), each, None, threshold_squared) for each in plan_tiles(40, 15)]
        found = reduce(Collisions.merge, parts)
        assert found.duplicates == len(found.listed) == pairs
        assert np.all(found.degrees == 39)
        assert found.closest.index[-1].tolist() == [0, 20]
    assert len(pairs_within(images, 0)) == pairs
    assert not nearest(images, images).squared_distance.any()


def test_repeated_images_of_more_values_than_int32_can_sum() -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 105, 105), dtype=np.uint8)
    images = np.concatenate([images, images[:100]])
    expected = np.stack([np.arange(100), np.arange(200, 300)], axis=1)
    np.testing.assert_array_equal(pairs_within(images, 0).index, expected)
    assert not closest_pairs(images, 100).squared_distance.any()
    parts = [compare_tile(read(images), each, None, 0) for each in plan_tiles(300, 130)]
    assert reduce(Collisions.merge, parts).duplicates == 100


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize(
    "features", [1, 15, 16, 512, 513, *(2**17 - 1 + extra for extra in (0, 1, 2, 15, 16)), 2**18 - 1]
)
def test_integer_products_cut_into_parts_of_any_width(
    features: int, int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not int8:
        monkeypatch.setattr(exact, "_int8_is_best", lambda: False)
    rows = np.random.default_rng(0).integers(-128, 128, (5, features)).astype(np.int8)
    rows[0], rows[1] = -128, 127
    wide = rows.astype(np.int64)
    for n, m in ((5, 5), (1, 5), (5, 1), (1, 1)):
        product = integer_product(torch.from_numpy(rows[:n]), torch.from_numpy(rows[:m]))
        np.testing.assert_array_equal(product.numpy(), wide[:n] @ wide[:m].T)
    np.testing.assert_array_equal(squared_lengths(rows), np.square(wide).sum(axis=1))


@pytest.mark.parametrize("pairs", [0, 1, 255, 256, 257, 513])
def test_listed_pairs_in_batches(pairs: int) -> None:
    """With 512 values, 256 pairs are one batch."""
    images, rng = Images(planted(9, 512)), np.random.default_rng(1)
    assert exact._BATCH_BYTES // (4 * 512) == 256
    i, j = rng.integers(0, 9, (2, pairs))
    np.testing.assert_array_equal(squared_distances(images, images, i, j), brute(images.values, images.values)[i, j])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_rows_read_and_projected_in_parts(rows: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = planted(2000, 130).astype(kind)
    learnt = learn(read(images), 2000, 1)
    assert learnt is not None
    whole = learnt.project(as_images(images[:rows]), learnt.levels[0])
    monkeypatch.setattr(exact, "_READ_BYTES", 3 * images[0].nbytes)
    monkeypatch.setattr(screen, "_PART_BYTES", 3 * 4 * 130)
    loaded = load_rows(read(images), 0, rows)
    expected = images[:rows].astype(np.int16) - 128 if kind == "uint8" else images[:rows]
    np.testing.assert_array_equal(loaded.values, expected)
    parts = learnt.project(loaded, learnt.levels[0])
    apart = (parts.vectors - whole.vectors)[:, : whole.width].double().norm(dim=1).numpy()
    assert np.all(apart <= (0 if kind == "uint8" else parts.error + whole.error))  # float32 sums depend on the part


@pytest.mark.parametrize("kind", ["uint8", "float32", "codes"])
def test_projected_together_as_alone(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = 128 + rng.standard_normal((2000, 200)) @ rng.standard_normal((200, 600)) * (1e-3 if kind == "codes" else 2)
    images = np.clip(values, 0, 255).astype("uint8" if kind == "uint8" else "float32")
    learnt = learn(read(images), 2000, 20)
    assert learnt is not None
    assert len(learnt.directions) > screen._FIRST
    levels = screen._FIRST, len(learnt.directions)
    for together, level in zip(learnt.project_together(as_images(images[:70]), levels), levels, strict=True):
        alone = learnt.project(as_images(images[:70]), level)
        assert (together.width, together.vectors.shape) == (alone.width, alone.vectors.shape)
        if kind == "uint8":
            assert torch.equal(together.vectors, alone.vectors)
            np.testing.assert_array_equal(together.error, alone.error)
        apart = (together.vectors - alone.vectors)[:, : alone.width].double().norm(dim=1).numpy()
        assert np.all(apart <= together.error + alone.error)
        assert np.all(together.error >= 0.99 * alone.error)  # errors of more directions bound those of fewer


@pytest.mark.parametrize(("share", "expected"), [(0.9, 27), (1.1, 59)])
def test_directions_that_say_nothing_are_left_out(share: float, expected: int) -> None:
    """27 directions, with the rest and the bounds, are products of depth 32; one more takes as much as 32 more."""
    rng = np.random.default_rng(0)
    last = share * screen._SAYS_NOTHING
    variances = np.r_[np.full(27, (1 - last) / 27), np.full(30, last / 30)]
    bases = [np.linalg.qr(rng.standard_normal((size, 57)))[0] for size in (100, 300)]
    matrix = torch.from_numpy((bases[0] * np.sqrt(variances)) @ bases[1].T).float()
    directions, weights = screen._directions(matrix, matrix @ matrix.T, 90)
    assert directions.shape == (expected, 300)
    assert weights.shape == (expected,)


@pytest.mark.parametrize(("rank", "asked"), [(40, [123]), (200, [123, 507])])
def test_no_more_directions_where_some_were_left_out(
    rank: int, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(rank)
    values = rng.standard_normal((2000, rank)) @ rng.standard_normal((rank, 600)) / rank**0.5
    images = np.clip(128 + 30 * values, 0, 255).astype(np.uint8)
    limit = float(np.quantile(brute(images[:400], images[400:800]), 0.05))
    made, directions = [], screen._directions
    monkeypatch.setattr(screen, "_directions", lambda *given: made.append(given[-1]) or directions(*given))
    assert learn(read(images), 2000, 20, limit) is not None
    assert made == asked


def test_float32_rows_in_memory_are_not_copied() -> None:
    """Rows that are read anew each time are; so are values in another order in memory, and those of uint8."""
    images = planted(5, 130).astype(np.float32)
    assert np.shares_memory(load_rows(read(images), 1, 4).values, images)
    np.testing.assert_array_equal(load_rows(read(images), 1, 4).values, images[1:4])
    assert not np.shares_memory(load_rows(lambda start, stop: images[start:stop].copy(), 1, 4).values, images)
    turned = np.asfortranarray(images)
    np.testing.assert_array_equal(load_rows(read(turned), 1, 4).values, images[1:4])
    images[2, 7] = np.nan
    with pytest.raises(ValueError, match="image 1 holds NaN"):
        load_rows(read(images), 1, 4)


@pytest.mark.parametrize("some", [1, 2, 3])
def test_shifted_images_are_the_same_whether_all_are_kept(some: int) -> None:
    """Of eight images, three are more than a quarter."""
    images = Images(planted(8, 600))
    shifted, lengths = images.shifted(np.arange(some))
    assert ("_shifted" in vars(images)) == (some > 1)
    expected = images.values[:some].astype(np.int64) - 128
    np.testing.assert_array_equal(shifted, expected)
    np.testing.assert_array_equal(lengths, np.square(expected).sum(axis=1))


# Images of a set, with equal ones on both sides of each cut between blocks.


def straddling(n: int, features: int, kind: str) -> Array:
    images = planted(n, features, seed=n)
    for cut in (filter_refine._ROWS, screen._SAMPLE, filter_refine._COLUMNS):
        if cut < n:
            images[cut - 1] = images[cut] = 7
    return images.astype(kind)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("n", [filter_refine._ROWS - 1, filter_refine._ROWS, filter_refine._ROWS + 1])
def test_sets_of_a_block_of_rows(n: int, kind: str) -> None:
    assert_engine(straddling(n, 3, kind), (5.0,))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("features", [screen._WHOLE - 1, screen._WHOLE, screen._WHOLE + 1])
@pytest.mark.parametrize("n", [screen._SAMPLE, screen._SAMPLE + 1])
def test_sets_of_a_screen_s_sample(n: int, features: int, kind: str) -> None:
    images = straddling(n, features, kind)
    assert (learn(read(images), n) is None) == (n == screen._SAMPLE)
    assert_large(images)


@pytest.mark.parametrize(
    ("n", "features"), [(filter_refine._COLUMNS, 3), (filter_refine._COLUMNS + 1, 3), (filter_refine._COLUMNS + 1, 130)]
)
def test_sets_of_a_block_of_columns(n: int, features: int) -> None:
    assert_large(straddling(n, features, "uint8"))


def assert_large(images: Array) -> None:
    """As `assert_engine`, without lists of all pairs."""
    squared, n = brute(images, images), len(images)
    first = pairs_of(squared, 2000)
    assert_pairs(closest_pairs(images, 30), first[:30])
    threshold = math.sqrt(first.squared_distance[500])
    assert_pairs(pairs_within(images, threshold), within(first, threshold))
    limit = squared_threshold(threshold, images.dtype == np.uint8)
    learnt = learn(read(images), n, 20, limit)
    parts = [compare_tile(read(images), tile, learnt, limit) for tile in plan_tiles(n, n // 2 + 1)]
    found = reduce(Collisions.merge, parts)
    assert_pairs(found.listed.sorted(), within(first, threshold))
    assert_pairs(found.closest, first[:20])
    assert_neighbour_tiles(images, squared, n // 2 + 1)


@pytest.mark.parametrize(
    ("features", "kind"), [(491, "uint8"), (492, "uint8"), (507, "uint8"), (507, "float32"), (508, "uint8")]
)
def test_images_for_one_look_or_two(features: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of which 123 directions tell too little: 507 are learnt where there are four times as many values."""
    n = screen._SAMPLE + 1
    rng = np.random.default_rng(features)
    noise = 40 * rng.standard_normal((n, 200)) @ rng.standard_normal((200, features)) / 14
    images = np.clip(128 + noise, 0, 255).astype(kind)
    images[511], images[512], images[0] = 0, 255, images[-1]
    squared = brute(images, images)
    limit = float(np.partition(squared.ravel(), n * n // 50)[n * n // 50])
    asked, directions = [], screen._directions
    monkeypatch.setattr(screen, "_directions", lambda *given: asked.append(given[-1]) or directions(*given))
    learnt = learn(read(images), n, 20, limit)
    assert asked == ([123, 507] if features >= 4 * 123 else [123])
    tiles = plan_tiles(n, 800)
    found = reduce(Collisions.merge, (compare_tile(read(images), tile, learnt, limit) for tile in tiles))
    np.fill_diagonal(squared, limit + 1)
    np.testing.assert_array_equal(found.degrees, (squared <= limit).sum(axis=1))
    assert_pairs(found.closest, pairs_of(squared, 20))


@pytest.mark.parametrize("copies", [11, 12])  # 55 and 66 pairs within a bound of 0
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_few_pairs_settled_alone_and_more_by_block(copies: int, kind: str) -> None:
    assert 55 < filter_refine._FIRST_PAIRS < 66
    images = planted(screen._SAMPLE + 1, 20).astype(kind)
    images[300 : 300 + copies] = 9
    expected = within(pairs_of(brute(images, images), 200), 0)
    assert_pairs(pairs_within(images, 0), expected)
    assert len(expected) >= copies * (copies - 1) // 2


@pytest.mark.parametrize("limit", [43, 44, 45, 46])
def test_as_many_duplicates_as_are_listed(limit: int) -> None:
    images = planted(20, 8)
    images[5:15] = 3
    found = compare_tile(read(images), plan_tiles(20, 20)[0], None, 0, limit=limit)
    assert found.duplicates == len(pairs_within(images, 0)) == 45
    assert (found.listed_below == 20) == (limit >= 45)
    assert len(found.listed) <= limit


# float32 images from one end of their range to the other.


def extreme(n: int, features: int, scale: float) -> Array:
    rng = np.random.default_rng(0)
    with np.errstate(under="ignore"):
        images = (rng.uniform(-1, 1, (n, features)) * scale).astype(np.float32)
        images[0], images[-1] = scale, -scale
    images[5] = images[4]
    images[7], images[8] = -0.0, 0.0
    return images


@pytest.mark.parametrize("scale", [LARGEST, 1e30, 1.0, 1e-30, 1e-38, 1.5e-45])
@pytest.mark.parametrize("features", [1, 3, 130])
def test_float32_images_of_any_size(features: int, scale: float) -> None:
    assert_engine(extreme(30, features, scale), (*INFINITE_AND_LARGE, scale, 2 * scale), tile=11)


@pytest.mark.parametrize("scale", [LARGEST, 1e-38, 1e-42])
@pytest.mark.parametrize("features", [3, 130])
def test_float32_images_of_any_size_behind_a_screen(features: int, scale: float) -> None:
    assert_large(extreme(screen._SAMPLE + 1, features, scale))


@pytest.mark.parametrize("far", [2.0**30 * (1 - 1e-3), 2.0**30 * (1 + 1e-3), 1e38])
def test_images_too_far_out_to_be_judged(far: float) -> None:
    """Two far images among near ones of length about 1; 2**60 is where a squared length is no longer judged."""
    n = screen._SAMPLE + 21
    images = np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)
    images *= np.float32(0.5)
    images[10] = [far, 0, 0]
    images[11] = [np.nextafter(np.float32(far), np.float32(0)), 0, 0]
    learnt = learn(read(images[12:]), n - 12, 1)
    assert learnt is not None
    projected = learnt.project(as_images(images), 3)
    assert learnt.scale == 1
    assert np.isinf(projected.squared).sum() == (2 if far > 2.0**30 else 0)
    squared = brute(images, images)
    for own in (learnt, learn(read(images), n, 1)):
        assert own is not None
        collector = Closest(2000, np.inf)
        rows = as_images(images)
        search(rows, rows, own, collector)
        assert_pairs(collector.pairs, pairs_of(squared, 2000))
    assert_neighbour_tiles(images, squared, 1000)


def test_errors_hold_where_squares_underflow() -> None:
    n = screen._SAMPLE + 1
    images = np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)
    images -= images.mean(axis=0)
    learnt = learn(read(images), n, 1)
    assert learnt is not None
    centred = np.zeros(3, np.float32) + np.float32(2.0**-80 * (1 + 3 / 512))
    projected = screen.Screen(
        np.zeros(3, np.float32), learnt.directions, learnt.weights, 1.0, learnt.closest_squared
    ).project(as_images(centred[None]), 3)
    wrong = np.linalg.norm(projected.vectors[0, :3].double().numpy() - centred.astype(np.float64))
    assert 0 < wrong <= projected.error[0]


# Thresholds.


@settings(max_examples=300, derandomize=True)
@given(distance=st.floats(0, allow_nan=False), ulps=st.integers(-6, 6))
@example(math.inf, 0)
@example(1e200, 0)
@example(1e-200, 0)
@example(math.sqrt(2.0), 0)
def test_squared_limit_is_the_last_number_with_such_a_root(distance: float, ulps: int) -> None:
    limit = float(squared_limit(distance))
    assert math.sqrt(limit) <= distance
    assert limit == math.inf or math.sqrt(math.nextafter(limit, math.inf)) > distance
    value = limit
    for _ in range(abs(ulps)):
        value = math.nextafter(value, math.inf if ulps > 0 else 0.0)
    assert (math.sqrt(value) <= distance) == (value <= limit)


@settings(max_examples=300, derandomize=True)
@given(squared=st.integers(1, 255**2 * 2**17))
@example(30_000_003)
def test_a_threshold_holds_the_pairs_that_it_was_taken_from(squared: int) -> None:
    distance = math.sqrt(squared)
    assert squared_threshold(distance, integer=True) == squared
    assert squared_threshold(math.nextafter(distance, 0), integer=True) == squared - 1
    assert squared_threshold(math.sqrt(squared + 0.5), integer=True) == squared
    assert math.sqrt(squared_threshold(distance, integer=False)) == distance


def test_thresholds_beyond_every_distance_stay_integers() -> None:
    for distance in (94_906_265.0, 94_906_266.0, 1e10, 1e200, math.inf):
        found = squared_threshold(distance, integer=True)
        assert isinstance(found, int)
        assert found <= 2**53
        assert np.asarray(found).dtype == np.int64
    assert squared_threshold(math.inf, integer=False) == math.inf


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_thresholds_on_both_sides_of_a_distance(kind: str) -> None:
    """Squared distances of about 30 million: roots of a third of such numbers have a square below the number."""
    images = planted(60, 2780).astype(kind)
    every = pairs_of(brute(images, images))
    for squared in every.squared_distance[200:260]:
        at = math.sqrt(squared)
        for threshold in (math.nextafter(at, 0), at, math.nextafter(at, math.inf), at + 0.3):
            assert_pairs(pairs_within(images, threshold), within(every, threshold))


def test_the_curve_counts_as_the_pairs_are_counted() -> None:
    for kind in ("uint8", "float32"):
        images = planted(60, 2780).astype(kind)
        every = pairs_of(brute(images, images))
        at = np.sqrt(every.squared_distance[100:200].astype(np.float64))
        at = np.unique(np.concatenate([at, np.nextafter(at, 0), [0.0, 1e200]]))
        expected = [len(within(every, distance)) for distance in at]
        curve = correlation_curve(images, at)
        assert curve.within.tolist() == expected
        assert curve.sharpened(every.squared_distance, 60, at[-1]).within.tolist() == expected


# The same where all numbers are small: any set, any constants.


class Constants:
    """Sets module constants for the time of a block."""

    def __init__(self, **values: int) -> None:
        self._values = values

    def __enter__(self) -> None:
        every = (blocks, exact, estimates, screen, pivots, plan, filter_refine)
        places = [(name, [module for module in every if name in vars(module)]) for name in self._values]
        assert all(len(modules) == 1 for _, modules in places), places
        self._patch = pytest.MonkeyPatch()
        for name, (module,) in places:
            self._patch.setattr(module, name, self._values[name])

    def __exit__(self, *error: object) -> None:
        self._patch.undo()


@settings(max_examples=40, derandomize=True)
@given(data=st.data())
def test_any_set_with_any_constants(data: st.DataObject) -> None:
    def draw(*values: int) -> int:
        return data.draw(st.sampled_from(values))

    n, features = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 24))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    images = (255 * rng.integers(0, 2, (n, features))).astype(np.uint8)
    images ^= rng.integers(0, draw(1, 2, 256), (n, features), dtype=np.uint8)
    images = images[rng.integers(0, data.draw(st.integers(1, n)), n)]
    if data.draw(st.booleans()):
        images = images.astype(np.float32) * np.float32(2.0 ** draw(-149, -60, 0, 60, 119))
    thresholds = data.draw(st.lists(st.sampled_from(INFINITE_AND_LARGE), max_size=1))
    with Constants(
        _INT32_FEATURES=draw(1, 7, 2**15 - 1),
        _INT32_COLUMNS=draw(1, 5, 16, 2**17 - 1),
        _FLOAT32_COLUMNS=draw(1, 5, 512),
        _INT8_COLUMNS=draw(2, 16),
        _BATCH_BYTES=draw(1, 100, 2**19),
        _READ_BYTES=draw(1, 100, 2**25),
        _PART_BYTES=draw(1, 100, 2**24),
        _SAMPLE=draw(32, 1536) if n > 32 else 1536,
        _FIRST=draw(1, 3, 123),
        _SECOND=draw(5, 507),
        _WHOLE=draw(2, 124),
        _CHUNK=draw(1, 7, 512),
        _ROUGH_CHUNK=draw(1, 7, 512),
        _HIT_PASSES=draw(0, 2),
        _ROWS=draw(1, 3, 16, 512),
        _COLUMNS=draw(1, 5, 4096),
        _FIRST_PAIRS=draw(1, 64),
        _FLOAT64_PAIR_COST=draw(0, 1, 32),
        _PIVOT_IMAGES=draw(2, 5, 4096),
        _PIVOT_COST=draw(0, 300_000),
        _PROBES=draw(1, 2, 4),
        _GROUP=draw(1, 3, 32),
        _CACHED_PAIRS=draw(1, 16, 2**17),
        _MANY=draw(1, 2, 1000),
        _JUDGED=draw(1, 5, 512),
        _JUDGED_BLOCKS=draw(1, 8),
        _ONE_OF=draw(1, 64),
        _CLUSTERS=draw(1, 3, 64),
        _CLUSTER_IMAGES=draw(1, 4, 256),
        _ENCODED_BYTES=draw(1, 100, 2**19),
        _SORTED=draw(2, 256),
        _WITHOUT=draw(0, 1),  # with 1 all images take the path of those that have codes
    ):
        tile = data.draw(st.integers(-(-n // 8), n))  # at most 36 tiles: their number is what an example's time goes by
        assert_engine(images, tuple(thresholds), tile=tile)


# What must not be answered.


def test_an_invalid_value_raises_inside_the_engine() -> None:
    images = Images(planted(5, 3))
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        search(images, images, None, Closest(3, math.nan))
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        Pairs(np.array([[0, 1]]), np.array([np.inf])).of(images)


@pytest.mark.parametrize("threshold", [-1.0, math.nan, math.inf, 1e308])
def test_a_curve_to_no_distance_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold: got"):
        choose_distances(planted(5, 3), threshold)


def test_balls_of_two_types_are_refused() -> None:
    with pytest.raises(ValueError, match="real, generated"):
        manifold_scores(planted(9, 3), planted(9, 3).astype(np.float32))


# What is computed from distances and counts.


@pytest.mark.parametrize("features", [3, 2**15 - 1, 2**15, 2**17])
def test_balls_and_curves_of_any_number_of_values(features: int) -> None:
    images = planted(8, features)
    squared = brute(images, images)
    radii = np.sort(squared, axis=1)[:, 2]
    np.testing.assert_array_equal(balls_of(images, 2).squared_radii, radii)
    for own in (np.zeros(8), np.full(8, np.inf)):
        balls = (Balls(Images(images), each, None) for each in (radii, own))
        (inside, around), (other_inside, other_around) = count_mutually(*balls)
        in_ours, in_others = squared <= radii[:, None], squared <= own[:, None]
        for within_radii, held, holding in ((in_ours, inside, other_around), (in_others, other_inside, around)):
            np.testing.assert_array_equal(held, within_radii.sum(axis=1))
            np.testing.assert_array_equal(holding, within_radii.sum(axis=0))
    every = pairs_of(squared)
    at = np.unique(np.sqrt(every.squared_distance.astype(np.float64)))
    assert correlation_curve(images, at).within.tolist() == [len(within(every, distance)) for distance in at]


@pytest.mark.parametrize(
    ("n", "kind"),
    [(correlation._ROWS - 1, "float32"), (correlation._ROWS + 1, "float32"), (correlation._COLUMNS + 1, "uint8")],
)
def test_curves_across_blocks(n: int, kind: str) -> None:
    images = straddling(n, 2, kind)
    squared = np.sort(brute(images, images)[np.triu_indices(n, 1)])
    at = np.sqrt(np.unique(squared[:: len(squared) // 50]).astype(np.float64))
    expected = np.searchsorted(squared, squared_limit(at), side="right")
    np.testing.assert_array_equal(correlation_curve(images, at).within, expected)


def test_moments_across_blocks_and_at_the_ends_of_the_range() -> None:
    images = planted(4097, 4)
    for n in (4095, 4096, 4097):
        moments = moments_of(read(images), n)
        wide = images[:n].astype(np.int64)
        np.testing.assert_array_equal(moments.products, wide.T @ wide)
        np.testing.assert_allclose(moments.covariance, np.cov(wide.T), rtol=1e-12)
    big = extreme(30, 3, LARGEST)
    whole = Moments.create(3).add(big)
    np.testing.assert_allclose(whole.covariance, np.cov(big.astype(np.float64).T), rtol=1e-12)
    shifted = Moments.create(3).add(-big)
    gap = 4 * np.square(big.astype(np.float64).mean(axis=0)).sum()
    assert frechet_distance(whole, shifted) == pytest.approx(gap, rel=1e-6)


@pytest.mark.parametrize("features", [MOST_FEATURES, MOST_FEATURES + 1])
def test_vectors_of_more_values_than_have_a_frechet_distance(features: int) -> None:
    empty = np.broadcast_to(0.0, (features, features))
    few = Moments(1, np.zeros(features), empty)
    with pytest.raises(ValueError, match="two or more" if features == MOST_FEATURES else "use an embedding"):
        frechet_distance(few, few)


def test_images_that_are_scored() -> None:
    assert scored_images(MOST_IMAGES - 1, 10**6, 3) == MOST_IMAGES - 1
    assert scored_images(MOST_IMAGES + 1, 10**6, 3) == MOST_IMAGES
    assert scored_images(1000, 1000, MOST_BYTES // 100) == 100
    assert scored_images(1000, 1000, MOST_BYTES + 1) == 2


@pytest.mark.parametrize("modes", [1, 8, 9, 40])
def test_every_heavy_mode_is_named_however_many(modes: int) -> None:
    """Modes of 20 images each among 5,000 others; duplicates of one mode are all its pairs."""
    blocks = [20 * mode + np.stack(np.triu_indices(20, 1), axis=1) for mode in range(modes)]
    found = heavy_modes(np.concatenate(blocks), 5000)
    assert [len(mode.members) for mode in found.modes] == [20] * modes
    assert found.rest is not None
    assert found.rest.duplicates == 0


@pytest.mark.parametrize("n", [2, 3, 1000, 3_000_000])
def test_supports_of_sets_that_collapsed_nearly_or_not(n: int) -> None:
    every, pairs = estimate_from_degrees(np.full(n, n - 1)), math.comb(n, 2)
    assert (every.duplicates, every.p2, every.size, every.low) == (pairs, 1, 1, 1)
    one = estimate_from_degrees(np.bincount([0, 1], minlength=n))
    assert one.size == pairs
    assert 1 <= one.low <= one.size <= one.high
    none = estimate_from_degrees(np.zeros(n, np.int64))
    assert none.one_sided
    assert 1 <= none.size == none.low < none.high == math.inf


def test_image_numbers_of_any_integer_type() -> None:
    for kind in (np.int8, np.uint8, np.int32, np.uint64):
        assert estimate(np.array([[0, 3]], kind), 5).size == 10
        assert estimate_from_degrees(np.array([1, 1, 0], kind)).duplicates == 1
    with pytest.raises(ValueError, match=f"images 0 to {2**63}; allowed: 0 to 4"):
        estimate(np.array([[0, 2**63]], np.uint64), 5)


@pytest.fixture(autouse=True)
def clear_of_warnings() -> Iterator[None]:
    """Numbers that no answer may be made of raise outside the engine, too."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield
