"""One Ray and one Dask for the whole runs that are not about starting and ending them, and the command line on those.

Invariant: the command does all that it does alone but start and end its clusters; tests of that start real processes.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from cluster.local import Map, local_dask, local_ray, local_resources
from tests.conftest import Command


@pytest.fixture(scope="package")
def clusters() -> Iterator[Map[Any, Any]]:
    """Ray and Dask on this machine; yields the map of Dask.

    What they set in the environment is for the processes that they start: tests beside these start theirs without it.
    """
    before = dict(os.environ)
    with local_ray(), local_dask(local_resources()["CPU"]) as map:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Dask's own, while it starts
            assert list(map(abs, [-1])) == [1]
        within = dict(os.environ)
        for name in within:
            if not name.startswith("RAY_"):  # this process itself goes on asking Ray
                os.environ.pop(name)
        os.environ |= before
        yield map
        os.environ |= within


@pytest.fixture
def on_clusters(clusters: Map[Any, Any], command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in this process, in `folder`, on the shared clusters: on_clusters("run", …) → Result."""
    monkeypatch.setattr("jobs.cli.pipeline.local_ray", nullcontext)
    monkeypatch.setattr("jobs.cli.pipeline.local_dask", lambda workers: nullcontext(clusters))
    return command
