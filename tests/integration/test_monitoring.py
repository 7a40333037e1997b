"""A real sweep on this machine, watched by Debian's real Prometheus: figures, rules, dashboards, and alerts that fire.

One sweep has everything at once: trials that train, trials that end in NaN, samples that collapse, and in the end a
standstill. Every duration in the rules is 50 times as short as shipped; expressions and thresholds are the shipped ones.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from cluster import dask_node, ray_node
from cluster.ports import leased_ports
from cluster.rendezvous import ClusterFolder, Head, WorkerState, write_head, write_json, write_worker
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.spec.sweep import load_spec
from jobs.training.tune import sweep_trials
from monitoring.metrics import METRICS
from storage.layout import SweepLayout
from storage.usage import Usage, write_usage
from tests.monitoring.panels import Answers, ask, brief, page, panels
from tests.monitoring.prometheus import Prometheus, running_prometheus
from tests.waiting import until

FACTOR = 50.0
SPEC = {
    "name": "watched",
    "dataset": {"name": "digits", "resolution": 8},
    "model": {
        "grid_search": [
            {"family": "vae", "latent_dim": 4, "generator_width": 4, "pixel_scale": 1e-25},
            {"family": "dcgan", "latent_dim": 4, "generator_width": 4, "discriminator_width": 4},
        ]
    },
    "train": {"steps": 1_000_000, "batch_size": 16, "log_every": 5},
    "samples": {"snapshots": [5, 20], "images_per_snapshot": 512, "final_images": 512},
    "seeds": 2,
    "resources": {"checkpoint_every_s": 2},
}


@dataclass
class Watched:
    layout: SweepLayout
    prometheus: Prometheus
    trainer: subprocess.Popen[bytes]
    started: float

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        tree = psutil.Process(self.trainer.pid).children(recursive=True)
        return [each for each in tree if "ray::" in " ".join(each.cmdline())]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The sweep, trained by the command line; its snapshots measured meanwhile; its exporter; Ray, Dask; Prometheus."""
    folder = tmp_path_factory.mktemp("a sweep's  ünïcode folder")
    layout = SweepLayout(folder / "watched")
    (folder / "watched.yaml").write_text(yaml.safe_dump(SPEC))
    ganlab = Path(sys.executable).with_name("ganlab")
    with ExitStack() as stack:
        started = time.time()
        logs = [stack.enter_context((folder / name).open("wb")) for name in ("run.log", "exporter.log")]
        trainer = subprocess.Popen(
            [ganlab, "run", folder / "watched.yaml", "--out", layout.root],
            cwd=folder,
            start_new_session=True,
            stderr=logs[0],
        )
        stack.callback(_end_group, trainer)
        until(lambda: any(layout.trials.glob("*/history.jsonl")) or trainer.poll() is not None, "trials train")
        assert trainer.poll() is None, (folder / "run.log").read_text()
        _write_records(layout, _start_head(stack, layout))
        command = [sys.executable, "-m", "jobs.watching.monitor", layout.root, "--controller", "--every", "0.5"]
        exporter = subprocess.Popen(command, stderr=logs[1])
        stack.callback(exporter.wait, 20)
        stack.callback(exporter.terminate)
        prometheus = stack.enter_context(running_prometheus(folder / "prometheus", [layout.targets], FACTOR))
        ended = threading.Event()
        measuring = threading.Thread(target=_measure, args=(layout, ended), name="measuring")
        measuring.start()
        stack.callback(measuring.join)
        stack.callback(ended.set)
        yield Watched(layout, prometheus, trainer, started)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def _measure(layout: SweepLayout, ended: threading.Event) -> None:
    """What the measuring driver of a controller does: compare the pairs of every snapshot as it is committed."""
    while not ended.wait(0.5):
        if layout.reference.exists():
            spec = load_spec(layout.spec)
            measure_sweep(
                MeasureContext(layout, spec.collisions, 2**29, map, lambda *_: None), sweep_trials(layout, spec)
            )


def _start_head(stack: ExitStack, layout: SweepLayout) -> dict[str, str]:
    """Start Ray's head and Dask's scheduler as a controller does; returns the addresses of their metrics."""
    token = ClusterFolder(layout.cluster).token
    token.write_text("0" * 64)
    token.chmod(0o600)
    dask_node.make_certificate(layout.cluster)
    sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="g", dir="/tmp", ignore_cleanup_errors=True)))
    host, ports = "127.0.0.1", stack.enter_context(leased_ports())
    dask, dask_metrics = ports[ray_node.HEAD_PORTS : ray_node.HEAD_PORTS + 2]
    for command in (
        ray_node.head_command(ports[: ray_node.HEAD_PORTS], host, "head", sockets),
        dask_node.scheduler_command(layout.cluster, host, dask, dask_metrics),
    ):
        process = subprocess.Popen(
            command,
            start_new_session=True,
            env={**os.environ, **ray_node.ray_environment(layout.cluster)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_end_group, process)
    return {"metrics": f"{host}:{ports[ray_node.HEAD_METRICS]}", "dask_metrics": f"{host}:{dask_metrics}"}


def _write_records(layout: SweepLayout, metrics: dict[str, str]) -> None:
    """A controller's and a worker's records, as on SLURM: how the exporter learns of Ray and Dask, and of GPUs.

    The use of the GPUs is made up here: this machine may have none.
    """
    write_head(layout.cluster, Head("1", 0, 1, "running", host="here"))
    head = ClusterFolder(layout.cluster).head
    write_json(head, json.loads(head.read_text()) | metrics)
    write_worker(layout.cluster, WorkerState("2_0", 0, "node1", "joined"))
    worker = ClusterFolder(layout.cluster).worker("2_0")
    use = [{"utilization": 0.9, "memory_used_bytes": 6 * 2**30, "memory_bytes": 80 * 2**30}] * 2
    write_json(worker, json.loads(worker.read_text()) | {"gpu_use": use})
    write_usage(layout.trial(layout.trial_ids()[0]), "process", Usage(gpu_s=9000.0, energy_j=3.2e6))


def test_a_sweep_in_trouble_is_seen(watched: Watched, request: pytest.FixtureRequest) -> None:
    prometheus = watched.prometheus

    # Every target answers: the exporter, Ray's and Dask's own.
    until(lambda: prometheus.jobs() == {"ganlab", "ray", "dask"}, "all targets are known")
    until(lambda: not prometheus.down(), lambda: f"every target is up: {prometheus.down()}")

    # Trials train, others end in NaN, snapshots are measured, and alerts say so.
    until(lambda: (prometheus.value("sum(ganlab_train_steps_per_second)") or 0) > 0, "trials train")
    expected = {"GanlabNanStorm", "GanlabTrialFailures", "GanlabCollapse"}
    until(lambda: expected <= prometheus.firing(), f"{expected} fire", 120)
    assert "GanlabNoProgress" not in prometheus.firing()
    assert prometheus.value('ganlab_trials_failed{cause="nan"}') == 2
    assert prometheus.value("sum(ganlab_trials)") == 4
    assert prometheus.value('sum(ganlab_trials{state="running"})') >= 1
    assert prometheus.value("ganlab_exporter_clock_jumps_total") == 0

    # It stands still: whatever trains is stopped, and nothing else is.
    for worker in watched.workers():
        worker.suspend()
    until(lambda: "GanlabNoProgress" in prometheus.firing(), "the standstill is noticed", 120)

    # Nobody works on it any more. (On SLURM the controller's record says so; here its lock and its record do.)
    _end_group(watched.trainer)
    write_head(watched.layout.cluster, Head("1", 0, 1, "failed", "killed by the test"))
    until(lambda: "GanlabControllerGone" in prometheus.firing(), "that nobody works on it is noticed", 120)

    # Every rule evaluated, and every panel's query answered with data.
    assert prometheus.bad_rules() == []
    answers = ask(prometheus, "watched", watched.started)
    assert [key for key, answer in answers.items() if not answer] == []
    _check_exported(prometheus)
    if (path := request.config.getoption("--write-panels")) is not None:
        Path(path).write_text(page(answers, _about()), "utf-8")
    _check_page_is_current(answers)


def _check_exported(prometheus: Prometheus) -> None:
    """Every documented metric is there, and nothing else of ours."""
    names = set(prometheus.get("label/__name__/values"))
    ours = {name for name in names if name.startswith("ganlab_")}
    assert ours == set(METRICS)
    samples = prometheus.value('sum(scrape_samples_scraped{job="ganlab"})')
    assert samples is not None
    assert samples < 250


def _check_page_is_current(answers: Answers) -> None:
    """The committed page has the dashboards' panels, questions and queries, in their order."""
    committed = (Path(__file__).parents[2] / "docs" / "panels.md").read_text("utf-8")
    place = 0
    for panel in panels():
        for text in (f"**{panel.title}.** {panel.question}", *(f"`{brief(query)}`" for _, query in panel.queries)):
            found = committed.find(text, place)
            assert found >= 0, f"{panel.title}: write the page again with --write-panels docs/panels.md"
            place = found


def _about() -> str:
    date = time.strftime("%Y-%m-%d")
    return (
        f"The run: a sweep of four trials on {date}, made to go wrong in every way. Two trials end in NaN; the snapshots "
        "are drawn so early that they are collapsed; then everything that trains is stopped, and at last killed. Every "
        f"duration in the rules is {FACTOR:.0f} times as short as shipped (so *5m* is 6 s), and the use of GPUs is made "
        "up, since that machine has none. Made by `pytest tests/integration/test_monitoring.py --write-panels "
        "docs/panels.md`."
    )
