"""Picture files to uint8 arrays, and resizing.

Invariant: pictures are ordered by their path relative to the folder, so that where the folder lies changes nothing.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ganlab.randomness import some_of

UInt8 = npt.NDArray[np.uint8]
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
RESAMPLING = Image.Resampling.BICUBIC  # Pillow widens the kernel when it shrinks a picture, so nothing is aliased
BATCH = 64  # pictures per task of the reading threads


def picture_files(folder: Path) -> list[str]:
    """Paths of the folder's pictures relative to it, sorted; subfolders included, hidden files left out.

    Raises
    ------
    ValueError
        When the folder is missing, is no folder or holds no picture.
    """
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"path: got '{folder}', which {state}; allowed: a folder of pictures")
    found = [
        os.path.relpath(os.path.join(parent, file), folder)
        for parent, _, files in os.walk(folder, onerror=_refuse)
        for file in files
        if file.lower().endswith(SUFFIXES) and not file.startswith(".")
    ]
    if not found:
        raise ValueError(
            f"path: got '{folder}', which holds no pictures; allowed: a folder with "
            f"{', '.join(SUFFIXES)} files in it or below it"
        )
    return sorted(found)


def chosen_files(folder: Path, limit: int | None) -> list[str]:
    """As `picture_files`, but at most `limit` of them, drawn at random: sorted names often go class by class."""
    files = picture_files(folder)
    return [files[number] for number in some_of(len(files), limit)]


def read_pictures(
    folder: Path,
    *,
    channels: int | None = None,
    resolution: int | None = None,
    crop_pixels: int | None = None,
    limit: int | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[UInt8, tuple[str, ...]]:
    """Read the pictures of a folder.

    Parameters
    ----------
    folder
        Searched with its subfolders.
    channels
        1 for grey, 3 for RGB; by default as the first picture is.
    resolution
        Side in pixels to which the centred square is resized; by default pictures stay as they are and must all have
        the first one's size.
    crop_pixels
        Side of the centred square; by default (and at most) a picture's shorter side. Needs `resolution`.
    limit
        Read only so many, drawn by `chosen_files`.
    skip_unreadable
        Go on without pictures that cannot be read.
    progress
        Called with (pictures done, pictures).

    Returns
    -------
    images : uint8 array of shape (N, C, H, W)
    skipped : relative paths of the pictures left out

    Raises
    ------
    ValueError
        When there is no picture, or one (named) cannot be read or has another size.
    """
    files = chosen_files(folder, limit)
    if channels is None or resolution is None:
        first = _first_readable(folder, files, skip_unreadable)
        channels = channels or (1 if first.mode in ("1", "L") else 3)
    shape = (channels, *((resolution, resolution) if resolution else first.size[::-1]))
    images = np.empty((len(files), *shape), np.uint8)

    def fill(start: int) -> list[tuple[int, str]]:
        faults = []
        for index in range(start, min(start + BATCH, len(files))):
            try:
                images[index] = _pixels(folder / files[index], shape, resolution, crop_pixels)
            except Exception as error:  # decoders raise nearly anything on a damaged file
                faults.append((index, str(error) or type(error).__name__))
        return faults

    unreadable: list[int] = []
    starts = range(0, len(files), BATCH)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start, faults in zip(starts, threads.map(fill, starts), strict=True):
            if faults and not skip_unreadable:
                threads.shutdown(wait=False, cancel_futures=True)
                index, reason = faults[0]
                raise _unreadable(folder / files[index], reason)
            unreadable += [index for index, _ in faults]
            progress(min(start + BATCH, len(files)), len(files))
    if len(unreadable) == len(files):
        raise ValueError(
            f"path: got '{folder}', where none of {len(files):,} pictures can be read; "
            "allowed: a folder with readable pictures"
        )
    if unreadable:
        images = np.delete(images, unreadable, axis=0)
    return images, tuple(files[index] for index in unreadable)


def resized(images: UInt8, resolution: int, progress: Callable[[int, int], None] = lambda done, total: None) -> UInt8:
    """Resize square images (N, C, H, H) to (N, C, resolution, resolution), channel by channel."""
    if images.shape[-1] == resolution:
        return images
    result = np.empty((*images.shape[:2], resolution, resolution), np.uint8)
    for index, image in enumerate(images):
        for channel, plane in enumerate(image):
            result[index, channel] = Image.fromarray(plane).resize((resolution, resolution), RESAMPLING)
        if (index + 1) % 1000 == 0 or index + 1 == len(images):
            progress(index + 1, len(images))
    return result


def _pixels(file: Path, shape: tuple[int, ...], resolution: int | None, crop_pixels: int | None) -> UInt8:
    """Pixels of one picture in the wanted shape (C, H, W)."""
    with Image.open(file) as opened:
        if opened.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of mode {opened.mode}, allowed are 8-bit pictures")
        picture = ImageOps.exif_transpose(opened).convert("L" if shape[0] == 1 else "RGB")
    if resolution:
        side = min(crop_pixels or picture.width, *picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((resolution, resolution), RESAMPLING)
    if picture.size[::-1] != shape[1:]:
        raise ValueError(f"it is {picture.width}×{picture.height}, the first is {shape[2]}×{shape[1]}")
    return np.asarray(picture).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)


def _first_readable(folder: Path, files: list[str], skip_unreadable: bool) -> Image.Image:
    for file in files:
        try:
            with Image.open(folder / file) as opened:
                return ImageOps.exif_transpose(opened)
        except Exception as error:
            if not skip_unreadable:
                raise _unreadable(folder / file, str(error)) from error
    raise ValueError(
        f"path: got '{folder}', where none of {len(files):,} pictures can be read; "
        "allowed: a folder with readable pictures"
    )


def _refuse(error: OSError) -> None:
    raise ValueError(f"path: folder '{error.filename}' cannot be read ({error.strerror}); allowed: readable folders")


def _unreadable(file: Path, reason: str) -> ValueError:
    return ValueError(
        f"path: picture '{file}' cannot be read ({reason}); allowed: readable pictures "
        "(skip_unreadable: true goes on without it)"
    )
