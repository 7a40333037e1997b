"""Sizes, durations and values in words, as every command and page prints them.

Invariant: one value looks the same everywhere.
"""

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


def plain(value: object) -> str:
    """A value as a cell of a table."""
    return f"{value:g}" if isinstance(value, float) else str(value)
