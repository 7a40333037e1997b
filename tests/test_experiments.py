"""The scripts of docs/experiments print their tables and draw their figures from small sweeps of the right form."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from runpy import run_path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.training.trial import TrialOptions, run_trial
from jobs.training.tune import register
from storage.attempts import begin_attempt, end_with_outcome
from storage.shards import ShardWriter
from tests.jobs.conftest import TINY, Prepared, prepared

SCRIPTS = Path(__file__).parents[1] / "docs" / "experiments"
COLLISIONS = {
    "sample_sizes": [10, 100],
    "threshold": {"quantile": 0.1},
    "quality_faults": ["far"],
    "fidelity_gate": 2.0,  # these samples are at about 1.2
}
Printed = Callable[..., str]
__all__ = ["prepared"]  # a fixture


@pytest.fixture
def printed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """What a script prints for some folders; its figures go to a copy of the scripts."""
    copy = folder / "scripts"
    shutil.copytree(SCRIPTS, copy, ignore=shutil.ignore_patterns("*.png", "*.md"))
    monkeypatch.syspath_prepend(copy)

    def run(script: str, *arguments: Path | str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        run_path(str(copy / script), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def swept(prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The folder of a small sweep, trained and measured in this process; real images with noise stand for the samples."""
    digits = load_digits()
    real, labels_of_real = digits.images[:, None] * 16, digits.target
    write = ShardWriter.write

    def write_noisy_real(self: ShardWriter, index: int, images: np.ndarray, labels: np.ndarray | None = None) -> None:
        rng = np.random.default_rng([index, crc32(self._trial.root.name.encode())])
        chosen = rng.integers(0, len(real), len(images))
        if labels is not None:
            chosen = np.array([rng.choice(np.flatnonzero(labels_of_real == label)) for label in labels])
        noisy = real[chosen] + rng.normal(0, 8, images.shape)
        write(self, index, np.clip(noisy, 0, 255).astype(np.uint8), labels)

    monkeypatch.setattr(ShardWriter, "write", write_noisy_real)

    def make(name: str, models: Sequence[dict[str, Any]], labelled: bool = False, **sections: Any) -> Path:
        layout, spec = prepared(
            name, labelled, model={"grid_search": list(models)}, seeds=2, collisions=COLLISIONS, **sections
        )
        for trial in spec.trials():
            register(layout, trial, {"seed": trial.seed})
            begin_attempt(layout.trial(trial.id))
            end_with_outcome(layout.trial(trial.id), run_trial(layout.root, trial, lambda row: None, TrialOptions()))
        context = MeasureContext(layout, spec.collisions, 2**30, map, lambda *done: None)
        write_answers(layout, spec, spec.trials(), measure_sweep(context, spec.trials()).real)
        return layout.root

    return make


def figures(folder: Path) -> set[str]:
    return {path.name for path in (folder / "scripts").glob("*.png")}


def test_discriminators_of_several_widths(folder: Path, printed: Printed, swept: Callable[..., Path]) -> None:
    models = [TINY | {"discriminator_width": width} for width in (4, 6, 8)]
    samples = {"snapshots": [3, 6, 9], "images_per_snapshot": 200, "final_images": 200}
    sweep = swept("widths", models, samples=samples)
    text = printed("diversity.py", sweep)
    assert "| 8 |" in text
    for text in (printed("published_size.py", sweep), printed("published_size.py", sweep, "fidelity")):
        assert "trained: 6 trials by 6 starts on 1 machine" in text
    assert "| width 8 | 1 |" in printed("faces.py", sweep)
    assert {"widths-curves.png", "widths-samples.png", "widths-duplicates.png"} <= figures(folder)


def test_kinds_of_model_are_named_by_what_differs(folder: Path, printed: Printed, swept: Callable[..., Path]) -> None:
    vae = {"family": "vae", "latent_dim": 4, "generator_width": 4, "encoder_width": 4, "refine": True}
    models = [TINY, TINY | {"family": "pacgan", "packing": 2}, vae | {"pixel_scale": 0.25}, vae | {"pixel_scale": 0.5}]
    text = printed("families.py", swept("kinds", models))
    names = [line.split(" | ")[0] for line in text.splitlines() if " of 2 |" in line]
    assert names == ["| dcgan", "| pacgan, packing 2", "| vae, pixel scale 0.25", "| vae, pixel scale 0.5"]
    assert figures(folder) == {"kinds.png"}


def test_models_of_today_beside_the_snapshots_of_another(
    folder: Path, printed: Printed, swept: Callable[..., Path]
) -> None:
    diffusion = {"family": "diffusion", "generator_width": 4}
    models = [TINY, *(diffusion | {"sampling_steps": steps} for steps in (10, 50))]
    few = {"final_images": 150}
    today = swept("today", models, samples=few, train={"steps": 3, "batch_size": 8})
    text = printed(
        "today.py", today, swept("today-dcgan", [TINY], samples=few | {"snapshots": [5], "images_per_snapshot": 150})
    )
    for name in ("dcgan", "diffusion, 10 steps", "diffusion, 50 steps"):
        assert text.count(f"| {name} | ") == 2
    assert text.count("trained: ") == 2
    assert figures(folder) == {"today.png", "today-samples.png"}


def test_snapshots_of_last_and_averaged_weights(folder: Path, printed: Printed, swept: Callable[..., Path]) -> None:
    train = {"steps": 12, "batch_size": 8, "ema_decay": {"grid_search": [0.0, 0.9]}}
    samples = {"snapshots": [3, 6, 9], "images_per_snapshot": 200, "final_images": 200}
    text = printed("snapshots.py", swept("snapshots", [TINY], train=train, samples=samples))
    assert [text.count(f"| {name} | {seed} |") for name in ("last weights", "averaged (0.9)") for seed in (0, 1)] == [
        1
    ] * 4


def test_classes(folder: Path, printed: Printed, swept: Callable[..., Path]) -> None:
    model = {"family": "stacked", "latent_dim": 4, "generator_width": 4, "discriminator_width": 4}
    text = printed("classes.py", swept("classes", [model], labelled=True))
    assert text.count("of 2 |") == 10
