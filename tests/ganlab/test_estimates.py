"""Bounds on distances of float32 images that were 8-bit images, against brute force."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ganlab.pairs import closest, estimates, exact
from ganlab.pairs.closest import candidates_within, closest_pairs, nearest, pairs_within
from ganlab.pairs.estimates import as_limits, bounded_distances, have_codes, rough_distances
from ganlab.pairs.exact import Images, as_images, squared_distances
from ganlab.quality.embeddings.normalised import Normalised
from ganlab.statistics import correlation
from ganlab.statistics.correlation import correlation_curve, curve_and_degrees

Array = NDArray[Any]
SHAPE = (3, 6, 7)
D = 126


def noise(n: int, top: int = 256) -> Array:
    return np.random.default_rng(0).integers(0, top, (n, D), dtype=np.uint8)


def two_values(n: int) -> Array:
    low, high = np.random.default_rng(1).permuted(np.tile(np.arange(256), (n, 1)), axis=1)[:, :2].T[:, :, None]
    return np.where(noise(n, 2) == 1, low, high).astype(np.uint8)


def one_pixel(n: int) -> Array:
    images = np.repeat(noise(1), n, axis=0)
    images[np.arange(n), np.arange(n) % D] ^= 1
    return images


def all_levels(n: int) -> Array:
    """Every value from 0 to 255, or all but one at an end, twice over."""
    levels = np.tile(np.arange(256), 2)[: 4 * D]
    return np.random.default_rng(2).permuted(np.tile(levels, (n, 1)), axis=1)[:, :D].astype(np.uint8)


def skewed(n: int) -> Array:
    """Mostly black, or mostly white, and of all other values a few."""
    images = (noise(n) * np.random.default_rng(3).random((n, D)) ** 6).astype(np.uint8)
    images[:, :3] = 0, 1, 255
    images[::2] = 255 - images[::2]
    return images


def near_equal_correlation(n: int) -> Array:
    """Each image at nearly the same correlation with the first, some of another brightness and contrast."""
    images = np.repeat(noise(1) // 2, n, axis=0)
    images[np.arange(n), np.arange(n) % D] += 1
    images[n // 2 :] = images[: n - n // 2] * 2 + 1
    return images


def with_constants(n: int) -> Array:
    images = noise(n)
    images[:3], images[-1] = [[0], [7], [255]], 7
    return images


PICTURES: dict[str, Callable[[int], Array]] = {
    "noise": noise,
    "few levels": lambda n: noise(n, 3),
    "two values": two_values,
    "one pixel": one_pixel,
    "all levels": all_levels,
    "skewed": skewed,
    "near-equal correlation": near_equal_correlation,
    "constants": with_constants,
}
MAPS: dict[str, Callable[[Array], Array]] = {
    "normalised": lambda x: Normalised().features(x.reshape(-1, *SHAPE)).reshape(len(x), D),
    "0 to 1": lambda x: (x / 255).astype(np.float32),
    "-1 to 1": lambda x: (x / 127.5 - 1).astype(np.float32),
    "as they are": lambda x: x.astype(np.float32),
    "each by its own step": lambda x: (x * np.linspace(1e-6, 1e6, len(x))[:, None] - 3).astype(np.float32),
}


def brute(images: Array) -> Array:
    wide = images.astype(np.float64)
    return np.stack([np.square(row - wide).sum(axis=1) for row in wide])


def block(images: Images, device: str = "cpu") -> tuple[Array, Array]:
    every = slice(0, len(images))
    bounds = bounded_distances(images, images, every, np.arange(len(images)), device)
    return bounds.low.numpy(), bounds.high.numpy()


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("mapped", MAPS)
def test_8_bit_images_in_float32_have_tight_bounds(
    mapped: str, name: str, int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not int8:
        monkeypatch.setattr(exact, "_int8_is_best", lambda: False)
    images = as_images(MAPS[mapped](PICTURES[name](60)))
    expected = brute(images.values)
    low, high = block(images)
    assert np.all(low <= expected)
    assert np.all(expected <= high)
    if not have_codes(images):  # constant images of no step, and steps far below the values
        assert (mapped, name) in {("each by its own step", name), (mapped, "constants"), (mapped, "one pixel")}
        return
    most = D * np.square(np.abs(images.values).max(axis=1))
    assert np.all(high - low <= 5e-5 * (most[:, None] + most))


def test_features_of_any_values_have_no_codes() -> None:
    features = np.random.default_rng(0).standard_normal((300, D)).astype(np.float32)
    assert not have_codes(as_images(features))
    assert not have_codes(as_images(MAPS["0 to 1"](noise(300))), as_images(features))
    assert not have_codes(as_images(noise(300)))  # distances of these are integers
    assert have_codes(as_images(MAPS["0 to 1"](noise(300))))


def odd_ones(n: int) -> Array:
    """8-bit images, but for some whose least step divides no other, huge and tiny ones, and features."""
    images = MAPS["-1 to 1"](noise(n))
    images[1] = np.resize([0, 2, 5], D)
    images[2] = np.float32(1e25) * images[2]
    images[3] = np.float32(1e-35) * images[3]
    images[4] = np.random.default_rng(3).standard_normal(D)
    images[5], images[6] = 1e30, 0
    images[7] = images[2]
    return images


def test_bounds_hold_for_images_without_codes_among_those_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "_WITHOUT", 1.0)
    images = as_images(odd_ones(40))
    assert have_codes(images)
    low, high = block(images)
    expected = brute(images.values)
    assert np.all(low <= expected)
    assert np.all(expected <= high)
    assert np.all(low[[2, 5, 7]] < 0)
    assert np.all(np.isinf(high[[2, 5, 7]]))


ROUGH: dict[str, Callable[[Array], Array]] = {
    "features": lambda x: x,
    "far from 0": lambda x: x + np.float32(1e4),
    "tiny": lambda x: x * np.float32(1e-19),  # their squares underflow
    "denormal": lambda x: x * np.float32(1e-40),
    "large": lambda x: x * np.float32(1e14),
    "too large for squares": lambda x: x * np.float32(1e30),
    "of all sizes": lambda x: x * np.float32(10) ** np.arange(-38, len(x) - 38).astype(np.float32)[:, None],
}


@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize("kind", ROUGH)
def test_rough_distances_are_bounds(kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "_ROUGH_CHUNK", chunk)
    values = ROUGH[kind](np.random.default_rng(0).standard_normal((70, 1100)).astype(np.float32))
    values[1:4] = values[0]
    rows, columns = as_images(values), as_images(values[:9].copy())
    bounds = rough_distances(rows, columns, np.arange(70), slice(0, 9))
    expected = brute(values)[:, :9]
    low, high = bounds.low.numpy(), bounds.high.numpy()
    assert np.all(low <= expected)
    assert np.all(expected <= high)
    if kind in ("features", "tiny", "large"):
        lengths = np.square(values - values[:9].mean(axis=0), dtype=np.float64).sum(axis=1)
        assert np.all(high - low <= 1e-3 * (lengths[:, None] + lengths[:9]) + 1e-30), "and near each other"
    assert np.isfinite(low).all()


@pytest.mark.parametrize("mapped", ["0 to 1", "features", "uint8"])
def test_rough_distances_of_images_with_codes_are_the_others(mapped: str) -> None:
    values = {"uint8": noise(40), "features": np.sin(noise(40) + np.float32(0.1))}.get(mapped)
    images = as_images(MAPS["0 to 1"](noise(40)) if values is None else values)
    every, few = slice(0, 40), slice(3, 8)
    rough, others = (each(images, images, every, few) for each in (rough_distances, bounded_distances))
    assert torch.equal(rough.low, others.low) == (mapped != "features")


def test_sums_too_large_for_float32_are_no_infinite_values() -> None:
    values = np.full((3, 40), np.float32(3e38))
    values[1] = 1
    np.testing.assert_array_equal(as_images(values).values, values)
    for wrong in (np.inf, -np.inf, np.nan):
        values[2, 7] = wrong
        with pytest.raises(ValueError, match="image 2 holds NaN or infinite values"):
            as_images(values)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_codes_are_those_of_each_image_alone(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = MAPS["normalised"](noise(20))
    whole = estimates._encode(images)
    monkeypatch.setattr(estimates, "_ENCODED_BYTES", rows * 4 * D)
    parts = estimates._encode(images[::-1].copy()).take(np.arange(20)[::-1])
    for name, values in vars(whole).items():
        np.testing.assert_array_equal(getattr(parts, name), values)


@pytest.mark.parametrize("cells", [1, 7, correlation._CELLS])
@pytest.mark.parametrize("name", PICTURES)
def test_curves_of_normalised_images_are_those_of_brute_force(
    name: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distances that are limits themselves, and the numbers on both sides of them."""
    monkeypatch.setattr(correlation, "_CELLS", cells)
    images = MAPS["normalised"](PICTURES[name](80))
    squared = brute(images)[np.triu_indices(80, 1)]
    some = np.sqrt(np.quantile(squared, [0.01, 0.3, 0.5, 0.9], method="nearest"))
    at = np.unique([some, np.nextafter(some, 0), np.nextafter(some, np.inf)])
    found = correlation_curve(images, at)
    distances = np.sqrt(squared)
    np.testing.assert_array_equal(found.within, [(distances <= each).sum() for each in at])
    every = np.sqrt(brute(images))
    np.fill_diagonal(every, np.inf)
    np.testing.assert_array_equal(curve_and_degrees(images, [], at)[1], [(every <= each).sum(axis=1) for each in at])


def test_few_pairs_of_normalised_images_are_computed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images = MAPS["normalised"](noise(400))
    pairs = 0

    def counted(rows: Images, columns: Images, i: Array, j: Array) -> Array:
        nonlocal pairs
        pairs += len(i)
        return squared_distances(rows, columns, i, j)

    monkeypatch.setattr("ganlab.statistics.correlation.squared_distances", counted)
    correlation_curve(images, np.linspace(0.5, 16, 100))
    assert pairs < 0.01 * 400 * 399 / 2


@pytest.mark.parametrize("kind", ["uint8", "normalised", "features"])
@pytest.mark.parametrize("name", PICTURES)
def test_candidates_have_the_ranks_and_counts_of_brute_force(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closest, "_ROWS", 16)
    monkeypatch.setattr(closest, "_COLUMNS", 30)
    images = PICTURES[name](70)
    if kind != "uint8":
        images = MAPS["normalised"](images)
    if kind == "features":
        images = images + np.random.default_rng(4).standard_normal(images.shape).astype(np.float32)
    i, j = np.triu_indices(70, 1)
    squared = brute(images)[i, j]
    for share in (0.0, 0.2, 1.0):
        threshold = np.sqrt(np.quantile(squared, share, method="nearest"))
        found = candidates_within(images, threshold)
        assert np.all(found.index[:, 0] < found.index[:, 1])
        order = np.lexsort(found.index.T[::-1])
        listed = found.index[order][found.within(threshold**2 * (1 + 1e-15))[order]]
        np.testing.assert_array_equal(listed, np.stack([i, j], axis=1)[np.sqrt(squared) <= threshold])
        ranks = np.unique(np.linspace(0, len(listed) - 1, 7).astype(int))
        assert [found.smallest(rank) for rank in ranks] == np.sort(squared)[ranks].tolist()


@pytest.mark.parametrize("mapped", ["normalised", "each by its own step"])
@pytest.mark.parametrize("name", PICTURES)
def test_the_engine_gives_brute_force_for_8_bit_images_in_float32(mapped: str, name: str) -> None:
    images = MAPS[mapped](PICTURES[name](90))
    squared = brute(images)
    i, j = np.triu_indices(90, 1)
    order = np.lexsort((j, i, squared[i, j]))
    found = closest_pairs(images, 30)
    np.testing.assert_array_equal(found.index, np.stack([i, j], axis=1)[order[:30]])
    np.testing.assert_array_equal(found.squared_distance, squared[i, j][order[:30]])
    threshold = np.sqrt(squared[i, j][order[1000]])
    within = np.sqrt(squared[i, j][order]) <= threshold
    np.testing.assert_array_equal(pairs_within(images, threshold).index, np.stack([i, j], axis=1)[order[within]])
    for queries in (images, images[:20].copy()):
        near = np.stack([np.lexsort((np.arange(90), row))[:3] for row in squared[: len(queries)]])
        np.testing.assert_array_equal(nearest(queries, images, 3).index[:, 1].reshape(-1, 3), near)


def test_read_only_images_have_codes() -> None:
    images = MAPS["normalised"](noise(60))
    expected = nearest(images, images, 2).index
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(nearest(images, images, 2).index, expected)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int32, torch.int64])
def test_limits_admit_all_that_is_within_a_bound_and_nothing_masked(kind: torch.dtype) -> None:
    bounds = np.array([0.0, 0.3, 1.0, 2**24 + 1.0, 2.0**31 - 2, 16777217.5, 1e300])
    limits = as_limits(bounds, torch.zeros(1, dtype=kind))
    whole = not kind.is_floating_point
    assert limits.dtype == kind
    largest = torch.iinfo(kind).max if whole else torch.inf
    assert np.all(limits.double().numpy()[:-1] >= (np.floor(bounds) if whole else bounds)[:-1])
    assert torch.all(limits < largest)
