"""Seconds per trial that does nothing, against Ray Tune as it comes.

`python -m tests.benchmarks.tune` prints the table. Both sides run as many trials through a local Ray; ours runs
a real `known-support` trial of one step and 256 images, with its records, where Tune's function only returns.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

Row = tuple[str, float, str, str]
TRIALS = 16

DEFAULT = f"""
import time
import ray
from ray import tune
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
started = time.perf_counter()
numbers = {{"number": tune.grid_search(list(range({TRIALS})))}}
tune.Tuner(lambda config: tune.report({{"done": 1}}), param_space=numbers).fit()
print("SECONDS", time.perf_counter() - started)
"""

OURS = f"""
import sys, time
from pathlib import Path
import numpy as np
from rich.console import Console
from cluster.local import local_ray, local_resources
from jobs.cli.pipeline import prepare_folder
from jobs.console.progress import Bar, SweepProgress
from jobs.spec.sweep import check_spec
from jobs.training.tune import run_trials
from ganlab.data.datasets import Dataset
from storage.layout import SweepLayout
spec = check_spec({{
    "name": "no-op", "dataset": {{"name": "digits"}}, "model": {{"family": "known-support", "pool": 10}},
    "seeds": {TRIALS}, "train": {{"steps": 1}}, "samples": {{"final_images": 256}},
    "collisions": {{"sample_sizes": [10]}},
}})
layout = SweepLayout(Path(sys.argv[1]))
prepare_folder(spec, layout, Dataset(np.zeros((20, 1, 8, 8), np.uint8)))
console = Console(quiet=True)
with local_ray(), Bar(console, "", 1) as bar:
    started = time.perf_counter()
    run_trials(layout, spec, SweepProgress(bar, {{}}, {{}}), local_resources())
    print("SECONDS", time.perf_counter() - started)
"""


def seconds_per_trial(program: str, *arguments: str) -> float:
    """Run a program that prints SECONDS and return them per trial."""
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("SECONDS")]
    return float(line.split()[1]) / TRIALS


def rows() -> list[Row]:
    """Rows of the benchmark table: name, value, unit, target."""
    with tempfile.TemporaryDirectory() as folder:
        ours = seconds_per_trial(OURS, os.path.join(folder, "sweep"))
    default = seconds_per_trial(DEFAULT)
    return [
        (f"no-op trial, {TRIALS} of them: ours", ours, "s", ""),
        (f"no-op trial, {TRIALS} of them: Ray Tune as it comes", default, "s", ""),
        ("no-op trial: ours over Tune's", ours / default, "× s", "≤ 0.35"),
    ]


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
