"""Errors cross from workers to the command: Ray and Dask pickle them, and what is made again must say the same."""

import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster.job import JobEnd
from ganlab.data.pictures import PictureError
from jobs.spec.validation import Fault, SpecError
from jobs.training.failures import TrialFailedError
from storage.arrays import MissingItemsError
from storage.atomic import DamagedError
from storage.layout import SweepLayout
from storage.lease import LeaseLostError
from storage.lock import SweepBusyError
from storage.outcome import Failure
from storage.samples import DamagedShardError

PACKAGES = ("cluster", "ganlab", "jobs", "monitoring", "storage")
EXAMPLES: list[Exception] = [
    DamagedError(Path("a.npz"), "plain arrays", ValueError("cut short")),
    DamagedError(Path("a.npz"), "plain arrays", "cut short", "delete it"),
    DamagedShardError(Path("c/0"), "checksum", Path("samples.zarr")),
    JobEnd(3, "no room"),
    LeaseLostError("dcgan-0123456789"),
    MissingItemsError(Path("a.zarr"), np.array([True, False, True]), 0),
    PictureError("a.gif has 3 frames", "one frame each", "frames", "all"),
    SpecError("got 3; allowed: 1 or 2", ("train", "steps", 0), "a.yaml", Fault.NOT_WHOLE),
    SpecError("cut short"),
    SweepBusyError(SweepLayout(Path("out")), "ganlab run", "stop it"),
    TrialFailedError("a bug", True, Failure.ERROR),
]


def own_errors() -> Iterator[type[Exception]]:
    """Exception classes of our packages whose constructor is their own."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        for found in pkgutil.walk_packages(module.__path__, f"{package}."):
            if found.name.endswith("__main__"):
                continue
            for each in vars(importlib.import_module(found.name)).values():
                ours = isinstance(each, type) and issubclass(each, Exception) and each.__module__ == found.name
                if ours and "__init__" in vars(each):
                    yield each


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: f"{type(error).__name__}: {error}"[:40])
def test_an_error_says_the_same_in_another_process(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert repr(vars(again)) == repr(vars(error))


def test_every_error_with_a_constructor_is_tried() -> None:
    assert set(own_errors()) == {type(error) for error in EXAMPLES}
