"""Pictures of a pair, read from the shards.

Invariant: a picture holds exactly the pixels that were compared; the page enlarges it without smoothing.
"""

import io
import threading
from collections import OrderedDict

import numpy as np

from jobs.measuring.measure import REFERENCE
from jobs.review.choose import ReviewPair
from storage.layout import SweepLayout
from storage.reference import Reference, read_reference
from storage.samples import Samples

PARTS = ("first", "second", "difference", "nearest-first", "nearest-second")
KEPT = 2048  # images held in memory


class Pictures:
    """Reads the images of pairs, and keeps the last ones."""

    def __init__(self, layout: SweepLayout) -> None:
        self._layout = layout
        self._reference: Reference = read_reference(layout)
        self._samples: dict[str, Samples] = {}
        self._kept: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of every picture."""
        return self._reference.shape[1:]

    def png(self, shown: ReviewPair, part: str) -> bytes:
        """Encode one of `PARTS` as PNG.

        Raises
        ------
        ValueError
            If there is no such part of this pair.
        DamagedShardError
            If the image can't be read.
        """
        first, second = shown.pair
        if part == "first":
            image = self._image(shown.trial, first)
        elif part == "second":
            image = self._image(shown.trial, second)
        elif part == "difference":
            pair = [self._image(shown.trial, number).astype(np.int16) for number in shown.pair]
            image = np.abs(pair[0] - pair[1]).astype(np.uint8)
        elif part in PARTS and shown.nearest:
            image = self._image(REFERENCE, shown.nearest[part == "nearest-second"])
        else:
            raise ValueError(f"no picture {part!r} of this pair")
        return _png(image)

    def _image(self, trial: str, number: int) -> np.ndarray:
        key = (trial, number)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            if trial != REFERENCE and trial not in self._samples:
                self._samples[trial] = Samples(self._layout.trial(trial))
        source = self._reference if trial == REFERENCE else self._samples[trial]
        image: np.ndarray = source.read(number, number + 1)[0]
        with self._lock:
            self._kept[key] = image
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return image


def _png(image: np.ndarray) -> bytes:
    """uint8 (C, H, W): of three channels in colour, else the first one in grey."""
    from PIL import Image

    picture = Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
