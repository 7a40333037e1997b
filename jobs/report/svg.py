"""Parts common to the report's charts: colours, fonts, ticks, and SVG to be put into a page.

Invariant: the same figure gives the same bytes; colours are the page's own (``var(--…)``), so that the page decides about
light and dark.
"""

import io
import math
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from jobs.console.words import magnitude

# Stand-ins that matplotlib can draw with; `to_svg` puts the page's variables in their place.
INK, FAINT, REAL, NONE = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a")
_VARIABLES = {INK: "--ink", FAINT: "--faint", REAL: "--real", NONE: "--muted"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
}
FONT_PX = 13
_TITLE = "title: "


def tick(value: float) -> str:
    """A number on an axis."""
    return magnitude(value).replace(".0", "") if value >= 1 else f"{value:g}"


def log_ticks(axis: Any) -> None:
    """Ticks as people write numbers; between the powers of ten where there are few of them."""
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    axis.set_major_locator(
        LogLocator(subs=(1.0,) if decades > 2.5 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0))
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_locator(NullLocator())


def chart_style() -> AbstractContextManager[None]:
    """Settings of the charts; matplotlib's own are as before when the context ends."""
    context: AbstractContextManager[None] = matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "font.size": FONT_PX,
            "axes.labelsize": FONT_PX,
            "legend.fontsize": FONT_PX,
            "xtick.labelsize": FONT_PX - 1,
            "ytick.labelsize": FONT_PX - 1,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.facecolor": "none",
            "legend.labelcolor": INK,
            "axes.formatter.useoffset": False,
        }
    )
    return context


def new_figure(width_px: float, height_px: float, margins: bool = False) -> Figure:
    """A figure whose SVG units are the page's pixels: matplotlib writes 72 to the inch.

    With `margins` they are fixed, so that charts side by side line up; else they are what the words need.
    """
    size = (width_px / 72, height_px / 72)
    if not margins:
        return Figure(size, layout="constrained", facecolor="none")
    figure = Figure(size, facecolor="none")
    figure.subplots_adjust(52 / width_px, 46 / height_px, 1 - 6 / width_px, 1 - 8 / height_px, hspace=0.12)
    return figure


def titled(words: str) -> str:
    """A matplotlib gid that `to_svg` turns into a title, which browsers show beside the pointer."""
    return f"{_TITLE}{words}"


def to_svg(figure: Figure, name: str) -> str:
    """The figure's ``<svg>`` element, scaled by the page; `name` keeps its ids apart from other figures'."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    width = re.search(r'width="([\d.]+)pt"', text)
    assert width is not None
    text = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"', "", text, count=2)
    text = text.replace("<svg", f'<svg aria-hidden="true" style="max-width: {float(width[1]):.0f}px"', 1)
    text = re.sub(rf'<g id="{_TITLE}([^"]*)">', r"<g><title>\1</title>", text)
    text = text.replace(' target="_blank"', ' tabindex="-1"')  # links are for pointers; the tables lead there, too
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", text)
