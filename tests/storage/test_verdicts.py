"""Verdicts on disk: none is lost, whoever writes and however a writer ends."""

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from storage.layout import SweepLayout
from storage.verdicts import DISTINCT, DUPLICATE, Verdict, append_verdict, read_verdicts, standing

LINE = Verdict(
    id="a0",
    trial="trial é 1",
    step=20,
    pair=(3, 17),
    chosen="drawn",
    samples=4,
    reviewer="Zoë O’Neill",
    verdict=DUPLICATE,
    undoes="",
    embedding="pixels",
    blind=False,
    time="2026-11-22T10:00:00.000+00:00",
    page="1+2",
)


def test_a_line_comes_back_as_it_was(sweep: SweepLayout) -> None:
    assert read_verdicts(sweep) == []
    append_verdict(sweep, LINE)
    assert read_verdicts(sweep) == [LINE]
    (text,) = sweep.verdicts.read_text("utf-8").splitlines()
    assert json.loads(text)["reviewer"] == "Zoë O’Neill"


def test_appending_changes_no_earlier_byte(sweep: SweepLayout) -> None:
    append_verdict(sweep, LINE)
    before = sweep.verdicts.read_bytes()
    append_verdict(sweep, replace(LINE, id="a1"))
    assert sweep.verdicts.read_bytes().startswith(before)


@pytest.mark.parametrize("cut", [1, 40, -2, -1])
def test_half_a_line_is_passed_over_and_harms_no_other(sweep: SweepLayout, cut: int) -> None:
    append_verdict(sweep, LINE)
    whole = sweep.verdicts.read_bytes()
    with sweep.verdicts.open("ab") as file:
        file.write(whole[:cut])  # what a crash leaves; -1 cuts off nothing but the end of the line
    append_verdict(sweep, replace(LINE, id="a1"))
    assert [line.id for line in read_verdicts(sweep)] == ["a0", "a1"]


def test_zeros_that_a_power_cut_leaves_are_passed_over(sweep: SweepLayout) -> None:
    append_verdict(sweep, LINE)
    with sweep.verdicts.open("ab") as file:
        file.write(b"\0" * 100)
    append_verdict(sweep, replace(LINE, id="a1"))
    assert [line.id for line in read_verdicts(sweep)] == ["a0", "a1"]


@pytest.mark.parametrize("row", ["3", "null", "[]", '{"id": "x"}', '{"pair": [1]}', '{"pair": 3}'])
def test_other_json_is_no_verdict(sweep: SweepLayout, row: str) -> None:
    append_verdict(sweep, LINE)
    with sweep.verdicts.open("a") as file:
        file.write(row + "\n")
    assert read_verdicts(sweep) == [LINE]


def test_a_line_sent_twice_counts_once(sweep: SweepLayout) -> None:
    append_verdict(sweep, LINE)
    append_verdict(sweep, LINE)
    assert read_verdicts(sweep) == [LINE]


def test_a_full_disk_is_an_error_and_leaves_the_file_usable(sweep: SweepLayout) -> None:
    append_verdict(sweep, LINE)
    size = sweep.verdicts.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, before[1]))
        with pytest.raises(OSError, match="written"):
            append_verdict(sweep, replace(LINE, id="a1"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert sweep.verdicts.stat().st_size == size + 30
    append_verdict(sweep, replace(LINE, id="a2"))
    assert [line.id for line in read_verdicts(sweep)] == ["a0", "a2"]


def test_a_line_too_long_is_refused(sweep: SweepLayout) -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        append_verdict(sweep, replace(LINE, reviewer="x" * 5000))
    assert not sweep.verdicts.exists()


def test_the_last_verdict_holds_until_it_is_taken_back() -> None:
    key = (LINE.trial, LINE.step, LINE.pair)
    again = replace(LINE, id="a1", verdict=DISTINCT)
    other = replace(LINE, id="a2", reviewer="Bob")
    undo = replace(LINE, id="a3", verdict="", undoes="a1")
    assert standing([LINE, again, other]) == {key: {LINE.reviewer: again, "Bob": other}}
    assert standing([LINE, again, other, undo]) == {key: {LINE.reviewer: LINE, "Bob": other}}
    assert standing([LINE, replace(undo, undoes="a0")]) == {}


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from storage.layout import SweepLayout
from storage.verdicts import Verdict, append_verdict
sweep = SweepLayout(Path(sys.argv[1]))
reviewer = "r" * (10 + 97 * int(sys.argv[2]))
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}-{number}"
    line = Verdict(name, "t", 1, (0, 1), "drawn", 4, reviewer, "distinct", "", "pixels", False, "now", "x" * 2000)
    append_verdict(sweep, line)
    print(name, flush=True)
"""


def start(sweep: SweepLayout, writer: int, lines: int) -> "subprocess.Popen[str]":
    """A process that appends lines, and prints the id of each when it is acknowledged."""
    command = [sys.executable, "-c", WRITER, str(sweep.root), str(writer), str(lines)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=os.getcwd())


@pytest.mark.process
def test_several_writers_lose_no_line(sweep: SweepLayout) -> None:
    sweep.root.mkdir(parents=True)
    writers, lines = 4, 40
    processes = [start(sweep, writer, lines) for writer in range(writers)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    found = [line.id for line in read_verdicts(sweep)]
    assert sorted(found) == sorted(f"{writer}-{number}" for writer in range(writers) for number in range(lines))
    for writer in range(writers):  # each writer's lines in its own order
        assert [each for each in found if each.startswith(f"{writer}-")] == [f"{writer}-{n}" for n in range(lines)]
    assert len(sweep.verdicts.read_bytes().splitlines()) == writers * lines


@pytest.mark.process
def test_a_writer_killed_at_any_moment_loses_nothing_acknowledged(sweep: SweepLayout) -> None:
    sweep.root.mkdir(parents=True)
    acknowledged = []
    for life in range(4):
        writer = start(sweep, life, 10**6)
        assert writer.stdout is not None
        acknowledged.append(writer.stdout.readline().strip())
        time.sleep(0.05 + 0.037 * life)
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
    found = {line.id for line in read_verdicts(sweep)}
    assert len(acknowledged) > 8
    assert found.issuperset(acknowledged)


def test_a_file_system_without_locks_takes_verdicts_too(sweep: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no locks")))
    append_verdict(sweep, LINE)
    assert read_verdicts(sweep) == [LINE]
