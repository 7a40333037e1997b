"""Seconds that a sweep takes beside its training: to the first step, between trials, from the last step to the report.

``python -m tests.benchmarks.sweep [TRIALS …]`` runs sweeps of 6 and of 200 trials, or of so many, whose steps take one
second in all, with the installed command in a process of its own, and prints a table. The trials are small DCGANs on digits
that keep their processor busy for that second, so what the sweep does beside them competes for it as in earnest.

Invariant: times are those of the trials' own processes, read from the histories that the sweep keeps.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from storage.history import read_history
from storage.layout import SweepLayout

Row = tuple[str, float, str, str]
GANLAB = Path(sys.executable).with_name("ganlab")
WIDTHS = (4, 5, 6, 7, 8, 9, 10, 12)
FAMILY = '''\
"""A DCGAN each of whose steps trains for a twentieth of a second, and that reports when it began and ended."""

import os
import time

from ganlab.models.families.dcgan import DCGAN


class Timed(DCGAN):
    began = 0.0

    def step(self, next_batch, draws):
        now = time.time()
        self.began = self.began or now
        while time.time() < now + 0.05:
            losses = super().step(next_batch, draws)
        self.ended = time.time()
        return losses

    def diagnostics(self, images, noise):
        return {"began": self.began, "ended": self.ended, "process": os.getpid()}
'''
SWEEP = """\
name: timed
dataset: {{name: digits, resolution: 8, held_out: 0}}
model: {{family: import:timed:Timed, latent_dim: 8, generator_width: 8, discriminator_width: {{grid_search: {widths}}}}}
train: {{steps: 20, log_every: 5}}
samples: {{final_images: 500}}
collisions: {{sample_sizes: [10, 50]}}
seeds: {seeds}
"""


class Overhead(NamedTuple):
    """Seconds of a sweep in which no step was taken.

    Attributes
    ----------
    first_step
        From the start of the command to the first step of any trial.
    between_trials
        Median, over all trials but the first of each process, from the last step of one to the first of the next.
    trained
        From the last step of any trial to the end of the training.
    report
        From the last step of any trial to the report's file.
    end
        From the report's file to the end of the command.
    total
        Of the whole command.
    """

    first_step: float
    between_trials: float
    report: float
    end: float
    total: float


def overhead(settings: int, seeds: int) -> Overhead:
    """Run a sweep of so many settings and seeds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "timed.py").write_text(FAMILY)
        (folder / "timed.yaml").write_text(SWEEP.format(widths=list(WIDTHS[:settings]), seeds=seeds))
        started = time.time()
        subprocess.run([GANLAB, "run", "timed.yaml", "--out", "sweep"], cwd=folder, check=True, capture_output=True)
        ended = time.time()
        layout = SweepLayout(folder / "sweep")
        trials = [read_history(layout.trial(trial).history) for trial in layout.trial_ids()]
        report = layout.report.stat().st_mtime
    times = sorted((each["process"][-1], each["began"][-1], each["ended"][-1]) for each in trials)
    gaps = [after[1] - before[2] for before, after in pairwise(times) if after[0] == before[0]]
    last = max(each[2] for each in times)
    return Overhead(
        first_step=min(each[1] for each in times) - started,
        between_trials=statistics.median(gaps),
        report=report - last,
        end=ended - report,
        total=ended - started,
    )


def rows(counts=(6, 200)) -> list[Row]:
    """Rows of the benchmark table: name, value, unit, target."""
    found = []
    for trials in counts:
        settings = next(count for count in (8, 5, 4, 3, 2, 1) if trials % count == 0)
        seconds = overhead(settings, trials // settings)
        for name, value in zip(Overhead._fields, seconds):
            found.append((f"{trials} trials: {name}", value, "s", ""))
    return found


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", type=int)
    print_table(rows(parser.parse_args().trials or (6, 200)))
