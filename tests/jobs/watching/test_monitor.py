"""Watching a sweep's folder: what it says, what it says when the folder is damaged, and that it goes on."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import generate_latest
from rich.console import Console

from cluster import runs
from cluster.rendezvous import ClusterFolder, Head, write_head
from cluster.scheduler import Submission, write_submission
from jobs.watching import sweep_watch
from jobs.watching.monitor import Exporter, write_config
from jobs.watching.pairs_view import _collapsed
from jobs.watching.sweep_watch import SweepWatch
from jobs.watching.terminal import view
from monitoring.metrics import ATTEMPT_ENDS, DEATHS, FAILURES, METRICS, TRIAL_STATES, registry
from monitoring.targets import Target
from storage.atomic import read_arrays, write_arrays
from storage.attempts import Cause, end_attempt
from storage.layout import SweepLayout
from storage.lock import sweep_lock
from storage.outcome import Failure, Outcome, read_outcome, write_outcome
from storage.reference import read_reference
from storage.trial_state import TrialState
from storage.verdicts import Verdict, append_verdict
from storage.watch import PairCounts
from tests.command_line import call
from tests.monitoring.simulated import simulated
from tests.waiting import until


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    """Eight trials, two in each state; three workers."""
    return simulated(tmp_path_factory.mktemp("a sweep's  ünïcode folder") / "sweep", trials=8, workers=3)


@pytest.fixture
def sweep(original: SweepLayout, tmp_path: Path) -> SweepLayout:
    """A copy to damage."""
    return SweepLayout(Path(shutil.copytree(original.root, tmp_path / "sweep")))


def test_the_likely_speed_of_measuring_is_that_of_the_demo_in_units_of_this_machine(
    sweep: SweepLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The demo: 66 million pairs of 1,024 values in 93 s, of a core with 83 G multiplications a second.
    monkeypatch.setattr(sweep_watch, "_products_per_second", lambda: 2 * 83e9)
    values = np.prod(read_reference(sweep).shape[1:])
    assert SweepWatch(sweep)._likely_rate == pytest.approx(2 * 65.98e6 / 93 * 1024 / values, rel=0.01)


def first_in_state(layout: SweepLayout, state: str) -> str:
    outcomes = {each: layout.trial(each).outcome for each in layout.trial_ids()}
    return next(each for each, path in outcomes.items() if path.exists() and state in path.read_text())


def test_points_are_shards_too(sweep: SweepLayout) -> None:
    before = SweepWatch(sweep).look()
    for trial_id in sweep.trial_ids():
        if (images := sweep.trial(trial_id).samples / "images").exists():
            images.rename(images.with_name("points"))
    new = SweepWatch(sweep).look()
    assert new.get("ganlab_shards", "committed") == before.get("ganlab_shards", "committed")
    assert new.get("ganlab_shards", "damaged") == before.get("ganlab_shards", "damaged") == 0


def test_a_folder_in_figures(sweep: SweepLayout) -> None:
    new = SweepWatch(sweep).look()
    for state in ("completed", "running", "waiting", "failed"):
        assert new.get("ganlab_trials", state, "dcgan") == 2, state
    assert new.get("ganlab_sweep_active") == 1, "its controller's record says so"
    assert new.get("ganlab_trials_failed", "nan") == 2
    assert new.get("ganlab_train_steps_total", "dcgan") == 6 * 40
    assert new.get("ganlab_train_images_total", "dcgan") == 6 * 40 * 8
    assert new.get("ganlab_train_steps_planned", "dcgan") == 8 * 40
    assert new.get("ganlab_shards", "committed") > 0
    assert new.get("ganlab_shards", "to_write") == new.get("ganlab_shards", "committed") / 3, "of the two that wait"
    assert new.get("ganlab_snapshots", "measured") == 12
    assert new.get("ganlab_pairs", "compared") == 12 * 1000 * 999 / 2
    assert new.get("ganlab_workers", "joined") == 3
    assert new.total("ganlab_gpus") == 12
    assert new.total("ganlab_gpus_busy") == 6
    losses = [new.get("ganlab_loss", "dcgan", "generator", quantile) for quantile in ("0", "0.5", "1")]
    assert losses == sorted(losses)
    assert losses[0] > 0
    assert new.total("ganlab_exporter_problems") == 0
    assert abs(new.get("ganlab_exporter_clock_offset_seconds")) < 1
    assert set(new.values) <= set(METRICS)


def test_a_sweep_that_is_compared_in_another_space_is_measured_too(tmp_path: Path) -> None:
    layout = simulated(tmp_path / "sweep", trials=4, images=200, embedding="normalised")
    watch = SweepWatch(layout)
    new = watch.look()
    assert new.get("ganlab_snapshots", "measured") == 6
    assert new.get("ganlab_pairs", "compared") == 6 * 200 * 199 / 2
    assert new.get("ganlab_last_success_timestamp_seconds", "measure") > 0
    layout.spec.write_text(layout.spec.read_text("utf-8").replace("normalised", "pixels"), "utf-8")  # measured anew
    new = watch.look()
    assert new.get("ganlab_snapshots", "measured") == new.get("ganlab_pairs", "compared") == 0


def test_a_gpu_that_does_not_say_how_busy_it_is_is_not_taken_for_idle(sweep: SweepLayout) -> None:
    """A part of a GPU (MIG), on the first of three nodes."""
    path = ClusterFolder(sweep.cluster).worker("2_0")
    record = json.loads(path.read_text())
    record["gpu_use"][0]["utilization"] = None
    path.write_text(json.dumps(record))
    watch = SweepWatch(sweep)
    new = watch.look()
    assert new.total("ganlab_gpus") == 12
    assert new.values["ganlab_gpus_busy"].keys() == {("n1",), ("n2",)}
    assert new.total("ganlab_gpu_memory_used_bytes") == 12 * 10**9
    screen = Console(file=io.StringIO(), width=200)
    screen.print(view(watch, new, time.time()))
    assert "4.0 of 8 busy, 4 do not say" in screen.file.getvalue()


def test_what_people_judged_is_counted(sweep: SweepLayout) -> None:
    watch = SweepWatch(sweep)
    before = watch.look()
    line: dict[str, Any] = dict.fromkeys((each.name for each in fields(Verdict)), "")
    line |= {
        "id": "1",
        "trial": sweep.trial_ids()[0],
        "step": 40,
        "pair": (0, 1),
        "chosen": "closest",
        "samples": 4,
        "verdict": "duplicate",
        "blind": False,
    }
    append_verdict(sweep, Verdict(**line))
    after = watch.look()
    assert after.get("ganlab_verdicts", "given") == 1
    assert after.get("ganlab_verdicts", "missing") == before.get("ganlab_verdicts", "missing") - 1


def test_only_what_changed_is_read_again(sweep: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = SweepWatch(sweep)
    watch.look()
    opened: list[str] = []
    monkeypatch.setattr("storage.watch.read_json", lambda path: opened.append(path))
    monkeypatch.setattr("storage.watch.read_pair_counts", lambda path: opened.append(path))
    monkeypatch.setattr("storage.watch.read_attempts", lambda trial: opened.append(trial))
    watch.look()
    assert opened == []


def test_a_trial_that_goes_on_is_followed(sweep: SweepLayout) -> None:
    watch = SweepWatch(sweep)
    before = watch.look()
    running = next(each for each in watch._trials.values() if each.state(active=True) is TrialState.RUNNING)
    with running.trial.history.open("a") as file:
        file.write('{"step": 44, "generator_loss": 1.0, "steps_per_second": 12.5}\n{"step": 48, "gener')
    after = watch.look()
    assert after.total("ganlab_train_steps_total") == before.total("ganlab_train_steps_total") + 4
    write_outcome(running.trial, Outcome("completed", step=48))
    assert watch.look().get("ganlab_trials", "completed", "dcgan") == 3


def test_a_sweep_half_deleted_is_watched_on(sweep: SweepLayout) -> None:
    watch = SweepWatch(sweep)
    before = watch.look()
    completed, *rest = sorted(sweep.trial_ids())
    shutil.rmtree(sweep.trial(completed).root)
    shutil.rmtree(sweep.trial(rest[0]).samples, ignore_errors=True)
    shutil.rmtree(sweep.pairs)
    sweep.trial(rest[1]).settings.write_text("{ half")
    new = watch.look()
    assert new.get("ganlab_exporter_problems", "trial_gone") == 1
    assert new.get("ganlab_exporter_problems", "unreadable") >= 1
    assert new.total("ganlab_trials") == 7
    assert new.total("ganlab_train_steps_total") == before.total("ganlab_train_steps_total"), "counters never fall"
    shutil.rmtree(sweep.root)
    assert watch.look().get("ganlab_exporter_problems", "folder_gone") == 1
    # And one who begins to watch the ruins says so, too.
    assert SweepWatch(sweep).look().get("ganlab_exporter_problems", "folder_gone") == 1


def test_a_damaged_shard_is_counted(sweep: SweepLayout) -> None:
    watch = SweepWatch(sweep)
    assert watch.look().get("ganlab_shards", "damaged") == 0
    images = sweep.trial(first_in_state(sweep, "completed")).samples / "images"
    next(images.glob("c.*")).unlink()
    assert watch.look().get("ganlab_shards", "damaged") == 1


def test_a_clock_that_jumps_is_told(sweep: SweepLayout) -> None:
    shift = [0.0]
    watch = SweepWatch(sweep, clock=lambda: time.time() + shift[0])
    assert watch.look().get("ganlab_exporter_clock_jumps_total") == 0
    shift[0] = -3600
    new = watch.look()
    assert new.get("ganlab_exporter_clock_jumps_total") == 1
    assert abs(new.get("ganlab_exporter_clock_offset_seconds") - 3600) < 5
    # What is measured by the file system's clock stays right: nothing comes from the future.
    assert new.get("ganlab_exporter_problems", "future_file") == 0
    ages = new.values["ganlab_last_success_timestamp_seconds"]
    assert all(at < time.time() + shift[0] + 1 for at in ages.values())
    assert watch.look().get("ganlab_exporter_clock_jumps_total") == 1


def test_files_from_the_future_are_told(sweep: SweepLayout) -> None:
    import os

    history = sweep.trial(sweep.trial_ids()[0]).history
    history.touch()
    os.utime(history, (time.time() + 900, time.time() + 900))
    assert SweepWatch(sweep).look().get("ganlab_exporter_problems", "future_file") == 1


def test_nobody_at_work_makes_running_trials_interrupted(sweep: SweepLayout) -> None:
    shutil.rmtree(sweep.cluster)
    watch = SweepWatch(sweep)
    new = watch.look()
    assert new.get("ganlab_trials", "interrupted", "dcgan") == 2
    assert new.get("ganlab_sweep_active") == 0
    with sweep_lock(sweep, "a test"):
        assert watch.look().get("ganlab_trials", "running", "dcgan") == 2


def test_causes_of_failures_are_data_not_words(sweep: SweepLayout) -> None:
    """A reason that speaks of memory and disks, of trials that failed for another cause or none that is known."""
    reason = "KeyError: 'No space left, out of memory, process died'"
    failed = [each for each in sweep.trial_ids() if (end := read_outcome(sweep.trial(each))) and end.status == "failed"]
    for trial_id, failure in zip(failed, (Failure.OUT_OF_MEMORY, None), strict=True):
        write_outcome(sweep.trial(trial_id), Outcome("failed", reason=reason, failure=failure))
        end_attempt(sweep.trial(trial_id), Cause.ERROR, reason, failure)
    new = SweepWatch(sweep).look()
    counts = {cause: new.get("ganlab_trials_failed", cause) for cause in FAILURES}
    assert counts == {"nan": 0, "out_of_memory": 1, "disk": 0, "died": 0, "error": 1}
    assert new.get("ganlab_shard_write_failures_total") == 0
    end_attempt(sweep.trial(failed[0]), Cause.ERROR, "any", Failure.DISK)
    assert SweepWatch(sweep).look().get("ganlab_shard_write_failures_total") == 1


def test_labels_of_metrics_are_the_words_of_the_records() -> None:
    assert set(TRIAL_STATES) == set(TrialState)
    assert set(FAILURES) == set(Failure)
    assert set(ATTEMPT_ENDS) == set(Cause)
    assert DEATHS == runs.DEATHS


@pytest.mark.parametrize(
    ("duplicates", "collapsed"),
    [
        (0, False),
        (9, False),  # by chance, of 1000 images: no more frequent than among the real ones
        (300_000, True),  # three pairs in five
    ],
)
def test_a_trial_has_collapsed_when_its_duplicates_are_far_too_frequent(
    sweep: SweepLayout, duplicates: int, collapsed: bool
) -> None:
    watch = SweepWatch(sweep)
    watch.look()
    (real,) = watch._pairs._counts("reference").values()
    images = round((2 * duplicates) ** 0.5)
    mode = ((0, 1000 - images), (max(images - 1, 0), images)) if images > 1 else ((0, 1000),)
    counts = PairCounts(1000, 499_500, duplicates, 20, mode)
    assert _collapsed(counts, real, 0.95) is collapsed


@pytest.mark.parametrize(("step", "seen"), [(40, True), (5, False)])
def test_copies_among_the_newest_samples_are_counted(sweep: SweepLayout, step: int, seen: bool) -> None:
    record = sweep.pair_record(first_in_state(sweep, "completed"), step)
    arrays = read_arrays(record)
    arrays["neighbour_squared"][:200] = 0
    write_arrays(record, **arrays)
    new = SweepWatch(sweep).look()
    assert new.get("ganlab_trials_copying", "dcgan") == seen
    assert new.total("ganlab_exporter_problems") == 0
    screen = Console(width=100, record=True, file=io.StringIO())
    screen.print(view(SweepWatch(sweep), new, time.time()))
    assert ("1 with copies of training images" in screen.export_text()) == seen


def test_copies_over_moves_are_counted_once_they_are_searched(sweep: SweepLayout) -> None:
    text = sweep.spec.read_text()
    assert "moved_copies: false" in text
    sweep.spec.write_text(text.replace("moved_copies: false", "moved_copies: true"))
    trial, watch = first_in_state(sweep, "completed"), SweepWatch(sweep)
    record = read_arrays(sweep.pair_record(trial, 40))
    assert watch.look().get("ganlab_trials_copying", "dcgan") == 0
    for place, images in ((("reference", 0), 300), ((trial, 40), len(record["neighbour"]))):
        distances = np.zeros(images, np.int64) if place[0] == trial else np.arange(1, images + 1)
        write_arrays(sweep.moved_neighbours(*place), squared=distances, neighbour=np.zeros(images, np.int64))
    assert watch.look().get("ganlab_trials_copying", "dcgan") == 1


def test_one_slow_look_makes_the_next_no_rarer(sweep: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Exporter(sweep, print, every_s=1.0)
    times = iter([0.0, 4.0, 10.0, 16.0, 20.0, 20.1])  # two slow looks, a quick one
    monkeypatch.setattr(exporter.watch, "look", lambda: exporter.newest)
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    waits = [exporter.look() for _ in range(3)]
    monkeypatch.undo()
    assert waits == [1.0, 80.0, pytest.approx(2.0)]


def test_a_look_that_fails_leaves_the_old_figures(sweep: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    exporter = Exporter(sweep, said.append)
    before = exporter.newest
    monkeypatch.setattr(exporter.watch, "look", lambda: 1 / 0)
    exporter.look()
    exporter.look()
    assert exporter.newest is before
    assert said == [f"a look at {sweep.root} failed: ZeroDivisionError: division by zero"]


def test_targets_follow_the_workers(sweep: SweepLayout) -> None:
    exporter = Exporter(sweep, print)
    own = Target("ganlab", "n0:9709")
    exporter.write_targets(own)
    groups = json.loads(sweep.targets.read_text())
    assert sum(group["labels"]["job"] == "ray" for group in groups) == 3
    assert {group["labels"]["sweep"] for group in groups} == {"simulated"}
    (sweep.cluster / "workers" / "2_1.json").unlink()
    exporter.look()
    exporter.write_targets(own)
    assert len(json.loads(sweep.targets.read_text())) == 3


def test_prometheus_files_are_put_beside_the_sweep(sweep: SweepLayout) -> None:
    config = write_config(sweep)
    assert config == sweep.metrics / "prometheus.yml"
    assert "targets.json" in config.read_text()
    assert (sweep.metrics / "alerts.yml").exists()


def test_many_trials_make_few_series(tmp_path: Path) -> None:
    """500 trials and 20 workers: the size of a scrape; how long it takes, tests/benchmarks/monitoring.py measures."""
    layout = simulated(tmp_path / "large", trials=500, workers=20, images=512)
    new = SweepWatch(layout).look()
    assert new.total("ganlab_trials") == 500
    text = generate_latest(registry(lambda: new))
    assert len(text) < 200_000
    for name in METRICS:
        series = len(re.findall(rf"^{name}[{{ ]", text.decode(), re.M))
        assert series <= 100, name


def test_the_terminal_shows_the_same(sweep: SweepLayout) -> None:
    text = shown(sweep)
    assert "simulated in" in text
    assert "at work" in text
    assert "2 running" in text
    assert "2 failed: 2 nan" in text
    assert "6.0 of 12 busy" in text


def shown(sweep: SweepLayout) -> str:
    """What the terminal shows of the sweep."""
    watch = SweepWatch(sweep)
    console = Console(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view(watch, watch.look()))
    console.file.close()
    return console.export_text()


@pytest.mark.process
def test_monitor_serves_until_it_is_told_to_end(sweep: SweepLayout) -> None:
    shutil.rmtree(sweep.cluster)
    command = [Path(sys.executable).with_name("ganlab"), "monitor", str(sweep.root), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(sweep.targets.exists, "the exporter is up")
            (group,) = json.loads(sweep.targets.read_text())
            (address,) = group["targets"]
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                assert b'ganlab_trials_failed{cause="nan"} 2.0' in answer.read()
        finally:
            process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said
    assert not sweep.targets.exists(), "what has ended on purpose is no target"
    assert address.startswith("127.0.0.1:")
    for words in ("prometheus --config.file=", "Grafana's dashboards", "/runbook"):
        assert words in said


def test_a_port_in_use_and_a_folder_that_is_no_sweep(sweep: SweepLayout, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        taken = call("monitor", sweep.root, "--port", str(port))
    assert taken.exit_code == 2
    assert f"port {port} is in use by process {os.getpid()} of " in taken.stderr.splitlines()[-1]
    none = call("monitor", folder)
    assert none.exit_code == 2
    assert "no sweep here" in none.stderr
    assert len(none.stderr.strip().splitlines()) == 1


@pytest.mark.process
def test_a_sweep_whose_controller_is_gone_is_not_at_work(
    sweep: SweepLayout, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM knows no job of it any more; and where SLURM can't be asked, the job's script has recorded its end."""
    write_submission(sweep.cluster, Submission("ganlab-x", "1", ("2",), 1, "login", "ada", "2026-01-02T03:04:05"))
    write_head(sweep.cluster, Head("1", 0, 1, "running", host="here"))
    commands = folder / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    squeue = commands / "squeue"
    for answer, active in (("echo '1|RUNNING|None|n1|1:00|2026-01-02T03:04:05'", 1), ("true", 0), ("exit 1", 1)):
        squeue.write_text(f"#!/bin/sh\n{answer}\n")
        squeue.chmod(0o755)
        assert SweepWatch(sweep).look().get("ganlab_sweep_active") == active, answer
    records = ClusterFolder(sweep.cluster).runs
    records.mkdir()
    (records / "1.0").write_text("node=n1\nbegan=100\nfrom=0\nended=130\ncode=137\n")
    new = SweepWatch(sweep).look()
    assert new.get("ganlab_sweep_active") == 0
    assert new.get("ganlab_job_deaths_total", "killed") == 1
    assert "nobody works on it" in " ".join(shown(sweep).split())


@pytest.mark.process
def test_deaths_of_jobs_are_counted_by_cause(sweep: SweepLayout) -> None:
    files = ClusterFolder(sweep.cluster)
    files.runs.mkdir(parents=True, exist_ok=True)
    write_submission(sweep.cluster, Submission("ganlab-x", "1", ("2",), 1, "login", "ada", "2026-01-02T03:04:05"))
    (files.runs / "2_0.0").write_text("node=n1\nbegan=100\nfrom=0\nended=101\ncode=127\n")
    (files.runs / "2_1.0").write_text("node=n2\nbegan=100\nfrom=0\nended=300\ncode=75\nrequeue=asked\n")
    (files.runs / "2_1.1").write_text("node=n2\nbegan=400\nfrom=0\n")  # it runs
    (files.runs / "1.0").write_text("node=n3\nbegan=100\nfrom=0\nended=300\ncode=1\n")
    new = SweepWatch(sweep).look()
    assert new.get("ganlab_job_deaths_total", "not_started") == 1
    assert new.total("ganlab_job_deaths_total") == 2
    assert new.get("ganlab_nodes_left_out") == 1
