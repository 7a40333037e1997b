"""Ctrl-C ends a command, whatever it is doing; so does SIGTERM, as sent by `kill`, container engines and schedulers.

Invariant: within seconds of the first Ctrl-C, or at once at the second, the process is gone; what it has started is ended
by its guardian (`cluster.guardian`).
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = "ganlab: interrupted; the same command goes on from here"
SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def ended_by_ctrl_c(within_s: float = 5.0) -> Iterator[None]:
    """Raise KeyboardInterrupt as ever; should that not end the context within so many seconds, end the process.

    Libraries swallow the exception here and there, and one that waits in C++ code never lets Python raise it. So a thread
    is told of the signal by the kernel.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    on_term = signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray sets its own later
    ended, end = os.pipe()
    watch = threading.Thread(target=_watch, args=(told, ended, within_s), daemon=True, name="ctrl-c")
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, on_term)
        os.close(end)
        watch.join()
        for descriptor in (told, tell, ended):
            os.close(descriptor)


def _watch(told: int, ended: int, within_s: float) -> None:
    asked = 0
    while asked < 2:
        ready, _, _ = select.select([told, ended], [], [], within_s if asked else None)
        if ended in ready:
            return
        if not ready:
            break
        asked += sum(number in (signal.SIGINT, signal.SIGTERM) for number in os.read(told, 64))
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{_cursor()}{INTERRUPTED}\n".encode())
    os._exit(1)


def _cursor() -> str:
    """A progress bar may have hidden it."""
    return f"\r{SHOW_CURSOR}" if os.isatty(2) else ""
