"""How often a trial was started, from where, and how each attempt ended: one JSON line for a start, one for an end.

Invariant: a failure counts against the trial only while no durable progress is made, so a trial may be interrupted any
number of times; a line cut off by a crash is passed over.
"""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from storage.layout import TrialLayout

Cause = Literal["completed", "stopped", "failed", "error", "died", "preempted", "node_lost", "interrupted"]
COUNTED = ("error", "died")
"""Ends that may be the trial's fault; the others are nobody's, or final."""


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
        None while it runs. `error`: an exception; `died`: the process was killed; `preempted`: the node asked it to
        stop; `node_lost`; `interrupted`: what started the trial has ended; the others as in the outcome.
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
    forgiven: bool = False


def begin_attempt(trial: TrialLayout) -> None:
    """Record that this process begins to work on the trial."""
    _append(trial, {"started": time.time(), "host": socket.gethostname(), "pid": os.getpid(),
                    "progress": durable_progress(trial)})  # fmt: skip


def resume_attempt(trial: TrialLayout, step: int) -> None:
    """Record the step that the attempt goes on from."""
    _append(trial, {"step": step})


def end_attempt(trial: TrialLayout, cause: Cause, reason: str = "") -> None:
    """Record how the attempt that runs has ended; one that never got so far as to begin is recorded whole."""
    attempts = read_attempts(trial)
    if not attempts or attempts[-1].cause is not None:
        begin_attempt(trial)
    _append(trial, {"ended": time.time(), "cause": cause, "reason": reason})


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
            if "started" in row:
                attempts.append(Attempt(**row))
            elif attempts:
                attempts[-1] = replace(attempts[-1], **row)
        except (ValueError, TypeError):
            continue
    return attempts


def is_running(attempts: Sequence[Attempt]) -> bool:
    """Whether the last attempt has not ended, as far as anyone has said."""
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
    trial.root.mkdir(parents=True, exist_ok=True)
    # One write, begun by a line's end: whatever a crash has cut off before stays on a line of its own.
    descriptor = os.open(trial.attempts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, b"\n" + json.dumps(dict(row)).encode() + b"\n")
    finally:
        os.close(descriptor)
