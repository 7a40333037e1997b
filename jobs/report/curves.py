"""The chart of all thresholds at once, for sweeps and for anyone's samples.

Invariant: nothing is drawn where nothing was counted.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter

from ganlab.statistics.support import Estimate, Frequency, collision_probability
from jobs.report.svg import FAINT, FONT_PX, INK, NONE, REAL, SERIES, chart_style, log_ticks, new_figure, to_svg


class Curve(NamedTuple):
    """Curves of one sample: probability at each distance, ratio to that of real images (None without), and validity."""

    probability: np.ndarray
    ratio: np.ndarray | None
    believed: bool = True


def curve_chart(
    distances: np.ndarray, curves: Sequence[Curve], real: np.ndarray | None, threshold: float, name: str
) -> str:
    """P(two images are at most so far apart), and real over generated, against the distance."""
    with chart_style():
        figure = new_figure(330, 360 if real is not None else 230, margins=True)
        ratios = None
        if real is None:
            above = figure.add_subplot()
        else:
            above, ratios = figure.subplots(2, 1, sharex=True, height_ratios=(1.3, 1))
        everything = [curve.probability for curve in curves] + ([] if real is None else [real])
        for curve in curves:
            colour = SERIES[0] if curve.believed else NONE
            _line(above, distances, curve.probability, colour)
            if ratios is not None and curve.ratio is not None:
                _line(ratios, distances, curve.ratio, colour)
        if real is not None and ratios is not None:
            _line(above, distances, real, REAL, linestyle=(0, (4, 2)))
            ratios.axhline(1, color=REAL, linewidth=1, linestyle=(0, (4, 2)))
            ratios.set_title("real over generated", loc="left", fontsize=FONT_PX - 1)
            _log(ratios, [curve.ratio for curve in curves if curve.ratio is not None])
        for axes in (above, *([] if ratios is None else [ratios])):
            axes.axvline(threshold, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        above.set_title("P(two images are so near)", loc="left", fontsize=FONT_PX - 1)
        figure.subplots_adjust(top=1 - 26 / (72 * figure.get_figheight()), hspace=0.3)
        _log(above, everything)
        last = above if ratios is None else ratios
        last.set_xlabel("distance")
        if len(distances) and distances[-1] > 0:
            last.set_xlim(0, float(distances[-1]))
        return to_svg(figure, f"thresholds-{name}")


def sample_collision_chart(
    support: Estimate, frequencies: dict[int, Frequency], real: Estimate | None, name: str
) -> str:
    """P(a sample of s images holds a duplicate): counted, by the model, and of the real images."""
    with chart_style():
        figure = new_figure(330, 230, margins=True)
        axes = figure.add_subplot()
        sizes = np.array(list(frequencies))
        smooth = np.unique(np.geomspace(2, max(3 * max(frequencies, default=10), 4), 80).round())
        for each, colour, style in ((real, REAL, (0, (4, 2))), (support, SERIES[0], "-")):
            if each is not None and not each.one_sided:
                values = [collision_probability(each.p2, int(size)) for size in smooth]
                axes.plot(smooth, values, color=colour, linestyle=style, linewidth=1.2)
        middle, low, high = (
            np.array([getattr(each, end) for each in frequencies.values()]) for end in ("probability", "low", "high")
        )
        ends = [np.maximum(middle - low, 0), np.maximum(high - middle, 0)]
        axes.errorbar(sizes, middle, ends, fmt="o", color=SERIES[0], markersize=4.5, elinewidth=1.1)
        collision_axes(axes)
        return to_svg(figure, f"collisions-{name}")


def collision_axes(axes: Any) -> None:
    """Axes of P(duplicate) against the sample size, with a line at one half, where the published test reads it."""
    axes.axhline(0.5, color=FAINT, linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    log_ticks(axes.xaxis)
    axes.set_xlabel("sample size s (images)")
    axes.set_ylabel("P(duplicate)")
    axes.yaxis.set_label_coords(-0.13, 0.5)


def _line(axes: Any, x: np.ndarray, y: np.ndarray, colour: str, **style: Any) -> None:
    shown = np.isfinite(y) & (y > 0)
    axes.plot(x[shown], y[shown], color=colour, linewidth=1.3, **style)


def _log(axes: Any, values: Sequence[np.ndarray]) -> None:
    """A logarithmic y axis around the positive ones of these values."""
    positive = np.concatenate([each[np.isfinite(each) & (each > 0)] for each in values] or [np.empty(0)])
    if not positive.size:
        return
    axes.set_yscale("log")
    axes.set_ylim(float(positive.min()) / 1.6, float(positive.max()) * 1.6)
    log_ticks(axes.yaxis)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))


def _power(value: float) -> str:
    """A small probability as a power of ten, for there is little room."""
    exponent = round(math.log10(value)) if value > 0 else 0
    if exponent > -3 or not math.isclose(value, 10.0**exponent, rel_tol=1e-6):
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
