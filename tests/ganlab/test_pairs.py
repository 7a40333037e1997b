"""Pairs against brute force, over the images that are hardest for a screen with rounded vectors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ganlab.pairs import exact, filter_refine, plan
from ganlab.pairs import lower_bounds as screen
from ganlab.pairs.closest import Pairs, closest_pairs, nearest, pairs_within
from ganlab.pairs.estimates import bounded_distances
from ganlab.pairs.exact import Images, as_images, block_distances, squared_distances
from ganlab.pairs.lower_bounds import half_distances, learn

Array = NDArray[Any]


def noise(rng: np.random.Generator, n: int) -> Array:
    return rng.integers(0, 256, (n, 3, 5, 8), dtype=np.uint8)


def equal(rng: np.random.Generator, n: int) -> Array:
    return np.repeat(noise(rng, 1), n, axis=0)


def constant(value: int) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, n: np.full((n, 3, 5, 8), value, np.uint8)


def one_pixel(rng: np.random.Generator, n: int) -> Array:
    images = equal(rng, n)
    images.reshape(n, -1)[np.arange(n), rng.integers(0, 120, n)] ^= 1
    return images


def clusters(rng: np.random.Generator, n: int) -> Array:
    """Three quarters of the images are near copies of five."""
    images = noise(rng, n)
    copies = np.flatnonzero(rng.random(n) < 0.75)
    images[copies] = noise(rng, 5)[rng.integers(0, 5, len(copies))]
    return images ^ (rng.random(images.shape) < 0.05).astype(np.uint8)


def black_and_white(rng: np.random.Generator, n: int) -> Array:
    return (255 * rng.integers(0, 2, (n, 3, 5, 8))).astype(np.uint8)


def low_rank(rng: np.random.Generator, n: int) -> Array:
    values = rng.standard_normal((n, 4)) @ rng.standard_normal((4, 120))
    return np.clip(128 + 20 * values, 0, 255).astype(np.uint8).reshape(n, 3, 5, 8)


def one_outlier(rng: np.random.Generator, n: int) -> Array:
    images = 3 + (noise(rng, n) & 1)
    images[n // 2] = 255
    return images


IMAGES = {
    "noise": noise,
    "equal": equal,
    "black": constant(0),
    "white": constant(255),
    "one_pixel": one_pixel,
    "clusters": clusters,
    "black_and_white": black_and_white,
    "low_rank": low_rank,
    "one_outlier": one_outlier,
}


def float_images(name: str, scale: float, offset: float) -> Callable[[np.random.Generator, int], Array]:
    def make(rng: np.random.Generator, n: int) -> Array:
        return (IMAGES[name](rng, n) * scale + offset).astype(np.float32)

    return make


def far_apart(rng: np.random.Generator, n: int) -> Array:
    """Most images near one another, a few at the end of what float32 can hold."""
    images = rng.standard_normal((n, 120)).astype(np.float32)
    images[::50] *= np.float32(1e37)
    return images


FLOATS = {
    f"{name}*{scale:g}+{offset:g}": float_images(name, scale, offset)
    for name in ("noise", "equal", "one_pixel", "clusters", "low_rank")
    for scale, offset in ((1, 0), (1e-30, 0), (1e-42, 0), (1e33, 0), (1e-3, 1e4))
} | {"far_apart": far_apart}


@pytest.fixture(params=["tiny levels", "float32 products", "levels of release"])
def levels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every look and many blocks happen with few images, with either kind of matrix product."""
    if request.param != "levels of release":
        monkeypatch.setattr(screen, "_SAMPLE", 128)
        monkeypatch.setattr(screen, "_FIRST", 5)
        monkeypatch.setattr(screen, "_SECOND", 20)
        monkeypatch.setattr(screen, "_WHOLE", 10)
        monkeypatch.setattr(screen, "_CHUNK", 50)
        monkeypatch.setattr(filter_refine, "_ROWS", 64)
        monkeypatch.setattr(filter_refine, "_COLUMNS", 90)
        monkeypatch.setattr(filter_refine, "_FIRST_PAIRS", 4)
    if request.param == "float32 products":
        for module in (screen, plan):
            monkeypatch.setattr(module, "vector_type", lambda device: torch.float32)
        monkeypatch.setattr(exact, "_int8_is_best", lambda: False)


def brute(images: Array, others: Array | None = None) -> Array:
    """(n, m) squared distances as the contract defines them."""
    wide = np.int64 if images.dtype == np.uint8 else np.float64
    a = images.reshape(len(images), -1).astype(wide)
    b = a if others is None else others.reshape(len(others), -1).astype(wide)
    return np.stack([np.square(row - b).sum(axis=1) for row in a])


def brute_pairs(images: Array) -> Pairs:
    i, j = np.triu_indices(len(images), 1)
    squared = brute(images)[i, j]
    order = np.lexsort((j, i, squared))
    return Pairs(np.stack([i, j], axis=1)[order], squared[order])


def assert_same(found: Pairs, expected: Pairs) -> None:
    assert found.index.dtype == np.int64
    assert found.squared_distance.dtype == expected.squared_distance.dtype
    np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)
    np.testing.assert_array_equal(found.index, expected.index)


@pytest.mark.parametrize("name", [*IMAGES, *FLOATS])
@pytest.mark.usefixtures("levels")
def test_equals_brute_force(name: str) -> None:
    images = {**IMAGES, **FLOATS}[name](np.random.default_rng(7), 300)
    expected = brute_pairs(images)
    for count in (1, 20, 1000):
        assert_same(closest_pairs(images, count), expected[:count])
    for place in (0, 40, 4000):
        threshold = float(np.sqrt(expected.squared_distance[place]))
        within = np.sqrt(expected.squared_distance) <= threshold
        assert_same(pairs_within(images, threshold), expected[within])
    assert_same(pairs_within(images, 0), expected[expected.squared_distance == 0])
    queries, references = images[:70], images[70:]
    squared = brute(queries, references)
    for count in (1, 4):
        order = np.stack([np.lexsort((np.arange(len(row)), row))[:count] for row in squared])
        index = np.stack([np.repeat(np.arange(70), count), order.ravel()], axis=1)
        assert_same(nearest(queries, references, count), Pairs(index, squared[index[:, 0], index[:, 1]]))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("features", [40, 300])
def test_equals_brute_force_where_the_screen_is_learnt_from_a_part(kind: str, features: int) -> None:
    rng = np.random.default_rng(3)
    basis = rng.standard_normal((30, features)) / (1 + np.arange(30))[:, None]
    values = 128 + 40 * rng.standard_normal((1700, 30)) @ basis + rng.standard_normal((1700, features))
    images = np.clip(values, 0, 255).astype(np.uint8) if kind == "uint8" else values.astype(np.float32)
    images[1600:1650] = images[1000:1050]
    expected = brute_pairs(images)
    assert_same(closest_pairs(images, 200), expected[:200])
    threshold = float(np.sqrt(expected.squared_distance[5000]))
    assert_same(pairs_within(images, threshold), expected[np.sqrt(expected.squared_distance) <= threshold])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("levels")
def test_any_images(data: st.DataObject) -> None:
    n, features = data.draw(st.integers(2, 200)), data.draw(st.integers(1, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    levels = data.draw(st.sampled_from([1, 2, 4, 256]))
    images = (rng.integers(0, levels, (n, features)) * (255 // levels + 1) % 256).astype(np.uint8)
    images = images[rng.integers(0, data.draw(st.integers(1, n)), n)]
    if data.draw(st.booleans()):
        images = images.astype(np.float32) * np.float32(2.0 ** data.draw(st.integers(-149, 119)))
    expected = brute_pairs(images)
    count = data.draw(st.integers(1, 400))
    assert_same(closest_pairs(images, count), expected[:count])
    threshold = float(np.sqrt(expected.squared_distance[data.draw(st.integers(0, len(expected) - 1))]))
    assert_same(pairs_within(images, threshold), expected[np.sqrt(expected.squared_distance) <= threshold])


@pytest.mark.parametrize("name", [*IMAGES, *FLOATS])
@pytest.mark.parametrize("levels", ["tiny levels", "float32 products"], indirect=True)
def test_a_look_never_loses_a_pair(name: str, levels: None) -> None:
    rng = np.random.default_rng(11)
    images = as_images({**IMAGES, **FLOATS}[name](rng, 400))
    learnt = learn(lambda start, stop: images.values[start:stop], len(images))
    assert learnt is not None
    squared, every = brute(images.values), slice(0, 400)
    for look in {*learnt.levels, images.features, *range(1, len(learnt.directions), 3)}:
        projected = learnt.project(images, look)
        for place in (0, 1, 5, 100):
            bounds = np.partition(squared, place, axis=1)[:, place].astype(np.float64)
            half = half_distances(projected, every, projected, every)
            limits = learnt.half_limits(bounds, projected.error + projected.error.max(), half)
            assert limits.dtype == half.dtype
            assert torch.all((half <= limits[:, None])[torch.from_numpy(squared <= bounds[:, None])])


@pytest.mark.parametrize("name", [*IMAGES, *FLOATS])
@pytest.mark.parametrize("levels", ["tiny levels", "float32 products"], indirect=True)
def test_vectors_are_as_exact_as_they_say(name: str, levels: None) -> None:
    images = as_images({**IMAGES, **FLOATS}[name](np.random.default_rng(13), 400))
    learnt = learn(lambda start, stop: images.values[start:stop], len(images))
    assert learnt is not None
    shift = 128 if images.integer else 0
    centred = learnt.scale * (images.values.astype(np.longdouble) - (learnt.centre.astype(np.longdouble) + shift))
    floor = 0 if images.integer else screen._FLOOR
    for look in {*learnt.levels, len(learnt.directions)} - {0}:
        exactly = centred
        if look != images.features:
            along = centred @ learnt.directions[:look].T.astype(np.longdouble) * learnt.weights[:look]
            rest = np.sqrt(np.maximum(np.square(centred).sum(axis=1) - np.square(along).sum(axis=1), 0))
            exactly = np.column_stack([along, np.maximum(rest - floor, 0)])
        projected = learnt.project(images, look)
        vectors = projected.vectors[:, : projected.width].float().numpy()
        near = np.isfinite(projected.squared)
        wrong = np.sqrt(np.square(vectors - exactly).sum(axis=1))
        assert np.all(wrong[near] <= projected.error[near])
        assert np.all(vectors[~near] == 0)


def test_directions_lengthen_no_vector() -> None:
    rng = np.random.default_rng(0)
    images = Images(
        rng.integers(0, 256, (2000, 300), dtype=np.uint8) // 2 + rng.integers(0, 128, (2000, 1)).astype("u1")
    )
    learnt = learn(lambda start, stop: images.values[start:stop], 2000)
    assert learnt is not None
    longest = np.linalg.svd(learnt.weights[:, None] * learnt.directions, compute_uv=False)[0]
    assert 0.999 < longest <= 1


@pytest.mark.parametrize("features", [1, 3, 511, 513, 2**15, 2**17 + 5])
@pytest.mark.parametrize("int8", [True, False])
def test_integer_products_are_exact_at_the_extremes(features: int, int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not int8:
        monkeypatch.setattr(exact, "_int8_is_best", lambda: False)
    images = Images(
        np.stack([np.zeros(features, np.uint8), np.full(features, 255, np.uint8), np.arange(features).astype(np.uint8)])
    )
    every = slice(0, 3)
    expected = brute(images.values)
    np.testing.assert_array_equal(block_distances(images, images, every, every), expected)
    i, j = np.indices((3, 3)).reshape(2, -1)
    np.testing.assert_array_equal(squared_distances(images, images, i, j), expected.ravel())


@pytest.mark.parametrize("name", FLOATS)
def test_estimates_are_as_good_as_they_say(name: str) -> None:
    images = as_images(FLOATS[name](np.random.default_rng(5), 200))
    bounds = bounded_distances(images, images, slice(0, 200), slice(0, 200))
    expected = brute(images.values)
    assert np.all(bounds.low.numpy() <= expected)
    assert np.all(expected <= bounds.high.numpy())


def test_read_only_images_and_any_memory_order() -> None:
    images = noise(np.random.default_rng(0), 60)
    expected = brute_pairs(images)[:20]
    images.flags.writeable = False
    assert_same(closest_pairs(images), expected)
    assert_same(closest_pairs(np.asfortranarray(images)), expected)


def test_more_pairs_than_there_are() -> None:
    assert len(closest_pairs(noise(np.random.default_rng(0), 4), 100)) == 6


NAN = np.zeros((5, 3), np.float32)
NAN[3, 1] = np.nan
INFINITE = np.zeros((5, 3), np.float32)
INFINITE[2] = [np.inf, -np.inf, 0]
GOOD = np.zeros((5, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: closest_pairs(NAN), "image 3 holds NaN"),
        (lambda: pairs_within(INFINITE, 1), "image 2 holds NaN or infinite"),
        (lambda: closest_pairs(GOOD[:1]), "got 1 image"),
        (lambda: closest_pairs(GOOD[:0]), "got 0 image"),
        (lambda: closest_pairs(np.zeros((5, 0), np.uint8)), "at least one value"),
        (lambda: closest_pairs(np.zeros(5, np.uint8)), "one image in each row"),
        (lambda: closest_pairs(GOOD.astype(np.int64)), "uint8 and float32"),
        (lambda: closest_pairs([GOOD, GOOD]), "one numpy array"),
        (lambda: closest_pairs(np.array([GOOD, GOOD[:2]], dtype=object)), "several shapes"),
        (lambda: closest_pairs(GOOD, 0), "count: got 0"),
        (lambda: pairs_within(GOOD, -1), "threshold: got -1"),
        (lambda: pairs_within(GOOD, float("nan")), "threshold: got nan"),
        (lambda: nearest(GOOD, GOOD.astype(np.float32)), "one type and one shape"),
        (lambda: nearest(GOOD, GOOD[:, :2]), "one type and one shape"),
        (lambda: nearest(GOOD, GOOD, 6), "allowed is 1 to 5"),
        (lambda: nearest(GOOD[:0], GOOD), "queries: got 0"),
    ],
)
def test_bad_input(call: Callable[[], Pairs], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
