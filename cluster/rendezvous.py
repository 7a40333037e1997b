"""Rendezvous of the jobs of one cluster: small JSON files in one folder of a file system they share.

Invariant: a record is replaced whole by an atomic rename after its content is on disk; a reader meets the old or the new
one, never a part. The head's record is written by the controller alone, a worker's record by that worker alone.
"""

import errno
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from cluster.gpus import Gpu

WAIT_FOR_DISK = "GANLAB_WAIT_FOR_DISK"  # in the environment of all children: they wait for the shared disk
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE}  # errors of a shared disk that are waited for

HeadState = Literal["starting", "running", "leaving", "done", "failed"]
Record = TypeVar("Record", "Head", "WorkerState")
StateOfWorker = Literal["waiting", "starting", "joined", "leaving", "failed", "ended"]


@dataclass(frozen=True)
class ClusterFolder:
    """Names inside the folder, ``<sweep>/cluster``."""

    root: Path

    @property
    def head(self) -> Path:
        """Address and state of the controller."""
        return self.root / "controller.json"

    @property
    def workers(self) -> Path:
        """One record per worker job."""
        return self.root / "workers"

    @property
    def runs(self) -> Path:
        """Folder of the records of batch scripts: start and end of each run of each job."""
        return self.root / "runs"

    @property
    def token(self) -> Path:
        """Token that Ray's processes authenticate with; readable by its owner alone."""
        return self.root / "token"

    @property
    def certificate(self) -> Path:
        """Certificate that Dask's processes authenticate with."""
        return self.root / "certificate.pem"

    @property
    def key(self) -> Path:
        """The certificate's private key; readable by its owner alone."""
        return self.root / "key.pem"

    @property
    def submission(self) -> Path:
        """The ids of the jobs."""
        return self.root / "submission.json"

    @property
    def replacements(self) -> Path:
        """Number of workers submitted in place of lost ones, and the last refusal of SLURM."""
        return self.root / "replacements.json"

    @property
    def demand(self) -> Path:
        """Size of the rest of the work, and how much of it a worker of each kind takes (`Demand`)."""
        return self.root / "demand.json"

    @property
    def cancelled(self) -> Path:
        """Exists once the user has cancelled: no job may requeue itself any more."""
        return self.root / "cancelled"

    def worker(self, job_id: str) -> Path:
        """Return the record of one worker job."""
        return self.workers / f"{job_id}.json"


@dataclass(frozen=True)
class Head:
    """The controller, as its record says.

    Attributes
    ----------
    job_id, restart
        SLURM's id of the job, and how often SLURM has restarted it.
    generation
        Grows by one whenever the head's processes are started; workers that serve an older one begin again.
    state
        "leaving" when the job is about to end and will come back; "done" and "failed" are for good.
    reason
        Why it failed, or why it leaves.
    ray_address, dask_address
        Where to join; empty unless it runs.
    metrics, dask_metrics
        ``host:port`` of the metrics of the head's Ray node and of Dask's scheduler; empty unless it runs.
    host
        The node's name.
    written
        Seconds since 1970, by the controller's clock.
    """

    job_id: str
    restart: int
    generation: int
    state: HeadState
    reason: str = ""
    ray_address: str = ""
    dask_address: str = ""
    metrics: str = ""
    dask_metrics: str = ""
    host: str = ""
    written: float = 0.0


@dataclass(frozen=True)
class WorkerState:
    """A worker job, as its record says; rewritten every half minute while it is joined.

    Attributes
    ----------
    job_id, restart, node
        SLURM's id of the job, how often SLURM has restarted it, and where it runs.
    state, step, reason
        How it stands, what it does, and why.
    log
        Where more is said.
    generation
        Of the head that it serves; 0 while it serves none, and so the rest.
    metrics
        ``host:port`` of its Ray node's metrics.
    gpus, gpu_use
        How many GPUs it serves, and how busy each is (`cluster.gpus`).
    idle
        Whether no trial runs on it, and nothing is measured there.
    kind
        Name of its kind of worker; empty where there is one.
    written
        Seconds since 1970, by its node's clock.
    """

    job_id: str
    restart: int
    node: str
    state: StateOfWorker
    step: str = ""
    reason: str = ""
    log: str = ""
    generation: int = 0
    metrics: str = ""
    gpus: int = 0
    gpu_use: tuple[Gpu, ...] = ()
    idle: bool = False
    kind: str = ""
    written: float = 0.0


@dataclass(frozen=True)
class Demand:
    """Rest of the work, in processes of trials.

    Attributes
    ----------
    left
        Processes that are still to run, at least one.
    held
        Number of them that run at a time on a worker, by its kind, in the order of preference.
    """

    left: int
    held: Mapping[str, int]

    def preference(self, kind: str) -> int:
        """Place of the kind in the order of preference."""
        return list(self.held).index(kind) if kind in self.held else len(self.held)

    def enough(self, kinds: Sequence[str]) -> int | None:
        """Smallest number of the first of these workers that hold the rest at a time; None if all of them do not."""
        room = 0
        for number, kind in enumerate(kinds, 1):
            room += self.held.get(kind, 0)
            if room >= self.left:
                return number
        return None


def write_head(folder: Path, head: Head) -> None:
    """Replace the head's record, stamped with the time."""
    write_json(ClusterFolder(folder).head, asdict(head) | {"written": time.time()})


def read_head(folder: Path) -> Head | None:
    """Return the head's record; None while there is none, or while the file system does not answer."""
    return _record(Head, ClusterFolder(folder).head)


def write_worker(folder: Path, worker: WorkerState) -> None:
    """Replace a worker's record, stamped with the time."""
    write_json(ClusterFolder(folder).worker(worker.job_id), asdict(worker) | {"written": time.time()})


def read_workers(folder: Path) -> list[WorkerState]:
    """Return the records of all workers that ever started, by array and task."""
    paths = ClusterFolder(folder).workers.glob("[!.]*.json")
    workers = [worker for path in paths if (worker := _record(WorkerState, path)) is not None]
    return sorted(workers, key=lambda worker: [int(part) for part in worker.job_id.split("_") if part.isdigit()])


def write_demand(folder: Path, left: int, held: Mapping[str, int] | None = None) -> None:
    """Record the rest of the work (`Demand`); by default a worker, of the one kind, holds one process at a time."""
    write_json(ClusterFolder(folder).demand, {"left": left, "held": held or {"": 1}})


def read_demand(folder: Path) -> Demand | None:
    """Return the rest of the work; None while that is not known."""
    found = read_json(ClusterFolder(folder).demand) or {}
    left, held = found.get("left"), found.get("held")
    return Demand(max(1, left), held) if isinstance(left, int) and isinstance(held, dict) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Make `value` the whole content of `path`: synced to disk, then renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.partial"
    try:
        with partial.open("x") as file:
            json.dump(value, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems make names durable by themselves and refuse this call.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a record; None when there is none or it can't be read now.

    It is opened every time: on NFS opening asks the server, while asking for the file's state may be answered from a
    cache that is a minute old.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _record(cls: type[Record], path: Path) -> Record | None:
    """Return a record, without what another version of this package has added; None when it lacks a field."""
    found = read_json(path)
    try:
        return (
            None if found is None else cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})
        )
    except TypeError:
        return None
