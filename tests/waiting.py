"""Waiting in tests: every wait ends, and none by a limit that a busy machine reaches."""

import time
from collections.abc import Callable

HANG_S = 1500.0  # for what ends in a minute or two on idle processors


def until(
    ready: Callable[[], object],
    what: str | Callable[[], str] = "what was waited for",
    within_s: float = HANG_S,
    every_s: float = 0.1,
) -> None:
    """Wait until `ready()`, or fail and say what was waited for."""
    deadline = time.monotonic() + within_s
    while not ready():
        assert time.monotonic() < deadline, (
            f"waited {within_s:g} s in vain: {what if isinstance(what, str) else what()}"
        )
        time.sleep(every_s)
