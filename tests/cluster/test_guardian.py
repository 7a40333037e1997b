"""Nothing that a command started outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cluster.guardian import MARK, guarded, marked

PROGRAM = """
import os, subprocess, sys, time
from cluster.guardian import MARK, guarded
with guarded():
    for _ in range(2):  # in sessions of their own, deaf to SIGTERM, and holding no pipe of ours
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.DEVNULL)
    print(os.environ[MARK], flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_command_leaves_nothing(signal_number: int) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    mark = command.stdout.readline().strip()
    assert len(marked(mark)) == 2
    os.killpg(command.pid, signal_number)
    command.wait()
    command.stdout.close()
    deadline = time.monotonic() + 10
    while marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_leaving_the_context_ends_what_was_started_in_it() -> None:
    with guarded():
        mark = os.environ[MARK]
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        assert marked(mark) == [child.pid]
    assert child.wait() == -signal.SIGKILL
    assert MARK not in os.environ
