"""Values of all metrics, read from a sweep's folder.

Invariant: reading never disturbs the sweep and never fails: what can't be read is counted as a problem, and what was
known of it before still counts, so a counter does not fall while this process lives.
"""

import importlib.metadata
import json
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ganlab.quality.embeddings.names import PIXELS
from jobs.watching.cluster_view import ClusterView
from jobs.watching.pairs_view import PairsView, family_of, snapshots_of
from monitoring.metrics import ATTEMPT_ENDS, QUANTILES, TRIAL_STATES, MetricValues
from storage.layout import SweepLayout
from storage.lock import lock_holder
from storage.outcome import Failure
from storage.plan import ShardPlan
from storage.trial_state import NOT_ENDED, TrialState
from storage.usage import Usage
from storage.watch import (
    Signature,
    TrialWatch,
    reference_shape,
    signature,
)

JUMP_S = 2.0  # between two looks, more than a clock that is merely steered gains or loses
FUTURE_S = 5.0
SLOW_LOOK_S = 10.0
# Share of a matrix product's speed at which a sweep is measured, pairs, real images and scores together: 66 million pairs
# of the demo's 1,024 values took 93 s of a core that multiplies 83 G a second. A sweep's own rate replaces it.
ENGINE_SHARE = 0.0087
FRESH_S = 60.0  # a rate that was reported longer ago (and three intervals of the log) is none


class SweepWatch:
    """Watches one sweep; `look` returns the values of all metrics."""

    def __init__(
        self,
        layout: SweepLayout,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.layout = layout
        self.cluster = ClusterView(layout)
        self._pairs = PairsView(layout)
        self.name = layout.root.name
        self._clock, self._monotonic = clock, monotonic
        self._trials: dict[str, TrialWatch] = {}
        self._plans: dict[str, ShardPlan | None] = {}
        self._spec: tuple[Signature, dict[str, Any]] = (None, {})
        self._jumps = 0
        self._clock_base: float | None = None
        self._offset = 0.0
        self._offset_due = 0.0

    def look(self) -> MetricValues:
        """Read what has changed since the last look."""
        started = self._monotonic()
        new = MetricValues()
        self._look_at_clocks(new)
        now = self._clock()
        self._look_at_sweep(new)
        self.cluster.read()
        active = self._active()
        new.set("ganlab_sweep_active", active)
        running = self._look_at_trials(new, active, now + self._offset)
        settings = self._spec[1].get("collisions", {})
        self._pairs.look(
            new,
            self._trials.values(),
            now,
            settings.get("confidence", 0.95),
            embedding=str(settings.get("embedding", PIXELS)),
            moved=settings.get("moved_copies", False),
        )
        for stage, at in (("measure", self._pairs.newest), ("report", _time_of(self.layout.report))):
            if at:
                new.set("ganlab_last_success_timestamp_seconds", at - self._offset, stage)
        self._look_at_disk(new)
        self.cluster.look(new, now)
        self._look_at_ends(new, now, running)
        took = self._monotonic() - started
        new.set("ganlab_exporter_problems", took > SLOW_LOOK_S, "slow_look")
        new.set("ganlab_exporter_look_seconds", took)
        new.set("ganlab_exporter_looked_timestamp_seconds", self._clock())
        new.set("ganlab_build_info", 1, _version(), platform.python_version())
        return new

    def _look_at_clocks(self, new: MetricValues) -> None:
        monotonic = self._monotonic()
        base = self._clock() - monotonic
        if self._clock_base is not None and abs(base - self._clock_base) > JUMP_S:
            self._jumps += 1
            self._offset_due = 0.0
        self._clock_base = base
        new.set("ganlab_exporter_clock_jumps_total", self._jumps)
        if monotonic >= self._offset_due:
            # The time that the file system gives a file is that of its server.
            mark = self.layout.metrics / ".clock"
            try:
                mark.touch()
                self._offset = mark.stat().st_mtime - self._clock()
            except OSError:  # a folder that this user may only read: its clock is believed
                self._offset = 0.0
            self._offset_due = monotonic + 60
        new.set("ganlab_exporter_clock_offset_seconds", self._offset)

    def _look_at_sweep(self, new: MetricValues) -> None:
        try:
            now = signature(self.layout.spec)
            if now is None:
                new.set("ganlab_exporter_problems", 1, "folder_gone")
            elif now != self._spec[0]:
                content = yaml.safe_load(self.layout.spec.read_text("utf-8"))
                if not isinstance(content, dict):
                    raise ValueError("not a mapping")
                self._spec = now, content
                self.name = str(content.get("name", self.name))
        except (OSError, ValueError, yaml.YAMLError):
            new.add("ganlab_exporter_problems", 1, "unreadable")

    def _active(self) -> bool:
        try:
            return self.cluster.active or lock_holder(self.layout) is not None
        except OSError:
            return False

    def _look_at_trials(self, new: MetricValues, active: bool, now: float) -> list[TrialWatch]:
        """Set the metrics of trials, and return those that run. `now` is by the file system's clock."""
        try:
            known = self.layout.trial_ids()
        except OSError:
            known = []
            new.add("ganlab_exporter_problems", 1, "unreadable")
        for trial_id in known:
            self._trials.setdefault(trial_id, TrialWatch(self.layout.trial(trial_id)))
        trials = list(self._trials.values())
        for trial in trials:
            trial.look()
        new.add("ganlab_exporter_problems", sum(bool(trial.problems) for trial in trials), "unreadable")
        new.set("ganlab_exporter_problems", sum(trial.gone for trial in trials), "trial_gone")
        newest = [max(trial.row_time, trial.shard_time, trial.checkpoint_time) for trial in trials]
        new.set("ganlab_exporter_problems", sum(at > now + FUTURE_S for at in newest), "future_file")

        states = {id(trial): trial.state(active) for trial in trials}
        running = [trial for trial in trials if states[id(trial)] is TrialState.RUNNING]
        for family in sorted({family_of(trial) for trial in trials} or {self._family}):
            for state in TRIAL_STATES:
                new.set("ganlab_trials", 0, state, family)
            for name in ("ganlab_train_steps_per_second", "ganlab_trials_collapsed", "ganlab_trials_copying"):
                new.set(name, 0, family)
        for trial in trials:
            family = family_of(trial)
            train = trial.settings.get("train", {})
            new.add("ganlab_trials", not trial.gone, states[id(trial)], family)
            new.add("ganlab_train_steps_total", trial.steps, family)
            new.add("ganlab_train_steps_planned", 0 if trial.gone else train.get("steps", 0), family)
            new.add("ganlab_train_images_total", trial.steps * train.get("batch_size", 0), family)
        if (missing := self._suggested_later(known)) > 0:
            new.add("ganlab_trials", missing, "waiting", self._family)
        for trial in running:
            if _fresh(trial, now):
                new.add("ganlab_train_steps_per_second", trial.row.get("steps_per_second", 0), family_of(trial))
        self._add_attempts(new, trials)
        _add_costs(new, trials)
        _add_losses(new, running)
        self._add_samples(new, [trial for trial in trials if not trial.gone])
        self._add_times(new, trials, running)
        return running

    def _add_attempts(self, new: MetricValues, trials: Iterable[TrialWatch]) -> None:
        ends: Counter[str] = Counter()
        retries: Counter[str] = Counter()
        writes = 0
        for trial in trials:
            causes = [attempt.cause for attempt in trial.attempts]
            ends.update(cause for cause in causes if cause)
            retries.update(cause for cause in causes[:-1] if cause)
            writes += sum(attempt.failure is Failure.DISK for attempt in trial.attempts)
            if trial.outcome is not None and trial.outcome.status == "failed" and not trial.gone:
                new.add("ganlab_trials_failed", 1, trial.outcome.failure or Failure.ERROR)
        for end in ATTEMPT_ENDS:
            new.set("ganlab_attempts_total", ends[end], end)
        for cause in ATTEMPT_ENDS[2:]:
            new.set("ganlab_retries_total", retries[cause], cause)
        new.set("ganlab_shard_write_failures_total", writes)

    def _add_samples(self, new: MetricValues, trials: Iterable[TrialWatch]) -> None:
        for trial in trials:
            plan = trial.plan or self._planned(trial)
            new.add("ganlab_shards", trial.shards - trial.damaged, "committed")
            new.add("ganlab_shards", trial.damaged, "damaged")
            if plan is None:
                continue
            left = 0 if trial.end is not None and trial.end.status == "stopped" else len(plan.shards)
            left = max(0, left - trial.shards)
            new.add("ganlab_shards", left, "to_write")
            new.add("ganlab_sample_bytes", trial.shards * plan.shard_bytes, "committed")
            new.add("ganlab_sample_bytes", left * plan.shard_bytes, "to_write")

    def _add_times(self, new: MetricValues, trials: Iterable[TrialWatch], running: Iterable[TrialWatch]) -> None:
        completed = [trial for trial in trials if trial.end is not None and trial.end.status == "completed"]
        stages = {
            "step": (trial.row_time for trial in trials),
            "checkpoint": (trial.checkpoint_time for trial in trials),
            "shard": (trial.shard_time for trial in trials),
            "trial": (trial.outcome_time for trial in completed),
        }
        for stage, times in stages.items():
            if (newest := max(times, default=0.0)) > 0:
                new.set("ganlab_last_success_timestamp_seconds", newest - self._offset, stage)
        saved = [
            trial.checkpoint_time or trial.attempts[-1].started
            for trial in running
            if trial.checkpoint_time or trial.attempts
        ]
        if saved:
            new.set("ganlab_checkpoint_oldest_timestamp_seconds", min(saved) - self._offset)

    def _look_at_disk(self, new: MetricValues) -> None:
        try:
            found = os.statvfs(self.layout.root)
        except OSError:
            return
        new.set("ganlab_filesystem_size_bytes", found.f_blocks * found.f_frsize)
        new.set("ganlab_filesystem_free_bytes", found.f_bavail * found.f_frsize)

    def _look_at_ends(self, new: MetricValues, now: float, running: list[TrialWatch]) -> None:
        unended = sum(new.total("ganlab_trials", state=state) for state in NOT_ENDED)
        unmeasured = new.get("ganlab_snapshots", "to_measure")
        finished = bool(self._trials) and unended == 0 and unmeasured == 0
        new.set("ganlab_sweep_finished", finished)
        if finished:
            times = new.values.get("ganlab_last_success_timestamp_seconds", {}).values()
            if times:
                new.set("ganlab_estimated_end_timestamp_seconds", max(times))
            return
        if not new.get("ganlab_sweep_active"):
            return
        steps = sum(
            trial.settings.get("train", {}).get("steps", 0) - trial.steps
            for trial in self._trials.values()
            if trial.end is None and not trial.gone
        )
        left = 0.0
        pairs = new.get("ganlab_pairs", "to_compare")
        for work, rate in (
            (steps, new.total("ganlab_train_steps_per_second")),
            (pairs, self._pairs.last_rate or (self._likely_rate if pairs else 0)),
        ):
            if work > 0 and rate:
                left += work / rate
            elif work is steps and work > 0:
                return  # nobody trains: there is no telling
        if left:
            new.set("ganlab_estimated_end_timestamp_seconds", now + left)

    @property
    def _likely_rate(self) -> float:
        """Pairs per second that comparing will reach, before any are compared, by this machine's speed; 0 if unknown."""
        if (shape := reference_shape(self.layout)) is None:
            return 0
        return float(ENGINE_SHARE * _products_per_second() / np.prod(shape))

    @property
    def _family(self) -> str:
        """Family of trials that are not known yet."""
        family = self._spec[1].get("model", {}).get("family")
        return family if isinstance(family, str) else "unknown"

    def _suggested_later(self, known: Iterable[str]) -> int:
        search = self._spec[1].get("search", {})
        return int(search.get("trials") or 0) - len(list(known)) if search.get("algorithm") == "optuna" else 0

    def _planned(self, trial: TrialWatch) -> ShardPlan | None:
        """The shards of a trial that has not begun."""
        snapshots = snapshots_of(trial)
        key = json.dumps(list(snapshots.items()))
        if key not in self._plans and snapshots and (shape := reference_shape(self.layout)) is not None:
            try:
                self._plans[key] = ShardPlan.make(snapshots.items(), shape)
            except ValueError:
                self._plans[key] = None
        return self._plans.get(key)


def _fresh(trial: TrialWatch, now: float) -> bool:
    """True if the newest row is recent enough to give the current speed."""
    rate, every = trial.row.get("steps_per_second", 0), trial.settings.get("train", {}).get("log_every", 0)
    return bool(rate) and now - trial.row_time < FRESH_S + 3 * every / rate


def _add_costs(new: MetricValues, trials: Iterable[TrialWatch]) -> None:
    usages = [trial.usage for trial in trials if trial.usage is not None]
    if not usages:
        return
    total = sum(usages, Usage())
    if not math.isnan(total.gpu_s):
        new.set("ganlab_gpu_seconds_total", total.gpu_s)
    if total.energy_j is not None:
        new.set("ganlab_gpu_energy_joules_total", total.energy_j)


def _add_losses(new: MetricValues, running: Iterable[TrialWatch]) -> None:
    losses: dict[tuple[str, str], list[float]] = {}
    for trial in running:
        for name, value in trial.row.items():
            if name.endswith("_loss") and np.isfinite(value):
                losses.setdefault((family_of(trial), name.removesuffix("_loss")), []).append(value)
    for (family, network), values in losses.items():
        for quantile in QUANTILES:
            new.set("ganlab_loss", float(np.quantile(values, float(quantile))), family, network, quantile)


@lru_cache(maxsize=1)
def _products_per_second() -> float:
    """Multiplications per second of one small product of matrices, which takes milliseconds."""
    matrix = np.ones((512, 1024), np.float32)
    matrix @ matrix.T  # the first one prepares threads
    started = time.perf_counter()
    matrix @ matrix.T
    return float(matrix.shape[0] * matrix.size / (time.perf_counter() - started))


@lru_cache(maxsize=1)
def _version() -> str:
    return importlib.metadata.version("ganlab")


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
