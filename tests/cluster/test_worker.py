"""A worker that can't or need not work says why, ends with the right exit code, and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from cluster import preemption, worker
from cluster.job import DONE, FAILED, REQUEUE, TERMINATED, Job, JobEnd
from cluster.rendezvous import Head, WorkerState, read_workers, write_demand, write_head, write_worker
from cluster.scheduler import Submission, write_submission
from cluster.site import Site
from cluster.supervise import TerminationSignal
from tests.cluster.conftest import JOB, Supervisors


def only(supervisors: Supervisors) -> WorkerState:
    (worker,) = read_workers(supervisors.folder)
    return worker


def folders_left() -> list[Path]:
    return list(Path("/tmp").glob(f"ganlab{os.getuid()}-{JOB}*"))


def test_without_a_controller_it_ends_after_its_patience(supervisors: Supervisors) -> None:
    worker = supervisors.start("worker", f"{JOB}_4", patience_s=2)
    assert worker.wait(60) == DONE
    said = only(supervisors)
    assert (said.job_id, said.state, said.node) == (f"{JOB}_4", "ended", "here")
    assert said.reason == "no controller for 2 s (patience_s)"
    assert said.step == "waiting for the controller"
    assert said.reason in Path(said.log).read_text()
    assert folders_left() == []


@pytest.mark.parametrize(
    ("successor", "newest", "gone"),
    [
        ("", "ended=110\ncode=137\n", True),
        ("", "ended=110\ncode=127\n", True),
        ("", "ended=110\ncode=137\nrequeue=asked\n", False),
        ("", "ended=110\ncode=143\nrequeue=refused: SLURM has done so already\n", False),
        ("", "", False),
        ("8", "ended=110\ncode=137\n", False),
    ],
)
def test_a_controller_that_has_died_for_good_is_not_waited_for(
    supervisors: Supervisors, successor: str, newest: str, gone: bool
) -> None:
    write_submission(supervisors.folder, Submission("x", "7", ("9",), 1, "h", "u", "t", successor=successor))
    for restart, end in enumerate(("ended=100\ncode=137\nrequeue=asked\n", newest)):
        (supervisors.files.runs / f"7.{restart}").write_text(f"node=n3\nbegan=90\nfrom=0\n{end}")
    one = worker._Worker(
        Job("9", 0, "n", supervisors.logs), supervisors.folder, Site(nodes=1, time_min=1), TerminationSignal()
    )
    with pytest.raises(JobEnd, match="the controller is gone: job 7 on n3 ") if gone else nullcontext():
        one._check_controller()


def test_a_head_that_does_not_answer_is_named(supervisors: Supervisors) -> None:
    write_head(
        supervisors.folder,
        Head("8", 0, 1, "running", ray_address="127.0.0.1:9", dask_address="tls://127.0.0.1:9", host="n7"),
    )
    assert supervisors.start("worker", str(JOB), patience_s=2).wait(60) == DONE
    assert "it runs on n7, but 127.0.0.1:9 does not answer from here: was it killed" in only(supervisors).reason


def test_a_node_whose_gpus_cuda_does_not_show_is_left_out_at_once(
    supervisors: Supervisors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials that ask for its GPU would wait for ever."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    assert supervisors.start("worker", str(JOB)).wait(60) == FAILED
    assert only(supervisors).state == "failed"
    assert only(supervisors).reason == (
        "node here is left out: 0 GPUs can be used there (SLURM_GPUS_ON_NODE='1', CUDA_VISIBLE_DEVICES='NoDevFiles'), "
        "but gpus_per_node is 1; correct the one that is wrong"
    )


@pytest.mark.parametrize(
    ("state", "reason"), [("done", "the sweep is done"), ("failed", "the controller failed: no space left")]
)
def test_a_worker_that_comes_too_late_ends_at_once(supervisors: Supervisors, state: str, reason: str) -> None:
    write_head(supervisors.folder, Head("8", 0, 1, state, reason="no space left"))
    assert supervisors.start("worker", str(JOB)).wait(60) == DONE
    assert (only(supervisors).state, only(supervisors).reason) == ("ended", reason)


@pytest.mark.parametrize(
    ("number", "cancelled", "code"),
    [(signal.SIGUSR2, False, REQUEUE), (signal.SIGUSR2, True, DONE), (signal.SIGTERM, False, TERMINATED)],
)
def test_a_worker_that_is_told_to_go_goes(
    supervisors: Supervisors, number: signal.Signals, cancelled: bool, code: int
) -> None:
    worker = supervisors.start("worker", f"{JOB}_1")
    supervisors.until(lambda: read_workers(supervisors.folder) and only(supervisors).state == "waiting")
    if cancelled:
        supervisors.files.cancelled.touch()
    worker.send_signal(number)
    assert worker.wait(30) == code
    assert only(supervisors).state == "ended"
    assert folders_left() == []


@pytest.mark.parametrize("temporary", ["/proc/nowhere", "/scratch/$NO_SUCH_VARIABLE"])
def test_a_node_without_its_temporary_folder_is_left_out(supervisors: Supervisors, temporary: str) -> None:
    assert supervisors.start("worker", str(JOB), temporary=temporary).wait(60) == FAILED
    said = only(supervisors)
    assert said.state == "failed"
    assert said.reason.startswith("node here is left out: ")
    assert "while making its temporary folder" in said.reason
    assert temporary in said.reason


@pytest.mark.process
def test_a_killed_supervisor_leaves_neither_process_nor_folder(folder: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from cluster.reaper import guarded
from cluster.supervise import Process, temporary_folders
with temporary_folders("/tmp", "{JOB}") as (own, short), guarded(own, short):
    child = Process("child", [sys.executable, "-c", "import time; time.sleep(600)"], Path({str(folder / "log")!r}), {{}})
    print(own, child._process.pid, flush=True)
    time.sleep(600)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    own, pid = supervisor.stdout.readline().split()
    supervisor.kill()
    supervisor.communicate()
    deadline = time.monotonic() + 15
    while Path(own).exists() or Path("/proc", pid).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("idle", "others_idle", "demand", "leaves"),
    [
        (60, True, 1, [False, True, True]),
        (60, False, 1, [True, True, True]),
        (60, True, 2, [False, False, True]),
        (60, False, 2, [True, True, True]),
        (60, False, 3, [False, False, False]),
        (60, True, 3, [False, False, False]),
        (60, True, None, [False, False, False]),
        (10, True, 1, [False, False, False]),
    ],
)
def test_workers_without_work_leave_until_enough_are_left(
    supervisors: Supervisors,
    monkeypatch: pytest.MonkeyPatch,
    idle: float,
    others_idle: bool,
    demand: int | None,
    leaves: list[bool],
) -> None:
    """Each of three workers decides by itself, beside two that are both idle or both busy."""
    folder, logs = supervisors.folder, supervisors.logs
    if demand is not None:
        write_demand(folder, demand)
    monkeypatch.setattr(preemption, "idle_since", lambda folder: time.time() - idle)
    decided = []
    for mine in ("5_0", "5_1", "5_2"):
        for each in ("5_0", "5_1", "5_2"):
            write_worker(folder, WorkerState(each, 0, "n", "joined", idle=others_idle or each == mine))
        site = Site(nodes=3, time_min=1, idle_s=30)
        one = worker._Worker(Job(mine, 0, "n", logs), folder, site, TerminationSignal())
        one.temporary = supervisors.root
        one.record = WorkerState(mine, 0, "n", "joined")
        assert not one._is_spare(joined=0)  # before it has said that it is idle
        one.told_idle -= worker.SETTLE_S
        decided.append(one._is_spare(joined=0))
    assert decided == leaves


@pytest.mark.parametrize(
    ("busy", "left", "leaves"),
    [
        ([], 1, {"small"}),
        ([], 5, set()),
        (["small"], 1, {"big"}),  # what is left runs there, though the big kind is preferred
        (["small"], 2, set()),
        (["big"], 4, {"small"}),
        ([], 99, set()),
    ],
)
def test_workers_of_the_kinds_that_are_preferred_stay(
    supervisors: Supervisors, monkeypatch: pytest.MonkeyPatch, busy: list[str], left: int, leaves: set[str]
) -> None:
    """A big worker holds four processes and a small one holds one."""
    folder, jobs = supervisors.folder, {"small": "5_0", "big": "6_0"}
    write_demand(folder, left, {"big": 4, "small": 1})
    for kind, job in jobs.items():
        write_worker(folder, WorkerState(job, 0, "n", "joined", kind=kind, idle=kind not in busy))
    monkeypatch.setattr(preemption, "idle_since", lambda folder: time.time() - 60)
    left_now = set()
    for kind in jobs.keys() - set(busy):
        site = Site(nodes=1, time_min=1, idle_s=30, name=kind)
        one = worker._Worker(Job(jobs[kind], 0, "n", supervisors.logs), folder, site, TerminationSignal())
        one.temporary, one.told_idle = supervisors.root, -worker.SETTLE_S
        one.record = WorkerState(jobs[kind], 0, "n", "joined", kind=kind, idle=True)
        if one._is_spare(joined=0):
            left_now.add(kind)
    assert left_now == leaves


def test_a_worker_says_at_once_that_it_is_idle(supervisors: Supervisors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have seen it by the time that it has been idle for `idle_s`, and it leaves no later."""
    write_demand(supervisors.folder, 1)
    write_worker(supervisors.folder, WorkerState("5_0", 0, "n", "joined"))
    idle_from = time.time()
    monkeypatch.setattr(preemption, "idle_since", lambda folder: idle_from)
    site = Site(nodes=2, time_min=1, idle_s=30)
    one = worker._Worker(Job("5_1", 0, "n", supervisors.logs), supervisors.folder, site, TerminationSignal())
    one.temporary, one.record = supervisors.root, WorkerState("5_1", 0, "n", "joined")
    assert not one._is_spare(joined=0)
    assert [each.idle for each in read_workers(supervisors.folder)] == [False, True]
    idle_from -= 31
    one.told_idle -= 31
    assert one._is_spare(joined=0)


def test_dask_does_not_hold_up_the_first_trial(supervisors: Supervisors, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts when a trial trains, or when none has come for a while; after that, whenever it is due."""

    class Running:
        code = None

    started = []
    for joined_ago, trains in ((1, False), (1, True), (worker.FIRST_TRIAL_S + 1, False)):
        one = worker._Worker(
            Job("5_1", 0, "n", supervisors.logs), supervisors.folder, Site(nodes=1, time_min=1), TerminationSignal()
        )
        one.temporary, one.start_dask = supervisors.root, Running
        monkeypatch.setattr(preemption, "still_checkpointing", lambda folder, trains=trains: [1] if trains else [])
        one._keep_dask(time.time() - joined_ago)
        started.append(one.dask is not None)
    assert started == [False, True, True]


def test_a_busy_worker_stays(supervisors: Supervisors, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demand(supervisors.folder, 1)
    monkeypatch.setenv(preemption.NODE, str(supervisors.root))
    write_worker(supervisors.folder, WorkerState("5_0", 0, "n", "joined"))
    one = worker._Worker(
        Job("5_1", 0, "n", supervisors.logs), supervisors.folder, Site(nodes=2, time_min=1), TerminationSignal()
    )
    one.temporary, one.record = supervisors.root, WorkerState("5_1", 0, "n", "joined")
    with preemption.measuring():
        assert not one._is_spare(joined=0)
    assert not one._is_spare(joined=0)  # only just now


@pytest.mark.parametrize("held", [0, 2])
def test_gpus_of_the_node_that_others_hold_are_not_counted(
    supervisors: Supervisors, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    use = [{"utilization": 0.5, "memory_used_bytes": 1, "memory_bytes": 2}] * 2
    monkeypatch.setattr(worker, "gpu_use", lambda: use)
    site = Site(nodes=1, time_min=1)
    one = worker._Worker(Job("5_0", 0, "n", supervisors.logs), supervisors.folder, site, TerminationSignal())
    one.record = WorkerState("5_0", 0, "n", "joined", gpus=held)
    assert one._gpu_use() == tuple(use)[:held]
