import pickle

import numpy as np
import pytest
import xarray as xr

from storage.backend import GanlabBackend
from storage.layout import SweepLayout, TrialLayout
from storage.reference import write_reference
from storage.results import SettingRows, write_results
from storage.samples import DamagedShardError
from storage.shards import Images


@pytest.fixture
def whole(sweep: SweepLayout, complete: TrialLayout, images: Images) -> SweepLayout:
    """A sweep with results, real images, a complete trial and one that has not begun."""
    sweep.spec.write_text("name: x\n")
    (sweep.trials / "not begun").mkdir()
    write_reference(sweep, images[::-1].copy(), np.arange(12), fingerprint="real")
    coords = {"trial": [complete.root.name, "not begun"], "step": [10, 20]}
    write_results(sweep, coords, {"threshold": 3.0}, {}, SettingRows({"setting": [0]}, {"n_trials": [2]}))
    return sweep


def test_the_engine_is_found_by_name_and_by_the_folder(whole: SweepLayout) -> None:
    for dataset in (xr.open_dataset(whole.root, engine="ganlab"), xr.open_dataset(str(whole.root))):
        assert dataset.threshold == 3.0
        assert dataset.trial.size == 2
        dataset.close()


def test_what_is_no_sweep_is_left_to_others(whole: SweepLayout, sweep: SweepLayout) -> None:
    backend = GanlabBackend()
    assert backend.guess_can_open(str(whole.root))
    assert not backend.guess_can_open(whole.results)
    assert not backend.guess_can_open("https://example.org/x.nc")
    assert not backend.guess_can_open(b"bytes")


def test_the_tree_holds_results_real_images_and_samples(whole: SweepLayout, images: Images) -> None:
    with xr.open_datatree(whole.root, engine="ganlab") as found:
        assert set(found.groups) == {"/", "/settings", "/reference", "/trials", "/trials/trial é 1"}
        assert found["settings"].n_trials.values.tolist() == [2]
        np.testing.assert_array_equal(found["reference"].images, images[::-1])
        assert found["reference"].label.values.tolist() == list(range(12))
        trial = found["trials/trial é 1"]
        assert trial.images.dims == ("sample", "channel", "y", "x")
        np.testing.assert_array_equal(trial.images, images)
        assert trial.step.values.tolist() == [10] * 4 + [20] * 8
        np.testing.assert_array_equal(trial.images[np.flatnonzero(trial.step == 20)], images[4:])
        assert set(xr.open_groups(whole.root, engine="ganlab")) == set(found.groups) - {"/trials"}


def test_any_indexing_reads_what_numpy_would(whole: SweepLayout, images: Images) -> None:
    with xr.open_datatree(whole.root, engine="ganlab") as found:
        lazy = found["trials/trial é 1"].images
        for key in (
            3,
            -1,
            slice(2, 9, 3),
            slice(None, None, -1),
            (5, 1),
            (slice(4), 0, slice(2, 5), 7),
            ([3, 3, 0], slice(None), 2),
        ):
            np.testing.assert_array_equal(lazy[key].values, images[key])
        np.testing.assert_array_equal(lazy[[9, 0]][:, [2, 0]].values, images[[9, 0]][:, [2, 0]])
        np.testing.assert_array_equal(lazy.isel(sample=[1, 2], x=[0, 5, 7]).values, images[1:3][..., [0, 5, 7]])


def test_nothing_is_read_before_it_is_used(whole: SweepLayout, complete: TrialLayout, images: Images) -> None:
    complete.shard(2).unlink()
    with xr.open_datatree(whole.root, engine="ganlab") as found:
        lazy = found["trials/trial é 1"].images
        np.testing.assert_array_equal(lazy[:8].values, images[:8])
        with pytest.raises(DamagedShardError, match=r"c\.2\.0\.0\.0"):
            lazy[6:10].values  # noqa: B018


def test_dask_takes_whole_shards_and_other_processes_can_read(whole: SweepLayout, images: Images) -> None:
    with xr.open_datatree(whole.root, engine="ganlab", chunks={}) as found:
        lazy = pickle.loads(pickle.dumps(found["trials/trial é 1"].to_dataset().images))
        assert lazy.chunks[0] == (4, 4, 4)
        np.testing.assert_array_equal(lazy.values, images)


def test_only_complete_snapshots_are_shown(whole: SweepLayout, complete: TrialLayout, images: Images) -> None:
    complete.commit(0).unlink()
    with xr.open_datatree(whole.root, engine="ganlab") as found:
        np.testing.assert_array_equal(found["trials/trial é 1"].images, images[4:])
    complete.commit(2).unlink()
    with xr.open_datatree(whole.root, engine="ganlab") as found:
        assert found["trials/trial é 1"].images.shape == (0, 3, 8, 8)
        assert found["trials/trial é 1"].images.values.shape == (0, 3, 8, 8)


def test_a_sweep_that_has_only_begun(sweep: SweepLayout, complete: TrialLayout) -> None:
    with xr.open_datatree(sweep.root, engine="ganlab", drop_variables="step") as found:
        assert set(found.groups) == {"/", "/trials", "/trials/trial é 1"}
        assert "step" not in found["trials/trial é 1"].to_dataset()
    with pytest.raises(ValueError, match="no results here yet"):
        xr.open_dataset(sweep.root, engine="ganlab")
    with pytest.raises(ValueError, match="no such folder"):
        xr.open_datatree(sweep.root / "missing", engine="ganlab")
