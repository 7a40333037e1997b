"""Attempts at a trial: one JSON line for each start, with its step, and one for each end, with its cause.

Invariant: a failure counts against the trial only while no durable progress is made, so a trial may be interrupted any
number of times; a line cut off by a crash is passed over.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from storage.layout import TrialLayout
from storage.outcome import Failure, Outcome
from storage.patience import patiently


class Cause(StrEnum):
    """Cause of an attempt's end."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    ERROR = "error"
    """An exception was raised."""
    DIED = "died"
    """The process was killed, crashed or exited."""
    DISK = "disk"
    """The disk that holds the sweep was full, read-only or away."""
    PREEMPTED = "preempted"
    """The node asked the process to stop."""
    NODE_LOST = "node_lost"
    """The node is gone, or was starved or cut off so long that the trial's lease ran out."""
    RAY = "ray"
    """Ray failed, or the process that hands out the trials; the trial's own process had no part in it."""
    INTERRUPTED = "interrupted"
    """The command that had started the trial has ended."""


COUNTED = (Cause.ERROR, Cause.DIED)
"""Causes that may be the trial's fault; the others are the machine's, or final."""


@dataclass(frozen=True)
class Attempt:
    """One start of a trial.

    Attributes
    ----------
    started, host, pid
        Seconds since 1970, and by which process.
    progress
        What was durably there at the start: a name that changes with every checkpoint and every committed shard.
    step
        Step that it went on from; None until it is known.
    ended, cause, reason
        When and how it ended, and why in one line; None, None and "" while it runs.
    failure
        What failed, for an attempt that ended by a failure; None for others, and in records of version 0.1.0.
    forgiven
        It counts no more, nor do those before it: the user has asked to try again.
    """

    started: float
    host: str
    pid: int
    progress: str
    step: int | None = None
    ended: float | None = None
    cause: Cause | None = None
    reason: str = ""
    failure: Failure | None = None
    forgiven: bool = False


def begin_attempt(trial: TrialLayout) -> None:
    """Record that this process begins to work on the trial."""
    _append(
        trial,
        {"started": time.time(), "host": socket.gethostname(), "pid": os.getpid(), "progress": durable_progress(trial)},
    )


def resume_attempt(trial: TrialLayout, step: int) -> None:
    """Record the step that the attempt goes on from."""
    _append(trial, {"step": step})


def end_attempt(trial: TrialLayout, cause: Cause, reason: str = "", failure: Failure | None = None) -> None:
    """Record how the attempt that runs has ended; one that never got so far as to begin is recorded whole."""
    attempts = read_attempts(trial)
    if not attempts or attempts[-1].cause is not None:
        begin_attempt(trial)
    _append(trial, {"ended": time.time(), "cause": cause, "reason": reason, "failure": failure})


def end_with_outcome(trial: TrialLayout, outcome: Outcome) -> None:
    """Record that the attempt that runs has ended the trial."""
    end_attempt(trial, Cause(outcome.status), outcome.reason or "", outcome.failure)


def read_attempts(trial: TrialLayout) -> list[Attempt]:
    """Every attempt so far, the oldest first."""
    attempts: list[Attempt] = []
    try:
        lines = trial.attempts.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
            for name, kind in (("cause", Cause), ("failure", Failure)):
                if row.get(name) is not None:
                    row[name] = kind(row[name])
            if "started" in row:
                attempts.append(Attempt(**row))
            elif attempts:
                attempts[-1] = replace(attempts[-1], **row)
        except (ValueError, TypeError, AttributeError):
            continue
    return attempts


def is_running(attempts: Sequence[Attempt]) -> bool:
    """True if no end of the last attempt is recorded."""
    return bool(attempts) and attempts[-1].cause is None


def failures_in_a_row(trial: TrialLayout) -> list[Attempt]:
    """The latest attempts that failed without getting anywhere, the oldest first."""
    now = durable_progress(trial)
    failures: list[Attempt] = []
    for attempt in reversed(read_attempts(trial)):
        if attempt.progress != now or attempt.forgiven:
            break
        if attempt.cause in COUNTED:
            failures.insert(0, attempt)
    return failures


def durable_progress(trial: TrialLayout) -> str:
    """Name what the trial has on disk: the age of its checkpoint and the number of its commit records."""
    try:
        with trial.checkpoint.open("rb") as file:  # opened, so that a network file system asks its server
            written = os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        written = 0
    commits = sum(1 for name in os.listdir(trial.commits) if name[0] != ".") if trial.commits.is_dir() else 0
    return f"{written}-{commits}"


def forget_failure(trial: TrialLayout) -> None:
    """Let a trial that failed be tried again from where it stands; the attempts so far count no more."""
    _append(trial, {"forgiven": True})
    trial.outcome.unlink(missing_ok=True)


def _append(trial: TrialLayout, row: Mapping[str, Any]) -> None:
    # One write, begun by a line's end: whatever a crash or a full disk has cut off before stays on a line of its own.
    line = b"\n" + json.dumps(dict(row)).encode() + b"\n"

    def append() -> None:
        trial.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(trial.attempts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(trial.attempts))
        finally:
            os.close(descriptor)

    patiently(append)
