"""Images and labels in the idx files of the MNIST family (LeCun, Cortes & Burges 1998), gzipped or not.

Invariant: a file is read only when its header and its length agree; nothing is guessed from its name.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

UINT8 = 8
"""Code of unsigned bytes in an idx header, the only type that the MNIST family has."""
GZIP = b"\x1f\x8b"


def read_images(file: Path) -> npt.NDArray[np.uint8]:
    """Read grey images.

    Returns
    -------
    uint8 array of shape (N, height, width)

    Raises
    ------
    ValueError
        When the file is missing, cut short, too long, of another kind, or holds labels.
    """
    items = _read(file)
    if items.ndim != 3 or 0 in items.shape:
        kind = "labels" if items.ndim == 1 else "no images"
        raise ValueError(f"path: file '{file}' holds {kind} (shape {items.shape}); allowed: images (N, height, width)")
    return items


def image_size(file: Path) -> tuple[int, int]:
    """Height and width of the images in a file, from its header alone; ValueError as `read_images`."""
    return _image_shape(file)[1:]


def image_count(file: Path) -> int:
    """Number of images in a file, from its header alone; ValueError as `read_images`."""
    return _image_shape(file)[0]


def read_labels(file: Path, images: int) -> npt.NDArray[np.int64]:
    """Read the label of each image.

    Raises
    ------
    ValueError
        As `read_images`, and when there are not as many labels as `images`.
    """
    labels = _read(file)
    if labels.ndim != 1:
        raise ValueError(f"labels: file '{file}' holds items of shape {labels.shape[1:]}; allowed: one label an image")
    if len(labels) != images:
        raise ValueError(
            f"labels: file '{file}' holds {len(labels):,} labels; allowed: one for each of {images:,} images"
        )
    return labels.astype(np.int64)


def _image_shape(file: Path) -> tuple[int, int, int]:
    shape = _shape(file, _content(file, 16))
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"path: file '{file}' holds items of shape {shape[1:]}; allowed: images (N, height, width)")
    return shape[0], shape[1], shape[2]


def _read(file: Path) -> npt.NDArray[np.uint8]:
    content = _content(file)
    shape = _shape(file, content)
    header, size = 4 + 4 * len(shape), int(np.prod(shape))
    if len(content) != header + size:
        fault = "cut short" if len(content) < header + size else "too long"
        raise ValueError(
            f"path: file '{file}' is {fault}: {len(content):,} bytes, where its header promises {header + size:,}; "
            "allowed: a whole idx file (fetch or unpack it again)"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(file: Path, most: int = -1) -> bytes:
    """The first bytes of a file, unpacked; all by default."""
    if not file.is_file():
        state = "is a folder" if file.is_dir() else "does not exist"
        raise ValueError(f"path: got '{file}', which {state}; allowed: an idx file, gzipped or not")
    with file.open("rb") as raw:
        gzipped = raw.read(2) == GZIP
    try:
        with gzip.open(file) if gzipped else file.open("rb") as opened:
            return opened.read(most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"path: file '{file}' is damaged or cut short ({error}); allowed: a whole gzip file (fetch it again)"
        ) from error


def _shape(file: Path, content: bytes) -> tuple[int, ...]:
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UINT8 or len(content) < 4 + 4 * content[3]:
        raise ValueError(
            f"path: file '{file}' is no idx file of unsigned bytes (it begins with {content[:4].hex() or 'nothing'}); "
            "allowed: files such as train-images-idx3-ubyte.gz"
        )
    return tuple(int(size) for size in np.frombuffer(content, ">u4", content[3], 4))
