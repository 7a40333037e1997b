"""The report's section on what people said: calibration curve, agreement, and the pairs they call duplicates.

Invariant: computes nothing but words and pictures; without verdicts there is no section.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ganlab.statistics.intervals import wilson_interval
from ganlab.verdicts.agreement import LEAST_PAIRS
from jobs.console.words import magnitude
from jobs.report.mosaics import Picture, mosaic
from jobs.report.svg import FAINT, FONT_PX, INK, REAL, SERIES, chart_style, new_figure, to_svg
from jobs.report.table import NOT_MEASURED, WITHHELD, Results, Row, Table
from storage.layout import SweepLayout
from storage.reference import Reference
from storage.samples import DamagedShardError, Samples
from storage.verdicts import DUPLICATE

PAIRS_SHOWN = 48
CONFIDENCE = 0.95


@dataclass(frozen=True)
class JudgedPair:
    """A pair that people call duplicates, above the training image nearest to each."""

    picture: Picture
    words: str
    distance: float


@dataclass(frozen=True)
class VerdictsView:
    """Values shown by the template.

    Attributes
    ----------
    sentences : list of str
        Who judged, what follows, and how far they agree.
    chart : str
        The calibration curve as SVG; empty when there is none.
    rows : list of lists of str
        Each trial with its support by people, and the published test.
    pairs : list of JudgedPair
        Some of the judged duplicates; `left_out` more are not shown.
    """

    sentences: list[str]
    chart: str
    headings: list[str]
    rows: list[list[str]]
    pairs: list[JudgedPair]
    left_out: int


def verdicts_view(
    layout: SweepLayout, table: Table, results: Results, reference: Reference | None
) -> VerdictsView | None:
    """View of people's verdicts, from the results; None if there are none."""
    if "verdicts" not in results:
        return None
    pairs, left_out = _judged_pairs(layout, table, results, reference)
    calibrated = "duplicate_probability" in results
    return VerdictsView(
        sentences=list(_sentences(results)),
        chart=calibration_chart(results) if calibrated else "",
        headings=[
            "trial",
            "effective number by threshold",
            "effective number by people",
            "published test with people",
            "published support",
        ],
        rows=[_cells(results, row, place) for place, row in enumerate(table.trials) if row.snapshot is not None],
        pairs=pairs,
        left_out=left_out,
    )


def calibration_chart(results: Results) -> str:
    """P(people call a pair duplicates) against its distance, with both thresholds."""
    at, curve = results["judged_distance"].values, results["duplicate_probability"].values
    low, high = (results[f"duplicate_probability_{end}"].values for end in ("low", "high"))
    share, count = results["duplicate_share"].values, results["judged_pairs"].values
    with chart_style():
        figure = new_figure(640, 330)
        axes = figure.add_subplot()
        axes.axhline(0.5, color=FAINT, linewidth=1)
        axes.fill_between(at, low, high, color=SERIES[0], alpha=0.18, linewidth=0)
        axes.plot(at, curve, color=SERIES[0], linewidth=2, label="fitted, with its interval")
        shown = count > 0
        axes.scatter(
            results["distance_bin"].values[shown],
            share[shown],
            s=12 + 90 * count[shown] / count.max(),
            color=INK,
            zorder=3,
            label="judged, by distance",
        )
        axes.axvline(
            float(results["threshold"]), color=REAL, linewidth=1.4, linestyle=(0, (4, 2)), label="automatic threshold"
        )
        ends = [float(results[f"calibrated_threshold{end}"]) for end in ("_low", "", "_high")]
        if np.isfinite(ends).all():
            axes.errorbar(
                [ends[1]],
                [0.5],
                xerr=[[ends[1] - ends[0]], [ends[2] - ends[1]]],
                fmt="D",
                color=SERIES[1],
                markersize=6,
                capsize=4,
                label="calibrated threshold",
                zorder=4,
            )
        axes.set_xlim(0, float(at[-1]))
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
        axes.set_xlabel("distance between the two images")
        axes.set_ylabel("P(called duplicates)")
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=FONT_PX - 1)
        return to_svg(figure, "calibration")


def _sentences(results: Results) -> Iterator[str]:
    def number(name: str) -> float:
        return float(results.get(name, math.nan))

    people, verdicts = int(results["reviewers"]), int(results["verdicts"])
    yield f"{people} {'person' if people == 1 else 'people'} gave {verdicts:,} verdicts."
    threshold, low, high = (number(f"calibrated_threshold{end}") for end in ("", "_low", "_high"))
    automatic = number("threshold")
    if math.isfinite(threshold):
        bound = f"{low:.4g} – {high:.4g}" if math.isfinite(high) else f"{low:.4g} or more"
        yield (
            f"They call half of the pairs duplicates at a distance of {threshold:.4g} ({bound}); the automatic "
            f"threshold is {automatic:.4g}."
        )
    elif math.isinf(threshold):
        yield (
            f"They call more than half of the pairs duplicates even at the widest distance, 1.5 times the automatic "
            f"threshold of {automatic:.4g}: set a larger collisions.threshold to learn where they stop."
        )
    if int(results["agreement_pairs"]) > 0:
        kappa = number("agreement_kappa")
        low, high = number("agreement_kappa_low"), number("agreement_kappa_high")
        interval = f"{low:.2f} – {high:.2f}" if math.isfinite(low) else f"no interval below {LEAST_PAIRS} pairs"
        words = f"kappa {kappa:.2f} ({interval})"
        pairs, observed = int(results["agreement_pairs"]), number("agreement_observed")
        yield (
            f"On the {pairs:,} pairs that two or more judged, {observed:.0%} of the verdicts agree"
            f"{': ' + words if math.isfinite(kappa) else ''}."
        )
    else:
        yield "No pair was judged by two people, so nothing is known of their agreement."
    if int(results["control_verdicts"]) > 0:
        same = (
            f" and {number('identical_control_duplicates'):.0%} of one real image beside itself"
            if int(results["identical_control_verdicts"])
            else ""
        )
        yield (
            f"Controls: they call {number('control_duplicates'):.0%} of the near pairs of two real images "
            f"duplicates{same}."
        )


def _cells(results: Results, row: Row, place: int) -> list[str]:
    people = row.interval("calibrated_support_size")
    words = NOT_MEASURED if people is None else str(people) if row.passes_gate else WITHHELD
    if "n_judged_samples" not in row.values:
        return [row.label, row.support_words, words, NOT_MEASURED, NOT_MEASURED]
    samples, size = row.values["n_judged_samples"], row.values["judged_sample_size"]
    bound = row.values.get("judged_published_support")
    low, high = wilson_interval(row.values["judged_collisions"], samples, CONFIDENCE)
    if low <= 0.5 <= high:  # a duplicate may be more or less likely than not
        published = "too close to ½ to say"
    else:
        published = f"more than {magnitude(size**2)}" if bound is None else f"at most {magnitude(bound)}"
    hits = f"{row.values['judged_collisions']} of {samples} samples of {size:,}"
    return [row.label, row.support_words, words, hits, published]


def _judged_pairs(
    layout: SweepLayout, table: Table, results: Results, reference: Reference | None
) -> tuple[list[JudgedPair], int]:
    found = []
    for place, row in enumerate(table.trials):
        if row.snapshot is None:
            continue
        here = results.isel(trial=place, snapshot=row.snapshot)
        for rank in np.flatnonzero(here["flagged_verdict"].values == DUPLICATE).tolist():
            found.append((rank, place, row))
    found.sort(key=lambda each: each[:2])
    shown = []
    for rank, place, row in found[:PAIRS_SHOWN]:
        here = results.isel(trial=place, snapshot=row.snapshot, flagged=rank)
        try:
            images = list(Samples(layout.trial(row.trial)).take(here["flagged_index"].values.astype(np.int64)))
            real = (
                [None, None]
                if reference is None
                else list(reference.take(here["reference_index"].values.astype(np.int64)))
            )
        except (ValueError, DamagedShardError):
            continue
        picture = mosaic([*images, *real], 2, max(48, *images[0].shape[1:]))
        shown.append(JudgedPair(picture, row.label, float(here["flagged_distance"])))
    return shown, len(found) - len(shown)
