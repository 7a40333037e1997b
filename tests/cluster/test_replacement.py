"""Lost workers are replaced, within a budget, never on nodes that failed them, and not for ever in vain."""

import itertools
import math
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from cluster import replacement
from cluster.job import REQUEUE, JobEnd
from cluster.rendezvous import ClusterFolder, read_json, write_demand
from cluster.replacement import LONGEST_PAUSE_S, NEWS_S, PER_HOUR, QUEUE_S, Replacements
from cluster.scheduler import QueuedJob, RefusedError, SchedulerError, Submission, read_submission, write_submission


class Site:
    """A scheduler with a clock: jobs start as soon as they are submitted, and end when a test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.now = folder / "cluster", float(math.ceil(time.monotonic()))  # sums of seconds are exact
        self.files = ClusterFolder(self.folder)
        self.files.runs.mkdir(parents=True)
        write_submission(self.folder, Submission("x", "1", ("2",), 3, "h", "u", "t", controllers=("1",)))
        self.living = {"2_0", "2_1", "2_2"}
        self.submitted: list[tuple[float, int, set[str]]] = []
        self.submitted_kinds: list[str] = []
        self.refused_kinds: set[str] = set()
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

    def workers(self, name: str, kind: str, count: int, left_out: Collection[str]) -> list[str]:
        self.submitted.append((self.now, count, set(left_out)))
        self.submitted_kinds.append(kind)
        if self.refusal is not None and (not self.refused_kinds or kind in self.refused_kinds):
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


def silent(submission: Submission) -> list[QueuedJob]:
    raise SchedulerError("no answer")


def test_where_the_scheduler_does_not_answer_nothing_is_submitted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacement, "queue", silent)
    site.let_pass(3600)
    assert site.submitted == []


def test_workers_that_end_while_slurm_is_away_are_replaced_when_it_answers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None could requeue itself; an absence of some minutes does not end the sweep, a long one does."""
    monkeypatch.setattr(replacement.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(replacement, "queue", silent)
    for task in range(3):
        site.end(f"2_{task}", REQUEUE, lived_s=600)
        with (site.files.runs / f"2_{task}.0").open("a") as run:
            run.write("requeue=refused: Unable to contact slurm controller\n")
    site.let_pass(LONGEST_PAUSE_S - QUEUE_S)
    assert site.submitted == []
    monkeypatch.setattr(replacement, "queue", site.queue)
    site.let_pass(QUEUE_S)
    assert [count for _, count, _ in site.submitted] == [3]
    monkeypatch.setattr(replacement, "queue", silent)
    for job in sorted(site.living):
        site.end(job, 9)
    with pytest.raises(JobEnd, match=r"none of the 3 worker jobs is left: .* 3 failed, 3 requeue_refused"):
        site.let_pass(LONGEST_PAUSE_S + QUEUE_S)


def test_workers_that_requeued_themselves_are_not_gone_where_slurm_is_not_installed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, the records of the jobs' scripts alone tell which workers are left."""
    monkeypatch.setattr(replacement.shutil, "which", lambda name: None)
    monkeypatch.setattr(replacement, "queue", silent)
    for task in range(3):
        site.end(f"2_{task}", REQUEUE)
        with (site.files.runs / f"2_{task}.0").open("a") as run:
            run.write("requeue=asked\n")
    site.let_pass(3600)  # they wait in the queue
    for task in range(3):
        (site.files.runs / f"2_{task}.1").write_text("node=n1\nbegan=4000\nfrom=0\n")
    site.let_pass(2 * QUEUE_S)
    for task in range(3):
        (site.files.runs / f"2_{task}.1").write_text("node=n1\nbegan=4000\nfrom=0\nended=4100\ncode=0\n")
    with pytest.raises(JobEnd, match="none of the 3 worker jobs is left"):
        site.let_pass(2 * QUEUE_S)


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


@pytest.fixture
def two_kinds(site: Site) -> Site:
    """Two workers of a big kind, which hold four processes each, and three of a small one, which hold one."""
    asked, kinds = {"big": 2, "small": 3}, {"2": "big", "3": "small"}
    several = Submission("x", "1", ("2", "3"), 5, "h", "u", "t", controllers=("1",), asked=asked, kinds=kinds)
    write_submission(site.folder, several)
    site.living = {"2_0", "2_1", "3_0", "3_1", "3_2"}
    return site


HELD = {"big": 4, "small": 1}


def test_each_kind_is_replaced_by_its_own(two_kinds: Site) -> None:
    two_kinds.living -= {"2_1", "3_0", "3_2"}
    two_kinds.let_pass(2 * QUEUE_S)
    assert two_kinds.submitted_kinds == ["big", "small"]
    assert [count for _, count, _ in two_kinds.submitted] == [1, 2]
    submission = read_submission(two_kinds.folder)
    assert submission is not None
    assert [submission.kind_of(job) for job in submission.workers] == ["big", "small", "big", "small"]
    two_kinds.let_pass(3600)
    assert len(two_kinds.submitted) == 2


@pytest.mark.parametrize(
    ("living", "left", "wanted"),
    [
        (["3_0"], 5, {"big": 1}),  # one of them and one of the other hold all five
        (["3_0"], 6, {"big": 2}),
        (["3_0"], 99, {"big": 2, "small": 2}),
        (["2_0"], 4, {}),
        (["2_0"], 5, {"big": 1}),
        (["2_0", "2_1"], 9, {"small": 1}),
        ([], 1, {"big": 1}),
    ],
)
def test_kinds_are_replaced_as_far_as_the_rest_needs_them(
    two_kinds: Site, living: list[str], left: int, wanted: dict[str, int]
) -> None:
    write_demand(two_kinds.folder, left, HELD)
    two_kinds.living = set(living)
    two_kinds.let_pass(2 * QUEUE_S)
    counts = [count for _, count, _ in two_kinds.submitted]
    assert dict(zip(two_kinds.submitted_kinds, counts, strict=True)) == wanted


def test_a_kind_that_slurm_refuses_does_not_hold_up_another(two_kinds: Site) -> None:
    two_kinds.refusal, two_kinds.refused_kinds = RefusedError("sbatch refuses: no such QOS"), {"big"}
    two_kinds.living = set()
    for _ in range(20):
        two_kinds.let_pass(120)
        two_kinds.living = set(sorted(two_kinds.living)[1:])  # one of the small ones ends every two minutes
    assert two_kinds.submitted_kinds.count("small") >= 15
    assert two_kinds.submitted_kinds.count("big") <= 8
    record = read_json(two_kinds.files.replacements)
    assert record is not None
    assert record["refusal"] == "workers big: sbatch refuses: no such QOS"


def test_the_rest_goes_to_another_kind_when_one_fails_again_and_again(two_kinds: Site) -> None:
    """A single process is left, which a big worker would take; every one of them fails."""
    write_demand(two_kinds.folder, 1, HELD)
    two_kinds.living = set()
    for task in range(2):
        two_kinds.end(f"2_{task}", 9, node=f"n{task}")
    for _ in range(60):
        two_kinds.let_pass(60)
        for job in [job for job in two_kinds.living if two_kinds.submitted_kinds[int(job.split("_")[0]) - 11] == "big"]:
            two_kinds.end(job, 9, node="n")
    assert two_kinds.submitted_kinds == ["big", "big", "small"]


def test_it_gives_up_only_when_no_kind_has_hope(two_kinds: Site) -> None:
    two_kinds.starts = "9"
    for job in sorted(two_kinds.living):
        two_kinds.end(job, 9, node=f"n{job}")
    with pytest.raises(JobEnd, match="none of the 5 worker jobs is left"):
        two_kinds.let_pass(2 * 3600)
    assert two_kinds.submitted_kinds == ["big", "small"] * 2
