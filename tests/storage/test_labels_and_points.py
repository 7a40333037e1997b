"""Samples with labels, and points in place of images: written, committed and read like images."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from storage.layout import SweepLayout, TrialLayout
from storage.plan import ShardPlan
from storage.reference import read_reference, write_reference
from storage.samples import DamagedShardError, Samples
from storage.shards import BackgroundWriter, ShardWriter, create_samples

LABELLED = ShardPlan(((10, 4), (20, 8)), (1, 8, 8), shard_images=4, chunk_images=2, labelled=True)
POINTS = ShardPlan(((10, 4), (20, 8)), (2,), shard_images=4, chunk_images=2)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
LABELS = np.array([3, 1, 2, 2, 0, 9, -5, 2**40, 1, 1, 1, 0])
PLANE = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)


@pytest.fixture
def trial(tmp_path: Path) -> TrialLayout:
    return SweepLayout(tmp_path / "a sweep").trial("t")


def fill(trial: TrialLayout, plan: ShardPlan, items: np.ndarray, labels: np.ndarray | None = None) -> Samples:
    create_samples(trial, plan)
    with BackgroundWriter(ShardWriter(trial, plan)) as background:
        for shard in plan.shards:
            background.put(
                items[shard.start : shard.stop],
                shard.index,
                None if labels is None else labels[shard.start : shard.stop],
            )
    return Samples(trial)


def test_labels_lie_beside_their_images(trial: TrialLayout) -> None:
    samples = fill(trial, LABELLED, IMAGES, LABELS)
    np.testing.assert_array_equal(samples.read(3, 9), IMAGES[3:9])
    np.testing.assert_array_equal(samples.labels(3, 9), LABELS[3:9])
    group = zarr.open_group(trial.samples, mode="r")
    np.testing.assert_array_equal(group["label"][:], LABELS)
    np.testing.assert_array_equal(group["images"][:], IMAGES)


def test_without_labels_there_are_none(trial: TrialLayout) -> None:
    plan = ShardPlan(LABELLED.snapshots, (1, 8, 8), shard_images=4, chunk_images=2)
    samples = fill(trial, plan, IMAGES)
    assert samples.labels(0, 12) is None
    assert not (trial.samples / "label").exists()


def test_plans_without_labels_keep_the_name_they_had() -> None:
    """The fingerprint that sweeps on disk already carry."""
    plan = ShardPlan(((10, 4), (20, 8)), (3, 8, 8), shard_images=4, chunk_images=2)
    assert plan.fingerprint == "74a18d462f034862"
    assert plan.fingerprint != ShardPlan(((10, 4), (20, 8)), (3, 8, 8), 4, 2, labelled=True).fingerprint


@pytest.mark.parametrize("labels", [None, LABELS[:3]])
def test_labels_are_asked_for_when_planned(trial: TrialLayout, labels: np.ndarray | None) -> None:
    create_samples(trial, LABELLED)
    with pytest.raises(ValueError, match=r"shard 0: got labels of shape .* expected \(4,\)"):
        ShardWriter(trial, LABELLED).write(0, IMAGES[:4], labels)
    assert Samples(trial).committed == set()


def test_labels_are_refused_when_not_planned(trial: TrialLayout) -> None:
    create_samples(trial, POINTS)
    with pytest.raises(ValueError, match=r"shard 0: got labels of shape \(4,\), expected None"):
        ShardWriter(trial, POINTS).write(0, PLANE[:4], LABELS[:4])


def test_damaged_labels_are_named(trial: TrialLayout) -> None:
    samples = fill(trial, LABELLED, IMAGES, LABELS)
    file = trial.label_shard(1)
    file.write_bytes(file.read_bytes()[:-5] + b"?????")
    with pytest.raises(DamagedShardError, match=r"c\.1"):
        samples.labels(0, 12)
    file.unlink()
    with pytest.raises(DamagedShardError, match=r"c\.1: the file is missing"):
        Samples(trial).labels(4, 5)


def test_points_are_kept_to_the_bit(trial: TrialLayout) -> None:
    samples = fill(trial, POINTS, PLANE)
    assert samples.shape == (12, 2)
    assert samples.dtype == np.float32
    for start in range(12):
        np.testing.assert_array_equal(samples.read(start, 12), PLANE[start:])
    np.testing.assert_array_equal(samples.take([11, 0, 5]), PLANE[[11, 0, 5]])
    array = zarr.open_group(trial.samples, mode="r")["points"]
    assert array.metadata.dimension_names == ("sample", "coordinate")
    np.testing.assert_array_equal(array[:], PLANE)
    assert trial.shard(0, 2).stat().st_size == POINTS.shard_bytes
    trial.shard(2, 2).unlink()
    with pytest.raises(DamagedShardError, match="the file is missing"):
        samples.read(0, 12)


def test_images_are_no_points(trial: TrialLayout) -> None:
    create_samples(trial, POINTS)
    with pytest.raises(ValueError, match=r"got float64 \(4, 2\), expected float32 \(4, 2\)"):
        ShardWriter(trial, POINTS).write(0, PLANE[:4].astype(np.float64))


def test_reference_points_return(tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path)
    write_reference(layout, PLANE, LABELS, fingerprint="f")
    reference = read_reference(layout)
    assert (reference.shape, reference.dtype) == ((12, 2), np.float32)
    np.testing.assert_array_equal(reference.images, PLANE)
    np.testing.assert_array_equal(reference.labels, LABELS)
    write_reference(layout, PLANE, LABELS, fingerprint="f")
    with pytest.raises(ValueError, match="expected uint8"):
        write_reference(SweepLayout(tmp_path / "other"), PLANE.astype(np.float64), fingerprint="f")


def test_xarray_opens_points_and_labels(tmp_path: Path, trial: TrialLayout) -> None:
    layout = SweepLayout(trial.root.parent.parent)
    fill(trial, LABELLED, IMAGES, LABELS)
    fill(layout.trial("points"), POINTS, PLANE)
    write_reference(layout, PLANE, fingerprint="f")
    with xr.open_datatree(layout.root, engine="ganlab") as tree:
        np.testing.assert_array_equal(tree["/trials/t/label"], LABELS)
        np.testing.assert_array_equal(tree["/trials/points/points"], PLANE)
        np.testing.assert_array_equal(tree["/reference/points"][3:7, 1], PLANE[3:7, 1])
