"""One SLURM of three hosts and one undisturbed sweep for all tests here; every test begins and ends with idle hosts."""

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.hosts import HOSTS, Hosts, missing_packages, running
from tests.slurm.sweeps import LONG, STEADY, Login


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    if obstacle := missing_packages():
        pytest.skip(obstacle)
    with running(tmp_path_factory.mktemp("slurm")) as hosts:
        yield hosts


@pytest.fixture
def login(hosts: Hosts, request: pytest.FixtureRequest) -> Iterator[Login]:
    """A shell on the login host, in a folder of the shared file system whose name breaks careless quoting."""
    folder = hosts.shared / f"{request.node.name[:40]} it's ünïcode"
    folder.mkdir(exist_ok=True)
    before = {host: hosts.temporary(host) for host in HOSTS}
    yield Login(hosts, folder)
    hosts.settle()
    time.sleep(1)  # the last step daemons leave
    left = [process for host in HOSTS for process in hosts.processes(host)]
    for process in left:
        process.kill()
    assert not left, f"left behind: {left}"

    def news() -> dict[str, set[str]]:
        return {host: hosts.temporary(host) - before[host] for host in HOSTS}

    with contextlib.suppress(RuntimeError):
        hosts._wait(lambda: not any(news().values()), "temporary files and semaphores to go", 20)
    assert not any(news().values()), f"left behind: {news()}"


@pytest.fixture(scope="session")
def undisturbed(hosts: Hosts) -> Path:
    """The steady sweep as `ganlab run` makes it on this machine alone."""
    return on_one_machine(hosts, STEADY)


@pytest.fixture(scope="session")
def undisturbed_long(hosts: Hosts) -> Path:
    """The same of the long sweep."""
    return on_one_machine(hosts, LONG, "--set", "resources.max_concurrent=2")


def on_one_machine(hosts: Hosts, sweep: Mapping[str, Any], *options: str) -> Path:
    folder = hosts.shared / f"one machine, {sweep['name']}"
    folder.mkdir()
    here = Login(hosts, folder)
    spec = here.write(sweep["name"], sweep)
    done = here.ganlab("run", spec, "--set", "resources.gpus_per_trial=0", *options, "--out", folder / sweep["name"])
    assert done.returncode == 0, done.stderr
    return folder / sweep["name"]


@pytest.fixture
def moments(pytestconfig: pytest.Config) -> random.Random:
    """Where random moments and choices come from; the seed is printed."""
    seed = pytestconfig.getoption("--slurm-seed")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print(f"moments drawn with --slurm-seed {seed}")
    return random.Random(seed)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to `make test-slurm`."""
    if not config.getoption("--slurm-full"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slurm_full")])
        items[:] = [item for item in items if not item.get_closest_marker("slurm_full")]
