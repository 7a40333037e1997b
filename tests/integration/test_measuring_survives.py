"""Measuring a file over real Dask processes: with a worker killed it goes on, with the scheduler killed it resumes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from jobs.measuring import comparison
from jobs.measuring.comparison import Comparison, Map, compare
from jobs.measuring.samples import keep_in_cache
from storage.arrays import open_array
from tests.waiting import until

SAMPLES, THRESHOLD_SQUARED = 4000, 10_000.0
ROOT = Path(__file__).parents[2]

# Compares argv[1] over the scheduler at argv[2], in many small tiles; says what is done, then prints what it found.
DRIVER = """
import json, sys
from pathlib import Path
from distributed import Client
from cluster.local import dask_map
from jobs.measuring import comparison
from tests.integration.test_measuring_survives import found_in

comparison.SPLIT_FROM, comparison.TASKS, comparison.SAVE_EVERY_S = 0, 200, 0.0

def progress(done, total, tiles_left):
    print(json.dumps({"done": done / total, "left": tiles_left}), flush=True)

with Client(sys.argv[2], set_as_default=False) as client:
    map = lambda function, items: dask_map(client, lambda: 2, function, items)
    found = found_in(Path(sys.argv[1]), map, progress, kept=True)
print(json.dumps(found), flush=True)
"""


def found_in(path: Path, map: Map, progress: comparison.Progress, kept: bool) -> dict[str, list[int]]:
    """What all pairs of a file say, as plain data."""
    source = open_array(path, rank=None)
    wanted = Comparison(source, str(path), THRESHOLD_SQUARED)
    keep = keep_in_cache(path, source, None, lambda done, total: None)("samples", wanted) if kept else None
    ((_, found),) = compare({"samples": (wanted, keep)}, 2**30, map, progress)
    return {name: values.tolist() for name, values in found.collisions.to_arrays().items()}


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start Python with these arguments, in a process group of its own; all are killed at the end."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}

    def run(*arguments: object, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment,
            text=True,
            cwd=folder,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
            **options,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        kill(process)
        if process.stdout is not None:
            process.stdout.close()


def kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def scheduler(start: Start, folder: Path) -> tuple[subprocess.Popen[str], str]:
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    process = start(
        "-m",
        "distributed.cli.dask_scheduler",
        "--host=127.0.0.1",
        "--port=0",
        "--no-dashboard",
        "--dashboard-address=127.0.0.1:0",
        f"--scheduler-file={file}",
    )
    until(lambda: (file.exists() and file.read_text()) or process.poll() is not None)
    assert process.poll() is None
    return process, json.loads(file.read_text())["address"]


def worker(start: Start, address: str) -> subprocess.Popen[str]:
    return start("-m", "distributed.cli.dask_worker", address, "--nthreads=1", "--no-nanny", "--no-dashboard")


def driver(start: Start, path: Path, address: str) -> subprocess.Popen[str]:
    return start("-c", DRIVER, path, address, stdout=subprocess.PIPE)


def wait_until(process: subprocess.Popen[str], done: float) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["done"] >= done:
            return
    raise AssertionError("the driver ended early")


def answer_of(process: subprocess.Popen[str]) -> tuple[list[dict[str, float]], dict[str, list[int]]]:
    """The progress that a driver still shows, and the answer it ends with."""
    assert process.stdout is not None
    *shown, answer = map(json.loads, process.stdout)
    assert process.wait() == 0
    return shown, answer


@pytest.fixture
def samples(folder: Path) -> tuple[Path, dict[str, list[int]]]:
    """A file of images, and the right answer."""
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, (3000, 3, 16, 16), dtype=np.uint8)
    path = folder / "samples.npy"
    np.save(path, pool[rng.integers(0, len(pool), SAMPLES)])
    answer = found_in(path, map, lambda done, total, left: None, kept=False)
    assert answer["duplicates"] > 1000
    return path, answer


def test_a_killed_worker_and_a_killed_scheduler_change_no_number(
    start: Start, folder: Path, samples: tuple[Path, dict[str, list[int]]]
) -> None:
    path, expected = samples
    first, address = scheduler(start, folder)
    doomed, other = worker(start, address), worker(start, address)
    running = driver(start, path, address)
    wait_until(running, 0.1)
    kill(doomed)
    wait_until(running, 0.4)
    kill(first)
    began = time.monotonic()
    assert running.wait(timeout=120) != 0, "without a scheduler there is no answer"
    assert time.monotonic() - began < 90
    kill(other)

    _, address = scheduler(start, folder)
    worker(start, address)
    shown, answer = answer_of(driver(start, path, address))
    assert shown[0]["done"] >= 0.35, "what was finished is not compared again"
    assert answer == expected

    # The file grows: only the pairs of the new images are compared, and the answer is that of the whole file.
    images = np.load(path)
    np.save(path, np.concatenate([images, images[:200]]))
    shown, answer = answer_of(driver(start, path, address))
    pairs = (SAMPLES + 200) * (SAMPLES + 199) // 2
    assert shown[0]["done"] == pytest.approx(SAMPLES * (SAMPLES - 1) // 2 / pairs)
    assert answer == found_in(path, map, lambda done, total, left: None, kept=False)


def test_other_images_or_settings_start_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (600, 30), dtype=np.uint8)
    path = folder / "samples.npy"

    def first_done(images: np.ndarray) -> float:
        np.save(path, images)
        seen: list[float] = []
        found_in(path, map, lambda done, total, left: seen.append(done / total), kept=True)
        return seen[0]

    assert first_done(images) == 0
    assert first_done(images) == 1, "nothing is left to compare"
    monkeypatch.setitem(found_in.__globals__, "THRESHOLD_SQUARED", 81.0)
    assert first_done(images) == 0
    images[0, 0] ^= 1
    assert first_done(images) == 0
    assert first_done(images[:500]) == 0, "a shorter file is another one"
