"""Tiles hold every pair once, and fit the memory they are given."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganlab.pairs.tiles import Tile, choose_tile_images, plan_tiles


def pairs_of(tiles: tuple[Tile, ...]) -> list[tuple[int, int]]:
    return [
        (i, j)
        for tile in tiles
        for i in range(tile.row_start, tile.row_stop)
        for j in range(tile.column_start, tile.column_stop)
        if i < j
    ]


@given(samples=st.integers(0, 40), tile_images=st.integers(1, 50))
def test_every_pair_once(samples: int, tile_images: int) -> None:
    tiles = plan_tiles(samples, tile_images)
    assert sorted(pairs_of(tiles)) == list(itertools.combinations(range(samples), 2))
    assert sum(tile.pairs for tile in tiles) == samples * (samples - 1) // 2
    assert list(tiles) == sorted(tiles)


@given(compared=st.integers(0, 30), new=st.integers(0, 30), tile_images=st.integers(1, 40))
def test_new_tiles_add_exactly_what_is_missing(compared: int, new: int, tile_images: int) -> None:
    added = plan_tiles(compared + new, tile_images, compared)
    both = pairs_of(plan_tiles(compared, tile_images)) + pairs_of(added)
    assert sorted(both) == list(itertools.combinations(range(compared + new), 2))


@given(
    samples=st.integers(1, 10**6),
    features=st.integers(1, 10**5),
    memory_mb=st.integers(512, 64_000),
    tasks=st.integers(1, 200),
    value_bytes=st.sampled_from([1, 4]),
)
def test_tiles_fit_the_memory_and_feed_the_workers(
    samples: int, features: int, memory_mb: int, tasks: int, value_bytes: int
) -> None:
    memory = memory_mb * 2**20
    try:
        images = choose_tile_images(samples, (features,), memory, value_bytes, tasks)
    except ValueError:
        assert memory < 256 * 2**20 + 512 * (features * 12 + 2000)
        return
    assert 4 * images * features * value_bytes < memory
    blocks = -(-samples // images)
    assert blocks * (blocks + 1) // 2 >= tasks or images <= 256


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_tiles(-1, 10), "got 0 and -1"),
        (lambda: plan_tiles(10, 0), "tile_images: got 0"),
        (lambda: plan_tiles(10, 5, 11), "got 11 and 10"),
        (lambda: choose_tile_images(10, (3, 64, 64), 2**20), "memory_bytes: got 1048576"),
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
