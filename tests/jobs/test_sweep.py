"""Trials on a Ray cluster that loses them: what is nobody's fault is tried again for ever, what is theirs is not."""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console

from cluster.local import local_ray
from cluster.preemption import NODE, request_stop, retract
from jobs.cli.pipeline import train_all
from jobs.spec.sweep import Spec
from jobs.training.stacked_trials import run_replicas
from jobs.training.trial import TrialOptions, run_trial
from jobs.training.tune import register, sweep_trials, trials_at_a_time, try_failed_again, unfinished
from storage.attempts import read_attempts
from storage.history import newest, read_history
from storage.layout import SweepLayout, TrialLayout
from storage.samples import Samples
from storage.trial_state import read_end
from tests.waiting import until

LONG = {"steps": 1000, "batch_size": 8, "log_every": 25, "learning_rate": 0.001}
SHORT = {**LONG, "steps": 12, "log_every": 3}


@pytest.fixture(scope="module")
def ray_node(tmp_path_factory) -> Iterator[Path]:
    """A Ray cluster of one node, and the folder in which its supervisor would announce that it ends."""
    folder = tmp_path_factory.mktemp("node")
    os.environ[NODE] = str(folder)
    with local_ray():
        yield folder
    del os.environ[NODE]


def train(layout: SweepLayout, spec: Spec, meanwhile: Callable[[], None]) -> str:
    """Run all trials, and `meanwhile` beside them; returns what was said."""
    said = io.StringIO()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(meanwhile)
        train_all(spec, layout, Console(file=said, width=200), nullcontext, 2)
        beside.result()
    return said.getvalue()


def own(layout: SweepLayout, spec: Spec) -> TrialLayout:
    return layout.trial(spec.trials()[0].id)


def images(trial: TrialLayout) -> np.ndarray:
    samples = Samples(trial)
    return samples.read(0, samples.shape[0])


def test_no_process_waits_for_work_before_there_is_any(ray_node) -> None:
    """By default Ray starts one for every CPU, of which no trial takes any: trials have variables of their own."""
    time.sleep(3)  # in which Ray would do so
    commands = [each.cmdline() for each in psutil.Process().children(recursive=True)]
    assert any(line and line[0].endswith("raylet") for line in commands)
    waiting = [line for line in commands if any(part.endswith("default_worker.py") for part in line)]
    waiting += [line for line in commands if line and line[0].startswith("ray::IDLE")]
    assert not waiting


def test_trials_have_the_niceness_of_the_command(ray_node) -> None:
    """Ray's own 15 leaves them next to nothing on a machine that does anything else."""
    import ray

    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


def test_a_node_that_leaves_costs_nothing_and_counts_for_nothing(prepared, ray_node) -> None:
    """It ends with the same bits and history, although not one failure is allowed."""
    layout, spec = prepared("left", train=LONG, resources={"checkpoint_every_s": 1000, "max_failures": 0})
    (trial,) = spec.trials()
    calm, _ = prepared("calm", train=LONG)
    register(calm, trial, {"seed": trial.seed})
    run_trial(calm.root, trial, lambda row: None)

    def leave(times: int) -> None:
        until(lambda: len(read_attempts(own(layout, spec))) >= times)
        until(lambda: len(read_history(own(layout, spec).history).get("step", ())) > 3 * times)
        request_stop(ray_node)
        until(lambda: sum(each.cause == "preempted" for each in read_attempts(own(layout, spec))) >= times)
        retract(ray_node)

    def leave_twice() -> None:
        leave(1)
        leave(2)

    train(layout, spec, leave_twice)
    assert read_end(layout.trial(trial.id)).status == "completed"
    attempts = read_attempts(own(layout, spec))
    assert {each.cause for each in attempts[:-1]} == {"preempted"}
    assert attempts[-1].cause == "completed"
    assert attempts[-1].step > 0  # it went on from the checkpoint that it wrote when told to leave: it is the only one
    np.testing.assert_array_equal(images(own(layout, spec)), images(own(calm, spec)))
    one, other = read_history(own(layout, spec).history), read_history(own(calm, spec).history)
    for name in ("step", "generator_loss", "discriminator_loss"):
        np.testing.assert_array_equal(one[name], other[name])


def test_a_trial_that_is_killed_without_progress_fails_alone_and_says_why(prepared, ray_node) -> None:
    layout, spec = prepared(
        "killed",
        train=LONG,
        seeds=2,
        resources={"checkpoint_every_s": 1000, "max_failures": 1},
        model={"family": "dcgan", "latent_dim": 4, "generator_width": 4, "refine": True, "discriminator_width": 4},
    )
    victim, other = spec.trials()
    trial = layout.trial(victim.id)

    def kill(attempt: int) -> None:
        until(lambda: len(read_attempts(trial)) > attempt)
        os.kill(read_attempts(trial)[attempt].pid, signal.SIGKILL)

    def kill_every_attempt() -> None:
        kill(0)
        kill(1)

    said = train(layout, spec, kill_every_attempt)
    state = read_end(layout.trial(victim.id))
    assert state.status == "failed"
    assert state.reason.startswith("its process was killed")
    assert state.reason.endswith("tried 2 times from the same point")
    assert [each.cause for each in read_attempts(trial)] == ["died", "died"]
    assert read_end(layout.trial(other.id)).status == "completed"
    assert f"trial {victim.id} failed: its process was killed" in said
    assert "Traceback" not in said
    # A driver that is started again leaves it so; a user who asks again gets another try.
    assert unfinished(layout, spec.trials()) == []
    try_failed_again(layout, spec.trials())
    assert [trial.id for trial in unfinished(layout, spec.trials())] == [victim.id]
    train(layout, spec, lambda: None)
    assert read_end(layout.trial(victim.id)).status == "completed"


def test_trials_that_fail_together_are_tried_alone(prepared, ray_node) -> None:
    layout, spec = prepared("together", train=LONG, seeds=2, resources={"max_failures": 0, "replicas_per_worker": 2})
    first, second = (layout.trial(trial.id) for trial in spec.trials())

    def kill_the_group() -> None:
        until(lambda: read_attempts(second))
        assert read_attempts(first)[0].pid == read_attempts(second)[0].pid
        os.kill(read_attempts(first)[0].pid, signal.SIGKILL)

    said = train(layout, spec, kill_the_group)
    assert [read_end(layout.trial(trial.id)).status for trial in spec.trials()] == ["completed"] * 2, said
    lost = "node_lost"  # on a busy machine, by Ray
    assert [[each.cause for each in read_attempts(trial) if each.cause != lost] for trial in (first, second)] == [
        ["died", "completed"],
        ["interrupted", "completed"],
    ]


def test_a_search_passes_over_a_folder_without_settings(prepared) -> None:
    """A node may be lost before a suggestion is written down."""
    layout, spec = prepared(
        train={**SHORT, "learning_rate": {"uniform": [1e-4, 1e-2]}}, search={"algorithm": "optuna", "trials": 2}
    )
    trial = spec.trial({"train.learning_rate": 0.001})
    register(layout, trial, {"values": {"train.learning_rate": 0.001}, "seed": trial.seed})
    layout.trial("dcgan-0123456789").root.mkdir(parents=True)
    assert [each.id for each in sweep_trials(layout, spec)] == [trial.id]


def test_the_newest_value_of_each_column_is_reported() -> None:
    """Schedulers compare by the fidelity ratio, which is known at snapshots alone."""
    unknown = np.nan
    columns = {"step": [1.0, 2, 3], "fidelity_ratio": [unknown, 1.5, unknown], "generator_loss": [unknown] * 3}
    assert newest({name: np.array(column) for name, column in columns.items()}) == {"step": 3, "fidelity_ratio": 1.5}


def test_a_replica_that_cannot_begin_does_not_keep_the_others_waiting(prepared, monkeypatch) -> None:
    layout, spec = prepared("full", train=SHORT, seeds=2)
    for trial in spec.trials():
        register(layout, trial, {"seed": trial.seed})

    def full(trial: TrialLayout) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.training.stacked_trials.begin_attempt", full)
    monkeypatch.setattr("jobs.training.stacked_trials.end_attempt", lambda *arguments: None)
    outcome = run_replicas(
        layout.root,
        spec.trials(),
        lambda row: None,
        lambda trial, row: None,
        TrialOptions(checkpoint_every_s=1000),
    )
    assert outcome.status == "completed"
    assert read_end(layout.trial(spec.trials()[1].id)) is None


@pytest.mark.parametrize(
    ("resources", "workers", "node", "fit"),
    [
        ({"cpus_per_trial": 2}, 1, {"CPU": 5, "GPU": 0}, 2),
        ({"gpus_per_trial": 0.2}, 1, {"CPU": 64, "GPU": 1}, 5),
        ({"gpus_per_trial": 0.1}, 1, {"CPU": 64, "GPU": 2}, 20),
        ({"gpus_per_trial": 4}, 4, {"CPU": 8, "GPU": 5}, 1),
        ({"gpus_per_trial": 3}, 1, {"CPU": 8, "GPU": 2}, 0),
    ],
)
def test_trials_that_fit(prepared, resources, workers, node, fit) -> None:
    _, spec = prepared(train={**SHORT, "workers": workers}, resources=resources)
    assert trials_at_a_time(spec, node) == fit
