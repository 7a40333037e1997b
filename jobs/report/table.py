"""The answers of a sweep as rows of plain values, and the words for them.

Invariant: the terminal and the report say a number in the same words, because both take them from here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ganlab.support import Estimate, Spread, spread

Results = Any  # an xarray.Dataset, whose type only storage may name
NOT_MEASURED = "–"
COLLAPSED = 0.1  # share of the samples in one mode from which a trial is called collapsed
AGAINST_REAL = (
    "trial",
    "fidelity ratio",
    "realistic",
    "precision",
    "recall",
    "density",
    "coverage",
    "Fréchet distance",
)
PUBLISHED_FORMS = ("trial", "sample size s at ½", "s²", "s² / (2 ln 2)", "theorem's bound", "bound holds", "support size",
                   "without heavy modes")  # fmt: skip
_NOT_HYPERPARAMETERS = {"trial", "family", "seed", "status", "reason"}


@dataclass(frozen=True)
class Measured:
    """A number of images with its interval; `one_sided` says that `value` is a lower bound and `high` infinite."""

    value: float
    low: float
    high: float
    one_sided: bool = False

    def __str__(self) -> str:
        if self.one_sided:
            return f"≥ {magnitude(self.value)}"
        return f"{magnitude(self.value)} ({magnitude(self.low)} – {magnitude(self.high)})"


@dataclass(frozen=True)
class Row:
    """One trial, with the numbers of its last measured snapshot; None stands for what was not measured.

    Attributes
    ----------
    settings : mapping
        The hyperparameters that vary over the sweep; the family first, where it varies.
    weights : mapping
        Trained parameters of each network.
    snapshot, step : int
        Place and generator step of the snapshot.
    """

    trial: str
    settings: Mapping[str, Any]
    seed: int
    status: str
    reason: str
    weights: Mapping[str, int]
    snapshot: int | None
    step: int | None
    samples: int | None
    duplicates: int | None
    listed_samples: int | None
    support: Measured | None
    realistic_support: Measured | None
    sample_size_at_half: Measured | None
    fidelity_ratio: float | None
    realistic_share: float | None
    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None
    frechet_distance: float | None
    largest_mode_mass: float | None
    heavy_modes: int | None
    support_without_modes: Measured | None
    published_support: float | None
    corrected_support: float | None
    theorem_bound: float | None
    theorem_applies: bool
    gate_passed: bool

    @property
    def counts(self) -> bool:
        """Whether the row stands for its setting: it ran to its end, and its samples are realistic enough."""
        return self.status == "completed" and self.gate_passed and self.support is not None

    @property
    def label(self) -> str:
        """The trial in words: ``discriminator width 8, seed 1``."""
        return ", ".join([*(pair for pair in [setting_label(self.settings)] if pair), f"seed {self.seed}"])

    @property
    def verdict(self) -> str:
        """Whether the support may be believed, or why there is none."""
        if self.status == "failed":
            return f"failed: {self.reason or 'no reason recorded'}"
        if self.support is None:
            return "not measured"
        ending = "" if self.status == "completed" else f", {self.status} at step {self.step:,}"
        collapse = self.largest_mode_mass is not None and self.largest_mode_mass >= COLLAPSED
        return ("yes" if self.gate_passed else "no verdict") + (", collapsed" if collapse else "") + ending

    @property
    def support_words(self) -> str:
        """The support size, unless the samples are too far from the real images for one."""
        return self._believed(self.support)

    def cells(self, full: bool = False) -> list[str]:
        """The row in words, under `Table.headings`."""
        short = [
            *(value_words(value) for value in self.settings.values()),
            str(self.seed),
            self.status,
            self.support_words,
            self._believed(self.sample_size_at_half),
            _words(self.fidelity_ratio, "{:.2f}"),
            self.verdict,
        ]
        if not full:
            return short
        more = [
            self._believed(self.realistic_support),
            _words(self.largest_mode_mass, "{:.2%}"),
            _words(self.duplicates, "{:,}"),
            _words(self.samples, "{:,}"),
            _words(self.step, "{:,}"),
            self.trial,
        ]
        return [*short, *more]

    def against_real(self) -> list[str]:
        """How the samples lie among the real images, in words, under `AGAINST_REAL`."""
        shares = (self.realistic_share, self.precision, self.recall)
        return [
            self.label,
            _words(self.fidelity_ratio, "{:.2f}"),
            *(_words(share, "{:.1%}") for share in shares),
            _words(self.density, "{:.2f}"),
            _words(self.coverage, "{:.1%}"),
            NOT_MEASURED if self.frechet_distance is None else squared_words(self.frechet_distance),
        ]

    def published_forms(self) -> list[str]:
        """The support in the forms that were published, in words, under `PUBLISHED_FORMS`."""
        forms = (self.published_support, self.corrected_support, self.theorem_bound)
        heavy = self.heavy_modes or 0
        return [
            self.label,
            self._believed(self.sample_size_at_half),
            *(NOT_MEASURED if value is None else magnitude(value) for value in forms),
            NOT_MEASURED if self.published_support is None else "yes" if self.theorem_applies else
            f"no: {heavy} heavy mode{'s' if heavy > 1 else ''}",
            self._believed(self.support),
            self._believed(self.support_without_modes) if heavy else "the same",
        ]  # fmt: skip

    def _believed(self, measured: Measured | None) -> str:
        if measured is None:
            return NOT_MEASURED
        return str(measured) if self.gate_passed else "no verdict"


@dataclass(frozen=True)
class Setting:
    """The trials that differ by their seed alone."""

    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    spread: Spread | None
    """Of the rows that count; None when there is none."""

    @property
    def label(self) -> str:
        """The setting in words; of a sweep where nothing varies, nothing."""
        return setting_label(self.settings)


@dataclass(frozen=True)
class Table:
    """Every trial of a sweep.

    Attributes
    ----------
    hyperparameters : tuple of str
        Names of what varies over the sweep.
    trials : tuple of Row
        In the order of the sweep.
    real : Measured or None
        Support of the `real_samples` real images, at the same threshold.
    threshold : float
        Distance up to which a pair is a duplicate.
    confidence : float
        Level of every interval.
    gate : float
        Fidelity ratio above which there is no verdict.
    """

    hyperparameters: tuple[str, ...]
    trials: tuple[Row, ...]
    real: Measured | None
    real_samples: int
    threshold: float
    confidence: float
    gate: float

    def headings(self, full: bool = False) -> list[str]:
        """Heads of the columns of `Row.cells`."""
        short = [*(spaced(name) for name in self.hyperparameters), "seed", "status", "support size",
                 "sample size at ½", "fidelity ratio", "verdict"]  # fmt: skip
        more = ["support, realistic only", "largest mode", "duplicates", "samples", "step", "trial"]
        return [*short, *more] if full else short

    @property
    def columns(self) -> list[str]:
        """Heads of the columns of `rows`."""
        return self.headings()

    @property
    def rows(self) -> list[list[str]]:
        """Every trial in words."""
        return [row.cells() for row in self.trials]

    @property
    def notes(self) -> list[str]:
        """What the numbers are to be held against, one sentence each."""
        notes = []
        if self.real is not None:
            notes.append(f"The {self.real_samples:,} real images, measured the same way: support size {self.real}.")
        notes.append(
            f"Support size: distinct images, with the {self.confidence:.0%} interval; a duplicate is a pair at most "
            f"{self.threshold:.4g} apart."
        )
        if any(not row.gate_passed and row.support is not None for row in self.trials):
            notes.append(
                f"No verdict: the samples lie more than {self.gate:g} times as far from the real images as held-out real "
                "images do, and bad samples look diverse."
            )
        in_part = len([row for row in self.trials if 0 < (row.listed_samples or 0) < (row.samples or 0)])
        if in_part:
            notes.append(
                f"Heavy modes, classes, collision frequencies and the realistic support of {in_part} "
                f"trial{'s' if in_part > 1 else ''} are of the first samples (listed_samples says how many): duplicates "
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

    def spread(self, rows: Iterable[Row]) -> Spread | None:
        """The spread over seeds of the rows that count."""
        estimates = [_estimate(row, self.confidence) for row in rows if row.counts]
        return spread(estimates, self.confidence) if estimates else None


def build_table(results: Results) -> Table:
    """Make the table of a results Dataset."""
    names = [
        str(name) for name, coordinate in results.coords.items()
        if coordinate.dims == ("trial",) and name not in _NOT_HYPERPARAMETERS and not str(name).endswith("_weights")
    ]  # fmt: skip
    if len(set(results["family"].values.tolist())) > 1:
        names.insert(0, "family")
    return Table(
        hyperparameters=tuple(names),
        trials=tuple(_row(results, place, names) for place in range(results.sizes["trial"])),
        real=_measured(results, "real_support_size", int(results["real_duplicates"]) == 0),
        real_samples=int(results["real_samples"]),
        threshold=float(results["threshold"]),
        confidence=float(results.attrs.get("confidence", 0.95)),
        gate=float(results.attrs.get("fidelity_gate", math.nan)),
    )


def magnitude(value: float) -> str:
    """A positive number to two digits, as people say it: 3, 42, 870, 2.1k, 12M."""
    if not math.isfinite(value):
        return "∞" if value > 0 else NOT_MEASURED
    if value < 9.95:
        return f"{value:.1f}".removesuffix(".0")
    if value < 999.5:
        return f"{value:.0f}"
    rounded = float(f"{value:.1e}")
    for suffix, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rounded >= unit:
            return f"{rounded / unit:.1f}{suffix}" if rounded < 10 * unit else f"{rounded / unit:.0f}{suffix}"
    raise AssertionError(value)


def squared_words(value: float) -> str:
    """A squared distance to four digits, never in powers of ten."""
    if not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def value_words(value: object) -> str:
    """A hyperparameter's value."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def spaced(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


def setting_label(settings: Mapping[str, Any]) -> str:
    """Hyperparameters in words: ``discriminator width 8, loss log``."""
    return ", ".join(f"{spaced(name)} {value_words(value)}" for name, value in settings.items())


def _row(results: Results, place: int, names: list[str]) -> Row:
    trial = results.isel(trial=place)
    measured = [index for index, count in enumerate(trial["samples"].values) if count >= 0]
    last = trial.isel(snapshot=measured[-1]) if measured else None

    def interval(name: str, one_sided: bool) -> Measured | None:
        return None if last is None else _measured(last, name, one_sided)

    def number(name: str) -> float | None:
        value = math.nan if last is None else float(last[name])
        return value if math.isfinite(value) else None

    def count(name: str) -> int | None:
        return None if last is None else int(last[name])

    one_sided = last is not None and bool(last["one_sided"])
    among = interval("support_size_realistic", False)
    without = interval("support_size_without_modes", False)
    return Row(
        trial=str(trial["trial"].item()),
        settings={name: trial[name].item() for name in names},
        seed=int(trial["seed"]),
        status=str(trial["status"].item()),
        reason=str(trial["reason"].item()) if "reason" in trial.coords else "",
        weights={str(name).removesuffix("_weights"): int(value) for name, value in trial.coords.items()
                 if str(name).endswith("_weights")},
        snapshot=measured[-1] if measured else None,
        step=count("step"),
        samples=count("samples"),
        duplicates=count("duplicates"),
        listed_samples=count("listed_samples") if "listed_samples" in results else None,  # not in results of 0.1.0
        support=interval("support_size", one_sided),
        realistic_support=among and Measured(among.value, among.low, among.high, math.isinf(among.high)),
        sample_size_at_half=interval("sample_size_at_half", one_sided),
        fidelity_ratio=number("fidelity_ratio"),
        **{name: number(name) for name in (
            "realistic_share", "precision", "recall", "density", "coverage", "frechet_distance", "largest_mode_mass",
            "published_support", "corrected_support", "theorem_bound",
        )},
        heavy_modes=count("heavy_modes"),
        support_without_modes=without and Measured(without.value, without.low, without.high, math.isinf(without.high)),
        theorem_applies=last is not None and bool(last["theorem_applies"]),
        gate_passed=last is not None and bool(last["verdict_possible"]),
    )  # fmt: skip


def _measured(results: Results, name: str, one_sided: bool) -> Measured | None:
    value, low, high = (float(results[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return None if math.isnan(value) else Measured(value, low, high, one_sided)


def _estimate(row: Row, confidence: float) -> Estimate:
    """What the row's interval came from, as far as the spread over seeds needs it."""
    support = row.support
    assert support is not None
    assert row.samples is not None
    assert row.duplicates is not None
    return Estimate(
        samples=row.samples, duplicates=row.duplicates, confidence=confidence,
        p2=0.0 if support.one_sided else 1 / support.value, p2_low=1 / support.high, p2_high=1 / support.low,
        p3=math.nan, largest_mode_mass=math.nan, size_without_largest_mode=math.nan,
    )  # fmt: skip


def _words(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None else form.format(value)
