"""The report of a sweep in training, written from its files."""

import fcntl
from pathlib import Path

import pytest

from jobs.cli import so_far
from jobs.cli.pipeline import prepare_folder
from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.spec.datasets import load_dataset
from jobs.spec.sweep import Spec, load_spec, shipped_sweeps
from jobs.training.trial import run_trial
from storage.layout import SweepLayout
from storage.lock import publishing, sweep_lock
from storage.results import open_results
from storage.samples import Samples
from tests.command_line import call

SMALL = (
    "train.steps=20",
    "train.log_every=5",
    "samples.snapshots=[10]",
    "samples.images_per_snapshot=256",
    "samples.final_images=512",
    "collisions.quality_faults=[]",
    "collisions.sample_sizes=[10]",
    "seeds=1",
)


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Spec, SweepLayout]:
    """A sweep of three trials: one ended, one killed after its first snapshot, one not begun."""
    spec, layout = load_spec(str(shipped_sweeps()["digits-demo"]), SMALL), SweepLayout(tmp_path / "sweep")
    prepare_folder(spec, layout, load_dataset(spec.dataset))
    first, second, _ = spec.trials()

    for trial in (first, second):
        assert run_trial(layout.root, trial, lambda row: None).status == "completed"
    killed = layout.trial(second.id)
    samples = Samples(killed)
    for shard in range(samples.steps[20].start // samples.plan.shard_images, len(samples.plan.shards)):
        killed.commit(shard).unlink()
    killed.outcome.unlink()
    return spec, layout


def test_report_beside_a_running_sweep(begun: tuple[Spec, SweepLayout]) -> None:
    spec, layout = begun
    with sweep_lock(layout, "ganlab run"):
        done = call("report", layout.root)
    assert done.stdout.strip() == str(layout.report)
    page = layout.report.read_text("utf-8")
    assert "Not the answer yet: of 3 trials, 1 completed" in page
    assert "Measured so far: 2; a trial that has not ended" in page
    assert "its newest samples, of step 10" in page
    assert page.count('<figure id="trial-') == 2
    results = open_results(layout)
    first, second, third = (results.sel(trial=trial.id) for trial in spec.trials())
    assert first.samples.values[-1] == 512
    assert second.samples.values[0] == 256
    assert float(second.support_size_low[0]) < float(second.support_size_high[0])
    assert not third.samples.notnull().any()


def test_its_records_are_those_of_the_whole_sweep(begun: tuple[Spec, SweepLayout]) -> None:
    spec, layout = begun
    with sweep_lock(layout, "ganlab run"):
        call("report", layout.root)
    records = {path: path.read_bytes() for path in layout.pairs.rglob("*.npz")}
    assert len(records) >= 6
    for trial in spec.trials()[1:]:
        run_trial(layout.root, trial, lambda row: None)
    measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, lambda *done: None), spec.trials())
    write_answers(layout, spec, spec.trials(), measured.real)
    call("report", layout.root)
    assert {path: path.read_bytes() for path in records} == records
    page = layout.report.read_text("utf-8")
    assert "Not the answer yet" not in page
    assert "its newest samples" not in page


def test_losses_and_samples_before_anything_is_measured(
    begun: tuple[Spec, SweepLayout], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, layout = begun
    monkeypatch.setattr(so_far, "NEWEST_IMAGES", 100)
    with sweep_lock(layout, "ganlab run"):
        assert call("report", layout.root).exit_code == 0
    page = layout.report.read_text("utf-8")
    assert "Measured so far: 0;" in page
    assert page.count('<figure id="trial-') == 2
    assert "loss of the generator" in page


def test_a_sweep_without_images_yet_is_one_line(tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path)
    layout.spec.write_bytes(shipped_sweeps()["digits-demo"].read_bytes())
    with sweep_lock(layout, "ganlab run"):
        done = call("report", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"ganlab: {tmp_path}: nothing to report here yet; the sweep is still reading its images\n"


def test_the_last_to_publish_is_the_last_to_have_read(tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path)
    with publishing(layout), pytest.raises(BlockingIOError), layout.publishing.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
