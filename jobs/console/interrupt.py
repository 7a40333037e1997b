"""Ctrl-C ends a command, whatever it is doing; so does SIGTERM, as sent by `kill`, container engines and schedulers.

Invariant: the first Ctrl-C is acknowledged at once; within seconds of it, or at once at the second, the process is gone
with exit code 130; what it has started is ended by its reaper (`cluster.reaper`).
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = "ganlab: interrupted; the same command goes on from here"
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
CLEAR_LINE, SHOW_CURSOR = "\r\x1b[K", "\x1b[?25h"


@contextmanager
def ended_by_ctrl_c(within_s: float = 5.0) -> Iterator[None]:
    """Acknowledge Ctrl-C at once, and end the process with `EXIT_INTERRUPTED`, `within_s` seconds later at the latest.

    The context itself is ended by KeyboardInterrupt, as ever. Libraries swallow the exception here and there, raise
    another in its place, or wait in C++ code that never lets Python raise it. So a thread reads the signals that the
    kernel delivers, and however the context ends after the first, it is an interruption.

    Raises
    ------
    SystemExit
        At the end of a context that was interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    on_term = signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray sets its own later
    ended, end = os.pipe()
    interrupted = threading.Event()
    watch = threading.Thread(target=_watch, args=(told, ended, within_s, interrupted), daemon=True, name="ctrl-c")
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
        if interrupted.is_set():
            raise SystemExit(EXIT_INTERRUPTED)


def _watch(told: int, ended: int, within_s: float, interrupted: threading.Event) -> None:
    asked = 0
    while asked < 2:
        ready, _, _ = select.select([told, ended], [], [], within_s if asked else None)
        if told in ready:
            asked += sum(number in (signal.SIGINT, signal.SIGTERM) for number in os.read(told, 64))
            if asked and not interrupted.is_set():
                interrupted.set()
                _write(f"{CLEAR_LINE if os.isatty(2) else ''}{INTERRUPTED}\n")
        elif ended in ready:
            return
        else:
            break
    if os.isatty(2):
        _write(SHOW_CURSOR)  # a progress bar may have hidden it
    os._exit(EXIT_INTERRUPTED)


def _write(text: str) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
