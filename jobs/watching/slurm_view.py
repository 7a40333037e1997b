"""State of a submitted sweep on SLURM, from its files and one query of the scheduler.

Invariant: reading changes nothing, and needs no process of the sweep to be alive.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage.layout import SweepLayout

if TYPE_CHECKING:
    from cluster.rendezvous import Head, WorkerState
    from cluster.runs import Run
    from cluster.scheduler import QueuedJob, Submission

ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT"}  # states of jobs that SLURM still lists though they are over


@dataclass(frozen=True)
class OnSlurm:
    """State of a submitted sweep on SLURM.

    Attributes
    ----------
    submission, head, workers
        What was submitted; what the controller and the worker jobs say of themselves.
    cancelled
        The user has cancelled it.
    jobs
        Jobs that wait or run; None when the scheduler did not answer, then `unknown` says why.
    runs
        Runs of the sweep's jobs that have ended, the oldest first.
    refusal
        What SLURM last said when it took no workers in place of lost ones; empty since it has taken some.
    """

    submission: "Submission"
    head: "Head | None"
    workers: "list[WorkerState]"
    cancelled: bool
    jobs: "list[QueuedJob] | None"
    unknown: str = ""
    runs: "list[Run]" = field(default_factory=list)
    refusal: str = ""

    @property
    def holder(self) -> str | None:
        """Description of the jobs that work on the sweep; None if there are none."""
        who = f"submitted {self.submission.submitted} by {self.submission.user} from {self.submission.host}"
        if self.jobs is None:  # perhaps this machine sees the folder but not SLURM
            ended = self.cancelled or (self.head is not None and self.head.state in ("done", "failed"))
            return None if ended else f"SLURM jobs that may still run ({who}; {self.unknown})"
        if not self.jobs:
            return None
        return f"SLURM jobs {', '.join(job.id for job in self.jobs)} ({who}; `ganlab cancel` ends them)"


def on_slurm(layout: SweepLayout) -> OnSlurm | None:
    """State of the sweep on SLURM; None when it was never submitted."""
    if not layout.cluster.is_dir():
        return None
    from cluster.rendezvous import ClusterFolder, read_head, read_json, read_workers
    from cluster.runs import read_runs
    from cluster.scheduler import SchedulerError, queue, read_submission

    submission = read_submission(layout.cluster)
    if submission is None:
        return None
    jobs, unknown = None, ""
    try:
        jobs = [job for job in queue(submission) if job.state not in ENDED]
    except SchedulerError as error:
        unknown = str(error)
    files = ClusterFolder(layout.cluster)
    runs = read_runs(layout.cluster, layout.logs, None if jobs is None else {job.id for job in jobs})
    refusal = str((read_json(files.replacements) or {}).get("refusal", ""))
    return OnSlurm(
        submission,
        read_head(layout.cluster),
        read_workers(layout.cluster),
        files.cancelled.exists(),
        jobs,
        unknown,
        runs,
        refusal,
    )
