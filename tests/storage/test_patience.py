"""On a disk that is full or read-only for a while, writers that are asked to wait do so and lose nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.patience import WAIT
from tests.storage.test_shards import _can_mount

WRITERS = """
import os, subprocess, sys, threading, time
from pathlib import Path
import numpy as np
from storage import patience
from storage.attempts import Cause, begin_attempt, end_attempt, read_attempts
from storage.history import HistoryWriter, read_history
from storage.layout import TrialLayout
from storage.lease import hold_lease
from storage.outcome import Outcome, read_outcome, write_outcome
from storage.shards import BackgroundWriter, ShardPlan, ShardWriter, Samples, create_samples

patience.PAUSE_S = 0.2
REMOUNT = ["mount", "--options-mode", "ignore", "-o"]  # not the numbers of users that /proc names: wrong inside
disk, kind, trial = Path(sys.argv[1]), sys.argv[2], TrialLayout(Path(sys.argv[1]) / "t")
plan = ShardPlan(((1, 4), (2, 8)), (3, 64, 64), 4, 2)
create_samples(trial, plan)
filler = disk / "filler"

def break_disk():
    if kind == "full":
        try:
            with filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass
    else:
        subprocess.run([*REMOUNT, "remount,ro", disk], check=True)

def mend_disk():
    filler.unlink() if kind == "full" else subprocess.run([*REMOUNT, "remount,rw", disk], check=True)

images = np.full((4, 3, 64, 64), 7, np.uint8)
with hold_lease(trial) as lease, BackgroundWriter(ShardWriter(trial, plan)) as shards:
    begin_attempt(trial)
    shards.put(images, 0)
    shards.drain()
    break_disk()
    mender = threading.Timer(3, mend_disk)
    mender.start()
    began = time.monotonic()
    with HistoryWriter(trial) if kind == "full" else open(os.devnull) as history:
        if kind == "full":
            for step in range(300):
                history.append({"step": step, "loss": 1.0})
        shards.put(images, 1)
        shards.drain()
    end_attempt(trial, Cause.COMPLETED)
    write_outcome(trial, Outcome("completed", step=2))
    assert time.monotonic() - began > 2.5, "it did not wait"
    lease.check()
assert (Samples(trial).read(0, 8) == 7).all()
assert kind != "full" or read_history(trial.history)["step"].tolist() == list(range(300))
assert [attempt.cause for attempt in read_attempts(trial)] == [Cause.COMPLETED]
assert read_outcome(trial).status == "completed"
assert not list(trial.root.rglob("*.partial")), list(trial.root.rglob("*.partial"))
"""


@pytest.mark.process
@pytest.mark.skipif(not _can_mount(), reason="needs a file system of its own, which this system does not grant")
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_writers_wait_until_the_disk_is_mended_where_they_are_asked_to(tmp_path: Path, kind: str, waits: bool) -> None:
    mounted = tmp_path / "ü disk"
    mounted.mkdir()
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1" "$4"'
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", mounted, sys.executable]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [*map(str, shell), WRITERS, kind],
        text=True,
        capture_output=True,
        env=environment | ({WAIT: "1"} if waits else {}),
    )
    if waits:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode != 0
        assert ("No space left" if kind == "full" else "Read-only file system") in done.stderr
