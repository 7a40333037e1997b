"""Every metric that ganlab exports, in one place, and the collector that hands a snapshot of them to Prometheus.

Invariant: no metric has a label per trial, so the number of series does not grow with the sweep; a value that is not
known is left out, never made up.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

TRIAL_STATES = ("waiting", "running", "interrupted", "completed", "stopped", "failed")
FAILURES = ("nan", "out_of_memory", "disk", "died", "error")
ATTEMPT_ENDS = (
    "completed",
    "stopped",
    "failed",
    "error",
    "died",
    "disk",
    "preempted",
    "node_lost",
    "ray",
    "interrupted",
)
WORKER_STATES = ("waiting", "starting", "joined", "leaving", "lost", "failed", "ended")
DEATHS = (
    "memory",
    "time_limit",
    "preempted",
    "node_failure",
    "not_started",
    "failed",
    "killed",
    "requeue_refused",
    "vanished",
)
JOB_STATES = ("pending", "running", "other")
STAGES = ("step", "checkpoint", "shard", "trial", "measure", "report")
QUANTILES = ("0", "0.25", "0.5", "0.75", "1")
PROBLEMS = ("folder_gone", "trial_gone", "unreadable", "future_file", "slow_look", "no_scheduler")


class Definition(NamedTuple):
    """One metric: its type, what it says, its labels, and the values of a label whose every value is always exported."""

    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()
    always: tuple[str, ...] = ()


METRICS: dict[str, Definition] = {
    # The sweep
    "ganlab_build_info": Definition("gauge", "1; the labels name the version at work.", ("version", "python")),
    "ganlab_sweep_active": Definition("gauge", "1 while a command or a controller works on the sweep, else 0."),
    "ganlab_sweep_finished": Definition(
        "gauge", "1 once every trial has ended and every snapshot is measured, else 0."
    ),
    "ganlab_estimated_end_timestamp_seconds": Definition(
        "gauge",
        "When the answer will be there at the present rates, measuring included; left out while there is no rate.",
    ),
    "ganlab_last_success_timestamp_seconds": Definition(
        "gauge",
        "When each stage last got something done: a logged step, a checkpoint, a shard, a completed trial, a "
        "measured snapshot, the report.",
        ("stage",),
    ),
    # Training
    "ganlab_trials": Definition(
        "gauge",
        "Trials by state; interrupted ones were begun, have no end, and nothing works on the sweep.",
        ("state", "family"),
        TRIAL_STATES,
    ),
    "ganlab_trials_failed": Definition("gauge", "Trials that stand as failed, by cause.", ("cause",), FAILURES),
    "ganlab_trials_collapsed": Definition(
        "gauge",
        "Trials in whose newest measured snapshot duplicates are over 100 times as frequent as among the real "
        "images, by the whole interval of that ratio.",
        ("family",),
    ),
    "ganlab_trials_copying": Definition(
        "gauge",
        "Trials in whose newest measured snapshot more samples lie as near to training images as copies than "
        "held-out images do, by the whole interval of that share.",
        ("family",),
    ),
    "ganlab_attempts_total": Definition(
        "counter", "Starts of a trial that have ended, by how.", ("end",), ATTEMPT_ENDS
    ),
    "ganlab_retries_total": Definition(
        "counter", "Trials started again, by how the attempt before had ended.", ("cause",), ATTEMPT_ENDS[2:]
    ),
    "ganlab_train_steps_total": Definition("counter", "Generator steps made, each counted once.", ("family",)),
    "ganlab_train_steps_planned": Definition("gauge", "Generator steps of all known trials.", ("family",)),
    "ganlab_train_images_total": Definition("counter", "Training images shown, each step counted once.", ("family",)),
    "ganlab_train_steps_per_second": Definition("gauge", "Sum of what the running trials report.", ("family",)),
    "ganlab_gpu_seconds_total": Definition(
        "counter", "Seconds for which trials have held GPUs, times their number or share; left out where none did."
    ),
    "ganlab_gpu_energy_joules_total": Definition(
        "counter", "Energy that those GPUs took meanwhile, by the same share; left out if not known of one trial."
    ),
    "ganlab_loss": Definition(
        "gauge", "Quantiles, over running trials, of the newest logged losses.", ("family", "network", "quantile")
    ),
    "ganlab_checkpoint_oldest_timestamp_seconds": Definition(
        "gauge",
        "Of the running trials, the checkpoint (or the start, before the first) that is longest ago: what a "
        "kill would cost.",
    ),
    # Samples
    "ganlab_shards": Definition(
        "gauge",
        "Shards by state; damaged: committed, but the file is missing or cut short.",
        ("state",),
        ("committed", "to_write", "damaged"),
    ),
    "ganlab_sample_bytes": Definition("gauge", "Bytes of samples by state.", ("state",), ("committed", "to_write")),
    "ganlab_shard_write_failures_total": Definition(
        "counter", "Attempts that ended because a shard or another file could not be written."
    ),
    "ganlab_filesystem_size_bytes": Definition("gauge", "Size of the file system that holds the sweep."),
    "ganlab_filesystem_free_bytes": Definition("gauge", "What this user may still write there."),
    # Pairs and answers
    "ganlab_snapshots": Definition(
        "gauge", "Snapshots of samples by state.", ("state",), ("measured", "to_measure", "to_draw")
    ),
    "ganlab_pairs": Definition(
        "gauge",
        "Pairs of samples of the known trials by state; compared: of snapshots that are measured.",
        ("state",),
        ("compared", "to_compare"),
    ),
    "ganlab_pairs_compared_total": Definition(
        "counter",
        "Pairs compared while this exporter watched, as the work reports them; those of samples with real "
        "images included.",
    ),
    "ganlab_pairs_per_second": Definition("gauge", "Rate of the comparison that is under way; 0 when none is."),
    "ganlab_tiles_left": Definition("gauge", "Tiles left of the comparison that is under way; 0 when none is."),
    "ganlab_duplicates": Definition("gauge", "Pairs found within the threshold, real images left out."),
    "ganlab_support_size": Definition(
        "gauge",
        "Quantiles, over trials, of the effective number of images (order 2) at their newest measured snapshot; "
        "of a trial without a duplicate, the lower bound.",
        ("quantile",),
    ),
    "ganlab_verdicts": Definition(
        "gauge", "Flagged pairs by whether a person has judged them.", ("state",), ("given", "missing")
    ),
    # Cluster
    "ganlab_workers": Definition(
        "gauge",
        "Worker jobs by what they last said; lost: they say they joined, but have long said nothing.",
        ("state",),
        WORKER_STATES,
    ),
    "ganlab_slurm_jobs": Definition("gauge", "Jobs of the sweep that SLURM knows, by state.", ("state",), JOB_STATES),
    "ganlab_job_deaths_total": Definition(
        "counter",
        "Runs of jobs that ended although nobody had asked for it, by what ended them.",
        ("cause",),
        DEATHS,
    ),
    "ganlab_nodes_left_out": Definition(
        "gauge", "Nodes on which a worker job failed by itself, and which the sweep no longer uses."
    ),
    "ganlab_queue_wait_seconds": Definition(
        "gauge", "How long the job that has waited longest is in the queue; 0 when none waits."
    ),
    "ganlab_gpus": Definition("gauge", "GPUs that the sweep holds.", ("node",)),
    "ganlab_gpus_busy": Definition(
        "gauge",
        "Sum of their utilization: 1.5 is one busy and one half busy; left out where it is not known of one of them.",
        ("node",),
    ),
    "ganlab_gpu_memory_bytes": Definition("gauge", "Memory of these GPUs.", ("node",)),
    "ganlab_gpu_memory_used_bytes": Definition("gauge", "Memory in use on these GPUs.", ("node",)),
    # The exporter itself
    "ganlab_exporter_problems": Definition(
        "gauge",
        "What keeps these figures from being whole now: trials or files concerned, by kind.",
        ("kind",),
        PROBLEMS,
    ),
    "ganlab_exporter_clock_jumps_total": Definition(
        "counter", "Times that this host's clock was set forward or back by more than two seconds."
    ),
    "ganlab_exporter_clock_offset_seconds": Definition(
        "gauge", "The file system's clock minus this host's, when they were last compared."
    ),
    "ganlab_exporter_look_seconds": Definition("gauge", "How long the newest look at the folder took."),
    "ganlab_exporter_looked_timestamp_seconds": Definition("gauge", "When it ended: how old these figures are."),
}


@dataclass
class MetricValues:
    """Values of all metrics at one moment.

    Attributes
    ----------
    values : dict
        By the name of the metric, by the values of its labels in order.
    """

    values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, metric in METRICS.items():
            if metric.always and len(metric.labels) == 1:
                self.values[name] = {(value,): 0.0 for value in metric.always}

    def set(self, name: str, value: float, *labels: str) -> None:
        """Give the value of one series."""
        assert len(labels) == len(METRICS[name].labels), (name, labels)
        self.values.setdefault(name, {})[labels] = float(value)

    def add(self, name: str, value: float, *labels: str) -> None:
        """Add to the value of one series, which begins at 0."""
        self.set(name, self.get(name, *labels) + value, *labels)

    def get(self, name: str, *labels: str) -> float:
        """The value of one series; 0 when it has none."""
        return self.values.get(name, {}).get(labels, 0.0)

    def total(self, name: str, **labels: str) -> float:
        """Sum over the series whose labels have these values: total("ganlab_trials", state="failed")."""
        places = {METRICS[name].labels.index(label): value for label, value in labels.items()}
        series = self.values.get(name, {}).items()
        return sum(value for key, value in series if all(key[place] == wanted for place, wanted in places.items()))


class ValuesCollector(Collector):
    """Gives Prometheus the newest snapshot; a scrape reads no file."""

    def __init__(self, newest: Callable[[], MetricValues]) -> None:
        self._newest = newest

    def describe(self) -> Iterator[Metric]:
        """Return the names that will be collected."""
        return _families({})

    def collect(self) -> Iterator[Metric]:
        """Return every metric that has a value."""
        return _families(self._newest().values)


def registry(newest: Callable[[], MetricValues]) -> CollectorRegistry:
    """Return a registry of its own: the sweep's metrics, and the exporter's CPU and memory as ``process_…``."""
    own = CollectorRegistry()
    own.register(ValuesCollector(newest))
    ProcessCollector(registry=own)
    return own


def _families(values: Mapping[str, Mapping[tuple[str, ...], float]]) -> Iterator[Metric]:
    for name, definition in METRICS.items():
        make = GaugeMetricFamily if definition.kind == "gauge" else CounterMetricFamily
        family = make(name, definition.help, labels=definition.labels)
        for labels, value in sorted(values.get(name, {}).items()):
            family.add_metric(labels, value)
        if family.samples or not values:
            yield family
