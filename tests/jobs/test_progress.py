"""Bars of long work: what they print never exceeds the whole."""

import io
import itertools
import re
import time

import pytest
from rich.console import Console

from jobs.console import progress
from jobs.console.progress import reading_bar


def test_each_of_several_reads_has_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(0, 2)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    out = io.StringIO()
    with reading_bar(Console(file=out, width=120), "Reading pictures") as report:
        for total in (10, 50, 50):
            for done in (total // 5, total // 2, total):
                report(done, total)
    shares = [int(share) for share in re.findall(r"(\d+)%", out.getvalue())]
    assert shares == [20, 50, 100] * 3
    assert out.getvalue().count("Reading pictures: done") == 3
