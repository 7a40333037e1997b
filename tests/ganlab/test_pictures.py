"""Folders of pictures: every picture read as it looks, and everything else counted."""

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from cluster.local import local_processes
from ganlab.data.pictures import SUFFIXES, PictureError, list_pictures, read_pictures

RANDOM = np.random.default_rng(7)
GREY = RANDOM.integers(0, 256, (8, 6), np.uint8)
COLOURED = RANDOM.integers(0, 256, (8, 6, 3), np.uint8)
CLEAR = np.array([[0, 255, 128, 255, 0, 255]] * 8, np.uint8)  # alpha


def save(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, C) under the alpha `CLEAR`, over white."""
    alpha = CLEAR[..., None] / 255
    return np.rint(pixels * alpha + 255 * (1 - alpha))


# --- colour ---


def test_any_picture_with_colour_makes_all_of_them_coloured(folder: Path) -> None:
    save(folder / "a.png", GREY)
    save(folder / "b.png", COLOURED)
    images, _, read = read_pictures(folder)
    assert np.array_equal(images[0], np.stack([GREY] * 3))
    assert np.array_equal(images[1], COLOURED.transpose(2, 0, 1))
    assert (read.colour, read.stored_modes, read.files) == ("RGB", {"L": 1, "RGB": 1}, 2)


@pytest.mark.parametrize("coloured", [0, 1, 2])
def test_the_place_of_the_only_picture_with_colour_changes_nothing(folder: Path, coloured: int) -> None:
    for place in range(3):
        save(folder / f"{place}.png", COLOURED if place == coloured else GREY)
    reports = []
    images, _, read = read_pictures(folder, progress=lambda done, total: reports.append((done, total)))
    expected = np.stack([COLOURED if place == coloured else np.stack([GREY] * 3, -1) for place in range(3)])
    np.testing.assert_array_equal(images, expected.transpose(0, 3, 1, 2))
    assert read.colour == "RGB"
    assert all(done <= total for done, total in reports)
    assert reports[-1][0] == reports[-1][1]


def test_an_unreadable_picture_with_colour_makes_none_coloured(folder: Path) -> None:
    for place in range(3):
        save(folder / f"{place}.png", GREY)
    save(folder / "0.png", COLOURED)
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:100])
    images, skipped, _ = read_pictures(folder, skip_unreadable=True)
    assert skipped == ("0.png",)
    np.testing.assert_array_equal(images, np.stack([GREY[None]] * 2))


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_pictures_without_colour_stay_grey(folder: Path, mode: str) -> None:
    save(folder / "a.png", Image.fromarray(GREY).convert(mode))
    images, _, read = read_pictures(folder)
    assert np.array_equal(images[0, 0], np.asarray(Image.fromarray(GREY).convert(mode).convert("L")))
    assert (images.shape, read.colour, read.stored_modes) == ((1, 1, 8, 6), "grey", {mode: 1})


def test_other_modes_are_read_in_their_colours(folder: Path) -> None:
    save(folder / "cmyk.jpg", Image.new("CMYK", (6, 8), (0, 255, 255, 0)), quality=100)
    flat = Image.new("RGB", (6, 8), (250, 0, 0)).quantize(2)
    save(folder / "palette.png", flat)
    images, _, read = read_pictures(folder)
    assert images[0, 0].min() > 240
    assert images[0, 1:].max() < 15
    assert np.array_equal(images[1], np.asarray(flat.convert("RGB")).transpose(2, 0, 1))
    assert read.stored_modes == {"CMYK": 1, "P": 1}
    assert "stored as 1 CMYK, 1 P" in str(read)


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pictures_are_laid_on_white(folder: Path, channels: int) -> None:
    own = np.dstack([COLOURED, CLEAR]) if channels == 3 else np.dstack([GREY, CLEAR])
    save(folder / "a.png", own)
    save(folder / "b.png", np.dstack([COLOURED if channels == 3 else GREY, np.full((8, 6), 255, np.uint8)]))
    images, _, read = read_pictures(folder)
    expected = on_white(own[..., :-1].astype(float)).transpose(2, 0, 1)
    assert np.abs(images[0].astype(int) - expected).max() <= 1
    assert np.array_equal(images[1], own[..., :-1].transpose(2, 0, 1))
    assert (read.transparent, read.background) == (1, "white")
    assert "1 with transparency laid on white" in str(read)


def test_a_transparent_entry_of_a_palette_is_white(folder: Path) -> None:
    picture = Image.new("P", (6, 8), 0)
    picture.putpalette([0, 0, 0, 200, 10, 10])
    picture.paste(1, (0, 0, 6, 4))
    save(folder / "a.gif", picture, transparency=0)
    save(folder / "b.png", picture, transparency=0)
    for image in read_pictures(folder).images:
        assert image[:, 0, 0].tolist() == [200, 10, 10]
        assert image[:, 7, 0].tolist() == [255, 255, 255]


def test_opaque_pictures_have_no_background(folder: Path) -> None:
    save(folder / "a.png", COLOURED)
    read = read_pictures(folder).read
    assert (read.transparent, read.background) == (0, None)
    assert "white" not in str(read)


@pytest.mark.parametrize("kind", ["16-bit grey", "16-bit colour", "16-bit ppm", "float"])
def test_deeper_pictures_are_not_cut_to_8_bits(folder: Path, kind: str) -> None:
    save(folder / "a.png", COLOURED)
    match kind:
        case "16-bit grey":
            save(folder / "b.png", np.full((8, 6), 300, np.uint16))
        case "16-bit colour":
            import struct
            import zlib

            def chunk(name: bytes, data: bytes) -> bytes:
                return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

            rows = b"".join(b"\0" + np.full(18, 300, ">u2").tobytes() for _ in range(8))
            header = struct.pack(">IIBBBBB", 6, 8, 16, 2, 0, 0, 0)
            parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
            (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        case "16-bit ppm":
            (folder / "b.ppm").write_bytes(b"P6 6 8 65535\n" + np.full(6 * 8 * 3, 300, ">u2").tobytes())
        case "float":
            save(folder / "b.tif", np.zeros((8, 6), np.float32))
    with pytest.raises(
        PictureError, match=r"b\.(png|ppm|tif)' cannot be read \(its pixels .*allowed are 8-bit pictures"
    ):
        read_pictures(folder)
    images, skipped, read = read_pictures(folder, skip_unreadable=True)
    assert (len(images), len(skipped), read.left_out) == (1, 1, {"unreadable": 1})


def test_turned_pictures_are_counted(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    save(folder / "a.jpg", Image.new("L", (8, 6)), exif=exif)
    save(folder / "b.jpg", Image.new("L", (6, 8)))
    images, _, read = read_pictures(folder)
    assert images.shape == (2, 1, 8, 6)
    assert read.turned == 1


# --- frames ---


def animated(folder: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (6, 8), (40 * k, 0, 0)) for k in range(5)]
    options = {"lossless": True} if suffix == ".webp" else {}
    save(folder / f"b{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png", ".apng"])
def test_frames_are_refused_or_read_and_never_lost(folder: Path, suffix: str) -> None:
    save(folder / "a.png", np.zeros((8, 6, 3), np.uint8))
    animated(folder, suffix)
    save(folder / "c.png", COLOURED)
    for channels in (None, 3):
        with pytest.raises(PictureError, match=rf"b\{suffix}' has several frames \(5 frames\); .*frames: first or all"):
            read_pictures(folder, channels=channels, skip_unreadable=True)
        images, _, read = read_pictures(folder, channels=channels, frames="all")
        assert images[:, 0, 0, 0].tolist() == [0, 0, 40, 80, 120, 160, COLOURED[0, 0, 0]]
        assert (read.files, read.shape, read.left_out) == (3, (7, 3, 8, 6), {})
        images, _, read = read_pictures(folder, channels=channels, frames="first")
        assert images[:, 0, 0, 0].tolist() == [0, 0, COLOURED[0, 0, 0]]
        assert (read.files, read.left_out) == (3, {"further frames": 4})


def test_a_later_page_with_colour_makes_all_of_them_coloured(folder: Path) -> None:
    save(folder / "a.tif", GREY, save_all=True, append_images=[Image.fromarray(COLOURED)])
    images, _, read = read_pictures(folder, frames="all")
    assert np.array_equal(images, [np.stack([GREY] * 3), COLOURED.transpose(2, 0, 1)])
    assert read.stored_modes == {"L": 1, "RGB": 1}
    assert read_pictures(folder, frames="first").read.colour == "grey"


def test_a_file_with_a_bad_page_is_left_out_whole(folder: Path) -> None:
    save(folder / "a.png", GREY)
    save(
        folder / "b.tif",
        GREY,
        save_all=True,
        append_images=[Image.fromarray(GREY.astype(np.uint16)), Image.fromarray(GREY)],
    )
    with pytest.raises(PictureError, match=r"b\.tif' cannot be read \(its pixels are of mode I;16"):
        read_pictures(folder, frames="all")
    images, skipped, read = read_pictures(folder, frames="all", skip_unreadable=True)
    assert np.array_equal(images, [[GREY]])  # grey: what can't be read has no say in the colour
    assert (skipped, read.files, read.left_out) == (("b.tif",), 1, {"unreadable": 1})


# --- which files ---


def test_every_file_left_out_is_counted_by_its_reason(folder: Path) -> None:
    save(folder / "a.png", GREY)
    save(folder / "sub" / ".hidden.png", GREY)
    save(folder / ".checkpoints" / "a.png", GREY)
    for name in ("notes.txt", "sub/more.TXT", "table.csv", "README"):
        (folder / name).write_text("text")
    (folder / "bad.png").write_text("text")
    images, skipped, read = read_pictures(folder, skip_unreadable=True)
    assert len(images) == 1
    assert skipped == read.unreadable == ("bad.png",)
    assert read.left_out == {"hidden": 2, ".csv": 1, ".txt": 2, "without suffix": 1, "unreadable": 1}
    assert "left out: 2 hidden, 1 .csv, 2 .txt, 1 without suffix, 1 unreadable" in str(read)
    save(folder / "bad.png", GREY)
    assert read_pictures(folder, limit=1).read.left_out["beyond the limit"] == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_read(folder: Path, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow decodes no AVIF")
    written = {".pbm": ".ppm", ".pnm": ".ppm", ".pgm": ".ppm"}.get(suffix, suffix)
    save(folder / f"a{written}", COLOURED)
    (folder / f"a{written}").rename(folder / f"a{suffix.upper()}")
    assert read_pictures(folder).images.shape == (1, 3, 8, 6)


def test_linked_folders_are_followed_and_loops_end(folder: Path) -> None:
    save(folder / "set" / "a.png", GREY)
    save(folder / "elsewhere" / "b.png", 255 - GREY)
    (folder / "set" / "linked").symlink_to(folder / "elsewhere", target_is_directory=True)
    (folder / "elsewhere" / "back").symlink_to(folder / "set", target_is_directory=True)
    (folder / "set" / "again").symlink_to(folder / "set", target_is_directory=True)
    images, _, read = read_pictures(folder / "set")
    assert np.array_equal(images[:, 0], [GREY, 255 - GREY])
    assert read.left_out == {"folder linked more than once": 2}


def test_each_real_file_is_read_once_and_keeps_its_own_name(folder: Path) -> None:
    save(folder / "m.png", GREY)
    save(folder / "outside" / "o.png", GREY)
    inside = folder / "set"
    inside.mkdir()
    (folder / "m.png").rename(inside / "m.png")
    (inside / "a.png").symlink_to(inside / "m.png")
    (inside / "b.png").symlink_to(folder / "outside" / "o.png")
    (inside / "c.png").symlink_to(folder / "outside" / "o.png")
    os.link(inside / "m.png", inside / "z.png")  # as tools that save space link equal files
    listing = list_pictures(inside)
    assert listing.files == ("b.png", "m.png", "z.png")
    assert listing.left_out == {"linked more than once": 2}


# --- faults ---


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_no_picture_and_is_not_waited_for(folder: Path, linked: bool) -> None:
    (folder / "set").mkdir()
    Image.new("L", (8, 8)).save(folder / "set" / "a.png")
    pipe = folder / "pipe.png" if linked else folder / "set" / "pipe.png"
    os.mkfifo(pipe)
    if linked:
        (folder / "set" / "pipe.png").symlink_to(pipe)
    listing = list_pictures(folder / "set")
    assert listing.files == ("a.png",)
    assert listing.left_out == {"pipe or device": 1}


def test_links_that_lead_nowhere_are_unreadable_pictures(folder: Path) -> None:
    save(folder / "set" / "a.png", GREY)
    (folder / "set" / "dangling.png").symlink_to("nothing")
    (folder / "set" / "itself.png").symlink_to("itself.png")
    (folder / "set" / "loop").symlink_to("loop")
    with pytest.raises(PictureError, match=r"2 of 3 pictures .*'dangling\.png'.*'itself\.png'"):
        read_pictures(folder / "set")
    images, skipped, read = read_pictures(folder / "set", skip_unreadable=True)
    assert np.array_equal(images[:, 0], [GREY])
    assert skipped == ("dangling.png", "itself.png")
    assert read.left_out == {"without suffix": 1, "unreadable": 2}


def test_unreadable_pictures_are_all_named_at_once(folder: Path) -> None:
    for number in range(40):
        save(folder / f"{number:02}.png", GREY)
    for number in (0, *range(5, 17)):
        (folder / f"{number:02}.png").write_text("text")
    with pytest.raises(PictureError) as caught:
        read_pictures(folder)
    text = str(caught.value)
    assert "13 of 40 pictures in" in text
    assert [f"'{number:02}.png'" in text for number in (0, *range(5, 17))] == [True] * 10 + [False] * 3
    assert "and 3 more; allowed: readable pictures, or skip_unreadable: true" in text
    assert "\n" not in text
    assert len(read_pictures(folder, skip_unreadable=True).images) == 27


def test_pictures_of_another_size_are_not_unreadable(folder: Path) -> None:
    for number in range(3):
        save(folder / f"{number}.png", GREY)
    save(folder / "3.png", GREY.T)
    save(folder / "4.png", GREY.T)
    for skip in (False, True):
        with pytest.raises(
            PictureError, match=r"2 of 5 pictures .* another size: '3\.png' \(it is 8×6, the first is 6×8"
        ):
            read_pictures(folder, skip_unreadable=skip)


# --- reading by processes ---


def test_processes_are_asked_from_as_many_files_as_pay_for_their_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganlab.data.pictures.SHARED_FROM", 3)
    asked = []

    def map_of_processes(function: Callable[[object], object], items: Iterable[object]) -> Iterator[object]:
        asked.append(pickle.dumps(function))
        return map(function, items)

    for place in range(2):
        save(folder / f"{place}.png", GREY)
    read_pictures(folder, map=map_of_processes)
    assert not asked
    save(folder / "2.png", GREY)
    read_pictures(folder, map=map_of_processes)
    assert len(asked) == 1


@pytest.mark.process
def test_processes_read_what_threads_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder / "0.png", GREY)
    for place in range(1, 5):
        save(folder / f"{place}.png", RANDOM.integers(0, 256, (8, 6, 3), np.uint8))
    (folder / "1.png").write_bytes(b"no picture")
    pages = [Image.fromarray(RANDOM.integers(0, 256, (8, 6, 3), np.uint8)) for _ in range(3)]
    pages[0].save(folder / "5.tiff", save_all=True, append_images=pages[1:])
    monkeypatch.setattr("ganlab.data.pictures.BATCH", 2)
    read = [read_pictures(folder, frames="all", skip_unreadable=True)]
    monkeypatch.setattr("ganlab.data.pictures.SHARED_FROM", 1)
    with local_processes(2) as map_of_processes:
        read.append(read_pictures(folder, frames="all", skip_unreadable=True, map=map_of_processes))
        with pytest.raises(PictureError, match="several frames"):
            read_pictures(folder, skip_unreadable=True, map=map_of_processes)
        save(folder / "6.png", GREY[:4])
        with pytest.raises(PictureError, match="6×4, the first is 6×8"):
            read_pictures(folder, frames="all", skip_unreadable=True, map=map_of_processes)
    assert np.array_equal(read[0].images, read[1].images)
    assert read[0][1:] == read[1][1:]
    assert (read[0].skipped, len(read[0].images)) == (("1.png",), 7)
