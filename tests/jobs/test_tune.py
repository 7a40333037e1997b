"""Ends of attempts that a trial's process could not record: whose fault they are, and why."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune as ray_tune
from ray.exceptions import ActorDiedError, ActorPlacementGroupRemoved, RayTaskError

from cluster import preemption
from jobs.training.tune import MOST_TROUBLES, _recorder, register, report_row
from storage.attempts import Cause, begin_attempt, read_attempts
from storage.trial_state import read_end


class Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


@pytest.fixture
def tuned(prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trial of Tune's whose attempt is running, Tune's callback, and what reads the trial's records."""
    from ray.train._internal import storage
    from ray.tune.experiment import Trial

    layout, spec = prepared()
    (trial,) = spec.trials()
    register(layout, trial, {"seed": trial.seed})
    monkeypatch.setattr(storage, "_get_ray_train_session_dir", lambda: str(tmp_path / "session"))
    place = storage.StorageContext(str(tmp_path / "storage"), "trials")
    tunes = Trial("trial", config={"trial": trial}, storage=place, stub=True)
    tunes.init_local_path()
    own, recorder = layout.trial(trial.id), _recorder(layout, spec, Silent())

    def fail(error: Exception, callback: str = "on_trial_recover", began: bool = True) -> Any:
        if began:
            begin_attempt(own)
        tunes.handle_error(error)
        getattr(recorder, callback)(0, [tunes], tunes)
        return read_attempts(own)[-1]

    return fail, recorder, own


def test_an_error_of_ray_itself_is_named_and_does_not_count(tuned: Any) -> None:
    """Tune keeps only the text of such an error, and not where its own function looks for it."""
    fail, _, own = tuned
    for began in (True, False) * 5:
        attempt = fail(ActorPlacementGroupRemoved(), began=began)
        assert attempt.cause == Cause.RAY
        assert "placement group" in attempt.reason.lower()
    assert read_end(own) is None


def test_no_error_is_taken_for_an_earlier_one(tuned: Any) -> None:
    fail, _, _ = tuned
    error = RayTaskError("train", "Traceback", ValueError("of the trial"), proctitle="p", pid=1, ip="10.0.0.1")
    assert fail(error).cause == Cause.ERROR
    later = fail(ActorPlacementGroupRemoved())
    assert later.cause == Cause.RAY
    assert "of the trial" not in later.reason
    assert fail(ActorDiedError()).cause == Cause.DIED


def test_a_trial_that_fails_again_and_again_has_its_reason(tuned: Any) -> None:
    fail, _, own = tuned
    for message in ("first", "second", "third"):
        assert read_end(own) is None
        fail(RayTaskError("train", "Traceback", ValueError(message), proctitle="p", pid=1, ip="10.0.0.1"))
    end = read_end(own)
    assert end is not None
    assert end.status == "failed"
    assert "third" in str(end.reason)


def test_a_trial_that_tune_gives_up_at_once_is_tried_again(tuned: Any) -> None:
    """As when a process is lost while it is handed from one trial to the next."""
    fail, recorder, own = tuned
    fail(ActorDiedError(), "on_trial_error")
    assert read_end(own) is None
    assert recorder.dropped == {own.root.name}


def test_a_ray_that_fails_for_ever_ends_the_command(tuned: Any) -> None:
    fail, recorder, _ = tuned
    for _ in range(MOST_TROUBLES):
        fail(ActorPlacementGroupRemoved())
    recorder.on_trial_result(0, [], None, {"trial": "x", "others": {}})
    for _ in range(MOST_TROUBLES):
        fail(ActorPlacementGroupRemoved())
    with pytest.raises(RuntimeError, match=r"Ray failed 101 times in a row .*placement group"):
        fail(ActorPlacementGroupRemoved())


def test_a_report_is_not_waited_for_on_a_node_that_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver has gone, so that Tune would wait for it until the process is killed, its work unsaved."""
    over = threading.Event()
    monkeypatch.setattr(ray_tune, "report", lambda row: over.wait(60))
    monkeypatch.setenv(preemption.NODE, str(tmp_path))
    threading.Timer(0.5, preemption.request_stop, [tmp_path]).start()
    began = time.monotonic()
    report_row({"step": 1})
    assert 0.4 < time.monotonic() - began < 20
    over.set()


@pytest.mark.parametrize("error", [SystemExit(0), RuntimeError("of Tune")])
def test_what_a_report_raises_ends_the_trial(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune stops a trial in a report."""

    def report(row: dict[str, Any]) -> None:
        assert row == {"step": 1}
        raise error

    monkeypatch.setattr(ray_tune, "report", report)
    with pytest.raises(type(error)):
        report_row({"step": 1})
