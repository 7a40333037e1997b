"""Worker jobs in place of those that are gone, whatever ended them.

Invariant: SLURM is asked for new jobs at most 60 times an hour, less often for a kind of which they fail at once or are
refused, and never for more than were asked for at submission.
"""

import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cluster.job import fail
from cluster.rendezvous import PASSING, ClusterFolder, Demand, read_demand, write_json
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

    def workers(self, name: str, kind: str, count: int, left_out: Collection[str]) -> list[str]:
        """Submit so many worker jobs of a kind, on none of some nodes; returns their ids."""

    def successor(self, name: str, dependency: str = "") -> str:
        """Submit a controller; returns its id."""


@dataclass
class _Pace:
    """Submissions of workers of one kind so far.

    Attributes
    ----------
    newest
        Jobs of the latest one.
    at
        When it was tried, by the monotonic clock.
    fruitless, refusals
        Submissions in a row of which every run did nothing, before the newest; and that SLURM refused, until now.
    refusal
        SLURM's words at the last refusal; empty once it has taken some.
    """

    newest: tuple[str, ...]
    at: float = -math.inf
    fruitless: int = 0
    refusals: int = 0
    refusal: str = ""

    def in_vain(self, runs: Sequence[Run]) -> int:
        """Fruitless submissions in a row, the newest with them."""
        theirs = [run for run in runs if run.job_id.split("_")[0] in self.newest]
        return self.fruitless + 1 if theirs and all(map(_did_nothing, theirs)) else 0

    def hopeless(self, runs: Sequence[Run], some_left_out: bool) -> bool:
        """True if further submissions are likely to do nothing."""
        refused = self.refusals >= REFUSALS or (some_left_out and self.refusals > 0)
        return refused or self.in_vain(runs) >= FRUITLESS


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
    paces: dict[str, _Pace] = field(default_factory=dict)  # by kind of worker
    tried: list[float] = field(default_factory=list)  # times of the submissions of the last hour
    looked: float = field(default_factory=time.monotonic)
    answered: float = field(default_factory=time.monotonic)  # when the scheduler last did
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
        self.answered = self.looked
        runs = [
            run
            for run in read_runs(self.folder, self.logs, {job.id for job in jobs})
            if run.job_id not in submission.controllers
        ]
        self._leave_out(runs, jobs)
        demand = read_demand(self.folder)
        started = [kind for job in jobs if job.state != "PENDING" for kind in _kinds(submission, job)]
        there = [*started, *(kind for job in jobs if job.state == "PENDING" for kind in _kinds(submission, job))]
        if self._replace(submission, there, demand, runs):
            return
        if len(started) >= submission.tasks or (demand is not None and demand.enough(started) is not None):
            self._drop_waiting(jobs)

    def _replace(
        self, submission: Submission, there: Sequence[str], demand: Demand | None, runs: Sequence[Run]
    ) -> bool:
        """Submit workers in place of those that are missing; returns True if some are."""
        asked = [kind for kind, count in submission.wanted.items() if count]
        for kind in asked:
            newest = tuple(job for job in submission.workers if submission.kind_of(job) == kind)
            self.paces.setdefault(kind, _Pace(newest))
        missing = _missing(submission, there, demand, self._hopeful(runs) or asked)
        alone = bool(missing) and not there
        if alone and (self.orders is None or all(pace.in_vain(runs) >= FRUITLESS for pace in self.paces.values())):
            fail(self._none_left(submission, runs))
        before = self.tried[-1:]
        for kind, count in missing.items():
            submission = self._submit(submission, kind, count, runs)
        if alone and self.tried[-1:] != before and not self._hopeful(runs):
            fail(self._none_left(submission, runs))
        return bool(missing)

    def _hopeful(self, runs: Sequence[Run]) -> list[str]:
        """Kinds of which further submissions may do something."""
        return [kind for kind, pace in self.paces.items() if not pace.hopeless(runs, bool(self.left_out))]

    def _submit(self, submission: Submission, kind: str, count: int, runs: Sequence[Run]) -> Submission:
        """Submit workers of one kind if that is within the budget; returns the submission with them."""
        pace = self.paces[kind]
        fruitless = pace.in_vain(runs)
        if self.orders is None or not self._may_submit(pace, fruitless):
            return submission
        try:
            ids = self.orders.workers(submission.name, kind, count, self.left_out)
        except (RefusedError, SchedulerError) as error:
            pace.refusals, pace.refusal = pace.refusals + 1, str(error)
            self._record()
            return submission
        pace.refusals, pace.refusal, pace.fruitless, pace.newest = 0, "", fruitless, tuple(ids)
        submission = submission.with_workers(ids, kind)
        write_submission(self.folder, submission)
        self._record()
        log.info("%d workers%s were gone; submitted %s", count, f" {kind}" if kind else "", ", ".join(ids))
        return submission

    def _may_submit(self, pace: _Pace, fruitless: int) -> bool:
        """Return True, and count the submission, if it is within the budget."""
        now = time.monotonic()
        pause = min(NEWS_S * 2 ** max(fruitless, pace.refusals), LONGEST_PAUSE_S)
        self.tried = [at for at in self.tried if now - at < 3600]
        if now - pace.at < pause or len(self.tried) >= PER_HOUR:
            return False
        pace.at = now
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
        """Fail if all workers have ended for good, by their scripts, and SLURM is missing or has long been silent."""
        if shutil.which("squeue") is not None and self.looked - self.answered < LONGEST_PAUSE_S:
            return
        runs = [run for run in read_runs(self.folder, self.logs, ()) if run.job_id not in submission.controllers]
        newest = {run.job_id: run for run in runs}
        gone = [run for run in newest.values() if run.ended is not None and not run.returns]
        if len(gone) == len(newest) >= submission.tasks:
            fail(_none_left(submission, gone))

    def _none_left(self, submission: Submission, runs: Sequence[Run]) -> str:
        refusal = self._refusal()
        return _none_left(submission, runs) + (f"; SLURM takes no other: {refusal}" if refusal else "")

    def _refusal(self) -> str:
        """SLURM's words where it takes no workers, with their kind where there are several."""
        refused = {kind: pace.refusal for kind, pace in self.paces.items() if pace.refusal}
        return "; ".join(f"workers {kind}: {words}" if kind else words for kind, words in refused.items())

    def _record(self) -> None:
        refusal = self._refusal()
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


def _kinds(submission: Submission, job: QueuedJob) -> list[str]:
    """Kind of each job that a line of the queue stands for."""
    return [submission.kind_of(job.id)] * job.count


def _missing(
    submission: Submission, there: Sequence[str], demand: Demand | None, kinds: Collection[str]
) -> Mapping[str, int]:
    """Number of jobs of these kinds to submit, no more than were asked for nor than the rest of the work can use."""
    count = Counter(there)
    more = [kind for kind, asked in submission.wanted.items() if kind in kinds for _ in range(asked - count[kind])]
    most = submission.tasks - len(there)
    if demand is not None and (enough := demand.enough([*there, *more])) is not None:
        most = min(most, enough - len(there))
    return Counter(more[: max(0, most)])


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
