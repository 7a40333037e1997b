"""The pipeline refuses what it can't do before it does anything."""

import shutil
from contextlib import nullcontext

import pytest
from rich.console import Console

from jobs.cli.pipeline import check_memory, measure_folder, run_sweep
from jobs.spec.validation import SpecError
from storage.results import open_results
from tests.jobs.measuring.test_measure import draw

LITTLE = {"measure_memory_gb": 0.01}


def test_too_little_memory_is_refused_in_a_folder_that_has_begun_too(prepared) -> None:
    layout, spec = prepared(resources=LITTLE)
    before = sorted(layout.root.rglob("*"))
    for refused in (
        lambda: run_sweep(spec, layout, Console()),
        lambda: measure_folder(layout, Console()),
        lambda: check_memory(spec, layout, None, 10**7, "more"),
    ):
        with pytest.raises(SpecError, match=r"10 MB.*\(1, 8, 8\)"):
            refused()
    assert sorted(layout.root.rglob("*")) == before


def test_a_folder_in_which_nothing_has_begun_cannot_be_measured(prepared) -> None:
    layout, _ = prepared()
    shutil.rmtree(layout.reference)
    with pytest.raises(SpecError, match="nothing to measure here yet; run its sweep first"):
        measure_folder(layout, Console())


@pytest.mark.parametrize("threshold", ["auto", {"rate": 0.01}, {"quantile": 0.2}, 5.0])
def test_another_embedding_is_measured_unless_the_threshold_is_a_distance(prepared, monkeypatch, threshold) -> None:
    layout, spec = prepared(
        model={"family": "known-support", "pool": 40},
        train={"steps": 6},
        collisions={"sample_sizes": [10], "threshold": threshold},
    )
    draw(layout, spec.trials()[0])
    monkeypatch.setattr("jobs.cli.pipeline.local_dask", lambda workers: nullcontext(map))
    if threshold == 5.0:
        with pytest.raises(SpecError, match=r"threshold = 5 is a distance in pixels; allowed: .*a rate or a quantile"):
            measure_folder(layout, Console(), "normalised")
    else:
        measure_folder(layout, Console(), "normalised")
        assert open_results(layout).attrs["embedding"] == "normalised"


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        (
            {"gpus_per_trial": 1},
            r"resources.gpus_per_trial: got 1, .* 0 GPUs to show .*='-1'.*at most 0 \(--set resources",
        ),
        ({"gpus_per_trial": 0.5}, r"resources.gpus_per_trial: got 0.5, .* 0 GPUs to show"),
        (
            {"device": "cuda"},
            r"resources.device: got cuda, .* 0 GPUs to show .*allowed: cpu \(--set resources.device=cpu\)",
        ),
    ],
)
def test_gpus_that_cuda_does_not_show_are_refused_at_once(prepared, monkeypatch, resources, said) -> None:
    layout, spec = prepared(resources=resources)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    before = sorted(layout.root.rglob("*"))
    with pytest.raises(SpecError, match=said) as refused:
        run_sweep(spec, layout, Console())
    assert len(str(refused.value).splitlines()) == 1
    assert sorted(layout.root.rglob("*")) == before


def test_a_finished_sweep_starts_neither_ray_nor_dask(prepared, monkeypatch) -> None:
    layout, spec = prepared(
        model={"family": "known-support", "pool": 40}, train={"steps": 6}, collisions={"sample_sizes": [10]}
    )
    for trial in spec.trials():
        draw(layout, trial)

    def started(*arguments: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("jobs.measuring.comparison.ALONE_S", 0.0)
    monkeypatch.setattr("cluster.local._dask", started)
    monkeypatch.setattr("jobs.cli.pipeline.local_ray", started)
    with pytest.raises(AssertionError, match="a cluster was started"):  # all pairs are still to be compared
        run_sweep(spec, layout, Console())
    with monkeypatch.context() as here:
        here.setattr("jobs.cli.pipeline.local_dask", lambda workers: nullcontext(map))
        measure_folder(layout, Console())
    layout.results.rename(layout.root / "before")
    assert run_sweep(spec, layout, Console()) == 0
    assert layout.results.exists()
    layout.trial(spec.trials()[0].id).outcome.unlink()
    with pytest.raises(AssertionError, match="a cluster was started"):
        run_sweep(spec, layout, Console())
