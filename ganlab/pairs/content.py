"""Digests of images, and the random order of a set that follows from them.

Invariant: a digest depends on the values of one image alone, and the order on the images of the set alone, so that
storing the same images in another order changes neither.
"""

from collections.abc import Callable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.exact import Array, Index, Read

Digests = NDArray[np.uint64]
"""(n, 2), 128 bits of each image."""
Progress = Callable[[int, int], None]

_BLOCK = 4096  # images, at a time
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # as in SplitMix64 (Steele, Lea and Flood 2014)


def content_digests(read: Read, count: int, progress: Progress = lambda done, total: None) -> Digests:
    """Digest the values of every image; -0.0 counts as 0.0.

    Parameters
    ----------
    read, count
        `read(start, stop)` gives images [start, stop) of `count`, uint8 or float32.
    progress
        Called with (images done, images).

    Returns
    -------
    uint64 (n, 2)
    """
    digests = np.empty((count, 2), np.uint64)
    for start in range(0, count, _BLOCK):
        images = read(start, min(start + _BLOCK, count))
        rows = np.ascontiguousarray(images if images.dtype == np.uint8 else images + 0.0).reshape(len(images), -1)
        found = b"".join(blake2b(row.data, digest_size=16, person=b"content").digest() for row in rows)
        digests[start : start + len(rows)] = np.frombuffer(found, "<u8").reshape(-1, 2)
        progress(start + len(rows), count)
    return digests


def random_places(digests: Digests, labels: NDArray[np.int64] | None = None) -> Index:
    """Give every image a place in the random order of its set: images are taken by rising place.

    Equal images of one label are interchangeable; the places of each are unrelated to the others', so that copies are no
    neighbours in the order. Images added at the end of a set leave the places of the others as they are.

    Parameters
    ----------
    digests : uint64 (n, 2)
        See `content_digests`.
    labels : int64 (n,), optional
        The class of each image.

    Returns
    -------
    int64 (n,)
        Numbers of 63 random bits.
    """
    seeds = digests[:, 0] if labels is None else digests[:, 0] ^ _mixed(labels.astype(np.uint64) * _GOLDEN)
    order = np.lexsort((digests[:, 1], seeds))
    ordered = np.stack([seeds, digests[:, 1]], axis=1)[order]
    position = np.arange(len(order))
    first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(order)]
    copy = np.empty(len(order), np.uint64)  # how many equal images come before
    copy[order] = position - np.maximum.accumulate(np.where(first, position, 0))
    places: Index = (_mixed(seeds + copy * _GOLDEN) >> np.uint64(1)).astype(np.int64)
    return places


def in_order(places: Index) -> Index:
    """Numbers of the images by rising place, int64 (n,)."""
    return np.argsort(places, kind="stable").astype(np.int64)


def content_order(read: Read, count: int) -> Index:
    """Numbers of the images of a set in its random order, int64 (n,): the first m of them are a random sample."""
    return in_order(random_places(content_digests(read, count)))


def take(read: Read, numbers: Index) -> Array:
    """Read the images of these numbers, in this order, passing over the set once.

    Parameters
    ----------
    read
        `read(start, stop)` gives images [start, stop).
    numbers : int64 (m,)
        At least one.
    """
    order = np.argsort(numbers, kind="stable")
    wanted = numbers[order]
    cuts = np.flatnonzero(np.diff(wanted // _BLOCK)) + 1
    images: Array | None = None
    for places, part in zip(np.split(order, cuts), np.split(wanted, cuts), strict=True):
        found = read(int(part[0]), int(part[-1]) + 1)[part - part[0]]
        if images is None:
            images = np.empty((len(numbers), *found.shape[1:]), found.dtype)
        images[places] = found
    assert images is not None
    return images


def distinct_images(digests: Digests) -> int:
    """Count the different images of a set."""
    return len(np.unique(_whole(digests)))


def are_among(digests: Digests, others: Digests) -> NDArray[np.bool_]:
    """Tell which images equal some image of another set, bool (n,)."""
    return np.isin(_whole(digests), _whole(others))


def same_images(digests: Digests, others: Digests) -> bool:
    """Tell whether two sets hold the same images, each equally often."""
    return len(digests) == len(others) and np.array_equal(np.sort(_whole(digests)), np.sort(_whole(others)))


def _whole(digests: Digests) -> NDArray[np.void]:
    """Each digest as one value that numpy can sort."""
    return np.ascontiguousarray(digests).view("V16")[:, 0]


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: a bijection that makes near words unrelated."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
