"""Store of the verdicts of a sweep: numbers the pairs of each reviewer and appends their decisions to a file.

Invariant: a verdict is on disk when `VerdictStore.record` returns, its withdrawal when `undo` does; the state is that of
the file, whichever process wrote it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.review.choose import Choice, ReviewPair
from storage.layout import SweepLayout
from storage.verdicts import VERDICTS, Verdict, append_verdict, read_verdicts, standing

Key = tuple[str, int, tuple[int, int]]


@dataclass(eq=False)
class VerdictStore:
    """One sweep under review.

    Parameters
    ----------
    layout, choice
        The sweep, and the pairs to judge.
    page : str
        Version of the page, for the record.
    now : callable
        The time, UTC, ISO 8601.
    """

    layout: SweepLayout
    choice: Choice
    page: str
    now: Callable[[], str]
    _lines: list[Verdict] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)
    _orders: dict[str, tuple[ReviewPair, ...]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Read the file again: others may have written to it."""
        with self._lock:
            self._lines = read_verdicts(self.layout)
            self._ids = {line.id for line in self._lines}

    def order(self, reviewer: str) -> tuple[ReviewPair, ...]:
        """Every pair in the order in which this reviewer sees them; a pair's place here is its number."""
        with self._lock:
            if reviewer not in self._orders:
                self._orders[reviewer] = self.choice.order(reviewer)
            return self._orders[reviewer]

    def verdicts(self, reviewer: str) -> list[str]:
        """This reviewer's standing verdict on every pair, by number; empty where there is none."""
        with self._lock:
            held = standing(line for line in self._lines if line.reviewer == reviewer)
        given = {key: by_name[reviewer].verdict for key, by_name in held.items()}
        return [given.get(_key(shown), "") for shown in self.order(reviewer)]

    def record(self, reviewer: str, number: int, verdict: str, name: str) -> None:
        """Append a verdict; one that is sent again (with the same `name`) is not written again.

        Raises
        ------
        ValueError
            If the number or the verdict is none.
        OSError
            If it can't be written.
        """
        shown = self.shown(reviewer, number)
        if verdict not in VERDICTS:
            raise ValueError(f"verdict {verdict!r}: allowed are {', '.join(VERDICTS)}")
        self._append(self._line(name, shown, reviewer, verdict=verdict))

    def undo(self, reviewer: str, name: str) -> int | None:
        """Take back this reviewer's last verdict; returns its pair's number, or None when there is none.

        Raises
        ------
        OSError
            If it can't be written.
        """
        with self._lock:
            self.refresh()
            numbers = {_key(shown): number for number, shown in enumerate(self.order(reviewer))}
            again = next((line for line in self._lines if line.id == name), None)
            if again is not None:
                return numbers.get((again.trial, again.step, again.pair))
            own = [line for line in self._lines if line.reviewer == reviewer]
            undone = {line.undoes for line in own}
            last = next(
                (
                    line
                    for line in reversed(own)
                    if not line.undoes and line.id not in undone and (line.trial, line.step, line.pair) in numbers
                ),
                None,
            )
            if last is None:
                return None
            number = numbers[(last.trial, last.step, last.pair)]
            self._append(self._line(name, self.order(reviewer)[number], reviewer, undoes=last.id))
            return number

    def shown(self, reviewer: str, number: int) -> ReviewPair:
        """The pair of a number. Raises ValueError when there is none."""
        order = self.order(reviewer)
        if not 0 <= number < len(order):
            raise ValueError(f"pair {number}: there are 0 to {len(order) - 1}")
        return order[number]

    def _line(self, name: str, shown: ReviewPair, reviewer: str, verdict: str = "", undoes: str = "") -> Verdict:
        return Verdict(
            id=name,
            trial=shown.trial,
            step=shown.step,
            pair=shown.pair,
            chosen=shown.chosen,
            reviewer=reviewer,
            verdict=verdict,
            undoes=undoes,
            blind=self.choice.blind,
            embedding=self.choice.embedding,
            samples=self.choice.samples,
            time=self.now(),
            page=self.page,
        )

    def _append(self, line: Verdict) -> None:
        with self._lock:
            if line.id in self._ids:
                return
            append_verdict(self.layout, line)
            self._lines.append(line)
            self._ids.add(line.id)


def _key(shown: ReviewPair) -> Key:
    return shown.trial, shown.step, shown.pair
