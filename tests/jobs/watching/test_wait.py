"""Waiting ends when the sweep does, however it does, and says why."""

from types import SimpleNamespace

import pytest

from cluster.rendezvous import ClusterFolder, Head, write_head
from cluster.scheduler import Submission, write_submission
from jobs.watching import wait
from jobs.watching.wait import ASK_S, LOOK_S, wait_for_end

LATER_S, PATIENCE_S = 200, 1000


@pytest.fixture
def later(prepared, monkeypatch):
    """A submitted sweep whose state changes after a while of a clock that nobody has to wait for, and its queue."""
    layout, _ = prepared()
    write_submission(layout.cluster, Submission("x", "1", ("2",), 3, "h", "u", "t", controllers=("1",)))
    write_head(layout.cluster, Head("1", 0, 1, "running"))

    def run(change, jobs, at="sleep"):
        now, asked = 0.0, 0

        def sleep(seconds):
            nonlocal now
            now += seconds
            assert now < PATIENCE_S, "it waits for ever"
            if at == "sleep" and now == LATER_S:
                change(layout)

        def on_slurm(layout):
            nonlocal asked
            asked += 1
            if at == "question":
                change(layout)
            return SimpleNamespace(jobs=jobs)

        monkeypatch.setattr(wait, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
        monkeypatch.setattr(wait, "on_slurm", on_slurm)
        return wait_for_end(layout), now, asked

    return run


def done(layout) -> None:
    write_head(layout.cluster, Head("1", 0, 1, "done"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (done, ""),
        (
            lambda layout: write_head(layout.cluster, Head("1", 0, 1, "failed", reason="no space")),
            "its controller failed: no space",
        ),
        (lambda layout: ClusterFolder(layout.cluster).cancelled.touch(), "it was cancelled"),
    ],
)
@pytest.mark.parametrize("jobs", [["1"], None])
def test_it_ends_with_the_sweep(later, change, why, jobs) -> None:
    """Whether SLURM answers or not, and with few questions to it."""
    assert later(change, jobs) == (why, LATER_S, LATER_S // ASK_S)


def test_jobs_that_are_gone_without_a_word_are_not_waited_for(later) -> None:
    assert later(done, []) == ("none of its jobs is left", ASK_S + LOOK_S, 1)


def test_the_last_word_of_a_job_that_has_just_gone_counts(later) -> None:
    assert later(done, [], at="question")[0] == ""
