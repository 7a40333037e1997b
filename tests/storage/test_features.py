"""Features and scores beside the pair records: whole or absent, bound to their fingerprint, checked when read."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from storage.features import CHUNK_ROWS, read_features, read_record, write_features, write_record
from storage.samples import DamagedShardError

COUNT = 2 * CHUNK_ROWS + 100


@pytest.fixture
def values() -> np.ndarray:
    made = np.random.default_rng(0).normal(size=(COUNT, 5)).astype(np.float32)
    made[:CHUNK_ROWS] = 0  # a chunk of zeros is no missing chunk
    return made


def blocks(values: np.ndarray):
    for start in (CHUNK_ROWS, 2 * CHUNK_ROWS, 0):  # in any order
        yield start, values[start : start + CHUNK_ROWS]


def test_what_is_written_is_read_by_ranges(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "pairs of ü" / "step.features.zarr"
    write_features(path, values.shape, "name", blocks(values))
    found = read_features(path, "name")
    assert found is not None
    assert (found.shape, found.dtype) == (values.shape, np.float32)
    for reader in (found, pickle.loads(pickle.dumps(found))):
        np.testing.assert_array_equal(reader.read(1000, 1050), values[1000:1050])
    np.testing.assert_array_equal(found.read(0, COUNT), values)
    assert found.read(7, 7).shape == (0, 5)
    assert read_features(path, "another name") is None
    assert read_features(tmp_path / "nothing", "name") is None
    with pytest.raises(ValueError, match="has 0 to"):
        found.read(0, COUNT + 1)


def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "features.zarr"
    write_features(path, values.shape, "old", blocks(values))

    def killed():
        yield 0, values[:CHUNK_ROWS] + 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(path, values.shape, "new", killed())
    found = read_features(path, "old")
    assert found is not None
    np.testing.assert_array_equal(found.read(0, COUNT), values)


def test_damage_is_found(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "features.zarr"
    found = write_features(path, values.shape, "name", blocks(values))
    chunk = path / "c.1.0"
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(DamagedShardError, match="delete"):
        found.read(CHUNK_ROWS, CHUNK_ROWS + 1)
    np.testing.assert_array_equal(found.read(0, 10), values[:10])
    (path / "c.0.0").unlink()
    with pytest.raises(DamagedShardError, match="missing"):
        found.read(0, 10)


def test_records_belong_to_their_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "pairs" / "scores.npz"
    assert read_record(path, "name") is None
    write_record(path, "name", distances=np.arange(3.0), frechet=1.5)
    found = read_record(path, "name")
    assert found is not None
    assert found["distances"].tolist() == [0, 1, 2]
    assert found["frechet"].item() == 1.5
    assert "fingerprint" not in found
    assert read_record(path, "other") is None
    path.write_bytes(path.read_bytes()[:-30])
    assert read_record(path, "name") is None
