"""State of a sweep: its trials, and on SLURM its jobs.

Invariant: needs no process of the sweep to be alive: it is told by files, and on SLURM by one question to the scheduler.
"""

import json
import os
import shlex
from collections import Counter
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from jobs.console.progress import text_console
from jobs.console.tables import print_table
from jobs.console.words import TABLE_ROWS, counted, value_words
from jobs.training.trial_index import TrialSummary, read_known
from jobs.watching.slurm_view import OnSlurm, on_slurm
from storage.layout import SweepLayout
from storage.lock import lock_holder
from storage.trial_state import TrialState
from storage.watch import TrialWatch

NOTABLE = (TrialState.FAILED, TrialState.RUNNING, TrialState.INTERRUPTED)  # listed of many trials, in this order
ENDS = {TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED}
DEATHS_SHOWN = 5
FULL_BYTES = 2**20
FEW = 12  # so many trials are listed whatever their state


def show_status(layout: SweepLayout, as_json: bool) -> None:
    """Print how every trial of a sweep stands, and its jobs."""
    known = read_known(layout)
    slurm = on_slurm(layout)
    holder = lock_holder(layout) or (slurm.holder if slurm else None)
    rows = [_row(layout, trial, holder is not None) for trial in known.trials]
    counts = Counter(row["state"] for row in rows)
    if as_json:
        told = [{"trial": row["trial"], **trial.values, **row} for trial, row in zip(known.trials, rows, strict=True)]
        jobs = {"slurm": _as_json(slurm)} if slurm else {}
        click.echo(
            json.dumps(
                {
                    "name": known.name,
                    "running": holder,
                    "states": counts,
                    **jobs,
                    "trials": told,
                    "not_yet_suggested": known.later,
                },
                indent=2,
            )
        )
        return
    console = text_console()
    states = ", ".join(f"{counts[state]:,} {state}" for state in TrialState if counts[state])
    console.print(Text.assemble((known.name, "bold"), f" in {layout.root}"))
    console.print(f"trials: {states or 'none yet'}")
    if slurm:
        for line in _slurm_lines(slurm, layout, unfinished=bool(counts.keys() - ENDS)):
            console.print(line, soft_wrap="ganlab submit" in line or "(log: " in line)  # to be copied
    else:
        console.print(f"running: {holder}" if holder else "nothing is running here now")
    if (fault := _disk_fault(layout)) and holder is not None:
        console.print(f"{fault}: trials wait, and go on by themselves when that has been mended")
    if layout.results.exists():
        console.print(f"results: {layout.results}   report: {layout.report}")
    _print_trials(console, known.trials, rows)


def _disk_fault(layout: SweepLayout) -> str | None:
    """Fault of the disk that the sweep waits for now."""
    found = os.statvfs(layout.root)
    if found.f_flag & os.ST_RDONLY:
        return f"{layout.root} can only be read now"
    if found.f_bavail * found.f_frsize < FULL_BYTES:
        return f"the disk of {layout.root} is full"
    return None


def _row(layout: SweepLayout, trial: TrialSummary, busy: bool) -> dict[str, Any]:
    seen = TrialWatch(layout.trial(trial.id))
    seen.look()
    state, reason, where = seen.state(busy), "", ""
    planned = len(seen.plan.shards) if seen.plan else 0
    if seen.end:
        reason = seen.end.reason or ""
    elif state is TrialState.RUNNING:
        where = seen.attempts[-1].host
    elif seen.attempts:
        reason = "; ".join(filter(None, (seen.attempts[-1].cause, seen.attempts[-1].reason)))
    return {
        "trial": trial.id,
        "seed": trial.seed,
        "state": state,
        "step": seen.steps,
        "steps": trial.steps,
        "shards": seen.shards,
        "planned_shards": planned,
        "host": where,
        "attempts": len(seen.attempts),
        "reason": reason,
    }


def _print_trials(console: Console, trials: list[TrialSummary], rows: list[dict[str, Any]]) -> None:
    """List what is interesting of many trials: those that failed, then those at work."""
    chosen = [
        (trial, row) for trial, row in zip(trials, rows, strict=True) if len(rows) <= FEW or row["state"] in NOTABLE
    ]
    chosen.sort(key=lambda each: NOTABLE.index(each[1]["state"]) if len(rows) > FEW else 0)
    if not chosen:
        return
    shown = chosen[:TABLE_ROWS]
    cells: list[dict[str, str]] = [
        {
            "trial": trial.id,
            **{name.replace("_", " "): value_words(value) for name, value in trial.values.items()},
            "seed": str(row["seed"]),
            "state": row["state"],
            "step": f"{row['step']:,} / {row['steps']:,}",
            "shards": f"{row['shards']} / {row['planned_shards']}" if row["planned_shards"] else "",
            "on": row["host"],
        }
        for trial, row in shown
    ]
    told = [name for name in cells[0] if any(cell[name] for cell in cells)]
    print_table(console, told, [[cell[name] for name in told] for cell in cells], told.index("state"))
    for trial, row in shown:
        if row["reason"]:  # on a line of its own, so that a path in it can be copied
            console.print(f"{trial.id}: {row['reason']}", soft_wrap=True)
    if len(rows) > len(shown):
        more = len(rows) - len(shown)
        console.print(f"{counted(more, 'more trial')} {'is' if more == 1 else 'are'} not shown; --json shows all")


def _slurm_lines(slurm: OnSlurm, layout: SweepLayout, unfinished: bool) -> list[str]:
    submission, head = slurm.submission, slurm.head
    lines = [f"submitted: {submission.submitted} by {submission.user} from {submission.host}"]
    own = [job for job in slurm.jobs or () if job.id == submission.controller]
    runs = [run for run in slurm.runs if run.job_id == submission.controller]
    told: str = head.state if head else ("not started" if own else "never started")
    unrecorded = not submission.controller and bool(slurm.jobs)  # its submission goes on, or was killed
    gone = slurm.jobs is not None and not own and not (head and head.state in ("done", "failed")) and not unrecorded
    if own and own[0].state == "PENDING":
        told = f"queued ({own[0].reason})"
    elif gone and runs:
        told = f"gone: {runs[-1].words}"
    elif gone and head:
        told = f"gone; its last word was {head.state}"
    if slurm.cancelled:
        told = "cancelled"
    why = f": {head.reason}" if head and head.reason and not slurm.cancelled else ""
    where = f" on {own[0].node}" if own and own[0].node else ""
    if unrecorded:
        lines.append("controller: its id is not recorded (yet); it is among the jobs that follow")
    else:
        lines.append(f"controller: job {submission.controller or 'unknown'}{where}, {told}{why}")
    waits = [job for job in slurm.jobs or () if job.id == submission.successor]
    if waits:
        lines.append(f"successor of the controller: job {submission.successor}, which begins when that ends")
    states, faults = _workers(slurm)
    for kind, asked in submission.wanted.items():
        jobs = [job for job in submission.workers if submission.kind_of(job) == kind]
        words = ", ".join(f"{count} {state}" for state, count in states[kind].most_common())
        if jobs or words:
            name = f"workers {kind}" if kind else "workers"
            ids = f" ({'job' if asked == 1 else 'jobs'} {', '.join(jobs)})" if jobs else ""
            lines.append(f"{name}{ids}: {words or 'none left'} of {asked}")
    if slurm.jobs is None:
        lines.append(f"whether the jobs still exist is not known: {slurm.unknown}")
    if slurm.refusal and slurm.jobs:
        lines.append(
            f"SLURM takes no worker in place of a lost one: {slurm.refusal}; it is asked again, ever less often"
        )
    lines += [*faults, *_deaths(slurm)]
    gave_up = head is not None and head.state == "failed" and slurm.jobs == []
    if unfinished and (gone or gave_up) and not waits and not slurm.cancelled:
        again = ("ganlab", "submit", layout.spec, "--cluster", layout.site, "--out", layout.root)
        lines.append(f"nothing works on it any more; to go on: {shlex.join(map(str, again))}")
    return lines


def _deaths(slurm: OnSlurm) -> list[str]:
    """Unrequested ends of jobs: counts by cause, the newest in full, and the excluded nodes."""
    from cluster.runs import WORDS, bad_nodes, deaths

    died = deaths(slurm.runs)
    if not died or slurm.cancelled:
        return []
    counts = Counter(run.cause for run in died)
    lines = ["runs of jobs that died: " + ", ".join(f"{count} {WORDS[cause]}" for cause, count in counts.most_common())]
    lines += [f"  {run.words}" for run in died[-DEATHS_SHOWN:]]
    submission = slurm.submission
    if bad := bad_nodes(slurm.runs, {submission.controller, *submission.controllers}):
        lines.append(f"nodes left out of this sweep: {', '.join(sorted(bad))} (a worker failed there by itself)")
    return lines


def _workers(slurm: OnSlurm) -> tuple[dict[str, Counter[str]], list[str]]:
    """Worker jobs of each kind by state, and a line for each that has failed."""
    from cluster.scheduler import worker_jobs

    submission = slurm.submission
    records = {worker.job_id: worker for worker in slurm.workers}
    queued = {job.id: job for job in worker_jobs(slurm.jobs or (), submission)}
    states: dict[str, Counter[str]] = {kind: Counter() for kind in submission.wanted}
    for job_id, job in queued.items():
        own = states[submission.kind_of(job_id)]
        if job.state == "PENDING":
            own[f"queued ({job.reason})"] += job.count
        elif job.state == "RUNNING":
            own[records[job_id].state if job_id in records else "starting"] += 1
        else:
            own[job.state.lower()] += job.count
    faults = []
    for job_id, worker in records.items():
        gone = slurm.jobs is not None and job_id not in queued
        if gone or slurm.jobs is None:
            over = worker.state in ("ended", "failed")
            states[submission.kind_of(job_id)]["lost" if gone and not over else worker.state] += 1
        if worker.state == "failed":
            faults.append(
                f"  worker {job_id} on {worker.node} failed: {worker.step}: {worker.reason} (log: {worker.log})"
            )
    return states, faults


def _as_json(slurm: OnSlurm) -> dict[str, Any]:
    return {
        "submission": asdict(slurm.submission),
        "cancelled": slurm.cancelled,
        "controller": asdict(slurm.head) if slurm.head else None,
        "workers": [asdict(worker) for worker in slurm.workers],
        "jobs": None if slurm.jobs is None else [asdict(job) for job in slurm.jobs],
        "runs": [
            {
                "job": run.job_id,
                "restart": run.restart,
                "node": run.node,
                "began": run.began,
                "ended": run.ended,
                "code": run.code,
                "cause": run.cause,
                "requeue": run.requeue,
                "log": str(run.log),
            }
            for run in slurm.runs
        ],
        "refusal": slurm.refusal,
    }
