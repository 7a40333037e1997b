"""Sizes, durations and values in words, as every command and page prints them.

Invariant: one value looks the same everywhere.
"""

import math
import textwrap
from collections.abc import Sequence
from decimal import Decimal

MISSING = "–"
TABLE_ROWS = 60  # more trials than this are summed up


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes in words: 64 bytes, 2.69 MB, 1,230 TB."""
    return _in_unit(count, ("bytes", "kB", "MB", "GB", "TB"))


def _in_unit(value: float, units: Sequence[str]) -> str:
    """A value to three digits in the first unit, each a thousand times the one before, that leaves less than 1,000."""
    for unit in units:
        shown = float(f"{value:.3g}")
        if shown < 1000 or unit == units[-1]:
            break
        value /= 1000
    return f"{shown:,.15g} {unit}"


def magnitude(value: float) -> str:
    """A positive number to two digits, as people say it: 3, 42, 870, 2.1k, 12M."""
    if not math.isfinite(value):
        return "∞" if value > 0 else MISSING
    if value < 9.95:
        return f"{value:.1f}".removesuffix(".0")
    if value < 999.5:
        return f"{value:.0f}"
    rounded = float(f"{value:.1e}")
    for suffix, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rounded >= unit:
            return f"{rounded / unit:.1f}{suffix}" if rounded < 10 * unit else f"{rounded / unit:.0f}{suffix}"
    raise AssertionError(value)


def to_digits(value: float, digits: int) -> str:
    """A finite number to so many significant digits, zeros at its end among them, never in powers of ten: 0.020, 0.30."""
    return format(Decimal(f"{value:.{digits - 1}e}"), "f")


def cost_words(gpu_hours: float | None, energy_j: float | None) -> str:
    """GPU time and energy in words: 12.5 GPU-hours, 3.8 kWh; None is not known."""
    hours = "GPU-hours not known" if gpu_hours is None else f"{gpu_hours:,.{2 if gpu_hours < 100 else 0}f} GPU-hours"
    return f"{hours}, {'energy not known' if energy_j is None else energy_words(energy_j)}"


def energy_words(energy_j: float) -> str:
    """Joules in words: 12 Wh, 3.8 kWh."""
    return _in_unit(energy_j / 3600, ("Wh", "kWh", "MWh"))


def filled(text: str, width: int) -> str:
    """Text in lines of at most `width` characters, broken between words; longer words, such as paths, are whole."""
    lines = (
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False, replace_whitespace=False) or [""]
        for line in text.split("\n")
    )
    return "\n".join("\n".join(parts) for parts in lines)


def counted(count: float, noun: str) -> str:
    """A count with its noun: 1 trial, 1,024 trials."""
    return f"{count:,.0f} {noun if count == 1 else f'{noun}s'}"


def value_words(value: object) -> str:
    """A hyperparameter's value; a dash where it does not apply."""
    if value in (None, "None"):  # results of before version 0.2.0 have it as text
        return MISSING
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
