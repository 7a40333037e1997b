"""Questions and orders to SLURM's own commands.

Invariant: a question costs one call, whatever the number of jobs; nothing needs accounting (sacct) or a process of ours.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from cluster.rendezvous import PASSING, ClusterFolder, read_json, write_json

ANSWER_S = 60  # a busy controller of SLURM may take long, but not for ever


class RefusedError(ValueError):
    """A request that this site cannot satisfy; the message says what is allowed."""


class SchedulerError(RuntimeError):
    """SLURM is not there or does not answer, or the ids of the jobs are lost."""


@dataclass(frozen=True)
class Submission:
    """The jobs of one sweep.

    Attributes
    ----------
    name
        Name that these jobs and no others have.
    controller
        Id of the controller job.
    workers
        Ids of the worker jobs; of a job array, the array's.
    tasks
        How many worker jobs were asked for.
    host, user, submitted
        Host from which, user by whom, and time when (ISO 8601) they were submitted.
    successor
        Id of the job that waits for the end of a controller that can't requeue itself; empty without one.
    controllers
        Ids of all controller jobs so far, the first first.
    asked
        How many worker jobs of each kind were asked for, in the order of preference; empty in records of version 0.1.0.
    kinds
        Kind of each of `workers`, by id; those that are missing are of the first kind.
    """

    name: str
    controller: str
    workers: tuple[str, ...]
    tasks: int
    host: str
    user: str
    submitted: str
    successor: str = ""
    controllers: tuple[str, ...] = ()
    asked: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> Mapping[str, int]:
        """How many worker jobs of each kind were asked for."""
        return self.asked or {"": self.tasks}

    def with_workers(self, ids: Sequence[str], kind: str) -> "Submission":
        """Return it with more worker jobs of a kind."""
        kinds = {**self.kinds, **dict.fromkeys(ids, kind)}
        return replace(self, workers=(*self.workers, *ids), kinds=kinds)

    def kind_of(self, job_id: str) -> str:
        """Kind of a worker job."""
        return self.kinds.get(job_id.split("_")[0], next(iter(self.wanted)))


@dataclass(frozen=True)
class QueuedJob:
    """A job in SLURM's queue: ``12``, ``12_3``, or the tasks of an array that wait, ``12_[4-9]``.

    Attributes
    ----------
    id, state, reason, node, elapsed
        As squeue writes them; `reason` says why it waits.
    submitted
        Seconds since 1970.
    count
        How many jobs it stands for.
    """

    id: str
    state: str
    reason: str
    node: str
    elapsed: str
    submitted: float
    count: int = 1


def write_submission(folder: Path, submission: Submission) -> None:
    """Record what was submitted."""
    write_json(ClusterFolder(folder).submission, asdict(submission))


def read_submission(folder: Path) -> Submission | None:
    """Return what was submitted from this folder; None when nothing was. Raises SchedulerError for a damaged record."""
    record = read_json(ClusterFolder(folder).submission)
    if record is None:
        return None
    try:
        lists = {key: tuple(record.get(key, ())) for key in ("workers", "controllers")}
        return Submission(**{**record, **lists})
    except (KeyError, TypeError) as error:
        raise SchedulerError(
            f"{ClusterFolder(folder).submission}: damaged, expected the ids of the sweep's jobs: "
            f"{error!r}; `squeue --me` lists yours, `scancel` ends them"
        ) from error


def queue(submission: Submission) -> list[QueuedJob]:
    """Return the jobs of the submission that wait or run, by one call of squeue. Raises SchedulerError.

    They are found by their name, which no other job has, so that those count whose ids were lost with a controller.
    """
    text = ask(["squeue", "--noheader", f"--name={submission.name}", "--format=%i|%T|%r|%N|%M|%V"])
    rows = [line.strip().split("|") for line in text.splitlines() if line.strip()]
    return [
        QueuedJob(row[0], row[1], row[2], row[3], row[4], datetime.fromisoformat(row[5]).timestamp(), tasks_of(row[0]))
        for row in rows
    ]


def worker_jobs(jobs: Iterable[QueuedJob], submission: Submission) -> list[QueuedJob]:
    """Return those of the jobs that are workers."""
    controllers = {submission.controller, submission.successor, *submission.controllers}
    return [job for job in jobs if job.id.split("_")[0] not in controllers]


def cancel(folder: Path) -> Submission | None:
    """Cancel all jobs of the cluster in this folder by one call of scancel; None when none was submitted.

    A note left in the folder first keeps jobs that are just leaving from requeueing themselves. Raises SchedulerError.
    """
    submission = read_submission(folder)
    if submission is not None:
        try:
            ClusterFolder(folder).cancelled.touch()
        except OSError as error:  # a full disk: the jobs are cancelled all the same
            if error.errno not in PASSING:
                raise
        ask(["scancel", "--quiet", f"--name={submission.name}", f"--user={submission.user}"])
    return submission


def tasks_of(job_id: str) -> int:
    """Number of tasks that a line of squeue stands for: ``12_[4-6,9%2]`` is four."""
    found = re.search(r"\[(.*?)(?:%\d+)?\]", job_id)
    if found is None:
        return 1
    total = 0
    for part in found[1].split(","):
        numbers = re.match(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if numbers is not None:
            first, last, step = numbers[1], numbers[2] or numbers[1], numbers[3] or "1"
            total += (int(last) - int(first)) // int(step) + 1
    return total


def ask(command: Sequence[str]) -> str:
    """Run one of SLURM's commands and return what it prints.

    Raises
    ------
    SchedulerError
        If it is not installed, fails (with all that it said), or does not answer within a minute.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, check=False, env=outside_any_job()
        )
    except FileNotFoundError:
        raise SchedulerError(
            f"SLURM is not installed here: there is no command {command[0]}; "
            "`ganlab run` runs a sweep on this machine alone"
        ) from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"SLURM did not answer `{command[0]}` within {ANSWER_S} s; try again later") from None
    if done.returncode != 0:
        raise SchedulerError(f"`{command[0]}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def outside_any_job() -> dict[str, str]:
    """Return this environment without what SLURM and a supervisor say of a job that it may be in.

    A new job must not take after it: the mark of the controller's processes would have its reaper kill the job.
    """
    ours = {"SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}  # the second: squeue writes lists in full
    keep = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS", *ours)
    return {
        name: value
        for name, value in (os.environ | ours).items()
        if name in keep or not name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "GANLAB_"))
    }


def config() -> dict[str, str]:
    """SLURM's settings, by one call of scontrol. Raises SchedulerError."""
    pairs = (line.split("=", 1) for line in ask(["scontrol", "show", "config"]).splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def can_requeue(job_id: str) -> bool:
    """Return True if a job comes back by itself from a lost node or a preemption. Raises SchedulerError."""
    job = _fields(ask(["scontrol", "show", "job", "--oneliner", job_id]))
    partition = _fields(ask(["scontrol", "show", "partition", "--oneliner", job.get("Partition", "")]))
    return job.get("Requeue") != "0" and "CANCEL" not in partition.get("PreemptMode", "")


def default_memory_mb(partition: str | None, cpus: int) -> float | None:
    """Memory that a job of so many CPUs gets when it does not say; None: as much as there is. Raises SchedulerError."""
    settings = config()
    name = partition.split(",")[0] if partition else None
    lines = ask(["scontrol", "show", "partition", "--oneliner", *filter(None, [name])]).splitlines()
    found = [_fields(line) for line in lines]
    own = next((each for each in found if name or each.get("Default") == "YES"), {})
    for values in (own, settings):
        for key, times in (("DefMemPerCPU", cpus), ("DefMemPerNode", 1)):
            if re.match(r"\d+$", values.get(key, "")):
                return float(values[key]) * times
    return None


def keep_off(job_ids: Iterable[str], nodes: Iterable[str]) -> None:
    """Keep waiting jobs from starting on some nodes, beside those named before. Raises SchedulerError."""
    refusals = []
    for job_id in job_ids:
        try:
            listed = _fields(ask(["scontrol", "show", "job", "--oneliner", job_id])).get("ExcNodeList", "(null)")
            before = [] if listed == "(null)" else re.split(r",(?![^\[]*\])", listed)  # at commas outside of brackets
            both = dict.fromkeys([*before, *sorted(nodes)])
            ask(["scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join(both)}"])
        except SchedulerError as error:  # it may have begun meanwhile; the others still wait
            refusals.append(str(error))
    if refusals:
        raise SchedulerError("; ".join(refusals))


def _fields(text: str) -> dict[str, str]:
    """Values by name in a line of scontrol; of values with spaces, the first word."""
    return dict(word.partition("=")[::2] for word in text.split() if "=" in word)


def largest_array() -> int:
    """Largest number of tasks of one job array: 1 where arrays are off. Raises SchedulerError."""
    return max(1, int(config().get("MaxArraySize", "1001")))
