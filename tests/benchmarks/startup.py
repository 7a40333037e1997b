"""Seconds from the start of every command to its first byte on a terminal and to its answer.

``python -m tests.benchmarks.startup [COMMAND …]`` makes a finished sweep of known support in a temporary folder, starts
every command (or those named, such as ``run`` or ``measure-file``) on a pseudo-terminal of its own, and prints a table.
CPU seconds (user and system, of the process and of those it waited for) hold on a loaded machine; wall seconds do not.
``--libraries`` adds the heavy libraries that each command imports, from a second run under ``python -X importtime``.

Invariant: what is timed is what a user starts, the installed command in a process of its own.
"""

import argparse
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

GANLAB = Path(sys.executable).with_name("ganlab")
ADDRESS = re.compile(rb"http://\S+")
HEAVY = (
    "torch",
    "ray",
    "dask",
    "distributed",
    "sklearn",
    "scipy",
    "xarray",
    "zarr",
    "matplotlib",
    "pydantic",
    "uvicorn",
)
SWEEP = """\
name: startup
dataset: {name: digits, resolution: 8}
model: {family: known-support, pool: {grid_search: [100, 1000]}, pixel_noise: 1}
train: {steps: 1}
samples: {final_images: 1000}
collisions: {sample_sizes: [10, 50], threshold: 32, quality_faults: []}
"""
PAUSE_S = 0.02  # between two looks at the processor time of a process
LIMIT_S = 300.0


class Timing(NamedTuple):
    """Wall and CPU seconds until the first byte, and until the answer: the end, or the address of a page."""

    first: float
    first_cpu: float
    answer: float
    answer_cpu: float
    code: int
    said: str


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND")
    parser.add_argument("--libraries", action="store_true")
    wanted = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and its children too
    columns = ("command", "first byte, s", "CPU s", "answer, s", "CPU s", "exit code")
    table = Table(*columns, *(("libraries",) if wanted.libraries else ()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, arguments in _commands(folder).items():
            if wanted.commands and title not in wanted.commands:
                continue
            timing = timed([str(GANLAB), *arguments], folder)
            figures = (f"{figure:.2f}" for figure in timing[:4])
            libraries = (", ".join(imported(arguments, folder)),) if wanted.libraries else ()
            table.add_row(title, *figures, str(timing.code), *libraries)
    Console(width=160).print(table)


def timed(command: list[str], folder: Path) -> Timing:
    """Run a command on a pseudo-terminal, until it ends or has printed an address, at which SIGINT ends it."""
    ours, theirs = pty.openpty()
    before = os.times()
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        start_new_session=True,
        env=_environment(folder),
    )
    os.close(theirs)
    said, first, answer = b"", None, None
    for block in _blocks(ours):
        now = time.monotonic() - started, _cpu_seconds(process.pid)
        if block and first is None:
            first = now
        said += block
        if answer is None and ADDRESS.search(said):
            answer = now
            os.killpg(process.pid, signal.SIGINT)
        if now[0] > LIMIT_S:
            os.killpg(process.pid, signal.SIGKILL)
    os.close(ours)
    code = process.wait()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    end = time.monotonic() - started, cpu
    return Timing(*(first or end), *(answer or end), code, said.decode(errors="replace"))


def imported(arguments: list[str], folder: Path) -> list[str]:
    """Names of the heavy libraries that a command imports in its own process."""
    command = [sys.executable, "-X", "importtime", str(GANLAB), *arguments]
    said = timed(command, folder).said
    names = set(re.findall(r"\| +(\w+)\r?$", said, flags=re.MULTILINE))
    return [name for name in HEAVY if name in names]


def _commands(folder: Path) -> Mapping[str, list[str]]:
    """Arguments of every command by its title, after making what they are about in the folder."""
    (folder / "startup.yaml").write_text(SWEEP)
    again = ["run", "startup.yaml", "--out", "sweep"]
    subprocess.run([GANLAB, *again], cwd=folder, check=True, capture_output=True, env=_environment(folder))
    real, made = (np.random.default_rng(seed).integers(0, 256, (500, 1, 8, 8), np.uint8) for seed in (0, 1))
    np.save(folder / "real.npy", real)
    np.save(folder / "made.npy", made)
    return {
        "--help": ["--help"],
        "plan": ["plan", "digits-demo"],
        "run": again,
        "measure-file": ["measure", "made.npy", "--threshold", "100"],
        "measure-reference": ["measure", "made.npy", "--reference", "real.npy"],
        "measure-sweep": ["measure", "sweep"],
        "status": ["status", "sweep"],
        "report": ["report", "sweep"],
        "monitor": ["monitor", "sweep", "--port", "0"],
        "review": ["review", "sweep"],
    }


def _environment(folder: Path) -> dict[str, str]:
    """Of a user's terminal, with a cache of this run's own."""
    return {**os.environ, "TERM": "xterm", "COLUMNS": "100", "XDG_CACHE_HOME": str(folder / "cache")}


def _blocks(terminal: int) -> Iterator[bytes]:
    """Output as it comes, with nothing when there was none for a moment; ends when no process has the terminal open."""
    while True:
        ready, _, _ = select.select([terminal], [], [], PAUSE_S)
        try:
            block = os.read(terminal, 65536) if ready else b""
        except OSError:  # Linux: every process has closed the other end
            return
        yield block


def _cpu_seconds(process: int) -> float:
    """User and system time of a process, and of its children that ended, from /proc."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
