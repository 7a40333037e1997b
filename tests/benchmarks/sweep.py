"""Seconds that a sweep takes beside its training: to the first step, between trials, from the last step to the report.

``python -m tests.benchmarks.sweep [TRIALS …]`` runs sweeps of 6 and of 200 trials, or of so many, with the installed
command in a process of its own, and prints a table. The steps of a trial take one second in all: it is a small DCGAN on
digits that keeps a processor busy for that second, so that what the sweep does beside it competes for processors.

Invariant: times of steps are those that the trials' own processes read, from the histories that the sweep keeps.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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
    """Wall seconds of a sweep beside its trials' steps.

    Attributes
    ----------
    first_step
        From the start of the command to the first step of any trial.
    between_trials
        From the last step of a trial to the first step of the next one in its process: the median.
    report
        From the last step of any trial to the report's file.
    end
        From the report's file to the end of the command.
    total
        Of the whole command, steps included.
    """

    first_step: float
    between_trials: float
    report: float
    end: float
    total: float


NAMES = (
    "from the command to the first step",
    "between two trials of a process, median",
    "from the last step to the report",
    "from the report to the end of the command",
    "the whole command, steps included",
)


def overhead(trials: int) -> Overhead:
    """Run a sweep of so many trials."""
    settings = next(count for count in range(len(WIDTHS), 0, -1) if trials % count == 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "timed.py").write_text(FAMILY)
        (folder / "timed.yaml").write_text(SWEEP.format(widths=list(WIDTHS[:settings]), seeds=trials // settings))
        started = time.time()
        subprocess.run([GANLAB, "run", "timed.yaml", "--out", "sweep"], cwd=folder, check=True, capture_output=True)
        ended = time.time()
        layout = SweepLayout(folder / "sweep")
        histories = [read_history(layout.trial(trial).history) for trial in layout.trial_ids()]
        reported = layout.report.stat().st_mtime
    times = sorted((each["process"][-1], each["began"][-1], each["ended"][-1]) for each in histories)
    gaps = [after[1] - before[2] for before, after in pairwise(times) if after[0] == before[0]]
    return Overhead(
        first_step=min(began for _, began, _ in times) - started,
        between_trials=statistics.median(gaps),
        report=reported - max(last for _, _, last in times),
        end=ended - reported,
        total=ended - started,
    )


def rows(counts: Sequence[int] = (6, 200)) -> list[Row]:
    """Rows of the benchmark table: name, value, unit, target."""
    return [
        (f"{trials} trials: {name}", value, "s", "")
        for trials in counts
        for name, value in zip(NAMES, overhead(trials), strict=True)
    ]


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", type=int, metavar="TRIALS")
    print_table(rows(parser.parse_args().trials or (6, 200)))
