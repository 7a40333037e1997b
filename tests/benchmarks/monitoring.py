"""What watching costs: a look at the folder of a large sweep, a scrape, and the exporter's share of a CPU."""

import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from jobs.watching.monitor import LOOK_EVERY_S, Exporter
from monitoring.exporter import serve
from storage.layout import SweepLayout
from tests.benchmarks.table import Target, print_table
from tests.monitoring.simulated import simulated

TRIALS, WORKERS = 500, 20


def rows(trials: int = TRIALS, workers: int = WORKERS) -> Iterator[tuple[str, float, str, Target]]:
    """Rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        layout = simulated(Path(folder) / "sweep", trials, workers, images=512)
        started = time.perf_counter()
        exporter = Exporter(layout, print)
        first = time.perf_counter() - started
        looks, cpu = zip(*(_look(exporter, layout) for _ in range(20)), strict=True)
        with serve(lambda: exporter.newest, "127.0.0.1", 0) as port:
            scrapes, sizes = zip(*(_scrape(port) for _ in range(50)), strict=True)
    about = f"{trials} trials, {workers} workers"
    yield f"{about}: the exporter's first look", first * 1e3, "ms", None
    yield "a look when every running trial has logged a step, median of 20", median(looks) * 1e3, "ms", None
    yield "a scrape, median of 50", median(scrapes) * 1e3, "ms", "< 50"
    yield "a scrape, the slowest of 50", max(scrapes) * 1e3, "ms", "< 50"
    yield "size of a scrape", max(sizes) / 1e3, "kB", "< 200"
    yield (
        f"the exporter's share of a CPU, looking every {LOOK_EVERY_S:.0f} s",
        100 * median(cpu) / LOOK_EVERY_S,
        "%",
        None,
    )


def _look(exporter: Exporter, layout: SweepLayout) -> tuple[float, float]:
    """Wall and CPU seconds of a look after every running trial has logged a step."""
    for trial_id in layout.trial_ids():
        own = layout.trial(trial_id)
        if own.history.exists() and not own.outcome.exists():
            with own.history.open("a") as file:
                file.write('{"step": 40, "generator_loss": 1.0, "discriminator_loss": 1.0, "steps_per_second": 9.0}\n')
    started, busy = time.perf_counter(), time.process_time()
    exporter.look()
    return time.perf_counter() - started, time.process_time() - busy


def _scrape(port: int) -> tuple[float, int]:
    started = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        size = len(answer.read())
    return time.perf_counter() - started, size


if __name__ == "__main__":
    print_table(rows(*map(int, sys.argv[1:])))
