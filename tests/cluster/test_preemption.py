"""A node that leaves is noticed by its work, and waits for work that is not saved yet."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.preemption import (
    NODE,
    busy,
    idle_since,
    leaving,
    measuring,
    request_stop,
    retract,
    still_checkpointing,
)


def test_off_the_cluster_nobody_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NODE, raising=False)
    assert not leaving()
    with busy():
        assert not leaving()


def test_the_flag_and_the_work(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(NODE, str(folder))
    assert not leaving()
    assert still_checkpointing(folder) == []
    with busy():
        request_stop(folder)
        assert leaving()
        assert still_checkpointing(folder) == [os.getpid()]
    assert still_checkpointing(folder) == []
    retract(folder)
    assert not leaving()


def test_since_when_nothing_is_done(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work that is begun and ended between two looks counts, too."""
    monkeypatch.setenv(NODE, str(folder))
    assert idle_since(folder) == 0
    for work in (busy, measuring):
        before = time.time()
        with work():
            assert idle_since(folder) is None
        assert before - 1 < (idle_since(folder) or 0) <= time.time()
    with measuring():
        assert still_checkpointing(folder) == []


@pytest.mark.process
def test_a_killed_process_is_waited_for_no_longer(folder: Path) -> None:
    code = "import time\nfrom cluster.preemption import busy\nwith busy():\n print('', flush=True)\n time.sleep(60)"
    work = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, NODE: str(folder)}, stdout=subprocess.PIPE)
    assert work.stdout is not None
    work.stdout.readline()
    assert still_checkpointing(folder) == [work.pid]
    work.kill()
    os.waitid(os.P_PID, work.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has asked for its end yet
    assert still_checkpointing(folder) == []
    work.wait()
    work.stdout.close()
    assert still_checkpointing(folder) == []
