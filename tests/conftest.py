"""Fixtures and markers of all tests: odd temporary folders, the command line in a process and in this one, CPU times.

Invariant: a test is marked `unit` or `process`, and a unit test that starts a process fails; all tests that share SLURM
run one after another in one process.
"""

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from click.testing import Result

from tests.command_line import call
from tests.waiting import HANG_S

# One thread each, set before numpy and torch are loaded: tests share the machine with the sweeps they start.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Ray settles when it is imported whether it asks for a token, and a test may import it before another one starts it.
os.environ["RAY_AUTH_MODE"] = "token"
# A shell starts what runs in the background deaf to Ctrl-C, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")


TESTS = Path(__file__).parent
PROCESS_FOLDERS = {"integration", "slurm"}
PROCESS_FIXTURES = {"chromium", "ganlab", "ray_node", "served", "supervisors"}
LONGEST_FIRST = ("slurm", "integration")
"""Folders whose tests begin a run, so that no long one is left at its end."""
STARTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
"""Audit events of a new process."""
ALLOWED = {"git", "fc-list"}
"""Programs that a unit test may start: the commit is part of every sweep's provenance, and Matplotlib asks for fonts."""
CPU_SECONDS = "cpu_seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu", type=int, default=0, help="how many of the slowest tests to list, by CPU time")
    parser.addoption("--kills", type=int, default=3, help="how often the kill test kills a running sweep")
    parser.addoption("--kill-seed", type=int, default=None, help="seed of the moments at which it kills")
    parser.addoption("--write-panels", default=None, help="file for what the dashboards showed")
    parser.addoption("--slurm-full", action="store_true", help="also the long tests on SLURM")
    parser.addoption("--slurm-seed", type=int, default=None, help="seed of the moments at which they disturb")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start processes, by folder, fixture or their own marker, the others as units; longest first."""

    def folder(item: pytest.Item) -> str:
        return item.path.relative_to(TESTS).parts[0]

    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if folder(item) in PROCESS_FOLDERS or fixtures & PROCESS_FIXTURES:
            item.add_marker("process")
        if item.get_closest_marker("process") is None:
            item.add_marker("unit")
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(folder(item), len(order)))


def group_of(nodeid: str) -> str:
    """Name of the tests that run one after another in one process: those of a file, or all that share SLURM."""
    file = nodeid.partition("::")[0]
    return "slurm" if "slurm" in Path(file).parts else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out groups of tests in their order (`--dist loadfile --no-loadscope-reorder`)."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


class Processes:
    """Refusal of new processes while a unit test runs, by an audit hook, which no test can remove."""

    def __init__(self) -> None:
        self.refused_by: str | None = None
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in STARTS or self.refused_by is None:
            return
        program = str(arguments[0]) if arguments else ""
        if program not in ALLOWED and (event != "subprocess.Popen" or shutil.which(program) is not None):
            message = f"{self.refused_by} is a unit test and starts a process; mark it: @pytest.mark.process"
            raise AssertionError(f"{message} ({event}: {str(arguments[:2])[:200]})")


PROCESSES = Processes()


def cpu_seconds() -> float:
    """User and system time of this process and of those it has waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    PROCESSES.refused_by = None if item.get_closest_marker("process") else item.nodeid
    item.stash[CPU] = cpu_seconds()
    try:
        return (yield)
    finally:
        PROCESSES.refused_by = None


CPU = pytest.StashKey[float]()
"""CPU time at the end of the test's last phase."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    now = cpu_seconds()
    report.user_properties.append((CPU_SECONDS, now - item.stash[CPU]))
    item.stash[CPU] = now
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the tests of most CPU time; a shared fixture counts for the first test that uses it."""
    if not (shown := config.getoption("--cpu")):
        return
    taken: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            taken[getattr(report, "nodeid", "")] += properties.get(CPU_SECONDS, 0.0)
    terminalreporter.section(f"{shown} slowest of {len(taken)} tests, {taken.total():.0f} CPU s in all")
    for test, seconds in taken.most_common(shown):
        terminalreporter.write_line(f"{seconds:8.1f} s  {test}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name breaks careless quoting."""
    odd = tmp_path / "a sweep's  ünïcode folder"
    odd.mkdir()
    return odd


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder in memory-backed or ordinary temporary space, removed afterwards."""
    place = Path("/tmp", f"ganlab-test-{uuid.uuid4().hex[:8]}")
    place.mkdir()
    yield place
    shutil.rmtree(place, ignore_errors=True)


Ganlab = Callable[..., subprocess.CompletedProcess[str]]
Command = Callable[..., Result]


@pytest.fixture
def ganlab(folder: Path) -> Ganlab:
    """Run the command line in a process of its own: ganlab("run", "digits-demo") → CompletedProcess."""

    def call(*arguments: str | Path, timeout: float = HANG_S, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("ganlab"), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            cwd=folder,
            env={**os.environ, "COLUMNS": "200", **environment},
        )

    return call


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in this process, in `folder`: command("plan", "digits-demo") → Result."""
    monkeypatch.chdir(folder)
    return call


@pytest.fixture
def sweep_file(folder: Path) -> Callable[..., Path]:
    """Write a small sweep file: sweep_file(train={"steps": 10}) → its path."""

    def write(name: str = "small", **sections: object) -> Path:
        spec = {
            "name": name,
            "dataset": {"name": "digits"},
            "model": {"family": "known-support", "pool": 50},
            "train": {"steps": 1},
            "samples": {"final_images": 512},
            "collisions": {"sample_sizes": [10, 20], "threshold": 32, "quality_faults": []},
            **sections,
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec))
        return path

    return write
