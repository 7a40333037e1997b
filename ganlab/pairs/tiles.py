"""Tiles: rectangles of image pairs that are compared in one task.

Invariant: the tiles of a plan hold every unordered pair that the plan is for exactly once.
"""

from typing import NamedTuple

import numpy as np

LEAST_TILE_IMAGES = 256
_FIXED_BYTES = 256 * 2**20  # of one task, whatever its tile: block buffers and what the libraries take
_SCREEN_BYTES = 1700  # of one image's two projections, one of them in two orders, and of lengths


class Tile(NamedTuple):
    """The pairs (i, j), i < j, with i in [row_start, row_stop) and j in [column_start, column_stop)."""

    row_start: int
    row_stop: int
    column_start: int
    column_stop: int

    @property
    def pairs(self) -> int:
        """The number of pairs of the tile."""
        rows = np.arange(self.row_start, self.row_stop)
        return int(np.clip(self.column_stop - np.maximum(self.column_start, rows + 1), 0, None).sum())


def plan_tiles(samples: int, tile_images: int, compared: int = 0) -> tuple[Tile, ...]:
    """Tiles of all pairs of `samples` images, by block row; of the first `compared` of them the pairs are known.

    Merge their results with that of the pairs compared before.

    Parameters
    ----------
    samples
        Number of images.
    tile_images
        Most rows, and most columns, of a tile.
    compared
        Number of images whose pairs with one another are left out.

    Raises
    ------
    ValueError
        Fewer images than were compared before, or a tile of no images.
    """
    if not 0 <= compared <= samples:
        raise ValueError(
            f"compared, samples: got {compared} and {samples}; allowed is 0 <= compared <= samples; "
            "count the images of all committed shards"
        )
    if tile_images < 1:
        raise ValueError(f"tile_images: got {tile_images}; allowed is 1 or more; see choose_tile_images")
    blocks = [*_blocks(0, compared, tile_images), *_blocks(compared, samples, tile_images)]
    return tuple(
        Tile(*row, *column) for index, row in enumerate(blocks) for column in blocks[index:] if column[0] >= compared
    )


def plan_rectangle(row_start: int, rows: int, columns: int, tile_images: int) -> tuple[Tile, ...]:
    """Tiles of every row in [row_start, rows) with every one of `columns` columns of another set, by block row."""
    return split(Tile(row_start, rows, 0, columns), tile_images)


def split(tile: Tile, tile_images: int) -> tuple[Tile, ...]:
    """The same rectangle as tiles of at most `tile_images` rows and columns; some may hold no pair i < j."""
    return tuple(
        Tile(*row, *column)
        for row in _blocks(tile.row_start, tile.row_stop, tile_images)
        for column in _blocks(tile.column_start, tile.column_stop, tile_images)
    )


def _blocks(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def choose_tile_images(
    samples: int, image_shape: tuple[int, ...], memory_bytes: int, value_bytes: int = 1, tasks: int = 1
) -> int:
    """The largest tile that one task can hold in `memory_bytes`, and that leaves at least `tasks` tiles.

    Parameters
    ----------
    samples
        Number of images to compare.
    image_shape
        Shape of one image, or of one feature vector.
    memory_bytes
        Memory that one task may use, in bytes, the libraries it loads included.
    value_bytes
        Bytes of one stored value: 1 for uint8, 4 for float32.
    tasks
        Fewest tiles wanted, for example four per worker, so that all workers finish together.

    Raises
    ------
    ValueError
        The limit does not hold tiles of 256 images.
    """
    least = least_memory_bytes(image_shape, value_bytes)
    if memory_bytes < least:
        raise ValueError(
            f"memory_bytes: got {memory_bytes}; allowed is {least} or more for images of shape {tuple(image_shape)}"
        )
    largest = (memory_bytes - _FIXED_BYTES) // (2 * _image_bytes(image_shape, value_bytes))
    blocks = 1
    while blocks * (blocks + 1) // 2 < tasks:
        blocks += 1
    even = -(-samples // max(blocks, -(-samples // largest)))  # blocks of one size, rather than a small last one
    return max(1, min(largest, max(even, min(samples, 256))))


def least_memory_bytes(image_shape: tuple[int, ...], value_bytes: int = 1) -> int:
    """Memory that a task needs for the smallest tiles worth having; parameters as for `choose_tile_images`."""
    return _FIXED_BYTES + 2 * LEAST_TILE_IMAGES * _image_bytes(image_shape, value_bytes)


def _image_bytes(image_shape: tuple[int, ...], value_bytes: int) -> int:
    # Rows and columns: the values, a second copy at half precision for floats, the projection; and the values once more,
    # for what reading and settling pass through (measured: with them once, a worker took 1.4 times its limit).
    features = int(np.prod(image_shape))
    return 2 * features * (value_bytes if value_bytes == 1 else value_bytes + 2) + _SCREEN_BYTES
