"""Prometheus's scrape targets, as a file of its `file_sd`.

Invariant: the file is replaced as a whole, so Prometheus never meets half a list; it changes only when the targets do.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Target:
    """One endpoint: `job` is ganlab, ray or dask; `address` is ``host:port``.

    `node` is where it runs; empty for the exporter, whose figures are of many nodes and have labels of that name.
    """

    job: str
    address: str
    node: str = ""


def write_targets(path: Path, targets: Iterable[Target], labels: Mapping[str, str]) -> bool:
    """Make the file name exactly these targets, each with `labels`; returns whether it had to be changed.

    Raises
    ------
    OSError
        If it can't be written.
    """
    groups = [
        {
            "targets": [target.address],
            "labels": {"job": target.job, **({"node": target.node} if target.node else {}), **labels},
        }
        for target in sorted(set(targets))
    ]
    content = json.dumps(groups, indent=1) + "\n"
    try:
        if path.read_text() == content:
            return False
    except (OSError, ValueError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(content)
    os.replace(partial, path)
    return True


def remove_targets(path: Path, address: str) -> None:
    """Remove the file if it still names the exporter at `address`: what has ended on purpose is no target."""
    try:
        if address in path.read_text():
            path.unlink()
    except OSError:
        pass
