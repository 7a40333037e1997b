"""Lost workers are replaced, within a budget, never on nodes that failed them, and not for ever in vain."""

import itertools
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from cluster import replacement
from cluster.job import JobEnd
from cluster.rendezvous import ClusterFolder, read_json, write_demand
from cluster.replacement import NEWS_S, PER_HOUR, QUEUE_S, Replacements
from cluster.scheduler import QueuedJob, RefusedError, SchedulerError, Submission, read_submission, write_submission


class Site:
    """A scheduler with a clock: jobs start as soon as they are submitted, and end when a test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.now = folder / "cluster", time.monotonic()
        self.files = ClusterFolder(self.folder)
        self.files.runs.mkdir(parents=True)
        write_submission(self.folder, Submission("x", "1", ("2",), 3, "h", "u", "t", controllers=("1",)))
        self.living = {"2_0", "2_1", "2_2"}
        self.submitted: list[tuple[float, int, set[str]]] = []
        self.kept_off: list[tuple[list[str], set[str]]] = []
        self.refusal: Exception | None = None
        self.state = "RUNNING"
        self.starts: str | None = None  # exit code with which every new job ends at once
        monkeypatch.setattr(replacement, "queue", self.queue)
        monkeypatch.setattr(replacement, "keep_off", lambda ids, nodes: self.kept_off.append((ids, set(nodes))))
        monkeypatch.setattr(replacement.time, "monotonic", lambda: self.now)
        self.replacements = Replacements(self.folder, folder / "logs", self)

    def queue(self, submission: Submission) -> list[QueuedJob]:
        return [QueuedJob(job, self.state, "None", "n", "1:00", 0.0) for job in ["1", *sorted(self.living)]]

    def workers(self, name: str, count: int, left_out: Collection[str]) -> list[str]:
        self.submitted.append((self.now, count, set(left_out)))
        if self.refusal is not None:
            raise self.refusal
        number = 10 + len(self.submitted)
        for task in range(count):
            self.living.add(f"{number}_{task}")
            if self.starts is not None:
                self.end(f"{number}_{task}", int(self.starts), node=f"n{number}{task}")
        return [str(number)]

    def successor(self, name: str, dependency: str = "") -> str:
        raise AssertionError

    def end(self, job: str, code: int | None, node: str = "n1", lived_s: float = 1) -> None:
        self.living.discard(job)
        end = "" if code is None else f"ended={100 + lived_s}\ncode={code}\n"
        (self.files.runs / f"{job}.0").write_text(f"node={node}\nbegan=100\nfrom=0\n{end}")

    def let_pass(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 1
            self.replacements.look()


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(folder, monkeypatch)


def test_nothing_is_submitted_while_all_are_there(site: Site) -> None:
    site.let_pass(3600)
    assert site.submitted == []


def test_what_ended_without_a_word_is_replaced(site: Site) -> None:
    site.living.remove("2_1")
    site.let_pass(2 * QUEUE_S)
    assert [(count, nodes) for _, count, nodes in site.submitted] == [(1, set())]
    submission = read_submission(site.folder)
    assert submission is not None
    assert submission.workers == ("2", "11")


def test_a_budget_holds_whatever_ends_the_workers(site: Site) -> None:
    """Each is preempted as soon as it has started."""
    for _ in range(2 * 3600):
        site.let_pass(1)
        for job in list(site.living):
            site.living.discard(job)
            site.end(job, 143, lived_s=300)
    times = [at for at, _, _ in site.submitted]
    assert len(times) > 20
    assert all(len([at for at in times if start <= at < start + 3600]) <= PER_HOUR for start in times)
    assert min(after - before for before, after in itertools.pairwise(times)) >= NEWS_S


def test_a_node_that_fails_is_left_out_also_by_those_that_wait(site: Site) -> None:
    site.state = "PENDING"
    site.end("2_1", 127, node="n7")
    site.let_pass(2 * QUEUE_S)
    assert site.kept_off == [(["2"], {"n7"})]
    assert [nodes for _, _, nodes in site.submitted] == [{"n7"}]


def test_memory_and_preemption_are_not_the_nodes_fault(site: Site) -> None:
    site.end("2_0", 137)
    site.end("2_1", None)
    site.let_pass(2 * QUEUE_S)
    assert site.kept_off == []
    assert {tuple(nodes) for _, _, nodes in site.submitted} == {()}


def test_it_gives_up_when_every_worker_fails_at_once(site: Site) -> None:
    site.starts = "9"
    for task in range(3):
        site.end(f"2_{task}", 9, node=f"n{task}")
    with pytest.raises(JobEnd, match=r"none of the 3 worker jobs is left: job \d+_\d on n\d+ failed \(exit code 9\)"):
        site.let_pass(3600)
    assert len(site.submitted) == 2
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(site.submitted)]
    assert gaps[0] > NEWS_S, "it waits longer after a failure"


def test_refusals_are_told_and_asked_again_less_and_less_often(site: Site) -> None:
    site.refusal = RefusedError("sbatch refuses: QOSMaxSubmitJobPerUserLimit")
    site.living.remove("2_1")
    site.let_pass(3600)
    times = [at for at, _, _ in site.submitted]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert 3 <= len(times) <= 12
    assert gaps == sorted(gaps)
    record = read_json(site.files.replacements)
    assert record is not None
    assert "QOSMaxSubmit" in record["refusal"]
    site.refusal = None
    site.let_pass(1800)
    record = read_json(site.files.replacements)
    assert record is not None
    assert record["refusal"] == ""
    assert len(site.living) == 3


def test_it_ends_when_none_is_left_and_none_is_taken(site: Site) -> None:
    site.refusal = RefusedError("sbatch refuses: no")
    site.living.clear()
    with pytest.raises(JobEnd, match="SLURM takes no other: sbatch refuses: no"):
        site.let_pass(4 * 3600)


def test_where_the_scheduler_does_not_answer_nothing_is_submitted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(submission: Submission) -> list[QueuedJob]:
        raise SchedulerError("no answer")

    monkeypatch.setattr(replacement, "queue", silent)
    site.let_pass(3600)
    assert site.submitted == []


def test_what_the_rest_of_the_work_cannot_use_is_not_replaced(site: Site) -> None:
    site.living = {"2_0"}
    write_demand(site.folder, 1)
    site.let_pass(10 * QUEUE_S)
    assert site.submitted == []
    site.living.clear()
    site.let_pass(10 * QUEUE_S)
    assert [count for _, count, _ in site.submitted] == [1]


def test_the_demand_is_never_more_than_was_asked_for_nor_nothing(site: Site) -> None:
    write_demand(site.folder, 500)
    site.let_pass(10 * QUEUE_S)
    assert site.submitted == []
    write_demand(site.folder, 0)
    site.living.clear()
    site.let_pass(2 * QUEUE_S)
    assert [count for _, count, _ in site.submitted] == [1]


@pytest.mark.parametrize("needed", [1, 2])
def test_jobs_that_wait_for_nothing_leave_the_queue(site: Site, monkeypatch: pytest.MonkeyPatch, needed: int) -> None:
    """One runs and two wait: they go only when one is enough."""
    asked: list[list[str]] = []
    monkeypatch.setattr(replacement, "ask", asked.append)
    waiting = QueuedJob("2_[1-2]", "PENDING", "Resources", "", "0:00", 0.0, count=2)
    running = [QueuedJob(job, "RUNNING", "None", "n", "1:00", 0.0) for job in ("1", "2_0")]
    monkeypatch.setattr(replacement, "queue", lambda submission: [*running, waiting])
    write_demand(site.folder, needed)
    site.let_pass(2 * QUEUE_S)
    assert site.submitted == []
    assert bool(asked) == (needed == 1)
    assert all(each == ["scancel", "--quiet", "--state=PENDING", "2"] for each in asked)
