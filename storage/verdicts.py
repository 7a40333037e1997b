"""People's verdicts on pairs, one JSON line each, in ``verdicts.jsonl``.

Invariant: a line that `append_verdict` returned from is on disk, whole, whoever else writes at the same time, and is
never changed. What a crash leaves of a line is passed over and harms no other.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from storage.atomic import make_folder, sync_folder
from storage.layout import SweepLayout
from storage.lock import wait_for_lock

DUPLICATE, DISTINCT, UNDECIDED = "duplicate", "distinct", "undecided"
VERDICTS = (DUPLICATE, DISTINCT, UNDECIDED)
LINE_BYTES = 4096  # longer ones are refused


@dataclass(frozen=True)
class Verdict:
    """One line: a person's verdict on a pair, or that they take one back.

    Attributes
    ----------
    id : str
        Names the line; a line that is sent twice counts once.
    trial, step : str, int
        Whose samples, at which generator step; of real images ``"reference"`` and 0.
    pair : tuple of int
        Numbers of the two images among the samples of their trial, the lower one first.
    chosen : str
        Why the pair was shown: ``"drawn"`` at random, ``"closest"`` of its snapshot, ``"sample"`` (closest of a sample of
        the published protocol), ``"control"`` (two real images) or ``"same"`` (one real image twice).
    samples : int
        Samples of the published protocol that this review shows of each trial.
    reviewer : str
        Who.
    verdict : str
        One of `VERDICTS`; empty when this line takes back another.
    undoes : str
        Id of the line that this one takes back; empty otherwise.
    embedding : str
        Space of the distances by which the pair was chosen.
    blind : bool
        Whether the reviewer saw nothing but the two images and their difference.
    time : str
        When, UTC, ISO 8601.
    page : str
        Version of the page.
    """

    id: str
    trial: str
    step: int
    pair: tuple[int, int]
    chosen: str
    samples: int
    reviewer: str
    verdict: str
    undoes: str
    embedding: str
    blind: bool
    time: str
    page: str


def append_verdict(layout: SweepLayout, verdict: Verdict) -> None:
    """Add a line; when this returns it is synced to disk.

    Raises
    ------
    ValueError
        If the line would be longer than `LINE_BYTES`.
    OSError
        If the disk is full, the folder is read-only, or the like: the verdict is not recorded.
    """
    line = json.dumps(asdict(verdict), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    if len(line) > LINE_BYTES:
        raise ValueError(f"a verdict of {len(line)} bytes; allowed: at most {LINE_BYTES}")
    path = layout.verdicts
    make_folder(path.parent)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        # The lock serves file systems that append in two steps (NFS), and keeps the look at the last byte true.
        wait_for_lock(descriptor)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a crash cut the last line off: it ends here, and is passed over
        if (written := os.write(descriptor, line)) != len(line):
            raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes written", str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def read_verdicts(layout: SweepLayout) -> list[Verdict]:
    """Return every whole line in the order of the file; what is not one, and repetitions of one, are passed over."""
    if not layout.verdicts.exists():
        return []
    return list(_whole_lines(layout.verdicts.read_bytes()))


def standing(lines: Iterable[Verdict]) -> dict[tuple[str, int, tuple[int, int]], dict[str, Verdict]]:
    """Return what holds after all lines: the verdict of each reviewer on each pair, by (trial, step, pair) and name.

    A reviewer's later verdict on a pair replaces the earlier one; when it is taken back, the earlier one holds again.
    """
    stacks: dict[tuple[str, int, tuple[int, int]], dict[str, list[Verdict]]] = {}
    for line in lines:
        stack = stacks.setdefault((line.trial, line.step, line.pair), {}).setdefault(line.reviewer, [])
        if line.undoes:
            stack[:] = [each for each in stack if each.id != line.undoes]
        else:
            stack.append(line)
    held = {
        key: {reviewer: stack[-1] for reviewer, stack in by_reviewer.items() if stack}
        for key, by_reviewer in stacks.items()
    }
    return {key: by_reviewer for key, by_reviewer in held.items() if by_reviewer}


def _whole_lines(content: bytes) -> Iterator[Verdict]:
    seen = set()
    for line in content.splitlines():
        try:
            verdict = _verdict(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if verdict.id not in seen:
            seen.add(verdict.id)
            yield verdict


def _verdict(row: Mapping[str, Any]) -> Verdict:
    first, second = (int(number) for number in row["pair"])
    values = {field.name: row[field.name] for field in fields(Verdict)}
    verdict = Verdict(**{**values, "pair": (first, second), "step": int(row["step"]), "samples": int(row["samples"])})
    if verdict.verdict not in VERDICTS and not verdict.undoes:
        raise ValueError(verdict.verdict)
    return verdict
