"""Measuring a sweep: exact counts, bound to the images; answers that follow from the records."""

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from ganlab.support import estimate
from jobs import measure as measuring
from jobs.answers import write_answers
from jobs.measure import REFERENCE, Snapshot, measure_snapshots, real_neighbours_of, threshold_of, unmeasured
from jobs.pipeline import measure_path
from jobs.spec import SpecError
from jobs.sweep import register
from jobs.trial import run_trial
from storage.pair_records import read_pair_record
from storage.samples import DamagedShardError, Samples

POOL = {"model": {"family": "known-support", "pool": 40}, "train": {"steps": 6}}


@pytest.fixture
def sampled(prepared):
    """A sweep whose one trial is complete: 300 images at step 5, 600 at step 6."""
    layout, spec = prepared(**POOL, seeds=1)
    (trial,) = spec.trials()
    register(layout, trial, {"seed": 0})
    assert run_trial(layout.root, trial, lambda row: None).status == "completed"
    return layout, spec, trial


def measure(layout, spec, memory_bytes=2**30, threshold_squared=32**2):
    wanted = unmeasured(layout, spec.trials(), spec.collisions, threshold_squared)
    if wanted:
        measure_snapshots(
            layout, wanted, spec.collisions, threshold_squared, memory_bytes, map, lambda done, total: None
        )
    return wanted


def brute_force(images: np.ndarray, squared: int) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.int64)
    distances = ((flat[:, None] - flat[None]) ** 2).sum(2)
    first, second = np.triu_indices(len(flat), 1)
    kept = distances[first, second] <= squared
    return np.stack([first[kept], second[kept]], 1)


def test_records_equal_brute_force(sampled) -> None:
    layout, spec, trial = sampled
    wanted = measure(layout, spec)
    assert set(wanted) == {Snapshot(REFERENCE, 0), Snapshot(trial.id, 5), Snapshot(trial.id, 6)}
    samples = Samples(layout.trial(trial.id))
    record = read_pair_record(layout, trial.id, 6, wanted[Snapshot(trial.id, 6)])
    pairs = brute_force(samples.read(300, 900), 32**2)
    assert len(pairs) > 1000
    np.testing.assert_array_equal(record.degrees, np.bincount(pairs.ravel(), minlength=600))
    assert record.pairs_compared == 600 * 599 // 2
    assert {tuple(pair) for pair in record.listed_index} == {tuple(pair) for pair in pairs}


def test_tiles_of_any_size_give_the_same_record(sampled, monkeypatch) -> None:
    layout, spec, trial = sampled
    wanted = measure(layout, spec)
    path = layout.pair_record(trial.id, 6)
    whole = path.read_bytes()
    monkeypatch.setattr(measuring, "choose_tile_images", lambda *arguments, **options: 70)
    monkeypatch.setattr(measuring, "BLOCK", 50)
    path.unlink()
    assert set(measure(layout, spec)) == {Snapshot(trial.id, 6)}
    assert path.read_bytes() == whole
    assert wanted


def test_measuring_again_compares_nothing_and_new_settings_everything(sampled) -> None:
    layout, spec, _ = sampled
    assert len(measure(layout, spec)) == 3
    assert measure(layout, spec) == {}
    assert len(measure(layout, spec, threshold_squared=33**2)) == 3


def test_a_damaged_record_is_made_again(sampled) -> None:
    layout, spec, trial = sampled
    measure(layout, spec)
    path = layout.pair_record(trial.id, 5)
    path.write_bytes(path.read_bytes()[:-100])
    assert set(measure(layout, spec)) == {Snapshot(trial.id, 5)}


def test_a_damaged_shard_is_named(sampled) -> None:
    layout, spec, trial = sampled
    shard = layout.trial(trial.id).shard(1)
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedShardError) as error:
        measure(layout, spec)
    assert error.value.path == shard


def test_answers(sampled) -> None:
    layout, spec, trial = sampled
    real = real_neighbours_of(layout)
    wanted = measure(layout, spec)
    write_answers(layout, spec, spec.trials(), real, 32**2)
    results = xr.open_zarr(layout.results).load()
    record = read_pair_record(layout, trial.id, 6, wanted[Snapshot(trial.id, 6)])
    expected = estimate(record.listed_index, 600)
    last = results.isel(trial=0, snapshot=-1)
    assert float(last.support_size) == expected.size
    assert last.support_size_low <= 40 <= last.support_size_high
    assert last.step == 6
    assert last.status == "completed"
    # Samples are noisy copies of training images: much nearer than held-out real ones, and all inside the manifold.
    assert float(last.fidelity_ratio) < 0.2
    assert float(last.precision) == 1
    assert float(last.support_size_realistic) == expected.size
    distance = np.linalg.norm(
        np.subtract(*Samples(layout.trial(trial.id)).take(last.flagged_index.values[3]).astype(float))
    )
    assert np.isclose(distance, last.flagged_distance.values[3])
    before = {path: path.read_bytes() for path in layout.results.rglob("*") if path.is_file()}
    write_answers(layout, spec, spec.trials(), real, 32**2)
    assert before == {path: path.read_bytes() for path in layout.results.rglob("*") if path.is_file()}


def test_the_automatic_threshold_is_that_of_the_real_images(prepared) -> None:
    layout, spec = prepared()
    real = real_neighbours_of(layout)
    squared = threshold_of(spec.collisions, real)
    assert abs((real.distance**2 <= squared + 0.5).mean() - spec.collisions.real_neighbour_quantile) < 0.01
    assert real_neighbours_of(layout).distance.tolist() == real.distance.tolist()


def test_anyones_samples(folder) -> None:
    random = np.random.default_rng(0)
    pool = random.integers(0, 256, (200, 3, 8, 8), dtype=np.uint8)
    np.save(folder / "samples.npy", pool[random.integers(0, 200, 1500)])
    np.save(folder / "real.npy", pool)
    quiet = Console(quiet=True)
    answer = measure_path(folder / "samples.npy", 3.0, None, None, quiet).as_json()
    assert answer["support_size_low"] <= 200 <= answer["support_size_high"]
    assert answer["pairs_compared"] == 1500 * 1499 // 2
    with_real = measure_path(folder / "samples.npy", None, folder / "real.npy", None, quiet).as_json()
    assert with_real["fidelity_ratio"] == 0
    assert with_real["real"]["samples"] == 200


@pytest.mark.parametrize(
    ("images", "threshold", "said"),
    [
        (np.zeros((1, 3), np.float32), 1.0, "two or more"),
        (np.zeros((5, 3)), 1.0, "got float64; allowed: uint8 images or float32"),
        (np.full((50, 3), np.nan, np.float32), 1.0, "NaN or infinite"),
        (np.zeros((0, 3), np.uint8), 1.0, "at least one item"),
        (np.zeros((5, 3), np.uint8), None, "give --threshold"),
    ],
)
def test_samples_that_cannot_be_measured(folder, images, threshold, said) -> None:
    np.save(folder / "bad.npy", images)
    with pytest.raises(SpecError, match=said):
        measure_path(folder / "bad.npy", threshold, None, None, Console(quiet=True))


def test_a_collapsed_sample_is_an_answer(folder) -> None:
    np.save(folder / "same.npy", np.full((500, 1, 8, 8), 7, np.uint8))
    answer = measure_path(folder / "same.npy", 0.0, None, None, Console(quiet=True)).as_json()
    assert answer["support_size"] == 1
    assert answer["largest_mode_mass"] == 1
