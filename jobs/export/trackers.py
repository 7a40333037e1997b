"""Trials as runs of experiment trackers: TensorBoard, MLflow, Weights & Biases.

Invariant: everything is written to a local folder; no tracker is asked to reach a server.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.export.content import Content


def write_tensorboard(content: Content, folder: Path) -> None:
    """Write one run a trial, as ``tensorboard --logdir`` reads it: scalars by step, settings as hyperparameters."""
    from tensorboardX import SummaryWriter

    for run in content.runs:
        last: dict[str, float] = {}
        with SummaryWriter(str(folder / run.name), flush_secs=3600) as writer:
            for step, metrics in run.metrics.items():
                last |= metrics
                for name, value in metrics.items():
                    writer.add_scalar(name, value, step, display_name="")
            writer.add_hparams(run.settings, last, name="hyperparameters", global_step=max(run.metrics, default=0))


def write_mlflow(content: Content, folder: Path) -> None:
    """Write an MLflow store, as ``mlflow ui --backend-store-uri`` reads it: one experiment, one run a trial."""
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    with _environment(MLFLOW_ALLOW_FILE_STORE="true"):  # the store that needs no database
        client = MlflowClient(tracking_uri=folder.absolute().as_uri())
        experiment = client.create_experiment(content.title, content.layout.root.as_uri())
        for number, run in enumerate(content.runs):
            identity = client.create_run(experiment, start_time=number, run_name=run.name).info.run_id
            settings = [Param(name, str(value)) for name, value in run.settings.items()]
            metrics = [Metric(name, value, 0, step) for step, row in run.metrics.items() for name, value in row.items()]
            client.log_batch(identity, params=settings)
            for first in range(0, len(metrics), 1000):  # as many as one batch may hold
                client.log_batch(identity, metrics=metrics[first : first + 1000])
            client.set_terminated(identity, end_time=number)


def write_wandb(content: Content, folder: Path) -> None:
    """Write offline runs of Weights & Biases, one a trial; ``wandb sync`` uploads them."""
    import wandb

    project = re.sub(r"[/\\#?%:]", "-", content.title)[:128]  # what the tracker allows
    settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
    for run in content.runs:
        with wandb.init(
            project=project,
            name=run.name,
            id=run.name,
            config=run.settings,
            dir=folder,
            mode="offline",
            reinit="finish_previous",
            settings=settings,
        ) as logged:
            for step, metrics in run.metrics.items():
                logged.log(metrics, step=step)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
