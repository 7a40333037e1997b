"""One trial: whatever happened before, it ends with the same bits, or says why not."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs.training.trial import TrialOptions, run_trial
from jobs.training.tune import register, try_failed_again, unfinished
from storage.history import read_history
from storage.layout import TrialLayout
from storage.outcome import read_outcome
from storage.samples import Samples
from storage.shards import ShardWriter
from storage.trial_state import read_end


def run(layout, spec, **options):
    (trial,) = spec.trials()
    register(layout, trial, {"seed": trial.seed})
    return run_trial(layout.root, trial, lambda row: None, TrialOptions(**options))


def own(layout, spec) -> TrialLayout:
    return layout.trial(spec.trials()[0].id)


def images(layout, spec) -> np.ndarray:
    samples = Samples(own(layout, spec))
    return samples.read(0, samples.shape[0])


@pytest.fixture
def undisturbed(prepared):
    layout, spec = prepared("undisturbed")
    assert run(layout, spec).status == "completed"
    return images(layout, spec), read_history(own(layout, spec).history)


def test_a_trial_writes_what_it_planned(prepared, undisturbed) -> None:
    samples, history = undisturbed
    assert samples.shape == (900, 1, 8, 8)
    assert len(np.unique(samples.reshape(900, -1), axis=0)) > 100
    assert history["step"].tolist() == [3, 5, 6, 9, 12]
    assert np.isfinite(history["generator_loss"]).all()


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_full_disk_is_an_outcome_and_the_next_try_completes(prepared, undisturbed, monkeypatch, failing) -> None:
    layout, spec = prepared()
    write = ShardWriter.write

    def full(self, shard, data, labels):
        if shard >= failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._trial.shard(shard)))
        write(self, shard, data, labels)

    monkeypatch.setattr(ShardWriter, "write", full)
    outcome = run(layout, spec)
    assert outcome.status == "failed"
    assert "No space left on device" in outcome.reason
    assert f"c.{failing}." in outcome.reason
    assert read_end(layout.trial(spec.trials()[0].id)).status == "failed"
    assert Samples(own(layout, spec)).committed == set(range(failing))
    monkeypatch.undo()
    assert unfinished(layout, spec.trials()) == []
    try_failed_again(layout, spec.trials())
    assert unfinished(layout, spec.trials()) == list(spec.trials())
    assert run(layout, spec).status == "completed"
    np.testing.assert_array_equal(images(layout, spec), undisturbed[0])


def test_an_error_that_may_pass_is_raised_for_the_scheduler_to_retry(prepared, monkeypatch) -> None:
    layout, spec = prepared()

    def stale(self, shard, data, labels):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(ShardWriter, "write", stale)
    with pytest.raises(OSError, match="Stale"):
        run(layout, spec)
    assert read_outcome(own(layout, spec)) is None


def test_a_missing_early_shard_is_drawn_again_although_a_later_checkpoint_exists(prepared, undisturbed) -> None:
    layout, spec = prepared()
    run(layout, spec, checkpoint_every_s=1e-9)
    assert own(layout, spec).checkpoint.exists()
    own(layout, spec).commit(0).unlink()
    assert read_end(layout.trial(spec.trials()[0].id)) is None
    assert run(layout, spec).status == "completed"
    np.testing.assert_array_equal(images(layout, spec), undisturbed[0])


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_only_costs_time(prepared, undisturbed, damage) -> None:
    layout, spec = prepared()
    run(layout, spec, checkpoint_every_s=1e-9)
    own(layout, spec).checkpoint.write_bytes(damage)
    for commit in own(layout, spec).commits.iterdir():
        commit.unlink()
    assert run(layout, spec).status == "completed"
    np.testing.assert_array_equal(images(layout, spec), undisturbed[0])


def test_a_checkpoint_that_can_not_be_read_now_is_not_taken_for_damaged(prepared, monkeypatch) -> None:
    layout, spec = prepared()
    run(layout, spec, checkpoint_every_s=1e-9)
    path, read = own(layout, spec).checkpoint, Path.read_bytes
    before = path.read_bytes()
    own(layout, spec).outcome.unlink()

    def failing(self: Path) -> bytes:
        if self == path:
            raise OSError(errno.EIO, "Input/output error")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match="Input/output error"):
        run(layout, spec)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert run(layout, spec).status == "completed"


def test_history_reads_the_same_after_a_rerun(prepared, undisturbed) -> None:
    layout, spec = prepared()
    run(layout, spec, checkpoint_every_s=1e-9)
    own(layout, spec).commit(2).unlink()
    run(layout, spec)
    history = read_history(own(layout, spec).history)
    for name in ("step", "generator_loss", "discriminator_loss"):
        np.testing.assert_array_equal(history[name], undisturbed[1][name])


@pytest.mark.process
def test_a_really_full_disk(prepared, undisturbed, folder: Path) -> None:
    """In a mount namespace of its own, the sweep lies on a file system of 100 kB."""
    layout, _ = prepared("full")
    mount = 'mount -t tmpfs -o size=100k,mode=700 ganlab "$1" && cp -r "$2"/. "$1" && exec "$3" -c "$4" "$1"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    program = """
import sys
from pathlib import Path
from jobs.spec.sweep import load_spec
from jobs.training.tune import register
from jobs.training.trial import TrialOptions, run_trial
from storage.layout import SweepLayout
from storage.samples import Samples
layout = SweepLayout(Path(sys.argv[1]))
(trial,) = load_spec(layout.spec).trials()
register(layout, trial, {"seed": 0})
print(run_trial(layout.root, trial, lambda row: None).reason)
samples = Samples(layout.trial(trial.id))
for shard in samples.committed:
    samples.read(300 * shard, 300 * (shard + 1))
print(len(samples.committed), "shards readable")
"""
    target = folder / "small disk"
    target.mkdir()
    done = subprocess.run(
        [*command, target, layout.root, sys.executable, program], capture_output=True, text=True, check=False
    )
    if shutil.which("unshare") is None or "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("needs the right to mount")
    assert "No space left on device" in done.stdout, done.stdout + done.stderr
    assert "shards readable" in done.stdout


def test_a_diverging_trial_fails_without_retry(prepared) -> None:
    layout, spec = prepared(
        train={"steps": 12, "batch_size": 8, "log_every": 3, "learning_rate": 1.0},
        model={"family": "vae", "latent_dim": 4, "generator_width": 4, "pixel_scale": 1e-25},
    )
    outcome = run(layout, spec)
    assert outcome.status == "failed"
    assert "not finite at step 3" in outcome.reason
