"""One trial on several workers, each with its share of every batch, through Ray Train.

Invariant: the result is a function of (settings, seed, number of workers), and rank 0 alone writes.
"""

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from jobs.spec import TrialSettings
from storage.history import read_history
from storage.layout import SweepLayout
from storage.outcome import Outcome, read_outcome

LOOK_EVERY_S = 2.0


def run_data_parallel(
    sweep: Path,
    trial: TrialSettings,
    report: Callable[[Mapping[str, Any]], None],
    *,
    resources: Mapping[str, float],
    **options: Any,
) -> Outcome:
    """Train the trial on ``train.workers`` workers of the Ray cluster; see `jobs.trial.run_trial`.

    `resources` ("CPU", "GPU") are the trial's: each worker holds its share. The workers are processes of Ray Train, on
    any node; what this one reports it reads from the trial's history.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    own = SweepLayout(sweep).trial(trial.id)

    def fit() -> None:
        with tempfile.TemporaryDirectory(prefix="ganlab-train-") as scratch:
            TorchTrainer(
                _worker,
                train_loop_config={"sweep": sweep, "trial": trial, "options": options},
                scaling_config=ScalingConfig(
                    num_workers=trial.train.workers,
                    use_gpu=options["use_gpu"],
                    resources_per_worker={kind: held / trial.train.workers for kind, held in resources.items() if held},
                ),
                run_config=RunConfig(storage_path=scratch, name=trial.id),
            ).fit()

    with ThreadPoolExecutor(1) as pool:
        running: Future[None] = pool.submit(fit)
        while not wait([running], LOOK_EVERY_S).done:
            if row := {name: float(column[-1]) for name, column in read_history(own.history).items() if len(column)}:
                report(row)
        running.result()
    outcome = read_outcome(own)
    assert outcome is not None, "the workers ended without an outcome"
    return outcome


def _worker(config: Mapping[str, Any]) -> None:
    """What each worker of Ray Train runs."""
    from ray.train import get_context

    from jobs.trial import average_over_workers, run_trial

    run_trial(
        config["sweep"], config["trial"], report=lambda row: None, rank=get_context().get_world_rank(),
        average_gradients=average_over_workers, **config["options"],
    )  # fmt: skip
