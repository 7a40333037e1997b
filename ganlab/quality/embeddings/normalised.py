"""Pixels of an image less their mean, over their standard deviation: brightness and contrast no longer count.

Invariant: the features of an image are a function of that image alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganlab.pairs.threads import in_threads
from ganlab.quality.embeddings.base import Features

_BLOCK_BYTES = 2**20  # of images in float64 at a time: they stay in the cache


@dataclass(frozen=True)
class Normalised:
    """Pixels less the image's mean, over its standard deviation; an image of one constant value becomes zeros.

    So the squared distance of two images of d values is 2 d (1 - r), with the Pearson correlation r of their pixels; a
    constant image is √d from every image that is not constant, and 0 from every other constant one.
    """

    fingerprint = "normalised 1"
    immediate = True
    about = "pixels of each image less their mean, over their standard deviation"

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Embedding.features`: d is C·H·W."""
        values = images.reshape(len(images), -1)
        features = np.empty(values.shape, np.float32)

        def normalise(part: slice) -> None:
            some = values[part]
            pixels = some.astype(np.float32)
            pixels -= pixels.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
            deviation = np.sqrt(np.square(pixels, dtype=np.float64).mean(axis=1, keepdims=True))
            pixels[some.min(axis=1) == some.max(axis=1)] = 0
            features[part] = pixels / np.where(deviation > 0, deviation, 1)

        step = max(1, _BLOCK_BYTES // (8 * values.shape[1]))
        in_threads(normalise, (slice(start, start + step) for start in range(0, len(values), step)))
        return features
