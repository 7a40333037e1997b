"""Ctrl-C ends a process that swallows the exception, or can't raise it."""

import signal
import subprocess
import sys
import time

import pytest

from jobs.console.interrupt import INTERRUPTED

pytestmark = pytest.mark.process

SWALLOWS = """
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""
# Waits in C without looking at signals, and without Python's lock, as Ray's client does.
DEAF = """
import ctypes
lock = ctypes.create_string_buffer(64)
libc = ctypes.CDLL(None)
libc.pthread_mutex_lock(lock)
libc.pthread_mutex_lock(lock)
"""
ENDS = "time.sleep(60)"
PROGRAM = """
import time
from jobs.console.interrupt import ended_by_ctrl_c
with ended_by_ctrl_c(within_s=WITHIN):
    print("ready", flush=True)
    BODY
"""


def interrupt(body: str, times: int = 1, within_s: float = 0.5, by: int = signal.SIGINT) -> tuple[int, str, float]:
    """Exit code, what was said, and seconds until it ended."""
    program = PROGRAM.replace("WITHIN", str(within_s)).replace("BODY", body.strip().replace("\n", "\n    "))
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    started = time.monotonic()
    for _ in range(times):
        process.send_signal(by)
        time.sleep(0.1)
    _, said = process.communicate(timeout=30)
    return process.returncode, said, time.monotonic() - started


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "kill"])
@pytest.mark.parametrize("body", [SWALLOWS, DEAF], ids=["swallowed", "deaf"])
def test_what_does_not_end_by_itself_is_ended(body: str, by: int) -> None:
    assert interrupt(body, by=by)[:2] == (1, INTERRUPTED + "\n")


def test_the_second_ctrl_c_does_not_wait() -> None:
    code, said, seconds = interrupt(SWALLOWS, times=2, within_s=60)
    assert (code, said) == (1, INTERRUPTED + "\n")
    assert seconds < 10


def test_the_exception_is_raised_as_ever() -> None:
    code, said, _ = interrupt(ENDS, within_s=60)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert code == -signal.SIGINT
