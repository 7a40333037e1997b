"""Attempts at a trial: what counts against it, and what does not."""

import os

import pytest

from storage.atomic import write_bytes
from storage.attempts import (
    begin_attempt,
    end_attempt,
    failures_in_a_row,
    forget_failure,
    is_running,
    read_attempts,
    resume_attempt,
)
from storage.layout import SweepLayout, TrialLayout
from storage.outcome import Outcome, read_outcome, write_outcome


@pytest.fixture
def trial(folder) -> TrialLayout:
    return SweepLayout(folder).trial("dcgan-1")


def attempt(trial: TrialLayout, cause: str, reason: str = "") -> None:
    begin_attempt(trial)
    end_attempt(trial, cause, reason)


def test_an_attempt_is_told_from_start_to_end(trial) -> None:
    assert read_attempts(trial) == []
    begin_attempt(trial)
    resume_attempt(trial, 1200)
    (running,) = read_attempts(trial)
    assert is_running([running])
    assert (running.pid, running.step, running.cause) == (os.getpid(), 1200, None)
    end_attempt(trial, "died", "killed")
    (ended,) = read_attempts(trial)
    assert not is_running([ended])
    assert (ended.step, ended.cause, ended.reason) == (1200, "died", "killed")
    assert ended.ended >= ended.started


def test_failures_count_until_there_is_progress(trial) -> None:
    for _ in range(2):
        attempt(trial, "error", "no such device")
    assert [each.reason for each in failures_in_a_row(trial)] == ["no such device"] * 2
    write_bytes(trial.checkpoint, b"state")
    assert failures_in_a_row(trial) == []
    attempt(trial, "died")
    assert len(failures_in_a_row(trial)) == 1
    write_bytes(trial.commit(0), b"{}")
    assert failures_in_a_row(trial) == []


@pytest.mark.parametrize("cause", ["preempted", "node_lost", "interrupted"])
def test_interruptions_neither_count_nor_wash_away_failures(trial, cause) -> None:
    attempt(trial, "error")
    for _ in range(5):
        attempt(trial, cause)
    attempt(trial, "died")
    assert [each.cause for each in failures_in_a_row(trial)] == ["error", "died"]


def test_an_attempt_that_never_began_counts(trial) -> None:
    end_attempt(trial, "error", "no module named ganlab")
    end_attempt(trial, "error", "no module named ganlab")
    assert len(failures_in_a_row(trial)) == 2


def test_trying_again_begins_with_a_clean_record_and_keeps_the_story(trial) -> None:
    attempt(trial, "died")
    write_outcome(trial, Outcome("failed", reason="it died"))
    forget_failure(trial)
    assert read_outcome(trial) is None
    assert failures_in_a_row(trial) == []
    assert len(read_attempts(trial)) == 1
    attempt(trial, "died")
    assert len(failures_in_a_row(trial)) == 1


def test_a_line_cut_off_by_a_crash_is_passed_over(trial) -> None:
    attempt(trial, "preempted")
    with trial.attempts.open("ab") as file:
        file.write(b'{"started": 12')
    assert len(read_attempts(trial)) == 1
    begin_attempt(trial)
    assert [each.cause for each in read_attempts(trial)] == ["preempted", None]
