"""One trial on several workers, each with its share of every batch, through Ray Train.

Invariant: the result is a function of (settings, seed, number of workers), and rank 0 alone writes.
"""

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.preemption import busy, leaving
from jobs.spec.sweep import TrialSettings
from jobs.training.failures import record_failure
from storage.history import newest, read_history
from storage.layout import SweepLayout
from storage.outcome import Outcome, read_outcome

if TYPE_CHECKING:
    from jobs.training.trial import TrialOptions

LOOK_EVERY_S = 2.0


def run_data_parallel(
    sweep: Path,
    trial: TrialSettings,
    report: Callable[[Mapping[str, Any]], None],
    resources: Mapping[str, float],
    options: "TrialOptions",
) -> Outcome:
    """Train the trial on ``train.workers`` workers of the Ray cluster; see `jobs.training.trial.run_trial`.

    `resources` ("CPU", "GPU") are the trial's: each worker holds its share. The workers are processes of Ray Train, on
    any node; what this one reports it reads from the trial's history.

    Raises
    ------
    Interrupted
        A worker's node is about to end, and all have stopped.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from ganlab.models.train import Interrupted

    own = SweepLayout(sweep).trial(trial.id)
    use_gpu = options.device == "cuda"
    share = {
        kind: held / trial.train.workers for kind, held in resources.items() if held and (kind != "GPU" or use_gpu)
    }

    def fit() -> None:
        with tempfile.TemporaryDirectory(prefix="ganlab-train-") as scratch:
            TorchTrainer(
                _worker,
                train_loop_config={
                    "sweep": sweep,
                    "trial": trial,
                    "options": replace(options, gpus=share.get("GPU", 0.0)),
                },
                scaling_config=ScalingConfig(
                    num_workers=trial.train.workers, use_gpu=use_gpu, resources_per_worker=share
                ),
                run_config=RunConfig(storage_path=scratch, name=trial.id),
            ).fit()

    with ThreadPoolExecutor(1) as pool:
        running: Future[None] = pool.submit(fit)
        ended = False
        while not ended:
            ended = bool(wait([running], LOOK_EVERY_S).done)
            if row := newest(read_history(own.history)):
                report(row)
        running.result()
    outcome = read_outcome(own)
    if outcome is None:
        raise Interrupted("a worker's node was about to end")
    return outcome


def _worker(config: Mapping[str, Any]) -> None:
    """Function that each worker of Ray Train runs."""
    from ray.train import get_context

    from ganlab.models.train import Interrupted
    from jobs.training.trial import TrialOptions, average_over_workers, run_trial, stop_over_workers

    options: TrialOptions = config["options"]
    try:
        with busy():
            options = replace(
                options,
                stop=stop_over_workers(leaving, options.device),
                rank=get_context().get_world_rank(),
                average_gradients=average_over_workers,
            )
            run_trial(config["sweep"], config["trial"], lambda row: None, options)
    except Interrupted:
        return  # every worker comes here at the same step; that there is no outcome tells the trial
    except (Exception, SystemExit) as error:
        rank, layout = get_context().get_world_rank(), SweepLayout(config["sweep"])
        raise record_failure(layout, config["trial"], error, rank) from error
