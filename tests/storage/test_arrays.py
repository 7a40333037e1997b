import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.arrays import open_array, open_labels
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
