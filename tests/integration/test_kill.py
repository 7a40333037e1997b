"""SIGKILL of everything at random moments: the finished sweep equals an undisturbed one, bit for bit.

`pytest tests/integration/test_kill.py --kills 10` is the full version.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

SPEC = {
    "model": {
        "family": "dcgan",
        "latent_dim": 8,
        "generator_width": 8,
        "discriminator_width": {"grid_search": [2, 4, 8]},
        "refine": True,
    },
    "train": {"steps": 400, "batch_size": 32, "learning_rate": 1e-3},
    "samples": {"snapshots": [150, 300], "images_per_snapshot": 512, "final_images": 2048},
    "collisions": {"sample_sizes": [10, 100]},
    "resources": {"checkpoint_every_s": 0.2},
}


def start(spec: Path, out: Path, mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [Path(sys.executable).with_name("ganlab"), "run", spec, "--out", out],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "GANLAB_MARK": mark},
    )


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that descends from one started with this mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("GANLAB_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def assert_gone(mark: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while left := marked(mark):
        assert time.monotonic() < deadline, f"left behind: {[' '.join(process.cmdline())[:120] for process in left]}"
        time.sleep(0.2)


def contents(folder: Path) -> dict[str, bytes]:
    """Every sample, commit record and result of a sweep, by relative name."""
    parts = ("trials/*/samples.zarr/**/*", "trials/*/commits/*", "trials/*/outcome.json", "results.zarr/**/*")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in parts
        for path in sorted(folder.glob(part))
        if path.is_file()
    }


def test_a_sweep_that_is_killed_ends_like_an_undisturbed_one(folder, sweep_file, pytestconfig) -> None:
    spec = sweep_file("killed", **SPEC)
    seed = pytestconfig.getoption("--kill-seed") or random.SystemRandom().randrange(10**6)
    print(f"moments drawn with --kill-seed {seed}")
    moments = random.Random(seed)

    mark = uuid.uuid4().hex
    started = time.monotonic()
    run = start(spec, folder / "undisturbed", mark)
    assert run.wait() == 0, run.stderr.read().decode()
    run.stderr.close()
    whole_s = time.monotonic() - started
    assert_gone(mark)

    killed = 0
    while killed < pytestconfig.getoption("--kills"):
        mark = uuid.uuid4().hex
        run = start(spec, folder / "killed", mark)
        time.sleep(moments.uniform(1.0, whole_s))
        if run.poll() is None:
            killed += 1
        else:  # it was done before: begin again, and aim earlier
            shutil.rmtree(folder / "killed")
            whole_s *= 0.7
        for process in marked(mark):  # the whole group, as a scheduler would
            if process.pid == run.pid or os.getpgid(process.pid) == run.pid:
                process.send_signal(signal.SIGKILL)
        run.wait()
        run.stderr.close()
        assert_gone(mark)

    mark = uuid.uuid4().hex
    run = start(spec, folder / "killed", mark)
    assert run.wait() == 0, run.stderr.read().decode()
    run.stderr.close()
    assert_gone(mark)
    undisturbed, disturbed = contents(folder / "undisturbed"), contents(folder / "killed")
    assert undisturbed.keys() == disturbed.keys()
    assert [name for name in undisturbed if undisturbed[name] != disturbed[name]] == []
    shards = {content for name, content in undisturbed.items() if "samples.zarr/images/c" in name}
    assert len(shards) == 3 * 6  # all of them, and no two alike
