"""All trials of a sweep through Ray Tune.

Invariant: what is done is read from the trials' own records, never from Tune's, so a sweep that was killed goes on with
exactly the trials that are not done.
"""

import logging
import os
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobs.progress import SweepProgress
from jobs.spec import Spec, TrialSettings
from storage.atomic import read_json, write_bytes, write_json
from storage.history import read_history
from storage.layout import SweepLayout
from storage.outcome import Outcome, read_outcome, write_outcome
from storage.samples import all_committed


def trial_state(layout: SweepLayout, trial_id: str) -> Outcome | None:
    """How the trial ended, or None while it is not done; completed counts only with every shard committed."""
    own = layout.trial(trial_id)
    outcome = read_outcome(own)
    if outcome is not None and outcome.status == "completed" and not all_committed(own):
        return None
    return outcome


def sweep_trials(layout: SweepLayout, spec: Spec) -> list[TrialSettings]:
    """Every trial that is known now: all of them, or with a model-based search those that were suggested so far."""
    if spec.search.algorithm != "optuna":
        return list(spec.trials())
    suggested = [read_json(layout.trial(trial_id).settings) for trial_id in layout.trial_ids()]
    return [spec.trial(each["values"], each["seed"]) for each in suggested]


def unfinished(layout: SweepLayout, trials: Sequence[TrialSettings]) -> list[TrialSettings]:
    """Trials still to run: those without an outcome, and those that failed."""
    states = {trial.id: trial_state(layout, trial.id) for trial in trials}
    return [trial for trial in trials if (state := states[trial.id]) is None or state.status == "failed"]


@dataclass(frozen=True)
class _Work:
    """What every trial of the sweep is told; sent to Ray's workers."""

    spec: Spec
    sweep: Path

    def run(self, config: Mapping[str, Any]) -> None:
        """Run one trial on a Ray worker."""
        from ray import tune

        from jobs.data_parallel import run_data_parallel
        from jobs.trial import run_trial

        layout = SweepLayout(self.sweep)
        trial = config.get("trial") or self._suggested(layout, config)
        latest: dict[str, Any] = {"trial": trial.id}

        def report(row: Mapping[str, Any]) -> None:
            latest.update(row)
            tune.report(dict(latest))

        resources = self.spec.resources
        held = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
        run = run_trial if trial.train.workers == 1 else partial(run_data_parallel, resources=held)
        try:
            outcome = run(
                self.sweep, trial, report,
                checkpoint_every_s=resources.checkpoint_every_s,
                use_gpu=resources.gpus_per_trial > 0,
                probe=self.spec.search.algorithm == "optuna" or self.spec.search.scheduler == "asha",
            )  # fmt: skip
        except Exception:
            write_bytes(layout.logs / f"{trial.id}.txt", traceback.format_exc().encode())
            raise
        tune.report({**latest, "outcome": asdict(outcome)})

    def _suggested(self, layout: SweepLayout, config: Mapping[str, Any]) -> TrialSettings:
        seed = self.spec.seed_list[0]
        trial = self.spec.trial(config, seed)
        register(layout, trial, {"values": dict(config), "seed": seed})
        return trial


def register(layout: SweepLayout, trial: TrialSettings, content: Mapping[str, Any]) -> None:
    """Write what the trial computes, and forget a failure that is now tried again."""
    own = layout.trial(trial.id)
    own.root.mkdir(parents=True, exist_ok=True)
    write_json(own.settings, {**content, "settings": trial.model_dump(mode="json")})
    own.outcome.unlink(missing_ok=True)


def run_trials(layout: SweepLayout, spec: Spec, progress: SweepProgress, available: Mapping[str, int]) -> None:
    """Run every trial that is not done on the Ray cluster that is up; returns when there is none left to try.

    `available` are the cluster's resources, "CPU" and "GPU".
    """
    todo = unfinished(layout, sweep_trials(layout, spec))
    if todo:
        from ray import tune

        if spec.search.algorithm != "optuna":
            for trial in todo:
                register(layout, trial, {"seed": trial.seed})
        _tune(layout, spec, progress, available, param_space={"trial": tune.grid_search(todo)})
    if spec.search.algorithm == "optuna":
        known = sweep_trials(layout, spec)
        if (left := len(spec.trials()) - len(known)) > 0:
            _tune(layout, spec, progress, available, searcher=_optuna(layout, spec, known), samples=left)


def _tune(
    layout: SweepLayout, spec: Spec, progress: SweepProgress, available: Mapping[str, int], *,
    param_space: Mapping[str, Any] | None = None, searcher: Any = None, samples: int = 1,
) -> None:  # fmt: skip
    # Quiet and cheap: our own records and display stand in for Tune's loggers, tables and snapshots of its state.
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command; Tune would end the training and go on
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    }
    from ray import tune

    logging.getLogger("ray").setLevel(logging.ERROR)
    resources = spec.resources
    work = _Work(spec, layout.root)
    one_worker = spec.workers_per_trial == 1
    # Of a data-parallel trial only the coordinator is placed here, at no cost: Ray Train places the workers itself.
    held = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    bundle = held if one_worker else {"node:__internal_head__": 0.001}
    fitting = min(int(available[kind] // amount) for kind, amount in held.items() if amount)
    with tempfile.TemporaryDirectory(prefix="ganlab-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(_named("trial", work.run), tune.PlacementGroupFactory([bundle])),
            param_space=dict(param_space or {}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_scheduler(spec),
                num_samples=samples,
                max_concurrent_trials=min(resources.max_concurrent or fitting, fitting),
                reuse_actors=one_worker,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=resources.max_failures),
                callbacks=[_recorder(layout, progress)],
            ),
        ).fit()


def _named(name: str, function: Callable[..., None]) -> Callable[..., None]:
    def trial(config: Mapping[str, Any]) -> None:
        function(config)

    trial.__name__ = name
    return trial


def _scheduler(spec: Spec) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    search = spec.search
    if search.scheduler == "fifo":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="step", metric=search.metric, mode=search.mode, max_t=spec.longest_trial_steps,
        grace_period=search.grace_steps, reduction_factor=search.reduction_factor,
    )  # fmt: skip


def _optuna(layout: SweepLayout, spec: Spec, known: Sequence[TrialSettings]) -> Any:
    """Optuna's sampler, told of the trials that are done: a search that was killed goes on with what it knew."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from ray.tune.search.optuna import OptunaSearch

    make = {
        "choice": CategoricalDistribution,
        "uniform": lambda bounds: FloatDistribution(*bounds),
        "loguniform": lambda bounds: FloatDistribution(*bounds, log=True),
    }
    metric = spec.search.metric
    points, rewards = [], []
    for trial in known:
        rows = read_history(layout.trial(trial.id).history).get(str(metric))
        if rows is not None and (finite := rows[rows == rows]).size:
            points.append(read_json(layout.trial(trial.id).settings)["values"])
            rewards.append(float(finite[-1]))
    return OptunaSearch(
        {word.key: make[word.kind](word.values) for word in spec.space()}, metric=metric, mode=spec.search.mode,
        seed=spec.search.seed + len(known), points_to_evaluate=points or None, evaluated_rewards=rewards or None,
    )  # fmt: skip


def _recorder(layout: SweepLayout, progress: SweepProgress) -> Any:
    """Tune's callback: shows progress, and records the end of trials that can't do so themselves."""
    from ray import tune

    class Recorder(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> Any:
            return tune.Callback, ()  # Tune pickles its callbacks to restore itself, which we never ask of it

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            progress.advanced(result["trial"], result)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            last = trial.last_result
            outcome = Outcome(**last["outcome"]) if "outcome" in last else None
            if outcome is None:
                outcome = Outcome("stopped", step=last["step"], reason="ended early by the scheduler")
                write_outcome(layout.trial(last["trial"]), outcome)
            progress.ended(last["trial"], outcome.status, outcome.reason)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            settings = trial.config.get("trial")
            trial_id = settings.id if settings else trial.last_result["trial"]
            error = trial.get_error()
            reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            write_outcome(layout.trial(trial_id), Outcome("failed", reason=reason))
            progress.ended(trial_id, "failed", reason)

    return Recorder()
