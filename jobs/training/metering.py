"""GPU time and energy of the trials in this process, recorded beside each of them while it runs.

Invariant: GPUs that several trials of a process hold together are split equally over those that run at the moment, so
that their sums are what was held; energy is the same share of what the whole GPUs took, and unknown for good once a
reading of it is missing.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cluster.gpus import gpu_energy_j
from storage.layout import TrialLayout
from storage.usage import Usage, write_usage

RECORD_S = 30.0  # between two records: what a kill leaves uncounted


class Meter:
    """Account of the GPUs that this process holds, by trial; a thread records it while any trial runs."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._accounts: dict[str, tuple[TrialLayout, Usage]] = {}
        self._gpus = 0.0
        self._at = 0.0
        self._energy: list[float | None] = []
        self._changed = threading.Event()

    @contextmanager
    def counting(self, trial: TrialLayout, gpus: float) -> Iterator[None]:
        """Count for the trial, for the length of the context, its part of the `gpus` that this process holds."""
        if not gpus:
            yield
            return
        name = uuid.uuid4().hex
        with self._lock:
            self._settle(gpus)
            self._accounts[name] = (trial, Usage())
            self._record(name)
            if len(self._accounts) == 1:
                self._changed = threading.Event()
                threading.Thread(target=self._keep, args=(self._changed,), name="meter", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._settle(gpus)
                self._record(name)
                del self._accounts[name]
                if not self._accounts:
                    self._changed.set()

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(RECORD_S):
            with self._lock:
                self._settle(self._gpus)
                for name in self._accounts:
                    self._record(name)

    def _settle(self, gpus: float) -> None:
        """Charge what was held since the last time to the trials that ran meanwhile."""
        now, energy = time.monotonic(), gpu_energy_j()
        used = Usage(self._gpus * (now - self._at), _taken(self._energy, energy, self._gpus))
        for name, (trial, before) in self._accounts.items():
            parts = len(self._accounts)
            part = Usage(used.gpu_s / parts, None if used.energy_j is None else used.energy_j / parts)
            self._accounts[name] = (trial, before + part)
        self._gpus, self._at, self._energy = gpus, now, energy

    def _record(self, name: str) -> None:
        trial, usage = self._accounts[name]
        with suppress(OSError):  # the work does not depend on it, and the next record makes up for it
            write_usage(trial, name, usage)


def _taken(before: list[float | None], after: list[float | None], gpus: float) -> float | None:
    """Share of the energy between two readings that so many of these GPUs took; None if it is not known."""
    if not before or len(before) != len(after):
        return None
    taken = 0.0
    for first, last in zip(before, after, strict=True):
        if first is None or last is None or last < first:  # a counter begins again when the driver is loaded anew
            return None
        taken += last - first
    return taken * gpus / len(before)


METER = Meter()
"""The account of this process."""
