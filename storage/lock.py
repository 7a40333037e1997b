"""One command at a time works on a sweep.

Invariant: the lock is the kernel's, held by an open file, so it ends with the process however that ends; the record in
the file only says who holds it. Where a file system has no such locks (Lustre without the option), the record must do:
it is believed until its process on this host is gone, or its writer on another host has taken it back.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from storage.layout import SweepLayout

ASKED_S = 0.5  # longer than it takes to ask who holds a lock
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class SweepBusyError(RuntimeError):
    """Another command, or jobs on SLURM, work on this sweep; the message says where."""

    def __init__(self, layout: SweepLayout, holder: str, advice: str = "wait for it or stop it first") -> None:
        super().__init__(layout, holder, advice)

    def __str__(self) -> str:
        layout, holder, advice = self.args
        return f"{layout.root}: in use by {holder}; {advice}"


@contextmanager
def sweep_lock(layout: SweepLayout, command: str) -> Iterator[None]:
    """Hold the sweep for the length of the context.

    Raises
    ------
    SweepBusyError
        Naming the command that holds it, its host, process and start.
    """
    with _locked(layout) as file:
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"command": command, "host": socket.gethostname(), "pid": os.getpid(), "since": started}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _locked(layout: SweepLayout) -> IO[str]:
    """Open the lock's file and take the lock. Raises SweepBusyError."""
    deadline = time.monotonic() + ASKED_S
    while True:
        layout.lock.parent.mkdir(parents=True, exist_ok=True)
        file = layout.lock.open("a+")
        try:
            holder = _held(layout, file, fcntl.LOCK_EX)
            if holder is None and _is_there(layout.lock, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        if (
            holder is not None and time.monotonic() > deadline
        ):  # else it may be held by one who only asks for its holder
            raise SweepBusyError(layout, holder)
        time.sleep(ASKED_S / 10)


def _is_there(path: Path, file: IO[str]) -> bool:
    """True if the open file is the one of that name: its holder may have removed the folder at its end."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def publishing(layout: SweepLayout) -> Iterator[None]:
    """Write results and report from the files, one process at a time: the last to write is the last to have read."""
    with one_at_a_time(layout.publishing):
        yield


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made, after whoever has it now; it is not waited for without such locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        wait_for_lock(file.fileno())
        yield


def wait_for_lock(descriptor: int) -> None:
    """Take the lock of an open file, after whoever has it now; do nothing where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def is_unused(layout: SweepLayout) -> bool:
    """True if the folder holds only the lock's own files, left by a command killed at its start."""
    return layout.root.is_dir() and {path.name for path in layout.root.iterdir()} <= {layout.cluster.name}


def is_sweep(layout: SweepLayout) -> bool:
    """True if a command has begun a sweep in the folder; a user's own file named sweep.yaml does not count."""
    return layout.spec.is_file() and layout.lock.is_file()


def lock_holder(layout: SweepLayout) -> str | None:
    """Description of the command that holds the sweep's lock; None if it is free.

    The lock is taken for a moment, together with others that ask so, and nothing is written.
    """
    if not layout.lock.exists():
        return None
    with layout.lock.open("r") as file:
        return _held(layout, file, fcntl.LOCK_SH)


def _held(layout: SweepLayout, file: IO[str], kind: int) -> str | None:
    """Take the lock of `kind`; if another process has it, the description of that one."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(layout)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return _holder_by_record(layout)
    return None


def _holder(layout: SweepLayout) -> str:
    try:
        record = json.loads(layout.lock.read_text())
        return f"`{record['command']}` on {record['host']}, process {record['pid']}, since {record['since']}"
    except (ValueError, KeyError):
        return "another command that has just started"


def _holder_by_record(layout: SweepLayout) -> str | None:
    try:
        record = json.loads(layout.lock.read_text())
        if record["host"] == socket.gethostname() and not Path("/proc", str(record["pid"])).exists():
            return None
    except (ValueError, KeyError):
        return None
    return f"{_holder(layout)} (this file system has no locks: if that process was killed, delete {layout.lock})"
