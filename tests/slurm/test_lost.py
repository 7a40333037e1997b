"""Jobs that do not come back by themselves: they are replaced, every death has a name, and the answers stay the same."""

import contextlib
import random
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.rendezvous import ClusterFolder
from cluster.script import REQUEUE_PAUSES_S, RESTARTS_AFTER_MEMORY
from tests.slurm.hosts import missing_packages, running
from tests.slurm.sweeps import LONG, SITE, STEADY, Login, Submitted, assert_same, client_calls
from tests.waiting import HANG_S

pytestmark = pytest.mark.slurm_full
NOTICE = {"notice_s": 15}


def status(login: Login, sweep: Submitted) -> str:
    done = login.ganlab("status", sweep.out)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_dead(login: Login, sweep: Submitted) -> None:
    """What is watched is shown as ended, whatever its last records say."""
    watched = login.ganlab("status", sweep.out, "--watch").stdout
    assert "nobody works on it" in watched
    assert "due in" not in watched


def preempt_worker(sweep: Submitted, draw: random.Random) -> None:
    """A more urgent job takes both GPUs of a host for a second."""
    host = draw.choice(sweep.workers())["host"]
    sweep.hosts.slurm(
        "sbatch", "-p", "urgent", "-w", host, "--gres=gpu:2", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 1"
    )


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """A SLURM that says nothing before it preempts: jobs of its partition `fickle` are gone within seconds."""
    if obstacle := missing_packages():
        pytest.skip(obstacle)
    with running(tmp_path_factory.mktemp("silent"), silent=True) as hosts:
        yield Login(hosts, hosts.shared)


@pytest.mark.parametrize("partition", ["once", "fickle"])
def test_workers_that_are_preempted_again_and_again_without_a_word(
    silent: Login, undisturbed_long: Path, moments: random.Random, partition: str
) -> None:
    """Every 40 s, where nothing may requeue them or preemption cancels them; the sweep finishes by itself."""
    login = silent
    login.hosts.slurm("sdiag", "-r")
    sweep = login.submit(
        f"again {partition}", LONG, partition=partition, controller={**SITE["controller"], "partition": "gpu"}
    )
    sweep.wait_until_training()
    first = sweep.read("submission.json")["workers"]
    struck = 0
    while sweep.state != "done" and len(sweep.states()) < 12:
        if sweep.workers():
            preempt_worker(sweep, moments)
            struck += 1
        for _ in range(80):
            if sweep.state == "done":
                break
            time.sleep(0.5)
    sweep.wait_until_done()
    calls, hours = client_calls(login.hosts), (time.time() - sweep.submitted) / 3600
    print(f"{struck} preemptions; {calls.total() / hours:.0f} calls of the scheduler per hour: {dict(calls)}")
    assert struck >= 2
    requeued = [path for path in (sweep.out / "cluster" / "runs").iterdir() if path.suffix != ".0"]
    assert requeued or len(sweep.read("submission.json")["workers"]) > len(first)
    assert partition == "fickle" or not requeued
    assert re.search(r"job \d+\S* on n\d preempted", status(login, sweep))
    assert_same(sweep.out, undisturbed_long)


def test_a_controller_that_is_preempted_without_a_word_has_a_successor(silent: Login, undisturbed: Path) -> None:
    login = silent
    sweep = login.submit("taken", STEADY, controller={**SITE["controller"], "partition": "fickle"})
    sweep.wait_until_training()
    first, host = sweep.controller, sweep.controller_host()
    assert sweep.read("submission.json")["successor"], "its partition cancels what it preempts"
    login.hosts.slurm(
        "sbatch", "-p", "urgent", "-w", host, "--exclusive", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 1"
    )
    sweep.wait(lambda: sweep.controller != first, "another controller", 60)
    sweep.wait_until_done()
    assert_same(sweep.out, undisturbed)


def test_jobs_that_may_never_be_requeued(login: Login, undisturbed: Path) -> None:
    """The time of a worker ends, then the controller's host loses power: both have others in their place."""
    sweep = login.submit("once", STEADY, partition="once", **NOTICE)
    sweep.wait_until_training()
    first, host = sweep.controller, sweep.controller_host()
    sweep.end_of_time([next(worker["job"] for worker in sweep.workers() if worker["host"] != host)])
    assert sweep.read("submission.json")["successor"], "SLURM would not requeue it"
    assert "successor of the controller" in status(login, sweep)
    login.hosts.power_off(host)
    login.hosts.power_on(host)
    sweep.wait(lambda: sweep.controller != first, "the successor", 120)
    sweep.wait(lambda: sweep.state in ("running", "done"), "the successor to serve", 120)
    sweep.wait_until_done()
    assert re.search(r"job \d+_\d on n\d could not requeue itself .*disabled", status(login, sweep))
    assert_same(sweep.out, undisturbed)


def test_workers_whose_time_ends_while_slurm_is_away(login: Login, undisturbed: Path) -> None:
    """None of them can requeue itself; all are replaced when slurmctld answers again."""
    sweep = login.submit("away", STEADY, **NOTICE)
    sweep.wait_until_training()
    first = sweep.read("submission.json")["workers"]
    jobs = {job["job"] for job in sweep.workers()}
    with login.hosts.scheduler_away():
        sweep.end_of_time(jobs)
        refused = len(jobs) * len(REQUEUE_PAUSES_S)
        runs = ClusterFolder(sweep.out / "cluster").runs
        sweep.wait(
            lambda: sum(path.read_text().count("requeue=refused") for path in runs.iterdir()) == refused,
            "every worker to give up",
            180,
        )
    sweep.wait_until_done()
    assert len(sweep.read("submission.json")["workers"]) > len(first)
    assert f"{len(jobs)} could not requeue itself" in status(login, sweep)
    assert_same(sweep.out, undisturbed)


def test_a_host_without_the_environment_is_left_out_and_named(login: Login, undisturbed: Path) -> None:
    setup = ['if [ "$(hostname)" = n2 ]; then no-such-module load python; exit 7; fi']
    site = {"controller": {**SITE["controller"], "constraint": "slow"}}  # on n3
    sweep = login.submit("broken", STEADY, setup=setup, **site)
    sweep.wait_until_done()
    said = status(login, sweep)
    assert "nodes left out of this sweep: n2" in said
    assert re.search(r"job \d+_\d on n2 its command could not be started \(exit code 7\).*no-such-module", said)
    assert str(sweep.out / "logs") in said
    assert "exclude" not in login.hosts.slurm("scontrol", "show", "node", "n2").lower()
    assert_same(sweep.out, undisturbed)


def test_an_environment_that_is_nowhere_is_named_with_the_command_that_goes_on(login: Login, undisturbed: Path) -> None:
    """No Python of ours ever runs: the script alone can say so."""
    sweep = login.submit("nowhere", STEADY, python="/no/such/python")
    sweep.wait(lambda: not login.hosts.jobs() or not sweep.jobs(), "every job to end", 120)
    said = status(login, sweep)
    assert "its command could not be started" in said
    assert "/no/such/python" in said
    words = ("ganlab", "submit", sweep.out / "sweep.yaml", "--cluster", sweep.out / "cluster" / "cluster.yaml")
    assert f"to go on: {shlex.join(map(str, words))} --out" in said
    assert_dead(login, sweep)
    mended = login.submit("nowhere", STEADY)
    mended.wait_until_done()
    assert_same(sweep.out, undisturbed)


def test_workers_that_fail_everywhere_end_the_sweep_with_their_reason(login: Login) -> None:
    """The controller runs, but not one worker can: it does not submit others for ever."""
    setup = ['if [ -n "$SLURM_GPUS_ON_NODE" ]; then echo no licence here; exit 9; fi']
    sweep = login.submit("failing", STEADY, setup=setup)
    deadline = time.monotonic() + HANG_S
    while sweep.state != "failed" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert sweep.state == "failed", sweep.story("it goes on for ever")
    assert "no licence here" in sweep.read("controller.json")["reason"]
    sweep.wait_until_gone(60)
    said = status(login, sweep)
    assert "no licence here" in said
    assert "n1, n2, n3" in said
    assert "to go on: ganlab submit" in said


def test_a_requeued_controller_does_not_wait_for_its_credential(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: Path
) -> None:
    """On a SLURM as it comes, a requeued job waits for two minutes: a new one takes its place."""
    if obstacle := missing_packages():
        pytest.skip(obstacle)
    with running(tmp_path_factory.mktemp("default"), cred_expire=120) as hosts:
        login = Login(hosts, hosts.shared)
        sweep = login.submit("steady", STEADY)
        sweep.wait_until_training()
        first = sweep.controller
        hosts.slurm("scontrol", "requeue", first)
        began = time.monotonic()
        sweep.wait(lambda: sweep.state != "running", "the controller to leave", 30)
        sweep.wait(lambda: sweep.state == "running", "a controller to serve again", 100)
        waited = time.monotonic() - began
        print(f"no controller for {waited:.0f} s")
        assert sweep.controller != first
        assert waited < 100
        sweep.wait_until_done()
        assert_same(sweep.out, undisturbed)


def test_jobs_that_are_killed_for_memory_are_named(tmp_path_factory: pytest.TempPathFactory, undisturbed: Path) -> None:
    """A worker with far too little memory, and then the controller; with enough, the sweep goes on."""
    if obstacle := missing_packages():
        pytest.skip(obstacle)
    with running(tmp_path_factory.mktemp("tight"), memory_limits=True) as hosts:
        login = Login(hosts, hosts.shared)
        # Measuring is said to be small enough, or such a worker is refused.
        tight = {**STEADY, "resources": {**STEADY["resources"], "measure_memory_gb": 0.3}}
        sweep = login.submit("tight", tight, mem_gb=0.2, nodes=1)
        said = wait_for_words(login, sweep, r"job \d+\S* on n\d killed for memory")
        assert re.search(r"\d killed for memory", said), sweep.story(said)
        assert login.ganlab("cancel", sweep.out).returncode == 0
        sweep.wait_until_gone(60)
        sweep = login.submit("tight controller", STEADY, controller={**SITE["controller"], "mem_gb": 0.1})
        said = wait_for_words(login, sweep, r"to go on: ganlab submit")
        assert re.search(rf"controller: job {sweep.controller}, gone: job .* on n\d killed for memory", said), said
        runs = [path.name for path in (sweep.out / "cluster" / "runs").glob(f"{sweep.controller}.*")]
        assert len(runs) == 1 + RESTARTS_AFTER_MEMORY
        assert_dead(login, sweep)
        sweep.wait_until_gone(60)
        enough = login.submit("tight controller", STEADY, nodes=2, mem_gb=6, controller={"cpus": 1, "mem_gb": 4})
        enough.wait_until_done()
        assert_same(sweep.out, undisturbed)


def wait_for_words(login: Login, sweep: Submitted, words: str, timeout_s: float = HANG_S) -> str:
    """Ask for the status until it has the words; what it says."""
    deadline = time.monotonic() + timeout_s
    while not re.search(words, said := status(login, sweep)):
        assert time.monotonic() < deadline, sweep.story(said)
        time.sleep(2)
    return said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Login]:
    """Hosts whose shared file system is a small one of its own, which can be filled."""
    if obstacle := missing_packages():
        pytest.skip(obstacle)
    shared = tmp_path / "shared"
    shared.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", shared], check=True)
    try:
        with running(tmp_path) as hosts:
            yield Login(hosts, shared)
    finally:
        subprocess.run(["umount", "--lazy", shared], check=True)


def fill(disk: Path) -> Path:
    """Take every byte that is left; the file that has them."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    return filler


def test_trials_wait_while_the_shared_disk_is_full(small_disk: Login, undisturbed: Path) -> None:
    """No trial fails, nothing has to be started again, and the end is that of an undisturbed sweep."""
    login = small_disk
    sweep = login.submit("steady", STEADY)
    sweep.wait_until_training()
    filler = fill(login.folder)
    time.sleep(20)
    assert "is full: trials wait" in status(login, sweep)
    assert "failed" not in sweep.states()
    filler.unlink()
    sweep.wait_until_done()
    assert sweep.states() == ["completed"] * 12
    assert_same(sweep.out, undisturbed)
