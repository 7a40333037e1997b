import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.atomic import DamagedError
from storage.layout import SweepLayout
from storage.reference import read_held_out, read_reference, write_reference
from storage.samples import DamagedShardError, Images


@pytest.fixture
def real() -> Images:
    return np.random.default_rng(2).integers(0, 256, (131, 3, 128, 128), dtype=np.uint8)


def test_returns_what_was_written(sweep: SweepLayout, real: Images) -> None:
    labels = np.arange(131, dtype=np.int32) % 10
    write_reference(sweep, real, labels, fingerprint="digits-8")
    reference = read_reference(sweep)
    assert (reference.shape, reference.dtype, reference.fingerprint) == (real.shape, np.uint8, "digits-8")
    np.testing.assert_array_equal(reference.images, real)
    np.testing.assert_array_equal(reference.labels, labels)
    assert reference.labels is not None
    assert reference.labels.dtype == np.int64
    for start, stop in ((0, 0), (0, 131), (60, 70), (130, 131)):
        np.testing.assert_array_equal(reference.read(start, stop), real[start:stop])
    np.testing.assert_array_equal(reference.take([130, 5, 5]), real[[130, 5, 5]])
    sent = pickle.dumps(reference)
    assert len(sent) < 1500
    np.testing.assert_array_equal(pickle.loads(sent).read(1, 3), real[1:3])


def test_several_shards(sweep: SweepLayout) -> None:
    real = np.random.default_rng(3).integers(0, 256, (30, 3, 1024, 1024), dtype=np.uint8)
    write_reference(sweep, real, fingerprint="large")
    reference = read_reference(sweep)
    assert reference.labels is None
    assert reference.shard_images == 21
    np.testing.assert_array_equal(reference.read(19, 23), real[19:23])


def test_writing_again_changes_nothing_and_other_images_are_refused(
    sweep: SweepLayout, real: Images, tree: Callable[[Path], dict[str, bytes]]
) -> None:
    write_reference(sweep, real, fingerprint="a")
    before = tree(sweep.root)
    write_reference(sweep, real, fingerprint="a")
    with pytest.raises(ValueError, match=r"holds other real images .fingerprint a, now b"):
        write_reference(sweep, real[:5], fingerprint="b")
    assert tree(sweep.root) == before


def test_wrong_input_is_refused_and_nothing_is_written(sweep: SweepLayout, real: Images) -> None:
    with pytest.raises(ValueError, match="real images: got float64"):
        write_reference(sweep, real / 255, fingerprint="a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"real images: got uint8 \(0, 3, 128, 128\)"):
        write_reference(sweep, real[:0], fingerprint="a")
    with pytest.raises(ValueError, match="labels"):
        write_reference(sweep, real, np.arange(3), fingerprint="a")
    assert not sweep.root.exists()
    with pytest.raises(ValueError, match="no real images here yet"):
        read_reference(sweep)


def test_damage_is_found_and_named(sweep: SweepLayout, real: Images) -> None:
    write_reference(sweep, real, np.arange(131), fingerprint="a")
    path = sweep.reference / "images" / "c.0.0.0.0"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    reference = read_reference(sweep)
    with pytest.raises(DamagedShardError, match=r"reference\.zarr/images/c\.0\.0\.0\.0.*delete .*reference\.zarr and"):
        reference.read(0, 1)
    path.unlink()
    with pytest.raises(DamagedShardError, match="missing"):
        reference.read(0, 1)
    with pytest.raises(ValueError, match="has 0 to 131"):
        reference.read(0, 132)
    (sweep.reference / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"zarr\.json: damaged"):
        read_reference(sweep)


def test_held_out_images_lie_beside_the_training_images(sweep: SweepLayout, real: Images) -> None:
    write_reference(sweep, real[:100], fingerprint="a", held_out=(real[100:], np.arange(31)))
    held_out = read_held_out(sweep)
    assert held_out is not None
    assert (held_out.shape, held_out.fingerprint) == ((31, 3, 128, 128), "a")
    np.testing.assert_array_equal(held_out.images, real[100:])
    np.testing.assert_array_equal(held_out.labels, np.arange(31))
    np.testing.assert_array_equal(read_reference(sweep).images, real[:100])
    shutil.rmtree(sweep.held_out)
    with pytest.raises(DamagedError, match=r"held_out\.zarr: damaged, expected 31 images"):
        read_held_out(sweep)


def test_a_sweep_may_have_no_held_out_images(sweep: SweepLayout, real: Images) -> None:
    with pytest.raises(ValueError, match="no real images here yet"):
        read_held_out(sweep)
    with pytest.raises(ValueError, match="held-out images: got shape"):
        write_reference(sweep, real, fingerprint="a", held_out=(real[:, :1], None))
    write_reference(sweep, real, fingerprint="a")
    assert read_held_out(sweep) is None
