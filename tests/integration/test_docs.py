"""Every block of the documentation, run as it is printed, and the notebook, on one small finished sweep.

The sweep is the shipped digits-demo with fewer steps and images: a file of that name in the folder goes before the
shipped one, so that the commands of the pages are typed word for word.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from jobs.cli.pipeline import prepare_folder
from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.report.sweep_page import write_report
from jobs.spec.datasets import load_dataset
from jobs.spec.sweep import load_spec, shipped_sweeps
from jobs.training.trial import run_trial
from storage.layout import SweepLayout
from storage.results import open_results
from storage.verdicts import Verdict, append_verdict
from tests.blocks import PAGES, ROOT, Block, blocks
from tests.command_line import call
from tests.waiting import HANG_S

RUN = [page for page in PAGES if any(each.language in ("sh", "python") and not each.mark for each in blocks(page))]

FINISHED = "ganlab run digits-demo"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small digits-demo, run to its end by the stages of the command, without Ray, which takes long."""
    folder = tmp_path_factory.mktemp("docs") / "a folder"
    folder.mkdir()
    small = yaml.safe_load(shipped_sweeps()["digits-demo"].read_text("utf-8"))
    small["train"] |= {"steps": 40, "log_every": 10}
    small["samples"] = {"snapshots": [10, 20], "images_per_snapshot": 512, "final_images": 1024}
    small["collisions"] |= {"quality_faults": []}  # what 40 steps make is noise
    small |= {"seeds": 1, "resources": {"measure_workers": 1}}
    (folder / "digits-demo").write_text(yaml.safe_dump(small))
    spec, layout = load_spec(folder / "digits-demo"), SweepLayout(folder / "sweeps" / "digits-demo")
    prepare_folder(spec, layout, load_dataset(spec.dataset))
    for trial in spec.trials():
        assert run_trial(layout.root, trial, lambda row: None).status == "completed"
    measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, lambda *done: None), spec.trials())
    write_answers(layout, spec, spec.trials(), measured.real)
    write_report(layout)
    (folder / "sweeps" / "demo").symlink_to(
        "digits-demo"
    )  # which `make demo` writes; a copy of it where folders are copied
    return folder


@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(ROOT)) for page in RUN])
def test_blocks_run_as_printed(page: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, Any] = {"__name__": "docs"}
    printed = ""
    for block in blocks(page):
        if (title := block.value("title")) is not None:
            (folder / title).write_text(block.text, "utf-8")
        if block.language == "python":
            printed = run_python(block, names)
        elif block.language == "sh" and block.mark is None:
            code, printed = run_shell(block, folder)
            assert code == int(block.value("exit") or 0), f"{block.where}:\n{printed}"
        elif block.language == "text" and "output" in block.words:
            assert matches(block.text, printed), f"{block.where}: printed was\n{printed}"


def test_the_notebook_runs(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    shutil.copytree(finished, folder)
    layout = SweepLayout(folder / "sweeps" / "digits-demo")
    results = open_results(layout)
    trial, step = str(results.trial.values[0]), int(results.step.values[-1])
    first, second = sorted(int(number) for number in results.flagged_index.values[0, -1, 0])
    for number, verdict in enumerate(("distinct", "duplicate")):  # the later one stands
        append_verdict(
            layout,
            Verdict(
                str(number),
                trial,
                step,
                (first, second),
                "closest",
                4,
                "somebody",
                verdict,
                "",
                "pixels",
                False,
                "2026-11-22T00:00:00Z",
                "1",
            ),
        )
    notebook = nbformat.read(ROOT / "docs" / "results.ipynb", as_version=4)
    NotebookClient(notebook, timeout=HANG_S, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert "3 of 3 trials passed" in text
    assert re.search(r"exponent -?\d\.\d\d \(", text)
    assert "1 verdicts on them" in text
    assert re.search(r"duplicate +1\.0", text)
    assert re.search(r"\d of 3 trials copy", text)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


def run_shell(block: Block, folder: Path) -> tuple[int, str]:
    """Run a block line by line; returns the exit code and what was printed: the data, or what went wrong.

    A line that is nothing but a command of ganlab is given to it in this process, where its libraries are loaded; unless
    it would start Ray, whose processes belong to a command that ends.
    """
    printed = ""
    for line in block.text.replace("\\\n", " ").splitlines():
        plain = re.sub(r"  +#.*", "", line)
        starts_ray = plain.startswith("ganlab run ") and plain != FINISHED and block.value("exit") is None
        if starts_ray or not plain.startswith("ganlab ") or re.search(r"[<>|;&$]", plain):
            code, said = in_shell(line, folder)
        else:
            done = call(*shlex.split(plain)[1:], COLUMNS="100")
            code, said = done.exit_code, done.stderr if done.exit_code else done.stdout
        if code:
            return code, said
        printed += said
    return 0, printed


def in_shell(text: str, folder: Path) -> tuple[int, str]:
    """Run lines in a shell of their own, in an environment where ganlab is installed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        env={**os.environ, "PATH": path, "COLUMNS": "100"},
    )
    return done.returncode, done.stderr if done.returncode else done.stdout


def run_python(block: Block, names: dict[str, Any]) -> str:
    """Run a block with the names of those before it; returns what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile("\n" * block.line + block.text, str(block.page), "exec"), names)
    return printed.getvalue()


def matches(expected: str, printed: str) -> bool:
    """Whether the text was printed, where … stands for anything."""
    pattern = ".*".join(map(re.escape, expected.strip().split("…")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
