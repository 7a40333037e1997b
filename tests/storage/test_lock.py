"""One command at a time: by the kernel's locks, and by the record where a file system has none."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from storage.layout import SweepLayout
from storage.lock import SweepBusyError, is_unused, lock_holder, one_at_a_time, sweep_lock

HOLD = """
import sys, time
from pathlib import Path
from storage.layout import SweepLayout
from storage.lock import sweep_lock
with sweep_lock(SweepLayout(Path(sys.argv[1])), "ganlab run there.yaml"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def layout(folder: Path) -> SweepLayout:
    return SweepLayout(folder / "sweep")


@pytest.fixture(params=["locks", "no locks"])
def file_system(request, monkeypatch) -> str:
    """The file system as it is, and one that answers as Lustre does when mounted without locks."""
    if request.param == "no locks":

        def flock(file, operation) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(fcntl, "flock", flock)
    return request.param


def test_a_second_command_is_refused_until_the_first_ends(layout, file_system) -> None:
    assert lock_holder(layout) is None
    with sweep_lock(layout, "ganlab run a.yaml"):
        assert f"`ganlab run a.yaml` on {os.uname().nodename}, process {os.getpid()}" in lock_holder(layout)
        with pytest.raises(SweepBusyError, match=r"in use by `ganlab run a\.yaml`"), sweep_lock(layout, "another"):
            pass
    assert lock_holder(layout) is None
    assert is_unused(layout)
    with sweep_lock(layout, "another"):
        pass


@pytest.mark.process
def test_a_killed_command_holds_nothing(layout, file_system) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, layout.root], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert "`ganlab run there.yaml`" in lock_holder(layout)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert lock_holder(layout) is None
    with sweep_lock(layout, "another"):
        pass


def test_without_locks_a_command_on_another_host_is_believed_and_the_remedy_named(layout, monkeypatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "no locks")))
    layout.cluster.mkdir(parents=True)
    layout.lock.write_text(json.dumps({"command": "ganlab run", "host": "login2", "pid": 1, "since": "yesterday"}))
    delete = r"login2.*if that process was killed, delete .*lock"
    with pytest.raises(SweepBusyError, match=delete), sweep_lock(layout, "another"):
        pass
    layout.lock.unlink()
    with sweep_lock(layout, "another"):
        pass


def test_who_only_asks_keeps_nobody_out(layout) -> None:
    layout.cluster.mkdir(parents=True)
    layout.lock.write_text(json.dumps({"command": "ganlab run", "host": "n1", "pid": 1, "since": "then"}))  # killed
    with layout.lock.open("r") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        answered = threading.Timer(0.2, fcntl.flock, [asking, fcntl.LOCK_UN])
        answered.start()
        with sweep_lock(layout, "another"):
            assert "`another`" in lock_holder(layout)
        answered.join()


def test_of_several_that_hold_the_lock_of_a_file_each_is_alone(folder: Path) -> None:
    inside, most = 0, 0

    def hold() -> None:
        nonlocal inside, most
        with one_at_a_time(folder / "new" / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.05)
            inside -= 1

    threads = [threading.Thread(target=hold) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_without_locks_nobody_is_waited_for(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    with one_at_a_time(folder / "lock"), one_at_a_time(folder / "lock"):
        pass


def test_the_lock_of_a_folder_that_is_gone_is_none(layout) -> None:
    """A refused submission removes the folder that it made, while others wait for its lock."""
    inside = threading.Event()

    def refused() -> None:
        with sweep_lock(layout, "ganlab submit"):
            inside.set()
            time.sleep(0.2)
            shutil.rmtree(layout.root)

    thread = threading.Thread(target=refused)
    thread.start()
    inside.wait()
    with sweep_lock(layout, "ganlab run"):
        assert "`ganlab run`" in lock_holder(layout)
    thread.join()
