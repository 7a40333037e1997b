"""GPU time and energy: what trials of one process used adds up to what it held, and an unknown part is never left out."""

from contextlib import ExitStack

import pytest
import xarray as xr

from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.report.results_json import results_json
from jobs.report.sweep_page import write_report
from jobs.report.sweep_table import results_table
from jobs.spec.sweep import Spec
from jobs.training import metering
from jobs.training.data_parallel import run_data_parallel
from jobs.training.metering import Meter
from jobs.training.stacked_trials import run_replicas
from jobs.training.trial import TrialOptions, run_trial
from jobs.training.tune import register
from jobs.watching.sweep_watch import SweepWatch
from storage.attempts import Cause, begin_attempt, end_attempt
from storage.layout import SweepLayout
from storage.outcome import Outcome, write_outcome
from storage.usage import Usage, read_usage, write_usage

WATTS = 100.0


class Clock:
    """Time that passes when a test says so, and the counters of GPUs that take 100 W each meanwhile."""

    def __init__(self, gpus: int) -> None:
        self.now, self.base, self.gpus, self.tick = 1000.0, 5e6, gpus, 0.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now

    def energy(self) -> list[float | None]:
        return [self.base + WATTS * self.now] * self.gpus


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(1)
    monkeypatch.setattr(metering, "time", found)
    monkeypatch.setattr(metering, "gpu_energy_j", found.energy)
    return found


@pytest.mark.parametrize(
    ("gpus", "visible", "gpu_s", "energy_j"),
    [
        (1.0, 1, 60.0, 6000.0),
        (0.25, 1, 15.0, 1500.0),  # its share of the one GPU that it sees
        (2.0, 2, 120.0, 12000.0),
        (1.0, 0, 60.0, None),  # no NVML
    ],
)
def test_a_trial_is_charged_for_what_it_holds(
    clock: Clock, folder, gpus: float, visible: int, gpu_s: float, energy_j: float | None
) -> None:
    trial, clock.gpus = SweepLayout(folder).trial("a"), visible
    with Meter().counting(trial, gpus):
        clock.now += 60
    clock.now += 999
    assert read_usage(trial) == Usage(gpu_s, energy_j)


def test_a_trial_without_a_gpu_leaves_no_record(clock: Clock, folder) -> None:
    trial = SweepLayout(folder).trial("a")
    with Meter().counting(trial, 0):
        clock.now += 60
    assert read_usage(trial) is None


def test_trials_of_one_process_share_what_it_holds_while_they_run(clock: Clock, folder) -> None:
    """Three begin, one after the other, and end at different times; then the process has another trial."""
    layout, meter = SweepLayout(folder), Meter()
    one, two, three, later = (layout.trial(name) for name in ("one", "two", "three", "later"))
    with meter.counting(one, 1):
        clock.now += 10
        with ExitStack() as others:
            others.enter_context(meter.counting(two, 1))
            clock.now += 10
            others.enter_context(meter.counting(three, 1))
            clock.now += 30
        clock.now += 7
    clock.now += 100
    with meter.counting(later, 1):
        clock.now += 5
    usages = [read_usage(trial) for trial in (one, two, three, later)]
    assert [usage.gpu_s for usage in usages if usage] == pytest.approx([10 + 5 + 10 + 7, 5 + 10, 10, 5])
    for usage in usages:
        assert usage is not None
        assert usage.energy_j == pytest.approx(WATTS * usage.gpu_s)


def test_attempts_add_up_and_an_unknown_energy_stays_unknown(clock: Clock, folder) -> None:
    trial = SweepLayout(folder).trial("a")
    for _ in range(2):
        with Meter().counting(trial, 1):
            clock.now += 60
    assert read_usage(trial) == Usage(120.0, 12000.0)
    with Meter().counting(trial, 1):
        clock.now += 60
        clock.base = -WATTS * clock.now  # the driver was loaded anew: the counter begins at 0 again
    assert read_usage(trial) == Usage(180.0, None)
    clock.base = 5e6
    with Meter().counting(trial, 1):
        clock.now += 60
    assert read_usage(trial) == Usage(240.0, None)


def test_a_killed_process_leaves_what_was_recorded_last(clock: Clock, folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread records every half minute; here a test takes its place."""
    monkeypatch.setattr(metering.threading.Thread, "start", lambda thread: None)
    trial, meter = SweepLayout(folder).trial("a"), Meter()
    context = meter.counting(trial, 1)
    context.__enter__()
    assert read_usage(trial) == Usage(0.0, 0.0)  # from its first moment on
    clock.now += 60
    waits = iter([False, True])
    ended = type("Ended", (), {"wait": lambda self, seconds: next(waits)})()
    meter._keep(ended)
    clock.now += 20
    assert read_usage(trial) == Usage(60.0, 6000.0)
    context.__exit__(None, None, None)
    assert read_usage(trial) == Usage(80.0, 8000.0)


def test_a_full_disk_stops_no_trial(clock: Clock, folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    trial, meter = SweepLayout(folder).trial("a"), Meter()
    with monkeypatch.context() as patch:
        patch.setattr(metering, "write_usage", full)
        with meter.counting(trial, 1):
            clock.now += 60
            patch.undo()
    assert read_usage(trial) == Usage(60.0, 6000.0)


def test_stacked_trials_share_what_their_process_holds(prepared, clock: Clock) -> None:
    layout, spec = prepared(seeds=2)
    for trial in spec.trials():
        register(layout, trial, {"seed": trial.seed})
        begin_attempt(layout.trial(trial.id))
    clock.tick = 10.0  # each of two beginnings and two ends
    reports: list[object] = []
    run_replicas(layout.root, spec.trials(), reports.append, lambda *_: None, TrialOptions(gpus=1))
    usages = [read_usage(layout.trial(trial.id)) for trial in spec.trials()]
    held = [usage.gpu_s for usage in usages if usage is not None]
    assert sum(held) == pytest.approx(30)
    assert all(5 <= each <= 25 for each in held)


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0.5), ("cpu", 0)])
def test_each_worker_of_a_data_parallel_trial_is_charged_for_its_share(
    prepared, monkeypatch: pytest.MonkeyPatch, device: str, gpus: float
) -> None:
    """On CPUs its workers hold no GPU, whatever the sweep file says."""
    layout, spec = prepared(train={"steps": 12, "batch_size": 8, "workers": 4})
    (trial,) = spec.trials()
    given: list[TrialOptions] = []

    class Trainer:
        def __init__(self, worker: object, train_loop_config: dict, **others: object) -> None:
            given.append(train_loop_config["options"])

        def fit(self) -> None:
            write_outcome(layout.trial(trial.id), Outcome("stopped", step=1))

    monkeypatch.setattr("ray.train.torch.TorchTrainer", Trainer)
    layout.trial(trial.id).root.mkdir(parents=True)
    run_data_parallel(layout.root, trial, lambda row: None, {"CPU": 4, "GPU": 2}, TrialOptions(device=device, gpus=2))
    assert [options.gpus for options in given] == [gpus]


def answered(layout: SweepLayout, spec: Spec) -> tuple[xr.Dataset, dict, str]:
    """Measure the sweep anew: its results, the same as JSON, and the report."""
    context = MeasureContext(layout, spec.collisions, 2**29, map, lambda *_: None)
    write_answers(layout, spec, spec.trials(), measure_sweep(context, spec.trials()).real)
    page = write_report(layout).read_text("utf-8")
    results = xr.open_zarr(layout.results, chunks=None).load()
    return results, results_json(results, results_table(layout)), page


def test_costs_in_results_report_and_metrics(prepared, clock: Clock) -> None:
    layout, spec = prepared(seeds=3)
    first, second, third = spec.trials()
    for trial in spec.trials():
        register(layout, trial, {"seed": trial.seed})
    clock.tick = 60.0  # passes between the beginning and the end of the training
    begin_attempt(layout.trial(first.id))
    run_trial(layout.root, first, lambda row: None, TrialOptions(gpus=0.5))
    end_attempt(layout.trial(first.id), Cause.COMPLETED)
    results, told, page = answered(layout, spec)
    assert results.gpu_hours.values.tolist() == [30 / 3600, 0, 0]
    assert results.gpu_energy.values.tolist() == [3000, 0, 0]
    assert (float(results.sweep_gpu_hours), float(results.sweep_gpu_energy)) == (30 / 3600, 3000)
    assert told["trials"][0]["gpu_energy"] == told["sweep"]["sweep_gpu_energy"] == 3000
    assert "0.01 GPU-hours, 0.833 Wh" in page
    new = SweepWatch(layout).look()
    assert new.get("ganlab_gpu_seconds_total") == 30
    assert new.get("ganlab_gpu_energy_joules_total") == 3000

    write_usage(layout.trial(second.id), "process", Usage(3600.0, None))
    results, told, page = answered(layout, spec)
    assert results.gpu_hours.values.tolist() == [30 / 3600, 1, 0]
    assert results.gpu_energy.isnull().values.tolist() == [False, True, False]
    assert told["sweep"]["sweep_gpu_energy"] is None
    assert "1.01 GPU-hours, energy not known" in page
    new = SweepWatch(layout).look()
    assert new.get("ganlab_gpu_seconds_total") == 3630
    assert "ganlab_gpu_energy_joules_total" not in new.values

    begin_attempt(layout.trial(third.id))  # by a process that kept no account
    results, told, page = answered(layout, spec)
    assert results.gpu_hours.isnull().values.tolist() == [False, False, True]

    write_usage(layout.trial(third.id), "process", Usage(3600.0, 0.0))
    (layout.trial(third.id).usage / "other.json").write_text("{")  # not what was written there
    results, told, page = answered(layout, spec)
    assert results.gpu_hours.isnull().values.tolist() == [False, False, True]
    assert told["sweep"]["sweep_gpu_hours"] is None
    assert "GPU-hours not known" in page
    assert not {"ganlab_gpu_seconds_total", "ganlab_gpu_energy_joules_total"} & set(SweepWatch(layout).look().values)


def test_a_sweep_without_gpus_says_nothing_of_their_cost(prepared, clock: Clock) -> None:
    layout, spec = prepared()
    (trial,) = spec.trials()
    register(layout, trial, {"seed": trial.seed})
    run_trial(layout.root, trial, lambda row: None, TrialOptions())
    results, _, page = answered(layout, spec)
    assert not [name for name in results if "gpu" in str(name)]
    assert "What it cost" not in page
    assert not {"ganlab_gpu_seconds_total", "ganlab_gpu_energy_joules_total"} & set(SweepWatch(layout).look().values)
