"""What goes wrong on a cluster, done on purpose.

Invariant: each waits until it really happened; none touches a file of the sweep.
"""

import random
import signal
import time
from collections.abc import Callable, Mapping

from tests.slurm.hosts import HOSTS
from tests.slurm.sweeps import Submitted

Disturb = Callable[[Submitted, random.Random], None]


def kill_ray_node(sweep: Submitted, draw: random.Random) -> None:
    """`kill -9` of the Ray node of a worker."""
    raylets = [(job, found) for job in sweep.workers() if (found := _raylets_of(sweep, job))]
    if raylets:  # else none has joined again since the last disturbance
        _, (raylet, *_) = draw.choice(raylets)
        raylet.send_signal(signal.SIGKILL)
        sweep.wait(lambda: not raylet.is_running() or raylet.status() == "zombie", "a raylet to be killed", 10)


def host_set_down(sweep: Submitted, draw: random.Random) -> None:
    """An administrator sets a host down: its jobs are killed and requeued; the host comes back later."""
    host = draw.choice(HOSTS)
    sweep.hosts.slurm("scontrol", "update", f"NodeName={host}", "State=down", "Reason=test")
    time.sleep(draw.uniform(3, 8))
    # Refused when the host has reported itself back meanwhile (ReturnToService=2).
    sweep.hosts.slurm("scontrol", "update", f"NodeName={host}", "State=resume", check=False)


def host_dies(sweep: Submitted, draw: random.Random) -> None:
    """A host loses power, and is switched on again later."""
    host = draw.choice(HOSTS)
    sweep.hosts.power_off(host)
    time.sleep(draw.uniform(3, 8))
    sweep.hosts.power_on(host)


def requeue_worker(sweep: Submitted, draw: random.Random) -> None:
    """`scontrol requeue` of a running worker."""
    if workers := sweep.workers():
        sweep.hosts.slurm("scontrol", "requeue", draw.choice(workers)["job"], check=False)  # it may be ending just now


def requeue_controller(sweep: Submitted, draw: random.Random) -> None:
    """`scontrol requeue` of the controller."""
    sweep.hosts.slurm("scontrol", "requeue", sweep.controller, check=False)


def preempt(sweep: Submitted, draw: random.Random) -> None:
    """A more urgent job takes a whole host for a few seconds."""
    host = draw.choice(HOSTS)
    sweep.hosts.slurm(
        "sbatch", "-p", "urgent", "-w", host, "--exclusive", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 5"
    )


def kill_driver(sweep: Submitted, draw: random.Random) -> None:
    """`kill -9` of the process that drives Ray Tune."""
    for host in HOSTS:
        for process in sweep.find(host, "jobs.cli.driver", "train"):
            process.send_signal(signal.SIGKILL)


DISTURBANCES: Mapping[str, Disturb] = {
    "kill -9 of a Ray node": kill_ray_node,
    "a host set down": host_set_down,
    "a host without power": host_dies,
    "a worker requeued": requeue_worker,
    "the controller requeued": requeue_controller,
    "a worker preempted": preempt,
    "kill -9 of the Tune driver": kill_driver,
}


def _raylets_of(sweep: Submitted, job: dict[str, str]) -> list:  # type: ignore[type-arg]
    return [
        process
        for process in sweep.find(job["host"], "raylet/raylet")
        if process.environ().get("SLURM_JOB_ID") == job["job"]
    ]
