"""Dask on this machine: results as they come, workers that die, and nothing left behind."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from cluster.local import _private_folder, local_dask, local_resources


def square(number: int) -> int:
    return number * number


def die_once(path: str) -> int:
    """Kill the worker that runs this, the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def fail(number: int) -> int:
    raise ValueError(f"task {number}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dask_maps_survives_a_killed_worker_and_leaves_nothing(folder: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with local_dask(2, 2**30) as map:
        assert sorted(map(square, range(50))) == [number * number for number in range(50)]
        assert list(map(die_once, [str(folder / "died")])) == [1]
        with pytest.raises(ValueError, match="task 3"):
            list(map(fail, [3]))
        assert list(map(square, [])) == []
    deadline = time.monotonic() + 10
    while left := [
        p for p in set(psutil.Process().children(recursive=True)) - before if "resource_tracker" not in str(p.cmdline())
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_folders_of_killed_commands_are_removed(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(scratch))
    dead = scratch / f"ganlab-{os.getuid()}-4194999-x"
    other = scratch / "ganlab-somebody-else"
    for path in (dead, other):
        path.mkdir()
    with _private_folder() as mine:
        assert mine.parent == scratch
        assert mine.stat().st_mode & 0o077 == 0
        assert not dead.exists()
        assert other.exists()
    assert not mine.exists()


def test_resources_follow_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local_resources() == {"CPU": len(os.sched_getaffinity(0)), "GPU": 2}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_resources()["GPU"] == 0
