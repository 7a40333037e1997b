"""The measuring driver's part that needs no cluster: results while others still train."""

import pytest
import xarray as xr

from cluster.site import Site
from jobs.cli.driver import Results
from jobs.training.trial import run_trial
from jobs.training.tune import register
from storage.attempts import begin_attempt

SITE = [Site(nodes=1, time_min=1)]


def finish(layout, trial) -> None:
    register(layout, trial, {"seed": trial.seed})
    run_trial(layout.root, trial, lambda row: None)


@pytest.mark.parametrize("embedding", ["pixels", "normalised"])
def test_what_is_measured_of_a_trial_under_way_is_news(prepared, embedding: str) -> None:
    layout, spec = prepared(seeds=1, collisions={"embedding": embedding, "sample_sizes": [10, 100]})
    (trial,) = spec.trials()
    finish(layout, trial)
    layout.trial(trial.id).outcome.unlink()  # as while it trains
    results = Results(layout, spec, SITE)
    results.update(map, lambda done, total, left: None)
    assert results.due()


def test_early_trials_are_measured_before_the_sweep_ends_and_results_are_not_rewritten_for_each(prepared) -> None:
    layout, spec = prepared(seeds=3)
    first, second, third = spec.trials()
    results = Results(layout, spec, SITE)

    def look(publish: bool = False) -> bool:
        measured = results.update(map, lambda done, total, left: None)
        due = results.due()
        if due or publish:
            results.publish(measured)
        return due

    assert not look()  # the real images are measured: nothing that anybody waits for
    finish(layout, first)
    begin_attempt(layout.trial(third.id))
    assert look()
    with xr.open_zarr(layout.results) as early:
        assert early.support_size.isel(snapshot=-1).notnull().values.tolist() == [True, False, False]
        assert early.status.values.tolist() == ["completed", "waiting", "running"]
    finish(layout, second)
    assert not look()  # so soon after the last edition
    finish(layout, third)
    look(publish=True)
    with xr.open_zarr(layout.results) as whole:
        assert whole.support_size.notnull().all()
        assert set(whole.status.values) == {"completed"}
    assert not look()  # nothing new


def test_a_damaged_shard_is_left_out_and_told(prepared) -> None:
    layout, spec = prepared(seeds=2)
    for trial in spec.trials():
        finish(layout, trial)
    damaged, _ = spec.trials()
    shard = layout.trial(damaged.id).shard(0)
    shard.write_bytes(shard.read_bytes()[:-1])
    results = Results(layout, spec, SITE)
    measured = results.update(map, lambda done, total, left: None)
    assert {snapshot.trial for snapshot in measured.damaged} == {damaged.id}
    assert results.damaged == {damaged.id}
    results.publish(measured)
    with xr.open_zarr(layout.results) as told:
        assert told.support_size.isel(snapshot=0).notnull().values.tolist() == [False, True]
    assert not results.update(map, lambda done, total, left: None).damaged  # not looked at again and again
