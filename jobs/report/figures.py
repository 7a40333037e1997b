"""The report's charts of a sweep, as SVG to be put into a page.

Invariant: the same numbers give the same bytes; nothing is drawn that the table or the results do not say.
"""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from ganlab.statistics.support import collision_probability, mean_over_seeds
from jobs.console.words import magnitude, value_words
from jobs.report.curves import Curve, collision_axes, curve_chart
from jobs.report.svg import (
    FAINT,
    FONT_PX,
    INK,
    NONE,
    REAL,
    SERIES,
    chart_style,
    log_ticks,
    new_figure,
    tick,
    titled,
    to_svg,
)
from jobs.report.table import Interval, Results, Row, Table, setting_label, spaced

CATEGORIES = 24  # more settings than this do not fit on an axis without numbers
TICK_CHARACTERS = 30  # of a setting beside an axis without numbers
PANELS = 6
KEY_PX = 18  # height of a line of a legend
KEY_CHARACTERS = 6  # of a line of a legend, before its words
UNMATCHED_BESIDE = 0.012  # of the x axis, between the figures at matched fidelity and the unmatched ones
CURVE_POINTS = 160  # more points of a loss curve than a small chart shows are averaged


@dataclass(frozen=True)
class _Panel:
    """One chart of effective numbers: where each trial stands on the x axis, and which trials a line joins."""

    label: str
    series: Mapping[str, Sequence[Row]]
    x: Mapping[str, float]
    """By trial."""
    ticks: Mapping[float, str]
    log: bool
    joined: bool


def support_chart(table: Table, narrow: bool = False, pictured: Collection[str] = ()) -> str:
    """Effective number against what varies: a point per trial with its interval, a line through the means over seeds.

    Points name their trial; those of the trials `pictured` lead to the picture of their samples, ``#trial-<id>``.
    """
    panels = _panels(table)
    width = 350 if narrow else 560 if len(panels) == 1 else 640
    columns = 1 if narrow or len(panels) == 1 else 2
    lines = -(-len(panels) // columns)
    height = 410 if len(panels) == 1 else 290 * lines
    with chart_style():
        figure = new_figure(width, height)
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(lines, columns, place + 1)
            _support_panel(axes, panel, table, width / columns, FONT_PX if len(panels) == 1 else FONT_PX - 1, pictured)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        room = int(width / (0.62 * FONT_PX))  # characters of a line
        labels = [textwrap.fill(label, room - KEY_CHARACTERS) for label in labels]
        longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
        beside = max(1, min(len(labels), room // (longest + KEY_CHARACTERS)))
        tall = -(-sum(label.count("\n") + 1 for label in labels) // beside)
        figure.set_figheight((height + KEY_PX * max(0, tall - 2)) / 72)
        figure.legend(handles, labels, loc="outside upper left", ncols=beside, frameon=False)
        return to_svg(figure, f"support-{width}")


def collision_chart(table: Table, rows: Sequence[Row], results: Results, name: str) -> str:
    """P(a sample of s images holds a duplicate): counted, by the model, and of the real images."""
    sizes = results["sample_size"].values
    counted = {
        row.trial: [results[f"collision_probability{end}"].values[place, row.snapshot] for end in ("", "_low", "_high")]
        for place, row in enumerate(table.trials)
        if row in rows and row.snapshot is not None
    }
    with chart_style():
        figure = new_figure(330, 230, margins=True)
        axes = figure.add_subplot()
        smooth = np.unique(np.geomspace(2, max(float(sizes.max()) * 3, 4), 80).round())
        if table.real_support is not None and not table.real_support.is_lower_bound:
            _curve(axes, smooth, table.real_support, REAL, linestyle=(0, (4, 2)))
        for number, row in enumerate(row for row in rows if row.trial in counted):
            colour = SERIES[0] if row.passes_gate else NONE
            if row.support is not None and not row.support.is_lower_bound:
                _curve(axes, smooth, row.support, colour, linewidth=1.2)
            middle, low, high = counted[row.trial]
            shown = np.isfinite(middle)
            spot = sizes[shown] * 1.03 ** (number - (len(counted) - 1) / 2)
            axes.errorbar(
                spot,
                middle[shown],
                [np.maximum(middle - low, 0)[shown], np.maximum(high - middle, 0)[shown]],
                fmt="o",
                color=colour,
                markersize=4.5,
                elinewidth=1.1,
                markerfacecolor=_fill(row),
            )
        collision_axes(axes)
        return to_svg(figure, f"collisions-{name}")


def threshold_chart(rows: Sequence[Row], table: Table, results: Results, name: str) -> str:
    """P(two images are at most so far apart), of samples and of real images, and their ratio, against the distance."""
    places = [place for place, row in enumerate(table.trials) if row in rows and row.snapshot is not None]
    curves = [
        Curve(
            results["pair_distance_cdf"].values[place, table.trials[place].snapshot],
            results["diversity_ratio_at"].values[place, table.trials[place].snapshot],
            table.trials[place].passes_gate,
        )
        for place in places
    ]
    real = results["real_pair_distance_cdf"].values
    return curve_chart(results["distance"].values, curves, real, table.threshold, name)


def training_chart(table: Table, rows: Sequence[Row], results: Results, name: str) -> str:
    """Losses, support and fidelity over the steps, with the snapshots marked; on the same axes for every setting."""
    places = [place for place, row in enumerate(table.trials) if row in rows]
    measured = np.isfinite(_by_snapshot(results, "samples"))
    with chart_style():
        figure = new_figure(330, 400, margins=True)
        losses, supports, fidelities = figure.subplots(3, 1, sharex=True, height_ratios=(1.2, 1, 0.8))
        steps, logged = results["step"].values, results["logged_step"].values
        for loss, colour in (("generator_loss", SERIES[0]), ("discriminator_loss", SERIES[1])):
            for place in places:
                losses.plot(*_thinned(logged, results[loss].values[place]), color=colour, linewidth=0.9, alpha=0.85)
        for step in steps[measured[places].any(axis=0)]:
            for axes in (losses, supports, fidelities):
                axes.axvline(step, color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
        for place in places:
            passed = _by_snapshot(results, "passes_quality_gate")[place] == 1
            for axes, variable in ((supports, "support_size"), (fidelities, "fidelity_ratio")):
                value = _by_snapshot(results, variable)[place]
                axes.plot(steps[measured[place]], value[measured[place]], color=FAINT, linewidth=1)
                for chosen, colour in ((measured[place] & passed, SERIES[0]), (measured[place] & ~passed, NONE)):
                    fill = "none" if colour == NONE else colour
                    axes.plot(steps[chosen], value[chosen], "o", markersize=4.5, color=colour, markerfacecolor=fill)
        real = table.real_support.value if table.real_support is not None else math.nan
        supports.axhline(real, color=REAL, linewidth=1.2, linestyle=(0, (4, 2)))
        fidelities.axhline(table.gate, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        supports.set_yscale("log")
        both = np.stack([results["generator_loss"].values, results["discriminator_loss"].values])
        # A few steps of wild losses would flatten the rest.
        _span(losses, np.nanquantile(both, (0.002, 0.998)) if np.isfinite(both).any() else both)
        _span(supports, np.append(_by_snapshot(results, "support_size")[measured], real))
        _span(fidelities, np.append(_by_snapshot(results, "fidelity_ratio")[measured], table.gate))
        log_ticks(supports.yaxis)
        for axes, label in ((losses, "loss"), (supports, "eff. number"), (fidelities, "fidelity")):
            axes.set_ylabel(label)
            axes.yaxis.set_label_coords(-0.13, 0.5)
        fidelities.set_xlabel("generator step")
        fidelities.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        fidelities.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        return to_svg(figure, f"training-{name}")


def _by_snapshot(results: Results, name: str) -> np.ndarray:
    """Values (trial, snapshot) of a statistic; NaN where it was not computed at all."""
    if name not in results:
        return np.full((results.sizes["trial"], results.sizes["snapshot"]), np.nan)
    return np.asarray(results[name].values)


def _panels(table: Table) -> list[_Panel]:
    values = {name: [row.settings[name] for row in table.trials] for name in table.hyperparameters}
    varying = [name for name in values if len(set(map(str, values[name]))) > 1]
    numeric = [name for name in varying if all(type(value) in (int, float) for value in values[name])]
    # The question is about the discriminator; after it, what was tried at the most values says the most.
    numeric.sort(key=lambda name: (name != "discriminator_width", -len(set(values[name]))))
    if not numeric:
        return [_categories(table)]
    series: dict[str, list[Row]] = {}
    for row in table.trials:
        others = {name: row.settings[name] for name in varying if name != numeric[0]}
        series.setdefault(setting_label(others), []).append(row)
    if len(series) > 1 and all(len({row.settings[numeric[0]] for row in rows}) == 1 for rows in series.values()):
        return [_categories(table)]  # nothing else is tried at two values of it: there is no trend to show
    if len(series) <= len(SERIES):
        return [_against(numeric[0], series)]
    return [_against(name, {"": table.trials}, joined=False) for name in numeric[:PANELS]]


def _against(name: str, series: Mapping[str, Sequence[Row]], joined: bool = True) -> _Panel:
    rows = [row for each in series.values() for row in each]
    x = {row.trial: float(row.settings[name]) for row in rows}
    label, ticks = spaced(name), {x[row.trial]: value_words(row.settings[name]) for row in rows}
    if name == "discriminator_width" and all(row.weights.get("discriminator", 0) > 0 for row in rows):
        x = {row.trial: float(row.weights["discriminator"]) for row in rows}
        label = "weights of the discriminator (below: its width)"
        ticks = {x[row.trial]: f"{magnitude(x[row.trial])}\n{row.settings[name]}" for row in rows}
    log = min(x.values()) > 0 and max(x.values()) >= 4 * min(x.values())
    # Values that were drawn at random differ from series to series, and a line between them means nothing.
    grid = len(ticks) <= CATEGORIES and all({x[row.trial] for row in each} == ticks.keys() for each in series.values())
    return _Panel(label, series, x, ticks if len(ticks) <= CATEGORIES else {}, log, joined and grid)


def _categories(table: Table) -> _Panel:
    settings = table.settings[:CATEGORIES]
    x = {row.trial: float(place) for place, setting in enumerate(settings) for row in setting.rows}
    ticks = {float(place): _tick_words(each.rows[0]) for place, each in enumerate(settings)}
    told_by = {name for setting in settings for name in setting.rows[0].told_by}
    label = ", ".join(spaced(name) for name in table.hyperparameters if name in told_by)
    return _Panel(label, {"": [row for each in settings for row in each.rows]}, x, ticks, log=False, joined=False)


def _tick_words(row: Row) -> str:
    """A setting beside the axis, each value cut to its share of the room; the point's title has the whole."""
    room = TICK_CHARACTERS // max(1, len(row.told_by))
    values = [value_words(row.settings[name]) for name in row.told_by]
    return ", ".join(value if len(value) <= room else f"{value[: room - 1]}…" for value in values)


def _support_panel(axes: Any, panel: _Panel, table: Table, width: float, font: int, pictured: Collection[str]) -> None:
    if panel.log:
        axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = min(panel.x.values()), max(panel.x.values())
    at = _Positions(low, high, panel.log)
    axes.set_xlim(at.forward(-0.09), at.forward(1.09))
    if (real := table.real_support) is not None:
        if not real.is_lower_bound:
            axes.axhspan(real.low, real.high, color=REAL, alpha=0.18, linewidth=0)
        label = f"real images: {'at least ' * real.is_lower_bound}{magnitude(real.value)}"
        axes.axhline(real.value, color=REAL, linewidth=1.4, linestyle=(0, (4, 2)), label=label)
    seeds = sorted({row.seed or 0 for row in table.trials})
    slots = len(seeds) * len(panel.series)
    spacing = min(0.022, 0.09 / slots)
    for number, (name, rows) in enumerate(panel.series.items()):
        colour = SERIES[number % len(SERIES)]
        centre = (number - (len(panel.series) - 1) / 2) * len(seeds) * spacing
        at_x: dict[float, list[Row]] = {}
        for row in rows:
            if row.support is None:
                continue
            spot = at.backward(panel.x[row.trial]) + centre
            x = at.forward(spot + (seeds.index(row.seed or 0) - (len(seeds) - 1) / 2) * spacing)
            own = colour if row.counts else NONE
            drawn: list[tuple[Any, str]] = []
            if table.matched_fidelity is None:
                drawn.append((_point(axes, x, row.support, own, hollow=not row.counts), row.support_words))
            else:
                if (matched := row.matched_support) is not None:
                    point = _point(axes, x, matched, colour, hollow=False)
                    drawn.append((point, f"{matched} at fidelity ratio {table.matched_fidelity:.2f}"))
                beside = at.forward(spot + len(seeds) * spacing / 2 + UNMATCHED_BESIDE)
                (cross,) = axes.plot([beside], [row.support.value], "x", color=own, markersize=6)
                drawn.append((cross, f"{row.support_words}, last snapshot"))
            for artist, said in drawn:
                artist.set_gid(titled(f"{row.label}: {said}"))
                if row.trial in pictured:
                    artist.set_url(f"#trial-{row.trial}")
            at_x.setdefault(at.forward(spot), []).append(row)
        line = [(x, mean) for x, rows in sorted(at_x.items()) if math.isfinite(mean := _mean(table, rows))]
        style: dict[str, Any] = (
            {"marker": "D", "markersize": 8} if len(seeds) > 1 else {"marker": "o", "markersize": 5.5}
        )
        style["linestyle"] = "-" if panel.joined else "none"
        if line and (len(seeds) > 1 or name or panel.joined):
            label = name or ("geometric mean over seeds" if len(seeds) > 1 else "")
            axes.plot(*zip(*line, strict=True), color=colour, linewidth=1.6, alpha=0.5, label=label, **style)
    _name_the_unverified(axes, panel, table, at)
    ratio = table.matched_fidelity
    if any(row.counts for row in table.trials):
        label = f"one trial, {table.confidence:.0%} interval"
        if ratio is not None:
            label += f", at fidelity ratio {ratio:.2f}"
            axes.plot([], [], "x", color=SERIES[0], markersize=6, label="last snapshot, unmatched")
        axes.plot([], [], "o", color=SERIES[0], markersize=5.5, label=label)
    if any(row.support is not None and not row.counts for row in table.trials):
        axes.plot(
            [],
            [],
            "o",
            color=NONE,
            markerfacecolor="none",
            markersize=5.5,
            label="quality gate not passed, or not complete",
        )
    log_ticks(axes.yaxis)
    _x_ticks(axes, panel, at, width, font)
    axes.set_xlabel(panel.label)
    axes.set_ylabel("effective number of images")


def _mean(table: Table, rows: Sequence[Row]) -> float:
    """Geometric mean over seeds, at matched fidelity where there is one; NaN of none."""
    if table.matched_fidelity is None:
        found = table.spread(rows)
        return math.nan if found is None else found.mean
    matched = [row.matched_support.value for row in rows if row.matched_support is not None]
    return mean_over_seeds(matched, geometric=True).mean if matched else math.nan


def _point(axes: Any, x: float, support: Interval, colour: str, hollow: bool) -> Any:
    style: dict[str, Any] = {"color": colour, "markersize": 5.5, "elinewidth": 1.3, "zorder": 3}
    style["markerfacecolor"] = "none" if hollow else colour
    if support.is_lower_bound:
        drawn = axes.errorbar([x], [support.value], [[0], [support.value]], fmt="o", lolims=True, capsize=3, **style)
    else:
        ends = [[support.value - support.low], [max(support.high - support.value, 0)]]
        drawn = axes.errorbar([x], [support.value], ends, fmt="o", **style)
    return drawn[0]


def _name_the_unverified(axes: Any, panel: _Panel, table: Table, at: "_Positions") -> None:
    """Write "gate not passed" over each value of x at which every trial is below the gate."""
    groups: dict[float, list[Row]] = {}
    for row in table.trials:
        if row.support is not None and row.trial in panel.x:
            groups.setdefault(panel.x[row.trial], []).append(row)
    unverified = {
        x: rows for x, rows in groups.items() if x in panel.ticks and not any(row.passes_gate for row in rows)
    }
    for x, rows in unverified.items() if len(unverified) <= CATEGORIES / 2 else ():
        ends = [row.support for row in rows if row.support is not None]
        top = max(support.value if support.is_lower_bound else support.high for support in ends)
        share = at.backward(x)
        axes.annotate(
            "gate not passed",
            (x, top),
            (0, 5),
            textcoords="offset points",
            ha="left" if share < 0.1 else "right" if share > 0.9 else "center",
            color=NONE,
            fontsize=FONT_PX - 2,
        )


class _Positions:
    """Between values on an axis and the share of the way from its first point to its last."""

    def __init__(self, low: float, high: float, log: bool) -> None:
        if low == high:
            low, high = low - 1, high + 1
        self._log = log
        self._low, self._high = (math.log(low), math.log(high)) if log else (low, high)

    def forward(self, share: float) -> float:
        value = self._low + share * (self._high - self._low)
        return math.exp(value) if self._log else value

    def backward(self, value: float) -> float:
        return ((math.log(value) if self._log else value) - self._low) / (self._high - self._low)


def _x_ticks(axes: Any, panel: _Panel, at: _Positions, width: float, font: int) -> None:
    """A tick at every value that was tried, leaving out the words of those that would touch."""
    if not panel.ticks:
        if panel.log:
            log_ticks(axes.xaxis)
        return
    longest = max(len(line) for words in panel.ticks.values() for line in words.split("\n"))
    upright = longest * font * 0.6 * len(panel.ticks) > width and not panel.log and longest > 6
    room = font * 1.3 if upright else (longest * 0.62 + 0.8) * font
    kept: list[float] = []
    for x in sorted(panel.ticks):
        if not kept or (at.backward(x) - at.backward(kept[-1])) * width * 0.74 >= room:
            kept.append(x)
    turned = {"rotation": 35, "ha": "right"} if upright else {}
    axes.set_xticks(kept, [panel.ticks[x] for x in kept], **turned)
    axes.set_xticks(sorted(panel.ticks), minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _curve(axes: Any, sizes: np.ndarray, support: Interval, colour: str, **style: Any) -> None:
    axes.plot(sizes, [collision_probability(1 / support.value, int(s)) for s in sizes], color=colour, **style)


def _fill(row: Row) -> str:
    return SERIES[0] if row.passes_gate else "none"


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The finite points, averaged over equal runs when they are many."""
    shown = np.isfinite(values)
    steps, values = steps[shown], values[shown]
    if len(steps) <= CURVE_POINTS:
        return steps, values
    cuts = np.linspace(0, len(steps), CURVE_POINTS + 1).astype(int)
    widths = np.diff(cuts)
    return np.add.reduceat(steps, cuts[:-1]) / widths, np.add.reduceat(values, cuts[:-1]) / widths


def _span(axes: Any, values: np.ndarray) -> None:
    """Let the y axis reach a little beyond the finite ones of these values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    if axes.get_yscale() == "log":
        axes.set_ylim(low / 1.6, high * 1.6)
    else:
        room = 0.08 * (high - low) or 0.1 * max(abs(high), 1.0)
        axes.set_ylim(low - room, high + room)
