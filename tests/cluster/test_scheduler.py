"""What SLURM's commands say is understood; that they are missing is said."""

import pytest

from cluster.scheduler import SchedulerError, ask, outside_any_job, tasks_of


@pytest.mark.parametrize(
    ("job", "tasks"),
    [("12", 1), ("12_3", 1), ("12_[4-9]", 6), ("12_[4-9%2]", 6), ("12_[1,3,7-8]", 4), ("12_[0-10:5]", 3)],
)
def test_tasks_of_a_line_of_squeue(job: str, tasks: int) -> None:
    assert tasks_of(job) == tasks


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
    assert not {"SLURM_JOB_ID", "SLURM_MEM_PER_CPU"} & set(kept)
