"""Sweeps on the three hosts: submit, watch by files, disturb, compare.

Invariant: what a test waits for has a deadline, and a missed one shows the queue and the last lines of every log.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.slurm.hosts import HOSTS, Hosts
from tests.waiting import HANG_S

GANLAB = Path(sys.executable).with_name("ganlab")

# Three workers with both GPUs of a host each; the controller fits beside one of them.
SITE: Mapping[str, Any] = {
    "partition": "gpu",
    "nodes": 3,
    "gpus_per_node": 2,
    "cpus_per_node": 3,
    "mem_gb": 4,
    "time_min": 60,
    "controller": {"cpus": 1, "mem_gb": 2, "time_min": 60},
    "environment": {"OMP_NUM_THREADS": "1"},
}

# Twelve trials, two for each of the six GPUs, that train for several seconds each: long enough to be disturbed.
STEADY: Mapping[str, Any] = {
    "name": "steady",
    "dataset": {"name": "digits"},
    "model": {
        "family": "dcgan",
        "latent_dim": 8,
        "generator_width": 8,
        "refine": True,
        "discriminator_width": {"grid_search": [2, 4, 8]},
    },
    "train": {"steps": 200, "batch_size": 32, "learning_rate": 1e-3},
    "samples": {"snapshots": [100], "images_per_snapshot": 512, "final_images": 512},
    "collisions": {"sample_sizes": [10, 100]},
    "seeds": 4,
    "resources": {"checkpoint_every_s": 0.5, "gpus_per_trial": 1, "device": "cpu"},
}
LONG: Mapping[str, Any] = {  # two minutes or more, whatever the machine: trials go one after another
    **STEADY,
    "name": "long",
    "train": {**STEADY["train"], "steps": 3000},
    "resources": {**STEADY["resources"], "max_concurrent": 1},
}


@dataclass
class Submitted:
    """One sweep on the hosts."""

    hosts: Hosts
    out: Path
    submission: subprocess.CompletedProcess[str]
    submitted: float = field(default_factory=time.time)

    # What the files say ----------------------------------------------------------------------------------------------

    def read(self, name: str) -> dict[str, Any]:
        """A record under cluster/, {} while it isn't there."""
        try:
            return dict(json.loads((self.out / "cluster" / name).read_text()))
        except FileNotFoundError:
            return {}

    @property
    def state(self) -> str:
        return str(self.read("controller.json").get("state", "waiting"))

    @property
    def controller(self) -> str:
        """Job number of the controller."""
        return str(self.read("submission.json")["controller"])

    def controller_host(self) -> str:
        return self.read("controller.json")["host"].split(".")[0]

    def workers(self) -> list[dict[str, str]]:
        """Running worker jobs, one for each host they are on."""
        arrays = set(self.read("submission.json")["workers"])
        return [job for job in self.hosts.jobs() if job["id"].split("_")[0] in arrays and job["state"] == "RUNNING"]

    def states(self) -> list[str]:
        """How every trial that ended did so."""
        return [json.loads(path.read_text())["status"] for path in self.out.glob("trials/*/outcome.json")]

    def training(self) -> bool:
        """Whether some trial has a checkpoint and is not done."""
        return any(
            not (path.parents[1] / "outcome.json").exists() for path in self.out.glob("trials/*/checkpoint/latest.pt")
        )

    # Waiting ---------------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = HANG_S) -> None:
        """Wait for a condition, as long as the controller does not give up meanwhile."""
        deadline, gave_up = time.monotonic() + timeout_s, self.state == "failed"
        while not condition():
            head = self.read("controller.json")
            assert gave_up or head.get("state") != "failed" or "cancelled" in head["reason"], self.story(
                f"the controller gave up while this waited for {what}"
            )
            assert time.monotonic() < deadline, self.story(f"waited {timeout_s} s for {what}")
            time.sleep(0.3)

    def wait_until_training(self) -> None:
        self.wait(self.training, "a trial in the middle of its training")

    def wait_until_training_or_done(self) -> None:
        self.wait(lambda: self.states() or self.training(), "a trial to train")

    def wait_until_done(self, timeout_s: float = HANG_S) -> None:
        """Done, and nothing left on any host soon afterwards."""
        self.wait(lambda: self.state == "done", "the sweep to be done", timeout_s)
        self.wait_until_gone(20)

    def wait_until_gone(self, timeout_s: float) -> None:
        """No job of the sweep in the queue, no process and no temporary folder on any host."""
        self.wait(
            lambda: not self.jobs() and not self.processes() and not self.folders(),
            "its jobs, processes and temporary folders to go",
            timeout_s,
        )

    def ids(self) -> set[str]:
        """Every job that was submitted for the sweep so far; of an array, the array's."""
        submission = self.read("submission.json")
        return {*submission["controllers"], submission["successor"], *submission["workers"]} - {""}

    def jobs(self) -> list[dict[str, str]]:
        mine = self.ids()
        return [job for job in self.hosts.jobs() if job["id"].split("_")[0] in mine and job["state"] != "COMPLETING"]

    def processes(self) -> list[psutil.Process]:
        """Processes of this sweep's jobs on all hosts."""
        return [process for host in HOSTS for process in self.hosts.processes(host) if self._owns(process)]

    def folders(self) -> list[str]:
        """Temporary folders of this sweep's jobs on all hosts: ``ganlab<user>-<job>-<random>``."""
        mine, names = self.ids(), [name for host in HOSTS for name in self.hosts.temporary(host)]
        return [name for name in names if name.startswith("ganlab") and name.split("-")[1].split("_")[0] in mine]

    def end_of_time(self, jobs: Collection[str]) -> None:
        """Send the supervisors of worker jobs what SLURM sends them before the end of their time."""
        for host in HOSTS:
            for process in self.find(host, "submitit.core._submit"):
                if process.environ().get("SLURM_JOB_ID") in jobs:
                    process.send_signal(signal.SIGUSR2)

    def _owns(self, process: psutil.Process) -> bool:
        mine = self.ids()
        try:
            environment = process.environ()
        except psutil.Error:
            return False
        return bool(mine & {environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_ARRAY_JOB_ID", "")})

    def find(self, host: str, *words: str) -> list[psutil.Process]:
        """Processes of this sweep on a host whose command line has all the words."""
        found = [process for process in self.hosts.processes(host) if self._owns(process)]
        return [process for process in found if all(word in _line(process) for word in words)]

    def story(self, headline: str) -> str:
        """What went on, for the message of a failed test."""
        parts = [
            headline,
            self.hosts.slurm("squeue", "-a", "-r", check=False),
            self.hosts.slurm("sinfo", "-N", check=False),
        ]
        parts += [f"controller.json: {self.read('controller.json')}", f"outcomes: {self.states()}"]
        parts += [f"{path.name}: {path.read_text()}" for path in sorted(self.out.glob("cluster/workers/*.json"))]
        parts.append(f"temporary folders: {self.folders()}")
        for host in HOSTS:
            parts += [f"{host}: {process.pid} {_line(process)[:160]}" for process in self.hosts.processes(host)]
        for log in sorted((self.out / "logs").glob("*[tg]"), key=lambda path: path.stat().st_mtime)[-8:]:
            parts.append(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:]))
        return "\n".join(parts)


def _line(process: psutil.Process) -> str:
    """Command line of a process; empty when it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass(frozen=True)
class Login:
    """A shell on the login host."""

    hosts: Hosts
    folder: Path

    def python(
        self, *arguments: str | Path, timeout: float = HANG_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return self._run(sys.executable, *arguments, timeout=timeout, **environment)

    def ganlab(
        self, *arguments: str | Path, timeout: float = HANG_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return self._run(GANLAB, *arguments, timeout=timeout, **environment)

    def _run(self, *command: str | Path, timeout: float, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "200", **self.hosts.environment, **environment},
        )

    def write(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(content)))
        return path

    def try_submit(
        self,
        name: str,
        sweep: Mapping[str, Any] = STEADY,
        out: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **site: Any,
    ) -> subprocess.CompletedProcess[str]:
        """`ganlab submit` as it ends, well or badly."""
        files = self.write(name, sweep), self.write(f"{name}-site", {**SITE, **site})
        return self.ganlab(
            "submit", files[0], "--cluster", files[1], "--out", out or self.folder / name, **(environment or {})
        )

    def submit(self, name: str, sweep: Mapping[str, Any] = STEADY, **site: Any) -> Submitted:
        """Submit a sweep that must be taken."""
        done = self.try_submit(name, sweep, **site)
        assert done.returncode == 0, done.stderr
        return Submitted(self.hosts, self.folder / name, done)

    def submit_from_a_shell_that_dies(self, name: str, sweep: Mapping[str, Any] = STEADY, **site: Any) -> Submitted:
        """Submit from a shell that is killed, with its whole session, as soon as the command has returned."""
        files = self.write(name, sweep), self.write(f"{name}-site", {**SITE, **site})
        submit = f'"{GANLAB}" submit "{files[0]}" --cluster "{files[1]}" --out "{self.folder / name}"'
        shell = subprocess.Popen(
            ["bash", "-c", f"{submit} && echo submitted; sleep 1000"],
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.hosts.environment},
            cwd=self.folder,
        )
        assert shell.stdout is not None
        assert shell.stderr is not None
        lines = []
        for text in shell.stdout:
            lines.append(text)
            if text.strip() == "submitted":
                break
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        error = shell.stderr.read()
        shell.stdout.close()
        shell.stderr.close()
        assert lines[-1:] == ["submitted\n"], error
        return Submitted(
            self.hosts, self.folder / name, subprocess.CompletedProcess(["submit"], 0, "".join(lines), error)
        )


def contents(folder: Path) -> dict[str, bytes]:
    """Every sample, commit record and outcome of a sweep, by relative name."""
    parts = ("trials/*/samples.zarr/**/*", "trials/*/commits/*", "trials/*/outcome.json")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in parts
        for path in sorted(folder.glob(part))
        if path.is_file()
    }


COSTS = ("gpu_hours", "gpu_energy", "sweep_gpu_hours", "sweep_gpu_energy")
"""Variables that say what a sweep cost, which no run has twice; one machine without GPUs has none."""


def assert_same(sweep: Path, undisturbed: Path) -> None:
    """Bit for bit the samples, and number for number the results, of the sweep that `ganlab run` made on one machine."""
    import xarray as xr

    ours, theirs = contents(sweep), contents(undisturbed)
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if ours[name] != theirs[name]] == []
    with xr.open_zarr(sweep / "results.zarr") as results, xr.open_zarr(undisturbed / "results.zarr") as wanted:
        xr.testing.assert_equal(results.drop_vars(COSTS, errors="ignore").load(), wanted.load())
    assert (sweep / "report.html").stat().st_size > 10_000


# Calls that clients of SLURM make of it, among those that it counts (the others are its own hosts').
CLIENT_CALLS = frozenset(
    f"REQUEST_{name}"
    for name in (
        "JOB_INFO",
        "JOB_INFO_SINGLE",
        "JOB_USER_INFO",
        "NODE_INFO",
        "NODE_INFO_SINGLE",
        "PARTITION_INFO",
        "BUILD_INFO",
        "SUBMIT_BATCH_JOB",
        "RESOURCE_ALLOCATION",
        "KILL_JOB",
        "CANCEL_JOB_STEP",
        "JOB_REQUEUE",
        "UPDATE_JOB",
        "JOB_STEP_INFO",
    )
)


def client_calls(hosts: Hosts) -> Counter[str]:
    """Calls of SLURM's clients since the counters were last reset."""
    counts: Counter[str] = Counter()
    for line in hosts.slurm("sdiag").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name in CLIENT_CALLS:
            counts[name] = int(rest.split("count:")[1].split()[0])
    return counts
