"""Nothing that a command started outlives it, however it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.reaper import MARK, guarded, marked, remove_semaphores, sweep
from tests.waiting import until

pytestmark = pytest.mark.process

PROGRAM = """
import os, subprocess, sys, time
from cluster.reaper import MARK, guarded
with guarded():
    for _ in range(2):  # in sessions of their own, deaf to SIGTERM, and holding no pipe of ours
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.DEVNULL)
    print(os.environ[MARK], flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_command_leaves_nothing(signal_number: int) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    mark = command.stdout.readline().strip()
    assert len(marked(mark)) == 2
    os.killpg(command.pid, signal_number)
    command.wait()
    command.stdout.close()
    deadline = time.monotonic() + 10
    while marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_whose_name_is_no_text_hides_no_other() -> None:
    name = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'gr\\xc3'); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", name], stdout=subprocess.PIPE) as odd:
        odd.stdout.readline()
        try:
            with guarded():
                mark = os.environ[MARK]
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                until(lambda: marked(mark))
            assert child.wait() == -signal.SIGKILL
        finally:
            odd.kill()


def test_leaving_the_context_ends_what_was_started_in_it() -> None:
    with guarded():
        mark = os.environ[MARK]
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        deadline = time.monotonic() + 10
        while marked(mark) != [child.pid]:  # its environment is there a moment after it has started
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert child.wait() == -signal.SIGKILL
    assert MARK not in os.environ


def test_a_killed_command_leaves_no_folder(folder: Path) -> None:
    temporary = folder / "temporary"
    temporary.mkdir()
    (temporary / "file").touch()
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom cluster.reaper import guarded\n"
        "with guarded(Path(sys.argv[1])):\n print('', flush=True)\n time.sleep(600)"
    )
    command = subprocess.Popen([sys.executable, "-c", program, str(temporary)], stdout=subprocess.PIPE)
    assert command.stdout is not None
    command.stdout.readline()
    os.kill(command.pid, signal.SIGKILL)
    command.communicate()
    deadline = time.monotonic() + 10
    while temporary.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_hides_its_mark_goes_with_its_session() -> None:
    hider = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], env={}).pid, flush=True); input()"
    with guarded():
        child = subprocess.Popen(
            [sys.executable, "-c", hider],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None
        hidden = int(child.stdout.readline())
        assert hidden not in marked(os.environ[MARK])
        assert Path("/proc", str(hidden)).exists()
    child.communicate()
    deadline = time.monotonic() + 10
    while Path("/proc", str(hidden)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_where_all_have_ended_none_is_waited_for() -> None:
    with guarded() as all_ended:
        child = subprocess.Popen(["sleep", "600"])
        assert child.pid in marked(os.environ[MARK])
        all_ended()
    assert child.wait(5) == -signal.SIGKILL, "one that is there all the same is killed"


def test_a_sweep_without_waiting_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    sweep("nobody's mark", quiet_s=0.0)
    assert slept == []


def test_semaphores_of_killed_processes_are_removed(folder: Path) -> None:
    program = (
        "import multiprocessing as m, time\n"
        "lock = m.get_context('spawn').Lock()\nprint(lock._semlock.name, flush=True)\ntime.sleep(600)"
    )
    with guarded():
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        semaphore = Path("/dev/shm", f"sem.{child.stdout.readline().strip().removeprefix('/')}")
        assert semaphore.exists()
    child.communicate()
    assert not semaphore.exists()


def test_semaphores_of_living_processes_stay() -> None:
    """Of their makers, which map them under another name, and of those that have opened them."""
    context = multiprocessing.get_context("spawn")
    made = context.Semaphore()
    path = Path("/dev/shm", f"sem.{made._semlock.name.removeprefix('/')}")
    remove_semaphores()
    assert path.exists()
    left = Path(f"/dev/shm/sem.mp-of-a-test-{os.getpid()}")
    left.touch()
    remove_semaphores()
    assert (path.exists(), left.exists()) == (True, False)


def test_what_killed_processes_leave_is_removed_in_silence(folder: Path) -> None:
    """As Dask's workers, which share this process's resource tracker: it would print a warning for each semaphore."""
    program = folder / "program.py"
    program.write_text(
        "import multiprocessing as m, time\nfrom cluster.reaper import guarded\n"
        "def work(ready):\n    lock = m.get_context('spawn').Lock()\n    ready.send(0)\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n    with guarded():\n        ours, theirs = m.Pipe()\n"
        "        m.get_context('spawn').Process(target=work, args=[theirs], daemon=True).start()\n        ours.recv()\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert (done.returncode, done.stderr) == (0, "")
