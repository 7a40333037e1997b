"""What `ganlab submit` does on this side of SLURM; the rest is tested on a real one, in tests/slurm."""

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from cluster import checks, scheduler, slurm
from cluster.rendezvous import ClusterFolder, Head, WorkerState, write_head, write_worker
from cluster.scheduler import Submission, write_submission
from jobs.cli import pipeline
from jobs.cli.cluster_file import load_site
from jobs.cli.pipeline import check_unused
from jobs.cli.submit import (
    PACKAGES,
    cancel_sweep,
    check_fits,
    copy_code,
    held,
    submit_sweep,
    trials_on,
    unused_gpus,
    unused_kinds,
    with_nodes,
    workers_for,
    workers_now,
)
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
        env={**os.environ, "PYTHONPATH": str(layout.code)},
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert told.stdout.count(str(layout.code)) == len(PACKAGES)
    left = layout.code / "jobs" / "left_from_before.py"
    left.touch()
    copy_code(layout)
    assert not left.exists()
    assert not list(layout.code.rglob("__pycache__"))
    assert list(layout.code.glob("jobs/sweeps/*.yaml"))


def nodes_of(kinds) -> int:
    return sum(kind.nodes for kind in kinds)


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


def test_no_more_workers_than_the_trials_left_can_use(prepared, site) -> None:
    where = load_site(site)  # three nodes of two GPUs
    _, spec = prepared(resources={"gpus_per_trial": 1}, seeds=12)
    assert [nodes_of(workers_for(spec, where, left)) for left in (0, 1, 2, 3, 4, 5, 12)] == [1, 1, 1, 2, 2, 3, 3]
    train = {"steps": 12, "batch_size": 8, "workers": 4}
    _, spec = prepared(train=train, resources={"gpus_per_trial": 4, "cpus_per_trial": 4})
    assert nodes_of(workers_for(spec, where, 1)) == 2  # one trial over two nodes


@pytest.mark.parametrize("embedding", ["pixels", "normalised"])
def test_trials_that_are_done_start_no_workers(prepared, site, embedding: str) -> None:
    layout, spec = prepared(
        resources={"gpus_per_trial": 2}, seeds=3, collisions={"embedding": embedding, "sample_sizes": [10, 100]}
    )
    assert nodes_of(workers_now(spec, load_site(site), layout)) == 3
    for trial in spec.trials()[:2]:
        own = layout.trial(trial.id)
        own.root.mkdir(parents=True)
        write_outcome(own, Outcome("stopped", step=12))
        record = layout.in_space(embedding).pair_record(trial.id, trial.train.steps)
        record.parent.mkdir(parents=True)
        record.touch()
        assert nodes_of(workers_now(spec, load_site(site), layout)) == 3 - spec.trials().index(trial) - 1
    record.unlink()  # it is still to be measured
    assert nodes_of(workers_now(spec, load_site(site), layout)) == 2


def test_hours_that_the_jobs_hold(prepared, no_slurm, site, folder) -> None:
    layout, spec = prepared(resources={"gpus_per_trial": 0.5, "cpus_per_trial": 1}, seeds=12)
    costs = held(spec, load_site(site))
    assert (costs.gpu_hours, costs.cpu_hours) == (6, 12 + 2)  # the controller has two CPUs
    assert (costs.unused_gpus, costs.unused_cpus) == (0, 0)
    assert costs.words.startswith("at most 6.0 GPU-hours and 14.0 CPU-hours, by 3 workers of 60 min; ")
    _, spec = prepared(resources={"gpus_per_trial": 1, "cpus_per_trial": 3})
    one = held(spec, with_nodes(load_site(site), {"": 1}))
    assert "trials leave 1 GPUs and 1 CPUs of each worker unused" in one.words
    plan = call("plan", layout.spec, "--cluster", site, "--no-timing", "--out", folder / "out")
    assert "at most 2.0 GPU-hours and 6.0 CPU-hours, by 1 workers" in plan.stdout


KINDS = {
    "time_min": 60,
    "workers": [
        {"name": "gpu", "nodes": 2, "gpus_per_node": 2, "cpus_per_node": 4},
        {"name": "cpu", "nodes": 3, "cpus_per_node": 16, "time_min": 30},
        {"name": "part", "nodes": 4, "gpus_per_node": 1, "gpu_type": "1g.10gb", "cpus_per_node": 1},
    ],
}


@pytest.fixture
def several(site: Path) -> Path:
    """A site with three kinds of worker."""
    site.write_text(yaml.safe_dump(KINDS))
    return site


def counts(kinds) -> dict[str, int]:
    return {kind.name: kind.nodes for kind in kinds}


@pytest.mark.parametrize(
    ("resources", "at_a_time", "wanted"),
    [
        ({"gpus_per_trial": 1}, 8, {1: (1, 0, 0), 3: (2, 0, 0), 5: (2, 0, 1), 99: (2, 0, 4)}),
        ({"gpus_per_trial": 0.4}, 12, {4: (1, 0, 0), 5: (2, 0, 0), 9: (2, 0, 1)}),  # two on a GPU, not two and a half
        ({"gpus_per_trial": 2}, 2, {1: (1, 0, 0), 99: (2, 0, 0)}),
        ({"gpus_per_trial": 1, "cpus_per_trial": 2}, 4, {4: (2, 0, 0), 5: (2, 0, 0)}),
        ({}, 60, {8: (2, 0, 0), 9: (2, 1, 0), 99: (2, 3, 4)}),
        ({"cpus_per_trial": 8}, 6, {1: (0, 1, 0), 5: (0, 3, 0)}),
    ],
)
def test_trials_go_to_the_kinds_that_hold_them_the_first_ones_first(
    prepared, several, resources, at_a_time, wanted
) -> None:
    _, spec = prepared(resources=resources)
    kinds = load_site(several)
    check_fits(spec, kinds, several)
    assert trials_on(spec, kinds) == at_a_time
    for trials, nodes in wanted.items():
        assert tuple(counts(workers_for(spec, kinds, trials)).values()) == nodes, trials


def test_a_kind_that_no_trial_fits_on_is_named(prepared, several) -> None:
    _, spec = prepared(resources={"gpus_per_trial": 1})
    kinds = load_site(several)
    assert unused_kinds(spec, kinds, "f") == "f: no trial fits on workers cpu, so none of them is started"
    _, spec = prepared()
    assert unused_kinds(spec, kinds, "f") is None
    assert "the GPUs of each worker (gpu, part) in f will be idle" in str(unused_gpus(spec, kinds, "f"))


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"gpus_per_trial": 3}, r"gpus_per_trial: got 3, .* has at most gpus_per_node = 2; allowed: at most 2"),
        ({"cpus_per_trial": 32}, r"cpus_per_trial: got 32, .* has at most cpus_per_node = 16; allowed: at most 16"),
        (
            {"gpus_per_trial": 1, "cpus_per_trial": 8},
            r"gpus_per_trial: got 1, so a trial needs 1 GPUs and 8 CPUs, but no kind of worker of .* has both "
            r"\(gpu 2 and 4, cpu 0 and 16, part 1 and 1\)",
        ),
    ],
)
def test_trials_that_fit_on_no_kind_are_refused(prepared, several, resources, said) -> None:
    _, spec = prepared(resources=resources)
    with pytest.raises(SpecError, match=said) as refused:
        check_fits(spec, load_site(several), several)
    assert len(str(refused.value).splitlines()) == 1


def test_a_trial_of_several_workers_lies_on_several_kinds(prepared, several) -> None:
    train = {"steps": 12, "batch_size": 8, "workers": 8}
    _, spec = prepared(train=train, resources={"gpus_per_trial": 8, "cpus_per_trial": 8})
    kinds = load_site(several)
    assert trials_on(spec, kinds) == 1
    assert counts(workers_for(spec, kinds, 1)) == {"gpu": 2, "cpu": 0, "part": 4}


def test_hours_of_each_kind(prepared, several, no_slurm, folder) -> None:
    layout, spec = prepared(resources={"gpus_per_trial": 1, "cpus_per_trial": 1}, seeds=6)
    costs = held(spec, workers_for(spec, load_site(several), 6))
    assert (costs.workers, costs.gpu_hours, costs.cpu_hours) == (4, 2 * 2 + 2 * 1, 2 * 4 + 2 * 1 + 2)
    assert costs.words == (
        "at most 6.0 GPU-hours and 12.0 CPU-hours, by 2 gpu workers of 60 min and 2 part workers of 60 min; with work "
        "left they run again; trials leave 2 CPUs of each gpu worker unused"
    )
    plan = call("plan", layout.spec, "--cluster", several, "--no-timing", "--out", folder / "out", "--json")
    told = json.loads(plan.stdout)
    assert [(kind["kind"], kind["workers"]) for kind in told["held"]["kinds"]] == [("gpu", 2), ("part", 2)]
    assert list(told["scripts"]) == ["controller", "workers gpu", "workers part"]
    assert "no trial fits on workers cpu" in plan.stderr


@pytest.mark.process
def test_the_status_names_each_kind_of_worker(prepared, folder, monkeypatch) -> None:
    layout, _ = prepared()
    asked, kinds = {"gpu": 2, "cpu": 3, "none": 0}, {"42": "gpu", "43": "cpu"}
    jobs = Submission("ganlab-x", "41", ("42", "43"), 5, "login1", "ada", "2026-01-02", asked=asked, kinds=kinds)
    write_submission(layout.cluster, jobs)
    write_head(layout.cluster, Head("41", 0, 1, "running", host="n1"))
    write_worker(layout.cluster, WorkerState("42_0", 0, "n1", "joined", kind="gpu"))
    lines = "41|RUNNING", "42_0|RUNNING", "42_1|PENDING", "43_[0-2]|PENDING"
    queued = "; ".join(f"echo '{line}|Resources|n1|1:00|2026-01-02T03:04:05'" for line in lines)
    scheduler_says(folder, monkeypatch, squeue=queued)
    text = call("status", layout.root).stdout
    assert "workers gpu (jobs 42): 1 joined, 1 queued (Resources) of 2" in text
    assert "workers cpu (jobs 43): 3 queued (Resources) of 3" in text
    assert "none" not in text


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


@pytest.mark.process
def test_a_sweep_that_another_command_submits_meanwhile_is_left_alone(prepared, site, folder, monkeypatch) -> None:
    """While this one reads the images; SLURM would refuse its jobs, too."""
    layout, spec = SweepLayout(folder / "out"), prepared()[1]
    scheduler_says(folder, monkeypatch, squeue="echo '41|RUNNING|None|n1|1:00|2026-01-02T03:04:05'")
    for name in ("check_site", "check_shared", "tiny_memory"):
        monkeypatch.setattr(checks, name, lambda *_: None)
    read = pipeline.check_folder

    def reading(*arguments):
        dataset = read(*arguments)
        pipeline.prepare_folder(spec, layout, dataset)
        submitted(layout)
        return dataset

    def refused(*_):
        raise scheduler.RefusedError("sbatch refuses: QOSMaxSubmitJobPerUserLimit")

    monkeypatch.setattr(pipeline, "check_folder", reading)
    monkeypatch.setattr(slurm, "submit", refused)
    with pytest.raises(SweepBusyError, match="in use by SLURM jobs 41"):
        submit_sweep(spec, site, layout, Console())
    assert layout.reference.exists()
    monkeypatch.setattr(pipeline, "check_folder", read)
    other = SweepLayout(folder / "other")
    with pytest.raises(scheduler.RefusedError):
        submit_sweep(spec, site, other, Console())
    assert not other.root.exists()


@pytest.mark.process
def test_a_full_disk_keeps_nobody_from_cancelling(prepared, folder, monkeypatch) -> None:
    layout, _ = prepared()
    submitted(layout, "running")
    asked = scheduler_says(
        folder, monkeypatch, squeue="echo '41|RUNNING|None|n1|1:00|2026-01-02T03:04:05'", scancel="exit 0"
    )
    monkeypatch.setattr(Path, "touch", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    assert cancel_sweep(layout).unknown == ""
    assert "scancel --quiet --name=ganlab-x --user=ada" in asked.read_text()


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


def scheduler_says(folder: Path, monkeypatch: pytest.MonkeyPatch, **answers: str) -> Path:
    """A machine whose commands of SLURM are these shell lines; what they are asked is written to a file."""
    commands = folder / "bin"
    commands.mkdir()
    asked = folder / "asked"
    for name in ("squeue", "scancel", "scontrol", "sinfo"):
        line = answers.get(name, "echo cannot be reached >&2; exit 1")
        (commands / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{asked}"\n{line}\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    return asked


@pytest.mark.process
def test_cancelling_while_slurm_is_away_says_what_ends_and_what_waits(prepared, folder, monkeypatch) -> None:
    layout, _ = prepared()
    submitted(layout, "running")
    scheduler_says(folder, monkeypatch)
    done = call("cancel", layout.root)
    assert done.exit_code == 0, done.output
    assert "cancelled jobs 41, 42" in done.stdout
    (said,) = done.stderr.splitlines()
    assert "cannot be reached" in said
    assert "jobs that run end by themselves" in said
    assert ClusterFolder(layout.cluster).cancelled.exists()


@pytest.mark.process
def test_cancel_ends_every_job_of_the_name(prepared, folder, monkeypatch) -> None:
    """Those too that a controller has submitted since, and could not record."""
    layout, _ = prepared()
    submitted(layout, "running")
    asked = scheduler_says(folder, monkeypatch, squeue="echo '44|RUNNING|None|n1|1:00|2026-01-02T03:04:05'", scancel="")
    done = call("cancel", layout.root)
    assert (done.exit_code, done.stderr) == (0, "")
    assert asked.read_text().splitlines()[-1] == "scancel --quiet --name=ganlab-x --user=ada"


def test_cancelling_what_another_user_submitted(prepared, no_slurm, monkeypatch) -> None:
    layout, _ = prepared()
    submitted(layout, "running")

    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder / "cancelled"))

    monkeypatch.setattr(scheduler, "cancel", denied)
    with pytest.raises(SpecError, match=r"was submitted by ada, and you are .*; allowed: the same user"):
        cancel_sweep(layout)


@pytest.mark.process
def test_the_status_of_a_sweep_that_lost_all_its_jobs_names_the_deaths_and_the_way_on(
    prepared, folder, monkeypatch
) -> None:
    layout, _ = prepared()
    submitted(layout, "running")
    layout.site.write_text(yaml.safe_dump(SITE))
    files = ClusterFolder(layout.cluster)
    files.runs.mkdir()
    (files.runs / "41.0").write_text("node=n1\nbegan=100\nfrom=0\nended=130\ncode=137\nrequeue=refused: disabled\n")
    (files.runs / "42_0.0").write_text("node=n2\nbegan=100\nfrom=0\nended=101\ncode=127\n")
    (files.runs / "42_1.0").write_text("node=n3\nbegan=100\nfrom=0\n")
    layout.logs.mkdir(exist_ok=True)
    (layout.logs / "42_0_0_log.out").write_text("/x/script: line 9: /no/python: No such file or directory\n")
    (layout.logs / "42_1_0_log.out").write_text("slurmstepd: error: *** JOB 4 CANCELLED AT 1 DUE TO PREEMPTION ***\n")
    scheduler_says(folder, monkeypatch, squeue="")
    text = call("status", layout.root).stdout
    assert "controller: job 41, gone: job 41 on n1 killed (SIGKILL) after 30 s; requeue refused: disabled" in text
    assert "runs of jobs that died: 1 killed, 1 its command could not be started, 1 preempted" in text
    assert "job 42_0 on n2 its command could not be started (exit code 127) after 1 s: " in text
    assert str(layout.logs / "42_0_0_log.out") in text
    assert "nodes left out of this sweep: n2 " in text
    assert f"to go on: ganlab submit {shlex.quote(str(layout.spec))} --cluster" in text
    told = json.loads(call("status", layout.root, "--json").stdout)["slurm"]["runs"]
    assert [run["cause"] for run in told] == ["killed", "not_started", "preempted"]


def test_the_status_says_that_the_disk_is_full(prepared, no_slurm, monkeypatch) -> None:
    layout, _ = prepared()
    submitted(layout, "running")
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    said = f"the disk of {layout.root} is full: trials wait, and go on by themselves"
    assert said in call("status", layout.root).stdout
