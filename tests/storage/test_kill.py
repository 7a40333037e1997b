"""A process that writes a trial is killed at random moments, again and again, and run until it is done."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from storage.layout import TrialLayout
from storage.samples import read_plan
from storage.shards import Images, Samples, ShardPlan

# One process that has imported everything forks a writer for each line it is sent, so a writer starts in no time.
WRITERS = """
import os, sys, zarr.codecs
from pathlib import Path
import numpy as np
from storage.layout import TrialLayout
from storage.shards import BackgroundWriter, ShardPlan, ShardWriter, create_samples

def write(trial):
    plan = ShardPlan(((1, 128), (2, 512)), (3, 32, 32), 64, 16)
    create_samples(trial, plan)
    writer = ShardWriter(trial, plan)
    missing = [shard for shard in plan.shards if shard.index not in writer.committed()]
    with BackgroundWriter(writer) as background:
        for shard in missing:
            images = np.random.default_rng(shard.index).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
            background.put(images, shard.index)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        write(TrialLayout(Path(line.rstrip("\\n"))))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@contextmanager
def writers() -> Iterator[Callable[[TrialLayout, float | None], bool]]:
    """Give run(trial, kill_after_s) -> whether the writer ended by itself."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin
        assert process.stdout
        send, receive = process.stdin, process.stdout

        def run(trial: TrialLayout, kill_after_s: float | None) -> bool:
            send.write(f"{trial.root}\n")
            child = int(receive.readline())
            if kill_after_s is not None:
                time.sleep(kill_after_s)
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            status = int(receive.readline())
            assert status in (0, signal.SIGKILL)
            return status == 0

        yield run
        send.close()


def expected(plan: ShardPlan, start: int, stop: int) -> Images:
    shards = [np.random.default_rng(s.index).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8) for s in plan.shards]
    return np.concatenate(shards)[start:stop]


def check(trial: TrialLayout) -> int:
    """Everything committed reads as it should; returns the number of committed shards."""
    if not trial.samples.exists():
        assert not list(trial.commits.glob("[!.]*"))
        return 0
    samples = Samples(trial)
    for index in samples.committed:
        shard = samples.plan.shards[index]
        np.testing.assert_array_equal(
            samples.read(shard.start, shard.stop), expected(samples.plan, shard.start, shard.stop)
        )
    return len(samples.committed)


@pytest.mark.process
def test_killed_at_any_moment_and_run_again_gives_the_undisturbed_trial(
    tmp_path: Path, tree: Callable[[Path], dict[str, bytes]]
) -> None:
    chance = random.Random(0)
    calm, killed = TrialLayout(tmp_path / "calm"), TrialLayout(tmp_path / "killed é (1)")
    kills, finished, seen = 0, 0, set()
    with writers() as run:
        run(TrialLayout(tmp_path / "warm up"), None)
        began = time.monotonic()
        assert run(calm, None)
        takes_s = time.monotonic() - began
        undisturbed = tree(calm.root)
        assert check(calm) == len(read_plan(calm).shards)
        while kills < 60 or finished < 5:
            # Now and then long enough to finish; mostly at any moment of what is still to be done.
            kill_after_s = chance.uniform(0, takes_s) * chance.choice([0.1, 0.5, 1.5])
            if run(killed, kill_after_s):
                assert tree(killed.root) == undisturbed
                finished += 1
                shutil.rmtree(killed.root)
                continue
            kills += 1
            seen.add(check(killed))
    assert len(seen) > 3  # the kills fell at different stages
