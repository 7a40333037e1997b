"""A sweep's folder as large as one likes: one real trial, trained and measured, and copies of it in every state."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np

from cluster.rendezvous import ClusterFolder, Head, WorkerState, write_head, write_worker
from ganlab.data.datasets import Dataset
from ganlab.quality.embeddings.names import PIXELS, folder_name
from jobs.cli.pipeline import prepare_folder
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.spec.sweep import check_spec
from jobs.training.trial import run_trial
from jobs.training.tune import register
from storage.attempts import Cause, begin_attempt, end_attempt
from storage.layout import SweepLayout
from storage.outcome import Failure, Outcome, write_outcome

STATES = ("completed", "running", "waiting", "failed")


def simulated(root: Path, trials: int, workers: int = 0, images: int = 1000, embedding: str = PIXELS) -> SweepLayout:
    """Make the folder of a sweep of so many trials, a quarter of them in each of STATES, and so many worker jobs."""
    from sklearn.datasets import load_digits

    spec = check_spec(
        {
            "name": "simulated",
            "dataset": {"name": "digits", "resolution": 8},
            "model": {"family": "dcgan", "latent_dim": 4, "generator_width": 4, "discriminator_width": 4},
            "train": {"steps": 40, "batch_size": 8, "log_every": 4},
            "samples": {"snapshots": [5], "images_per_snapshot": images, "final_images": images},
            "collisions": {"embedding": embedding, "sample_sizes": [10, 100]},
            "seeds": trials,
        }
    )
    layout = SweepLayout(root)
    records = layout.in_space(folder_name(embedding))
    digits = np.rint(load_digits().images[:300, None] * (255 / 16)).astype(np.uint8)
    prepare_folder(spec, layout, Dataset(digits))
    first, *others = spec.trials()
    register(layout, first, {"seed": first.seed})
    begin_attempt(layout.trial(first.id))
    run_trial(layout.root, first, lambda row: None)
    end_attempt(layout.trial(first.id), Cause.COMPLETED)
    measure_sweep(MeasureContext(layout, spec.collisions, 2**29, map, lambda *_: None), [first])
    for number, trial in enumerate(others, 1):
        own, state = layout.trial(trial.id), STATES[number % len(STATES)]
        if state != "waiting":
            shutil.copytree(layout.trial(first.id).root, own.root)
            shutil.copytree(records.pair_record(first.id, 0).parent, records.pair_record(trial.id, 0).parent)
        own.root.mkdir(exist_ok=True)
        settings = json.dumps({"seed": trial.seed, "settings": trial.model_dump(mode="json")})
        own.settings.write_text(settings)
        if state == "failed":
            reason = "a loss or weight was not finite at step 35"
            write_outcome(own, Outcome("failed", reason=reason, failure=Failure.NAN))
        if state == "running":
            own.outcome.unlink()
            own.attempts.write_text(
                json.dumps({"started": time.time(), "host": "n1", "pid": 1, "progress": ""}) + "\n", "utf-8"
            )
            os.utime(own.history)
    if workers:
        write_head(layout.cluster, Head("1", 0, 1, "running", host="n0"))
    for number in range(workers):
        write_worker(layout.cluster, WorkerState(f"2_{number}", 0, f"n{number}", "joined"))
        path = ClusterFolder(layout.cluster).worker(f"2_{number}")
        use = {"utilization": 0.5, "memory_used_bytes": 10**9, "memory_bytes": 8 * 10**10}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"gpu_use": [use] * 4, "metrics": f"n{number}:4001"}))
    return layout
