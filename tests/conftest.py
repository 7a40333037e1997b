"""What all tests share: deliberately odd temporary folders, and the command line run for real."""

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

# One thread each, set before numpy and torch are loaded: tests share the machine with the sweeps they start.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# A shell starts what runs in the background deaf to Ctrl-C, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="how often the kill test kills a running sweep")
    parser.addoption("--kill-seed", type=int, default=None, help="seed of the moments at which it kills")
    parser.addoption("--write-panels", default=None, help="file for what the dashboards showed")
    parser.addoption("--slurm-full", action="store_true", help="also the long tests on SLURM")
    parser.addoption("--slurm-seed", type=int, default=None, help="seed of the moments at which they disturb")


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


@pytest.fixture
def ganlab(folder: Path) -> Ganlab:
    """Run the command line in a process of its own: ganlab("run", "digits-demo") → CompletedProcess."""

    def call(*arguments: str | Path, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("ganlab"), *map(str, arguments)], capture_output=True, text=True, check=False,
            timeout=timeout, cwd=folder, env={**os.environ, "COLUMNS": "200", **environment},
        )  # fmt: skip

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
            "collisions": {"sample_sizes": [10, 20], "threshold": 32, "fidelity_gate": 10},
            **sections,
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec))
        return path

    return write
