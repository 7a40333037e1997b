"""Faults of CLUSTER.yaml that SLURM can name before anything is queued.

Invariant: what is refused here would have been refused, or would have waited for ever; what is unknown is let through.
"""

import difflib
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.rendezvous import write_json
from cluster.scheduler import RefusedError, SchedulerError, ask, default_memory_mb, outside_any_job
from cluster.site import Site

LEAST_MEMORY_MB = 1536  # Ray, Dask and one trial, before they do anything
CANARY_S = 10  # a cluster too busy to answer within so long is not waited for


@dataclass(frozen=True)
class Nodes:
    """Nodes of one partition that are alike. Memory in MB, GPUs by SLURM's name of their kind, time limit in minutes."""

    partition: str
    default: bool
    up: bool
    time_limit_min: float
    cpus: int
    memory_mb: int
    features: frozenset[str]
    gpus: dict[str, int]


def partitions() -> list[Nodes]:
    """Every kind of node that this user may ask for, by one call of sinfo. Raises SchedulerError."""
    text = ask(["sinfo", "--noheader", "--exact", "--format=%P|%a|%l|%c|%m|%f|%G"])
    return [_nodes(line.strip().split("|")) for line in text.splitlines() if line.count("|") == 6]


def check_site(kinds: Sequence[Site], nodes: Sequence[Nodes] | None = None) -> None:
    """Refuse what this site can't give to the controller and to the workers of these kinds, if there are any of them.

    Parameters
    ----------
    kinds
        What was asked for.
    nodes
        What there is; None asks sinfo.

    Raises
    ------
    RefusedError
        Naming the key, the value, what is allowed, and the nearest right value. Also where SLURM is not installed.
    """
    if nodes is None:
        try:
            nodes = partitions()
        except SchedulerError as error:
            raise RefusedError(str(error)) from error
    if not nodes:
        raise RefusedError("SLURM has no partition that you may use here (sinfo lists none)")
    for kind in kinds:
        if kind.nodes:
            try:
                _check_workers(kind, nodes)
            except RefusedError as error:
                raise RefusedError(f"{_named(kind)}{error}") from error
    _check_controller(kinds[0], nodes)


def _check_workers(kind: Site, nodes: Sequence[Nodes]) -> None:
    workers = _in_partition(nodes, kind.partition, "partition")
    where = f"partition {kind.partition}" if kind.partition else "the default partition"
    fitting = _with_features(workers, kind.constraint, "constraint", where)
    _check_gpus(kind, fitting, where)
    _at_most(kind.cpus_per_node, (node.cpus for node in fitting), "cpus_per_node", "CPUs per node", where)
    _at_most(kind.mem_gb or 0, (node.memory_mb / 1024 for node in fitting), "mem_gb", "GB per node", where)
    _check_time(kind.time_min, fitting, "time_min", where)
    if not any(_fits(kind, node) for node in fitting):
        raise RefusedError(
            f"no node of {where} has {kind.gpus_per_node} GPUs, {kind.cpus_per_node} CPUs and "
            f"{kind.mem_gb or 0:g} GB at once; see `sinfo --exact -o '%P %c %m %G'`"
        )


def _check_controller(site: Site, nodes: Sequence[Nodes]) -> None:
    own = site.controller
    there = own.partition or site.partition
    head = _in_partition(nodes, there, "controller.partition")
    where = f"partition {there}" if there else "the default partition"
    head = _with_features(head, own.constraint or site.constraint, "controller.constraint", where)
    _at_most(own.cpus, (node.cpus for node in head), "controller.cpus", "CPUs per node", where)
    _at_most(own.mem_gb or 0, (node.memory_mb / 1024 for node in head), "controller.mem_gb", "GB per node", where)
    _check_time(own.time_min or site.time_min, head, "controller.time_min", where)


def _named(kind: Site) -> str:
    """Beginning of a message about one of several kinds of worker."""
    return f"workers {kind.name}: " if kind.name else ""


def tiny_memory(kinds: Sequence[Site]) -> str | None:
    """Warning that SLURM's default memory is less than ganlab's processes need when idle; None otherwise."""
    first = kinds[0]
    own = first.controller
    jobs = [(f"{_named(kind)}mem_gb", kind.mem_gb, kind.cpus_per_node, kind.partition) for kind in kinds if kind.nodes]
    for key, memory, cpus, partition in (
        *jobs,
        ("controller.mem_gb", own.mem_gb, own.cpus, own.partition or first.partition),
    ):
        given_mb = None if memory is None else memory * 1024
        if given_mb is None:
            try:
                given_mb = default_memory_mb(partition, cpus)
            except SchedulerError:
                continue
        if given_mb and given_mb < LEAST_MEMORY_MB:  # 0: all of the node
            whose = "the site's default" if memory is None else "what the file says"
            return (
                f"{key}: each job gets {given_mb:.0f} MB, {whose}, and is likely to be killed for memory; allowed: "
                f"any, but give at least {LEAST_MEMORY_MB / 1024:g}"
            )
    return None


def check_shared(kinds: Iterable[Site], folder: Path) -> None:
    """Refuse a folder that a node of the site doesn't see.

    A node for each of these kinds of worker is asked at once, for seconds; where none is free in time, nothing is said,
    and jobs that find out later say so in `status`.

    Raises
    ------
    RefusedError
        If a node answers that it does not see what this host has just written there.
    """
    canary = folder / "canary"
    write_json(canary, {"host": socket.gethostname()})
    look = f"test -e {shlex.quote(str(canary))} && echo seen by $(hostname) || echo unseen by $(hostname)"
    named = ("partition", "account", "qos", "constraint")
    where = {tuple(f"--{name}={value}" for name in named if (value := getattr(kind, name))) for kind in kinds}
    for options in sorted(where):
        command = [
            *("srun", "--quiet", f"--immediate={CANARY_S}", "--nodes=1", "--ntasks=1", "--time=1", "--chdir=/"),
            *options,
            *("--job-name=ganlab-canary", "/bin/sh", "-c", look),
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=2 * CANARY_S,
                check=False,
                stdin=subprocess.DEVNULL,
                env=outside_any_job(),
            )
        except (subprocess.TimeoutExpired, FileNotFoundError):
            continue
        if found := re.search(r"^unseen by (\S+)$", done.stdout, re.MULTILINE):
            raise RefusedError(
                f"{folder} is on no file system that the nodes share: {found[1]} does not see what "
                f"{socket.gethostname()} has written there; choose another folder with --out"
            )


def _nodes(row: Sequence[str]) -> Nodes:
    name, available, limit, cpus, memory, features, gres = row
    return Nodes(
        name.rstrip("*"),
        name.endswith("*"),
        available == "up",
        minutes(limit),
        int(cpus.rstrip("+")),
        int(memory.rstrip("+")),
        frozenset(re.split(r"[,|&]", features)) - {"(null)", ""},
        _gpus(gres),
    )


def minutes(limit: str) -> float:
    """SLURM's ``[days-]hours:minutes:seconds`` in minutes."""
    if not re.match(r"(\d+-)?[\d:]+$", limit):
        return float("inf")
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:  # then it begins with hours
        parts = [*parts, 0, 0][:3]
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + part
    if len(parts) == 1:
        seconds *= 60
    return (int(days or 0) * 86400 + seconds) / 60


def _gpus(gres: str) -> dict[str, int]:
    """GPUs by kind in sinfo's ``gpu:a100:4(S:0-1),gpu:1g.10gb:7,gpu:2``; those without a kind under ""."""
    found: dict[str, int] = {}
    for words in re.findall(r"(?:^|,)gpu((?::[^:,()]+)*)(?=[(,]|$)", gres):
        *kinds, count = words.split(":")[1:] if re.search(r":\d+$", words) else [*words.split(":")[1:], "1"]
        kind = ":".join(kinds)
        found[kind] = found.get(kind, 0) + int(count)
    return found


def _in_partition(nodes: Sequence[Nodes], wanted: str | None, key: str) -> list[Nodes]:
    names = sorted({node.partition for node in nodes})
    if wanted is None:
        return [node for node in nodes if node.default] or list(nodes)
    for name in wanted.split(","):
        if name not in names:
            raise RefusedError(f"{key}: got {name}; allowed: {', '.join(names)}{_nearest(name, names)}")
        if not any(node.up for node in nodes if node.partition == name):
            raise RefusedError(f"{key}: partition {name} is down (sinfo); allowed: one that is up")
    return [node for node in nodes if node.partition in wanted.split(",")]


def _with_features(nodes: list[Nodes], constraint: str | None, key: str, where: str) -> list[Nodes]:
    if constraint is None:
        return nodes
    known = sorted(frozenset().union(*(node.features for node in nodes)))
    wanted = [word for word in re.split(r"[&|\[\]()*,!]", constraint) if word and not word.isdigit()]
    for word in wanted:
        if word not in known:
            allowed = ", ".join(known) or f"none, since no node of {where} has features"
            raise RefusedError(f"{key}: got {word}; allowed in {where}: {allowed}{_nearest(word, known)}")
    if re.search(r"[|\[\]()!]", constraint):  # SLURM's business
        return nodes
    fitting = [node for node in nodes if node.features.issuperset(wanted)]
    if not fitting:
        raise RefusedError(f"{key}: got {constraint}, but no node of {where} has all of these features")
    return fitting


def _check_gpus(site: Site, nodes: Sequence[Nodes], where: str) -> None:
    kinds = sorted({kind for node in nodes for kind in node.gpus if kind})
    if site.gpu_type is not None and site.gpu_type not in kinds:
        allowed = ", ".join(kinds) or "null, since SLURM knows no kinds here"
        raise RefusedError(
            f"gpu_type: got {site.gpu_type}; allowed in {where}: {allowed}{_nearest(site.gpu_type, kinds)}"
        )
    _at_most(site.gpus_per_node, (_count(site, node) for node in nodes), "gpus_per_node", "GPUs per node", where)


def _count(site: Site, node: Nodes) -> int:
    return sum(node.gpus.values()) if site.gpu_type is None else node.gpus.get(site.gpu_type, 0)


def _fits(site: Site, node: Nodes) -> bool:
    return (
        _count(site, node) >= site.gpus_per_node
        and node.cpus >= site.cpus_per_node
        and node.memory_mb >= (site.mem_gb or 0) * 1024
    )


def _at_most(wanted: float, there: Iterable[float], key: str, unit: str, where: str) -> None:
    most = max(there, default=0)
    if wanted > most:
        raise RefusedError(
            f"{key}: got {wanted:g}; allowed: at most {most:.5g}, the largest number of {unit} in {where}"
        )


def _check_time(wanted: int, nodes: Sequence[Nodes], key: str, where: str) -> None:
    longest = max(node.time_limit_min for node in nodes)
    if wanted > longest:
        raise RefusedError(
            f"{key}: got {wanted}; allowed: at most {longest:g} minutes, the time limit of {where} "
            "(jobs requeue themselves at their end)"
        )


def _nearest(word: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
