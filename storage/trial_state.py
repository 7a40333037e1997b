"""State of a trial, derived from its files.

Invariant: status, metrics, results and the choice of the trials to run derive states by these functions alone, so that
they agree.
"""

from collections.abc import Sequence
from enum import StrEnum

from storage.attempts import Attempt, is_running
from storage.layout import TrialLayout
from storage.outcome import Outcome, read_outcome
from storage.samples import all_committed


class TrialState(StrEnum):
    """State of a trial: the first three are ends, the others are of a trial that has no end yet."""

    COMPLETED = "completed"
    """Trained to its last step, every shard committed."""
    STOPPED = "stopped"
    """Ended early by the scheduler of the search."""
    FAILED = "failed"
    """Ended with a reason; the next run tries it again."""
    RUNNING = "running"
    """A process trains it now."""
    INTERRUPTED = "interrupted"
    """Begun, and no process works on the sweep; the next run resumes it."""
    WAITING = "waiting"
    """Not begun, or begun and to be continued by the run that works on the sweep."""


NOT_ENDED = (TrialState.WAITING, TrialState.RUNNING, TrialState.INTERRUPTED)


def valid_end(outcome: Outcome | None, complete: bool) -> Outcome | None:
    """Return the recorded outcome if it ends the trial: `completed` ends it only with every shard committed."""
    return outcome if outcome is None or outcome.status != "completed" or complete else None


def read_end(trial: TrialLayout) -> Outcome | None:
    """Read the outcome that ends a trial; None for a trial that is to be run, or run on.

    Raises
    ------
    storage.atomic.DamagedError
        For a damaged outcome, or a damaged plan of a completed trial.
    """
    outcome = read_outcome(trial)
    return valid_end(outcome, outcome is not None and outcome.status == "completed" and all_committed(trial))


def trial_state(end: Outcome | None, attempts: Sequence[Attempt], active: bool) -> TrialState:
    """Derive the state of a trial.

    Parameters
    ----------
    end
        Outcome that ends the trial, as of `valid_end`.
    attempts
        Every start of the trial, the oldest first.
    active
        Whether any process works on the sweep. An attempt without a recorded end then runs; otherwise it was killed.
    """
    if end is not None:
        return TrialState(end.status)
    if active:
        return TrialState.RUNNING if is_running(attempts) else TrialState.WAITING
    return TrialState.INTERRUPTED if attempts else TrialState.WAITING
