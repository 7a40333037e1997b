"""How a trial ended.

Invariant: an outcome is written once the trial's shards are committed, whole or not at all; a trial is done when its
outcome says so and every shard of its plan is committed.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from storage.atomic import DamagedError, read_json, write_json
from storage.layout import TrialLayout

Status = Literal["completed", "stopped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """`completed`, `stopped` early by the scheduler, or `failed` with a reason; `step` is the last one reached."""

    status: Status
    step: int | None = None
    reason: str | None = None


def write_outcome(trial: TrialLayout, outcome: Outcome) -> None:
    """Record how the trial ended."""
    write_json(trial.outcome, asdict(outcome))


def read_outcome(trial: TrialLayout) -> Outcome | None:
    """The recorded outcome, or None while there is none."""
    if not trial.outcome.exists():
        return None
    try:
        return Outcome(**read_json(trial.outcome))
    except TypeError as error:
        raise DamagedError(trial.outcome, "the outcome of the trial", error) from error
