"""Many trials, several sweeps, arrays that are cut, whole hosts, and the accounting database."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import xarray as xr

from tests.slurm.hosts import HOSTS, missing_packages, running
from tests.slurm.sweeps import SITE, STEADY, Login, Submitted, assert_same
from tests.slurm.test_submit import TINY

pytestmark = pytest.mark.slurm_full
HALF = {"gpus_per_node": 1, "cpus_per_node": 1, "mem_gb": 2}


def test_two_sweeps_of_one_user_at_once(login: Login, undisturbed: Path) -> None:
    sweeps = [login.submit(name, {**STEADY, "name": name}, **HALF) for name in ("first", "second")]
    for sweep in sweeps:
        sweep.wait_until_training()
    assert all(sweep.state == "running" for sweep in sweeps), "they did not run at the same time"
    for sweep in sweeps:
        sweep.wait(lambda sweep=sweep: sweep.state == "done", "both sweeps to be done")
    for sweep in sweeps:
        sweep.wait_until_gone(30)
        assert_same(sweep.out, undisturbed)


def test_three_hundred_short_trials(login: Login) -> None:
    sweep = login.submit("many", {**TINY, "name": "many", "seeds": 300})
    sweep.wait_until_training_or_done()
    during = login.ganlab("status", sweep.out, COLUMNS="80")
    assert during.returncode == 0, during.stderr
    assert_readable(during.stdout, sweep.out)
    sweep.wait_until_done()
    after = login.ganlab("status", sweep.out, COLUMNS="80")
    assert_readable(after.stdout, sweep.out)
    assert "300 completed" in after.stdout
    assert json.loads(login.ganlab("status", sweep.out, "--json").stdout)["states"] == {"completed": 300}
    with xr.open_zarr(sweep.out / "results.zarr") as results:
        assert len(results.trial) == 300
        assert bool(results.support_size.isel(snapshot=-1).notnull().all())


def assert_readable(page: str, folder: Path) -> None:
    lines = page.replace(str(folder), "DIR").splitlines()
    assert 1 < len(lines) <= 80, page
    assert max(map(len, lines)) <= 120, page


def test_more_workers_than_an_array_may_hold(login: Login, undisturbed: Path) -> None:
    """Six workers of one GPU each, two on a host; SLURM here takes four tasks an array."""
    sweep = login.submit("six", STEADY, nodes=6, **HALF)
    assert len(sweep.read("submission.json")["workers"]) == 2
    sweep.wait_until_done()
    assert_same(sweep.out, undisturbed)


def test_whole_hosts(login: Login, undisturbed: Path) -> None:
    """With exclusive hosts the controller has one and two are left for workers."""
    sweep = login.submit("whole", STEADY, nodes=2, exclusive=True)
    sweep.wait_until_training()
    busy = {worker["host"] for worker in sweep.workers()}
    assert len(busy) == 2
    assert sweep.controller_host() in HOSTS
    sweep.wait_until_done()
    assert_same(sweep.out, undisturbed)


def test_two_kinds_of_node_in_one_sweep(login: Login, undisturbed: Path) -> None:
    """Whole GPUs on one host, parts of GPUs on another; a kind without GPUs, where no trial fits, is not started."""
    kinds = [
        {"gpu_type": "a100", "gpus_per_node": 1, "nodes": 1, "cpus_per_node": 2},
        {"gpu_type": "1g.10gb", "gpus_per_node": 2, "nodes": 1, "cpus_per_node": 2},
        {"name": "cpu", "nodes": 1, "cpus_per_node": 4},
    ]
    site = {key: value for key, value in SITE.items() if key not in ("nodes", "gpus_per_node", "cpus_per_node")}
    files = login.write("kinds", STEADY), login.write("kinds-site", {**site, "workers": kinds})
    done = login.ganlab("submit", files[0], "--cluster", files[1], "--out", login.folder / "kinds")
    assert done.returncode == 0, done.stderr
    assert "no trial fits on workers cpu" in done.stderr
    assert "by 1 a100 workers of 60 min and 1 1g.10gb workers of 60 min" in done.stdout
    sweep = Submitted(login.hosts, login.folder / "kinds", done)
    submission = sweep.read("submission.json")
    assert submission["asked"] == {"a100": 1, "1g.10gb": 1, "cpu": 0}
    sweep.wait_until_training()
    during = login.ganlab("status", sweep.out).stdout
    assert re.search(r"workers a100 \(job \d+\): 1 \w+ of 1", during), during
    assert re.search(r"workers 1g\.10gb \(job \d+\): 1 \w+ of 1", during), during
    sweep.wait_until_done()
    starts = [json.loads(path.read_text().split("\n")[1]) for path in sweep.out.glob("trials/*/attempts.jsonl")]
    used = Counter(start["host"].split(".")[0] for start in starts)
    assert used["n3"] > 0
    assert used["n1"] + used["n2"] > 0
    assert used.total() == 12
    assert_same(sweep.out, undisturbed)
    with xr.open_zarr(sweep.out / "results.zarr") as results:
        assert (results.gpu_hours > 0).all()
        assert float(results.sweep_gpu_hours) == pytest.approx(float(results.gpu_hours.sum()))
        assert results.gpu_energy.isnull().all(), "these GPUs have no NVML"


def test_workers_that_come_late_and_fewer_than_asked_for(login: Login, undisturbed: Path) -> None:
    """A host is busy with someone else's job: the sweep begins on the others, and uses it when it is free."""
    stranger = login.hosts.slurm(
        "sbatch", "--parsable", "-w", "n3", "--exclusive", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 600"
    )
    sweep = login.submit("elastic", STEADY)
    sweep.wait_until_training()
    assert "n3" not in {worker["host"] for worker in sweep.workers()}
    login.hosts.slurm("scancel", stranger.strip())
    sweep.wait(
        lambda: "n3" in {worker["host"] for worker in sweep.workers()} or sweep.state == "done", "a worker on n3"
    )
    sweep.wait_until_done()
    assert_same(sweep.out, undisturbed)


def test_with_an_accounting_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    """slurmdbd and MariaDB: what became of the jobs is read from sacct when the queue has forgotten them."""
    if obstacle := missing_packages(accounting=True):
        pytest.skip(obstacle)
    with running(tmp_path_factory.mktemp("accounted"), accounting=True) as hosts:
        login = Login(hosts, hosts.shared)
        sweep = login.submit("tiny", {**TINY, "seeds": 6})
        sweep.wait_until_training_or_done()
        if workers := sweep.workers():
            hosts.slurm("scontrol", "requeue", workers[0]["job"], check=False)
        sweep.wait_until_done()
        submission = sweep.read("submission.json")
        jobs = ",".join(map(str, (submission["controller"], *submission["workers"])))
        rows = hosts.slurm("sacct", "-X", "-n", "-P", "-j", jobs, "-o", "JobID,State").split()
        assert rows, "the database knows nothing of the jobs"
        assert f"{submission['controller']}|COMPLETED" in rows
        hosts._wait(lambda: not hosts.jobs(), "the queue to forget them", 60)
        status = login.ganlab("status", sweep.out)
        assert status.returncode == 0, status.stderr
        assert "6 completed" in status.stdout


def test_a_strangers_model_travels_with_the_sweep(login: Login) -> None:
    """Its module lies beside the sweep file, and is no longer what it was when the jobs start."""
    module = login.folder / "elsewhere" / "stranger.py"
    module.parent.mkdir()
    module.write_text(
        "import numpy as np\ndef model(level, seed):\n    def sample(count, random):\n"
        "        return random.integers(seed, level, (count, 1, 8, 8), dtype=np.uint8)\n    return sample\n"
    )
    spec = login.write(
        "elsewhere/strange",
        {
            **STEADY,
            "name": "strange",
            "model": {"family": "import:stranger:model", "level": {"grid_search": [20, 30]}},
            "train": {"steps": 1},
            "samples": {"final_images": 512},
            "seeds": 3,
        },
    )
    done = login.ganlab(
        "submit", spec, "--cluster", login.write("strange-site", SITE), "--out", login.folder / "strange"
    )
    assert done.returncode == 0, done.stderr
    module.write_text("raise SystemExit('the checkout has changed')\n")
    sweep = Submitted(login.hosts, login.folder / "strange", done)
    sweep.wait_until_done()
    assert sweep.states() == ["completed"] * 6
    results = xr.open_zarr(sweep.out / "results.zarr").load()
    assert set(results.level.values) == {20, 30}
    assert (results.samples == 512).all()
