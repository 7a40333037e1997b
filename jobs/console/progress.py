"""Progress of a running command: a bar on a terminal, lines at intervals in a log.

Invariant: everything goes to stderr; stdout carries data only.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.spinner import Spinner

from jobs.console.words import duration, filled, magnitude
from storage.trial_state import TrialState

LINE_EVERY_S = 20.0  # between two lines of a log
FILE_WIDTH = 10_000  # characters
QUIET_S = 1.0  # work beside the main one that is done sooner is not mentioned


def text_console(*, stderr: bool = False) -> Console:
    """Console that prints text as it is, brackets and names between colons, and breaks lines between words.

    As wide as the terminal, or as COLUMNS says; in a file or pipe, lines are as long as what they say. Commands and code
    to be copied are printed with `soft_wrap`.

    Parameters
    ----------
    stderr
        Print to stderr in place of stdout.
    """
    console = _Words(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    return console


class _Words(Console):
    """Console that breaks text between words alone."""

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        if not soft_wrap and all(isinstance(each, str) for each in objects):
            objects, soft_wrap = tuple(filled(each, self.width) for each in objects), True
        super().print(*objects, soft_wrap=soft_wrap, **options)


def stderr_console() -> Console:
    """Console on standard error, for messages that are not data."""
    return text_console(stderr=True)


def spinner(console: Console, words: str) -> Live:
    """Context that shows words and a spinner on a terminal, from its first moment to its end; nothing in a log."""
    return Live(Spinner("dots", words), console=console, transient=True)


def loading() -> Live:
    """Spinner for the import of a command's libraries, which takes seconds."""
    return spinner(stderr_console(), "Loading libraries")


class Bar:
    """Progress of one piece of work, as `total` units of any kind."""

    def __init__(self, console: Console, label: str, total: float) -> None:
        self.console, self.label, self.total = console, label, total
        self.done = 0.0
        self.note = ""
        self._started = self._last_line = time.monotonic()
        # A dumb terminal, which can't move its cursor, gets lines like a log.
        self._rich = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_interactive,
        )
        self._task = self._rich.add_task(label, total=total, note="")

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._rich.stop()
        taken = time.monotonic() - self._started
        end = f" ({self.note})" if self.note else ""
        if error[0] is None:
            self.console.print(f"{self.label}: done in {duration(taken)}{end}")

    def update(self, done: float, note: str | None = None) -> None:
        """Show that `done` units of the total are done."""
        self.done = done
        self.note = self.note if note is None else note
        self._rich.update(self._task, completed=done, note=self.note)
        now = time.monotonic()
        if not self.console.is_interactive and now - self._last_line > LINE_EVERY_S and self.total > 0:
            self._last_line = now
            left = (now - self._started) * (self.total - done) / done if done > 0 else float("nan")
            left_words = f", about {duration(left)} left" if done > 0 else ""
            self.console.print(f"{self.label}: {done / self.total:.0%}{left_words}  {self.note}")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line)


class SweepProgress:
    """Trials by state, steps per second and time left, from what trials report."""

    def __init__(
        self,
        bar: Bar,
        steps: Mapping[str, int],
        ended: Mapping[str, str],
        told: Callable[[int], None] = lambda ended: None,
    ) -> None:
        """`steps` of every trial by id, and the state of those that have ended before.

        `told` is called with the number of those that have ended, now and after each.
        """
        self._bar, self._steps, self._told = bar, dict(steps), told
        self._reached: dict[str, float] = dict.fromkeys(ended, 0.0)
        self._rates: dict[str, float] = {}
        self._states: dict[str, str] = dict(ended)
        for trial_id in ended:
            self._reached[trial_id] = self._steps.get(trial_id, 0)
        self._ends = set(ended)
        self._told(len(self._ends))
        self._show()

    def advanced(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """A trial reported."""
        if "steps_per_second" in row:
            self._states[trial_id] = TrialState.RUNNING
            self._reached[trial_id] = row["step"]
            self._rates[trial_id] = row["steps_per_second"]
            self._show()

    def interrupted(self, trial_id: str, reason: str) -> None:
        """An attempt at a trial ended, and it will go on."""
        self._bar.say(f"trial {trial_id} interrupted: {reason}; it goes on from its last checkpoint")
        self._states.pop(trial_id, None)
        self._rates.pop(trial_id, None)
        self._show()

    def ended(self, trial_id: str, state: str, reason: str | None = None) -> None:
        """A trial ended."""
        self._states[trial_id] = state
        self._reached[trial_id] = self._steps.get(trial_id, 0)
        self._rates.pop(trial_id, None)
        self._ends.add(trial_id)
        self._told(len(self._ends))
        if state == TrialState.FAILED:
            self._bar.say(f"trial {trial_id} failed: {reason}")
        self._show()

    def _show(self) -> None:
        counts = Counter(self._states.values())
        counts[TrialState.WAITING] = len(self._steps) - sum(counts.values())
        shown = [f"{counts[state]} {state}" for state in TrialState if counts[state] > 0]
        rate = sum(self._rates.values())
        note = ", ".join(shown) + (f" · {rate:.0f} steps/s" if rate else "")
        self._bar.update(sum(self._reached.values()), note)


class PairsBar:
    """A bar for comparing pairs, called with the pairs done and to do; and for what is done beside it, see `stage`.

    A new bar begins whenever the work, or how much of it there is, changes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._began = (0.0, 0.0)  # time, and what was done then
        self._stage, self._stage_began = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)

    def __call__(self, done: float, total: float, tiles_left: int = 0) -> None:
        """Show that `done` pairs of the total are compared, and how fast."""
        self._show("Comparing pairs", done, total, f"{magnitude(done)} of {magnitude(total)} pairs", " pairs/s")

    def stage(self, name: str, done: float, total: float) -> None:
        """Show how far other work is, such as training the classifier."""
        if self._stage != name:
            self._stage, self._stage_began = name, time.monotonic()
        if time.monotonic() - self._stage_began > QUIET_S:
            self._show(name, done, total)

    def _show(self, label: str, done: float, total: float, note: str = "", unit: str = "") -> None:
        if self._bar is None or (self._bar.label, self._bar.total) != (label, total):
            self.__exit__(None)
            self._bar = Bar(self._console, label, total).__enter__() if total else None
            self._began = (time.monotonic(), done)
        if self._bar is None:
            return
        seconds, since = time.monotonic() - self._began[0], done - self._began[1]
        if unit and since and seconds:
            note += f" · {magnitude(since / seconds)}{unit}"
        self._bar.update(done, note or None)


@contextmanager
def reading_bar(console: Console, label: str) -> Iterator[Any]:
    """A bar for each long read: yields progress(done, total), which shows nothing unless reading takes a while."""
    bar: Bar | None = None
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is not None and (total != bar.total or done < bar.done):  # another read, or one that turned out longer
            bar.__exit__(None, None, None)
            bar = None
        if bar is None and time.monotonic() - started > 1.0:
            bar = Bar(console, label, total).__enter__()
        if bar is not None:
            bar.update(done)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
