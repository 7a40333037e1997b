"""Sizes, durations and values in words, as every command and page prints them.

Invariant: one value looks the same everywhere.
"""

import textwrap

MISSING = "–"
TABLE_ROWS = 60  # more trials than this are summed up


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def cost_words(gpu_hours: float | None, energy_j: float | None) -> str:
    """GPU time and energy in words: 12.5 GPU-hours, 3.8 kWh; None is not known."""
    hours = "GPU-hours not known" if gpu_hours is None else f"{gpu_hours:,.{2 if gpu_hours < 100 else 0}f} GPU-hours"
    return f"{hours}, {'energy not known' if energy_j is None else energy_words(energy_j)}"


def energy_words(energy_j: float) -> str:
    """Joules in words: 12 Wh, 3.8 kWh."""
    return f"{energy_j / 3.6e6:,.3g} kWh" if energy_j >= 3.6e6 else f"{energy_j / 3.6e3:.3g} Wh"


def filled(text: str, width: int) -> str:
    """Text in lines of at most `width` characters, broken between words; longer words, such as paths, are whole."""
    lines = (
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False, replace_whitespace=False) or [""]
        for line in text.split("\n")
    )
    return "\n".join("\n".join(parts) for parts in lines)


def counted(count: float, noun: str, plural: str = "") -> str:
    """A count with its noun: 1 trial, 1,024 trials."""
    return f"{count:,.0f} {noun if count == 1 else plural or f'{noun}s'}"


def value_words(value: object) -> str:
    """A hyperparameter's value; a dash where it does not apply."""
    if value in (None, "None"):  # results of before version 0.2.0 have it as text
        return MISSING
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
