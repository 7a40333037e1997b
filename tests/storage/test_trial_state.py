"""State of a trial: one derivation for status, metrics, results and the choice of trials to run."""

import numpy as np
import pytest

from storage.attempts import Cause, begin_attempt, end_attempt, read_attempts
from storage.layout import SweepLayout, TrialLayout
from storage.outcome import Failure, Outcome, Status, read_outcome, write_outcome
from storage.plan import ShardPlan
from storage.shards import ShardWriter, create_samples
from storage.trial_state import TrialState, read_end, trial_state, valid_end
from storage.watch import TrialWatch

PLAN = ShardPlan.make([(3, 4)], (1, 2, 2))


@pytest.fixture
def trial(folder) -> TrialLayout:
    return SweepLayout(folder).trial("dcgan-1")


def commit_all(trial: TrialLayout) -> None:
    create_samples(trial, PLAN)
    for shard in PLAN.shards:
        ShardWriter(trial, PLAN).write(shard.index, np.zeros((PLAN.shard_images, 1, 2, 2), np.uint8))


def states(trial: TrialLayout) -> tuple[TrialState, TrialState]:
    """While something works on the sweep, and while nothing does; the cheap look agrees with the full reading."""
    watch = TrialWatch(trial)
    watch.look()
    full = [trial_state(read_end(trial), read_attempts(trial), active) for active in (True, False)]
    assert [watch.state(True), watch.state(False)] == full
    return full[0], full[1]


def test_states_from_the_first_attempt_to_the_end(trial) -> None:
    assert states(trial) == (TrialState.WAITING, TrialState.WAITING)
    begin_attempt(trial)
    assert states(trial) == (TrialState.RUNNING, TrialState.INTERRUPTED)
    end_attempt(trial, Cause.PREEMPTED)
    assert states(trial) == (TrialState.WAITING, TrialState.INTERRUPTED)
    begin_attempt(trial)
    commit_all(trial)
    write_outcome(trial, Outcome("completed", step=3))
    assert states(trial) == (TrialState.COMPLETED, TrialState.COMPLETED)


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_ends_that_need_no_shards(trial, status: Status) -> None:
    write_outcome(trial, Outcome(status))
    assert states(trial) == (TrialState(status), TrialState(status))


def test_completed_without_every_shard_is_no_end(trial) -> None:
    begin_attempt(trial)
    end_attempt(trial, Cause.COMPLETED)
    write_outcome(trial, Outcome("completed", step=3))
    assert read_end(trial) is None, "no samples at all"
    assert states(trial) == (TrialState.WAITING, TrialState.INTERRUPTED)
    commit_all(trial)
    trial.commit(0).unlink()
    assert states(trial) == (TrialState.WAITING, TrialState.INTERRUPTED)


def test_a_lost_shard_that_is_drawn_again_is_watched(trial) -> None:
    """The old outcome stays until the new one replaces it: the watch must still read the new attempt."""
    commit_all(trial)
    trial.commit(0).unlink()
    write_outcome(trial, Outcome("completed", step=3))
    watch = TrialWatch(trial)
    watch.look()
    begin_attempt(trial)
    watch.look()
    assert watch.state(active=True) is TrialState.RUNNING


def test_a_completed_outcome_alone_needs_its_shards() -> None:
    for status, complete, ends in (("completed", True, True), ("completed", False, False), ("failed", False, True)):
        assert (valid_end(Outcome(status), complete) is not None) == ends
    assert valid_end(None, True) is None


def test_causes_survive_the_disk(trial) -> None:
    begin_attempt(trial)
    end_attempt(trial, Cause.ERROR, "it broke", Failure.DISK)
    (attempt,) = read_attempts(trial)
    assert attempt.cause is Cause.ERROR
    assert attempt.failure is Failure.DISK
    write_outcome(trial, Outcome("failed", reason="it broke", failure=Failure.NAN))
    outcome = read_outcome(trial)
    assert outcome is not None
    assert outcome.failure is Failure.NAN


def test_records_without_a_failure_are_read(trial) -> None:
    """As version 0.1.0 wrote them."""
    trial.root.mkdir(parents=True)
    trial.outcome.write_text('{"status": "failed", "step": null, "reason": "out of GPU memory"}')
    assert read_outcome(trial) == Outcome("failed", reason="out of GPU memory")
    trial.attempts.write_text(
        '{"started": 1.0, "host": "a", "pid": 2, "progress": "0-0"}\n{"cause": "died", "ended": 2}\n'
    )
    (attempt,) = read_attempts(trial)
    assert (attempt.cause, attempt.failure) == (Cause.DIED, None)


def test_an_outcome_of_unknown_failure_is_damaged(trial) -> None:
    trial.root.mkdir(parents=True)
    trial.outcome.write_text('{"status": "failed", "failure": "gremlins"}')
    with pytest.raises(ValueError, match="damaged, expected the outcome of the trial"):
        read_outcome(trial)
