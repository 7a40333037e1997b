"""Lease of a trial: at most one process works on it, whatever clocks, networks and kills do.

Invariant: a lease is taken over only after its holder has been seen dead on this machine, or has not renewed it for
`LEASE_S` seconds of the observer's own monotonic clock; a holder that has not renewed it for a little less stops writing.
No two clocks are compared, and a time of day is never read.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from storage.atomic import make_folder
from storage.layout import TrialLayout
from storage.patience import patiently

LEASE_S = 20.0
RENEW_S = 4.0
MARGIN_S = 4.0  # so much earlier than anyone may take it over, the holder stops
POLL_S = 0.5

_held: set[str] = set()  # tokens of this process


class LeaseLostError(RuntimeError):
    """Another process has taken the trial over, or may have: this one must not write to it any more."""

    def __init__(self, trial_id: str) -> None:
        super().__init__(trial_id)
        self.trial_id = trial_id

    def __str__(self) -> str:
        return (
            f"{self.trial_id}: its lease could not be renewed for {LEASE_S - MARGIN_S:.0f} s, or another process has "
            "it: this one stops"
        )


class Lease:
    """A held lease; a thread renews it."""

    def __init__(self, trial: TrialLayout, number: int, token: str) -> None:
        self.number, self._trial, self._path = number, trial, _claim(trial, number)
        self._token = token
        self._renewed = time.monotonic()
        self._over = threading.Event()
        self._taken = False
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    @property
    def lost(self) -> bool:
        """True if another process has the trial, or may have it."""
        return self._taken or time.monotonic() - self._renewed > LEASE_S - MARGIN_S

    def check(self) -> None:
        """Raise LeaseLostError when the lease is lost: called before everything that is written to the trial."""
        if self.lost:
            raise LeaseLostError(self._trial.root.name)

    @property
    def superseded(self) -> Callable[[], None]:
        """A check for other processes: it raises LeaseLostError once another lease of the trial has been taken."""
        return partial(_check_newest, self._trial, self.number)

    def release(self) -> None:
        """Let another process have the trial at once."""
        self._over.set()
        _held.discard(self._token)
        if not self.lost:
            with suppress(OSError):
                self._path.unlink()

    def _keep(self) -> None:
        while not self._over.wait(RENEW_S):
            before = time.monotonic()
            try:
                os.utime(self._path)  # which needs no room on a full disk
                self._taken = self._taken or max(_numbers(self._trial), default=0) > self.number
            except FileNotFoundError:
                self._taken = not self._over.is_set()
            except OSError:
                continue
            if before - self._renewed < LEASE_S - MARGIN_S:  # else it was lost meanwhile, for good
                self._renewed = before


@contextmanager
def hold_lease(trial: TrialLayout) -> Iterator[Lease]:
    """Hold the trial for the length of the context; waits while another process has it.

    A claim is a file that a hard link makes appear whole under the next free number, so that of two processes that claim
    at once one gets it.
    """
    patiently(lambda: make_folder(trial.leases))
    token = uuid.uuid4().hex
    seen: tuple[int, int] | None = None
    since = time.monotonic()
    while True:
        newest = max(_numbers(trial), default=0)
        holder, renewed = _read(_claim(trial, newest)) if newest else (None, 0)
        if (newest, renewed) != seen:
            seen, since = (newest, renewed), time.monotonic()
        free = holder is None or _dead(holder)
        number = newest + 1
        if (free or time.monotonic() - since > LEASE_S) and patiently(partial(_take, trial, number, token)):
            break
        time.sleep(POLL_S)
    _held.add(token)
    lease = Lease(trial, number, token)
    for number in _numbers(trial):
        if number <= newest:
            _claim(trial, number).unlink(missing_ok=True)
    try:
        yield lease
    finally:
        lease.release()


def _claim(trial: TrialLayout, number: int) -> Path:
    return trial.leases / f"{number:08d}.json"


def _numbers(trial: TrialLayout) -> list[int]:
    return [int(name.removesuffix(".json")) for name in os.listdir(trial.leases) if name[0] != "."]


def _check_newest(trial: TrialLayout, number: int) -> None:
    if max(patiently(lambda: _numbers(trial)), default=0) > number:
        raise LeaseLostError(trial.root.name)


def _take(trial: TrialLayout, number: int, token: str) -> bool:
    """Claim the trial under this number; False when another process was faster."""
    claim = trial.leases / f".{token}.partial"
    try:
        claim.write_text(json.dumps({**_place(), "pid": os.getpid(), "began": _began(os.getpid()), "token": token}))
        os.link(claim, _claim(trial, number))
    except FileExistsError:
        return False
    finally:
        claim.unlink(missing_ok=True)
    return True


def _read(path: Path) -> tuple[dict[str, Any] | None, int]:
    """Return the holder and when its file was last touched, in nanoseconds; no holder when it has been released."""
    try:
        with path.open() as file:  # opened, so that a network file system asks its server
            return json.load(file), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None, 0
    except (OSError, ValueError):  # it may be there: then it must be waited for
        return {}, 0


def _dead(holder: dict[str, Any]) -> bool:
    """Return True if the holder is a process that this one can see to have ended, or an earlier hold of this process."""
    if {key: holder.get(key) for key in ("boot", "processes")} != {
        key: value for key, value in _place().items() if key != "host"
    }:
        return False
    if holder.get("pid") == os.getpid() and holder.get("began") == _began(os.getpid()):
        return holder.get("token") not in _held
    return _began(holder.get("pid")) != holder.get("began")


def _place() -> dict[str, str]:
    """Name where process numbers mean something: this boot of this machine, and the namespace of processes."""
    place = {"host": socket.gethostname(), "boot": "", "processes": ""}
    with suppress(OSError):
        place["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place["processes"] = os.readlink("/proc/self/ns/pid")
    return place


def _began(pid: object) -> str:
    """Return when a process of this machine began, in ticks since the boot; empty when it has ended."""
    with suppress(OSError, IndexError):
        fields = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return fields[19]
    return ""
