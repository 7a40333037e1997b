"""The report of a sweep: one HTML file that needs nothing else.

Invariant: the page is a function of the sweep's files; a trial that failed, or whose images can't be read, leaves a gap
that says so and never a report that isn't written.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ganlab.pairs.content import content_order
from ganlab.quality.copying import SHOWN, Word
from ganlab.statistics.diversity import COLLAPSED_RATIO
from ganlab.statistics.support import Spread
from jobs.console.words import cost_words, counted, magnitude, value_words
from jobs.report.headline import times_words
from jobs.report.mosaics import Picture, mosaic, picture_of
from jobs.report.page import CopyShown, ModeShown, Pair, copies_shown, mode_picture, write_page
from jobs.report.sweep_table import sweep_results
from jobs.report.table import (
    CLASSES,
    FAULT_WORDS,
    Results,
    Row,
    Setting,
    Table,
    build_table,
    class_rows,
    number_words,
    table_headings,
)
from jobs.report.verdicts_section import verdicts_view
from jobs.spec.validation import read_mapping
from storage.layout import SweepLayout
from storage.reference import Reference, read_reference
from storage.samples import DamagedShardError, Samples
from storage.trial_state import NOT_ENDED, TrialState

SETTINGS_SHOWN = 24  # charts of more settings than this are too many to look at
GRID_BYTES = 900_000  # of all grids of samples, so that the page stays below about 3 MB
PAIR_BYTES = 350_000  # of all flagged pairs, and of all heavy modes
PAIRS_SHOWN = 480  # over all trials
GRID_COLUMNS = 20
MODES_SHOWN = 4  # of a trial
OPEN_TRIALS = 12  # of more trials the pairs are folded away
MADE = {
    "copies": "made copies of training images",
    "noise": "made samples with noise",
    "blur": "made blurred samples",
    "far": "made samples too far from the real images, where diversity has no meaning",
}
"""Trials that do not pass the quality gate, by their fault."""
NO_BREAK = "\u00a0–\u2060\u00a0"  # a dash alone would let the line break behind it
Item = TypeVar("Item")


@dataclass(frozen=True)
class Grid:
    """Samples of one trial."""

    row: Row
    picture: Picture | None
    images: int
    problem: str
    step: int


@dataclass(frozen=True)
class Pairs:
    """Flagged pairs of one trial, closest first; `left_out` more were flagged."""

    row: Row
    shown: list[Pair]
    left_out: int
    problem: str


@dataclass(frozen=True)
class Modes:
    """Heavy modes of one trial, largest first."""

    row: Row
    shown: list[ModeShown]
    problem: str


@dataclass(frozen=True)
class Copies:
    """Copies among the samples of a trial, or why they can't be shown."""

    row: Row
    shown: list[CopyShown]
    problem: str


def write_report(layout: SweepLayout) -> Path:
    """Write the report of a measured sweep, replacing an older one, and return its path.

    Raises
    ------
    SpecError
        If the sweep has no results yet.
    OSError
        If the disk is full, the folder is read-only, or the like; an older report stays.
    """
    from markupsafe import Markup

    from jobs.report.figures import collision_chart, support_chart, threshold_chart, training_chart

    results = sweep_results(layout)
    table = build_table(results)
    reference = _reference(layout)
    shown = _every_so_often(table.settings, SETTINGS_SHOWN)
    scored_pairs = "pair_distance_cdf" in results
    logged = set(results["trial"].values[np.isfinite(results["generator_loss"].values).any(axis=1)].tolist())
    charts = [
        (
            setting,
            Markup(collision_chart(table, setting.rows, results, str(place))),
            Markup(training_chart(table, setting.rows, results, str(place))),
            Markup(threshold_chart(setting.rows, table, results, str(place)) if scored_pairs else ""),
        )
        for place, setting in enumerate(shown)
        if any(row.snapshot is not None or row.trial in logged for row in setting.rows)
    ]
    measured = [row for row in table.trials if row.snapshot is not None]
    drawn = [row for row in table.trials if row.snapshot is not None or _drawn(layout, row)]
    grids = list(_grids(layout, drawn, reference))
    pictured = {grid.row.trial for grid in grids}
    real_grid = _real_grid(reference, max((grid.images for grid in grids), default=0))
    pairs = list(_pairs(layout, measured, results, reference))
    heavy = [row for row in measured if row.heavy_modes]
    modes = list(_modes(layout, heavy, results, reference))
    scored = sorted({row.values["scored_images"] for row in measured if "scored_images" in row.values})
    control = [] if table.real is None else [table.real]
    return write_page(
        "report.html.j2",
        layout.report,
        title=results.attrs.get("title", layout.root.name),
        answer=[sentence.replace(" – ", NO_BREAK) for sentence in answer(table)],
        table=table,
        layout=layout,
        support_charts=[Markup(support_chart(table, narrow, pictured)) for narrow in (False, True)],
        pictured=pictured,
        charts=charts,
        settings_left_out=len(table.settings) - len(shown),
        grids=grids,
        grids_left_out=len(drawn) - len(grids),
        real_grid=real_grid,
        pairs=pairs,
        pairs_left_out=len(measured) - len(pairs),
        open_pairs=len(pairs) <= OPEN_TRIALS,
        modes=modes,
        modes_left_out=len(heavy) - len(modes),
        open_modes=len(modes) <= OPEN_TRIALS,
        copies=list(_copies(layout, measured, results, reference)),
        fault_words=FAULT_WORDS,
        quality_headings=table_headings("quality"),
        quality_rows=[row.table_cells("quality") for row in [*measured, *control]],
        published_headings=table_headings("published"),
        published_rows=[row.table_cells("published") for row in measured],
        class_headings=CLASSES,
        cost=_cost(results),
        cost_headings=table_headings("cost"),
        cost_rows=[row.table_cells("cost") for row in table.trials],
        classes=[cells for row in measured for cells in class_rows(row, results)],
        scored_images=_listed([f"{count:,}" for count in scored]) if scored else "",
        accuracy=float(results.get("embedding_accuracy", np.nan)),
        training_accuracy=float(results.get("embedding_training_accuracy", np.nan)),
        attributes=results.attrs,
        verdicts=verdicts_view(layout, table, results, reference),
        chosen_by=results["threshold"].attrs.get("chosen_by", "not recorded"),
        provenance=_provenance(layout),
    )


def answer(table: Table) -> list[str]:
    """The answer in sentences, the main one first; before it, how far the sweep is while trials are still to end."""
    settings = [(setting, setting.spread) for setting in table.settings if setting.spread is not None]
    sentences = (_relative_sentences(table), _support_sentences(table, settings), _count_sentences(table))
    return [*_progress_sentences(table), *chain(*sentences), *_comparison_sentences(table)]


def _progress_sentences(table: Table) -> Iterator[str]:
    """How many trials have ended, and what the figures are of meanwhile."""
    counts = Counter(row.status for row in table.trials)
    if any(counts[state] for state in NOT_ENDED):
        states = ", ".join(f"{counts[state]:,} {state}" for state in TrialState if counts[state])
        measured = sum(row.snapshot is not None for row in table.trials)
        yield (
            f"Not the answer yet: of {counted(len(table.trials), 'trial')}, {states}. Measured so far: {measured:,}; a "
            "trial that has not ended is shown at its newest measured snapshot."
        )


def _relative_sentences(table: Table) -> Iterator[str]:
    """Sentences on the rate of duplicates against that of real images, over the trials that pass the gate."""
    ratios = [row.interval("diversity_ratio") for row in table.trials if row.counts]
    found = [ratio for ratio in ratios if ratio is not None and (ratio.low > 0 or not ratio.is_lower_bound)]
    if not found:
        return
    found.sort(key=lambda ratio: -ratio.value)
    ends = [f"{'at most ' * each.is_lower_bound}{times_words(each.value)}" for each in (found[0], found[-1])]
    alike = sum(each.low <= 1 <= each.high for each in found)
    ends = list(dict.fromkeys(ends))
    begin = "Over the trials, two" if len(ends) > 1 else "Two"
    sentence = f"{begin} generated images are duplicates {' to '.join(ends)} times as often as two real ones"
    if alike:
        shown = f"{'are' if alike > 1 else 'is'} no less diverse than the real images, as far as the samples show"
        sentence += f"; {alike} of {counted(len(found), 'trial')} {shown}"
    yield sentence + "."


def _support_sentences(table: Table, settings: list[tuple[Setting, Spread]]) -> Iterator[str]:
    if not settings:
        yield "Nothing can be said of the diversity: no trial both ran to its end and passed the quality gate."
    elif len(settings) <= 4:
        unit = [" images", *[""] * len(settings)]
        short = len(table.hyperparameters) == 1
        parts = [
            _spread_words(setting, each, unit[place]) + _at(setting, short and place > 0)
            for place, (setting, each) in enumerate(settings)
        ]
        yield f"Effective number (order 2): {_listed(parts)}."
    else:
        ordered = sorted(settings, key=lambda each: each[1].mean)
        least, most = ordered[0], ordered[-1]
        low, high = _spread_words(*least, " images") + _at(least[0]), _spread_words(*most) + _at(most[0])
        yield f"Over {len(settings)} settings the effective number (order 2) goes from {low} to {high}."
    real = table.real_support
    if table.real is None or real is None:
        return
    yield f"The {table.real.samples or 0:,} real images, measured in the same way, come to {real}."


def _count_sentences(table: Table) -> Iterator[str]:
    passing = sum(row.counts for row in table.trials)
    reasons = [
        (sum(row.status == "failed" for row in table.trials), "failed"),
        (sum(not row.ended for row in table.trials), "not ended yet"),
        (sum(row.status == TrialState.STOPPED for row in table.trials), "stopped early"),
        (sum(row.status == "completed" and row.support is None for row in table.trials), "could not be measured"),
        *(
            (sum(row.status == "completed" and row.fault == fault for row in table.trials), words)
            for fault, words in MADE.items()
        ),
    ]
    others = _listed([f"{count} {reason}" for count, reason in reasons if count])
    if not others:
        yield f"{'The trial' if passing == 1 else f'All {passing:,} trials'} passed the quality gate."
    else:
        trials = counted(len(table.trials), "trial")
        yield f"Of {trials}, {passing or 'none'} ran to the end and passed the quality gate; {others}."
    words = [row.values["copying"] for row in table.trials if row.values.get("copying")]
    copies = words.count(Word.COPIES)
    if copies:
        near = "lie as near to training images as copies, beyond what other real images do"
        yield f"Samples of {counted(copies, 'trial')} {near}."
    elif words.count(Word.NONE_SEEN) == len(words) > 0:
        seen = max(row.values["copied_share_seen"] for row in table.trials if row.values.get("copying"))
        from_on = f"from {number_words(seen, '.1%')} of the samples on"
        yield f"No sign of copying in any trial (exact copies would have been seen {from_on})."
    collapsed = sum(row.collapsed for row in table.trials)
    if collapsed:
        share = f"over {1 / COLLAPSED_RATIO:.0f} times as frequent as among the real images"
        yield f"{counted(collapsed, 'trial')} collapsed: duplicates are {share}."


def _comparison_sentences(table: Table) -> Iterator[str]:
    samples = sorted({row.samples for row in table.trials if row.samples is not None})
    if samples:
        pairs = sum(count * (count - 1) // 2 for count in (row.samples or 0 for row in table.trials))
        each = f"{samples[0]:,}" if len(samples) == 1 else f"{samples[0]:,} to {samples[-1]:,}"
        yield (
            f"All {magnitude(pairs)} pairs among the last {each} images of each trial were compared; two images at most "
            f"{table.threshold:.4g} apart are duplicates."
        )


def _spread_words(setting: Setting, spread: Spread, unit: str = "") -> str:
    """The geometric mean over seeds, and how far it can be trusted."""
    bound = "at least" if spread.one_sided else "about"
    if spread.seeds == 1:
        (support,) = (row.support for row in setting.rows if row.counts)
        assert support is not None
        interval = "" if spread.one_sided else f" ({magnitude(support.low)} – {magnitude(support.high)})"
        return f"{bound} {magnitude(spread.mean)}{unit}{interval}"
    if spread.seeds == 2 or spread.one_sided:
        how = f"{counted(spread.seeds, 'seed')}: {magnitude(spread.minimum)} to {magnitude(spread.maximum)}"
    else:
        how = f"{spread.seeds} seeds: {magnitude(spread.low)} – {magnitude(spread.high)}"
    return f"{bound} {magnitude(spread.mean)}{unit} ({how})"


def _at(setting: Setting, again: bool = False) -> str:
    """Where; `again`, the name of the one hyperparameter was said before."""
    if again:
        return f" at {', '.join(map(value_words, setting.settings.values()))}"
    return f" at {setting.label}" if setting.label else ""


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _grids(layout: SweepLayout, rows: Sequence[Row], reference: Reference | None) -> Iterator[Grid]:
    cost = _image_bytes(reference)
    counts = [count for count in (200, 160, 120, 100, 80, 60, 40, 20) if count * cost * len(rows) <= GRID_BYTES]
    count = counts[0] if counts else 20
    for row in _one_seed_first(rows, max(1, GRID_BYTES // (count * cost))):
        picture, problem, shown, step = None, "", 0, row.step or 0
        try:
            samples = Samples(layout.trial(row.trial))
            step, numbers = (step, samples.steps[step]) if row.ended and row.step else _newest(samples)
            images = samples.read(numbers.start, min(numbers.stop, numbers.start + count))
            picture, shown = picture_of(images, _columns(images.shape), 24), len(images)
        except KeyError:
            problem = f"the samples of step {step} are no longer here"
        except (ValueError, DamagedShardError) as error:
            problem = str(error)
        yield Grid(row, picture, shown, problem, step)


def _drawn(layout: SweepLayout, row: Row) -> bool:
    """True if samples of the trial are committed."""
    own = layout.trial(row.trial)
    return own.samples.exists() and any(Samples(own).begun.values())


def _newest(samples: Samples) -> tuple[int, range]:
    """Step and numbers of the last snapshot of which images are committed."""
    return max((step, numbers) for step, numbers in samples.begun.items() if numbers)


def _real_grid(reference: Reference | None, count: int) -> Picture | None:
    """Real images, drawn at random: neighbours may be of one writer or class."""
    if reference is None or not count:
        return None
    try:
        numbers = content_order(reference.read, reference.shape[0])[:count]
        return picture_of(reference.take(numbers), _columns(reference.shape), 24)
    except DamagedShardError:
        return None


def _pairs(layout: SweepLayout, rows: Sequence[Row], results: Results, reference: Reference | None) -> Iterator[Pairs]:
    cost = 4 * _image_bytes(reference)
    allowed = min(PAIR_BYTES // cost, PAIRS_SHOWN)
    count = next((count for count in (20, 12, 8, 4) if count * len(rows) <= allowed), 4)
    places = {str(trial): place for place, trial in enumerate(results["trial"].values)}
    for row in _one_seed_first(rows, max(1, allowed // count)):
        here = results.isel(trial=places[row.trial], snapshot=row.snapshot)
        flagged = int(np.isfinite(here["flagged_distance"].values).sum())
        try:
            shown = _trial_pairs(layout, row, here, min(count, flagged), reference)
            yield Pairs(row, shown, flagged - len(shown), "")
        except (ValueError, DamagedShardError) as error:
            yield Pairs(row, [], flagged, str(error))


def _modes(layout: SweepLayout, rows: Sequence[Row], results: Results, reference: Reference | None) -> Iterator[Modes]:
    places = {str(trial): place for place, trial in enumerate(results["trial"].values)}
    allowed = PAIR_BYTES // (8 * MODES_SHOWN * _image_bytes(reference))
    for row in _one_seed_first(rows, max(1, allowed)):
        here = results.isel(trial=places[row.trial], snapshot=row.snapshot)
        try:
            yield Modes(row, _trial_modes(layout, row, here, reference), "")
        except (ValueError, DamagedShardError) as error:
            yield Modes(row, [], str(error))


def _copies(
    layout: SweepLayout, rows: Sequence[Row], results: Results, reference: Reference | None
) -> Iterator[Copies]:
    """Copies of the trials that have some, beside the training images, as many as the page can hold."""
    if reference is None:
        return
    places = {str(trial): place for place, trial in enumerate(results["trial"].values)}
    copying = [row for row in rows if row.values.get("copying") == Word.COPIES]
    for row in _one_seed_first(copying, max(1, PAIR_BYTES // (2 * SHOWN * _image_bytes(reference)))):
        here = results.isel(trial=places[row.trial], snapshot=row.snapshot)
        try:
            yield Copies(row, copies_shown(here, reference.take, Samples(layout.trial(row.trial)).take), "")
        except (ValueError, DamagedShardError) as error:
            yield Copies(row, [], str(error))


def _trial_modes(layout: SweepLayout, row: Row, here: Results, reference: Reference | None) -> list[ModeShown]:
    samples = Samples(layout.trial(row.trial))
    shown = []
    for place in range(min(row.heavy_modes, MODES_SHOWN)):
        numbers = here["mode_index"].values[place]
        images = samples.take(numbers[np.isfinite(numbers)].astype(np.int64))
        if images.ndim != 4:
            raise ValueError("points have no picture of their own")
        real, distance = (_place(here, f"mode_reference_{name}", place) for name in ("index", "distance"))
        nearest = reference.take([int(real)])[0] if reference is not None and not math.isnan(real) else None
        mass, low, high = (_place(here, name, place) for name in ("mode_mass", "mode_mass_low", "mode_mass_high"))
        shown.append(
            ModeShown(
                mode_picture(list(images), nearest, len(numbers)),
                int(numbers[0]),
                int(here["mode_members"].values[place]),
                mass,
                low,
                high,
                None if nearest is None else distance,
                _among(here),
            )
        )
    return shown


def _trial_pairs(layout: SweepLayout, row: Row, here: Results, count: int, reference: Reference | None) -> list[Pair]:
    numbers = here["flagged_index"].values[:count].astype(np.int64)
    nearest = here["reference_index"].values[:count] if "reference_index" in here else np.full((count, 2), np.nan)
    images = Samples(layout.trial(row.trial)).take(numbers.ravel())
    if images.ndim != 4:
        raise ValueError("points have no picture of their own")
    tile = max(48, *images.shape[1:])
    verdicts = here["flagged_verdict"].values if "flagged_verdict" in here else [""] * count
    real: list[Any] = [None] * (2 * count)
    known = reference is not None and count > 0 and bool(np.isfinite(nearest).all())
    if reference is not None and known:
        real = list(reference.take(nearest.astype(np.int64).ravel()))
    pairs = []
    for place in range(count):
        both = slice(2 * place, 2 * place + 2)
        distance = float(here["flagged_distance"].values[place])
        first, second = here["reference_distance"].values[place].tolist() if known else (math.nan, math.nan)
        pairs.append(
            Pair(
                picture=mosaic([*images[both], *real[both]], 2, tile),
                distance=distance,
                reference_distance=(first, second),
                numbers=(int(numbers[place][0]), int(numbers[place][1])),
                duplicate=distance <= float(here["threshold"]),
                decided=str(verdicts[place]),
            )
        )
    return pairs


def _one_seed_first(rows: Sequence[Row], limit: int) -> list[Row]:
    """At most `limit` rows, in their order: a seed of every setting before a second one of any."""
    seen: dict[tuple[Any, ...], int] = {}
    turns = []
    for place, row in enumerate(rows):
        key = tuple(row.settings.values())
        seen[key] = seen.get(key, -1) + 1
        turns.append((seen[key], place))
    return [rows[place] for place in sorted(place for _, place in sorted(turns)[:limit])]


def _every_so_often(items: Sequence[Item], limit: int) -> Sequence[Item]:
    """At most `limit` items, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return items
    return [items[round(place * (len(items) - 1) / (limit - 1))] for place in range(limit)]


def _among(here: Results) -> int | None:
    """Samples that the heavy modes of a snapshot are of; None for all of them."""
    listed = float(here["listed_samples"])
    return None if listed == float(here["samples"]) else int(listed)


def _place(here: Results, name: str, place: int) -> float:
    """A value along a dimension; NaN where the statistic was not computed."""
    return float(here[name].values[place]) if name in here else math.nan


def _columns(shape: tuple[int, ...]) -> int:
    return GRID_COLUMNS if max(shape[1:]) <= 32 else GRID_COLUMNS // 2


def _image_bytes(reference: Reference | None) -> int:
    """About what one image adds to the page; small ones are enlarged, which PNG makes up for in part."""
    if reference is not None and len(reference.shape) == 2:
        return 4  # a dot
    channels, height, width = reference.shape[1:] if reference is not None else (1, 8, 8)
    return int(channels * height * width * (2 if max(height, width) <= 12 else 1)) + 30


def _reference(layout: SweepLayout) -> Reference | None:
    try:
        return read_reference(layout)
    except ValueError:
        return None


def _cost(results: Results) -> str:
    """GPU time and energy of all trials in words; empty where none held a GPU."""
    if "sweep_gpu_hours" not in results:
        return ""
    hours, energy = float(results["sweep_gpu_hours"]), float(results["sweep_gpu_energy"])
    return cost_words(None if math.isnan(hours) else hours, None if math.isnan(energy) else energy)


def _provenance(layout: SweepLayout) -> dict[str, str]:
    """Versions and commit that the sweep's own copy of its spec records."""
    if not layout.spec.is_file():
        return {}
    found = read_mapping(layout.spec, ["provenance"]).get("provenance")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
