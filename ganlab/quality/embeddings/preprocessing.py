"""Preparation of images for a network: resized, cropped, scaled to its range.

Invariant: each image is prepared by itself, as the usual evaluation transforms of torchvision do it on PIL images.
"""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ganlab.quality.embeddings.base import EmbeddingError

Values = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]


class Preprocessing(BaseModel):
    """How images are prepared for a network; by default only scaled to values from 0 to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    resize: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Pixels of the shorter side after resizing; by default images keep their size."""
    crop: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side of the square that is cut from the middle; by default nothing is cut off."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bicubic"
    """Filter of resizing, by Pillow, which smooths before it shrinks."""
    mean: Values = (0.0, 0.0, 0.0)
    """Subtracted from values that go from 0 to 1, for each channel; as many as the network takes channels, 1 or 3."""
    std: Values = (1.0, 1.0, 1.0)
    """Divisor of each channel, after its mean is subtracted."""

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) == 2:
            raise ValueError(f"got {len(self.mean)} values of mean and {len(self.std)} of std; allowed: 1 or 3 of both")
        if min(self.std) <= 0:
            raise ValueError(f"got std {min(self.std):g}; allowed: above 0")
        return self

    @property
    def channels(self) -> int:
        """Channels that the network takes; grey images are repeated for it."""
        return len(self.mean)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of prepared images."""
        if self.crop is not None:
            return self.crop, self.crop
        return self._resized(height, width)

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return images uint8 (n, C, H, W) prepared, float32 (n, channels, h, w). Raises EmbeddingError for other C."""
        if images.shape[1] not in (1, self.channels):
            raise EmbeddingError(
                f"got images of {images.shape[1]} channels for a network that takes {self.channels} (values of mean); "
                f"allowed: 1 or {self.channels}"
            )
        height, width = images.shape[2:]
        resized = self._resized(height, width)
        if resized != (height, width):
            images = _resize(images, resized, self.interpolation)
        if self.crop is not None:
            images = _crop(images, self.crop)
        if images.shape[1] != self.channels:
            images = np.repeat(images, self.channels, axis=1)
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return np.asarray((images.astype(np.float32) / np.float32(255) - mean) / std, dtype=np.float32)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize


def _resize(images: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    from PIL import Image

    way = Image.Resampling[interpolation.upper()]
    resized = np.empty((*images.shape[:2], *size), np.uint8)
    for image, into in zip(images.reshape(-1, *images.shape[2:]), resized.reshape(-1, *size), strict=True):
        into[:] = np.asarray(Image.fromarray(image).resize(size[::-1], way))
    return resized


def _crop(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = images.shape[2:]
    if min(height, width) < side:
        raise EmbeddingError(f"got crop {side} of images of {height}×{width}; allowed: at most {min(height, width)}")
    top, left = round((height - side) / 2), round((width - side) / 2)
    return images[:, :, top : top + side, left : left + side]
