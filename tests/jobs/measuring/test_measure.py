"""Measuring a sweep: exact counts, bound to the images; answers that follow from the records."""

import itertools
import shutil

import numpy as np
import pytest
import xarray as xr
from sklearn.datasets import load_digits

from ganlab.pairs.content import content_order
from ganlab.quality import scores
from ganlab.quality.scores import real_side, score_real
from ganlab.statistics.support import estimate
from jobs.measuring import comparison, near
from jobs.measuring import measure as measuring
from jobs.measuring.answers import write_answers
from jobs.measuring.facts import sample_facts
from jobs.measuring.measure import (
    REFERENCE,
    MeasureContext,
    Snapshot,
    committed,
    measure_snapshots,
    measure_sweep,
    real_images_of,
    unmeasured,
)
from jobs.measuring.measured import MeasuredSnapshot
from jobs.measuring.near import near_pairs
from jobs.report.sweep_table import results_table
from jobs.spec.sweep import CollisionSettings
from jobs.training.plan import shard_plan
from jobs.training.tune import register
from storage.atomic import read_arrays, write_arrays
from storage.layout import SweepLayout
from storage.outcome import Outcome, write_outcome
from storage.pair_records import read_pair_record
from storage.reference import read_reference, write_reference
from storage.samples import DamagedShardError, Samples
from storage.shards import ShardWriter, create_samples

POOL = {"model": {"family": "known-support", "pool": 40}, "train": {"steps": 6}}


@pytest.fixture
def sampled(prepared):
    """A sweep whose one trial is complete: 300 images at step 5, 600 at step 6."""
    layout, spec = prepared(**POOL, seeds=1, collisions={"sample_sizes": [10, 100], "threshold": 32})
    (trial,) = spec.trials()
    draw(layout, trial)
    return layout, spec, trial


def draw(layout, trial, shards=slice(None)) -> None:
    """Write shards of a trial: noisy copies of 40 training images."""
    register(layout, trial, {"seed": 0})
    own, reference = layout.trial(trial.id), read_reference(layout).images
    plan = shard_plan(trial, reference.shape[1:])
    create_samples(own, plan)
    writer = ShardWriter(own, plan)
    for shard in plan.shards[shards]:
        rng = np.random.default_rng(shard.index)
        images = reference[rng.integers(0, 40, shard.stop - shard.start)].astype(np.int16)
        writer.write(shard.index, np.clip(images + rng.integers(-1, 2, images.shape), 0, 255).astype(np.uint8))
    if len(writer.committed()) == len(plan.shards):
        write_outcome(own, Outcome("completed", trial.train.steps))


def quiet(done: float, total: float, tiles_left: int) -> None:
    assert 0 <= done <= total
    assert (tiles_left == 0) == (done == total)


def wanted_of(layout, spec, threshold_squared):
    found = committed(layout, spec.trials(), spec.collisions, threshold_squared)
    return [each for each in found if unmeasured(layout, each)]


def measure(layout, spec, memory_bytes=2**30, threshold_squared=32**2, map=map):
    """Measure what is not measured yet; its fingerprints by snapshot."""
    wanted = wanted_of(layout, spec, threshold_squared)
    damaged = measure_snapshots(
        MeasureContext(layout, spec.collisions, memory_bytes, map, quiet), wanted, threshold_squared
    )
    for error in damaged.values():
        raise error
    return {each.snapshot: each.complete_fingerprint for each in wanted}


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
    monkeypatch.setattr(comparison, "choose_tile_images", lambda *arguments: 70)
    path.unlink()
    assert set(measure(layout, spec)) == {Snapshot(trial.id, 6)}
    assert path.read_bytes() == whole
    assert wanted


def test_measuring_again_compares_nothing_and_new_settings_everything(sampled) -> None:
    layout, spec, _ = sampled
    assert len(measure(layout, spec)) == 3
    assert measure(layout, spec) == {}
    assert len(measure(layout, spec, threshold_squared=33**2)) == 3


def test_workers_learn_of_the_training_images_once_for_all_trials(prepared, monkeypatch) -> None:
    layout, spec = prepared(**POOL, seeds=3, collisions={"sample_sizes": [10, 100], "threshold": 32})
    for trial in spec.trials():
        draw(layout, trial)
    comparison._neighbours_screen.cache_clear()
    searches = []
    monkeypatch.setattr(comparison, "learn_for_neighbours", lambda read, *settings: searches.append(settings))
    measured = [key for key in measure(layout, spec) if key.trial != REFERENCE]
    assert len(measured) == 6
    assert searches == [(300, 1, False)], "once for all sizes of samples, and for themselves"


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


def test_a_damaged_shard_stops_only_its_own_snapshot(sampled) -> None:
    layout, spec, trial = sampled
    shard = layout.trial(trial.id).shard(0)
    shard.write_bytes(shard.read_bytes()[:-7])
    measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, quiet), spec.trials())
    assert measured.damaged.keys() == {Snapshot(trial.id, 5)}
    assert measured.damaged[Snapshot(trial.id, 5)].path == shard
    assert layout.pair_record(trial.id, 6).exists()
    assert layout.pair_record(REFERENCE, 0).exists()
    write_answers(layout, spec, spec.trials(), measured.real)
    results = xr.open_zarr(layout.results).load().isel(trial=0)
    assert np.array_equal(results.pairs_compared, [np.nan, 600 * 599 // 2], equal_nan=True)


def test_a_large_snapshot_is_compared_while_it_is_drawn(prepared, monkeypatch) -> None:
    monkeypatch.setattr(measuring, "BEGIN_IMAGES", 400)
    monkeypatch.setattr("storage.plan._LARGEST_SHARD_IMAGES", 512)
    layout, spec = prepared(**POOL, seeds=1, samples={"snapshots": [], "final_images": 10 * 512})
    (trial,) = spec.trials()
    compared = []
    for shards in (1, 2, 2, 10, 10):  # of 10, of 512 images each
        draw(layout, trial, slice(0, shards))
        seen = []
        wanted = wanted_of(layout, spec, 0)
        watch = lambda *now, seen=seen: seen.append(now[:2])  # noqa: E731
        measure_snapshots(MeasureContext(layout, spec.collisions, 2**30, map, watch), wanted, 0)
        pairs = [total - done for done, total in seen[:1]]
        compared += pairs or [0.0]
        assert layout.pair_record(trial.id, 6).exists() == (shards == 10)
    real = 300 * 299 // 2

    def pairs_of(images: int) -> int:
        return images * (images - 1) // 2 + images * 300

    sizes = [0, 512, 1024, 1024, 5120, 5120]
    assert compared == [
        pairs_of(after) - pairs_of(before) + (real if not before else 0) for before, after in itertools.pairwise(sizes)
    ]
    assert not layout.partial_pairs(trial.id, 6).exists()
    begun = layout.pair_record(trial.id, 6)
    before = begun.read_bytes()
    begun.unlink()
    measure(layout, spec, threshold_squared=0)
    assert begun.read_bytes() == before, "as if it had been compared at once"


def test_answers(sampled) -> None:
    layout, spec, trial = sampled
    real = real_images_of(MeasureContext(layout, spec.collisions, 2**30, map, quiet))
    wanted = measure(layout, spec)
    write_answers(layout, spec, spec.trials(), real)
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
    assert float(last.realistic_share) == 1
    # And none is a held-out image: these are all the training images themselves.
    assert (last.copying, last.held_out_images, last.copied_share_high) == ("copies", 0, 1)
    assert last.copied_share_low > 0.98
    shown = [
        Samples(layout.trial(trial.id)).take(last.copy_index.values.astype(int)),
        read_reference(layout).take(last.copied_index.values.astype(int)),
    ]
    apart = np.linalg.norm(np.subtract(*(images.reshape(8, -1).astype(float) for images in shown)), axis=1)
    np.testing.assert_allclose(apart, last.copy_distance.values)
    assert float(last.copied_times.values[0]) == np.unique(record.neighbour, return_counts=True)[1].max()
    assert float(last.support_size_realistic) == expected.size
    distance = np.linalg.norm(
        np.subtract(*Samples(layout.trial(trial.id)).take(last.flagged_index.values[3]).astype(float))
    )
    assert np.isclose(distance, last.flagged_distance.values[3])
    before = {path: path.read_bytes() for path in layout.results.rglob("*") if path.is_file()}
    write_answers(layout, spec, spec.trials(), real)
    assert before == {path: path.read_bytes() for path in layout.results.rglob("*") if path.is_file()}


def test_settings_are_of_final_snapshots_alone(prepared) -> None:
    collisions = {"sample_sizes": [10, 100], "threshold": 32, "quality_faults": []}
    layout, spec = prepared(**POOL, seeds=2, collisions=collisions)
    whole, damaged = spec.trials()
    for trial in (whole, damaged):
        draw(layout, trial)
    layout.trial(damaged.id).shard(1).write_bytes(b"")  # of its final snapshot; the first is measured
    measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, quiet), spec.trials())
    assert measured.damaged.keys() == {Snapshot(damaged.id, 6)}
    write_answers(layout, spec, spec.trials(), measured.real)
    results = xr.open_zarr(layout.results).load()
    assert results.passes_quality_gate.values.tolist() == [[True, True], [True, False]]
    settings = xr.open_zarr(layout.results, group="settings").load()
    assert settings.family.values.tolist() == ["known-support"]
    assert (settings.n_trials, settings.n_seeds, settings.n_lower_bounds) == (2, 1, 0)
    last = results.isel(snapshot=-1).sel(trial=whole.id)
    for name in ("support_size", "diversity_ratio", "distinct_seen_share", "fidelity_ratio"):
        np.testing.assert_allclose(settings[f"{name}_mean"], [last[name]])
        assert np.isnan(settings[f"{name}_low"]).all()
    assert last.distinct_seen_share == last.distinct_seen / 600
    assert settings.attrs == results.attrs


@pytest.mark.parametrize(("listed", "in_part"), [(200, True), (100_000, False)])
def test_results_say_how_many_samples_the_lists_are_of(sampled, monkeypatch, listed: int, in_part: bool) -> None:
    layout, spec, trial = sampled
    monkeypatch.setattr(comparison, "LISTED", listed)
    real = real_images_of(MeasureContext(layout, spec.collisions, 2**30, map, quiet))
    wanted = measure(layout, spec)
    write_answers(layout, spec, spec.trials(), real)
    last = xr.open_zarr(layout.results).load().isel(trial=0, snapshot=-1)
    record = read_pair_record(layout, trial.id, 6, wanted[Snapshot(trial.id, 6)])
    assert int(last.listed_samples) == record.listed_below
    assert (record.listed_below < 600) == in_part
    assert last.support_size_low <= 40 <= last.support_size_high
    notes = [note for note in results_table(layout).notes if "too many to list" in note]
    assert len(notes) == in_part
    assert [note for note in notes if "of 1 trial are of the first samples" in note] == notes


def test_the_automatic_threshold_is_a_rate_of_real_pairs(prepared) -> None:
    layout, spec = prepared()
    real = real_images_of(MeasureContext(layout, spec.collisions, 2**30, map, quiet))
    images = read_reference(layout).images.reshape(300, -1).astype(np.int64)
    i, j = np.triu_indices(300, 1)
    squared = np.square(images[i] - images[j]).sum(axis=1)
    assert real.chosen.rate == 1e-3  # 44,850 pairs can't show 1e-4: that takes ten pairs
    assert (squared <= real.chosen.squared).sum() == np.ceil(1e-3 * 44_850)
    assert [each.rate for each in real.rates] == [1e-2, 1e-3]
    again = real_images_of(MeasureContext(layout, spec.collisions, 2**30, map, quiet))
    assert (again.chosen, again.rates) == (real.chosen, real.rates)


@pytest.mark.parametrize("held_out", [60, 0])
def test_samples_are_held_against_held_out_images_where_there_are_any(prepared, held_out: int) -> None:
    layout, spec = prepared(collisions={"sample_sizes": [10, 100], "threshold": {"rate": 1e-2}})
    images = read_reference(layout).images
    shutil.rmtree(layout.reference)
    others = (images[:held_out], None) if held_out else None
    write_reference(layout, images[held_out:], fingerprint="real", held_out=others)
    real = real_images_of(MeasureContext(layout, spec.collisions, 2**30, map, quiet))
    every = images.reshape(300, -1).astype(np.float64)
    far = np.linalg.norm(every[:, None] - every[None], axis=2)
    training = far[held_out:, held_out:] + np.diag(np.full(300 - held_out, np.inf))
    np.testing.assert_allclose(real.neighbours.training, training.min(axis=1))
    expected = far[:held_out, held_out:].min(axis=1) if held_out else training.min(axis=1)
    np.testing.assert_allclose(real.neighbours.distance, expected)
    pairs = far[np.triu_indices(300, 1)]
    assert (pairs <= real.chosen.distance + 1e-9).sum() == np.ceil(1e-2 * len(pairs)), "of all real images"
    again = real_images_of(MeasureContext(layout, spec.collisions, 2**30, map, quiet))
    np.testing.assert_array_equal(again.neighbours.distance, real.neighbours.distance)


def facts_of_real(layout, settings, images, labels):
    """Figures of real images, and pairs near the threshold among the first of them, of a sweep without trials."""
    write_reference(layout, images, labels, fingerprint="real")
    (each,) = committed(layout, [], settings, 250**2)
    measure_snapshots(MeasureContext(layout, settings, 2**30, map, quiet), [each], 250**2)
    record = read_pair_record(layout, REFERENCE, 0, each.complete_fingerprint)
    scored = real_side(each.images.read, len(images), 100, 250.0)
    of_real = score_real(each.images.read, len(images), scored.distances)
    measured = MeasuredSnapshot(each.snapshot, each.images, record, 0, each.complete_fingerprint)
    (listed,) = near_pairs(layout, [measured], 300.0, 2**30, map, lambda *done: None).values()
    return record, sample_facts(record, (10, 20), 0.95, labels=labels, scores=of_real), scored, listed


def test_the_order_of_the_real_images_changes_nothing(tmp_path, monkeypatch) -> None:
    stored = load_digits()
    order = np.argsort(stored.target[:500], kind="stable")
    images = np.rint(stored.images[:500, None] * (255 / 16)).astype(np.uint8)[order]
    labels = stored.target[:500][order].astype(np.int64)
    monkeypatch.setattr(comparison, "LISTED", 100)
    monkeypatch.setattr(near, "LISTED", 50)
    monkeypatch.setattr(near, "FIRST_IMAGES", 64)
    monkeypatch.setattr(scores, "MOST_IMAGES", 200)
    shuffled = np.random.default_rng(0).permutation(500)
    settings = CollisionSettings()
    record, facts, scored, listed = facts_of_real(SweepLayout(tmp_path / "sorted"), settings, images, labels)
    _, other, other_scored, other_listed = facts_of_real(
        SweepLayout(tmp_path / "shuffled"), settings, images[shuffled], labels[shuffled]
    )
    assert 50 < facts.listed_samples < 500
    assert len(np.unique(labels[record.numbers[: facts.listed_samples]])) == 10
    assert facts.support == other.support
    assert facts.frequencies == other.frequencies
    assert facts.heavy.rest == other.heavy.rest
    assert [each.support for each in facts.classes] == [each.support for each in other.classes]
    np.testing.assert_array_equal(facts.scores.curve.within, other.scores.curve.within)
    np.testing.assert_array_equal(scored.images, other_scored.images)
    np.testing.assert_array_equal(listed.distance, other_listed.distance)
    assert listed.samples == other_listed.samples < 500
    flat = images.reshape(500, -1).astype(np.int64)
    apart = ((flat[listed.pairs.index[:, 0]] - flat[listed.pairs.index[:, 1]]) ** 2).sum(1)
    np.testing.assert_array_equal(apart, listed.pairs.squared_distance)
    drawn = content_order(lambda start, stop: images[start:stop], 500)[: listed.samples]
    assert set(listed.pairs.index.ravel()) <= set(drawn)


def test_a_record_of_the_first_version_is_good(sampled) -> None:
    layout, spec, trial = sampled
    measure(layout, spec)
    for step in (5, 6):
        path = layout.pair_record(trial.id, step)
        arrays = read_arrays(path)
        assert not len(arrays.pop("order"))
        write_arrays(path, **arrays)
    assert measure(layout, spec) == {}


@pytest.mark.parametrize("of_real", [True, False])
def test_scores_of_another_build_are_made_again_at_the_distances_of_the_real_images(sampled, of_real: bool) -> None:
    layout, spec, trial = sampled
    context = MeasureContext(layout, spec.collisions, 2**30, map, quiet)
    snapshots = [(REFERENCE, 0), (trial.id, 5), (trial.id, 6)]
    real = measure_sweep(context, spec.trials()).real
    write_answers(layout, spec, spec.trials(), real)
    first = xr.open_zarr(layout.results).load()
    path = layout.scores(*snapshots[0 if of_real else 2])
    record = read_arrays(path)
    moved = np.where(record["distances"] > 1.1 * real.chosen.distance + 1, 1.01, 1.0)
    write_arrays(path, **record | {"distances": record["distances"] * moved})

    write_answers(layout, spec, spec.trials(), real)  # as a report of a sweep at work does
    between = xr.open_zarr(layout.results).load()
    if of_real:
        assert "diversity_ratio_at" not in between
    else:
        np.testing.assert_array_equal(np.isnan(between.diversity_ratio_at[0]).all("distance"), [False, True])

    write_answers(layout, spec, spec.trials(), measure_sweep(context, spec.trials()).real)
    last = xr.open_zarr(layout.results).load()
    curves = [read_arrays(layout.scores(*each))["distances"] for each in snapshots]
    np.testing.assert_array_equal(curves, [curves[0]] * 3)
    assert np.isfinite(last.diversity_ratio_at[0, -1]).any()
    if not of_real:
        xr.testing.assert_identical(last, first)


def test_real_scores_without_the_distances_in_use_are_made_again(sampled) -> None:
    layout, spec, _ = sampled
    context = MeasureContext(layout, spec.collisions, 2**30, map, quiet)
    real = measure_sweep(context, spec.trials()).real
    path = layout.scores(REFERENCE, 0)
    before = path.read_bytes()
    record = read_arrays(path)
    write_arrays(path, **record | {"distances": record["distances"] + 0.25})
    measure_sweep(context, spec.trials())
    assert path.read_bytes() == before
    assert np.isin(real.chosen.distance, record["distances"])
