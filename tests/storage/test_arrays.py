import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.arrays import MissingItemsError, StoredItems, open_array, open_labels
from storage.layout import TrialLayout
from storage.shards import Images

IMAGES = np.random.default_rng(4).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)


def labels_at(path: Path) -> list[int] | None:
    found = open_labels(path, open_array(path))
    return None if found is None else found.values.tolist()


def written(folder: Path, kind: str) -> Path:
    path = folder / f"my ü samples (1){kind.removesuffix(' group')}"
    match kind:
        case ".npy":
            np.save(path, IMAGES)
        case ".npz":
            np.savez_compressed(path, label=np.arange(20), images=IMAGES)
        case " only.npz":
            np.savez(path, anything=IMAGES)
        case ".zarr":
            zarr.create_array(path, data=IMAGES)
        case ".zarr group":
            zarr.create_group(path).create_array("images", data=IMAGES, chunks=(6, 1, 8, 8))
    return path


@pytest.mark.parametrize("kind", [".npy", ".npz", " only.npz", ".zarr", ".zarr group"])
def test_reads_every_kind_in_pieces_here_and_elsewhere(tmp_path: Path, kind: str) -> None:
    array = open_array(written(tmp_path, kind))
    assert (array.shape, array.dtype) == (IMAGES.shape, np.uint8)
    np.testing.assert_array_equal(array.read(0, 20), IMAGES)
    np.testing.assert_array_equal(array.read(5, 7), IMAGES[5:7])
    sent = pickle.dumps(array)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read(19, 20), IMAGES[19:])
    with pytest.raises(ValueError, match="has 0 to 20"):
        array.read(10, 21)


@pytest.mark.parametrize("kind", [".npy", ".npz", " only.npz"])
def test_a_file_cut_short_anywhere_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind)
    content = path.read_bytes()
    for length in [*range(0, len(content) - 1, 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"my ü samples \(1\).*can't be read"):
            open_array(path)


def test_a_damaged_zarr_chunk_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, ".zarr group")
    chunk = path / "images" / "c" / "1" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    array = open_array(path)
    array.read(0, 6)
    with pytest.raises(ValueError, match=r"my ü samples \(1\)\.zarr: damaged"):
        array.read(5, 8)


@pytest.mark.parametrize("kind", [".npy", ".zarr"])
@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (5, 0, 8, 8), (5, 64), (), (5, 1, 1, 8, 8)])
def test_empty_arrays_and_other_ranks_are_refused(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / f"a{kind}"
    if kind == ".npy":
        np.save(path, np.zeros(shape, np.uint8))
    else:
        zarr.create_array(path, shape=shape, dtype="uint8", chunks=tuple(max(1, size) for size in shape))
    expected = "at least one item" if len(shape) == 4 else "expected 4 axes .images, channels, height, width."
    with pytest.raises(ValueError, match=expected):
        open_array(path)


def test_labels_have_one_axis(tmp_path: Path) -> None:
    np.save(tmp_path / "label.npy", np.arange(7))
    np.testing.assert_array_equal(open_array(tmp_path / "label.npy", rank=1).read(2, 4), [2, 3])


def test_what_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "notes.npy").write_text("hello, this is not an array")
    (tmp_path / "folder").mkdir()
    zarr.create_group(tmp_path / "group.zarr")
    np.savez(tmp_path / "none.npz")
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object))
    for name, reason in [
        ("missing.npy", "no such file"),
        ("notes.txt", "expected an array as"),
        ("notes.npy", "can't be read"),
        ("folder", "not a Zarr"),
        ("group.zarr", "no array named images"),
        ("none.npz", "no array"),
        ("objects.npy", "can't be read"),
    ]:
        with pytest.raises(ValueError, match=f"{name}: .*{reason}"):
            open_array(tmp_path / name)


def test_a_trials_samples_are_read_by_their_commit_records(complete: TrialLayout, images: Images) -> None:
    np.testing.assert_array_equal(open_array(complete.samples).read(0, 12), images)
    complete.commit(1).unlink()
    with pytest.raises(ValueError, match="only 2 of 3 shards are committed"):
        open_array(complete.samples)


def test_labels_lie_beside_the_images(tmp_path: Path) -> None:
    images = np.ones((6, 3, 8, 8), np.uint8)
    for number, name in enumerate(("labels", "label")):
        np.savez(tmp_path / f"{name}.npz", images=images, **{name: np.arange(6, dtype=np.int32) + number})
        assert labels_at(tmp_path / f"{name}.npz") == [number + each for each in range(6)]
        group = zarr.create_group(tmp_path / f"{name}.zarr")
        group.create_array("images", data=images)
        group.create_array(name, data=np.arange(6)[::-1].copy())
        assert labels_at(tmp_path / f"{name}.zarr") == [5, 4, 3, 2, 1, 0]
    np.savez(tmp_path / "none.npz", images=images)
    np.save(tmp_path / "none.npy", images)
    assert labels_at(tmp_path / "none.npz") is None
    assert labels_at(tmp_path / "none.npy") is None


@pytest.mark.parametrize("labels", [np.zeros(5, int), np.zeros((6, 1), int), np.zeros(6)])
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "bad.npz", images=np.zeros((6, 3, 8, 8), np.uint8), labels=labels)
    with pytest.raises(ValueError, match=r"bad.npz: got labels .*whole numbers, one for each of 6"):
        labels_at(tmp_path / "bad.npz")


# --- chunks that are not stored ---

STORED = np.random.default_rng(5).integers(1, 256, (50, 3, 8, 8), dtype=np.uint8)
LAYOUTS = {
    "format 2": {"zarr_format": 2, "chunks": (10, 3, 8, 8)},
    "format 2, nested keys": {
        "zarr_format": 2,
        "chunks": (10, 3, 8, 8),
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "format 3": {"chunks": (10, 3, 8, 8)},
    "format 3, keys with dots": {
        "chunks": (10, 3, 8, 8),
        "chunk_key_encoding": {"name": "default", "separator": "."},
    },
    "chunks along every axis": {"chunks": (10, 1, 4, 8)},
    "shards": {"chunks": (5, 3, 8, 8), "shards": (10, 3, 8, 8)},
    "shards along every axis": {"chunks": (5, 1, 4, 8), "shards": (10, 3, 8, 8)},
}


def half_written(path: Path, layout: str, *written: slice, name: str | None = "images") -> zarr.Array:
    """Allocate an array of 50 images and write some of them."""
    options = {"shape": STORED.shape, "dtype": "uint8", **LAYOUTS[layout]}
    if name is None:
        array = zarr.create_array(path, **options)
    else:
        group = zarr.create_group(path, zarr_format=options.pop("zarr_format", 3))
        array = group.create_array(name, **options)
    for part in written:
        array[part] = STORED[part]
    return array


@pytest.mark.parametrize("name", ["images", None])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_with_every_chunk_is_read(tmp_path: Path, layout: str, name: str | None) -> None:
    half_written(tmp_path / "a.zarr", layout, slice(0, 50), name=name)
    np.testing.assert_array_equal(open_array(tmp_path / "a.zarr").read(0, 50), STORED)


@pytest.mark.parametrize("name", ["images", None])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_images_are_refused_or_left_out(tmp_path: Path, layout: str, name: str | None) -> None:
    half_written(tmp_path / "a.zarr", layout, slice(10, 30), slice(40, 50), name=name)
    with pytest.raises(
        MissingItemsError, match=r"a\.zarr: 20 of 50 images are missing \(numbers 0 to 9, 30 to 39\).*Zarr reads 0"
    ):
        open_array(tmp_path / "a.zarr")
    array = open_array(tmp_path / "a.zarr", allow_missing=True)
    assert isinstance(array, StoredItems)
    assert (array.shape, array.dtype, array.missing) == ((30, 3, 8, 8), np.uint8, [(0, 10), (30, 40)])
    expected = np.concatenate([STORED[10:30], STORED[40:]])
    sent = pickle.dumps(array)
    assert len(sent) < 2000
    for each in (array, pickle.loads(sent)):
        np.testing.assert_array_equal(each.read(0, 30), expected)
        np.testing.assert_array_equal(each.read(17, 23), expected[17:23])
    with pytest.raises(ValueError, match="has 0 to 30 that are stored"):
        array.read(0, 31)


def test_an_array_that_has_been_completed_is_read(tmp_path: Path) -> None:
    array = half_written(tmp_path / "a.zarr", "format 3, keys with dots", slice(0, 40))
    with pytest.raises(MissingItemsError):
        open_array(tmp_path / "a.zarr")
    array[40:] = STORED[40:]
    np.testing.assert_array_equal(open_array(tmp_path / "a.zarr").read(0, 50), STORED)


def test_a_chunk_anywhere_in_an_image_makes_it_missing(tmp_path: Path) -> None:
    half_written(tmp_path / "a.zarr", "chunks along every axis", slice(0, 50), name=None)
    (tmp_path / "a.zarr" / "c" / "2" / "1" / "1" / "0").unlink()
    with pytest.raises(MissingItemsError, match=r"10 of 50 images are missing \(numbers 20 to 29\)"):
        open_array(tmp_path / "a.zarr")


def test_a_chunk_missing_inside_a_shard_is_found(tmp_path: Path) -> None:
    half_written(tmp_path / "a.zarr", "shards", slice(0, 35), slice(40, 50))
    with pytest.raises(MissingItemsError, match=r"5 of 50 images are missing \(numbers 35 to 39\)"):
        open_array(tmp_path / "a.zarr")


def test_the_last_shard_may_reach_beyond_the_array(tmp_path: Path) -> None:
    images = STORED[:23]
    zarr.create_array(tmp_path / "a.zarr", data=images, chunks=(5, 1, 8, 8), shards=(10, 2, 8, 8))
    np.testing.assert_array_equal(open_array(tmp_path / "a.zarr").read(0, 23), images)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_a_shard_whose_index_is_damaged_is_refused(tmp_path: Path, damage: str) -> None:
    half_written(tmp_path / "a.zarr", "shards", slice(0, 50))
    shard = tmp_path / "a.zarr" / "images" / "c" / "3" / "0" / "0" / "0"
    content = shard.read_bytes()
    shard.write_bytes(
        {"empty": b"", "cut": content[:-7], "changed": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]}[damage]
    )
    with pytest.raises(ValueError, match=r"a\.zarr: damaged: .*shard .*c/3/0/0/0"):
        open_array(tmp_path / "a.zarr")


@pytest.mark.parametrize("compressors", [None, "auto", zarr.codecs.GzipCodec()], ids=["none", "auto", "gzip"])
def test_a_chunk_that_is_cut_short_is_located(tmp_path: Path, compressors: object) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=STORED, chunks=(10, 1, 8, 8), compressors=compressors)
    chunk = tmp_path / "a.zarr" / "c" / "3" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:30])
    array = open_array(tmp_path / "a.zarr")
    np.testing.assert_array_equal(array.read(0, 30)[:, 0], STORED[:30, 0])
    with pytest.raises(ValueError, match=r"a\.zarr: damaged, among items 30 to 39"):
        array.read(30, 40)


def test_an_array_without_any_chunk_has_nothing_to_read(tmp_path: Path) -> None:
    half_written(tmp_path / "a.zarr", "format 3")
    with pytest.raises(MissingItemsError, match=r"50 of 50 .*numbers 0 to 49\)"):
        open_array(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match=r"none of its 50 images is stored"):
        open_array(tmp_path / "a.zarr", allow_missing=True)


def test_shards_whose_chunks_cannot_be_found_are_refused(tmp_path: Path) -> None:
    sharding = zarr.codecs.ShardingCodec(chunk_shape=(5, 3, 8, 8), codecs=[zarr.codecs.BytesCodec()])
    outer = zarr.codecs.ShardingCodec(chunk_shape=(10, 3, 8, 8), codecs=[sharding])
    array = zarr.create(
        store=tmp_path / "a.zarr", shape=STORED.shape, chunks=(50, 3, 8, 8), dtype="uint8", codecs=[outer]
    )
    array[:] = STORED
    with pytest.raises(ValueError, match=r"a\.zarr: its shards are nested"):
        open_array(tmp_path / "a.zarr")


def test_labels_follow_the_images_that_are_stored(tmp_path: Path) -> None:
    half_written(tmp_path / "a.zarr", "format 3", slice(10, 50))
    group = zarr.open_group(tmp_path / "a.zarr")
    group.create_array("labels", data=np.arange(50) // 10 * (np.arange(50) < 40), chunks=(10,))
    array = open_array(tmp_path / "a.zarr", allow_missing=True)
    labels = open_labels(tmp_path / "a.zarr", array)
    assert labels is not None
    assert labels.values.tolist() == [1] * 10 + [2] * 10 + [3] * 10 + [0] * 10
    assert (labels.name, labels.unstored) == ("labels", 10)  # a chunk of zeros is not stored


# --- which array of several ---

ARRAYS = {
    "z": np.zeros((50, 16), np.float32),
    "x": STORED,
    "y": np.arange(50),
    "w": STORED[:, 0],
    "t": np.ones(50),
}


def saved(folder: Path, kind: str, **arrays: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"several{kind}"
    if kind == ".npz":
        np.savez(path, **arrays)
    else:
        group = zarr.create_group(path)
        for name, values in arrays.items():
            group.create_array(name, data=values, config={"write_empty_chunks": True})
        (path / "README.md").write_text("what this is")
    return path


@pytest.mark.parametrize("kind", [".npz", ".zarr"])
@pytest.mark.parametrize(
    ("names", "chosen"), [("zxy", "x"), ("yx", "x"), ("yz", "z"), ("tw", "w"), ("x", "x"), ("ztyx", "x")]
)
def test_the_array_that_can_be_images_is_taken(tmp_path: Path, kind: str, names: str, chosen: str) -> None:
    path = saved(tmp_path, kind, **{name: ARRAYS[name] for name in names})
    array = open_array(path, rank=None)
    assert array.member == chosen
    assert set(array.others) == set(names) - {chosen}
    np.testing.assert_array_equal(array.read(0, 50), ARRAYS[chosen])
    labels = open_labels(path, array)
    assert (labels is not None) == ("y" in names)
    assert labels is None or (labels.name, labels.values.tolist()) == ("y", list(range(50)))


@pytest.mark.parametrize("kind", [".npz", ".zarr"])
def test_several_arrays_are_refused_until_one_is_named(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, kind, x=STORED, w=STORED[:, 0], y=np.arange(50))
    with pytest.raises(
        ValueError, match=r"2 of its arrays could be the images \((x, w|w, x), of .*uint8 \(50, 3, 8, 8\)"
    ):
        open_array(path, rank=None)
    for name in ("x", "w"):
        named = path.with_name(f"{path.name}:{name}")
        np.testing.assert_array_equal(open_array(named, rank=None).read(0, 50), ARRAYS[name])
    with pytest.raises(ValueError, match=r"it has no array v; allowed: .*x uint8 \(50, 3, 8, 8\)"):
        open_array(path.with_name(f"{path.name}:v"), rank=None)
    with pytest.raises(ValueError, match=r"holds .*: no array named images or points, and no other"):
        open_array(saved(tmp_path / "other", kind, y=np.arange(50)), rank=None)


def test_an_array_of_its_own_has_no_members(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STORED)
    zarr.create_array(tmp_path / "a.zarr", data=STORED)
    for name in ("a.npy", "a.zarr"):
        with pytest.raises(ValueError, match=r"it is one array; allowed: its path without :x"):
            open_array(tmp_path / f"{name}:x")
    np.save(tmp_path / "a:x.npy", STORED)  # a colon in a name that exists is a colon
    np.testing.assert_array_equal(open_array(tmp_path / "a:x.npy").read(0, 50), STORED)


def test_an_array_in_a_nested_group_is_named_by_its_path(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("late/images", data=STORED)
    group.create_array("late/labels", data=np.arange(1, 51))
    group.create_array("early/images", data=STORED[:20])
    named = tmp_path / "a.zarr:late/images"
    with pytest.raises(ValueError, match=r"2 of its arrays could be the images \(early/images, late/images"):
        open_array(tmp_path / "a.zarr")
    array = open_array(named)
    labels = open_labels(named, array)
    assert labels is not None
    assert (labels.name, labels.values[-1]) == ("late/labels", 50)


@pytest.mark.parametrize(
    "labels", [np.arange(49), np.arange(50.0), np.eye(50, 10, dtype=np.int64)], ids=["short", "float", "one-hot"]
)
def test_what_may_be_no_labels_is_passed_over(tmp_path: Path, labels: np.ndarray) -> None:
    path = saved(tmp_path, ".npz", images=STORED, y=labels)
    assert open_labels(path, open_array(path)) is None


# --- what is no array of images ---


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 6, 4), (3, 8, 8), (4, 8, 8)])
def test_a_single_picture_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(
        ValueError, match=r"which is one picture with its channels; allowed: pictures along a first axis"
    ):
        open_array(tmp_path / "a.npy", rank=None)


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 8, 6), (2, 8, 8), (50, 3), (50, 8, 8, 3)])
def test_several_items_are_no_single_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    assert open_array(tmp_path / "a.npy", rank=None).shape == shape


@pytest.mark.parametrize("kind", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array(["a", "b"]), "it holds text"),
        (np.array([{}, {}], dtype=object), "it holds Python objects"),
        (np.zeros((3, 2), np.complex64), "it holds complex numbers"),
        (np.zeros(3, [("a", "i4")]), "it holds records"),
    ],
)
def test_what_holds_no_numbers_is_said(tmp_path: Path, kind: str, values: np.ndarray, words: str) -> None:
    if kind == ".npy":
        np.save(tmp_path / "a.npy", values)
    else:
        np.savez(tmp_path / "a.npz", images=values)
    with pytest.raises(ValueError, match=rf"a\{kind}: .*{words} \(dtype .*\); allowed: numbers") as caught:
        open_array(tmp_path / f"a{kind}", rank=None)
    assert "pickle" not in str(caught.value)


def test_text_called_npy_gets_no_advice_to_run_it(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("hello, this is not an array")
    (tmp_path / "b.npy").write_bytes(pickle.dumps([1, 2, 3]))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(ValueError, match="can't be read as an array") as caught:
            open_array(tmp_path / name)
        assert "pickle" not in str(caught.value)
