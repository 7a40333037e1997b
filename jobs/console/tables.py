"""Tables on standard output, as wide as their reader's terminal; a block of lines for each row where none fits.

Invariant: every cell is shown whole, and lines break between words alone; the two ends of an interval, and a
count with its total, are one word.
"""

import re
from collections.abc import Sequence

from rich.console import Console

from jobs.console.words import MISSING

WORD = re.compile(r"\([^()]*\)|[≥≤] \S+|\S+ / \S+|\S+")
INDENT = "  "

Rows = Sequence[Sequence[str]]


def print_table(console: Console, headings: Sequence[str], rows: Rows, keys: int) -> None:
    """Print rows of words.

    Parameters
    ----------
    console
        Its width decides between a table and blocks.
    headings
        Of the columns.
    rows
        A word for each column.
    keys
        So many columns, the first ones, say which row it is. Those that tell no two rows apart are left out, and their
        values stand in a line below the table.
    """
    left_out = _alike([row[:keys] for row in rows])
    shown = [place for place in range(len(headings)) if place not in left_out]
    keys -= len(left_out)
    names, cells = [headings[place] for place in shown], [[row[place] for place in shown] for row in rows]
    compact = [[cell.replace(" – ", "–") for cell in row] for row in cells]
    for each, gap in ((cells, 2), (compact, 2), (compact, 1)):
        if (widths := _widths(names, each, console.width - gap * (len(names) - 1))) is not None:
            lines = _table(names, each, widths, " " * gap)
            break
    else:
        lines = _blocks(names, cells, keys, console.width)
    console.print("\n".join(["", *lines, ""]), soft_wrap=True)
    if left_out:
        everywhere = (f"{headings[place]} {value}" for place, value in left_out.items())
        console.print(f"The same wherever it applies: {', '.join(everywhere)}.")


def broken(text: str, width: int) -> list[str]:
    """Text in lines of at most `width` characters, or of one word where that is longer."""
    lines: list[str] = []
    for word in WORD.findall(text):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]


def _alike(keys: Rows) -> dict[int, str]:
    """Columns without which as many rows differ as with them, and the only value of each."""
    left_out: dict[int, str] = {}
    if len(keys) < 2:
        return left_out
    for place in range(len(keys[0])):
        values = {row[place] for row in keys} - {MISSING}
        tried = {*left_out, place}
        rest = {tuple(cell for column, cell in enumerate(row) if column not in tried) for row in keys}
        if len(values) <= 1 and len(rest) == len(set(map(tuple, keys))):
            left_out[place] = next(iter(values), MISSING)
    return left_out


def _widths(headings: Sequence[str], rows: Rows, room: int) -> list[int] | None:
    """Width of each column, all of them in `room` characters; None where even the longest words do not fit."""
    columns = [[row[place] for row in rows] for place in range(len(headings))]
    least = [_longest_word([heading, *cells]) for heading, cells in zip(headings, columns, strict=True)]
    wanted = [max(_longest_word([heading]), *map(len, cells)) for heading, cells in zip(headings, columns, strict=True)]
    spare = room - sum(least)
    if spare < 0:
        return None
    for place in sorted(range(len(least)), key=lambda place: wanted[place] - least[place]):
        more = min(spare, max(0, wanted[place] - least[place]))
        least[place] += more
        spare -= more
    return least


def _longest_word(texts: Sequence[str]) -> int:
    return max((len(word) for text in texts for word in WORD.findall(text)), default=0)


def _table(headings: Sequence[str], rows: Rows, widths: Sequence[int], gap: str) -> list[str]:
    """The rows as lines, below headings that end on one line and a rule."""

    def beside(columns: Rows) -> list[str]:
        cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in columns]
        return [gap.join(line).rstrip() for line in cells]

    def aligned(row: Sequence[str], at_end: bool = False) -> list[str]:
        cells = [broken(cell, width) for cell, width in zip(row, widths, strict=True)]
        height = max(map(len, cells))
        blank = [[""] * (height - len(cell)) for cell in cells]
        columns = [more + cell if at_end else cell + more for cell, more in zip(cells, blank, strict=True)]
        return beside(list(zip(*columns, strict=True)))

    rule = "─" * (sum(widths) + len(gap) * (len(widths) - 1))
    return [*aligned(headings, at_end=True), rule, *(line for row in rows for line in aligned(row))]


def _blocks(headings: Sequence[str], rows: Rows, keys: int, width: int) -> list[str]:
    """Each row as lines: what says which it is, then a heading and its cell in each."""
    beside = max(map(len, headings[keys:]), default=0) + 2
    lines = []
    for number, row in enumerate(rows):
        title = ", ".join(
            f"{name} {cell}" for name, cell in zip(headings[:keys], row, strict=False) if cell not in ("", MISSING)
        )
        lines += [""] if number else []
        lines += broken(title or f"row {number + 1}", width)
        for name, cell in zip(headings[keys:], row[keys:], strict=True):
            if cell:
                first, *more = broken(cell, width - len(INDENT) - beside)
                lines += [f"{INDENT}{name:<{beside}}{first}", *(INDENT + " " * beside + part for part in more)]
    return lines
