"""A controller keeps its commands alive through the death of Ray's head, ends when they have, and leaves nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cluster import controller
from cluster.controller import _Controller, _Superseded
from cluster.job import DONE, FAILED, HANDED_OVER, TERMINATED, Job, JobEnd
from cluster.rendezvous import read_head, read_workers
from cluster.scheduler import QueuedJob, Submission, read_submission, write_submission
from cluster.site import Site
from cluster.slurm import Jobs, _prepare
from cluster.supervise import TerminationSignal
from tests.cluster.conftest import JOB, Supervisors

CONTROLLER, WORKER = str(JOB + 2), f"{JOB + 3}_0"

# In the first generation it does its work and then hangs; in the second it ends.
WORK = """
import json, os, sys, time
from pathlib import Path
import ray
from cluster.dask_node import cluster_map
from cluster.preemption import busy, leaving
from cluster.ray_driver import cluster_ray

def square(number):
    return number * number

def where():
    assert not leaving()
    with busy():
        time.sleep(5)  # seen by the worker, which then starts Dask
    return os.environ["GANLAB_NODE"], os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["TMPDIR"], os.nice(0)

def niceness(number):
    return os.nice(0)

generation = int(os.environ["GANLAB_GENERATION"])
with cluster_ray():
    node, gpu, temporary, nice = ray.get(ray.remote(num_gpus=1)(where).remote())
with cluster_map(Path(os.environ["GANLAB_CLUSTER"])) as map:
    squares = sorted(map(square, range(20)))
    (nice_of_measuring,) = map(niceness, [0])
found = {"node": node, "gpu": gpu, "temporary": temporary, "squares": squares, "own": os.environ["TMPDIR"]}
found["nice"] = nice, nice_of_measuring
(Path(sys.argv[1]) / f"made-{generation}").write_text(json.dumps(found))
time.sleep(600 if generation == 1 else 0)
"""
EXPORTER = """
import signal, sys, time
from pathlib import Path
def withdraw(*_):
    (Path(sys.argv[1]) / "withdrawn").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, withdraw)
time.sleep(600)
"""


def of_jobs(*jobs: str) -> list[psutil.Process]:
    """Processes that belong to supervisors, by any sign of their temporary folders."""
    signs = [f"ganlab{os.getuid()}-{job}-" for job in jobs]
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values(), *(file.path for file in process.open_files())]
        except (psutil.Error, OSError):
            continue
        if any(sign in text for sign in signs for text in told):
            found.append(process)
    return found


def test_ray_s_head_is_killed_and_everything_begins_again(supervisors: Supervisors) -> None:
    work, exporter = supervisors.root / "work.py", supervisors.root / "exporter.py"
    work.write_text(WORK)
    exporter.write_text(EXPORTER)
    children = [
        ("the work", ("{python}", str(work), str(supervisors.root)), True),
        ("exporter", (sys.executable, str(exporter), str(supervisors.root)), False),
    ]
    controller = supervisors.start("controller", CONTROLLER, children)
    worker = supervisors.start("worker", WORKER)
    supervisors.until(lambda: (supervisors.root / "made-1").exists() or controller.poll() is not None)
    head = read_head(supervisors.folder)
    assert head is not None
    assert (head.state, head.generation) == ("running", 1), supervisors.log(f"{CONTROLLER}_0_log.out")
    (joined,) = read_workers(supervisors.folder)
    assert (joined.state, joined.generation, joined.gpus) == ("joined", 1, 1)
    (gcs,) = [process for process in of_jobs(CONTROLLER) if process.name() == "gcs_server"]
    gcs.kill()
    assert controller.wait(300) == DONE, supervisors.log(f"{CONTROLLER}_0_log.out")
    assert worker.wait(30) == DONE
    head = read_head(supervisors.folder)
    assert head is not None
    assert (head.state, head.generation, head.ray_address) == ("done", 2, "")
    assert "generation 2: running" in supervisors.log(f"{CONTROLLER}_0_log.out")
    for generation in (1, 2):
        found = json.loads((supervisors.root / f"made-{generation}").read_text())
        assert found["squares"] == [number * number for number in range(20)]
        assert found["gpu"] == "0"
        training, measuring = found["nice"]
        assert measuring == training + 10
        assert found["node"] == found["temporary"]
        assert f"-{WORKER}-" in found["node"]
        assert f"-{CONTROLLER}-" in found["own"]
    assert (supervisors.root / "withdrawn").exists()
    (ended,) = read_workers(supervisors.folder)
    assert (ended.state, ended.reason) == ("ended", "the sweep is done")
    assert [process.as_dict(["pid", "ppid", "status", "cmdline"]) for process in of_jobs(CONTROLLER, WORKER)] == []
    assert list(Path("/tmp").glob(f"ganlab{os.getuid()}-{JOB // 10}*")) == []
    assert supervisors.start("controller", CONTROLLER, children).wait(60) == DONE  # it finds its work done


def test_a_command_that_can_not_succeed_ends_the_cluster_and_says_why(supervisors: Supervisors) -> None:
    code = "import sys; print('sweep.yaml: train.steps: got -1'); sys.exit(2)"
    controller = supervisors.start("controller", CONTROLLER, [("training", ("{python}", "-c", code), True)])
    assert controller.wait(240) == FAILED
    head = read_head(supervisors.folder)
    assert head is not None
    assert head.state == "failed"
    assert head.reason.startswith("training exited with code 2 after ")
    assert head.reason.endswith("sweep.yaml: train.steps: got -1")
    assert str(supervisors.logs / f"{CONTROLLER}-training.log") in head.reason


def test_a_controller_that_is_told_to_go_says_that_it_will_be_back(supervisors: Supervisors) -> None:
    controller = supervisors.start("controller", CONTROLLER, [("training", ("sleep", "600"), True)])
    supervisors.until(lambda: read_head(supervisors.folder) is not None)
    controller.terminate()
    assert controller.wait(30) == TERMINATED
    head = read_head(supervisors.folder)
    assert head is not None
    assert head.state == "leaving"
    assert of_jobs(CONTROLLER) == []


def started(supervisors: Supervisors, named: str) -> "subprocess.Popen[bytes]":
    """A controller at its start, in a folder whose submission names this job as the controller."""
    write_submission(supervisors.folder, Submission("x", named, ("9",), 1, "h", "u", "t"))
    (supervisors.files.runs / f"{CONTROLLER}.0").write_text("node=here\nbegan=1\nfrom=0\n")
    controller = supervisors.start("controller", CONTROLLER, [("training", ("sleep", "600"), True)])
    supervisors.until(lambda: read_head(supervisors.folder) is not None)
    return controller


def test_a_controller_that_is_cancelled_by_hand_ends_the_sweep(supervisors: Supervisors) -> None:
    """Workers leave at once when its record says so."""
    controller = started(supervisors, CONTROLLER)
    with (supervisors.logs / f"{CONTROLLER}_0_log.out").open("a") as log:
        log.write("slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-02T03:04:05 ***\n")
    controller.terminate()
    assert controller.wait(30) == FAILED
    head = read_head(supervisors.folder)
    assert head is not None
    assert (head.state, head.reason) == ("failed", "its job was cancelled (scancel)")


def test_a_controller_that_has_a_successor_leaves_the_record_alone(supervisors: Supervisors) -> None:
    """The successor has cancelled it."""
    controller = started(supervisors, str(JOB + 9))
    before = read_head(supervisors.folder)
    controller.terminate()
    assert controller.wait(30) == HANDED_OVER
    assert read_head(supervisors.folder) == before


@pytest.fixture
def made(folder: Path) -> _Controller:
    """A controller of job 50 that has not begun."""
    _prepare(Jobs("test", folder / "cluster", folder / "logs", folder, ()))
    site = Site.model_validate({"nodes": 1, "time_min": 1})
    return _Controller(
        Job("50", 0, "here", folder / "logs"), folder / "cluster", site, TerminationSignal(), [], Submits()
    )


class Submits:
    """Takes every order."""

    def __init__(self) -> None:
        self.submitted: list[str] = []

    def workers(self, name: str, kind: str, count: int, left_out: Collection[str]) -> list[str]:
        raise AssertionError

    def successor(self, name: str, dependency: str = "") -> str:
        self.submitted.append(dependency)
        return "60"


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_no_controller_from_coming_back(made: _Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    write_submission(made.folder, Submission("x", "50", ("9",), 1, "h", "u", "t", controllers=("50",)))
    monkeypatch.setattr(controller, "write_head", full)
    monkeypatch.setattr(controller, "write_submission", full)
    made.notice._handle(signal.SIGUSR2, None)
    with pytest.raises(JobEnd) as ended:
        made._sleep(1)
    assert ended.value.code == HANDED_OVER  # its successor, 60, was submitted, and nothing says so


@pytest.mark.parametrize(
    ("submission", "takes_over"),
    [
        (Submission("x", "41", (), 1, "h", "u", "t", controllers=("41",)), True),  # its order was never recorded
        (Submission("x", "41", (), 1, "h", "u", "t", successor="50", controllers=("41",)), True),
        (Submission("x", "51", (), 1, "h", "u", "t", controllers=("50", "51")), False),  # it had handed over
        (Submission("x", "50", (), 1, "h", "u", "t", controllers=("50",)), True),
    ],
)
def test_which_controller_a_job_takes_over_from(
    made: _Controller, monkeypatch: pytest.MonkeyPatch, submission: Submission, takes_over: bool
) -> None:
    there = [QueuedJob(job, "COMPLETING", "", "n1", "", 0.0) for job in submission.controllers]
    monkeypatch.setattr(controller, "queue", lambda _: there)
    monkeypatch.setattr(controller, "can_requeue", lambda _: True)
    monkeypatch.setattr(controller, "ask", lambda _: "")
    write_submission(made.folder, submission)
    if takes_over:
        made._take_over()
    else:
        with pytest.raises(_Superseded):
            made._take_over()
    now = read_submission(made.folder)
    assert now is not None
    assert now.controller == ("50" if takes_over else "51")


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("named", ["", "41"])
def test_a_controller_that_is_told_to_go_while_it_takes_over_has_a_successor(
    made: _Controller, monkeypatch: pytest.MonkeyPatch, recorded: bool, named: str
) -> None:
    """Whether the disk takes its record or not."""
    monkeypatch.setattr(controller, "queue", lambda _: [])
    monkeypatch.setattr(controller, "can_requeue", lambda _: False)
    monkeypatch.setattr(controller, "ask", lambda _: "")
    write_submission(made.folder, Submission("x", named, (), 1, "h", "u", "t", successor="50" if named else ""))
    if not recorded:
        monkeypatch.setattr(controller, "write_submission", full)
        monkeypatch.setattr(controller, "write_head", full)
    made.notice._handle(signal.SIGUSR2, None)
    made._take_over()
    with pytest.raises(JobEnd) as ended:
        made._run_generation()
    assert ended.value.code == HANDED_OVER
    assert isinstance(made.orders, Submits)
    assert made.orders.submitted, "a successor"


def test_what_is_done_is_said_by_the_next_controller_where_the_disk_takes_no_record(
    made: _Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_submission(made.folder, Submission("x", "50", (), 1, "h", "u", "t", controllers=("50",)))
    monkeypatch.setattr(controller, "write_head", full)
    made.notice._handle(signal.SIGUSR2, None)
    with pytest.raises(JobEnd) as ended:
        made._serve()
    assert ended.value.code == HANDED_OVER


def test_a_controller_waits_while_a_submission_goes_on(made: _Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "SUBMITTED_S", 1.5)
    monkeypatch.setattr(controller, "can_requeue", lambda _: True)
    part = Submission("x", "", (), 3, "h", "u", "t")
    write_submission(made.folder, part)

    def submit() -> None:
        now = part
        for number in range(51, 54):
            time.sleep(0.9)
            now = now.with_workers([str(number)], "gpu")
            write_submission(made.folder, now)
        write_submission(made.folder, replace(now, controller="50", controllers=("50",)))

    writing = threading.Thread(target=submit)
    writing.start()
    made._take_over()
    writing.join()
    whole = read_submission(made.folder)
    assert whole is not None
    assert (whole.controller, whole.workers) == ("50", ("51", "52", "53"))


def test_a_controller_waits_for_the_ids_that_the_submission_still_writes(
    made: _Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "can_requeue", lambda _: True)
    whole = Submission("x", "50", ("51",), 1, "h", "u", "t", controllers=("50",), kinds={"51": "gpu"})
    write_submission(made.folder, Submission("x", "", (), 1, "h", "u", "t"))
    writing = threading.Timer(0.3, write_submission, [made.folder, whole])
    writing.start()
    made._take_over()
    writing.join()
    assert read_submission(made.folder) == whole


def test_a_submission_that_was_killed_before_it_knew_its_ids_has_a_name(
    made: _Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "SUBMITTED_S", 0.1)
    monkeypatch.setattr(controller, "queue", lambda _: [])
    monkeypatch.setattr(controller, "can_requeue", lambda _: True)
    write_submission(made.folder, Submission("new", "", (), 1, "h", "u", "t"))
    made._take_over()
    now = read_submission(made.folder)
    assert now is not None
    assert (now.name, now.controller) == ("new", "50")
