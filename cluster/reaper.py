"""Ends what a command has started when the command itself is killed.

Invariant: a process that carries a command's mark in its environment does not outlive the command by more than seconds.
Ray's own workers notice a lost parent as well, but one that is just starting takes half a minute to do so.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path

MARK = "GANLAB_COMMAND"
ALL_ENDED = b"."
QUIET_S = 0.5  # after so long without a marked process none will come any more
TIDY_S = 2.0  # for helpers that tidy up after the others have been killed
REQUESTS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2}  # for the command, not for what it started


@contextmanager
def guarded(*folders: Path) -> Iterator[Callable[[], None]]:
    """Mark every process started in the context; when it ends, or this process dies of whatever, they are killed.

    Yields a function to call once all of them have ended and none can follow: the context then ends without a wait for
    others.

    Marked processes search modules safely (`cluster.interpreter.safe_python`). When they are gone, `folders` are removed.
    The reaper is a process in a session of its own that waits for the end of a pipe whose other end only this process
    holds: SIGKILL of the whole process group closes the pipe and spares the reaper.
    """
    from cluster.interpreter import python, safe_python  # late: the reaper itself finds no package

    mark = secrets.token_hex(16)
    with safe_python():
        _start_tracker()
        with shielded():
            reaper = subprocess.Popen(
                python("-I", "-S", __file__, mark, *map(str, folders)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        assert reaper.stdin is not None
        before = os.environ.get(MARK)
        os.environ[MARK] = mark
        try:
            yield partial(_tell, reaper.stdin.fileno())
        finally:
            os.environ.pop(MARK)
            if before is not None:
                os.environ[MARK] = before
            reaper.stdin.close()
            reaper.wait()


@contextmanager
def shielded() -> Iterator[None]:
    """Start processes that polite signals do not reach: they inherit what this thread blocks.

    Ctrl-C goes to every process of a terminal, and SLURM sends its warnings to every process of a job's step.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell(pipe: int) -> None:
    with suppress(BrokenPipeError):  # the reaper was killed
        os.write(pipe, ALL_ENDED)


def _start_tracker() -> None:
    """Start Python's resource tracker, before there is a mark, since it serves this process to its end.

    Of semaphores that killed processes leave it would warn on the terminal at that end, when they have long been removed.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    try:
        resource_tracker.ensure_running()
    finally:
        os.environ.pop("PYTHONWARNINGS")
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def marked(mark: str, name: str = MARK) -> list[int]:
    """Numbers of the living processes that carry the mark in the environment variable `name`."""
    return [pid for pid, (_, carries) in _processes(f"{name}={mark}").items() if carries]


def sweep(mark: str, name: str = MARK, quiet_s: float = QUIET_S, sessions: Collection[int] = ()) -> None:
    """Kill marked processes until there have been none for a while.

    With them go the sessions that they lead and `sessions`: a process that writes its own title, as Ray's agents do,
    writes over its environment, and the mark is gone.
    """
    led = set(sessions)
    quiet_since = time.monotonic()
    while True:
        tidying = False
        processes = _processes(f"{name}={mark}")
        led |= {pid for pid, (session, carries) in processes.items() if carries and pid == session}
        for pid, (session, carries) in processes.items():
            # A living leader without the mark has taken over the number of an ended one.
            if carries or (session in led and processes.get(session, (0, None))[1] is not False):
                if time.monotonic() - quiet_since < TIDY_S and _tidies(pid):
                    tidying = True
                    continue
                quiet_since = time.monotonic()
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not tidying and time.monotonic() - quiet_since >= quiet_s:
            return
        time.sleep(0.1)


def remove_semaphores(folder: Path = Path("/dev/shm")) -> None:
    """Remove this user's semaphores of Python's multiprocessing that no living process has open.

    Python's own helper does so at the end of a process, unless it is killed together with it. They are known by their
    inodes: the process that has made one maps it under the name that it had first.
    """
    left: dict[str, Path] = {}
    with suppress(OSError):
        for path in folder.glob("sem.mp-*"):
            found = path.stat()
            if found.st_uid == os.getuid():
                left[str(found.st_ino)] = path
    if not left:
        return
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                for line in (process / "maps").read_text(errors="replace").splitlines():
                    if "/sem." in line:
                        left.pop(line.split()[4], None)
    for path in left.values():
        path.unlink(missing_ok=True)


def _tidies(pid: int) -> bool:
    """True for Python's resource tracker, which removes the semaphores of killed processes and then ends."""
    try:
        return b"multiprocessing.resource_tracker" in Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return False


def _processes(variable: str) -> dict[int, tuple[int, bool | None]]:
    """Session of every living process of this user, and whether it carries the variable; None if that is unknown."""
    found: dict[int, tuple[int, bool | None]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            status = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # ended meanwhile, or another user's
            continue
        if status[0] not in "ZX":
            carries = variable.encode() in environment.split(b"\0") if environment else None
            found[int(folder.name)] = int(status[3]), carries
    return found


if __name__ == "__main__":
    sweep(sys.argv[1], quiet_s=0.0 if sys.stdin.buffer.read() == ALL_ENDED else QUIET_S)
    remove_semaphores()
    for left in sys.argv[2:]:
        shutil.rmtree(left, ignore_errors=True)
