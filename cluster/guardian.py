"""Ends what a command has started when the command itself is killed.

Invariant: a process that carries a command's mark in its environment does not outlive the command by more than seconds.
Ray's own workers notice a lost parent as well, but one that is just starting takes half a minute to do so.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

MARK = "GANLAB_COMMAND"
QUIET_S = 1.0  # after so long without a marked process none will come any more


@contextmanager
def guarded() -> Iterator[None]:
    """Mark every process started in the context; when it ends, or this process dies of whatever, they are killed.

    The guardian is a process in a session of its own that waits for the end of a pipe whose other end only this process
    holds: SIGKILL of the whole process group closes the pipe and spares the guardian.
    """
    resource_tracker.ensure_running()  # Python's own helper, before the mark: it serves this process to its end
    mark = secrets.token_hex(16)
    guardian = subprocess.Popen(
        [sys.executable, "-S", __file__, mark], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    before = os.environ.get(MARK)
    os.environ[MARK] = mark
    try:
        yield
    finally:
        os.environ.pop(MARK)
        if before is not None:
            os.environ[MARK] = before
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait()


def marked(mark: str) -> list[int]:
    """Numbers of the living processes that carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def sweep(mark: str) -> None:
    """Kill marked processes until there have been none for a while."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S:
        for pid in marked(mark):
            quiet_since = time.monotonic()
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the command
    sys.stdin.buffer.read()
    sweep(sys.argv[1])
