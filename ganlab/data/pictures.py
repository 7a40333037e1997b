"""Picture files to uint8 arrays, and resizing.

Invariant: pictures are ordered by their path relative to the folder, so that where the folder lies changes nothing; each
picture is read whole or counted among those left out.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from ganlab.data.inputs import InputDescription
from ganlab.randomness import some_of

UInt8 = npt.NDArray[np.uint8]
Frames = Literal["first", "all"]
Progress = Callable[[int, int], None]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
SUFFIXES = (
    ".apng",
    ".avif",
    ".bmp",
    ".dib",
    ".gif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".qoi",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
)
GREY = ("1", "L", "LA", "La")  # Pillow's modes without colour
BACKGROUND = "white"  # of a page, on which viewers show transparent pictures
RESAMPLING = Image.Resampling.BICUBIC  # Pillow widens the kernel when it shrinks a picture, so nothing is aliased
BATCH, BATCH_BYTES = 64, 2**22  # pictures of a task, and their pixels
SHARED_FROM = 10_000  # files; as long as processes take to start and to end, threads read thousands of small pictures
LISTED = 10  # files named in an error
T = TypeVar("T")


class PictureError(ValueError):
    """Pictures that can't be read as asked.

    Parameters
    ----------
    found : str
        What is wrong, and where.
    allowed : str
        What would be right.
    setting, value : str
        Keyword of `read_pictures` and its value with which the pictures can be read; empty when there is none.
    """

    def __init__(self, found: str, allowed: str, setting: str = "", value: str = "") -> None:
        super().__init__(found, allowed, setting, value)
        self.found, self.allowed, self.setting, self.value = found, allowed, setting, value

    def __str__(self) -> str:
        remedy = f", or {self.setting}: {self.value}" if self.setting else ""
        return f"path: {self.found}; allowed: {self.allowed}{remedy}"


@dataclass(frozen=True)
class Listing:
    """Pictures of a folder, and what else is in it.

    Attributes
    ----------
    files : tuple of str
        Paths of the pictures relative to the folder, sorted.
    left_out : dict of str to int
        Number of other files, by reason.
    """

    files: tuple[str, ...]
    left_out: dict[str, int]


class ReadPictures(NamedTuple):
    """Pictures in memory: uint8 (N, C, H, W); relative paths of those left out as unreadable; what was read."""

    images: UInt8
    skipped: tuple[str, ...]
    read: InputDescription


class _Facts(NamedTuple):
    """Facts of a picture file: the mode in which it stores pixels, its frames, and what was done to the picture."""

    mode: str
    frames: int
    transparent: bool = False
    turned: bool = False


class _Fault(NamedTuple):
    """Why a picture was not read, in words; kind "size": it has another size than the first, "frames": it has several."""

    reason: str
    kind: Literal["", "size", "frames"] = ""


class _Wanted(NamedTuple):
    """How pictures are read: mode, size (H, W), and what `read_pictures` was asked for."""

    mode: Literal["L", "RGB"]
    size: tuple[int, int]
    resolution: int | None
    crop_pixels: int | None
    frames: Frames | None


class _FaultError(ValueError):
    """A picture that is not read; its only argument is the `_Fault`."""


def picture_files(folder: Path) -> list[str]:
    """Paths of the folder's pictures relative to it, sorted; `list_pictures` says what else there is.

    Raises
    ------
    ValueError
        When the folder is missing, is no folder or holds no picture.
    """
    return list(list_pictures(folder).files)


def list_pictures(folder: Path) -> Listing:
    """List the pictures of a folder and its subfolders, linked ones included.

    Each real file counts once, by the name without links if it has one below the folder, else the first one in sorted
    order; a link back to a folder that was listed ends there. Hidden files and folders are left out. Files with several
    hard links are several pictures: tools that save space link equal files so.

    Raises
    ------
    ValueError
        When the folder is missing, is no folder or holds no picture.
    """
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise PictureError(f"got '{folder}', which {state}", "a folder of pictures")
    files: list[str] = []
    left_out: Counter[str] = Counter()
    suffixes: Counter[str] = Counter()
    real_files: set[str] = set()
    real_folders: set[str] = set()
    folders = [""]  # relative to `folder`, as are the links, which wait until all else is listed
    linked_folders: list[str] = []
    linked_files: list[str] = []
    while folders or linked_folders or linked_files:
        if not folders and linked_folders:
            linked_folders.sort()
            folders.append(linked_folders.pop(0))
        if not folders:
            linked_files.sort()
            for name in linked_files:
                real = os.path.realpath(folder / name)
                if os.path.exists(real) and not os.path.isfile(real):
                    left_out["pipe or device"] += 1
                else:
                    _take(real, name, files, real_files, left_out)
            break
        place = folders.pop()
        real = os.path.realpath(folder / place)
        if real in real_folders:
            left_out["folder linked more than once"] += 1
            continue
        real_folders.add(real)
        for entry in _entries(folder / place):
            name = os.path.join(place, entry.name)
            if entry.name.startswith("."):
                left_out["hidden"] += 1
            elif _is_folder(entry):
                (linked_folders if entry.is_symlink() else folders).append(name)
            elif not entry.is_symlink() and not entry.is_file():
                left_out["pipe or device"] += 1  # whose end would never come
            elif not entry.name.lower().endswith(SUFFIXES):
                suffixes[os.path.splitext(entry.name)[1].lower() or "without suffix"] += 1
            elif entry.is_symlink():
                linked_files.append(name)
            else:
                _take(os.path.join(real, entry.name), name, files, real_files, left_out)
    found = dict(sorted(left_out.items()) + sorted(suffixes.items()))
    if not files:
        others = ", ".join(f"{count:,} {reason}" for reason, count in found.items())
        raise PictureError(
            f"got '{folder}', which holds no pictures",
            f"a folder with {', '.join(SUFFIXES)} files in it or below it{f' (it holds {others})' if others else ''}",
        )
    return Listing(tuple(sorted(files)), found)


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
    frames: Frames | None = None,
    progress: Progress = lambda done, total: None,
    map: Map | None = None,
) -> ReadPictures:
    """Read the pictures of a folder.

    Transparent pictures are laid on white and pictures with EXIF data turned upright.

    Parameters
    ----------
    folder
        Searched with its subfolders.
    channels
        1 for grey, 3 for RGB; by default RGB if any picture has colour.
    resolution
        Side in pixels to which the centred square is resized; by default pictures stay as they are and must all have
        the first one's size.
    crop_pixels
        Side of the centred square; by default (and at most) a picture's shorter side. Needs `resolution`.
    limit
        Read only so many, drawn by `chosen_files`.
    skip_unreadable
        Go on without pictures that cannot be read.
    frames
        What to read of files with several frames or pages: the first one or all; by default they are refused.
    progress
        Called with (units done, units).
    map
        `map(function, items)` in processes, its results in the order of the items. Decoding a small picture holds
        Python's lock for most of the time, so that threads, which read otherwise, read many of them on one core.

    Raises
    ------
    PictureError
        When there is no picture, some (the first ten are named) cannot be read or have another size, or files have
        several frames and `frames` does not say which to read.
    """
    listing = list_pictures(folder)
    files = [listing.files[number] for number in some_of(len(listing.files), limit)]
    paths = [os.path.join(folder, file) for file in files]
    apply = map if map is not None and len(files) >= SHARED_FROM else _in_threads
    passes = 1

    def report(done: float, finished_passes: int) -> None:
        progress(round(len(files) * (finished_passes + done)), len(files) * passes)

    pages = [(number, 0) for number in range(len(files))]
    heads: list[_Facts | _Fault] = []
    if frames == "all":
        passes = 2
        for batch in apply(partial(_read_heads, frames), _batches(paths, BATCH)):
            heads += batch
            report(len(heads) / len(files), 0)
        pages = [
            (number, page)
            for number, head in enumerate(heads)
            if isinstance(head, _Facts)
            for page in range(head.frames)
        ]
    faults = {number: head for number, head in enumerate(heads) if isinstance(head, _Fault)}
    mode, size = _first_picture([path for number, path in enumerate(paths) if number not in faults], frames)
    size = (resolution, resolution) if resolution else size

    def read_as(channels: int, finished_passes: int) -> tuple[UInt8, list[_Facts | _Fault]]:
        images = np.empty((len(pages), channels, *size), np.uint8)
        wanted = _Wanted("L" if channels == 1 else "RGB", size, resolution, crop_pixels, frames)
        at_once = max(1, min(BATCH, BATCH_BYTES // (channels * size[0] * size[1])))
        found: list[_Facts | _Fault] = []
        batches = _batches([(paths[number], page) for number, page in pages], at_once)
        for read, facts in apply(partial(_read_pages, wanted), batches):
            images[len(found) : len(found) + len(read)] = read
            found += facts
            report(len(found) / len(pages), finished_passes)
        return images, found

    # Mostly all pictures are of the first one's kind, and one pass is enough.
    expected = channels or (1 if mode in GREY else 3)
    images, found = read_as(expected, passes - 1)
    if channels is None:
        coloured = any(each.mode not in GREY for each in found if isinstance(each, _Facts))
        channels = 3 if coloured else 1
        if channels > expected:
            passes += 1
            images, found = read_as(channels, passes - 1)
        elif channels < expected:  # grey values are the same in all three
            images = np.ascontiguousarray(images[:, :1])
    channels = images.shape[1]
    faults |= {number: fault for (number, _), fault in zip(pages, found, strict=True) if isinstance(fault, _Fault)}
    refused = {files[number]: fault for number, fault in sorted(faults.items())}
    _refuse(folder, refused, len(files), skip_unreadable)
    kept = [number not in faults for number, _ in pages]  # a file with a bad page is left out whole
    images = images if all(kept) else images[kept]
    facts = [each for each, keep in zip(found, kept, strict=True) if keep and isinstance(each, _Facts)]
    left_out = dict(listing.left_out)
    left_out["beyond the limit"] = len(listing.files) - len(files)
    left_out["unreadable"] = len(faults)
    left_out["further frames"] = sum(each.frames - 1 for each in facts) if frames == "first" else 0
    transparent = sum(each.transparent for each in facts)
    read = InputDescription(
        str(folder),
        "pictures",
        images.shape,
        str(images.dtype),
        files=len(files) - len(faults),
        colour="grey" if channels == 1 else "RGB",
        stored_modes=dict(Counter(each.mode for each in facts).most_common()),
        background=BACKGROUND if transparent else None,
        transparent=transparent,
        turned=sum(each.turned for each in facts),
        resized_to=resolution,
        left_out={reason: count for reason, count in left_out.items() if count},
        unreadable=tuple(refused),
    )
    return ReadPictures(images, tuple(refused), read)


def resized(images: UInt8, resolution: int, progress: Progress = lambda done, total: None) -> UInt8:
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


def _head(file: str, frames: Frames | None) -> _Facts:
    """Facts of a file without its pixels; the mode is that of the first frame that is read and has colour, if any."""
    with Image.open(file) as opened:
        count = getattr(opened, "n_frames", 1)
        modes = []
        for page in range(count if frames == "all" else 1):
            opened.seek(page)
            _check_8_bit(opened)
            modes.append(opened.mode)
        return _Facts(next((mode for mode in modes if mode not in GREY), modes[0]), count)


def _open(file: str, mode: str, frames: Frames | None, page: int) -> tuple[Image.Image, _Facts]:
    """Decode one frame of a file as a picture of mode L or RGB that stands upright."""
    with Image.open(file) as opened:
        count = getattr(opened, "n_frames", 1)
        if count > 1 and frames is None:
            raise _FaultError(_Fault(f"{count} frames", "frames"))
        if page:
            opened.seek(page)
        _check_8_bit(opened)
        stored = opened.mode
        opened.load()  # EXIF data may stand behind the pixels
        turned = opened.getexif().get(0x0112, 1) != 1
        upright = ImageOps.exif_transpose(opened) if turned else opened
        transparent = False
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            transparent = bool(np.asarray(upright.getchannel("A")).min() < 255)
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, BACKGROUND), upright)
        picture = upright if upright.mode == mode else upright.convert(mode)
        return picture, _Facts(stored, count, transparent, turned)


def _check_8_bit(picture: ImageFile.ImageFile) -> None:
    """Raise ValueError for more than 8 bits a channel, which Pillow would cut off without a word."""
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of mode {picture.mode}, allowed are 8-bit pictures")
    for tile in picture.tile:
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        deep_ppm = tile.codec_name.startswith("ppm") and args[1] > 255
        if deep_ppm or any(isinstance(each, str) and ";16" in each for each in args):
            raise ValueError("its pixels have 16 bits a channel, allowed are 8-bit pictures")


def _pixels(picture: Image.Image, size: tuple[int, int], resolution: int | None, crop_pixels: int | None) -> UInt8:
    """Pixels of a picture, uint8 (C, H, W), in the wanted size (H, W)."""
    if resolution:
        side = min(crop_pixels or picture.width, *picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((resolution, resolution), RESAMPLING)
    if picture.size[::-1] != size:
        found = f"it is {picture.width}×{picture.height}, the first is {size[1]}×{size[0]}"
        raise _FaultError(_Fault(found, "size"))
    return np.asarray(picture).reshape(*size, -1).transpose(2, 0, 1)


def _first_picture(files: Sequence[str], frames: Frames | None) -> tuple[str, tuple[int, int]]:
    """Stored mode, and height and width, of the first picture that can be read; of no consequence if none can."""
    for file in files:
        opened = _attempt(lambda path: _open(path, "L", frames, 0), file)
        if not isinstance(opened, _Fault):
            picture, facts = opened
            return facts.mode, (picture.height, picture.width)
    return "L", (1, 1)


def _read_heads(frames: Frames | None, files: Sequence[str]) -> list[_Facts | _Fault]:
    return [_attempt(lambda path: _head(path, frames), file) for file in files]


def _read_pages(wanted: _Wanted, pages: Sequence[tuple[str, int]]) -> tuple[UInt8, list[_Facts | _Fault]]:
    """Read (file, frame) by (file, frame): uint8 (N, C, H, W), any values for those that can't be read, and facts."""
    images = np.empty((len(pages), 1 if wanted.mode == "L" else 3, *wanted.size), np.uint8)

    def read(index: int, page: int, file: str) -> _Facts:
        picture, facts = _open(file, wanted.mode, wanted.frames, page)
        images[index] = _pixels(picture, wanted.size, wanted.resolution, wanted.crop_pixels)
        return facts

    return images, [_attempt(partial(read, index, page), file) for index, (file, page) in enumerate(pages)]


def _attempt(function: Callable[[str], T], file: str) -> T | _Fault:
    try:
        return function(file)
    except _FaultError as error:
        fault: _Fault = error.args[0]
        return fault
    except Exception as error:  # decoders raise nearly anything on a damaged file
        return _Fault(" ".join(str(error).split()) or type(error).__name__)


def _batches(items: Sequence[T], count: int) -> list[Sequence[T]]:
    return [items[start : start + count] for start in range(0, len(items), count)]


def _in_threads(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(function, items)


def _refuse(folder: Path, faults: Mapping[str, _Fault], files: int, skip_unreadable: bool) -> None:
    """Raise PictureError for faults that are not to be skipped, and if no picture is left."""
    several = {file: fault for file, fault in faults.items() if fault.kind == "frames"}
    if several:
        found = _listed(folder, several, files, "has several frames", "have several frames")
        raise PictureError(found, "one picture a file", "frames", "first or all")
    sizes = {file: fault for file, fault in faults.items() if fault.kind == "size"}
    if sizes:
        found = _listed(folder, sizes, files, "has another size", "have another size")
        raise PictureError(found, "pictures of one size", "resolution", "PIXELS")
    if faults and not skip_unreadable:
        found = _listed(folder, faults, files, "cannot be read", "cannot be read")
        raise PictureError(found, "readable pictures", "skip_unreadable", "true")
    if len(faults) == files:
        raise PictureError(
            f"got '{folder}', where none of {files:,} pictures can be read", "a folder with readable pictures"
        )


def _listed(folder: Path, faults: Mapping[str, _Fault], files: int, one: str, several: str) -> str:
    """Faulty files and what is wrong with them: the only one, or the first ten and their number."""
    if len(faults) == 1:
        ((file, fault),) = faults.items()
        return f"picture '{folder / file}' {one} ({fault.reason})"
    shown = ", ".join(f"'{file}' ({fault.reason})" for file, fault in list(faults.items())[:LISTED])
    more = f" and {len(faults) - LISTED:,} more" if len(faults) > LISTED else ""
    return f"{len(faults):,} of {files:,} pictures in '{folder}' {several}: {shown}{more}"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise PictureError(f"folder '{folder}' cannot be read ({error.strerror})", "readable folders") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder or a link to one; False for a link that can't be followed."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _take(real: str, name: str, files: list[str], taken: set[str], left_out: Counter[str]) -> None:
    """Add a picture to `files`, unless its real file is among those taken."""
    if real in taken:
        left_out["linked more than once"] += 1
    else:
        taken.add(real)
        files.append(name)
