"""`ganlab status --watch`: a sweep at a glance in a terminal, renewed every few seconds.

Invariant: shows the same figures as the dashboards, from the same snapshot; needs no process of ours to be alive.
"""

import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobs.console.progress import text_console
from jobs.console.words import cost_words, duration, magnitude, size
from jobs.watching.sweep_watch import SweepWatch
from monitoring.metrics import FAILURES, STAGES, TRIAL_STATES, MetricValues
from storage.layout import SweepLayout

COLOURS = {
    "completed": "green",
    "running": "cyan",
    "waiting": "dim",
    "interrupted": "yellow",
    "stopped": "magenta",
    "failed": "red",
}
STANDSTILL_S = 600.0


def watch_sweep(layout: SweepLayout, every_s: float = 2.0) -> None:
    """Show the sweep until Ctrl-C, or until it is done; where there is no terminal, print it once."""
    watch = SweepWatch(layout)
    console = text_console()
    if not console.is_interactive:
        console.print(view(watch, watch.look()))
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            new = watch.look()
            live.update(view(watch, new), refresh=True)
            if new.get("ganlab_sweep_finished") and not new.get("ganlab_sweep_active"):
                return
            time.sleep(every_s)


def view(watch: SweepWatch, new: MetricValues, now: float | None = None) -> RenderableType:
    """The whole view of one snapshot."""
    now = time.time() if now is None else now
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for name, value in _facts(new, now):
        facts.add_row(name, value)
    return Group(_headline(watch, new), *_warnings(new, now), facts)


def _headline(watch: SweepWatch, new: MetricValues) -> Text:
    active, finished = new.get("ganlab_sweep_active"), new.get("ganlab_sweep_finished")
    unfinished = ("at work", "cyan") if active else ("nobody works on it", "red")
    state = ("done", "green") if finished else unfinished
    return Text.assemble((watch.name, "bold"), f" in {watch.layout.root}: ", state)


def _warnings(new: MetricValues, now: float) -> Iterator[Text]:
    """Warnings, each in a line."""
    newest = max(new.values.get("ganlab_last_success_timestamp_seconds", {}).values(), default=now)
    if new.get("ganlab_sweep_active") and now - newest > STANDSTILL_S:
        yield Text(f"nothing got done for {duration(now - newest)}", "red")
    if failed := new.total("ganlab_trials", state="failed"):
        causes = ", ".join(
            f"{count:.0f} {cause}" for cause in FAILURES if (count := new.get("ganlab_trials_failed", cause))
        )
        yield Text(f"{failed:.0f} failed: {causes}; `ganlab status` says which and why", "red")
    if collapsed := new.total("ganlab_trials_collapsed"):
        words = f"{collapsed:.0f} collapsed: duplicates are over 100 times as frequent as among the real images"
        yield Text(words, "yellow")
    if copying := new.total("ganlab_trials_copying"):
        yield Text(f"{copying:.0f} with copies of training images among their newest samples", "yellow")
    if new.get("ganlab_filesystem_free_bytes") < new.get("ganlab_sample_bytes", "to_write"):
        yield Text("the disk has less room than the sweep has still to write", "red")
    for (kind,), count in new.values["ganlab_exporter_problems"].items():
        if count and kind != "no_scheduler":
            yield Text(f"these figures are not whole: {kind.replace('_', ' ')} ({count:.0f})", "yellow")


def _facts(new: MetricValues, now: float) -> Iterator[tuple[str, RenderableType]]:
    states = {state: new.total("ganlab_trials", state=state) for state in TRIAL_STATES}
    yield (
        "trials",
        Text(", ").join(Text(f"{count:.0f} {state}", COLOURS[state]) for state, count in states.items() if count),
    )
    rate = new.total("ganlab_train_steps_per_second")
    yield (
        "training",
        _bar(
            new.total("ganlab_train_steps_total"),
            new.total("ganlab_train_steps_planned"),
            f"{rate:,.0f} steps/s" if rate else "",
        ),
    )
    pairs_rate = new.get("ganlab_pairs_per_second")
    note = f"{magnitude(pairs_rate)} pairs/s, {new.get('ganlab_tiles_left'):,.0f} tiles left" if pairs_rate else ""
    compared = new.get("ganlab_pairs", "compared")
    yield "pairs", _bar(compared, compared + new.get("ganlab_pairs", "to_compare"), note)
    end = new.values.get("ganlab_estimated_end_timestamp_seconds")
    if end and not new.get("ganlab_sweep_finished"):
        yield "answer", Text(f"due in about {duration(max(0.0, end[()] - now))}, measuring included")
    written, left = new.get("ganlab_sample_bytes", "committed"), new.get("ganlab_sample_bytes", "to_write")
    yield (
        "samples",
        Text(
            f"{size(written)} written, {size(left)} to come, "
            f"{size(new.get('ganlab_filesystem_free_bytes'))} free on the disk"
        ),
    )
    if support := new.values.get("ganlab_support_size"):
        yield (
            "found",
            Text(
                f"effective number: least {support['0',]:,.0f}, median {support['0.5',]:,.0f}; "
                f"{new.get('ganlab_duplicates'):,.0f} duplicates"
            ),
        )
    times = new.values.get("ganlab_last_success_timestamp_seconds", {})
    yield (
        "newest",
        Text(
            ", ".join(f"{stage} {duration(max(0.0, now - times[stage,]))} ago" for stage in STAGES if (stage,) in times)
            or "nothing yet"
        ),
    )
    workers = [f"{count:.0f} {state}" for (state,), count in new.values["ganlab_workers"].items() if count]
    if workers:
        yield "workers", Text(", ".join(workers))
    if gpus := new.total("ganlab_gpus"):
        busy = new.values.get("ganlab_gpus_busy", {})
        known = sum(new.get("ganlab_gpus", *node) for node in busy)
        unknown = f", {gpus - known:.0f} do not say" if known < gpus else ""
        yield "GPUs", Text(f"{sum(busy.values()):.1f} of {known:.0f} busy{unknown}")
    if held := new.get("ganlab_gpu_seconds_total"):
        energy = new.values.get("ganlab_gpu_energy_joules_total", {}).get(())
        yield "cost", Text(cost_words(held / 3600, energy))


def _bar(done: float, total: float, note: str) -> Table:
    row = Table.grid(padding=(0, 1))
    share = done / total if total else 0.0
    row.add_row(ProgressBar(total=max(total, 1), completed=done, width=30), f"{share:4.0%}", note)
    return row
