"""The answers of a Dataset of results as rows of plain values, and as words.

Invariant: the terminal and the report say a number in the same words, because both take them from here; which table a
statistic stands in, and the form of its cells, is declared with it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganlab.statistics.diversity import collapsed
from ganlab.statistics.support import Estimate, Spread, spread
from jobs.console.words import MISSING, counted, energy_words, magnitude, to_digits, value_words
from storage.results import known_value
from storage.statistics import OF_TRIAL, STATISTICS, TRIAL, VARIABLES, Statistic
from storage.trial_state import NOT_ENDED

Results = Any  # an xarray.Dataset, whose type only storage may name
NOT_MEASURED = MISSING
WITHHELD = "withheld"  # in place of a number on the diversity of samples that do not pass the quality gate
ALWAYS_SHOWN = {"quality", "cost"}  # tables whose numbers say nothing of diversity
FAULT_WORDS = {
    "copies": "too many samples lie nearer to a training image than 99 % of held-out real images do",
    "noise": "the smoothest samples have more of the finest detail than the smoothest real images, as noise gives",
    "blur": "the samples have less than half of the fine detail of real images",
    "far": "too many samples lie too far from the real images",
}
"""Meaning of each fault of the quality gate (`quality_reason`)."""
CLASSES = ("trial", "class", "effective number", "real images", "samples", "duplicates", "largest mode", "uniform")
_NOT_HYPERPARAMETERS = {"trial", "family", "seed", "status", "reason"}


@dataclass(frozen=True)
class Interval:
    """A number with its interval; it is a lower bound where the interval has no upper end."""

    value: float
    low: float
    high: float

    @property
    def is_lower_bound(self) -> bool:
        """True if `value` is a lower bound, and `high` infinite."""
        return math.isinf(self.high)

    def words(self, form: str) -> str:
        """The number and its interval, each in a form as of `number_words`."""
        if self.is_lower_bound:
            return f"≥ {number_words(self.low, form)}"
        return f"{number_words(self.value, form)} ({number_words(self.low, form)} – {number_words(self.high, form)})"

    def __str__(self) -> str:
        return self.words("images")


@dataclass(frozen=True)
class Row:
    """One trial, with the numbers of its last measured snapshot.

    Attributes
    ----------
    settings : mapping
        The hyperparameters that vary over the sweep; the family first, where it varies.
    seed : int or None
        None of samples that no trial made.
    weights : mapping
        Trained parameters of each network.
    snapshot, step : int or None
        Place and generator step of the snapshot; None when none is measured.
    values : mapping
        Every statistic of the snapshot that has one value, and those of the trial as a whole, by name; those that are
        missing are left out.
    told_by : tuple of str
        The hyperparameters that tell the trial from others: where the family varies, it and what varies within it.
    """

    trial: str
    settings: Mapping[str, Any]
    seed: int | None
    status: str
    reason: str
    weights: Mapping[str, int]
    snapshot: int | None
    step: int | None
    values: Mapping[str, Any]
    told_by: tuple[str, ...] = ()

    def interval(self, name: str) -> Interval | None:
        """A statistic with its interval; None when it is missing."""
        ends = [f"{name}{end}" for end in ("", "_low", "_high")]
        return Interval(*(self.values[end] for end in ends)) if all(end in self.values for end in ends) else None

    @property
    def support(self) -> Interval | None:
        """Effective number of images (order 2)."""
        return self.interval("support_size")

    @property
    def matched_support(self) -> Interval | None:
        """Effective number at the fidelity ratio at which trials are compared; None where the trial never reaches it."""
        return self.interval("support_size_matched")

    @property
    def samples(self) -> int | None:
        """Images of the snapshot."""
        return self.values.get("samples")

    @property
    def fidelity_ratio(self) -> float | None:
        """Distance to the real images against that of real ones."""
        return self.values.get("fidelity_ratio")

    @property
    def heavy_modes(self) -> int:
        """Number of heavy modes."""
        return int(self.values.get("heavy_mode_count", 0))

    @property
    def passes_gate(self) -> bool:
        """True if the samples pass the quality gate, or there are no real images to compare them with."""
        return self.snapshot is not None and bool(self.values.get("passes_quality_gate", self.seed is None))

    @property
    def fault(self) -> str | None:
        """Fault for which the samples do not pass the quality gate; None where they do, or are not measured."""
        if self.passes_gate or "passes_quality_gate" not in self.values:
            return None
        return self.values.get("quality_reason") or "far"  # the only one of version 0.1.0, which names none

    @property
    def ended(self) -> bool:
        """True unless the trial is still to be trained, or to its end."""
        return self.status not in NOT_ENDED

    @property
    def counts(self) -> bool:
        """True if the row counts for its setting: it ran to its end, and its samples pass the quality gate."""
        return self.status == "completed" and self.passes_gate and self.support is not None

    @property
    def collapsed(self) -> bool:
        """True if the generator has collapsed (`ganlab.statistics.diversity`).

        False without real images, and where blur makes duplicates of different images.
        """
        return self.fault != "blur" and collapsed(self.values.get("diversity_ratio_high", math.nan))

    @property
    def label(self) -> str:
        """The trial in words: ``discriminator width 8, seed 1``."""
        if self.seed is None:
            return self.trial
        return ", ".join([*(pair for pair in [self.setting_label] if pair), f"seed {self.seed}"])

    @property
    def setting_label(self) -> str:
        """The setting in words; empty in a sweep where nothing varies."""
        return setting_label({name: self.settings[name] for name in self.told_by})

    @property
    def gate_words(self) -> str:
        """Result of the quality gate, or the reason for its absence."""
        if self.status == "failed":
            return f"failed: {self.reason or 'no reason recorded'}"
        if self.support is None:
            return "not measured"
        ending = "" if self.status == "completed" else f", {self.status} at step {self.step:,}"
        return (
            (f"not passed: {self.fault}" if self.fault else "passed")
            + (", collapsed" if self.collapsed else "")
            + ending
        )

    @property
    def support_words(self) -> str:
        """The effective number, unless the samples do not pass the quality gate."""
        return self.cell(_BY_NAME["support_size"])

    def cell(self, statistic: Statistic) -> str:
        """A statistic in words; numbers on diversity are withheld where the quality gate is not passed."""
        value = self.interval(statistic.name) if statistic.interval else self.values.get(statistic.name)
        if value is None:
            return NOT_MEASURED
        if not ALWAYS_SHOWN & set(statistic.tables) and not self.passes_gate:
            return WITHHELD
        return value.words(statistic.form) if isinstance(value, Interval) else number_words(value, statistic.form)

    def cells(self, full: bool = False) -> list[str]:
        """The row in words, under `Table.headings`."""
        short = [
            *(value_words(value) for value in self.settings.values()),
            str(self.seed),
            self.status,
            *(self.cell(statistic) for statistic in in_table("diversity")),
            self.cell(_BY_NAME["fidelity_ratio"]),
            self.gate_words,
        ]
        more = (("largest_mode_mass", ".2%"), ("duplicates", ",.0f"), ("samples", ",.0f"))
        counts = [number_words(self.values[name], form) if name in self.values else NOT_MEASURED for name, form in more]
        step = NOT_MEASURED if self.step is None else f"{self.step:,}"
        return [*short, *counts, step, self.trial] if full else short

    def table_cells(self, table: str) -> list[str]:
        """The row of another table, under `table_headings`."""
        return [self.label, *(self.cell(statistic) for statistic in in_table(table))]


@dataclass(frozen=True)
class Setting:
    """The trials that differ by their seed alone."""

    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    spread: Spread | None
    """Spread of the rows that count; None if there is none."""

    @property
    def label(self) -> str:
        """The setting in words; empty in a sweep where nothing varies."""
        return self.rows[0].setting_label

    def cell(self, statistic: Statistic) -> str:
        """A statistic in words: of one trial as it is, of several the smallest and the largest of those that count."""
        rows = [row for row in self.rows if row.counts] or self.rows
        known = sorted(
            (row for row in rows if statistic.name in row.values), key=lambda row: row.values[statistic.name]
        )
        first = (known or self.rows)[0].cell(statistic)
        if len(known) < 2 or first == WITHHELD:
            return first
        return " to ".join(dict.fromkeys(row.cell(statistic).partition(" (")[0] for row in (known[0], known[-1])))


@dataclass(frozen=True)
class Table:
    """Every trial of a sweep.

    Attributes
    ----------
    hyperparameters : tuple of str
        Names of what varies over the sweep.
    trials : tuple of Row
        In the order of the sweep.
    real : Row or None
        The real images, by the same names; None when none were measured.
    threshold : float
        Distance up to which a pair is a duplicate.
    confidence : float
        Level of every interval.
    gate : float
        Largest fidelity ratio that passes the quality gate.
    matched_fidelity : float or None
        Fidelity ratio at which trials are compared; None if no two trials reach one.
    """

    hyperparameters: tuple[str, ...]
    trials: tuple[Row, ...]
    real: Row | None
    threshold: float
    confidence: float
    gate: float
    matched_fidelity: float | None = None

    @property
    def real_support(self) -> Interval | None:
        """Effective number of the real images."""
        return None if self.real is None else self.real.support

    def headings(self, full: bool = False) -> list[str]:
        """Heads of the columns of `Row.cells`."""
        diversity = [statistic.heading for statistic in in_table("diversity")]
        short = [*map(spaced, self.hyperparameters), "seed", "status", *diversity, "fidelity ratio", "quality gate"]
        return [*short, "largest mode", "duplicates", "samples", "step", "trial"] if full else short

    @property
    def setting_headings(self) -> list[str]:
        """Heads of the columns of `setting_rows`."""
        diversity = [statistic.heading for statistic in in_table("diversity")]
        return [*map(spaced, self.hyperparameters), *diversity, "fidelity ratio", "pass the gate"]

    @property
    def setting_rows(self) -> list[list[str]]:
        """Every setting in words: one trial as it is, several by their smallest and largest values."""
        statistics = [*in_table("diversity"), _BY_NAME["fidelity_ratio"]]
        return [
            [
                *map(value_words, each.settings.values()),
                *(each.cell(statistic) for statistic in statistics),
                f"{sum(row.passes_gate and row.support is not None for row in each.rows)} of {len(each.rows)}",
            ]
            for each in self.settings
        ]

    @property
    def columns(self) -> list[str]:
        """Heads of the columns of `rows`; the first `keys` of them say which trial it is."""
        return self.headings()

    @property
    def keys(self) -> int:
        """How many columns say which trial a row is of: hyperparameters and seed."""
        return len(self.hyperparameters) + 1

    @property
    def rows(self) -> list[list[str]]:
        """Every trial in words."""
        return [row.cells() for row in self.trials]

    @property
    def notes(self) -> list[str]:
        """Numbers for comparison, one sentence each."""
        notes = []
        if self.real is not None:
            notes.append(
                f"The {self.real.samples or 0:,} real images, measured the same way: effective number "
                f"{self.real_support}."
            )
        notes.append(
            f"Effective number: 1 over the chance that two images are duplicates, with the {self.confidence:.0%} "
            f"interval; a duplicate is a pair at most {self.threshold:.4g} apart."
        )
        found = {row.fault for row in self.trials if row.support is not None}
        if faults := [f"{fault}: {words}" for fault, words in FAULT_WORDS.items() if fault in found]:
            notes.append(f"Withheld where the quality gate is not passed ({'; '.join(faults)}).")
        in_part = sum(row.values.get("listed_samples") != row.samples for row in self.trials)
        if in_part:
            notes.append(
                f"Heavy modes, classes, collision frequencies and the realistic support of "
                f"{counted(in_part, 'trial')} are of the first samples (listed_samples says how many): duplicates "
                "are too many to list."
            )
        return notes

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The trials by setting, in the order of the sweep."""
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.trials:
            groups.setdefault(tuple(row.settings.values()), []).append(row)
        return tuple(Setting(rows[0].settings, tuple(rows), self.spread(rows)) for rows in groups.values())

    @property
    def unmatched(self) -> tuple[Row, ...]:
        """Measured trials that never reach the fidelity ratio at which trials are compared."""
        if self.matched_fidelity is None:
            return ()
        return tuple(row for row in self.trials if row.support is not None and row.matched_support is None)

    def spread(self, rows: Iterable[Row]) -> Spread | None:
        """The spread over seeds of the rows that count."""
        estimates = [_estimate(row, self.confidence) for row in rows if row.counts]
        return spread(estimates, self.confidence) if estimates else None


def in_table(table: str) -> Iterator[Statistic]:
    """Statistics of a table, in its order."""
    return (statistic for statistic in STATISTICS if table in statistic.tables)


def table_headings(table: str) -> list[str]:
    """Heads of the columns of `Row.table_cells`."""
    return ["", *(statistic.heading for statistic in in_table(table))]


def class_rows(row: Row, results: Results) -> list[list[str]]:
    """The classes of a trial's last snapshot in words, under `CLASSES`; empty without labels."""
    if row.snapshot is None or "class_samples" not in results:
        return []
    here = results.sel(trial=row.trial).isel(snapshot=row.snapshot)
    rows = []
    for place, label in enumerate(results["class"].values.tolist()):
        each = here.isel({"class": place})
        if math.isnan(float(each["class_samples"])):
            continue
        rows.append(
            [
                row.label,
                str(label),
                _class_words(each, "class_support_size") if row.passes_gate else WITHHELD,
                _class_words(each, "real_class_support_size"),
                f"{float(each['class_samples']):,.0f}",
                f"{float(each['class_duplicates']):,.0f}",
                number_words(float(each["class_largest_mode_mass"]), ".2%"),
                "no: a few images hold much" if each["class_nonuniform"] else "yes",
            ]
        )
    return rows


def _class_words(here: Results, name: str) -> str:
    """The effective number of one class, with its interval."""
    if name not in here or math.isnan(float(here[name])):
        return NOT_MEASURED
    return str(Interval(*(float(here[f"{name}{end}"]) for end in ("", "_low", "_high"))))


def build_table(results: Results) -> Table:
    """Make the table of a results Dataset."""
    results = results.load()
    names = [
        str(name)
        for name, coordinate in results.coords.items()
        if coordinate.dims == ("trial",) and name not in _NOT_HYPERPARAMETERS and not str(name).endswith("_weights")
    ]
    if len(set(results["family"].values.tolist())) > 1:
        names.insert(0, "family")
    told_by = {str(family): _told_by(results, names, family) for family in set(results["family"].values.tolist())}
    return Table(
        hyperparameters=tuple(names),
        trials=tuple(
            _row(results, place, names, told_by[str(family)]) for place, family in enumerate(results["family"].values)
        ),
        real=_real_row(results),
        threshold=float(results["threshold"]),
        confidence=float(results.attrs.get("confidence", 0.95)),
        gate=float(results.attrs.get("fidelity_gate", math.nan)),
        matched_fidelity=float(results["matched_fidelity"]) if "matched_fidelity" in results else None,
    )


def _told_by(results: Results, names: Sequence[str], family: str) -> tuple[str, ...]:
    """The hyperparameters that tell trials of a family apart from all others."""
    if "family" not in names:
        return tuple(names)
    own = results.isel(trial=results["family"].values == family)
    return tuple(name for name in names if name == "family" or len(set(map(str, own[name].values))) > 1)


def number_words(value: float, form: str) -> str:
    """A number in the form that is declared with its statistic.

    With more digits where it would read as 0, or a share as 100 %, without being that.
    """
    if form == "images":
        return magnitude(value)
    if form == "ratio":
        return ratio_words(value)
    if form == "squared":
        return squared_words(value)
    if form == "energy":
        return energy_words(value) if math.isfinite(value) else NOT_MEASURED
    if form == "yes":
        return "yes" if value else "no"
    if not math.isfinite(value):
        return NOT_MEASURED
    start, _, kind = form.partition(".")
    for digits in range(int(kind[:-1]), 13):
        words = format(value, f"{start}.{digits}{kind[-1]}")
        shown = float(words.rstrip("%").replace(",", ""))
        if (shown or not value) and (shown != 100 or value == 1 or kind[-1] != "%"):
            break
    return words


def ratio_words(value: float) -> str:
    """A ratio to two digits, or to as many as tell it from 1, never in powers of ten: 0.0012, 0.17, 1.02, 22, 1.5k."""
    if not value < 9.95:
        return magnitude(value)
    digits = 2
    while value != 1 and float(f"{value:.{digits}g}") == 1:
        digits += 1
    return f"{value:.0f}" if value in (0, 1) else to_digits(value, digits)


def squared_words(value: float) -> str:
    """A squared distance to four digits, never in powers of ten."""
    if not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def spaced(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


def setting_label(settings: Mapping[str, Any]) -> str:
    """Hyperparameters in words, those that apply: ``discriminator width 8, loss log``."""
    words = {name: value_words(value) for name, value in settings.items()}
    return ", ".join(f"{spaced(name)} {value}" for name, value in words.items() if value != MISSING)


_BY_NAME = {statistic.name: statistic for statistic in STATISTICS}


def scalar(values: Any, name: str) -> Any:
    """One value as plain data: a count as int; None when it is missing."""
    value = np.asarray(values).item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return int(value) if VARIABLES[name].kind == "int64" else value


def of_trial(results: Results) -> list[str]:
    """Statistics there that have one value for each trial."""
    return [name for name, about in VARIABLES.items() if about.dims == OF_TRIAL and name in results]


def _row(results: Results, trial: int, names: Sequence[str], told_by: tuple[str, ...]) -> Row:
    """The row of one trial, by its place."""
    # Bare arrays: to select a trial from a Dataset of hundreds of variables takes longer than all charts of it.
    arrays = {str(name): variable.values for name, variable in results.variables.items()}
    counts = arrays["samples"][trial] if "samples" in arrays else []
    measured = [place for place, count in enumerate(counts) if not math.isnan(count)]
    place = measured[-1] if measured else None
    alone = [name for name, about in VARIABLES.items() if about.dims == TRIAL and name in arrays]
    values = {} if place is None else {name: scalar(arrays[name][trial, place], name) for name in alone}
    values |= {name: scalar(arrays[name][trial], name) for name in of_trial(results)}
    return Row(
        trial=str(arrays["trial"][trial]),
        settings={name: known_value(arrays[name].item(trial)) for name in names},
        seed=int(arrays["seed"][trial]) if "seed" in arrays else None,
        status=str(arrays["status"][trial]),
        reason=str(arrays["reason"][trial]) if "reason" in arrays else "",
        weights={
            name.removesuffix("_weights"): int(array[trial])
            for name, array in arrays.items()
            if name.endswith("_weights")
        },
        snapshot=place,
        step=None if place is None else int(arrays["step"][place]),
        values={name: value for name, value in values.items() if value is not None},
        told_by=told_by,
    )


def _real_row(results: Results) -> Row | None:
    """The real images, by the names of the samples' statistics."""
    alone = [name for name in VARIABLES if name.startswith("real_") and name in results and not results[name].dims]
    values = {name.removeprefix("real_"): scalar(results[name], name) for name in alone}
    if values.get("samples") is None:
        return None
    known = {name: value for name, value in values.items() if value is not None}
    return Row("real images", {}, None, "completed", "", {}, 0, 0, known)


def _estimate(row: Row, confidence: float) -> Estimate:
    """Counts behind the row's interval, as far as the spread over seeds needs them."""
    support = row.support
    assert support is not None
    return Estimate(
        samples=row.values["samples"],
        duplicates=row.values["duplicates"],
        confidence=confidence,
        p2=0.0 if support.is_lower_bound else 1 / support.value,
        p2_low=1 / support.high,
        p2_high=1 / support.low,
        p2_high_by_variance=1 / support.low,
        p3=math.nan,
        largest_mode_mass=math.nan,
        size_without_largest_mode=math.nan,
    )
