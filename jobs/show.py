"""What commands print on stdout: tables for people, JSON for programs.

Invariant: shows what the files say; computes nothing new.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jobs.plan import Plan
from jobs.progress import duration
from jobs.samples import SampleAnswer
from jobs.spec import Spec, TrialSettings, load_spec
from jobs.sweep import sweep_trials, trial_state
from storage.history import read_history
from storage.layout import SweepLayout
from storage.lock import lock_holder
from storage.samples import Samples

TABLE_ROWS = 60  # more trials than this are summed up


def show_plan(spec: Spec, plan: Plan, as_json: bool) -> None:
    """Print a plan: totals, then one row for each distinct set of networks."""
    varying = _varying(spec, plan.trials)
    rows = [(trial, weights) for trial, weights in zip(plan.trials, plan.weights, strict=True)]
    if as_json:
        trials = [{"id": trial.id, "seed": trial.seed, **varying(trial), "weights": weights}
                  for trial, weights in rows]  # fmt: skip
        click.echo(json.dumps({
            "name": spec.name, "trials": trials, "shards": plan.shards,
            "samples": plan.samples, "sample_bytes": plan.sample_bytes, "pairs": plan.pairs,
            "training_seconds": plan.seconds, "concurrent_trials": plan.concurrency}, indent=2))  # fmt: skip
        return
    console = Console(highlight=False)
    console.print(f"[bold]{spec.name}[/]: {len(plan.trials)} trials, {plan.concurrency} at a time here")
    facts = [
        ("shards", f"{plan.shards:,}"), ("images to store", f"{plan.samples:,} ({size(plan.sample_bytes)})"),
        ("pairs to compare", f"{plan.pairs:,}"),
        ("training time", "not timed" if plan.seconds is None else f"about {duration(plan.seconds)} on this CPU"),
    ]  # fmt: skip
    for name, value in facts:
        console.print(f"  {name:<18} {value}")
    groups: dict[tuple[Any, ...], list[int]] = {}
    names = list(varying(plan.trials[0]))
    for trial, weights in rows:
        key = (*varying(trial).values(), *weights.items())
        groups.setdefault(key, []).append(trial.seed)
    table = Table(*names, *(f"{network} weights" for network in plan.weights[0]), "seeds")
    for key, seeds in groups.items():
        values, weights_of = key[: len(names)], key[len(names) :]
        table.add_row(*map(_plain, values), *(f"{count:,}" for _, count in weights_of), _seeds(seeds))
    console.print(table)


def show_status(layout: SweepLayout, as_json: bool) -> None:
    """Print how every trial of a sweep stands."""
    spec = load_spec(layout.spec)
    trials = sweep_trials(layout, spec)
    varying = _varying(spec, trials)
    holder = lock_holder(layout)
    rows = []
    for trial in trials:
        own = layout.trial(trial.id)
        outcome = trial_state(layout, trial.id)
        history = read_history(own.history)
        reached = int(history["step"][-1]) if "step" in history else 0
        shards = len(Samples(own).committed) if own.samples.exists() else 0
        state = outcome.status if outcome else ("unfinished" if own.root.exists() else "waiting")
        rows.append({"trial": trial.id, **varying(trial), "seed": trial.seed, "state": state, "step": reached,
                     "steps": trial.train.steps, "shards": shards,
                     "reason": (outcome.reason or "") if outcome else ""})  # fmt: skip
    counts = Counter(row["state"] for row in rows)
    waiting = len(spec.trials()) - len(rows)
    if as_json:
        click.echo(json.dumps({"name": spec.name, "running": holder, "states": counts, "trials": rows,
                               "not_yet_suggested": waiting}, indent=2))  # fmt: skip
        return
    console = Console(highlight=False)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    console.print(f"[bold]{spec.name}[/] in {layout.root}: {states}")
    console.print(f"running: {holder}" if holder else "nothing is running here now")
    if layout.results.exists():
        console.print(f"results: {layout.results}   report: {layout.report}")
    interesting = rows if len(rows) <= TABLE_ROWS else [row for row in rows if row["state"] in ("failed", "unfinished")]
    if not interesting:
        return
    names = list(varying(trials[0]))
    table = Table("trial", *names, "seed", "state", "step", "shards", "reason")
    for row in interesting[:TABLE_ROWS]:
        table.add_row(row["trial"], *(_plain(row.get(name)) for name in names), str(row["seed"]), row["state"],
                      f"{row['step']:,} of {row['steps']:,}", str(row["shards"]), row["reason"])  # fmt: skip
    console.print(table)
    if len(rows) > len(interesting[:TABLE_ROWS]):
        console.print(f"{len(rows) - len(interesting[:TABLE_ROWS])} more trials are not shown; --json shows all")


def show_results(layout: SweepLayout, as_json: bool = False) -> None:
    """Print the answer of a sweep, where its report is, and how to open its results."""
    from jobs.report import results_table  # late: plotting libraries

    results = results_table(layout)
    if as_json:
        rows = [dict(zip(results.columns, row, strict=True)) for row in results.rows]
        click.echo(json.dumps({"results": str(layout.results), "report": str(layout.report), "trials": rows}, indent=2))
        return
    console = Console(highlight=False)
    shown = results.rows[:TABLE_ROWS]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    # That all are completed goes without saying: the table then fits a terminal of 80 columns.
    told = [place for place, name in enumerate(results.columns)
            if name != "status" or {row[place] for row in results.rows} != {"completed"}]  # fmt: skip
    for place in told:
        table.add_column(results.columns[place].replace(" ", "\n"), no_wrap=True)
    for row in shown:
        table.add_row(*(str(row[place]) for place in told))
    console.print(table)
    if len(results.rows) > TABLE_ROWS:
        console.print(f"{len(results.rows) - TABLE_ROWS} more trials are in the report")
    for line in results.notes:
        console.print(line)
    console.print(f"\nReport: {layout.report}\n\nIn Python:\n", soft_wrap=True)
    console.print("  import xarray as xr", soft_wrap=True)
    console.print(f"  results = xr.open_zarr({str(layout.results)!r})", soft_wrap=True)
    console.print(
        '  print(results[["support_size", "fidelity_ratio"]].isel(snapshot=-1).to_dataframe())', soft_wrap=True
    )


def show_samples(answer: SampleAnswer, as_json: bool) -> None:
    """Print what a set of samples says."""
    content = answer.as_json()
    if as_json:
        click.echo(json.dumps(content, indent=2))
        return
    support = answer.support
    console = Console(highlight=False, soft_wrap=True)
    size_words = f"at least {support.low:,.0f}" if support.one_sided else f"{support.size:,.0f}"
    interval = "" if support.one_sided else f" ({support.low:,.0f} – {support.high:,.0f})"
    console.print(f"support size: [bold]{size_words}[/]{interval} distinct images, {support.confidence:.0%} confidence")
    console.print(
        f"  {support.duplicates:,} duplicates among {content['pairs_compared']:,} pairs of {support.samples:,} images"
    )
    console.print(f"  a duplicate is a pair at most {answer.threshold:.6g} apart ({answer.threshold_from})")
    if not support.one_sided:
        console.print(f"  half of all samples of {support.sample_size_at_half:,.0f} images hold a duplicate")
        console.print(
            f"  largest mode: {support.largest_mode_mass:.2%} of the images; nonuniformity {support.nonuniformity:.3g}"
        )
    if answer.real_support is None:
        console.print("  no fidelity figure: bad samples look diverse; give --reference PATH with real images")
        return
    real = answer.real_support
    real_words = f"at least {real.low:,.0f}" if real.one_sided else f"{real.size:,.0f}"
    console.print(f"  real images, measured the same way: {real_words}")
    console.print(f"  fidelity ratio {answer.fidelity:.2f} (1 is as near to the real images as held-out ones), "
                  f"precision {answer.precision:.1%}")  # fmt: skip


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _varying(spec: Spec, trials: Sequence[TrialSettings]) -> Callable[[TrialSettings], dict[str, Any]]:
    """The hyperparameters of a trial that vary over the sweep."""
    columns = spec.hyperparameters(trials)
    return lambda trial: {name: values[trial.id] for name, values in columns.items()}


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))
