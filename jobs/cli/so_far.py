"""Report of a sweep at work: what its files hold so far.

Invariant: needs no process of the sweep, and takes nothing from it: records are those that the sweep would write.
"""

from rich.console import Console

from jobs.console.progress import PairsBar
from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.report.sweep_page import write_report
from jobs.spec.sweep import load_spec
from jobs.spec.validation import SpecError
from jobs.training.preflight import measuring
from jobs.training.tune import sweep_trials
from storage.layout import SweepLayout
from storage.lock import publishing

NEWEST_IMAGES = 5_000  # larger snapshots are left to the sweep's own measuring: comparing them takes minutes


def report_so_far(layout: SweepLayout, console: Console) -> None:
    """Measure the newest small snapshot of each trial, unless it is measured, and write results and report.

    Parameters
    ----------
    layout
        Of the sweep.
    console
        For the progress.

    Raises
    ------
    SpecError
        If the sweep has no real images yet.
    """
    if not layout.reference.exists():
        raise SpecError(f"{layout.root}: nothing to report here yet; the sweep is still reading its images")
    spec = load_spec(layout.spec)
    trials = sweep_trials(layout, spec)
    memory = measuring(spec)[1]
    with PairsBar(console) as progress:
        context = MeasureContext(layout, spec.collisions, memory, map, progress, progress.stage)
        real = measure_sweep(context, trials, newest=NEWEST_IMAGES).real
    with publishing(layout):
        write_answers(layout, spec, trials, real, active=True)
        write_report(layout)
