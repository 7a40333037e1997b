"""Output that every terminal and pipe can take: commands under encodings that lack what they print.

Invariant: what Python itself decides (the locale, a pipe, a device) is tested in a process.
"""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.table import Table

from jobs.console.progress import stderr_console, text_console
from jobs.console.streams import HANDLER, PLAIN, forgiving_output
from tests.command_line import Written, call_encoded

GANLAB = Path(sys.executable).with_name("ganlab")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    random = np.random.default_rng(0)
    np.save(
        folder / "samples.npy", random.integers(0, 256, (100, 1, 8, 8))[random.integers(0, 100, 300)].astype(np.uint8)
    )
    return folder


def run(*arguments: str | Path, **environment: str) -> Written:
    """Run one command in a process of its own, whose encoding this environment decides."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    done = subprocess.run([GANLAB, *map(str, arguments)], capture_output=True, check=False, env=kept | environment)
    return Written(done.returncode, done.stdout, done.stderr)


def check_answer(done: Written, encoding: str) -> None:
    """The answer of `measure`, with the characters that the encoding has."""
    assert done.code == 0, done.stderr
    text = done.stdout.decode(encoding)
    found = re.search(r"^Effective number of images .*: 100 \((\S+) (\S) (\S+)\)", text, re.MULTILINE)
    assert found is not None, text
    low, dash, high = found.groups()
    assert int(low.replace(",", "")) < 100 < int(high.replace(",", ""))
    assert dash == ("–" if encoding == "utf-8" else "-")
    assert ("s²" in text) == (encoding != "ascii")
    done.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_answer_comes_through_in_every_encoding(samples: Path, encoding: str) -> None:
    check_answer(call_encoded(encoding, "measure", samples / "samples.npy", "--threshold", "0.5"), encoding)


@pytest.mark.process
@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii:strict"}, C_LOCALE], ids=["strict", "C locale"])
def test_an_answer_of_a_process_comes_through(samples: Path, environment: dict[str, str]) -> None:
    check_answer(run("measure", samples / "samples.npy", "--threshold", "0.5", **environment), "ascii")


def test_every_command_that_prints_prints_ascii_where_only_that_is_taken(
    prepared: Callable[..., Any], samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # hides SLURM's commands
    layout, spec = prepared()
    file = samples / "plan.yaml"
    file.write_text(yaml.safe_dump(spec.resolved({}), allow_unicode=True))
    commands: list[tuple[int, tuple[Any, ...]]] = [
        (0, ("--help",)),
        (0, ("measure", "--help")),
        (0, ("plan", file, "--no-timing")),
        (0, ("plan", file, "--no-timing", "--cluster", "cpu")),
        (0, ("plan", file, "--no-timing", "--json")),
        (0, ("status", layout.root)),
        (0, ("status", layout.root, "--json")),
        (0, ("measure", samples / "samples.npy", "--threshold", "0.5", "--json")),
        (2, ("report", layout.root)),
        (2, ("cancel", layout.root)),
        (2, ("review", layout.root)),
        (2, ("plan", "ünknown – …")),
        (2, ("status", "nowhere…")),
        (2, ("monitor", layout.root, "--port", "–")),
        (2, ("run", "ünknown – …")),
        (2, ("submit", "ünknown – …", "--cluster", "cpu")),
    ]
    for code, arguments in commands:
        done = call_encoded("ascii", *arguments)
        assert done.code == code, (arguments, done.stdout, done.stderr)
        assert b"Traceback" not in done.stderr, arguments
        (done.stdout + done.stderr).decode("ascii")
        if "--json" in arguments:
            json.loads(done.stdout)


@pytest.mark.process
def test_the_table_of_a_sweep_comes_through(prepared: Callable[..., Any], tmp_path: Path) -> None:
    """Rich's own characters too: no box drawing where it can't be encoded."""
    program = (
        "from rich.console import Console\nfrom rich.table import Table\n"
        "from jobs.console.streams import forgiving_output\n"
        "with forgiving_output():\n    table = Table('½', title='≥ 140k')\n    table.add_row('2 (1 – 3)', )\n"
        "    Console().print(table)\n    Console(stderr=True).print('steps · 3')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    )
    text = done.stdout.decode("ascii")
    assert ">= 140k" in text
    assert "1/2" in text
    assert "2 (1 - 3)" in text
    assert done.stderr == b"steps . 3\n"


@pytest.mark.process
@pytest.mark.parametrize(
    "shell", ["{0} plan digits-demo --no-timing | true", "{0} --help | head -1", "{0} plan nowhere 2>&1 | true"]
)
def test_a_reader_that_leaves_is_nobodys_error(shell: str, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", shell.format(GANLAB) + "; exit ${PIPESTATUS[1]}"], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_device_is_told_in_one_line(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [GANLAB, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert done.returncode == 1
    assert done.stderr == "ganlab: can't write the output: No space left on device\n"


def test_replacements_are_plain_and_bytes_of_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(text.isascii() and not character.isascii() for character, text in PLAIN.items())
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with forgiving_output():
        print(os.fsdecode(b"n\xff") + " – ≥ ½ 10⁹ 中")
    assert written.getvalue() == b"n\xff - >= 1/2 10^9 ?\n"
    assert stream.errors == HANDLER


@pytest.mark.parametrize("text", ["import:boom:factory", "runs [v1]", "no key '[/layers]'"])
@pytest.mark.parametrize("stderr", [False, True])
def test_text_is_printed_as_it_is(stderr: bool, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console = stderr_console() if stderr else text_console()
    table = Table()
    table.add_row(text)
    console.print(text, table)
    shown = capsys.readouterr()
    assert (shown.err if stderr else shown.out).count(text) == 2


def test_every_console_is_made_in_one_place() -> None:
    jobs = Path(__file__).resolve().parents[2] / "jobs"
    made = {path.name for path in jobs.rglob("*.py") if re.search(r"Console\b\):|\bConsole\(", path.read_text("utf-8"))}
    assert made == {"progress.py"}
