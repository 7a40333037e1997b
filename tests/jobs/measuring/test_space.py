"""Measuring in the classifier's top layer, and what is computed beside the pairs."""

import errno
import fcntl
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from ganlab.pairs.closest import pairs_within
from ganlab.quality.embedding import ClassifierSettings
from ganlab.quality.embeddings.names import folder_name
from ganlab.quality.frechet import Moments, frechet_distance
from ganlab.quality.manifold import manifold_scores
from ganlab.quality.scores import real_side
from ganlab.statistics.modes import heavy_modes
from ganlab.statistics.support import degrees_of
from jobs.measuring import measure as measuring
from jobs.measuring import space as space_module
from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, Snapshot, measure_sweep
from jobs.measuring.space import embed, sweep_space
from jobs.report.results_json import results_json
from jobs.report.table import build_table
from jobs.spec.sweep import SpecError
from jobs.training.plan import shard_plan
from jobs.training.tune import register
from storage.outcome import Outcome, write_outcome
from storage.reference import read_reference
from storage.samples import Samples
from storage.shards import ShardWriter, create_samples
from tests.ganlab.networks import traced


def sampled(prepared, **collisions):
    """A sweep on labelled digits whose one trial is complete: noisy copies of 40 training images."""
    layout, spec = prepared(
        model={"family": "known-support", "pool": 40},
        train={"steps": 6},
        seeds=1,
        collisions={"sample_sizes": [10, 100], "quality_faults": [], **collisions},
        labelled=True,
    )
    (trial,) = spec.trials()
    register(layout, trial, {"seed": 0})
    own, reference = layout.trial(trial.id), read_reference(layout).images
    plan = shard_plan(trial, reference.shape[1:])
    create_samples(own, plan)
    for shard in plan.shards:
        rng = np.random.default_rng(shard.index)
        images = reference[rng.integers(0, 40, shard.stop - shard.start)].astype(np.int16)
        noisy = np.clip(images + rng.integers(-1, 2, images.shape), 0, 255).astype(np.uint8)
        ShardWriter(own, plan).write(shard.index, noisy)
    write_outcome(own, Outcome("completed", trial.train.steps))
    return layout, spec, trial


def quiet(done: float, total: float, tiles_left: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def quick(monkeypatch):
    """A classifier that is trained in a second."""
    train = space_module.train_classifier
    settings = ClassifierSettings(least_steps=150, epochs=1, batch_size=32)
    monkeypatch.setattr(
        space_module, "train_classifier", lambda *images, **options: train(*images, settings, **options)
    )


def measure_and_answer(layout, spec):
    measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, quiet), spec.trials())
    write_answers(layout, spec, spec.trials(), measured.real)
    return measured, xr.open_zarr(layout.results).load()


def records(layout):
    return {path.relative_to(layout.pairs): path.read_bytes() for path in layout.pairs.rglob("*.npz")}


@pytest.mark.usefixtures("quick")
def test_distances_in_the_classifiers_top_layer(prepared, monkeypatch) -> None:
    layout, spec, trial = sampled(prepared, embedding="classifier")
    measured, results = measure_and_answer(layout, spec)
    space = sweep_space(layout, "classifier")
    own = layout.in_space("classifier")
    features = space.classifier.features(Samples(layout.trial(trial.id)).read(300, 900))
    pairs = pairs_within(features, float(np.sqrt(measured.real.chosen.squared)))
    last = results.isel(trial=0, snapshot=-1)
    assert int(last.duplicates) == len(pairs) > 100
    assert 25 < float(last.support_size) < 45  # to the classifier some of the 40 are one
    np.testing.assert_allclose(last.flagged_distance.values, np.sqrt(pairs.squared_distance[:20]), rtol=1e-12)
    assert float(last.fidelity_ratio) < 0.5
    assert 0.5 < float(results.embedding_accuracy) <= 1
    assert results.attrs["embedding"] == "classifier"
    # Nothing is trained, computed or compared again; and neither tiles nor blocks change a bit of the records.
    before = records(own)
    monkeypatch.setattr(space_module, "train_classifier", None)
    monkeypatch.setattr(measuring, "embed", lambda space, wanted, map: embed(space, wanted, None))  # type: ignore[arg-type]
    assert measure_sweep(MeasureContext(layout, spec.collisions, 2**30, None, quiet), spec.trials()).damaged == {}
    own.pair_record(trial.id, 6).unlink()
    monkeypatch.setattr("jobs.measuring.comparison.choose_tile_images", lambda *arguments: 70)
    measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, quiet), spec.trials())
    assert before == records(own)
    assert not layout.pair_record(trial.id, 6).exists()  # those of pixels are elsewhere


def test_scores_and_modes_are_in_the_results(prepared) -> None:
    layout, spec, trial = sampled(prepared, threshold=32)
    _, results = measure_and_answer(layout, spec)
    last, real = results.isel(trial=0, snapshot=-1), read_reference(layout).images
    images = Samples(layout.trial(trial.id)).read(300, 900)
    some = real_side(lambda start, stop: real[start:stop], 300, 300, 32.0)
    scores = manifold_scores(some.images, images[:300])
    assert int(last.scored_images) == 300
    for name in ("precision", "recall", "density", "coverage"):
        assert float(last[name]) == getattr(scores, name)
    expected = frechet_distance(*(Moments.create(64).add(each) for each in (images, real)))
    assert np.isclose(float(last.frechet_distance), expected)
    at = results.distance.values.tolist().index(32.0)
    assert np.isclose(float(last.pair_distance_cdf[at]) * last.pairs_compared, last.duplicates)
    assert int(last.pair_distance_cdf_pairs[at]) == 600 * 599 // 2
    assert int(last.pair_distance_cdf_pairs[-1]) == 600 * 599 // 2  # of samples, however few real images there are
    ratio = results.real_pair_distance_cdf[-1] / last.pair_distance_cdf[-1]
    assert np.isclose(float(last.diversity_ratio_at[-1]), float(ratio))
    pairs, of_real = (pairs_within(each, 32.0).index for each in (images, real))
    modes = heavy_modes(pairs, 600, real_degrees=degrees_of(of_real, 300)).modes
    assert int(last.heavy_mode_count) == len(modes) > 0
    assert np.isclose(float(last.published_support), float(last.sample_size_at_half) ** 2)
    assert not bool(last.theorem_applies), "where there are heavy modes"
    content = json.loads(json.dumps(results_json(results, build_table(results))))
    (snapshot,) = content["trials"][0]["snapshots"][1:]
    assert snapshot["support_size"] == float(last.support_size)
    assert snapshot["thresholds"][at]["distance"] == 32.0
    assert len(snapshot["closest"]) == 20
    assert content["settings"][0]["support_size"]["seeds"] == 1
    assert content["real"]["samples"] == 300


def test_each_space_keeps_its_records(prepared) -> None:
    layout, spec, trial = sampled(prepared, embedding="normalised")
    (layout.root / "net.pt").write_bytes(traced(lambda x: x.flatten(1)[:, :64] * 2))
    networks = str(layout.root / "net.pt")
    found = {}
    for setting in ("normalised", networks, "pixels", "normalised"):
        other = spec.collisions.model_copy(update={"embedding": setting})
        own = spec.model_copy(update={"collisions": other})
        measured = measure_sweep(MeasureContext(layout, other, 2**30, map, quiet), [trial])
        write_answers(layout, own, [trial], measured.real)
        with xr.open_zarr(layout.results, chunks=None) as results:
            numbers = (float(results.threshold), results.attrs["embedding"], results.attrs["embedding_fingerprint"])
        assert found.setdefault(setting, numbers) == numbers
    assert [name for _, name, _ in found.values()] == ["normalised", "net.pt", "pixels"]
    assert len({threshold for threshold, _, _ in found.values()}) == 3
    for setting in found:
        assert layout.in_space(folder_name(setting)).real_neighbours.exists()


def test_a_classifier_needs_labels(prepared) -> None:
    layout, spec = prepared(collisions={"embedding": "classifier", "sample_sizes": [10]})
    with pytest.raises(SpecError, match=r"classifier needs labelled real images: .*without labels.*pixels"):
        measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, quiet), spec.trials())


@pytest.mark.usefixtures("quick")
def test_damaged_features_are_named(prepared) -> None:
    layout, spec, trial = sampled(prepared, embedding="classifier")
    measure_and_answer(layout, spec)
    own = layout.in_space("classifier")
    (own.features(trial.id, 6) / "c.0.0").unlink()
    settings = spec.collisions.model_copy(update={"flagged": 7})  # other records, of the same features
    damaged = measure_sweep(MeasureContext(layout, settings, 2**30, map, quiet), spec.trials()).damaged
    assert set(damaged) == {Snapshot(trial.id, 6)}
    assert "delete" in str(damaged[Snapshot(trial.id, 6)])


@pytest.mark.parametrize("locks", [True, False])
def test_two_commands_that_need_the_same_features_compute_them_once(prepared, monkeypatch, locks: bool) -> None:
    layout, spec, _ = sampled(prepared, embedding="normalised")
    run, computed, both = space_module._run, [], threading.Barrier(2)

    def slow(task):
        computed.append((type(task.images.source), task.images.first, task.start))
        time.sleep(0.2)
        return run(task)

    def command(context: MeasureContext):
        both.wait()
        return measure_sweep(context, spec.trials())

    monkeypatch.setattr(space_module, "_run", slow)
    if not locks:  # then each computes what it needs, and neither harms the other: here one after the other
        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no locks")))
        both = threading.Barrier(1)
    context = MeasureContext(layout, spec.collisions, 2**30, map, quiet)
    with ThreadPoolExecutor(2 if locks else 1) as pool:
        measured = [each.result() for each in [pool.submit(command, context) for _ in range(2)]]
    assert [each.damaged for each in measured] == [{}, {}]
    assert len(computed) == len(set(computed)) > 1
