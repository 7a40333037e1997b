"""Interface of an embedding, and what all of them share: fixed blocks, one thread, checked features.

Invariant: an image's features are a function of the embedding, the image and its place among the images of its block:
never of how many images are asked for at a time, or on how many threads.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Features = NDArray[np.float32]
LARGEST_BLOCK = 256  # images of one pass
BLOCK_PIXELS = 2**22  # of one pass, after resizing: bounds the memory of a large network's maps
_PROBES = 8


class EmbeddingError(ValueError):
    """An embedding that can't be had or gives no usable features; its text is one line with the remedy."""


class Embedding(Hashable, Protocol):
    """A function from images to vectors, between which Euclidean distances are taken; cheap to send to a worker."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that features depend on beside the images: two of one fingerprint give the same features."""

    @property
    def about(self) -> str:
        """Description of the features for a report."""

    @property
    def immediate(self) -> bool:
        """True if features take no longer to compute than to read from disk."""

    def features(self, images: NDArray[np.uint8]) -> Features:
        """Features of images.

        Parameters
        ----------
        images : uint8 (n, C, H, W)
            Beginning at a multiple of `LARGEST_BLOCK` among their like, so that the same images always stand together.

        Returns
        -------
        float32 (n, d)
            Finite, without unit.

        Raises
        ------
        EmbeddingError
            Images that the embedding can't take, or features that are not such vectors.
        """


def by_block(images: NDArray[np.uint8], block: int, compute: Callable[[NDArray[np.uint8]], Features]) -> Features:
    """Compute features block by block on one thread; a shorter block is filled up with zeros.

    Some kernels round differently by the size of the batch or the number of threads.

    Parameters
    ----------
    images : uint8 (n, C, H, W)
    block
        Images of one pass: a power of two, at most `LARGEST_BLOCK`.
    compute
        Features (block, d) of images (block, C, H, W).

    Raises
    ------
    EmbeddingError
        Features that are no (block, d) array of finite numbers, or of another width than those of the block before.
    """
    parts: list[Features] = []
    with one_thread(), torch.inference_mode():
        for start in range(0, max(1, len(images)), block):
            part = images[start : start + block]
            filled = np.zeros((block, *images.shape[1:]), np.uint8)
            filled[: len(part)] = part
            found = np.asarray(compute(filled), dtype=np.float32)
            if found.ndim != 2 or len(found) != block or not found.size:
                raise EmbeddingError(
                    f"got features of shape {found.shape} for {block} images; allowed: (images, values); name another "
                    "layer, or pool: mean"
                )
            if parts and found.shape[1] != parts[0].shape[1]:
                raise EmbeddingError(
                    f"got features of varying length, {parts[0].shape[1]} and {found.shape[1]} values; allowed: one"
                )
            parts.append(found[: len(part)])
            if not np.isfinite(parts[-1]).all():
                raise EmbeddingError("got features that are NaN or infinite; allowed: finite numbers")
    return np.concatenate(parts)


def block_of(pixels: int) -> int:
    """Images of one pass through a network that takes so many pixels each: a power of two up to `LARGEST_BLOCK`."""
    return min(LARGEST_BLOCK, 1 << max(1, BLOCK_PIXELS // pixels).bit_length() - 1)


@lru_cache(maxsize=16)
def check_embedding(embedding: Embedding, image_shape: tuple[int, ...]) -> None:
    """Try an embedding on a few made-up images (C, H, W), before anything is written; once in a process.

    Raises
    ------
    EmbeddingError
        The embedding can't be loaded, or can't take such images; its features are constant, not finite or vary in length.
    """
    if len(image_shape) != 3:
        raise EmbeddingError(f"got points of shape {image_shape}; allowed: images (C, H, W), or the embedding pixels")
    noise = np.random.default_rng(0).integers(0, 256, (_PROBES, *image_shape), np.uint8)
    noise[::2] = np.linspace(0, 255, image_shape[-1], dtype=np.uint8)
    noise[::4] = noise[::4, ..., ::-1]
    features, fewer = embedding.features(noise), embedding.features(noise[: _PROBES // 2 + 1])
    if features.shape[1] != fewer.shape[1]:
        raise EmbeddingError(
            f"got features of varying length, {features.shape[1]} and {fewer.shape[1]} values; allowed: one length"
        )
    if (features == features[0]).all():
        raise EmbeddingError(
            "got constant features, the same for different images; allowed: features that tell images apart; name "
            "another layer, or check mean and std"
        )


def unit_rows(features: Features) -> Features:
    """Rows scaled to length 1; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    return np.asarray(features / np.where(lengths > 0, lengths, 1)[:, None], dtype=np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside: sums that are split over threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
