"""Output of commands on stdout: tables for people, JSON for programs.

Invariant: shows what the files say; computes nothing new.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from jobs.console.progress import text_console
from jobs.console.tables import print_table
from jobs.console.words import TABLE_ROWS, counted, duration, size, value_words
from storage.layout import SweepLayout

if TYPE_CHECKING:  # `ganlab status` prints by this module, and needs none of them
    from jobs.cli.submit import Held
    from jobs.measuring.sample_answer import SampleAnswer
    from jobs.spec.sweep import Spec, TrialSettings
    from jobs.training.plan import Plan

LONGEST_CELL = 32  # characters


def show_plan(
    spec: "Spec",
    plan: "Plan",
    as_json: bool,
    scripts: Mapping[str, str] | None = None,
    held: "Held | None" = None,
) -> None:
    """Print a plan: totals, then one row for each distinct set of networks.

    On SLURM then what its jobs are `held` for, and the submission `scripts`.
    """
    varying = varying_values(spec, plan.trials)
    rows = [(trial, weights) for trial, weights in zip(plan.trials, plan.weights, strict=True)]
    if as_json:
        trials = [{"id": trial.id, "seed": trial.seed, **varying(trial), "weights": weights} for trial, weights in rows]
        click.echo(
            json.dumps(
                {
                    "name": spec.name,
                    "trials": trials,
                    "shards": plan.shards,
                    "samples": plan.samples,
                    "sample_bytes": plan.sample_bytes,
                    "pairs": plan.pairs,
                    "training_seconds": plan.seconds,
                    "concurrent_trials": plan.concurrency,
                    **({"held": asdict(held)} if held else {}),
                    **({"scripts": dict(scripts)} if scripts else {}),
                },
                indent=2,
            )
        )
        return
    console = text_console()
    where = "on SLURM" if scripts else "here"
    totals = f": {counted(len(plan.trials), 'trial')}, {plan.concurrency:,} at a time {where}"
    console.print(Text.assemble((spec.name, "bold"), totals))
    facts = [
        ("shards", f"{plan.shards:,}"),
        ("images to store", f"{plan.samples:,} ({size(plan.sample_bytes)})"),
        ("pairs to compare", f"{plan.pairs:,}"),
        ("training time", "not timed" if plan.seconds is None else f"about {duration(plan.seconds)} on this CPU"),
    ]
    if held is not None:
        facts.append(("jobs hold", held.words))
    for name, value in facts:
        console.print(f"  {name:<18} {value}", soft_wrap=True)
    groups: dict[tuple[tuple[str, ...], tuple[tuple[str, int], ...]], list[int]] = {}
    names = list(varying(plan.trials[0]))
    for trial, weights in rows:
        key = tuple(map(value_words, varying(trial).values())), tuple(weights.items())
        groups.setdefault(key, []).append(trial.seed)
    networks = list(dict.fromkeys(network for weights in plan.weights for network in weights))
    headings = [*(name.replace("_", " ") for name in names), *(f"{network} weights" for network in networks), "seeds"]
    cells = []
    for (values, known), seeds in groups.items():
        weights_of = dict(known)
        counts = (value_words(weights_of.get(network)) for network in networks)
        cells.append([*values, *counts, _seeds(seeds)])
    print_table(console, headings, cells, len(names))
    for title, text in (scripts or {}).items():
        click.echo(f"\n# ---- {title}: sbatch\n{text.strip()}")


def show_results(layout: SweepLayout, as_json: bool = False) -> None:
    """Print the answer of a sweep, where its report is, and how to open its results."""
    from jobs.report.sweep_table import results_table  # late: xarray

    results = results_table(layout)
    if as_json:
        from jobs.report.results_json import results_json
        from storage.results import open_results

        content = results_json(open_results(layout), results)
        click.echo(json.dumps({"results": str(layout.results), "report": str(layout.report), **content}, indent=2))
        return
    console = text_console()
    # That all are completed goes without saying.
    told = [
        place
        for place, name in enumerate(results.columns)
        if name != "status" or {row[place] for row in results.rows} != {"completed"}
    ]
    rows = [[_cut(row[place]) for place in told] for row in results.rows]
    print_table(console, [results.columns[place] for place in told], rows[:TABLE_ROWS], results.keys)
    if more := len(rows[TABLE_ROWS:]):
        console.print(f"{counted(more, 'more trial')} {'is' if more == 1 else 'are'} in the report")
    for line in results.notes:
        console.print(line)
    console.print(f"\nReport: {layout.report}\n\nIn Python:\n", soft_wrap=True)
    console.print("  import xarray as xr", soft_wrap=True)
    console.print(f"  results = xr.open_zarr({str(layout.results)!r}, chunks=None)", soft_wrap=True)
    console.print('  shown = results[["diversity_ratio", "support_size"]]', soft_wrap=True)
    console.print("  shown = shown.where(results.passes_quality_gate)", soft_wrap=True)
    console.print("  print(shown.isel(snapshot=-1).to_dataframe())", soft_wrap=True)


def show_samples(answer: "SampleAnswer", as_json: bool, page: Path | None = None) -> None:
    """Print what a set of samples says, and where its report is."""
    if as_json:
        from jobs.report.results_json import samples_json

        click.echo(json.dumps(samples_json(answer) | ({} if page is None else {"report": str(page)}), indent=2))
        return
    console = text_console()
    for line in sample_lines(answer):
        console.print(line)
    if page is not None:
        console.print(f"\nReport: {page}", soft_wrap=True)


def sample_lines(answer: "SampleAnswer") -> Iterator[str]:
    """The headline of a set of samples, and the numbers that stand behind it."""
    from jobs.report.headline import headline
    from jobs.report.table import NOT_MEASURED, WITHHELD, build_table, table_headings

    results = answer.results
    table = build_table(results)
    row = table.trials[0]
    for note in answer.notes:
        yield f"note: {note.text}"
    yield from headline(row, table, results.isel(trial=0, snapshot=0))
    yield ""
    yield (
        f"{counted(row.values['duplicates'], 'duplicate')} among {counted(row.values['pairs_compared'], 'pair')} of "
        f"{row.samples:,} images;"
        f" a duplicate is a pair at most {answer.threshold:.6g} apart in {answer.space.name} ({answer.chosen.chosen_by})"
    )
    yield f"Read {answer.samples.read}"
    if answer.reference is not None:
        yield f"Read {answer.reference.read}"
    if answer.space.embedding is not None:
        yield f"{answer.space.name}: {answer.space.about}"
    if answer.space.classifier is not None:
        yield f"The classifier is right about {answer.space.classifier.held_out_accuracy:.1%} of held-out real images"
    for name in ("quality", "published"):
        words = [
            f"{heading} {cell}"
            for heading, cell in zip(table_headings(name), row.table_cells(name), strict=True)
            if heading and cell not in (NOT_MEASURED, WITHHELD)
        ]
        if words:
            yield f"{name.capitalize()}: {', '.join(words)}"


def varying_values(spec: "Spec", trials: "Sequence[TrialSettings]") -> "Callable[[TrialSettings], dict[str, Any]]":
    """The hyperparameters of a trial that vary over the sweep."""
    columns = spec.hyperparameters(trials)
    families = {trial.id: trial.model.family for trial in trials}
    if len(set(families.values())) > 1:
        columns = {"family": families, **columns}
    return lambda trial: {name: values[trial.id] for name, values in columns.items()}


def _cut(cell: str) -> str:
    """A cell that leaves room for the others: the reason of a failure may be long, and is told in full elsewhere."""
    return cell if len(cell) <= LONGEST_CELL else cell[: LONGEST_CELL - 1] + "…"


def _seeds(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))
