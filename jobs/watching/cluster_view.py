"""Metrics of a sweep's cluster: from its records, the scheduler and the GPUs.

Invariant: the scheduler is asked at most once a minute; a record that is old or missing is said to be, never believed.
"""

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from cluster.gpus import Gpu, gpu_use
from cluster.rendezvous import ClusterFolder, read_json
from cluster.runs import bad_nodes, deaths, read_runs
from cluster.scheduler import QueuedJob, SchedulerError, queue, read_submission
from monitoring.metrics import WORKER_STATES, MetricValues
from monitoring.targets import Target
from storage.layout import SweepLayout

LOST_S = 120.0  # a worker writes several times a minute while it lives
QUEUE_EVERY_S = 60.0


class ClusterView:
    """Reads the records of one sweep's cluster; a sweep on one machine has none."""

    def __init__(self, layout: SweepLayout, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._logs = ClusterFolder(layout.cluster), layout.logs
        self._monotonic = monotonic
        self._queue_due = 0.0
        self._jobs: list[QueuedJob] | None = None
        self._queue_failed = False
        self._head: dict[str, Any] = {}
        self._submission: dict[str, Any] = {}
        self._address = ""
        self._workers: list[dict[str, Any]] = []

    @property
    def active(self) -> bool:
        """True if a controller works on the sweep, by its record and, where SLURM answers, by its queue.

        Where SLURM could not be asked, the record that the job's script leaves at its end is believed.
        """
        if self._head.get("state") not in ("starting", "running", "leaving"):
            return False
        if self._jobs is not None:
            named = {self._head.get("job_id"), *(self._submission.get(key) for key in ("controller", "successor"))}
            return any(job.id in named for job in self._jobs)
        run = self._folder.runs / f"{self._head.get('job_id')}.{self._head.get('restart')}"
        try:
            return "ended=" not in run.read_text()
        except OSError:
            return True

    @property
    def name(self) -> str:
        """The name of this host, for the label `cluster`."""
        return socket.gethostname()

    @property
    def controlled(self) -> bool:
        """True if the sweep has a controller; Prometheus then scrapes the controller's exporter."""
        return self._head.get("state") in ("starting", "running", "leaving")

    @property
    def address(self) -> str:
        """The controller's own address among those of its host, as chosen by the site's settings; empty without one."""
        return self._address

    def read(self) -> None:
        """Read the records anew."""
        self._head = read_json(self._folder.head) or {}
        # It is named only while the head runs, but holds as long as this process, which is on the same host.
        self._address = str(self._head.get("metrics") or "").rpartition(":")[0].strip("[]") or self._address
        try:
            paths = sorted(self._folder.workers.glob("[!.]*.json"))
        except OSError:
            paths = []
        self._workers = [record for path in paths if (record := read_json(path)) is not None]
        self._submission = read_json(self._folder.submission) or {}
        self._ask_queue()

    def look(self, new: MetricValues, now: float) -> None:
        """Fill in the metrics of the cluster."""
        for worker in self._workers:
            new.add("ganlab_workers", 1, self._state(worker, now))
        for job in self._jobs or ():
            state = job.state.lower()
            new.add("ganlab_slurm_jobs", job.count, state if state in ("pending", "running") else "other")
        self._look_at_deaths(new)
        waits = [now - job.submitted for job in self._jobs or () if job.state == "PENDING"]
        new.set("ganlab_queue_wait_seconds", max(0.0, *waits) if waits else 0)
        new.set("ganlab_exporter_problems", self._queue_failed, "no_scheduler")
        self._look_at_gpus(new, now)

    def targets(self) -> list[Target]:
        """Ray's and Dask's own endpoints on the nodes that are there."""
        head = [self._head] if self._head.get("state") == "running" else []
        records = [*head, *(worker for worker in self._workers if self._state(worker, time.time()) == "joined")]
        return [
            Target(job, str(record[field]), str(record.get("node") or record.get("host") or ""))
            for record in records
            for job, field in (("ray", "metrics"), ("dask", "dask_metrics"))
            if record.get(field)
        ]

    def _look_at_deaths(self, new: MetricValues) -> None:
        running = None if self._jobs is None else {job.id for job in self._jobs}
        runs = read_runs(self._folder.root, self._logs, running)
        for run in deaths(runs):
            new.add("ganlab_job_deaths_total", 1, run.cause)
        controllers = {self._submission.get("controller", ""), *self._submission.get("controllers", ())}
        new.set("ganlab_nodes_left_out", len(bad_nodes(runs, controllers)))

    def _look_at_gpus(self, new: MetricValues, now: float) -> None:
        nodes: dict[str, list[Gpu]] = {}
        if self._head:
            for worker in self._workers:
                if self._state(worker, now) in ("joined", "leaving"):
                    nodes.setdefault(str(worker.get("node")), []).extend(worker.get("gpu_use") or [])
        else:
            nodes[socket.gethostname()] = gpu_use()
        for node, gpus in nodes.items():
            new.set("ganlab_gpus", len(gpus), node)
            busy = [use for gpu in gpus if (use := gpu["utilization"]) is not None]
            if len(busy) == len(gpus):
                new.set("ganlab_gpus_busy", sum(busy), node)
            new.set("ganlab_gpu_memory_bytes", sum(gpu["memory_bytes"] for gpu in gpus), node)
            new.set("ganlab_gpu_memory_used_bytes", sum(gpu["memory_used_bytes"] for gpu in gpus), node)

    def _ask_queue(self) -> None:
        """Ask SLURM, once a minute, while the sweep has jobs that may be there."""
        if not self._head and not self._folder.submission.exists():
            return
        if self._monotonic() < self._queue_due:
            return
        self._queue_due = self._monotonic() + QUEUE_EVERY_S
        submission = read_submission(self._folder.root)
        try:
            self._jobs = None if submission is None else queue(submission)
            self._queue_failed = False
        except SchedulerError:  # inside a container, on a host that submits no jobs, or it does not answer
            self._jobs, self._queue_failed = None, True

    def _state(self, worker: Mapping[str, Any], now: float) -> str:
        """Last state of a worker; "lost" if SLURM has no such job, or the record is old."""
        state = str(worker.get("state"))
        if state in ("starting", "joined", "leaving"):
            silent = now - float(worker.get("written") or 0) > LOST_S
            known = self._jobs is not None and any(job.id == worker.get("job_id") for job in self._jobs)
            if silent and not known:
                return "lost"
        return state if state in WORKER_STATES else "waiting"
