"""Children end with all they started, hear no signal of SLURM's, and say how they ended."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from cluster.supervise import Failures, Process, node_folder, notices, temporary_folders
from tests.waiting import until


def python(name: str, code: str, log: Path, polite: bool = False) -> Process:
    return Process(name, [sys.executable, "-c", code], log, {"GREETING": "hello"}, polite)


@pytest.mark.process
def test_a_child_that_ends_says_how_and_what_it_said_last(folder: Path) -> None:
    log = folder / "logs" / "child.log"
    log.parent.mkdir()
    log.write_text("an earlier child's last words\n")
    child = python("the child", "import os, sys; print(os.environ['GREETING'] * 3000); sys.exit('no such file')", log)
    until(lambda: child.code is not None)
    said = child.ending()
    assert said.startswith("the child exited with code 1 after ")
    assert str(log) in said
    assert said.endswith("no such file")
    assert "earlier" not in said
    killed = python("another", "import time; time.sleep(60)", log)
    killed.end()
    assert "was killed by SIGKILL" in killed.ending()


@pytest.mark.process
def test_an_end_takes_all_that_the_child_started_even_what_hides_the_mark(folder: Path) -> None:
    # As Ray's agents do: one that has no mark any more, in the child's session; and one with the mark, in its own.
    code = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
hidden = subprocess.Popen(sleep, env={})
away = subprocess.Popen(sleep, start_new_session=True)
print(hidden.pid, away.pid, flush=True)
time.sleep(600)
"""
    child = python("the child", code, folder / "log")
    until(lambda: len(child.tail().split()) == 2)
    pids = [int(word) for word in child.tail().split()]
    assert all(map(psutil.pid_exists, pids))
    child.end()
    until(
        lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids),
        "they are gone",
        20,
    )


@pytest.mark.process
def test_signals_of_slurm_do_not_reach_children_but_polite_ones(folder: Path) -> None:
    code = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('up', flush=True)\ntime.sleep(60)"
    )
    deaf, polite = python("deaf", code, folder / "1"), python("polite", code, folder / "2", polite=True)
    until(lambda: deaf.tail() == polite.tail() == "up")
    for child in (deaf, polite):
        for number in (signal.SIGUSR2, signal.SIGTERM) if child is deaf else (signal.SIGTERM,):
            os.kill(child._process.pid, number)
    until(lambda: polite.code == 0)
    assert deaf.code is None
    deaf.end()
    assert deaf.code == -signal.SIGKILL
    polite = python("polite", code, folder / "3", polite=True)
    until(lambda: polite.tail() == "up")
    polite.end()
    assert polite.code == 0


def test_failures_in_a_row_wait_longer_and_longer_then_give_up() -> None:
    failures = Failures(limit=4, early_s=60)
    assert [failures.delay_s(lived) for lived in (1, 1, 1)] == [1, 2, 4]
    assert failures.delay_s(3600) == 1  # a long life begins the row again
    assert [failures.delay_s(0) for _ in range(3)] == [2, 4, None]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_notice_ends_the_sleep_and_is_remembered(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with notices() as notice:
        assert not notice.wait(0.01)
        threading.Timer(0.2, lambda: os.kill(os.getpid(), number)).start()
        started = time.monotonic()
        assert notice.wait(30)
        assert time.monotonic() - started < 10
        assert notice.wait(30)
        assert notice.received == number
    assert signal.getsignal(number) == before


@pytest.mark.process
def test_folders_of_jobs_that_were_killed_are_removed_and_those_in_use_are_not(scratch: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom cluster.supervise import node_folder\n"
        "with node_folder(Path(sys.argv[1]), '1') as folder:\n print(folder, flush=True)\n time.sleep(60)"
    )
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, str(scratch)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    living, dead = (Path(job.stdout.readline().strip()) for job in jobs if job.stdout)
    jobs[1].kill()
    jobs[1].wait()
    assert dead.is_dir()
    with node_folder(scratch, "2") as mine:
        assert mine.stat().st_mode & 0o077 == 0
        assert not dead.exists()
        assert living.is_dir()
    assert not mine.exists()
    for job in jobs:
        job.kill()
        job.communicate()


def test_temporary_folders(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_OF_JOB", str(scratch / "deep" / ("x" * 60)))
    with temporary_folders("$SCRATCH_OF_JOB/mine", "12_3") as (own, short):
        assert own.parent == scratch / "deep" / ("x" * 60) / "mine"
        assert len(str(short)) <= 40  # Ray's sockets
        assert short.parent == Path("/tmp")
    assert not own.exists()
    assert not short.exists()
    with (
        pytest.raises(ValueError, match=r"temporary: /scratch/\$NO_SUCH_VARIABLE: .* does not set"),
        temporary_folders("/scratch/$NO_SUCH_VARIABLE", "1"),
    ):
        pass
