"""Sets of images that could lose a pair, and all that the pair engine says of a set: for tests on any device.

Invariant: imports nothing but what the engine needs.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.closest import Pairs, closest_pairs, nearest, pairs_within
from ganlab.pairs.collisions import Collisions, compare_tile
from ganlab.pairs.lower_bounds import learn
from ganlab.pairs.tiles import plan_tiles
from ganlab.quality.manifold import balls_of, count_mutually

Array = NDArray[Any]


def noise(n: int, features: int) -> Array:
    images = np.random.default_rng(n).integers(0, 256, (n, features), dtype=np.uint8)
    images[0], images[-1], images[n // 2] = 0, 255, images[1]
    images[n // 3] = images[1]
    images[n // 3, 0] ^= 1
    return images


def low_rank(n: int, features: int) -> Array:
    rng = np.random.default_rng(n)
    fields = rng.standard_normal((n, 8)) @ rng.standard_normal((8, features))
    return np.clip(128 + 30 * fields, 0, 255).astype(np.uint8)


def constant(n: int, features: int) -> Array:
    return np.full((n, features), 255, np.uint8)


def repeated(n: int, features: int) -> Array:
    return noise(n, features)[np.random.default_rng(1).integers(0, max(1, n // 20), n)]


def two_values(n: int, features: int) -> Array:
    return (255 * np.random.default_rng(n).integers(0, 2, (n, features))).astype(np.uint8)


KINDS: dict[str, Callable[[int, int], Array]] = {
    each.__name__: each for each in (noise, low_rank, constant, repeated, two_values)
}


def answers(images: Array, device: str) -> list[Array]:
    """What the engine says of a set: lists of pairs, neighbours, counts of tiles, balls."""
    half, n = images[: len(images) // 2], len(images)
    every = closest_pairs(images, 30, device)
    threshold = float(np.sqrt(every.squared_distance[-1]))
    found: list[Pairs] = [
        every,
        pairs_within(images, threshold, device),
        pairs_within(images, 0, device),
        nearest(half, images, 3, device),
        nearest(images, images, 2, device),
    ]
    learnt = learn(lambda start, stop: images[start:stop], n, 5, threshold**2)
    tiles = plan_tiles(n, n // 2 + 1)
    parts = [
        compare_tile(lambda start, stop: images[start:stop], tile, learnt, threshold**2, 5, 50, device)
        for tile in tiles
    ]
    counted = reduce(Collisions.merge, parts).to_arrays()
    balls = count_mutually(balls_of(images, 2, device), balls_of(half, 2, device), device)
    pairs = [part for each in found for part in (each.index, each.squared_distance)]
    return [*pairs, *(counted[name] for name in sorted(counted)), *balls[0], *balls[1]]
