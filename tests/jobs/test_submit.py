"""What `ganlab submit` does on this side of SLURM; the rest is tested on a real one, in tests/slurm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.rendezvous import ClusterFolder, Head, WorkerState, write_head, write_worker
from cluster.scheduler import Submission, write_submission
from jobs.cli.pipeline import check_unused
from jobs.cli.submit import PACKAGES, cancel_sweep, check_fits, copy_code, load_site, trials_on, unused_gpus
from jobs.spec.sweep import SpecError
from jobs.watching.slurm_view import on_slurm
from storage.attempts import begin_attempt, end_attempt
from storage.layout import SweepLayout
from storage.lock import SweepBusyError, sweep_lock
from storage.outcome import Outcome, write_outcome
from tests.command_line import call

SITE = {"nodes": 3, "gpus_per_node": 2, "cpus_per_node": 4, "time_min": 60}


@pytest.fixture
def site(folder: Path) -> Path:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(SITE))
    return path


@pytest.fixture
def no_slurm(monkeypatch, folder: Path) -> None:
    """A machine that sees the folder but has none of SLURM's commands."""
    monkeypatch.setenv("PATH", str(folder))


def submitted(layout: SweepLayout, state: str | None = None) -> None:
    write_submission(layout.cluster, Submission("ganlab-x", "41", ("42",), 3, "login1", "ada", "2026-01-02T03:04:05"))
    if state is not None:
        write_head(layout.cluster, Head("41", 0, 1, state, host="n1"))


@pytest.mark.process
def test_jobs_run_the_code_of_the_submission_whatever_the_checkout_becomes(prepared, folder) -> None:
    layout, _ = prepared()
    copy_code(layout)
    program = "import sys, jobs.cli.driver, cluster, ganlab, monitoring, storage; print([m.__file__ for m in ({})])"
    told = subprocess.run(
        [sys.executable, "-c", program.format(", ".join(["jobs", "cluster", "ganlab", "monitoring", "storage"]))],
        env={**os.environ, "PYTHONPATH": str(layout.code)}, capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    assert told.stdout.count(str(layout.code)) == len(PACKAGES)
    left = layout.code / "jobs" / "left_from_before.py"
    left.touch()
    copy_code(layout)
    assert not left.exists()
    assert not list(layout.code.rglob("__pycache__"))
    assert list(layout.code.glob("jobs/sweeps/*.yaml"))


def test_what_fits_on_the_site(prepared, site) -> None:
    _, spec = prepared(resources={"gpus_per_trial": 0.5})
    assert trials_on(spec, load_site(site)) == 12
    assert unused_gpus(spec, load_site(site), site) is None
    _, spec = prepared()
    assert "the GPUs of each worker" in str(unused_gpus(spec, load_site(site), site))
    _, spec = prepared(resources={"gpus_per_trial": 3})
    with pytest.raises(SpecError, match=r"resources\.gpus_per_trial: got 3, .*gpus_per_node = 2; allowed: at most 2"):
        check_fits(spec, load_site(site), site)
    train = {"steps": 12, "batch_size": 8, "workers": 8}
    _, spec = prepared(train=train, resources={"gpus_per_trial": 8, "cpus_per_trial": 8})
    with pytest.raises(SpecError, match=r"train\.workers: got 8, which do not fit on the 3 nodes"):
        check_fits(spec, load_site(site), site)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nodes: 3\ntime_min: 60\ngpus_per_nod: 2\n", ["gpus_per_nod", "did you mean gpus_per_node?"]),
        ("time_min: 60\n", ["nodes"]),
        ("nodes: many\ntime_min: 60\n", ["nodes", "many"]),
        ("- nodes\n", ["allowed: a mapping"]),
    ],
)
def test_a_faulty_cluster_file_is_told_in_one_line(site, sweep_file, content, words) -> None:
    site.write_text(content)
    run = call("submit", sweep_file(), "--cluster", site)
    assert run.exit_code == 2
    (line,) = run.stderr.strip().splitlines()
    assert str(site) in line
    for word in words:
        assert word in line, line


def test_without_slurm_submit_names_ganlab_run_and_writes_nothing(no_slurm, site, sweep_file, folder) -> None:
    out = folder / "out"
    run = call("submit", sweep_file(), "--cluster", site, "--out", out)
    assert run.exit_code == 2
    (line,) = run.stderr.strip().splitlines()
    assert "SLURM is not installed" in line
    assert "`ganlab run`" in line
    assert not out.exists()


@pytest.mark.parametrize("state", [None, "starting", "running", "leaving"])
def test_a_machine_without_slurm_leaves_a_submitted_sweep_alone(prepared, no_slurm, state) -> None:
    layout, _ = prepared()
    submitted(layout, state)
    with pytest.raises(SweepBusyError, match="in use by SLURM jobs that may still run"):
        check_unused(layout)


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_submitted_sweep_that_has_ended_is_free(prepared, no_slurm, state) -> None:
    layout, _ = prepared()
    submitted(layout, state)
    check_unused(layout)
    assert on_slurm(layout).holder is None


def test_a_cancelled_sweep_is_free(prepared, no_slurm) -> None:
    layout, _ = prepared()
    submitted(layout, "running")
    ClusterFolder(layout.cluster).cancelled.touch()
    check_unused(layout)


def test_cancelling_what_was_never_submitted(prepared) -> None:
    layout, _ = prepared()
    with pytest.raises(SpecError, match="was not submitted to SLURM"):
        cancel_sweep(layout)


def test_plan_shows_the_scripts_and_writes_nothing(no_slurm, site, sweep_file, folder) -> None:
    spec = sweep_file()
    before = sorted(folder.rglob("*"))
    command = ["plan", spec, "--cluster", site, "--no-timing", "--out", folder / "out"]
    plan = call(*command)
    assert plan.exit_code == 0, plan.stderr
    assert "6 at a time" not in plan.stdout  # of one trial
    assert "#SBATCH --gpus-per-node=2" in plan.stdout
    scripts = json.loads(call(*command, "--json").stdout)["scripts"]
    assert list(scripts) == ["controller", "workers"]
    assert sorted(folder.rglob("*")) == before


def test_the_status_of_three_hundred_trials_fits_a_page(prepared, no_slurm) -> None:
    layout, spec = prepared(seeds=300)
    trials = spec.trials()
    for trial in trials[:6]:
        begin_attempt(layout.trial(trial.id))
    for trial in trials[6:9]:
        begin_attempt(layout.trial(trial.id))
        end_attempt(layout.trial(trial.id), "failed", "out of GPU memory")
        write_outcome(layout.trial(trial.id), Outcome("failed", reason="out of GPU memory"))
    for trial in trials[9:200]:
        write_outcome(layout.trial(trial.id), Outcome("stopped", step=7, reason="by the scheduler"))
    submitted(layout, "running")
    for task, state in enumerate(("joined", "joined", "failed")):
        write_worker(
            layout.cluster, WorkerState(f"42_{task}", 0, f"n{task}", state, "starting Ray", "no port", "a.log")
        )
    said = call("status", layout.root, COLUMNS="100")
    assert said.exit_code == 0, said.stderr
    lines = said.stdout.splitlines()
    assert len(lines) < 30
    assert "trials: 191 stopped, 3 failed, 6 running, 100 waiting" in lines
    assert said.stdout.count("out of GPU memory") == 3
    assert "controller: job 41, running" in said.stdout
    assert "2 joined, 1 failed of 3" in said.stdout
    assert "worker 42_2 on n2 failed: starting Ray: no port (log: a.log)" in said.stdout
    assert "whether the jobs still exist is not known: SLURM is not installed here" in said.stdout
    told = json.loads(call("status", layout.root, "--json").stdout)
    assert len(told["trials"]) == 300
    assert told["slurm"]["controller"]["state"] == "running"


def test_a_running_command_keeps_jobs_out(prepared, site, sweep_file) -> None:
    layout, _ = prepared()
    with sweep_lock(layout, "ganlab run here.yaml"), pytest.raises(SweepBusyError, match=r"`ganlab run here\.yaml`"):
        check_unused(layout)
