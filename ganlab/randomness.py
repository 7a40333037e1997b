"""Random numbers by name: each is a function of (seed, purpose, counters), on every device and machine the same.

Invariant: no generator is shared or stored, so nothing about randomness has to be checkpointed.
"""

import zlib

import numpy as np
from numpy.typing import NDArray


def generator_for(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A fresh generator for one purpose, e.g. ``generator_for(3, "train", step, rank)``.

    `numpy.random.SeedSequence` mixes all words into 128 bits, so that neighbouring steps are unrelated and a
    coincidence of two streams (which would fake duplicates) is out of question.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *counters])


def some_of(count: int, limit: int | None) -> NDArray[np.int64]:
    """Draw `limit` of `count` items without replacement: their numbers, rising; all of them without a limit.

    The draw depends on `count` alone, and that of a smaller limit is a part of it.
    """
    return np.sort(generator_for(0, "limited data set").permutation(count)[:limit])
