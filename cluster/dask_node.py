"""Dask's scheduler, its workers on one node, and the way to map over them.

Invariant: only holders of the cluster's private key meet: an open scheduler would run anyone's code in the user's name.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cluster.interpreter import python
from cluster.local import NO_MEMORY_LIMIT, WORKER_PRELOAD, Map, dask_map
from cluster.preemption import measuring
from cluster.rendezvous import ClusterFolder, read_head

CONNECT_S = 60


def dask_environment() -> dict[str, str]:
    """Dask's settings for processes of a cluster whose nodes come and go."""
    return {
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "100",  # a node that leaves says nothing about the task
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "120s",  # a node that vanished without a word
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": f"{CONNECT_S}s",
    }


def scheduler_command(folder: Path, address: str, port: int, metrics: int) -> list[str]:
    """Dask's scheduler at ``tls://address:port``, with its metrics at ``http://address:metrics/metrics``."""
    return [
        *python("-m", "distributed.cli.dask_scheduler", *_tls(folder)),
        *("--protocol=tls", f"--host={address}", f"--port={port}", "--no-jupyter"),
        *("--no-dashboard", f"--dashboard-address={address}:{metrics}"),  # pages off, but the server stays
    ]


def worker_command(folder: Path, scheduler: str, address: str, name: str, temporary: Path, workers: int) -> list[str]:
    """Command that starts single-threaded Dask workers, at a lower priority than training."""
    return [
        *("nice", "-n", "10", *python("-m", "distributed.cli.dask_worker", *_tls(folder), scheduler)),
        *("--protocol=tls", f"--host={address}", f"--name={name}", f"--local-directory={temporary}"),
        *(f"--nworkers={workers}", "--nthreads=1", f"--memory-limit={NO_MEMORY_LIMIT}", "--no-dashboard"),
        f"--preload-nanny={WORKER_PRELOAD}",
    ]


@contextmanager
def cluster_map(folder: Path) -> Iterator[Map[Any, Any]]:
    """Connect to the cluster's Dask for the length of the context; yields `map(function, items)`.

    Results come as they are finished, in any order. Workers may come and go meanwhile; while there are none, it waits.

    Raises
    ------
    OSError
        If no scheduler answers within a minute.
    """
    from distributed import Client

    head = read_head(folder)
    if head is None or not head.dask_address:
        raise OSError(f"{folder}: no running cluster here (see controller.json in it)")
    with Client(head.dask_address, security=_security(folder), timeout=CONNECT_S, set_as_default=False) as client:

        def threads() -> int:
            return sum(client.nthreads().values())

        yield lambda function, items: dask_map(client, threads, partial(_marked, function), items)


def _marked(function: Callable[[Any], Any], item: Any) -> Any:
    with measuring():
        return function(item)


def make_certificate(folder: Path) -> None:
    """Write a new certificate and its private key, which only this user can read."""
    from distributed.security import Security

    made = Security.temporary()
    files = ClusterFolder(folder)
    write_secret(files.certificate, str(made.tls_client_cert))
    write_secret(files.key, str(made.tls_client_key))


def write_secret(path: Path, text: str) -> None:
    """Write a file that only this user can ever read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _tls(folder: Path) -> tuple[str, str, str]:
    files = ClusterFolder(folder)
    return (f"--tls-ca-file={files.certificate}", f"--tls-cert={files.certificate}", f"--tls-key={files.key}")


def _security(folder: Path) -> Any:
    from distributed.security import Security

    files = ClusterFolder(folder)
    return Security(
        require_encryption=True,
        tls_ca_file=str(files.certificate),
        tls_client_cert=str(files.certificate),
        tls_client_key=str(files.key),
    )
