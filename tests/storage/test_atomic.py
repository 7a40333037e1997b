import errno
import json
import os
import pickle
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.atomic import (
    WriteError,
    check_writable,
    read_arrays,
    read_json,
    whole_folder,
    write_arrays,
    write_bytes,
    write_json,
)

RECORD = {"name": "ünï", "shards": [1, 2, 3], "loss": 0.5, "ended": None}


def test_written_bytes_are_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "ü name.bin"
    write_bytes(path, b"old")
    write_bytes(path, b"one ", bytearray(b"two "), np.frombuffer(b"three", np.uint8).data)
    assert path.read_bytes() == b"one two three"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_file_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "f", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_a_reader_never_sees_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_json(path, ["a"] * 5000)
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            write_json(path, ["ab"[number % 2]] * (5000 + 100 * number))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = 0
    while not done.is_set():
        value = read_json(path)
        assert len(set(value)) == 1
        assert len(value) >= 5000
        seen += 1
    thread.join()
    assert seen > 0


def test_a_failed_write_keeps_the_old_content_names_the_file_and_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()  # a folder in the way: the rename fails, after the content was written
    (tmp_path / "f" / "kept").touch()
    with pytest.raises(WriteError, match=r"while writing.*/f'") as failed:
        write_bytes(tmp_path / "f", b"content")
    assert (failed.value.errno, failed.value.filename) == (errno.EISDIR, str(tmp_path / "f"))
    assert isinstance(pickle.loads(pickle.dumps(failed.value)), WriteError), "workers send it to the driver"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]
    write_json(tmp_path / "g", RECORD)
    with pytest.raises(TypeError):
        write_json(tmp_path / "g", object())
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "g", float("nan"))
    assert read_json(tmp_path / "g") == RECORD


def test_half_written_json_is_refused_at_every_length(tmp_path: Path) -> None:
    write_json(tmp_path / "whole.json", RECORD)
    content = (tmp_path / "whole.json").read_bytes()
    for length in range(len(content.rstrip())):
        (tmp_path / "cut.json").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.json: damaged"):
            read_json(tmp_path / "cut.json")


@given(st.binary(max_size=40))
def test_any_bytes_give_json_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        expected = json.loads(content.decode())
    except ValueError:
        with pytest.raises(ValueError, match=r"any\.json: damaged"):
            read_json(path)
    else:
        assert repr(read_json(path)) == repr(expected)


def test_arrays_return_as_they_were_in_the_same_bytes(tmp_path: Path) -> None:
    arrays = {"index": np.arange(6).reshape(3, 2), "distance": np.array([0.5, 1, np.nan]), "none": np.empty((0, 2))}
    write_arrays(tmp_path / "a.npz", **arrays)
    write_arrays(tmp_path / "b.npz", **arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_damaged_arrays_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, index=np.arange(100))
    content = path.read_bytes()
    for length in (0, 1, 50, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.npz: damaged"):
            read_arrays(path)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"a\.npz: damaged"):
        read_arrays(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "missing.npz")


def test_a_folder_appears_whole_or_the_old_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "r ü.zarr"
    for content in ("first", "second"):
        with whole_folder(target) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_text(content)
            assert target.exists() == (content == "second")
        assert (target / "deep" / "file").read_text() == content
    with pytest.raises(WriteError, match="while writing") as failed, whole_folder(target) as folder:
        (folder / "missing" / "file").touch()
    assert failed.value.errno == errno.ENOENT
    assert (target / "deep" / "file").read_text() == "second"
    assert [each.name for each in tmp_path.iterdir()] == [target.name]


def test_whether_a_folder_can_be_made_is_known_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name in ("there", "new", "new/deep/er"):
        check_writable(tmp_path / name)
    for name, kind in (("file", NotADirectoryError), ("file/x", NotADirectoryError), ("a/b/" + "x" * 300, OSError)):
        with pytest.raises(kind):
            check_writable(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
