"""A user's modules in a whole run: none shadows ganlab or its libraries, and a bug in one is told with its place."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from storage.layout import SweepLayout
from storage.outcome import read_outcome

OURS = ("cluster", "ganlab", "jobs", "monitoring", "storage")
LIBRARIES = ("click", "distributed", "numpy", "pydantic", "ray", "torch", "yaml", "zarr")
PYTHONS = ("types", "json", "multiprocessing", "socket")
MODEL = """
import sys

import numpy as np
import torch
from pydantic import BaseModel
from torch import nn

from found_on_path import LEVELS
from ganlab.models.families import GeneratedBatch, Family

IN_A_TRIAL = sys.argv[0].endswith("default_worker.py")


class Settings(BaseModel):
    family: str
    where: str = "nowhere"


class Model(Family):
    Settings = Settings

    def __init__(self, settings, shape, train, seed, device="cpu", average_gradients=None):
        self.where, self.shape, self.networks = settings.where, shape, nn.ModuleDict()
        self.fail("constructor")

    def fail(self, where):
        if IN_A_TRIAL and where == self.where:
            if where == "exit":
                sys.exit(3)
            raise RuntimeError(f"bug in the {where}")

    def prepare(self, images, labels=None):
        return torch.zeros(len(images))

    def step(self, next_batch, draws):
        self.fail("step")
        self.fail("exit")
        return {}

    def sample(self, count, noise):
        self.fail("sample")
        return GeneratedBatch(noise.integers(0, LEVELS, (count, *self.shape)).astype(np.uint8))

    def state(self):
        self.fail("state")
        return {}

    def load_state(self, state):
        pass


def late():
    def sample(count, generator):
        if IN_A_TRIAL:
            raise KeyError("no such weight")
        return generator.integers(0, 9, (count, 1, 8, 8)).astype(np.uint8)

    return sample
"""
IMPORTED = (
    "import sys\nif sys.argv[0].endswith('default_worker.py'):\n    import no_such_library\nfrom own import late\n"
)
STAGES = ("constructor", "step", "sample", "state")


def plant(folder: Path, names: tuple[str, ...], marker: Path) -> None:
    """Modules that leave a mark when they are imported, and break what has imported them."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.py").write_text(
            f"with open({str(marker)!r}, 'a') as file:\n    file.write({str(folder / name)!r} + '\\n')\n"
            "raise RuntimeError('shadowed')\n"
        )


def own(**keys: Any) -> dict[str, Any]:
    return {"family": "import:own:Model", **keys}


@pytest.fixture
def planted(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A marker, and a folder for PYTHONPATH; modules that must not be imported lie there and in the current folder."""
    marker, path = tmp_path / "imported", tmp_path / "on path"
    plant(folder, OURS + LIBRARIES + PYTHONS, marker)
    plant(path, (*OURS[:2], *OURS[3:], *LIBRARIES), marker)  # as `jobs` by the installed command's own start
    (path / "found_on_path.py").write_text("LEVELS = 100\n")
    (folder / "own.py").write_text(MODEL)
    (folder / "late_import.py").write_text(IMPORTED)
    return marker, path


def test_nothing_is_shadowed_and_every_bug_has_its_place(ganlab, sweep_file, folder, planted) -> None:
    marker, path = planted
    models = [
        own(),
        *(own(where=stage) for stage in (*STAGES, "exit")),
        {"family": "import:own:late"},
        {"family": "import:late_import:late"},
    ]
    spec = sweep_file(
        "bugs",
        model={"grid_search": models},
        train={"steps": 2, "log_every": 1},
        samples={"final_images": 512},
        resources={"max_failures": 0, "checkpoint_every_s": 1e-6},
    )
    done = ganlab("run", spec, "--out", folder / "out", PYTHONPATH=str(path))
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    layout = SweepLayout(folder / "out")
    lines = MODEL.splitlines()
    raised = next(number for number, line in enumerate(lines, 1) if "raise RuntimeError" in line)
    left = next(number for number, line in enumerate(lines, 1) if "sys.exit(3)" in line)
    drew = next(number for number, line in enumerate(lines, 1) if "raise KeyError" in line)
    expected = {
        **{stage: f"RuntimeError: bug in the {stage} (own.py:{raised}; traceback: " for stage in STAGES},
        "exit": f"SystemExit: 3 (own.py:{left}; traceback: ",
        "import:own:late": f"import:own:late: drawing failed: KeyError: 'no such weight' (own.py:{drew}; traceback: ",
        "import:late_import:late": "got import:late_import:late, but importing late_import fails: ModuleNotFoundError: "
        "No module named 'no_such_library' (late_import.py:3; traceback: ",
    }
    known = json.loads(ganlab("status", layout.root, "--json", PYTHONPATH=str(path)).stdout)["trials"]
    shown = ganlab("status", layout.root, PYTHONPATH=str(path)).stdout
    states = {row["trial"]: row for row in known}
    assert len(states) == len(models)
    for trial_id, row in states.items():
        settings = json.loads(layout.trial(trial_id).settings.read_text())["settings"]["model"]
        name = settings["family"] if settings["family"] != "import:own:Model" else settings.get("where", "nowhere")
        outcome = read_outcome(layout.trial(trial_id))
        assert outcome is not None
        if name == "nowhere":
            assert outcome.status == "completed"
            continue
        assert outcome.status == "failed"
        assert outcome.reason is not None
        assert outcome.reason.startswith(expected.pop(name)), outcome.reason
        assert row["reason"] == outcome.reason
        assert f"{trial_id}: {outcome.reason}\n" in shown
        log = Path(re.findall(r"traceback: (.*)\)$", outcome.reason)[0])
        assert log.parent == layout.logs
        assert "Traceback (most recent call last)" in log.read_text()
        assert log.read_text().count("raise RuntimeError('shadowed')") == 0
    assert not expected
    assert "failed: " in done.stderr
    assert layout.report.is_file()  # Dask compared what the one good model drew


def test_a_bug_on_one_of_several_workers_has_its_place(ganlab, sweep_file, folder, planted) -> None:
    marker, path = planted
    spec = sweep_file(
        model=own(where="step"), train={"steps": 2, "batch_size": 4, "workers": 2}, resources={"max_failures": 0}
    )
    done = ganlab("run", spec, "--out", folder / "out", PYTHONPATH=str(path))
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 1, done.stderr
    layout = SweepLayout(folder / "out")
    (trial_id,) = layout.trial_ids()
    outcome = read_outcome(layout.trial(trial_id))
    assert outcome is not None
    assert outcome.reason is not None
    assert re.match(r"RuntimeError: bug in the step \(own\.py:\d+; traceback: .*/logs/.*\.txt\)$", outcome.reason)
    assert "bug in the step" in Path(re.findall(r"traceback: (.*)\)$", outcome.reason)[0]).read_text()


def test_a_bug_found_before_the_run_is_one_line_with_its_place(ganlab, sweep_file, folder, planted) -> None:
    """In a constructor, at the import, in a step that `plan` times; the file with the traceback stays."""
    _, path = planted
    source = MODEL.replace("IN_A_TRIAL = ", "IN_A_TRIAL = True or ")
    (folder / "own.py").write_text(source)
    for command, stage in (("run", "constructor"), ("plan", "step"), ("plan", "exit")):
        spec = sweep_file(model=own(where=stage), train={"steps": 2})
        wrong = ganlab(command, spec, "--out", folder / "out", PYTHONPATH=str(path))
        assert wrong.returncode == 2, wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1, wrong.stderr
        place, log = re.findall(r"model\.family: \w+: .* \((.*); traceback: (.*)\)$", wrong.stderr.strip())[0]
        assert place.startswith(f"{folder / 'own.py'}:")
        assert "Traceback (most recent call last)" in Path(log).read_text()
        Path(log).unlink()
    assert not (folder / "out").exists()


def test_a_module_of_one_of_our_names_is_refused_in_one_line(ganlab, sweep_file, folder) -> None:
    (folder / "jobs.py").write_text("def make():\n    pass\n")
    (folder / "storage").mkdir()
    (folder / "storage" / "models.py").write_text("def make():\n    pass\n")
    for family in ("import:jobs:make", "import:storage.models:make"):
        wrong = ganlab("plan", sweep_file(model={"family": family}))
        assert wrong.returncode == 2
        assert re.search(
            r"got (jobs|storage), which lies in .* and is installed too .*; allowed: .*another name", wrong.stderr
        )
        assert len(wrong.stderr.splitlines()) == 1, wrong.stderr
