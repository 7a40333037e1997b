"""Whole sweeps through the command line: answers, resuming, extending, failing.

Invariant: each test has a folder of its own; Ray and Dask are shared.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from storage.attempts import read_attempts
from storage.layout import SweepLayout, TrialLayout
from storage.samples import Samples

TINY = {"family": "dcgan", "latent_dim": 4, "generator_width": 4, "discriminator_width": 4}
OVERFLOWING = {"family": "vae", "latent_dim": 4, "generator_width": 4, "pixel_scale": 1e-25}


def modified(folder: Path) -> dict[str, int]:
    """Time of the last change of every file of samples, by relative name."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.glob("trials/*/samples.zarr/**/*"))}


def rewrite(path: Path, **sections: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))


def test_known_support_is_found(on_clusters, sweep_file, folder) -> None:
    """The whole pipeline on generators whose number of images is known: the interval holds it."""
    spec = sweep_file(
        "known",
        model={"family": "known-support", "pool": {"grid_search": [100, 1000, 10000]}},
        samples={"final_images": 6144},
        collisions={"sample_sizes": [10, 50, 100, 400], "threshold": 32, "quality_faults": []},
    )
    done = on_clusters("run", spec, "--out", folder / "known")
    assert done.exit_code == 0, done.stderr
    results = xr.open_zarr(folder / "known" / "results.zarr").isel(snapshot=-1).load()
    for trial in results.trial.values:
        one = results.sel(trial=trial)
        assert one.support_size_low <= one.pool <= one.support_size_high, str(one.support_size)
        assert int(one.samples) == 6144
        assert int(one.pairs_compared) == 6144 * 6143 // 2
        # The published test and the model must tell the same story.
        model = one.collision_probability_model.values
        assert (one.collision_probability_low.values <= model + 0.05).all()
        assert (one.collision_probability_high.values >= model - 0.05).all()
        # Flagged pairs are what they say: read them back.
        layout = SweepLayout(folder / "known")
        first, second = Samples(layout.trial(str(trial))).take(one.flagged_index.values[0]).astype(float)
        assert np.isclose(np.linalg.norm(first - second), one.flagged_distance.values[0])
    assert "Report:" in done.stdout
    assert (folder / "known" / "report.html").stat().st_size > 10_000


def test_a_sweep_is_planned_run_protected_and_extended(on_clusters, sweep_file, folder) -> None:
    """Plan writes nothing and counts what run makes; another spec is refused; more seeds compute the new trials only."""
    settings = dict(model=TINY, train={"steps": 10}, collisions={"sample_sizes": [10]})
    samples = {"snapshots": [5], "images_per_snapshot": 256, "final_images": 1024}
    spec = sweep_file(**settings, samples=samples, seeds=2)
    before = sorted(folder.rglob("*"))
    plan = json.loads(on_clusters("plan", spec, "--json").stdout)
    assert sorted(folder.rglob("*")) == before

    out = folder / "grown"
    run = on_clusters("run", spec, "--out", out)
    assert run.exit_code == 0, run.stderr
    shards = [path for path in out.glob("trials/*/samples.zarr/images/c*") if path.is_file()]
    assert len(shards) == plan["shards"]
    assert sum(path.stat().st_size for path in shards) == plan["sample_bytes"]
    results = xr.open_zarr(out / "results.zarr")
    assert int(results.pairs_compared.sum()) == plan["pairs"]
    assert {trial["id"] for trial in plan["trials"]} == set(results.trial.values)
    assert plan["trials"][0]["weights"]["discriminator"] == int(results.discriminator_weights[0])

    refused = on_clusters(
        "run", sweep_file(**settings, samples={**samples, "final_images": 2048}, seeds=2), "--out", out
    )
    assert refused.exit_code == 2
    assert "samples.final_images is 1024 there and 2048 here" in refused.stderr

    spec = sweep_file(**settings, samples=samples, seeds=4)
    finished = modified(out)
    again = on_clusters("run", spec, "--out", out)
    assert again.exit_code == 0, again.stderr
    now = modified(out)
    assert {name: now[name] for name in finished} == finished
    assert len(xr.open_zarr(out / "results.zarr").trial) == 4
    assert "all 4 trials are done" in on_clusters("run", spec, "--out", out).stderr


def test_a_failed_trial_fails_alone_says_why_and_reruns_alone(on_clusters, sweep_file, folder) -> None:
    out = folder / "failing"
    spec = sweep_file(
        model={"grid_search": [TINY, OVERFLOWING]},
        train={"steps": 20, "log_every": 5},
        collisions={"sample_sizes": [10]},
    )
    run = on_clusters("run", spec, "--out", out)
    assert run.exit_code == 1
    assert re.search(r"trial vae-\w+ failed: a loss or weight was not finite at step \d+", run.stderr), run.stderr
    assert "Traceback" not in run.stderr
    status = json.loads(on_clusters("status", out, "--json").stdout)
    states = {row["trial"].split("-")[0]: row for row in status["trials"]}
    assert states["dcgan"]["state"] == "completed"
    assert states["vae"]["state"] == "failed"
    assert "not finite" in states["vae"]["reason"]
    results = xr.open_zarr(out / "results.zarr")
    assert dict(zip(results.family.values, results.status.values, strict=True))["vae"] == "failed"
    before = modified(out)
    assert on_clusters("run", spec, "--out", out).exit_code == 1
    completed = f"trials/{states['dcgan']['trial']}/"
    after = modified(out)
    assert {n: t for n, t in after.items() if n.startswith(completed)} == {
        n: t for n, t in before.items() if n.startswith(completed)
    }


LOSES_ITS_LEASE = """
from pathlib import Path

from ganlab.models.families import DCGAN
from storage.lease import LeaseLostError


class Model(DCGAN):
    def step(self, *arguments, **named):
        once = Path(__file__).parent / "lost once"
        if not once.exists():
            once.touch()
            raise LeaseLostError("this trial")
        return super().step(*arguments, **named)
"""


def test_a_lost_lease_does_not_count_against_the_trial(on_clusters, sweep_file, folder) -> None:
    """As where a machine is so busy that no thread of the process runs for many seconds."""
    (folder / "own.py").write_text(LOSES_ITS_LEASE)
    model = {**TINY, "family": "import:own:Model"}
    spec = sweep_file(model=model, train={"steps": 4}, resources={"max_failures": 0}, collisions={"sample_sizes": [10]})
    run = on_clusters("run", spec, "--out", folder / "out")
    assert run.exit_code == 0, run.stderr
    (trial,) = SweepLayout(folder / "out").trials.iterdir()
    first, second = read_attempts(TrialLayout(trial))
    assert first.cause == "node_lost"
    assert first.reason.startswith("this trial: its lease could not be renewed")
    assert second.cause == "completed"


def test_two_commands_on_one_sweep(command, sweep_file, folder) -> None:
    from storage.lock import sweep_lock

    spec = sweep_file()
    with sweep_lock(SweepLayout(folder / "busy"), "ganlab run elsewhere.yaml"):
        # An empty folder with a lock is a sweep that has just been started.
        busy = command("run", spec, "--out", folder / "busy")
    assert busy.exit_code == 2
    assert "in use by `ganlab run elsewhere.yaml` on" in busy.stderr
    assert len(busy.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
def test_optuna_searches_and_resumes(on_clusters, sweep_file, folder, scheduler) -> None:
    search = {"algorithm": "optuna", "trials": 3, "scheduler": scheduler, "grace_steps": 10}
    spec = sweep_file(
        model={**TINY, "discriminator_width": {"choice": [2, 4, 8]}},
        train={"steps": 20, "log_every": 5, "learning_rate": {"loguniform": [1e-4, 1e-2]}},
        search=search,
        samples={"snapshots": [10], "images_per_snapshot": 512, "final_images": 512},
        collisions={"sample_sizes": [10]},
    )
    assert on_clusters("run", spec, "--out", folder / "searched").exit_code == 0
    before = modified(folder / "searched")
    rewrite(spec, search={**search, "trials": 5})
    again = on_clusters("run", spec, "--out", folder / "searched")
    assert again.exit_code == 0, again.stderr
    results = xr.open_zarr(folder / "searched" / "results.zarr")
    assert len(results.trial) == 5
    assert len(set(results.learning_rate.values)) == 5
    assert set(results.status.values) <= {"completed", "stopped"}
    assert before.items() <= modified(folder / "searched").items()


def test_two_data_parallel_workers(on_clusters, sweep_file, folder) -> None:
    """Through Ray Train and gloo; an interrupted run continues to the same samples."""
    spec = sweep_file(
        model=TINY,
        train={"steps": 30, "log_every": 5, "batch_size": 16, "workers": 2},
        collisions={"sample_sizes": [10]},
    )
    samples = []
    for name in ("first", "second"):
        run = on_clusters("run", spec, "--out", folder / name)
        assert run.exit_code == 0, run.stderr
        layout = SweepLayout(folder / name)
        (trial,) = layout.trial_ids()
        samples.append(Samples(layout.trial(trial)).read(0, 512))
    np.testing.assert_array_equal(*samples)


def test_errors_of_the_user_are_one_line_and_write_nothing(command, sweep_file, folder) -> None:
    cases = {
        "unknown key": dict(train={"stps": 5}),
        "width 0": dict(model={**TINY, "discriminator_width": 0}),
        "resolution 48": dict(dataset={"name": "digits", "resolution": 48}),
        "missing path": dict(dataset={"name": "images", "path": "nowhere", "resolution": 8}),
        "awkward counts": dict(
            train={"steps": 9},
            model=TINY,
            samples={"snapshots": [5], "images_per_snapshot": 1999, "final_images": 20011},
        ),
        "one image": dict(dataset={"name": "digits", "resolution": 8, "limit": 1}),
        "little memory": dict(resources={"measure_memory_gb": 0.1}),
        "confidence": dict(collisions={"confidence": 0.5}),
        "no GPU": dict(resources={"gpus_per_trial": 1}),
    }
    for name, sections in cases.items():
        spec = sweep_file(**sections)
        out = folder / "out"
        run = command("run", spec, "--out", out)
        assert run.exit_code == 2, (name, run.stderr)
        assert len(run.stderr.strip().splitlines()) == 1, (name, run.stderr)
        assert str(spec) in run.stderr, name
        assert not out.exists(), name
    plan = command("plan", sweep_file(**cases["awkward counts"]))
    assert plan.exit_code == 2
    assert len(plan.stderr.strip().splitlines()) == 1, plan.stderr
