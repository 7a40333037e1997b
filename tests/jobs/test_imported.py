"""Strangers' models in a sweep: what a trial's id is made of, and the copy of their code that the sweep keeps."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.spec.checkpoints import check_checkpoint
from jobs.spec.sweep import SpecError, load_spec
from jobs.training.user_models import find_code

SWEEP: dict[str, Any] = {
    "name": "strange",
    "dataset": {"name": "digits"},
    "model": {"family": "import:strange.models:make", "width": 4},
    "train": {"steps": 1},
    "samples": {"final_images": 512},
    "collisions": {"sample_sizes": [10]},
}
MODELS = """
import numpy as np
from beside import LEVELS
from .inner import shift

def make(width, checkpoint=None):
    weights = np.load(checkpoint) if checkpoint else np.zeros(width)

    def sample(count, random):
        return (random.integers(0, LEVELS, (count, 1, 8, 8)) + shift(weights)).astype(np.uint8)

    return sample
"""


@pytest.fixture
def home(folder: Path) -> Path:
    """A stranger's folder: a package, a module that it imports, weights, and other things."""
    (folder / "strange" / "__pycache__").mkdir(parents=True)
    (folder / "strange" / "__pycache__" / "left.pyc").write_bytes(b"?")
    (folder / "strange" / "models.py").write_text(MODELS)
    (folder / "strange" / "inner.py").write_text("def shift(weights):\n    return weights.sum()\n")
    (folder / "beside.py").write_text("LEVELS = 100\n")
    (folder / "not_imported.py").write_text("raise RuntimeError\n")
    np.save(folder / "first.npy", np.full(4, 1.0))
    np.save(folder / "second.npy", np.full(4, 2.0))
    return folder


def write(folder: Path, **model: Any) -> Path:
    file = folder / "strange.yaml"
    file.write_text(yaml.safe_dump(SWEEP | {"model": SWEEP["model"] | model}))
    return file


def test_an_id_is_of_the_keys_and_of_what_the_checkpoint_holds(home: Path) -> None:
    def ids(**model: Any) -> list[str]:
        return [trial.id for trial in load_spec(write(home, **model)).trials()]

    first, second = str(home / "first.npy"), str(home / "second.npy")
    (one,) = ids(checkpoint=first)
    assert one.startswith("make-")
    assert ids(checkpoint=first) == [one]
    assert ids(checkpoint=second) != [one]
    assert ids(checkpoint=first, width=5) != [one]
    shutil.copy(first, home / "moved.npy")
    assert ids(checkpoint=str(home / "moved.npy")) == [one]
    assert ids(checkpoint={"grid_search": [first, second]})[0] == one
    assert ids(family={"grid_search": ["import:strange.models:make"]}, checkpoint=first) == [one]
    np.save(home / "first.npy", np.full(4, 3.0))
    assert ids(checkpoint=first) != [one]


def test_the_sweeps_own_copy_reads_no_checkpoint_again(home: Path) -> None:
    spec = load_spec(write(home, checkpoint={"grid_search": [str(home / "first.npy"), str(home / "second.npy")]}))
    (home / "own.yaml").write_text(yaml.safe_dump(spec.resolved({})))
    for name in ("first.npy", "second.npy"):
        (home / name).unlink()
    again = load_spec(home / "own.yaml")
    assert [trial.id for trial in again.trials()] == [trial.id for trial in spec.trials()]
    assert list(again.hyperparameters(again.trials())["checkpoint"].values()) == ["first.npy", "second.npy"]


def test_a_folder_of_weights_is_known_by_all_its_files(home: Path) -> None:
    weights = home / "weights" / "inner"
    weights.mkdir(parents=True)
    (weights / "a.bin").write_bytes(b"a")
    (before,) = load_spec(write(home, checkpoint=str(home / "weights"))).trials()
    (weights / "a.bin").rename(weights / "b.bin")
    (after,) = load_spec(write(home, checkpoint=str(home / "weights"))).trials()
    assert before.id != after.id


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"checkpoint": "nowhere.pt"},
            'model.checkpoint: got "nowhere.pt": No such file or directory; allowed: a file',
        ),
        ({"checkpoint": {"grid_search": ["nowhere.pt"]}}, "model.checkpoint.grid_search[0]: got"),
        ({"checkpoint": 3}, "model.checkpoint: got 3; allowed: a path"),
        ({"family": "import:strange"}, 'model.family: got "import:strange"; allowed: import:package.module:factory'),
        ({"family": "imported"}, "or import:package.module:factory"),
    ],
)
def test_faults_of_the_file(home: Path, model: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as found:
        load_spec(write(home, **model))
    assert said in str(found.value)


def python(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, as every command is: modules stay imported in this one."""
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)


BEGIN = """
import sys
from pathlib import Path
from jobs.cli.pipeline import check_folder, prepare_folder
from jobs.console.progress import stderr_console
from jobs.spec.sweep import SpecError, load_spec
from jobs.training.trial import run_trial
from storage.layout import SweepLayout

layout = SweepLayout(Path("sweep").absolute())
try:
    spec = load_spec("strange.yaml")
    prepare_folder(spec, layout, check_folder(spec, layout, stderr_console()))
except SpecError as error:
    sys.exit(str(error))
"""
RUN = """
from jobs.training.tune import register
for trial in spec.trials():
    register(layout, trial, {'seed': trial.seed})
"""
ELSEWHERE = """
import sys
from pathlib import Path
from jobs.spec.sweep import load_spec
from jobs.training.trial import run_trial
from storage.layout import SweepLayout
from storage.samples import Samples

layout = SweepLayout(Path(sys.argv[1] if sys.argv[1:] else ".").absolute())
for trial in load_spec(layout.spec).trials():
    print(run_trial(layout.root, trial, lambda row: None).status, int(Samples(layout.trial(trial.id)).take([0])[0].max()))
"""


@pytest.mark.process
def test_a_sweep_keeps_the_code_it_draws_by(home: Path, tmp_path: Path) -> None:
    write(home, checkpoint=str(home / "first.npy"))
    done = python(home, BEGIN + RUN)
    assert done.returncode == 0, done.stderr
    sweep = home / "sweep"
    assert sorted(str(file.relative_to(sweep / "code")) for file in (sweep / "code").rglob("*.py")) == [
        "beside.py",
        "strange/inner.py",
        "strange/models.py",
    ]
    assert not list((sweep / "code").rglob("__pycache__"))
    # A fault is mended as long as nothing is drawn.
    (home / "beside.py").write_text("LEVELS = 50\n")
    assert python(home, BEGIN).returncode == 0
    assert (sweep / "code" / "beside.py").read_text() == "LEVELS = 50\n"
    # What draws, wherever it starts, is the copy: the original is gone.
    for name in ("strange", "beside.py"):
        shutil.move(home / name, tmp_path / name)
    drawn = python(sweep, ELSEWHERE)
    assert drawn.returncode == 0, drawn.stderr
    state, brightest = drawn.stdout.split()
    assert state == "completed"
    assert 4 <= int(brightest) <= 53
    # Changed code would draw other images into the same sweep.
    for name in ("strange", "beside.py"):
        shutil.move(tmp_path / name, home / name)
    (home / "beside.py").write_text("LEVELS = 70\n")
    refused = python(home, BEGIN)
    assert refused.returncode == 1
    assert "has changed since images of" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_checkpoint_that_changed_meanwhile_is_refused(home: Path) -> None:
    (trial,) = load_spec(write(home, checkpoint=str(home / "first.npy"))).trials()
    check_checkpoint(trial.model)
    np.save(home / "first.npy", np.full(4, 9.0))
    with pytest.raises(ValueError, match=r"first\.npy is not the one of this trial: its content has changed"):
        check_checkpoint(trial.model)
    (home / "first.npy").unlink()
    with pytest.raises(ValueError, match=r"first\.npy can't be read here: No such file"):
        check_checkpoint(trial.model)


def test_a_module_that_is_installed_too_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    monkeypatch.syspath_prepend(installed)
    (installed / "twice.py").touch()
    (home / "twice").mkdir()  # may be anything, and Python prefers the module
    find_code(load_spec(write(home, family="import:twice:make")))
    (home / "twice.py").touch()
    with pytest.raises(SpecError, match=r"got twice, which lies in .* and is installed too"):
        find_code(load_spec(write(home, family="import:twice:make")))


def test_plan_says_what_is_wrong_with_a_model(home: Path, ganlab: Any) -> None:
    file = write(home)
    (home / "strange" / "inner.py").write_text("def shift(weights):\n    return weights.sum() + 'a'\n")
    wrong = ganlab("plan", file)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
    assert "model.family: import:strange.models:make: drawing failed: " in wrong.stderr
