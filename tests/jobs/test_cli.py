"""The command line itself: it starts at once, completes, answers in JSON, and colours for people alone."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.spec.sweep import shipped_sweeps
from tests.command_line import call

pytestmark = pytest.mark.process

BIN = Path(sys.executable).parent
HEAVY = {
    "dask",
    "distributed",
    "matplotlib",
    "numpy",
    "pydantic",
    "ray",
    "rich",
    "scipy",
    "sklearn",
    "torch",
    "xarray",
    "zarr",
}
ESCAPE = "\x1b["
COLOUR = re.compile(r"\x1b\[[0-9;]*\b[34]\dm")


def loaded(*arguments: str) -> set[str]:
    """Outermost modules that a command has imported when it ends."""
    program = (
        "import sys\nfrom jobs.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plan", "--help"], ["measure", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(*arguments) & HEAVY == set()


def test_help_takes_less_than_a_third_of_a_second_of_the_processor() -> None:
    """Processor time, the best of three: the clock on the wall depends on what else the machine does."""
    taken = []
    for _ in range(3):
        before = os.times()
        subprocess.run([BIN / "ganlab", "--help"], capture_output=True, check=True)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(taken) < 0.3


def test_status_loads_no_model(prepared: Callable[..., Any]) -> None:
    layout, spec = prepared("looked-at")
    found = loaded("status", str(layout.root), "--json")
    assert found & {"dask", "matplotlib", "ray", "scipy", "sklearn", "torch", "xarray", "zarr"} == set()
    told = json.loads(
        subprocess.run([BIN / "ganlab", "status", layout.root, "--json"], capture_output=True, check=True).stdout
    )
    assert [row["trial"] for row in told["trials"]] == [trial.id for trial in spec.trials()]


def test_status_without_the_short_list_says_the_same(prepared: Callable[..., Any]) -> None:
    layout, _ = prepared("older", model={"family": "known-support", "pool": {"grid_search": [10, 20]}}, seeds=2)

    def status() -> str:
        shown = call("status", layout.root)
        assert shown.exit_code == 0, shown.stderr
        return shown.stdout

    known = status()
    assert "20" in known
    layout.spec.write_text(layout.spec.read_text() + "\n# a hand was here\n")
    assert status() == known
    for damaged in ("", "{", "[1]", '{"trials": 1}', '{"trials": [{}]}'):
        layout.known.write_text(damaged)
        assert status() == known, damaged
    layout.known.unlink()
    assert status() == known


def completed(folder: Path, *words: str) -> list[str]:
    """What bash offers, by the very script that a user puts into ~/.bashrc."""
    program = (
        f'PATH={BIN}:$PATH\neval "$(_GANLAB_COMPLETE=bash_source ganlab)"\n'
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { echo "compopt $*" >&2; }\n'
        '_ganlab_completion ganlab "${COMP_WORDS[COMP_CWORD]}" ""\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_completes_commands_options_sweeps_and_sites(folder: Path) -> None:
    assert completed(folder, "ganlab", "re") == ["report", "review"]
    assert completed(folder, "ganlab", "plan", "--no") == ["--no-timing"]
    sweeps = [name for name in shipped_sweeps() if name.startswith("digits-")]
    (folder / "digits-mine.yaml").touch()
    assert completed(folder, "ganlab", "run", "digits-") == [*sorted(sweeps), "digits-mine.yaml"]
    assert completed(folder, "ganlab", "submit", "digits-demo", "--cluster", "whole") == ["whole-nodes"]
    assert completed(folder, "ganlab", "measure", "x.npy", "--embedding", "c") == ["classifier"]


def on_terminal(*arguments: str | Path, code: int = 0, options: Sequence[str] = (), **environment: str) -> str:
    """All that a command writes when its outputs are a terminal; `options` are those of Python."""
    own, other = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, *options, BIN / "ganlab", *arguments]
    with subprocess.Popen(
        command, stdin=other, stdout=other, stderr=other, env={**variables, "TERM": "xterm-256color", **environment}
    ) as process:
        os.close(other)
        text = b""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if select.select([own], [], [], 0.2)[0]:
                try:
                    text += os.read(own, 65_536)
                except OSError:  # the other end is closed
                    break
        os.close(own)
    assert process.returncode == code, text.decode()
    return text.decode()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose comparison takes long enough for a bar."""
    file = tmp_path_factory.mktemp("samples") / "samples.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (3000, 1, 8, 8), dtype=np.uint8))
    return file


def test_a_terminal_gets_a_bar_and_colours_and_no_color_takes_the_colours_away(samples: Path) -> None:
    shown = on_terminal("measure", samples, "--threshold", "20")
    assert COLOUR.search(shown)
    assert ESCAPE in shown
    plain = on_terminal("measure", samples, "--threshold", "20", NO_COLOR="1")
    assert not COLOUR.search(plain)
    assert "Effective number of " in plain


@pytest.mark.parametrize("command", ["plan", "run", "measure", "report", "monitor", "review"])
def test_a_terminal_gets_something_before_the_first_slow_library_is_imported(command: str, folder: Path) -> None:
    """Each command is refused at once after its imports, which Python lists on the same terminal."""
    (folder / "sweep.yaml").write_text("name: nothing\n")
    samples = folder / "samples.txt"
    samples.touch()
    given = {"plan": folder / "sweep.yaml", "run": folder / "sweep.yaml", "measure": samples}.get(command, folder)
    nowhere = ("--host", "192.0.2.1") if command in ("monitor", "review") else ()  # an address of documentation alone
    shown = on_terminal(command, given, *nowhere, options=("-X", "importtime"), code=2)
    heavy = re.search(r"\| +(torch|ray|dask|distributed|sklearn|scipy|xarray)\b", shown)
    spinner = shown.find("Loading libraries")
    assert spinner >= 0
    assert heavy is None or spinner < heavy.start()


def test_a_log_gets_lines(samples: Path) -> None:
    done = subprocess.run(
        [BIN / "ganlab", "measure", samples, "--threshold", "20"], capture_output=True, text=True, check=True
    )
    assert "Comparing pairs: done in" in done.stderr
    assert "Effective number of " in done.stdout
    for text in (done.stdout, done.stderr):
        assert ESCAPE not in text
        assert "\r" not in text


def test_a_terminal_that_can_do_nothing_gets_lines(samples: Path) -> None:
    shown = on_terminal("measure", samples, "--threshold", "20", TERM="dumb")
    assert ESCAPE not in shown
    assert "Comparing pairs: done in" in shown


def test_every_command_that_answers_can_answer_in_json() -> None:
    from jobs.cli.main import main

    serving = {"monitor", "review"}  # which go on until Ctrl-C
    for name, command in main.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--json" in options) == (name not in serving), name


def test_a_report_replaces_nothing_but_a_report(folder: Path) -> None:
    samples = folder / "samples.npy"
    np.save(samples, np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8))
    before = samples.read_bytes()
    refused = call("measure", samples, "--threshold", "30", "--report", samples)
    assert refused.exit_code == 2
    assert f"--report: got '{samples}', which holds something else; allowed: a new file" in refused.stderr
    assert samples.read_bytes() == before
    assert call("measure", samples, "--threshold", "30", "--report", folder).exit_code == 2
    page = folder / "page.html"
    for _ in range(2):
        assert call("measure", samples, "--threshold", "30", "--report", page).exit_code == 0
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("pixels", ["1", "3", "4097", "100000"])
def test_pictures_of_no_use_or_beyond_memory_are_refused(folder: Path, pixels: str) -> None:
    refused = call("measure", folder, "--resize", pixels)
    assert refused.exit_code == 2
    assert f"got {pixels}; allowed: a whole number from 4 to 4096" in refused.stderr
