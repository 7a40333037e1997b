"""Outcome of a trial.

Invariant: an outcome is written once the trial's shards are committed, whole or not at all; a trial is done when its
outcome says so and every shard of its plan is committed.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Literal

from storage.atomic import DamagedError, read_json, write_json
from storage.layout import TrialLayout

Status = Literal["completed", "stopped", "failed"]


class Failure(StrEnum):
    """Cause of a failure."""

    NAN = "nan"
    """A loss or a weight was not finite."""
    OUT_OF_MEMORY = "out_of_memory"
    """The memory of the GPU was too small."""
    DISK = "disk"
    """A file could not be written."""
    DIED = "died"
    """The process was killed, crashed or exited."""
    ERROR = "error"
    """Any other exception."""


@dataclass(frozen=True)
class Outcome:
    """End of a trial.

    Attributes
    ----------
    status
        `completed`, `stopped` early by the scheduler, or `failed`.
    step
        Last step reached, where it is known.
    reason
        Why it was stopped or has failed, in one line.
    failure
        Cause of the failure; None for the other ends, and in records of version 0.1.0.
    """

    status: Status
    step: int | None = None
    reason: str | None = None
    failure: Failure | None = None


def write_outcome(trial: TrialLayout, outcome: Outcome) -> None:
    """Record how the trial ended."""
    write_json(trial.outcome, asdict(outcome))


def read_outcome(trial: TrialLayout) -> Outcome | None:
    """The recorded outcome, or None while there is none."""
    if not trial.outcome.exists():
        return None
    try:
        outcome = Outcome(**read_json(trial.outcome))
        return replace(outcome, failure=outcome.failure and Failure(outcome.failure))
    except DamagedError:
        raise
    except (TypeError, ValueError) as error:
        raise DamagedError(trial.outcome, "the outcome of the trial", error) from error
