"""The pair engine on an accelerator: the processor's bits, only survivors leave it, and smaller blocks without memory.

No GPU is needed: tests/emulated_device.py refuses what a GPU would. `python tests/gpu.py` checks a real one.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from ganlab.pairs import devices, exact, filter_refine, lower_bounds
from ganlab.pairs.closest import closest_pairs, nearest
from ganlab.pairs.devices import on_best_device
from ganlab.pairs.exact import Images, as_images, integer_product
from ganlab.pairs.lower_bounds import learn
from tests.emulated_device import NAME, emulated_device
from tests.pair_sets import KINDS, Array, answers, low_rank, noise


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of at most 128 × 256 pairs on an accelerator, so that small sets need several."""
    monkeypatch.setattr(filter_refine, "_ROWS", 32)
    monkeypatch.setattr(filter_refine, "_COLUMNS", 64)
    monkeypatch.setattr(devices, "_LARGEST", 4)


def assert_same(images: Array, **device: int) -> Any:
    expected = answers(images, "cpu")
    with emulated_device(**device) as emulated:
        found = answers(images, NAME)
    for here, there in zip(expected, found, strict=True):
        np.testing.assert_array_equal(there, here)
        assert there.dtype == here.dtype
    return emulated


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("n", [128, 129, 257])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_processor(kind: str, n: int, dtype: str) -> None:
    """Sizes on both sides of a block's 128 rows and 256 columns."""
    assert_same(KINDS[kind](n, 20).astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("kind", ["noise", "low_rank", "repeated"])
def test_answers_behind_a_screen_are_those_of_the_processor(kind: str, dtype: str) -> None:
    assert_same(KINDS[kind](1700, 130).astype(dtype))


def test_images_that_are_not_writable() -> None:
    images = noise(50, 20)
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(images)


@pytest.mark.parametrize("features", [1, 2**15 - 1, 2**15, 2**17 + 1])
def test_images_of_any_number_of_values(features: int) -> None:
    assert_same(noise(9, features))


def test_only_pairs_within_bounds_leave_the_device() -> None:
    images = noise(3000, 200)
    pairs = len(images) * (len(images) - 1) // 2
    with emulated_device() as device:
        closest_pairs(images, 20, NAME)
    assert device.left < 0.02 * 4 * pairs
    with emulated_device() as device:
        nearest(images, images, 1, NAME)
    assert device.left < 0.1 * 4 * pairs


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_are_copied_to_the_device_once(dtype: str) -> None:
    """Blocks have 128 × 256 pairs: 128 of them for these images, and for their codes where they are float32."""
    images = noise(2000, 400).astype(dtype)
    with emulated_device() as device:
        closest_pairs(images, 20, NAME)
    assert device.arrived < 3 * images.size


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["noise", "constant"])
def test_blocks_shrink_where_the_device_has_no_memory(kind: str) -> None:
    """The device claims to have a gigabyte, so that blocks are far too large at first."""
    emulated = assert_same(KINDS[kind](300, 20), memory=150_000, free=2**30)
    assert emulated.refused > 0
    assert emulated.largest <= 150_000


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_that_do_not_fit_are_brought_block_by_block(dtype: str) -> None:
    images = low_rank(1700, 130).astype(dtype)
    assert_same(images, memory=2**27, free=2 * images.nbytes - 1)


@pytest.mark.usefixtures("small_blocks")
def test_without_memory_for_the_smallest_block_a_search_says_so() -> None:
    with emulated_device(memory=1000, free=2**30), pytest.raises(torch.OutOfMemoryError):
        closest_pairs(noise(100, 20), 5, NAME)


def test_the_processor_takes_over_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(device: str) -> str:
        if device == "cuda":
            raise torch.OutOfMemoryError("no room")
        return device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.warns(RuntimeWarning, match="no memory for even the smallest block.* compared on the CPU"):
        assert on_best_device(compute) == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert on_best_device(lambda device: device) == "cuda"


@pytest.mark.parametrize(("n", "m", "features"), [(1, 1, 1), (17, 5, 9), (32, 64, 32), (33, 31, 1025)])
def test_products_of_any_size_are_exact(n: int, m: int, features: int) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (rows, features)).astype(np.int8) for rows in (n, m))
    a[0], b[0] = -128, -128
    expected = a.astype(np.int64) @ b.astype(np.int64).T
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    np.testing.assert_array_equal(exact._product_aligned_int8(left, right).numpy(), expected)
    with emulated_device():
        np.testing.assert_array_equal(integer_product(left, right, NAME).cpu().numpy(), expected)


def test_an_inexact_product_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    product = exact._product_float32

    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return product(a, b).clamp(max=2**23)

    rows = torch.full((20, 2000), -128, dtype=torch.int8)
    monkeypatch.setattr(exact, "_product_aligned_int8", saturating)
    with emulated_device():
        assert (integer_product(rows, rows, NAME) == 2000 * 2**14).all()
    monkeypatch.setattr(exact, "_product_float32", saturating)
    monkeypatch.setattr(exact, "_product_bfloat16", saturating)
    with pytest.raises(RuntimeError, match="none is exact for integers"), emulated_device():
        integer_product(rows, rows, NAME)


def test_blocks_grow_with_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []
    for free in (0, 2**24, 2**30, 2**33, 2**36, 2**40):
        monkeypatch.setattr(devices, "free_bytes", lambda device, free=free: free)
        scales.append(devices.block_scale("cuda", 512 * 4096))
    assert scales == [1, 1, 2, 4, 16, 16]
    assert devices.block_scale("cpu", 512 * 4096) == 1


def test_values_that_would_take_half_of_the_memory_stay_behind() -> None:
    values = torch.zeros(1000, dtype=torch.int8)
    with emulated_device(memory=2000):
        assert devices.keep(values, NAME).device.type == "lazy"
        assert devices.keep(values, NAME).device.type == "lazy"
    with emulated_device(memory=1999):
        assert devices.keep(values, NAME) is values
    with emulated_device(memory=500, free=5000):
        assert devices.keep(values, NAME) is values
        assert Images(values.numpy()[:, None]).on(NAME, slice(0, 9)).device.type == "lazy"


def test_a_program_s_own_precision_of_products_changes_nothing() -> None:
    """Float32 products of bfloat16 numbers would not be within the bounds of images in float32."""
    images = np.random.default_rng(0).integers(0, 256, (1700, 130)).astype(np.float32) * np.float32(0.37)
    expected = answers(images, "cpu")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = answers(images, "cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_an_accelerator_are_as_near_as_they_say(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = KINDS[kind](1700, 130)
    learnt = learn(lambda start, stop: low_rank(1700, 130)[start:stop], 1700, 1)
    assert learnt is not None
    here = learnt.project(as_images(images), learnt.levels[0])
    monkeypatch.setattr(lower_bounds, "_DEVICE_PART_BYTES", 700 * 130)
    for memory in (2**32, 2**21):
        with emulated_device(2**32, free=memory):
            there = learnt.project(as_images(images), learnt.levels[0], NAME)
            vectors = there.vectors.cpu().float()
        assert there.width == here.width
        apart = np.linalg.norm((vectors - here.vectors.float())[:, : here.width].numpy(), axis=1)
        assert np.all(apart <= here.error + there.error)
        np.testing.assert_allclose(there.error, here.error, rtol=0.05, atol=1e-3)
        z = vectors[:, : there.width].double().numpy()
        np.testing.assert_allclose(there.squared, np.square(z).sum(axis=1), rtol=1e-9)
        halves = vectors[:, there.width + 2 : there.width + 4].double().sum(dim=1).numpy()
        assert np.all(halves <= there.squared / 2)
