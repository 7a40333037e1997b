"""Processes that a supervisor starts, watches, restarts and ends.

Invariant: a child never outlives its supervisor (the reaper sees to it), and only the supervisor ends it: polite
signals, which SLURM sends to every process of a job, reach the supervisor alone.
"""

import fcntl
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.interpreter import safe_environment
from cluster.reaper import remove_semaphores, shielded, sweep

CHILD = "GANLAB_CHILD"  # in the environment of a child and of all it starts: what belongs to it
TAIL_LINES = 2
LONGEST_DELAY_S = 30.0
POLITE_S = 1.0
LONGEST_FOLDER = 40  # characters: Ray's sockets in a folder of it must stay below 107 bytes


class Process:
    """A child that runs, with everything it starts, in a session of its own; its output is appended to a log.

    A `polite` one hears SIGTERM, SLURM's and the supervisor's own, and may tidy up for a second before it is killed.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], polite: bool = False
    ) -> None:
        self.name, self.log, self.polite = name, log, polite
        self.started = time.monotonic()
        self._mark = secrets.token_hex(16)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output, nullcontext() if polite else shielded():
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**safe_environment(), **environment, CHILD: self._mark},
                start_new_session=True,
            )

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs; negative when a signal killed it."""
        return self._process.poll()

    @property
    def lived_s(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started

    def end(self) -> None:
        """Kill it and all it has started. At once: what must be saved has been, or is safe against a kill."""
        if self.polite:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(POLITE_S)
        self._process.kill()
        sweep(self._mark, CHILD, quiet_s=0.2, sessions={self._process.pid})
        self._process.wait()

    def ending(self) -> str:
        """Description of its end, as part of a sentence, with the last lines of its output."""
        code = self.code
        assert code is not None
        said = self.tail()
        ends = f", which ends: {said}" if said else ""
        return f"{self.name} {ended_how(code)} after {self.lived_s:.0f} s; see {self.log}{ends}"

    def tail(self) -> str:
        """Return the last lines of its log that are its own, in one line."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 4000))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
            return " | ".join([line for line in lines if line.strip("-=~^ ")][-TAIL_LINES:])
        return ""


def ended_how(code: int) -> str:
    """Description of a process's end by its exit code, as part of a sentence."""
    return f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


@dataclass
class Failures:
    """Failures in a row of something that is restarted: how long to wait, and when to give up.

    Attributes
    ----------
    limit
        So many in a row are too many.
    early_s
        Only ends within so many seconds of a start count; a longer life begins the row again.
    """

    limit: int = 5
    early_s: float = 60.0
    in_row: int = 0

    def delay_s(self, lived_s: float) -> float | None:
        """Count one failure; returns the seconds to wait before the next start, or None to give up."""
        self.in_row = self.in_row + 1 if lived_s < self.early_s else 1
        if self.in_row >= self.limit:
            return None
        return min(2.0 ** (self.in_row - 1), LONGEST_DELAY_S)


class TerminationSignal:
    """Signal by which SLURM asked this process to end: SIGUSR2 ahead of the end, SIGTERM for an immediate one."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def wait(self, timeout_s: float) -> bool:
        """Sleep; True at once when a signal is there or comes."""
        if self.received is None:
            select.select([self._read], [], [], timeout_s)
        return self.received is not None

    def _handle(self, number: int, frame: object) -> None:
        self.received = self.received or signal.Signals(number)
        with suppress(BlockingIOError):
            os.write(self._write, b"!")


@contextmanager
def notices() -> Iterator[TerminationSignal]:
    """Take SIGUSR2 and SIGTERM as notices for the length of the context. In the main thread only."""
    notice = TerminationSignal()
    before = {number: signal.signal(number, notice._handle) for number in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        yield notice
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(notice._read)
        os.close(notice._write)


@contextmanager
def temporary_folders(base: str, job_id: str) -> Iterator[tuple[Path, Path]]:
    """Make a folder under `base` for a job's temporary files, and one whose path is short enough for Ray's sockets.

    Variables in `base` are filled in. Usually both are the same.

    Raises
    ------
    ValueError
        If a variable is not set.
    OSError
        If the folder can't be made.
    """
    filled = os.path.expanduser(os.path.expandvars(base))
    if "$" in filled:
        raise ValueError(f"temporary: {base}: the job's environment on this node does not set every variable in it")
    with node_folder(Path(filled), job_id) as folder:
        if len(str(folder)) <= LONGEST_FOLDER:
            yield folder, folder
            return
        with node_folder(Path("/tmp"), job_id) as short:
            yield folder, short


@contextmanager
def node_folder(base: Path, name: str) -> Iterator[Path]:
    """Make a folder on the node's own disk that only this user can read, and remove it at the end.

    Folders left by jobs whose every process was killed at once go first. A folder in use is locked by its supervisor.
    A caller that may be killed gives the folder to the reaper too.
    """
    prefix = f"ganlab{os.getuid()}-"
    base.mkdir(parents=True, exist_ok=True)
    for left in base.glob(f"{prefix}*"):
        if not _in_use(left):
            shutil.rmtree(left, ignore_errors=True)
    remove_semaphores()
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{name}-", dir=base))
    unlocked = folder / "unlocked"
    with unlocked.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unlocked.rename(folder / "lock")  # it was never there without being locked
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # just made, not locked yet
        with suppress(OSError):
            return time.time() - folder.stat().st_mtime < 60
    except OSError:
        return True
    return False
