"""The controller job: Ray's head, Dask's scheduler, and the commands that use them, begun again when any of them dies.

Invariant: a new generation is published only when its head answers and nothing of an older one is left that could be
waited for; the record says "done" only when every required command has ended well.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from cluster import dask_node, ray_node
from cluster.interpreter import python
from cluster.job import DONE, FAILED, HANDED_OVER, REQUEUE, TERMINATED, Job, JobEnd, fail, leave
from cluster.ports import NoPortsError, leased_ports, listening, own_address
from cluster.ray_node import NodeDiedError
from cluster.reaper import guarded
from cluster.rendezvous import (
    PASSING,
    WAIT_FOR_DISK,
    ClusterFolder,
    Head,
    HeadState,
    read_head,
    read_workers,
    write_head,
)
from cluster.replacement import Orders, Replacements
from cluster.runs import note_folders, read_run
from cluster.scheduler import (
    RefusedError,
    SchedulerError,
    Submission,
    ask,
    can_requeue,
    queue,
    read_submission,
    write_submission,
)
from cluster.site import Site
from cluster.supervise import LONGEST_DELAY_S, Failures, Process, TerminationSignal, notices, temporary_folders

POLL_S = 0.5
DISK_S = 5.0  # between two tries while the shared disk is full, read-only or away
LOOK_S = 5.0  # between looks at the head's ports
SUBMITTED_S = 60.0  # without news of a submission that has not ended
OLD_WORKERS_S = 8.0  # for workers of an older generation to save their work before a new one is published
WRONG_INPUT = 2  # the exit code of a command that would fail again in the same way
STARTS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Child:
    """A command that the controller keeps alive.

    Attributes
    ----------
    name
        For logs and messages: "training".
    command
        Its arguments; "{python}" stands for the interpreter.
    required
        Whether all is done only when it has exited with 0. One that is not required runs until the end, when it gets
        SIGTERM and a second to tidy up; those that are required are killed: what they write must be safe against that.
    """

    name: str
    command: tuple[str, ...]
    required: bool = True


class _Superseded(Exception):
    """Another controller, or another run of this job, has taken over: this one must touch nothing any more."""


@dataclass
class _Kept:
    """A supervised command and its state."""

    child: Child
    process: Process | None = None
    finished: bool = False
    due: float = 0.0  # when it may be started
    failures: Failures = field(default_factory=Failures)


def run_controller(
    folder: Path, logs: Path, site: Site, children: Sequence[Child], orders: Orders | None = None
) -> None:
    """Run the cluster of `folder` until the children are done; ends the process with an exit code of `cluster.job`.

    `orders` submits workers in place of lost ones, and the controller's own successor; None: neither is submitted.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with notices() as notice:
        kept = [_Kept(child) for child in children]
        code = _Controller(Job.here(logs), folder, site, notice, kept, orders).run()
    leave(code)


@dataclass
class _Controller:
    job: Job
    folder: Path
    site: Site
    notice: TerminationSignal
    kept: list[_Kept]
    orders: Orders | None = None
    generation: int = 0
    head: list[Process] = field(default_factory=list)  # Ray's head and Dask's scheduler
    failures: Failures = field(default_factory=lambda: Failures(limit=STARTS))
    addresses: dict[str, Any] = field(default_factory=dict)  # as the head's record names them
    state: HeadState = "starting"
    looked: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replacements = Replacements(self.folder, self.job.logs, self.orders)

    def run(self) -> int:
        os.environ |= ray_node.ray_environment(self.folder) | dask_node.dask_environment()
        before = read_head(self.folder)
        if before is not None and before.state == "done":
            return DONE
        self.generation = before.generation if before else 0
        try:
            self._take_over()
            with temporary_folders(self.site.temporary, self.job.id) as (own, short), guarded(own, short):
                self.temporary, self.short = own, short
                note_folders(self.folder, self.job, (own, short))
                try:
                    while True:
                        self._run_generation()
                finally:
                    self._end_processes()
        except _Superseded:
            log.info("another controller has taken over; this one ends")
            return HANDED_OVER
        except JobEnd as end:
            ended = end
        except Exception as error:
            log.exception("unexpected")
            ended = JobEnd(FAILED, f"the controller on {self.job.node}: {type(error).__name__}: {error}")
        if ended.code == HANDED_OVER:  # the record may be the successor's already
            return HANDED_OVER
        states: dict[int, HeadState] = {DONE: "done", FAILED: "failed"}
        self._publish(states.get(ended.code, "leaving"), ended.reason)
        return ended.code

    def _run_generation(self) -> None:
        """Start the head and serve; returns when both have to begin again."""
        self.generation += 1
        served = None
        self._publish("starting")
        self._sleep(0)
        try:
            with leased_ports() as ports:
                self._start_head(ports)
                self._await_old_workers()
                self._publish("running")
                served = time.monotonic()
                self._serve()
        except (NodeDiedError, NoPortsError) as death:
            self._end_processes()
            delay = self.failures.delay_s(time.monotonic() - served if served else 0.0)
            if delay is None:
                fail(f"the controller on {self.job.node} could not go on {STARTS} times in a row; {death}")
            self._publish("starting", str(death))
            self._sleep(delay)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            log.info("%s; again in %.0f s", error, DISK_S)
            self._end_processes()
            self._sleep(DISK_S)

    def _start_head(self, ports: list[int]) -> None:
        address = own_address(interface=self.site.interface)
        dask, dask_metrics = ports[ray_node.HEAD_PORTS : ray_node.HEAD_PORTS + 2]
        self.addresses = {
            "ray_address": f"{address}:{ports[0]}",
            "dask_address": f"tls://{address}:{dask}",
            "metrics": f"{address}:{ports[ray_node.HEAD_METRICS]}",
            "dask_metrics": f"{address}:{dask_metrics}",
        }
        head = self.addresses["ray_address"]
        name, sockets = f"{self.job.id}-{self.job.restart}-{self.generation}", self.short / str(self.generation)
        commands = {
            "Ray head": ray_node.head_command(ports[: ray_node.HEAD_PORTS], address, name, sockets),
            "Dask scheduler": dask_node.scheduler_command(self.folder, address, dask, dask_metrics),
        }
        environment = {"TMPDIR": str(self.temporary)}
        self.head = [Process(name, command, self.job.log_of(name), environment) for name, command in commands.items()]
        check_start = ray_node.starting(self.head[0], address, ports[ray_node.HEAD_NODE :], sockets)
        deadline = time.monotonic() + self.site.start_s
        while not (ray_node.node_id(head, name) and listening(self.addresses["dask_address"])):
            try:
                check_start()
                self._check_head()
            except NodeDiedError:
                log.info("what Ray's own logs say:\n%s", ray_node.ray_logs(sockets))
                raise
            if time.monotonic() > deadline:
                raise NodeDiedError(
                    f"Ray's head and Dask's scheduler on {self.job.node} did not start within "
                    f"{self.site.start_s:.0f} s (start_s); see {self.job.log_of('Ray head')}"
                )
            self._sleep(0.2)

    def _await_old_workers(self) -> None:
        """Let workers of an older generation save their work, or two processes might have the same trial at once."""
        deadline = time.monotonic() + OLD_WORKERS_S
        while time.monotonic() < deadline:
            workers = read_workers(self.folder)
            if not any(worker.state in ("joined", "leaving") for worker in workers):
                return
            self._sleep(POLL_S)

    def _serve(self) -> None:
        """Keep the commands alive until all that are required have ended well."""
        while True:
            for kept in self.kept:
                self._keep(kept)
            if all(kept.finished for kept in self.kept if kept.child.required):
                if not self._publish("done"):
                    self._sleep(0)  # the next controller says it
                raise JobEnd(DONE, "")
            self._check_head()
            if self._every("head", LOOK_S):
                for address in (self.addresses["ray_address"], self.addresses["dask_address"]):
                    if not listening(address):
                        raise NodeDiedError(f"the head on {self.job.node} does not answer at {address}")
            self.replacements.look()
            self._sleep(POLL_S)

    def _keep(self, kept: _Kept) -> None:
        """Start the command when it is due; count how it ends."""
        if kept.finished or time.monotonic() < kept.due:
            return
        if kept.process is None:
            words = [python() if part == "{python}" else [part] for part in kept.child.command]
            environment = {
                "RAY_ADDRESS": self.addresses["ray_address"],
                "GANLAB_CLUSTER": str(self.folder),
                "GANLAB_GENERATION": str(self.generation),
                "TMPDIR": str(self.temporary),
                WAIT_FOR_DISK: "1",
            }
            polite = not kept.child.required
            kept.process = Process(
                kept.child.name, list(chain(*words)), self.job.log_of(kept.child.name), environment, polite=polite
            )
        elif (code := kept.process.code) is not None:
            kept.finished = code == 0 and kept.child.required
            if kept.finished:
                log.info("%s has ended well", kept.child.name)
                return
            how = kept.process.ending()
            kept.process.end()
            delay = kept.failures.delay_s(kept.process.lived_s)
            kept.process = None
            if kept.child.required and (delay is None or code == WRONG_INPUT):
                fail(how)
            kept.due = time.monotonic() + (LONGEST_DELAY_S if delay is None else delay)
            log.info("%s; again in %.0f s", how, kept.due - time.monotonic())

    def _check_head(self) -> None:
        for process in self.head:
            if process.code is not None:
                raise NodeDiedError(process.ending())
        now = read_head(self.folder)
        if now is not None and (now.job_id, now.restart) != (self.job.id, self.job.restart):
            raise _Superseded
        if ClusterFolder(self.folder).cancelled.exists():
            fail("cancelled")

    def _take_over(self) -> None:
        """Become the controller that the record names, and have a successor wait where SLURM would not requeue this job.

        A job that had handed over and was requeued all the same finds another one named there, and ends.
        """
        submission = self._submitted()
        if self.orders is None or submission is None:
            return
        try:
            if submission.controller != self.job.id:
                jobs = {job.id: job.state for job in queue(submission)}
                if submission.controller in jobs and not self._succeeds(submission):
                    raise _Superseded
                controllers = tuple(dict.fromkeys([*submission.controllers, self.job.id]))
                submission = replace(submission, controller=self.job.id, successor="", controllers=controllers)
                self._record(partial(write_submission, self.folder, submission))
            if earlier := [job for job in submission.controllers if job != self.job.id]:
                ask(["scancel", "--quiet", *earlier])  # one that was requeued waits for nothing
            if can_requeue(self.job.id) or submission.successor:
                return
            successor = self.orders.successor(submission.name, f"afterany:{self.job.id}")
            self._record(partial(write_submission, self.folder, replace(submission, successor=successor)))
        except (SchedulerError, RefusedError) as error:
            log.info("no successor: %s", error)

    def _submitted(self) -> Submission | None:
        """Record of the submission, awaited while that goes on; without the controller's id if it was killed."""
        submission, since = read_submission(self.folder), time.monotonic()
        while submission is not None and not submission.controller and time.monotonic() - since < SUBMITTED_S:
            if self.notice.wait(POLL_S):
                break
            if (now := read_submission(self.folder)) != submission:
                submission, since = now, time.monotonic()
        return submission

    def _succeeds(self, submission: Submission) -> bool:
        """True if this job was submitted to follow the recorded controller, be it that this was never recorded."""
        known = [job for job in (submission.controller, *submission.controllers) if job]
        return self.job.id == submission.successor or all(int(self.job.id) > int(job) for job in known)

    def _is_cancelled(self) -> bool:
        """Return True if somebody has cancelled this job by hand: SLURM says so in the job's log."""
        run = read_run(self.folder, self.job.logs, self.job.id, self.job.restart)
        return run is not None and run.cause == "cancelled"

    def _hand_over(self) -> bool:
        """Submit a successor unless one waits; False when this job must requeue itself, or the sweep was cancelled.

        A requeued job may not start before its credential has expired, two minutes by default; a new one may at once.
        """
        submission = read_submission(self.folder)
        if self.orders is None or submission is None or ClusterFolder(self.folder).cancelled.exists():
            return False
        try:
            if submission.successor in ("", self.job.id):
                successor = self.orders.successor(submission.name)
                controllers = (*submission.controllers, successor)
                submission = replace(submission, controller=successor, successor="", controllers=controllers)
                self._record(partial(write_submission, self.folder, submission))
        except (SchedulerError, RefusedError) as error:
            log.info("no successor: %s", error)
            return False
        return True

    def _sleep(self, seconds: float) -> None:
        """Sleep; when SLURM asks for the node, leave it instead."""
        if not self.notice.wait(seconds):
            return
        submission = read_submission(self.folder)
        if submission is not None and submission.controller != self.job.id and not self._succeeds(submission):
            raise _Superseded
        end = self._told_to_go()
        self._publish("leaving", end.reason)
        self._end_processes()
        if end.code == TERMINATED and self._is_cancelled():
            fail("its job was cancelled (scancel)")
        if self._hand_over():
            raise JobEnd(HANDED_OVER, end.reason)
        raise end

    def _told_to_go(self) -> JobEnd:
        """How this job ends when SLURM has asked for its node."""
        if self.notice.received == signal.SIGUSR2:
            return JobEnd(REQUEUE, "its time ends, or it is preempted")
        return JobEnd(TERMINATED, "SLURM ends the job: requeued, preempted or cancelled")

    def _end_processes(self) -> None:
        """End the head before the commands: else it would end their trials, which now save their work by themselves."""
        for process in self.head:
            process.end()
        for kept in self.kept:
            if kept.process is not None:
                kept.process.end()
                kept.process = None
        self.head = []

    def _every(self, what: str, seconds: float) -> bool:
        """True when `seconds` have passed since it was last true; False at the first call."""
        now = time.monotonic()
        due = now - self.looked.setdefault(what, now) >= seconds
        if due:
            self.looked[what] = now
        return due

    def _publish(self, state: HeadState, reason: str = "") -> bool:
        """Tell the workers; False where SLURM has asked for the node before it could be written."""
        log.info("generation %d: %s%s", self.generation, state, f"; {reason}" if reason else "")
        head = Head(self.job.id, self.job.restart, self.generation, state, reason, host=self.job.node)
        if state == "running":
            head = replace(head, **self.addresses)
        return self._record(partial(write_head, self.folder, head))

    def _record(self, write: Callable[[], None]) -> bool:
        """Write a record, again and again while the disk is full; False once SLURM has asked for the node."""
        while True:
            try:
                write()
                return True
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                log.info("%s; again in %.0f s", error, DISK_S)
                if self.notice.wait(DISK_S):
                    return False
