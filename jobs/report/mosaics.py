"""Generated and real images as PNG pictures to be put into a page.

Invariant: every pixel is one the images hold, enlarged to whole squares; nothing is smoothed, scaled or sharpened.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GAP_PX = 3


@dataclass(frozen=True)
class Picture:
    """A PNG as a ``data:`` address, with its size in pixels."""

    address: str
    width: int
    height: int


def picture_of(items: npt.NDArray[Any], columns: int, tile_px: int) -> Picture:
    """Show images, uint8 (n, C, H, W), as a mosaic, and points, float32 (n, 2), as dots in the plane."""
    return mosaic(list(items), columns, tile_px) if items.ndim == 4 else scatter(items)


def scatter(points: npt.NDArray[np.float32], side_px: int = 240) -> Picture:
    """Draw the points (n, 2), or the first two coordinates of (n, D), as dots within the square [−5, 5]²."""
    from PIL import Image

    canvas = np.full((side_px, side_px), 255, dtype=np.uint8)
    place = np.rint((points[:, :2] + 5) / 10 * (side_px - 2)).astype(np.int64)
    x, y = place[((place >= 0) & (place < side_px - 1)).all(axis=1)].T
    for right in (0, 1):
        for up in (0, 1):
            canvas[side_px - 1 - (y + up), x + right] = 0
    buffer = io.BytesIO()
    Image.fromarray(canvas, "L").save(buffer, "PNG")
    return Picture(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", side_px, side_px)


def mosaic(images: Sequence[npt.NDArray[np.uint8] | None], columns: int, tile_px: int) -> Picture:
    """Lay images out in rows, with transparent gaps.

    Parameters
    ----------
    images : sequence of uint8 (C, H, W), or None
        All of one shape, of one channel (grey) or three (red, green, blue); of two or of more than three channels the
        first is shown. None leaves its place empty.
    columns : int
        Images in a row.
    tile_px : int
        Images smaller than this are enlarged by the largest whole factor that keeps them within it.
    """
    from PIL import Image

    channels, height, width = next(image.shape for image in images if image is not None)
    shown = 3 if channels == 3 else 1
    factor = max(1, tile_px // max(height, width))
    rows, (tile_height, tile_width) = -(-len(images) // columns), (height * factor, width * factor)
    size = (rows * (tile_height + GAP_PX) - GAP_PX, columns * (tile_width + GAP_PX) - GAP_PX)
    canvas = np.zeros((*size, shown + 1), dtype=np.uint8)
    for place, image in enumerate(images):
        if image is None:
            continue
        top, left = place // columns * (tile_height + GAP_PX), place % columns * (tile_width + GAP_PX)
        tile = canvas[top : top + tile_height, left : left + tile_width]
        tile[..., :shown] = image[:shown].transpose(1, 2, 0).repeat(factor, axis=0).repeat(factor, axis=1)
        tile[..., shown] = 255
    buffer = io.BytesIO()
    Image.fromarray(canvas, "RGBA" if shown == 3 else "LA").save(buffer, "PNG")
    return Picture(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", size[1], size[0])
