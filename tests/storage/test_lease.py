"""A trial has one holder at a time: dead ones are replaced, silent ones stop, and no clock confuses them."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from storage import lease
from storage.layout import SweepLayout, TrialLayout
from storage.lease import LeaseLostError, hold_lease
from tests.waiting import until

HOLDER = """
import sys, time
from pathlib import Path
from storage import lease
from storage.layout import TrialLayout
lease.LEASE_S, lease.RENEW_S, lease.MARGIN_S, lease.POLL_S = 3.0, 0.3, 1.0, 0.05
trial, log, foreign = TrialLayout(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3] == "foreign"
if foreign:  # as a process on another machine, whose life and death can't be seen
    lease._dead = lambda holder: False
with lease.hold_lease(trial) as held:
    while True:
        held.check()
        with log.open("a") as file:
            file.write(f"{time.monotonic()} {sys.argv[4]}\\n")
        time.sleep(0.02)
"""


@pytest.fixture
def trial(folder: Path) -> TrialLayout:
    return SweepLayout(folder).trial("a-trial")


class Holders:
    def __init__(self, trial: TrialLayout, folder: Path) -> None:
        self.trial, self.log = trial, folder / "writes"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, name: str, sees: str = "foreign") -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, self.trial.root, self.log, sees, name], stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def writes(self) -> list[tuple[float, str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(float(at), name) for at, name in map(str.split, lines)]

    def until_written_by(self, name: str) -> float:
        """Wait for a write of `name`; when its first was."""
        until(lambda: any(who == name for _, who in self.writes()), f"{name} holds the trial")
        return next(at for at, who in self.writes() if who == name)


@pytest.fixture
def holders(trial: TrialLayout, folder: Path):  # type: ignore[no-untyped-def]
    made = Holders(trial, folder)
    yield made
    for process in made.processes:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def never_two(writes: list[tuple[float, str]]) -> None:
    """The writes of one holder all come before those of the next."""
    names = [name for _, name in sorted(writes)]
    turns = [name for before, name in zip(["", *names], names, strict=False) if name != before]
    assert len(turns) == len(set(turns)), turns


@pytest.mark.process
def test_a_holder_that_hangs_is_replaced_and_stops_when_it_comes_to(holders: Holders) -> None:
    first = holders.start("first")
    holders.until_written_by("first")
    holders.start("second")
    time.sleep(5)
    assert {name for _, name in holders.writes()} == {"first"}, "it is renewed as long as its holder lives"
    first.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    assert holders.until_written_by("second") - stopped > 1.5
    first.send_signal(signal.SIGCONT)
    _, error = first.communicate(timeout=30)
    assert "LeaseLostError" in error
    assert "a-trial" in error
    time.sleep(0.5)
    never_two(holders.writes())


@pytest.mark.process
def test_a_killed_holder_is_replaced_at_once_where_its_death_can_be_seen(holders: Holders) -> None:
    first = holders.start("first", "here")
    holders.until_written_by("first")
    first.kill()
    first.wait()
    killed = time.monotonic()
    holders.start("second", "here")
    holders.start("third", "foreign")
    assert holders.until_written_by("second") - killed < 30
    time.sleep(1)
    never_two(holders.writes())


@pytest.mark.process
def test_of_many_that_claim_at_once_one_holds(holders: Holders) -> None:
    for number in range(5):
        holders.start(f"holder-{number}")
    until(lambda: len(holders.writes()) >= 20)
    assert len({name for _, name in holders.writes()}) == 1
    assert len(list(holders.trial.leases.glob("[!.]*"))) == 1


def test_it_is_free_again_when_it_is_released(trial: TrialLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_dead", lambda holder: False)
    for _ in range(3):
        began = time.monotonic()
        with hold_lease(trial) as held:
            held.check()
            assert time.monotonic() - began < 5
    assert list(trial.leases.iterdir()) == []


def test_two_threads_of_a_process_do_not_share_it(trial: TrialLayout) -> None:
    inside = threading.Event()

    def other() -> None:
        with hold_lease(trial):
            inside.set()

    with hold_lease(trial):
        thread = threading.Thread(target=other)
        thread.start()
        assert not inside.wait(2)
    thread.join(30)
    assert inside.is_set()


def test_wrong_times_of_day_change_nothing(trial: TrialLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is from the future, and the clock is set while it is held."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with hold_lease(trial) as held:
        (claim,) = trial.leases.iterdir()
        os.utime(claim, (4e9, 4e9))
        held.check()
        assert json.loads(claim.read_text())["pid"] == os.getpid()


def test_a_claim_that_disappears_or_is_outbid_is_lost(trial: TrialLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    for spoil in (lambda: (trial.leases / "00000001.json").unlink(), lambda: (trial.leases / "00000009.json").touch()):
        with hold_lease(trial) as held:
            spoil()
            deadline = time.monotonic() + 20
            while not held.lost:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with pytest.raises(LeaseLostError):
                held.check()
        for left in trial.leases.iterdir():
            left.unlink()


def test_another_process_can_see_that_the_lease_is_superseded(trial: TrialLayout) -> None:
    with hold_lease(trial) as held:
        check = pickle.loads(pickle.dumps(held.superseded))
        check()
        (trial.leases / "00000009.json").touch()
        with pytest.raises(LeaseLostError):
            check()
