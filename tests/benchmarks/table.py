"""The table that every benchmark prints."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

Target = str | float | None  # a number is the least that is wanted


def print_table(rows: Iterable[tuple[str, float, str, Target]]) -> None:
    """Print rows of (name, value, unit, target) on stdout."""
    table = Table("measured side by side in this run", "value", "unit", "target")
    for name, value, unit, target in rows:
        words = f"≥ {target:g}" if isinstance(target, int | float) else target or ""
        table.add_row(name, f"{value:.3g}", unit, words)
    Console(width=140).print(table)
