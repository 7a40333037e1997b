"""A worker job: one node that joins the cluster when it starts, gives its GPUs and CPUs, and leaves without loss.

Invariant: at most one generation of children lives on the node, and they are told to save their work before they end.
"""

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster import dask_node, preemption, ray_node
from cluster.gpus import VISIBLE, Gpu, gpu_use
from cluster.job import DONE, FAILED, REQUEUE, TERMINATED, Job, JobEnd, fail, leave
from cluster.ports import NoPortsError, leased_ports, listening, own_address
from cluster.ray_node import NodeDiedError
from cluster.reaper import guarded
from cluster.rendezvous import (
    PASSING,
    WAIT_FOR_DISK,
    ClusterFolder,
    Head,
    StateOfWorker,
    WorkerState,
    read_demand,
    read_head,
    read_workers,
    write_worker,
)
from cluster.runs import newest_run, note_folders
from cluster.scheduler import read_submission
from cluster.site import Site
from cluster.supervise import LONGEST_DELAY_S, Failures, Process, TerminationSignal, notices, temporary_folders

POLL_S = 2.0
STARTING_POLL_S = 0.5  # the same while the head starts
SETTLE_S = 10.0  # until every worker has seen what the others say of themselves
BEAT_S = 30.0  # between two writings of an unchanged record
FIRST_TRIAL_S = 20.0  # for a first trial to begin on this node before images are compared on it
HEAD_LOST_S = 20.0  # a head that can't be reached for so long counts as gone
URGENT_S = 2.0  # for trials to save their work after SIGTERM: SIGKILL may follow after 5 s
UNHURRIED_S = 30.0  # for the same when there is time
STARTS = 5  # so many failed starts in a row are too many: the node is left out

log = logging.getLogger(__name__)


class _HeadChanged(Exception):
    """The head that this node serves has gone or begins again."""


def run_worker(folder: Path, logs: Path, site: Site) -> None:
    """Serve the cluster of `folder` until it is done; ends the process with an exit code of `cluster.job`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with notices() as notice:
        code = _Worker(Job.here(logs), folder, site, notice).run()
    leave(code)


@dataclass
class _Worker:
    job: Job
    folder: Path
    site: Site
    notice: TerminationSignal
    starts: int = 0
    last_seen: float = field(default_factory=time.monotonic)  # of a living head
    failures: Failures = field(default_factory=lambda: Failures(limit=STARTS))
    ray: Process | None = None
    dask: Process | None = None
    dask_failures: Failures = field(default_factory=Failures)
    dask_due: float = math.inf  # when Dask may be started; not before the first trial
    node: str | None = None  # Ray's id of this node
    node_manager: str = ""  # Ray's address on this node
    step: str = "making its temporary folder"
    record: WorkerState | None = None
    told_idle: float = 0.0  # when the record last began to say that this worker is idle, or ceased to

    def run(self) -> int:
        os.environ |= ray_node.ray_environment(self.folder) | dask_node.dask_environment()
        try:
            with temporary_folders(self.site.temporary, self.job.id) as (own, short), guarded(own, short):
                self.temporary, self.short = own, short
                note_folders(self.folder, self.job, (own, short))
                self._check_gpus()
                while True:
                    self._serve(self._await_head())
        except JobEnd as end:
            ended = end
        except Exception as error:
            log.exception("while %s", self.step)
            ended = JobEnd(
                FAILED, f"node {self.job.node} is left out: {type(error).__name__} while {self.step}: {error}"
            )
        self._record("failed" if ended.code == FAILED else "ended", ended.reason)
        return ended.code

    def _check_gpus(self) -> None:
        """Fail when trials that ask for the node's GPUs would wait here for ever."""
        self.step = "counting its GPUs"
        _, gpus = ray_node.usable_resources()
        if gpus < self.site.gpus_per_node:
            given = ", ".join(f"{name}={os.environ.get(name)!r}" for name in ("SLURM_GPUS_ON_NODE", VISIBLE))
            fail(
                f"node {self.job.node} is left out: {gpus} GPUs can be used there ({given}), but gpus_per_node is "
                f"{self.site.gpus_per_node}; correct the one that is wrong"
            )

    def _serve(self, head: Head) -> None:
        """Be part of the cluster; returns when that has to begin anew."""
        joined = None
        try:
            with leased_ports() as ports:
                self._join(head, ports)
                joined = time.monotonic()
                self._stay(head)
        except _HeadChanged as change:
            self._save_and_end(head, UNHURRIED_S, str(change))
        except (NodeDiedError, NoPortsError) as death:
            if not listening(head.ray_address):  # no wonder, and not this node's fault
                self._save_and_end(head, UNHURRIED_S, "the head has gone")
                return
            self._end_children()
            delay = self.failures.delay_s(time.monotonic() - joined if joined else 0.0)
            if delay is None:
                fail(f"node {self.job.node} is left out: {self.step} failed {STARTS} times in a row; {death}")
            log.info("%s; again in %.0f s", death, delay)
            self._record("starting", str(death))
            self._sleep(delay)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            log.info("%s; again in %.0f s", error, LONGEST_DELAY_S)
            self._end_children()
            self._record("starting", str(error))
            self._sleep(LONGEST_DELAY_S)

    def _await_head(self) -> Head:
        """Wait for a head that runs and answers."""
        self.step = "waiting for the controller"
        self._record("waiting")
        unreachable = ""
        while True:
            head = self._read_head()
            if head is not None and head.state == "running":
                if listening(head.ray_address) and listening(head.dask_address):
                    self.last_seen = time.monotonic()
                    return head
                unreachable = (
                    f"; its record says that it runs on {head.host}, but {head.ray_address} does not answer from "
                    f"{self.job.node}: was it killed, or is there a firewall between the nodes?"
                )
            self._check_controller()
            if time.monotonic() - self.last_seen > self.site.patience_s:
                raise JobEnd(DONE, f"no controller for {self.site.patience_s:.0f} s (patience_s){unreachable}")
            self._sleep(STARTING_POLL_S if head is not None and head.state == "starting" else POLL_S)

    def _check_controller(self) -> None:
        """Raise JobEnd when the controller has died for good, by its script's record, and no other will come."""
        submission = read_submission(self.folder)
        if submission is None or submission.successor or not submission.controller:
            return
        run = newest_run(self.folder, self.job.logs, submission.controller)
        if run is not None and run.given_up:
            raise JobEnd(DONE, f"the controller is gone: {run.words}")

    def _join(self, head: Head, ports: list[int]) -> None:
        self.starts += 1
        preemption.retract(self.temporary)
        name = f"{self.job.id}-{self.job.restart}-{self.starts}"
        address = own_address(towards=head.ray_address)
        cpus, gpus = ray_node.usable_resources()
        environment = {"TMPDIR": str(self.temporary), preemption.NODE: str(self.temporary), WAIT_FOR_DISK: "1"}
        sockets = self.short / str(self.starts)

        self.step = "starting Ray"
        self._record("starting", generation=head.generation)
        command = ray_node.worker_command(ports, address, name, sockets, head.ray_address, cpus, gpus)
        ray = Process("Ray", command, self.job.log_of("Ray"), environment)
        self.ray = ray
        self.node_manager = f"{address}:{ports[0]}"
        check_start = ray_node.starting(ray, address, ports, sockets)

        def start_dask() -> Process:
            command = dask_node.worker_command(
                self.folder, head.dask_address, address, name, self.temporary, self.site.measure_workers
            )
            return Process("Dask worker", command, self.job.log_of("Dask worker"), environment)

        self.start_dask, self.dask_due = start_dask, math.inf

        def joined() -> bool:
            check_start()
            self.node = ray_node.node_id(head.ray_address, name)
            return self.node is not None

        try:
            self._until(joined, head, f"Ray on {self.job.node} has not joined the head at {head.ray_address}")
        except NodeDiedError:
            log.info("what Ray's own logs say:\n%s", ray_node.ray_logs(sockets))
            raise
        self.step = f"serving {cpus} CPUs and {gpus} GPUs"
        metrics = f"{address}:{ports[ray_node.WORKER_METRICS]}"
        self._record("joined", generation=head.generation, metrics=metrics, gpus=gpus)

    def _stay(self, head: Head) -> None:
        """Watch the children and the head."""
        written, joined = -BEAT_S, time.time()
        while True:
            self._check(head)
            if self._is_spare(joined):
                self._save_and_end(head, URGENT_S, "there is no work left for it")
                raise JobEnd(DONE, "there is no work left for it")
            if time.monotonic() - written > BEAT_S:
                written = time.monotonic()
                self._write(gpu_use=self._gpu_use())
            self._keep_dask(joined)
            if not listening(self.node_manager):
                raise NodeDiedError(f"Ray's node manager on {self.job.node} has ended; see {self.job.log_of('Ray')}")
            if listening(head.ray_address):
                self.last_seen = time.monotonic()
            elif time.monotonic() - self.last_seen > HEAD_LOST_S:
                raise _HeadChanged(f"the head at {head.ray_address} does not answer")
            self._sleep(POLL_S)

    def _is_spare(self, joined: float) -> bool:
        """Return True if this worker has been idle for long and enough others stay: busy ones first, then by kind."""
        assert self.record is not None
        since = preemption.idle_since(self.temporary)
        if (since is not None) != self.record.idle:
            self.told_idle = time.monotonic()
            self.record = replace(self.record, idle=since is not None)
            self._write(gpu_use=self._gpu_use())
        if since is None or time.time() - max(since, joined) <= self.site.idle_s:
            return False
        # Others that have become idle just now must have said so, or all would leave at once.
        if time.monotonic() - self.told_idle < SETTLE_S or (demand := read_demand(self.folder)) is None:
            return False
        joined_ones = [worker for worker in read_workers(self.folder) if worker.state == "joined"]
        order = sorted(joined_ones, key=lambda worker: (worker.idle, demand.preference(worker.kind)))
        enough = demand.enough([worker.kind for worker in order])
        return enough is not None and self.job.id in [worker.job_id for worker in order[enough:]]

    def _gpu_use(self) -> tuple[Gpu, ...]:
        """Use of the GPUs that this worker holds; a node may have others."""
        assert self.record is not None
        return tuple(gpu_use()) if self.record.gpus else ()

    def _keep_dask(self, joined: float) -> None:
        """Start a Dask worker if one is requested; it ends with its scheduler, and training does not depend on it.

        The first trial on this node is not held up by its start: it comes when a trial trains, or none has come for long.
        """
        if self.dask_due == math.inf and (
            preemption.still_checkpointing(self.temporary) or time.time() - joined > FIRST_TRIAL_S
        ):
            self.dask_due = 0.0
        if self.dask is not None and self.dask.code is not None:
            delay = self.dask_failures.delay_s(self.dask.lived_s)
            log.info("%s", self.dask.ending())
            self.dask.end()
            self.dask, self.dask_due = None, time.monotonic() + (LONGEST_DELAY_S if delay is None else delay)
        if self.dask is None and self.site.measure_workers and time.monotonic() >= self.dask_due:
            self.dask = self.start_dask()

    def _until(self, ready: Callable[[], bool], head: Head, otherwise: str) -> None:
        deadline = time.monotonic() + self.site.start_s
        while not ready():
            self._check(head)
            if time.monotonic() > deadline:
                raise NodeDiedError(
                    f"{otherwise} within {self.site.start_s:.0f} s (start_s); see {self.job.log_of('Ray')}"
                )
            self._sleep(0.2)

    def _check(self, head: Head) -> None:
        now = self._read_head()
        if now is not None and (now.generation != head.generation or now.state != "running"):
            raise _HeadChanged("the controller begins again")
        if self.ray is not None and self.ray.code is not None:
            raise NodeDiedError(self.ray.ending())

    def _read_head(self) -> Head | None:
        """Read the head's record; raises JobEnd when it says that all is over."""
        head = read_head(self.folder)
        if ClusterFolder(self.folder).cancelled.exists():
            raise JobEnd(DONE, "the sweep was cancelled")
        if head is not None and head.state == "done":
            self._end_children()
            raise JobEnd(DONE, "the sweep is done")
        if head is not None and head.state == "failed":
            self._save_and_end(head, UNHURRIED_S, "the controller failed")
            raise JobEnd(DONE, f"the controller failed: {head.reason}")
        return head

    def _sleep(self, seconds: float) -> None:
        """Sleep; when SLURM asks for the node, leave it instead."""
        if not self.notice.wait(seconds):
            return
        number = self.notice.received
        head = read_head(self.folder)
        if number == signal.SIGTERM:
            self._save_and_end(head, URGENT_S, "SLURM ends the job")
            raise JobEnd(TERMINATED, "SLURM ended the job: requeued, preempted or cancelled")
        self._save_and_end(head, min(UNHURRIED_S, self.site.notice_s / 2), "the job's time ends, or it is preempted")
        if ClusterFolder(self.folder).cancelled.exists():
            raise JobEnd(DONE, "the sweep was cancelled")
        raise JobEnd(REQUEUE, "requeued: its time ended, or it was preempted")

    def _save_and_end(self, head: Head | None, grace_s: float, reason: str) -> None:
        """Wait until trials have written their checkpoints, at most `grace_s`; then end all processes."""
        log.info("leaving: %s", reason)
        deadline = time.monotonic() + grace_s
        preemption.request_stop(self.temporary)
        cancelled = ClusterFolder(self.folder).cancelled.exists()  # then nothing else is placed here anyway
        if head is not None and self.node is not None and head.ray_address and not cancelled:
            ray_node.drain(head.ray_address, self.node, reason, grace_s)
        self._record("leaving", reason)
        while preemption.still_checkpointing(self.temporary) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._end_children()

    def _end_children(self) -> None:
        for child in (self.dask, self.ray):
            if child is not None:
                child.end()
        self.dask = self.ray = self.node = None

    def _record(self, state: StateOfWorker, reason: str = "", **more: Any) -> None:
        log.info("%s: %s%s", state, self.step, f"; {reason}" if reason else "")
        job = self.job
        about = {"kind": self.site.name, **more}
        self.record = WorkerState(job.id, job.restart, job.node, state, self.step, reason, str(job.log), **about)
        self._write()

    def _write(self, **more: Any) -> None:
        assert self.record is not None
        try:
            write_worker(self.folder, replace(self.record, **more))
        except OSError as error:  # it only informs; the work does not depend on it
            log.warning("can't write this worker's record: %s", error)
