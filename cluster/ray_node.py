"""Ray's processes on one node, started with every port, folder and amount given, so that Ray guesses none.

Invariant: nodes of one cluster alone meet, by the cluster's own token; nothing is placed on the head's CPUs.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.gpus import VISIBLE, visible_gpus
from cluster.interpreter import python
from cluster.ports import listening
from cluster.rendezvous import ClusterFolder
from cluster.supervise import Process

OBJECT_STORE_BYTES = 128 * 2**20  # trials exchange nothing: images go to disk, not through Ray
ANSWER_S = 5.0
DRAIN_S = 1.0
HEAD_PORTS = 9  # how many ports its command takes; a worker's takes 6
HEAD_METRICS, WORKER_METRICS = 5, 2  # which of them answers with Ray's metrics
HEAD_NODE = 3  # where among the head's those begin that every node has


def private_ray(token: Path) -> dict[str, str]:
    """Variables of a Ray that only holders of the token meet, to be set before it is imported: here or in a cluster."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of its own default
        # Trials have the niceness of the command. By default it is 15: behind the comparison of images
        # (`cluster.dask_node`), and all but still on a machine that does anything else.
        "RAY_worker_niceness": "0",
        # Of processes that Ray starts for every CPU before there is work, no trial takes one.
        "RAY_prestart_worker_first_driver": "0",
        # Python may have to be loaded from a slow file system, or beside other work.
        "RAY_worker_register_timeout_seconds": "300",
        "RAY_agent_register_timeout_ms": "300000",
    }


def ray_environment(folder: Path) -> dict[str, str]:
    """Variables that every process of this cluster needs before it imports Ray."""
    return {
        **private_ray(ClusterFolder(folder).token),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # A node that vanished is noticed in seconds; one that is only slow to answer is not given up.
        "RAY_health_check_initial_delay_ms": "5000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "10000",
        "RAY_health_check_failure_threshold": "5",
    }


def head_command(ports: Sequence[int], address: str, name: str, temporary: Path) -> list[str]:
    """`ray start` of the head at ``address:ports[0]``, with nothing to give to trials."""
    return [
        *_ray_start(ports[HEAD_NODE:], address, name, temporary),
        "--head",
        f"--port={ports[0]}",
        f"--dashboard-port={ports[1]}",
        f"--ray-client-server-port={ports[2]}",  # can't be turned off
        "--num-cpus=0",
        "--num-gpus=0",
        "--include-dashboard=false",
        "--no-monitor",  # of an autoscaler that there is not
    ]


def worker_command(
    ports: Sequence[int], address: str, name: str, temporary: Path, head: str, cpus: int, gpus: int
) -> list[str]:
    """`ray start` of a node that joins the head at ``host:port`` with so many CPUs and GPUs."""
    return [
        *_ray_start(ports, address, name, temporary),
        f"--address={head}",
        f"--num-cpus={cpus}",
        f"--num-gpus={gpus}",
    ]


def _ray_start(ports: Sequence[int], address: str, name: str, temporary: Path) -> list[str]:
    node_manager, objects, metrics, agent_http, agent_grpc, environments = ports[:6]
    return [
        *python("-u", "-m", "ray.scripts.scripts", "start", "--block", "--log-color=false"),
        f"--node-ip-address={address}",
        f"--node-name={name}",
        f"--temp-dir={temporary}",
        f"--node-manager-port={node_manager}",
        f"--object-manager-port={objects}",
        f"--metrics-export-port={metrics}",
        f"--dashboard-agent-listen-port={agent_http}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--runtime-env-agent-port={environments}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
        "--include-log-monitor=false",  # our processes write their own logs
    ]


def node_id(head: str, name: str) -> str | None:
    """Id of the living node of that name at the head ``host:port``; None when there is none, or no answer."""
    nodes = _answer(lambda: _client(head).get_all_node_info(timeout=ANSWER_S), ANSWER_S) or {}
    alive = [node for node in nodes.values() if node.node_name == name and node.state == node.ALIVE]
    return alive[0].node_id.hex() if alive else None


def drain(head: str, node: str, reason: str, deadline_s: float) -> bool:
    """Place nothing on the node any more; what runs there ends as preempted, not as failed. Whether it was heard."""
    from ray.core.generated import autoscaler_pb2

    preemption = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + deadline_s) * 1000)
    said = _answer(lambda: _client(head).drain_node(node, preemption, reason, deadline_ms, timeout=DRAIN_S), DRAIN_S)
    return bool(said and said[0])  # if not, the node is lost instead of drained, and what ran there is done again


def _answer(question: Callable[[], Any], timeout_s: float) -> Any:
    """Ask in a thread of its own: Ray may try for most of a minute to reach a head that has just gone."""
    said: list[Any] = []

    def ask() -> None:
        with suppress(Exception):  # Ray raises what it likes: no answer
            said.append(question())

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return said[0] if said else None


def _client(head: str) -> Any:
    """Connect to a head. Not kept: Ray ends a process whose connected head is gone for a minute."""
    if not listening(head, ANSWER_S):
        raise ConnectionError(f"no answer from {head}")
    import ray

    return ray._raylet.GcsClient(address=head)


def starting(process: Process, address: str, ports: Sequence[int], temporary: Path) -> Callable[[], None]:
    """Return what is to be called until the node is up whose `ray start` this is; it raises NodeDiedError when it died.

    `ray start` itself may take most of a minute to see that.
    """
    node_manager = f"{address}:{ports[0]}"
    seen = False

    def check() -> None:
        nonlocal seen
        if process.code is not None:
            raise NodeDiedError(process.ending())
        _vouch_for_agents(temporary, ports)
        now = listening(node_manager)
        if seen and not now:
            raise NodeDiedError(f"Ray's node manager at {node_manager} ended while it started; see {process.log}")
        seen = now

    return check


def _vouch_for_agents(temporary: Path, ports: Sequence[int]) -> None:
    """Tell the raylet which ports its agents will serve, as they will themselves once they are loaded.

    It waits for that no longer than 15 s, which can't be set, and then the node dies; loading them takes longer from a
    cold file system or on a busy node. All ports are of our own choosing, so there is nothing to wait for.
    """
    _, _, metrics, agent_http, agent_grpc, environments = ports[:6]
    known = {
        "metrics_export_port": metrics,
        "dashboard_agent_listen_port": agent_http,
        "metrics_agent_port": agent_grpc,
        "runtime_env_agent_port": environments,
    }
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = command.read_bytes().decode(errors="replace").split("\0")
            options = dict(
                word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word
            )
            session = Path(options.get("session_dir", "/"))
            if session.parent == temporary and "node_id" in options:  # the raylet
                for name, port in known.items():
                    if not (session / f"{name}_{options['node_id']}").exists():
                        import ray

                        ray._raylet.persist_port(str(session), options["node_id"], name, port)


class NodeDiedError(RuntimeError):
    """A process of Ray's or Dask's has ended by itself."""


def ray_logs(temporary: Path, lines: int = 12) -> str:
    """Return the ends of the logs that say why a node did not start; they are removed with the folder."""
    found = []
    for name in ("gcs_server.out", "raylet.out", "ray_process_exit.log"):
        for path in temporary.glob(f"session_2*/logs/{name}"):
            try:
                text = path.read_text(errors="replace")
            except OSError:
                continue
            said = [line for line in text.splitlines() if line.strip() and "(+0x" not in line]  # but for stack frames
            if said:
                found.append(f"--- {name}\n" + "\n".join(said[-lines:]))
    return "\n".join(found)


def usable_resources(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """CPUs and GPUs that SLURM has given to this job on this node; GPUs that CUDA does not show are left out."""
    cpus = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE")
    gpus = int(environment.get("SLURM_GPUS_ON_NODE", "0"))
    if VISIBLE in environment:
        gpus = min(gpus, len(visible_gpus(None, environment)))
    return int(cpus) if cpus else len(os.sched_getaffinity(0)), gpus
