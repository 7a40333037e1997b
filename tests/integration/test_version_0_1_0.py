"""A sweep folder that version 0.1.0 left half trained and measured: it opens, is measured, and goes on.

Invariant: sweep-0.1.0.tar.xz was written by version 0.1.0 (`ganlab run small.yaml --out sweep`, SIGTERM, `ganlab measure
sweep`) and is never written again.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from storage.layout import SweepLayout
from storage.results import read_results
from storage.samples import Samples

POOL = 20


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "sweep-0.1.0.tar.xz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # which Python 3.11.2 of Debian lacks
        archive.extractall(tmp_path)
    return tmp_path / "sweep"


def test_a_sweep_of_version_0_1_0_opens_and_goes_on(sweep: Path, on_clusters) -> None:
    status = json.loads(on_clusters("status", sweep, "--json").stdout)
    assert sorted(trial["state"] for trial in status["trials"]) == ["completed"] * 2 + ["interrupted"] * 2
    refused = on_clusters("report", sweep)
    assert refused.exit_code == 2
    assert "ganlab measure" in refused.stderr
    trials = {path.name: SweepLayout(sweep).trial(path.name) for path in (sweep / "trials").iterdir()}
    before = {trial_id: Samples(trial).read(0, 60) for trial_id, trial in trials.items()}

    measured = on_clusters("measure", sweep, "--json")
    assert measured.exit_code == 0, measured.stderr
    results = read_results(SweepLayout(sweep)).isel(snapshot=-1)
    pools = results.sel(trial=results.family == "known-support")
    assert pools.sizes["trial"] == 2
    assert bool(((pools.support_size_low < POOL) & (pools.support_size_high > POOL)).all())
    assert bool((pools.distinct_seen <= POOL).all())

    done = on_clusters("run", sweep.parent / "small.yaml", "--out", sweep)
    assert done.exit_code == 0, done.stderr
    status = json.loads(on_clusters("status", sweep, "--json").stdout)
    assert {trial["state"] for trial in status["trials"]} == {"completed"}
    for trial_id, trial in trials.items():
        np.testing.assert_array_equal(Samples(trial).read(0, 60), before[trial_id])
    assert set(read_results(SweepLayout(sweep)).status.values) == {"completed"}
