"""One command at a time works on a sweep.

Invariant: the lock is the kernel's, held by an open file, so it ends with the process however that ends; the record in
the file only says who holds it.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from storage.layout import SweepLayout


class SweepBusyError(RuntimeError):
    """Another command works on this sweep; the message says where."""

    def __init__(self, layout: SweepLayout, holder: str) -> None:
        super().__init__(f"{layout.root}: in use by {holder}; wait for it or stop it first")


@contextmanager
def sweep_lock(layout: SweepLayout, command: str) -> Iterator[None]:
    """Hold the sweep for the length of the context.

    Raises
    ------
    SweepBusyError
        Naming the command that holds it, its host, process and start.
    """
    layout.lock.parent.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SweepBusyError(layout, _holder(layout)) from None
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"command": command, "host": socket.gethostname(), "pid": os.getpid(), "since": started}, file)
        file.flush()
        yield


def is_unused(layout: SweepLayout) -> bool:
    """Whether the folder holds nothing but what taking the lock leaves there: a command was killed at its very start."""
    return layout.root.is_dir() and {path.name for path in layout.root.iterdir()} <= {layout.cluster.name}


def lock_holder(layout: SweepLayout) -> str | None:
    """Who works on the sweep now, in words; None when nobody does. Read-only: does not take the lock."""
    if not layout.lock.exists():
        return None
    with layout.lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(layout)
    return None


def _holder(layout: SweepLayout) -> str:
    try:
        record = json.loads(layout.lock.read_text())
        return f"`{record['command']}` on {record['host']}, process {record['pid']}, since {record['since']}"
    except (ValueError, KeyError):
        return "another command that has just started"
