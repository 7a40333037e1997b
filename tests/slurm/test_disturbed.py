"""Whatever happens to a sweep on a cluster, its samples and answers are those of one undisturbed machine, bit for bit.

One disturbance is in `make test` too; all others are in `make test-slurm` alone.
"""

import random
import shutil
import time
from pathlib import Path

import pytest

from storage.attempts import Cause, read_attempts
from storage.layout import SweepLayout
from tests.slurm.disturbances import DISTURBANCES
from tests.slurm.hosts import CHECKOUT
from tests.slurm.sweeps import LONG, SITE, STEADY, Login, Submitted, assert_same

long = pytest.mark.slurm_full
SHORT = "a worker requeued"
NOTICE = {"notice_s": 15}  # what is said before a time limit: short, as these sweeps are


def disturb(sweep: Submitted, name: str, draw: random.Random) -> None:
    print(f"{time.time() - sweep.submitted:6.1f} s: {name}; {len(sweep.states())} trials done")
    DISTURBANCES[name](sweep, draw)


def mix(sweep: Submitted, times: int, between_s: tuple[float, float], draw: random.Random) -> int:
    """Disturb at random moments in random ways; how many of them struck while the sweep was running."""
    sweep.wait_until_training()
    struck = 0
    names = list(DISTURBANCES)
    draw.shuffle(names)
    while struck < times and sweep.state != "done":
        time.sleep(draw.uniform(*between_s))
        if sweep.state != "done" and len(sweep.states()) < 12:
            disturb(sweep, names[struck % len(names)], draw)
            struck += 1
    return struck


@long
def test_a_mix_of_two(login: Login, undisturbed: Path, moments: random.Random) -> None:
    sweep = login.submit("mix", STEADY, **NOTICE)
    assert mix(sweep, 2, (1, 4), moments) >= 1
    sweep.wait_until_done()
    assert_same(sweep.out, undisturbed)


@long
def test_a_mix_of_ten(login: Login, undisturbed: Path, moments: random.Random) -> None:
    """Each of them holds the sweep up, so that ten fit in, a few seconds apart."""
    sweep = login.submit("mix", STEADY, **NOTICE)
    assert mix(sweep, 10, (0.5, 3), moments) >= 8
    sweep.wait_until_done()
    assert_same(sweep.out, undisturbed)


@pytest.mark.parametrize("name", [name if name == SHORT else pytest.param(name, marks=long) for name in DISTURBANCES])
def test_one_disturbance(login: Login, undisturbed: Path, moments: random.Random, name: str) -> None:
    sweep = login.submit("steady", STEADY, **NOTICE)
    sweep.wait_until_training()
    time.sleep(moments.uniform(0, 5))
    assert len(sweep.states()) < 12, "it would strike too late to mean anything"
    disturb(sweep, name, moments)
    sweep.wait_until_done()
    assert_same(sweep.out, undisturbed)


@long
def test_time_limits_of_workers(login: Login, undisturbed_long: Path) -> None:
    """Workers are told that their two minutes are over, again and again, until the sweep is done."""
    sweep = login.submit("long", LONG, time_min=2, **NOTICE)
    sweep.wait_until_done()
    requeued = [path for path in sweep.out.glob("cluster/workers/*.json") if '"restart": 0' not in path.read_text()]
    assert requeued, sweep.story("no worker met its time limit")
    assert_same(sweep.out, undisturbed_long)


@long
def test_a_cancelled_controller_takes_its_workers_along(login: Login, undisturbed: Path) -> None:
    """Trials save their work first; submitted again at once, the sweep goes on from there."""
    sweep = login.submit("steady", STEADY, **NOTICE)
    sweep.wait_until_training()
    login.hosts.slurm("scancel", sweep.controller)
    sweep.wait_until_gone(20)
    layout = SweepLayout(sweep.out)
    attempts = [read_attempts(layout.trial(trial)) for trial in layout.trial_ids()]
    assert [each for each in attempts if each and each[-1].ended is None] == [], "an attempt without an end"
    assert Cause.PREEMPTED in {each[-1].cause for each in attempts if each}
    said = login.ganlab("status", sweep.out).stdout
    assert f"controller: job {sweep.controller}, failed: its job was cancelled (scancel)" in said
    assert "to go on: ganlab submit" in said
    again = login.submit("steady", STEADY, **NOTICE)
    again.wait_until_done()
    assert_same(sweep.out, undisturbed)


@long
def test_what_runs_is_what_was_submitted(login: Login, undisturbed: Path) -> None:
    """The checkout is broken while the jobs wait in the queue."""
    checkout, out = login.folder / "checkout", login.folder / "steady"
    for package in ("cluster", "ganlab", "jobs", "monitoring", "storage"):
        shutil.copytree(CHECKOUT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    spec, site = login.write("steady", STEADY), login.write("site", {**SITE, "sbatch": ["--hold"]})
    command = ("-c", "from jobs.cli.main import main; main()", "submit", spec, "--cluster", site, "--out", out)
    done = login.python(*command, PYTHONPATH=str(checkout))
    assert done.returncode == 0, done.stderr
    sweep = Submitted(login.hosts, out, done)
    for path in checkout.rglob("*.py"):
        path.write_text("raise SystemExit('the checkout has changed')\n")
    for job in {job["id"].split("_")[0] for job in login.hosts.jobs()}:
        login.hosts.slurm("scontrol", "release", job)
    sweep.wait_until_done()
    assert_same(out, undisturbed)
