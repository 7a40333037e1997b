"""`ganlab submit` on a real SLURM of three hosts: right answers undisturbed, a clean end, and refusals that say why."""

import json
import time
from pathlib import Path

import pytest
import xarray as xr

from tests.slurm.hosts import HOSTS
from tests.slurm.sweeps import SITE, STEADY, Login, assert_same, client_calls
from tests.waiting import HANG_S

TINY = {
    "name": "tiny",
    "dataset": {"name": "digits"},
    "model": {"family": "known-support", "pool": 50},
    "train": {"steps": 1},
    "samples": {"final_images": 512},
    "collisions": {"sample_sizes": [10, 20], "threshold": 32, "quality_faults": []},
    "resources": {"gpus_per_trial": 1, "device": "cpu"},
}
ENDLESS = {**STEADY, "name": "endless", "train": {**STEADY["train"], "steps": 10_000_000}}


def test_an_undisturbed_sweep_equals_that_of_one_machine(login: Login, undisturbed: Path) -> None:
    """Twelve trials on six GPUs of three hosts, submitted from a shell that dies; few calls of the scheduler."""
    login.hosts.slurm("sdiag", "-r")
    sweep = login.submit_from_a_shell_that_dies("steady")
    submission = sweep.read("submission.json")
    for job in (submission["controller"], *submission["workers"]):
        assert str(job) in sweep.submission.stdout
    assert str(sweep.out) in sweep.submission.stdout

    deadline = time.monotonic() + HANG_S
    while (
        sweep.state not in ("done", "failed") and time.monotonic() < deadline
    ):  # files alone: the scheduler is not asked
        time.sleep(0.3)
    calls = client_calls(login.hosts)
    assert sweep.state == "done", sweep.story("not done")
    sweep.wait_until_gone(30)
    assert_same(sweep.out, undisturbed)
    joined = [worker for path in sweep.out.glob("cluster/workers/*.json") if (worker := json.loads(path.read_text()))]
    assert {worker["node"].split(".")[0] for worker in joined} == set(HOSTS)
    minutes = (time.time() - sweep.submitted) / 60
    print(f"calls of the scheduler in {minutes:.1f} min: {dict(calls)}")
    assert calls.total() <= 20 + 4 * minutes, calls


@pytest.mark.slurm_full
def test_a_sweep_after_another_job_that_is_waited_for(login: Login) -> None:
    """It begins when that job has ended well, and never when it has failed; the command returns with the results."""
    files = login.write("after", TINY), login.write("after-site", SITE)
    submit = ("submit", files[0], "--cluster", files[1])
    first = login.hosts.slurm(
        "sbatch",
        "--parsable",
        "--mem=100",
        "-o",
        "/dev/null",
        "--wrap",
        f"sleep 20; date +%s > '{login.hosts.shared}/ended'",
    ).strip()
    done = login.ganlab(*submit, "--out", login.folder / "one", "--after", first, "--wait")
    assert done.returncode == 0, done.stderr
    assert "Report: " in done.stdout
    fields = (login.folder / "one" / "cluster" / "runs").glob("*.0")
    began = min(float(dict(line.split("=") for line in path.read_text().splitlines())["began"]) for path in fields)
    assert began >= float((login.hosts.shared / "ended").read_text())

    failing = login.hosts.slurm("sbatch", "--parsable", "--mem=100", "-o", "/dev/null", "--wrap", "exit 1").strip()
    done = login.ganlab(*submit, "--out", login.folder / "never", "--after", failing)
    assert done.returncode == 0, done.stderr
    status = login.ganlab("status", login.folder / "never").stdout
    assert "queued (Dependency" in status
    assert login.ganlab("cancel", login.folder / "never").returncode == 0


def test_early_answers_and_a_cancel_that_leaves_nothing(login: Login) -> None:
    """Trials that never end, two at a time: their first snapshots are measured on the same workers while they train."""
    before = {host: login.hosts.temporary(host) for host in HOSTS}
    sweep = login.submit("endless", {**ENDLESS, "resources": {**ENDLESS["resources"], "max_concurrent": 2}})
    sweep.wait(lambda: measured(sweep.out) > 0, "collisions of a trial that still trains")
    assert sweep.training()
    assert sweep.states() == []
    assert {host for host in HOSTS if sweep.find(host, "raylet/raylet")} == set(HOSTS)
    status = login.ganlab("status", sweep.out)
    assert status.returncode == 0, status.stderr
    assert sweep.controller in status.stdout
    began = time.monotonic()
    cancelled = login.ganlab("cancel", sweep.out)
    assert cancelled.returncode == 0, cancelled.stderr
    sweep.wait_until_gone(15 - (time.monotonic() - began))
    assert {host: login.hosts.temporary(host) for host in HOSTS} == before
    again = login.ganlab("cancel", sweep.out)
    assert again.returncode == 0, again.stderr
    status = login.ganlab("status", sweep.out)
    assert status.returncode == 0, status.stderr
    assert "cancel" in (status.stdout + status.stderr).lower()


def measured(out: Path) -> int:
    """How many snapshots have a support size already."""
    try:
        with xr.open_zarr(out / "results.zarr") as results:
            return int(results.support_size.notnull().sum())
    except FileNotFoundError:  # not there yet, or replaced just now
        return 0


@pytest.mark.slurm_full
def test_a_cancel_while_slurm_is_away(login: Login) -> None:
    """What runs ends within a minute by a note in the folder; the command takes the rest out of the queue later."""
    sweep = login.submit("endless", ENDLESS, nodes=4)
    sweep.wait_until_training()
    assert any(job["state"] == "PENDING" for job in sweep.jobs())
    with login.hosts.scheduler_away():
        cancelled = login.ganlab("cancel", sweep.out)
        assert cancelled.returncode == 0, cancelled.stderr
        assert "jobs that run end by themselves within a minute" in cancelled.stderr
        sweep.wait(lambda: not sweep.processes() and not sweep.folders(), "what runs to end", 60)
    again = login.ganlab("cancel", sweep.out)
    assert again.returncode == 0, again.stderr
    sweep.wait_until_gone(20)
    assert "cancelled" in login.ganlab("status", sweep.out).stdout


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ({"partition": "gpus"}, ["gpus", "brief", "urgent"]),
        ({"gpus_per_node": 9}, ["9", "2"]),
        pytest.param({"constraint": "fsat"}, ["fsat", "fast", "slow"], marks=pytest.mark.slurm_full),
        pytest.param({"partition": "brief", "time_min": 60}, ["time_min", "60", "10"], marks=pytest.mark.slurm_full),
        pytest.param({"cpus_per_node": 64}, ["64", "4"], marks=pytest.mark.slurm_full),
        pytest.param({"mem_gb": 4000}, ["4000", "7.8"], marks=pytest.mark.slurm_full),
        pytest.param(
            {"controller": {"cpus": 1, "mem_gb": 4000}},
            ["controller.mem_gb", "4000", "7.8"],
            marks=pytest.mark.slurm_full,
        ),
        pytest.param({"nodes": "three"}, ["nodes", "three"], marks=pytest.mark.slurm_full),
        pytest.param({"gpus_per_nodes": 1}, ["gpus_per_nodes", "gpus_per_node"], marks=pytest.mark.slurm_full),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_the_cluster_cannot_give_is_refused_before_anything_is_queued(
    login: Login, site: dict, words: list[str]
) -> None:
    refused = login.try_submit("refused", TINY, **site)
    assert refused.returncode == 2, refused.stderr
    assert_one_sentence(refused.stderr, *words)
    assert not login.hosts.jobs()
    assert not (login.folder / "refused").exists()


def test_a_refusal_of_sbatch_is_shown_whole(login: Login) -> None:
    refused = login.try_submit("refused", TINY, sbatch=["--reservation=nowhere"])
    assert refused.returncode == 2, refused.stderr
    assert "Requested reservation is invalid" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not login.hosts.jobs()


def test_a_folder_that_hosts_do_not_share_is_refused(login: Login, tmp_path: Path) -> None:
    """Every host has a /tmp of its own; the tests' own folder lies there as well, but is mounted on all."""
    refused = login.try_submit("private", TINY, out=tmp_path / "private")
    assert refused.returncode == 2, refused.stderr
    assert_one_sentence(refused.stderr, "no file system that the nodes share", str(tmp_path / "private"))
    assert not login.hosts.jobs()


def test_without_slurm_the_command_names_ganlab_run(login: Login, tmp_path: Path) -> None:
    refused = login.try_submit("nowhere", TINY, environment={"PATH": str(tmp_path)})
    assert refused.returncode == 2, refused.stderr
    assert_one_sentence(refused.stderr, "SLURM", "ganlab run")


@pytest.mark.slurm_full
def test_the_plan_shows_what_is_submitted(login: Login) -> None:
    spec, site = login.write("tiny", TINY), login.write("site", {**SITE, "sbatch": ["--comment=as planned"]})
    plan = login.ganlab("plan", spec, "--cluster", site, "--no-timing")
    assert plan.returncode == 0, plan.stderr
    assert "#SBATCH --comment='as planned'" in plan.stdout
    sweep = login.submit("tiny", TINY, sbatch=["--comment=as planned"])
    controller = login.hosts.slurm("scontrol", "write", "batch_script", sweep.controller, "-")
    directives = {line.split("=")[0] for line in controller.splitlines() if line.startswith("#SBATCH")}
    assert directives <= {line.split("=")[0] for line in plan.stdout.splitlines()}
    assert login.ganlab("cancel", sweep.out).returncode == 0


def assert_one_sentence(message: str, *words: str) -> None:
    for word in words:
        assert word in message, message
    assert "Traceback" not in message, message
    assert len(message.strip().splitlines()) <= 3, message
