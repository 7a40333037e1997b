"""Cause of death of a worker's process, read from the error that Ray raises for it.

Invariant: this module alone reads the text of Ray's errors, which carry no fields for most of what they say; the wording
is that of Ray 2.
"""

import re
from typing import Literal, NamedTuple


class ProcessEnd(NamedTuple):
    """End of a worker's process.

    Attributes
    ----------
    how
        `node_lost`: its node is gone, or fell silent; `ray`: an error of Ray itself, of which the process knows nothing;
        `error`: an exception, or the process could not start; `exited`, with an exit code; `memory`: Ray killed it for
        want of memory; `killed`: by a signal, or it crashed.
    text
        Of the error, as Ray gives it.
    code
        Exit code of a process that exited, else None.
    """

    how: Literal["node_lost", "ray", "error", "exited", "memory", "killed"]
    text: str
    code: int | None = None


def process_end(error: object) -> ProcessEnd:
    """Classify an error that Ray raises for a process, or the text of one that is at hand as text alone."""
    from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

    cause = getattr(error, "cause", None)
    text = str(cause or error)
    # "Unavailable": its node fell silent and is not yet known to be dead; when a process dies, its node says so.
    if names_lost_node(error) or isinstance(error, ActorUnavailableError):
        return ProcessEnd("node_lost", text)
    if not isinstance(error, RayActorError):
        # Of an exception that can't be pickled Ray makes a plain RayError.
        raised = isinstance(error, RayTaskError) and (type(cause) is RayError or not isinstance(cause, RayError))
        return ProcessEnd("error" if raised else "ray", text)
    if error.actor_init_failed or "Traceback" in text:
        return ProcessEnd("error", text)
    if code := re.search(r"exit code (-?\d+)", text):
        return ProcessEnd("exited", text, int(code[1]))
    return ProcessEnd("memory" if "low on memory" in text else "killed", text)


def names_lost_node(error: object) -> bool:
    """True if an error of Ray names a lost or leaving node."""
    return getattr(error, "preempted", False) or "node has died" in str(error) or "node was terminated" in str(error)


def last_error(text: str) -> str:
    """Return the line of a text of Ray's that names the error: the last of its last traceback, or else its last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return (errors or lines or ["no reason given"])[-1]
