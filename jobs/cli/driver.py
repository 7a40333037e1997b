"""Processes of a submitted sweep's controller job: one trains, one measures finished snapshots.

Invariant: each may be killed at any moment and started again; what is done is on disk. Exit code 0: nothing is left to
do; 2: starting again would not help; anything else: start it again.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cluster.dask_node import cluster_map
from cluster.ray_driver import cluster_ray
from cluster.rendezvous import write_demand
from cluster.site import Site
from ganlab.quality.embeddings.names import folder_name
from jobs.cli.cluster_file import load_site
from jobs.cli.pipeline import train_all
from jobs.cli.submit import demand_for, measure_memory_bytes, trials_on
from jobs.console.progress import PairsBar, stderr_console
from jobs.measuring.answers import write_answers
from jobs.measuring.comparison import Map, Progress
from jobs.measuring.measure import MeasureContext, MeasurementResult, measure_sweep
from jobs.report.sweep_page import write_report
from jobs.spec.sweep import Spec, SpecError, TrialSettings, load_spec
from jobs.training.tune import sweep_trials
from storage.atomic import write_bytes
from storage.layout import SweepLayout
from storage.lock import publishing
from storage.patience import await_disk, is_waited_for
from storage.samples import DamagedShardError
from storage.trial_state import read_end

LOOK_EVERY_S = 3.0
START_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
PUBLISH_EVERY_S, PUBLISH_SHARE = 30.0, 0.05  # results are rewritten no more often, and take no more of the time


def train(layout: SweepLayout) -> int:
    """Run every trial that is not done on the sweep's own Ray cluster."""
    spec, kinds = load_spec(layout.spec), load_site(layout.site)
    total = len(spec.trials())

    def told(ended: int) -> None:
        demand = demand_for(spec, kinds, total - ended)
        with suppress(OSError):  # it only saves nodes; the work does not depend on it
            write_demand(layout.cluster, demand.left, demand.held)

    train_all(spec, layout, stderr_console(), cluster_ray, trials_on(spec, kinds), told)
    told(total)
    write_bytes(layout.trained, b"")
    return 0


def measure(layout: SweepLayout) -> int:
    """Compare the pairs of every snapshot as it is finished, and keep results and report up to date."""
    console = stderr_console()
    results = Results(layout, load_spec(layout.spec), load_site(layout.site))
    with cluster_map(layout.cluster) as map, PairsBar(console) as progress:
        while True:
            training_ended = layout.trained.exists()  # before looking, so that nothing comes after the last look
            measured = results.update(map, progress)
            for snapshot, error in measured.damaged.items():
                console.print(f"not measured: step {snapshot.step} of {snapshot.trial}: {error}")
            if training_ended or results.due():
                results.publish(measured)
            if training_ended:
                return 2 if results.damaged else 0
            time.sleep(LOOK_EVERY_S)


class Results:
    """Results measured so far; reads only trials that may have something new, and publishes at intervals."""

    def __init__(self, layout: SweepLayout, spec: Spec, kinds: Sequence[Site]) -> None:
        self.damaged: set[str] = set()  # trials with a shard that can't be read
        self._layout, self._spec = layout, spec
        self._memory_bytes = spec.resources.measure_memory_bytes(measure_memory_bytes(spec, kinds))
        self._settled: set[str] = set()  # trials that have ended and are measured
        self._news = False
        self._due_at = 0.0

    def update(self, map: Map, progress: Progress) -> MeasurementResult:
        """Measure what has become complete since the last time."""
        trials = [trial for trial in sweep_trials(self._layout, self._spec) if trial.id not in self._settled]
        ended = {trial.id for trial in trials if read_end(self._layout.trial(trial.id))}
        compared = False

        def noticed(done: float, total: float, left: int) -> None:
            nonlocal compared
            compared = compared or done > 0
            progress(done, total, left)

        measured = measure_sweep(
            MeasureContext(self._layout, self._spec.collisions, self._memory_bytes, map, noticed), trials
        )
        self.damaged |= {snapshot.trial for snapshot in measured.damaged}
        self._settled |= ended | self.damaged
        # The real images alone are no news.
        self._news = self._news or bool(ended) or (compared and any(self._measured(trial) for trial in trials))
        return measured

    def _measured(self, trial: TrialSettings) -> bool:
        steps = (*trial.samples.snapshots, trial.train.steps)
        own = self._layout.in_space(folder_name(self._spec.collisions.embedding))
        return any(own.pair_record(trial.id, step).exists() for step in steps)

    def due(self) -> bool:
        """True if there is something new and publishing is due."""
        return self._news and time.monotonic() > self._due_at

    def publish(self, measured: MeasurementResult) -> None:
        """Write ``results.zarr`` and the report from all records there are."""
        started = time.monotonic()
        trials = sweep_trials(self._layout, self._spec)
        training = not self._layout.trained.exists()
        with publishing(self._layout):
            write_answers(self._layout, self._spec, trials, measured.real, active=training)
            write_report(self._layout)
        ended = time.monotonic()
        self._news, self._due_at = False, ended + max(PUBLISH_EVERY_S, (ended - started) / PUBLISH_SHARE)


def main() -> int:
    """``python -m jobs.cli.driver train|measure SWEEP_FOLDER``."""
    role, folder = sys.argv[1:]
    try:
        return {"train": train, "measure": measure}[role](SweepLayout(Path(folder)))
    except (SpecError, DamagedShardError) as error:
        sys.stderr.write(f"ganlab: {error}\n")
        return 2
    except OSError as error:
        if not is_waited_for(error):
            raise
        await_disk(Path(folder))
        return START_AGAIN


if __name__ == "__main__":
    sys.exit(main())
