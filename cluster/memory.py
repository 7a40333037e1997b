"""Processes that the kernel ended for want of memory, by its own count.

Invariant: want of memory is named as a reason only when the count has risen.
"""

from pathlib import Path

COUNTERS = Path("/proc/vmstat")


class MemoryKills:
    """Processes that the kernel of this machine has killed for want of memory since this object was made."""

    def __init__(self) -> None:
        self._before = _count()

    def said(self) -> str:
        """End of a sentence about a process that was killed meanwhile; empty if the kernel killed none."""
        killed = _count() - self._before
        return f"; the kernel killed {killed} process(es) here for want of memory meanwhile" if killed > 0 else ""


def _count() -> int:
    try:
        lines = COUNTERS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
