"""Worker jobs in place of those that are gone, whatever ended them.

Invariant: SLURM is asked for new jobs at most 60 times an hour, less often while they fail at once or are refused, and
never for more than were asked for at submission.
"""

import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cluster.job import fail
from cluster.rendezvous import PASSING, ClusterFolder, read_demand, read_workers, write_json
from cluster.runs import OF_THE_NODE, Run, bad_nodes, read_runs
from cluster.scheduler import (
    QueuedJob,
    RefusedError,
    SchedulerError,
    Submission,
    ask,
    keep_off,
    queue,
    read_submission,
    worker_jobs,
    write_submission,
)

QUEUE_S = 60.0  # between questions to the scheduler
NEWS_S = 20.0  # the same when a job has recorded its end meanwhile; also the least time between two submissions
PER_HOUR = 60  # submissions
LONGEST_PAUSE_S = 900.0
EARLY_S = 60.0  # a run that fails by itself within so long has done nothing
FRUITLESS = 3  # so many submissions in a row of which every run did nothing are too many
REFUSALS = 6  # so many refusals in a row are too many when no worker is left

log = logging.getLogger(__name__)


class Orders(Protocol):
    """Submits jobs of the sweep (`cluster.slurm.Orders`)."""

    def workers(self, name: str, count: int, left_out: Collection[str]) -> list[str]:
        """Submit so many worker jobs, on none of some nodes; returns their ids."""

    def successor(self, name: str, dependency: str = "") -> str:
        """Submit a controller; returns its id."""


@dataclass
class Replacements:
    """Keeps as many worker jobs in the queue as were asked for, or as the rest of the work can use.

    Attributes
    ----------
    folder, logs
        Where the jobs meet, and their logs.
    orders
        Submits; None where the controller can't.
    left_out
        Nodes on which a worker failed by itself, with the run that did.
    """

    folder: Path
    logs: Path
    orders: Orders | None
    left_out: dict[str, Run] = field(default_factory=dict)
    newest: tuple[str, ...] | None = None  # jobs of the latest submission
    fruitless: int = 0
    refusals: int = 0
    tried: list[float] = field(default_factory=list)  # times of the submissions of the last hour
    looked: float = field(default_factory=time.monotonic)
    records: int = 0  # what the runs' records looked like

    def look(self) -> None:
        """Ask the scheduler when it is time, and replace what is gone.

        Raises
        ------
        JobEnd
            When no worker is left and none will come.
        """
        since = time.monotonic() - self.looked
        if since < NEWS_S or (since < QUEUE_S and not self._news()):
            return
        self.looked = time.monotonic()
        try:
            self._look()
        except OSError as error:  # a full disk takes no record; the jobs themselves are found by their name
            if error.errno not in PASSING:
                raise
            log.info("%s", error)

    def _look(self) -> None:
        submission = read_submission(self.folder)
        if submission is None:
            return
        try:
            jobs = worker_jobs(queue(submission), submission)
        except SchedulerError as error:  # inside a container, or it does not answer: the records must do
            log.info("%s", error)
            self._fail_by_records(submission)
            return
        runs = [
            run
            for run in read_runs(self.folder, self.logs, {job.id for job in jobs})
            if run.job_id not in submission.controllers
        ]
        self._leave_out(runs, jobs)
        demand = read_demand(self.folder)
        wanted = submission.tasks if demand is None else min(submission.tasks, demand)
        missing = wanted - sum(job.count for job in jobs)
        if missing > 0:
            self._replace(submission, missing, runs, alone=not jobs)
        elif sum(job.count for job in jobs if job.state != "PENDING") >= wanted:
            self._drop_waiting(jobs)

    def _replace(self, submission: Submission, missing: int, runs: Sequence[Run], alone: bool) -> None:
        newest = submission.workers if self.newest is None else self.newest
        theirs = [run for run in runs if run.job_id.split("_")[0] in newest]
        fruitless = self.fruitless + 1 if theirs and all(map(_did_nothing, theirs)) else 0
        if alone and (self.orders is None or fruitless >= FRUITLESS):
            fail(_none_left(submission, runs))
        if self.orders is None or not self._may_submit(fruitless):
            return
        try:
            ids = self.orders.workers(submission.name, missing, self.left_out)
        except (RefusedError, SchedulerError) as error:
            self.refusals += 1
            self._record(submission, str(error))
            if alone and (self.left_out or self.refusals >= REFUSALS):
                fail(f"{_none_left(submission, runs)}; SLURM takes no other: {error}")
            return
        self.refusals, self.fruitless, self.newest = 0, fruitless, tuple(ids)
        write_submission(self.folder, replace(submission, workers=(*submission.workers, *ids)))
        self._record(submission, "")
        log.info("%d workers were gone; submitted %s", missing, ", ".join(ids))

    def _may_submit(self, fruitless: int) -> bool:
        """Return True, and count the submission, if it is within the budget."""
        now = time.monotonic()
        pause = min(NEWS_S * 2 ** max(fruitless, self.refusals), LONGEST_PAUSE_S)
        self.tried = [at for at in self.tried if now - at < 3600]
        if self.tried and (now - self.tried[-1] < pause or len(self.tried) >= PER_HOUR):
            return False
        self.tried.append(now)
        return True

    def _leave_out(self, runs: Sequence[Run], jobs: Sequence[QueuedJob]) -> None:
        """Keep waiting jobs, too, from nodes on which a worker failed by itself."""
        bad = bad_nodes(runs, ())
        if not bad.keys() - self.left_out.keys():
            return
        self.left_out |= bad
        waiting = {job.id.split("_")[0] for job in jobs if job.state == "PENDING"}
        log.info("left out from now on: %s", ", ".join(sorted(self.left_out)))
        if waiting and self.orders is not None:
            try:
                keep_off(sorted(waiting), self.left_out)
            except SchedulerError as error:
                log.info("%s", error)

    def _drop_waiting(self, jobs: Sequence[QueuedJob]) -> None:
        """Take jobs out of the queue that wait though those that run are enough for the work left."""
        if waiting := sorted({job.id.split("_")[0] for job in jobs if job.state == "PENDING"}):
            try:
                ask(["scancel", "--quiet", "--state=PENDING", *waiting])
            except SchedulerError as error:
                log.info("%s", error)

    def _fail_by_records(self, submission: Submission) -> None:
        ended = [record for record in read_workers(self.folder) if record.state in ("failed", "ended")]
        if len(ended) >= submission.tasks:
            reasons = dict.fromkeys(record.reason for record in ended)
            fail(f"none of the {submission.tasks} worker jobs is left: {'; '.join(reasons)}")

    def _record(self, submission: Submission, refusal: str) -> None:
        record = {"submissions": len(self.tried), "refusal": refusal, "written": time.time()}
        write_json(ClusterFolder(self.folder).replacements, record)

    def _news(self) -> bool:
        """Return True if a job has recorded a start or an end since the last call."""
        try:
            seen = sum(path.stat().st_mtime_ns for path in ClusterFolder(self.folder).runs.iterdir())
        except OSError:
            return False
        before, self.records = self.records, seen
        return before not in (0, seen)


def _did_nothing(run: Run) -> bool:
    """Return True if a run failed by itself before it could do anything."""
    lived = (run.ended or run.began) - run.began
    return run.cause in (*OF_THE_NODE, "memory", "killed") and lived < EARLY_S


def _none_left(submission: Submission, runs: Sequence[Run]) -> str:
    causes = Counter(run.cause for run in runs)
    why = runs[-1].words if runs else "see their logs"
    counted = (
        f" (ends so far: {', '.join(f'{count} {cause}' for cause, count in causes.most_common())})" if causes else ""
    )
    return f"none of the {submission.tasks} worker jobs is left: {why}{counted}"
