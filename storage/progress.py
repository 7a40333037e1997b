"""Progress of the comparison of pairs, for `ganlab status` and metrics.

Invariant: it costs the work nothing measurable: one small file, replaced as a whole, not synced, at most every two
seconds; and that it can't be written (a full disk) is nobody's failure.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

from storage.layout import SweepLayout

WRITE_EVERY_S = 2.0


@dataclass(frozen=True)
class Measuring:
    """Pairs compared in this round, tiles left of it, its start and when this was written (unix time)."""

    pairs_done: float
    tiles_left: int
    started: float
    written: float


def recorded(layout: SweepLayout, progress: Callable[[float, float, int], None]) -> Callable[[float, float, int], None]:
    """Return `progress`, which then leaves a record of each call, too: (pairs done, pairs to do, tiles left)."""
    started, last = time.time(), 0.0

    def record(done: float, total: float, tiles_left: int) -> None:
        nonlocal last
        progress(done, total, tiles_left)
        if tiles_left and time.monotonic() - last < WRITE_EVERY_S:
            return
        last = time.monotonic()
        with suppress(OSError):
            layout.metrics.mkdir(exist_ok=True)
            partial = layout.measuring.with_name(f".{layout.measuring.name}.{os.getpid()}.partial")
            partial.write_text(json.dumps(asdict(Measuring(done, tiles_left, started, time.time()))))
            os.replace(partial, layout.measuring)

    return record


def read_measuring(layout: SweepLayout) -> Measuring | None:
    """The newest record; None when there is none, or it can't be read."""
    try:
        return Measuring(**json.loads(layout.measuring.read_text()))
    except (OSError, ValueError, TypeError):
        return None
