"""What SLURM's commands say is understood; that they are missing is said."""

import os
from pathlib import Path

import pytest

from cluster import scheduler
from cluster.scheduler import SchedulerError, ask, keep_off, outside_any_job, tasks_of


@pytest.mark.parametrize(
    ("job", "tasks"),
    [("12", 1), ("12_3", 1), ("12_[4-9]", 6), ("12_[4-9%2]", 6), ("12_[1,3,7-8]", 4), ("12_[0-10:5]", 3)],
)
def test_tasks_of_a_line_of_squeue(job: str, tasks: int) -> None:
    assert tasks_of(job) == tasks


@pytest.mark.process
@pytest.mark.parametrize(("listed", "left_out"), [("(null)", "n7"), ("n[1,3],n9", "n[1,3],n9,n7"), ("n7,n9", "n7,n9")])
def test_a_job_keeps_off_the_nodes_that_its_site_leaves_out_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, listed: str, left_out: str
) -> None:
    asked = folder / "asked"
    (folder / "scontrol").write_text(
        f'#!/bin/sh\necho "$@" >> "{asked}"\n'
        f'[ "$1" = show ] && echo "JobId=$4 ReqNodeList=(null) ExcNodeList={listed} Features=(null)"\nexit 0\n'
    )
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    keep_off(["5", "6"], {"n7"})
    updates = [line for line in asked.read_text().splitlines() if line.startswith("update")]
    assert updates == [f"update JobId={job} ExcNodeList={left_out}" for job in (5, 6)]


def test_one_job_that_has_begun_meanwhile_keeps_no_other_from_being_kept_off(monkeypatch: pytest.MonkeyPatch) -> None:
    updated = []

    def ask(command: list[str]) -> str:
        if command[-1] == "5":
            raise SchedulerError("no longer pending")
        if command[1] == "update":
            updated.append(command[2])
        return "ExcNodeList=(null)"

    monkeypatch.setattr(scheduler, "ask", ask)
    with pytest.raises(SchedulerError, match="no longer pending"):
        scheduler.keep_off(["5", "6"], {"n7"})
    assert updated == ["JobId=6"]


@pytest.mark.process
def test_what_fails_is_shown_whole() -> None:
    with pytest.raises(SchedulerError, match="`sh` failed: first line\nsecond line"):
        ask(["sh", "-c", "echo first line >&2; echo second line >&2; exit 3"])
    with pytest.raises(SchedulerError, match="no command squeue-of-another-system; `ganlab run`"):
        ask(["squeue-of-another-system"])


def test_a_job_submitted_from_a_job_takes_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/mine.conf")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "7")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")  # the user's own default
    kept = outside_any_job()
    assert kept["SLURM_CONF"] == "/etc/mine.conf"
    assert kept["SBATCH_ACCOUNT"] == "mine"
    assert kept["SLURM_BITSTR_LEN"] == "0"  # lists of tasks in full
    assert not {"SLURM_JOB_ID", "SLURM_MEM_PER_CPU"} & set(kept)
