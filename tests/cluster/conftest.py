"""Supervisors as plain processes: what they do without SLURM is tested here, the rest on a real SLURM (tests/slurm)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.rendezvous import ClusterFolder
from cluster.site import Site
from cluster.slurm import Jobs, _prepare
from tests.waiting import until

RUN = """
import json, sys
from pathlib import Path
from cluster.controller import Child, run_controller
from cluster.site import Site
from cluster.worker import run_worker
what, folder, site = sys.argv[1], Path(sys.argv[2]), Site.model_validate_json(sys.argv[3])
if what == "worker":
    run_worker(folder / "cluster", folder / "logs", site)
run_controller(folder / "cluster", folder / "logs", site, [Child(*child) for child in json.loads(sys.argv[4])])
"""

JOB = 10 * (10**5 + os.getpid() % 10**5)  # ids of jobs that concurrent runs of these tests do not share


class Supervisors:
    """Starts supervisors of one cluster, each as the job that SLURM would make of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.logs = root, root / "cluster", root / "logs"
        self.files = ClusterFolder(self.folder)
        self.processes: list[subprocess.Popen[bytes]] = []
        _prepare(Jobs("test", self.folder, self.logs, root, ()))

    def start(self, what: str, job: str, children: object = (), **site: object) -> "subprocess.Popen[bytes]":
        settings = Site.model_validate({"nodes": 1, "time_min": 1, "gpus_per_node": 1, "patience_s": 120} | site)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        array, _, task = job.partition("_")
        slurm = {
            "SLURM_JOB_ID": array,
            "SLURMD_NODENAME": "here",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_GPUS_ON_NODE": "1",
        }
        if task:
            slurm |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": task}
        with (self.logs / f"{job}_0_log.out").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, what, str(self.root), settings.model_dump_json(), json.dumps(children)],
                stdout=log,
                stderr=log,
                env=environment | slurm,
            )
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        path = self.logs / name
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, ready: Callable[[], object]) -> None:
        def logs() -> str:
            return "\n".join(self.log(path.name)[-3000:] for path in sorted(self.logs.glob("*_log.out")))

        until(ready, logs)


@pytest.fixture
def supervisors(folder: Path) -> Iterator[Supervisors]:
    made = Supervisors(folder)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()
