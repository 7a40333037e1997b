"""End of each run of each job of a sweep, from the records of the batch scripts and SLURM's lines in the logs.

Invariant: a run that has no recorded end and is not in the queue has died; its cause is then SLURM's, from the job's log.
"""

import re
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cluster.job import HANDED_OVER, REQUEUE, Job
from cluster.rendezvous import ClusterFolder
from cluster.script import CANCELLED_WORDS, MEMORY_WORDS

SLURM_SAYS = {
    "memory": MEMORY_WORDS,
    "time_limit": r"DUE TO TIME LIMIT",
    "preempted": r"DUE TO PREEMPTION",
    "node_failure": r"DUE TO NODE FAILURE",
    "requeued": r"DUE TO JOB REQUEUE",
    "not_started": r"execve\(\)|command not found|No such file or directory",
    "cancelled": CANCELLED_WORDS,
}  # in a job's log, on lines of slurmstepd and srun; the first that fits is the cause
WORDS = {
    "memory": "killed for memory",
    "time_limit": "killed at its time limit",
    "preempted": "preempted",
    "node_failure": "lost with its node",
    "not_started": "its command could not be started",
    "failed": "failed",
    "killed": "killed",
    "requeue_refused": "could not requeue itself",
    "vanished": "gone without a word",
}
DEATHS = tuple(WORDS)  # ends that nobody asked for
OF_THE_NODE = ("not_started", "failed")
LOG_BYTES = 20_000


@dataclass(frozen=True)
class Run:
    """One run of a job: from SLURM's start of its script to the end or the next requeue.

    Attributes
    ----------
    job_id, restart, node
        Which job, how often it had been restarted before, and where it ran.
    began, ended
        Seconds since 1970 by the node's clock; `ended` is None without a recorded end.
    code
        Exit code of the script; None without a recorded end.
    requeue
        "", "asked", or "refused: " and SLURM's answer.
    noted
        Cause that SLURM named to the script; empty without one.
    log, log_from
        The job's log, and the byte at which this run began.
    """

    job_id: str
    restart: int
    node: str
    began: float
    ended: float | None
    code: int | None
    requeue: str
    noted: str
    log: Path
    log_from: int

    @cached_property
    def said(self) -> list[str]:
        """The last lines of the log that this run has written."""
        try:
            with self.log.open("rb") as log:
                end = log.seek(0, 2)
                log.seek(max(self.log_from, end - LOG_BYTES))
                return log.read().decode(errors="replace").splitlines()
        except OSError:
            return []

    @property
    def refused(self) -> bool:
        """True if SLURM did not take the job back into the queue."""
        return self.requeue.startswith("refused")

    @property
    def given_up(self) -> bool:
        """True if the script has ended without success and has not asked SLURM to run the job again."""
        return self.code not in (None, 0, HANDED_OVER) and not self.requeue

    @property
    def returns(self) -> bool:
        """True if SLURM has taken the job back into the queue."""
        return self.requeue == "asked" or self.cause == "requeued"

    @cached_property
    def cause(self) -> str:
        """Cause of the end: one of `DEATHS`, or "completed", "requeued", "cancelled"."""
        code = self.code
        if code in (0, HANDED_OVER):
            return "completed"
        if code == REQUEUE:
            return "requeue_refused" if self.refused else "requeued"
        slurms = "\n".join(line for line in self.said if re.match(r"slurmstepd|srun|/\S*: line|bash", line))
        for cause, words in SLURM_SAYS.items():
            by_signal = code is not None and code > 128
            if re.search(words, slurms, re.IGNORECASE) and not (by_signal and cause == "not_started"):
                return cause
        if self.noted in WORDS:
            return self.noted
        if code is None:
            return "vanished"
        if code > 128:
            return "killed"
        return "not_started" if code in (126, 127) else "failed"

    @property
    def words(self) -> str:
        """Summary in one line: job, node, cause of the end, and log."""
        code = ""
        if self.code is not None:
            number = self.code - 128
            by_signal = number in {each.value for each in signal.Signals}
            code = f" ({signal.Signals(number).name})" if by_signal else f" (exit code {self.code})"
        lived = f" after {self.ended - self.began:.0f} s" if self.ended is not None else ""
        refused = f"; requeue {self.requeue.rstrip('.')}" if self.refused else ""
        last = next((line for line in reversed(self.said) if re.match(r"slurmstepd|/\S*: line|bash", line)), "")
        if self.cause in ("failed", "not_started") and not last:
            last = next((line.strip() for line in reversed(self.said) if line.strip()), "")
        says = f": {last.strip()[:200]}" if last else ""
        return (
            f"job {self.job_id} on {self.node} {WORDS.get(self.cause, self.cause)}{code}{lived}{says}{refused} "
            f"(log: {self.log})"
        )


def note_folders(folder: Path, job: Job, folders: Iterable[Path]) -> None:
    """Add a job's temporary folders to the record of its script, which removes them when all else was killed."""
    record = ClusterFolder(folder).runs / f"{job.id}.{job.restart}"
    with suppress(OSError), record.open("a") as lines:
        lines.writelines(f"temporary={each}\n" for each in dict.fromkeys(folders))


def read_runs(folder: Path, logs: Path, running: Collection[str] | None = None) -> list[Run]:
    """Return the runs that have ended, the oldest first.

    Parameters
    ----------
    folder, logs
        Where the jobs meet, and where their logs are.
    running
        Ids of jobs in the queue; None if that is not known: then a job's newest run without an end counts as running.
    """
    runs: dict[str, list[Run]] = {}
    for path in ClusterFolder(folder).runs.glob("*.*"):
        job_id, _, restart = path.name.rpartition(".")
        if restart.isdigit() and (run := read_run(folder, logs, job_id, int(restart))) is not None:
            runs.setdefault(run.job_id, []).append(run)
    ended = []
    for job_id, those in runs.items():
        those.sort(key=lambda run: run.restart)
        living = running is None or job_id in running
        ended += [run for run in those if run.ended is not None or not (living and run is those[-1])]
    return sorted(ended, key=lambda run: (run.began, run.job_id))


def deaths(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that ended without a request of the user or the sweep."""
    return [run for run in runs if run.cause in DEATHS]


def bad_nodes(runs: Iterable[Run], controllers: Collection[str]) -> dict[str, Run]:
    """Return the nodes on which worker jobs failed by themselves, with the newest such run of each.

    Parameters
    ----------
    runs
        Runs that have ended.
    controllers
        Ids of controller jobs, which are passed over.
    """
    return {run.node: run for run in runs if run.cause in OF_THE_NODE and run.job_id not in controllers}


def newest_run(folder: Path, logs: Path, job_id: str) -> Run | None:
    """Return the newest run of a job, ended or not; None before the first."""
    names = [path.name.rpartition(".")[2] for path in ClusterFolder(folder).runs.glob(f"{job_id}.*")]
    restarts = [int(restart) for restart in names if restart.isdigit()]
    return read_run(folder, logs, job_id, max(restarts)) if restarts else None


def read_run(folder: Path, logs: Path, job_id: str, restart: int) -> Run | None:
    """Return a run as its script has recorded it, ended or not; None without a record. The last value of a key counts."""
    try:
        lines = (ClusterFolder(folder).runs / f"{job_id}.{restart}").read_text(errors="replace").splitlines()
    except OSError:
        return None
    values = dict(line.partition("=")[::2] for line in lines)
    try:
        return Run(
            job_id,
            restart,
            values.get("node", "?"),
            float(values.get("began") or time.time()),
            float(values["ended"]) if values.get("ended") else None,
            int(values["code"]) if values.get("code") else None,
            values.get("requeue", ""),
            values.get("cause", ""),
            logs / f"{job_id}_0_log.out",
            int(values.get("from") or 0),
        )
    except ValueError:
        return None
