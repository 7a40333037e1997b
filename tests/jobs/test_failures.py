"""A trial's failure: its cause is that of its type, whatever its words, and goes with it from worker to driver."""

import errno
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.training.failures import record_failure
from storage.atomic import WriteError
from storage.layout import SweepLayout
from storage.outcome import Failure

TRIAL = SimpleNamespace(id="dcgan-1", model=SimpleNamespace(family="dcgan"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WriteError(errno.EIO, "Input/output error, while writing", "/x"), Failure.DISK),
        (OSError(errno.EIO, "Input/output error", "/x"), Failure.ERROR),
        (RuntimeError("No space left, while writing; out of memory; not finite"), Failure.ERROR),
    ],
)
def test_the_cause_of_a_failure(tmp_path: Path, error: Exception, kind: Failure) -> None:
    failure = record_failure(SweepLayout(tmp_path), TRIAL, error)
    assert failure.kind is kind
    carried = pickle.loads(pickle.dumps(failure))
    assert (str(carried), carried.kind, carried.of_user) == (str(failure), kind, False)
