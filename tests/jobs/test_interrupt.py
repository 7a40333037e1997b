"""Ctrl-C ends a process that swallows the exception, or can't raise it."""

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

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
REPLACES = """
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("initialization failed")
"""
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
    assert interrupt(body, by=by)[:2] == (130, INTERRUPTED + "\n")


def test_the_second_ctrl_c_does_not_wait() -> None:
    code, said, seconds = interrupt(SWALLOWS, times=2, within_s=60)
    assert (code, said) == (130, INTERRUPTED + "\n")
    assert seconds < 10


@pytest.mark.parametrize("body", [ENDS, REPLACES], ids=["raised", "replaced"])
def test_what_ends_by_itself_is_acknowledged_once(body: str) -> None:
    assert interrupt(body, within_s=60)[:2] == (130, INTERRUPTED + "\n")


def test_what_ends_otherwise_keeps_its_code() -> None:
    program = PROGRAM.replace("WITHIN", "60").replace("BODY", "raise SystemExit(3)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("command", ["plan", "run", "measure", "report"])
def test_a_command_that_imports_its_libraries_is_interrupted(command: str, folder: Path) -> None:
    (folder / "sweep.yaml").write_text("name: nothing\n")
    given = "digits-demo" if command in ("plan", "run") else folder
    own, other = pty.openpty()
    with subprocess.Popen(
        [Path(sys.executable).with_name("ganlab"), command, given],
        cwd=folder,
        stdin=other,
        stdout=other,
        stderr=other,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(other)
        said = b""
        with suppress(OSError):  # every process has closed the other end
            while block := os.read(own, 65_536):
                if b"Loading" in block and b"Loading" not in said:
                    process.send_signal(signal.SIGINT)
                said += block
    os.close(own)
    assert process.returncode == 130, said.decode()
    assert said.decode().count(INTERRUPTED) == 1
    assert b"Traceback" not in said
