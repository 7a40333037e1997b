"""All trials of a sweep through Ray Tune, on whatever Ray cluster is up; its nodes may come and go.

Invariant: what is done, and how often a trial has failed, is read from the trials' own records, never from Tune's, so a
sweep that was killed goes on with exactly the trials that are not done.
"""

import logging
import os
import pickle
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cluster.memory import MemoryKills
from cluster.preemption import busy, leaving
from cluster.ray_errors import last_error, process_end
from jobs.console.progress import SweepProgress
from jobs.spec.sweep import Spec, TrialSettings
from jobs.training.failures import cause_of, record_failure, shortened, write_log
from storage.atomic import read_json, write_json
from storage.attempts import (
    Cause,
    begin_attempt,
    end_attempt,
    end_with_outcome,
    failures_in_a_row,
    forget_failure,
    is_running,
    read_attempts,
)
from storage.history import newest, read_history
from storage.layout import SweepLayout
from storage.lease import Lease, LeaseLostError, hold_lease
from storage.outcome import Failure, Outcome, write_outcome
from storage.trial_state import read_end

LOOK_S = 0.2  # between looks at the node's notice, while a report is waited for
MOST_TROUBLES = 100  # failures of Ray in a row, without a word of any trial between them


def sweep_trials(layout: SweepLayout, spec: Spec) -> list[TrialSettings]:
    """Every trial that is known now: all of them, or with a model-based search those that were suggested so far."""
    if spec.search.algorithm != "optuna":
        return list(spec.trials())
    # A folder without settings is of a suggestion whose process or node was lost before it could write them.
    files = [layout.trial(trial_id).settings for trial_id in layout.trial_ids()]
    suggested = [read_json(file) for file in files if file.exists()]
    return [spec.trial(each["values"], each["seed"]) for each in suggested]


def unfinished(layout: SweepLayout, trials: Sequence[TrialSettings]) -> list[TrialSettings]:
    """Trials still to run: those without an outcome."""
    return [trial for trial in trials if read_end(layout.trial(trial.id)) is None]


def try_failed_again(layout: SweepLayout, trials: Sequence[TrialSettings]) -> None:
    """Forget how trials failed, so that they run again: once for each time the user asks for the sweep."""
    for trial in trials:
        if (state := read_end(layout.trial(trial.id))) is not None and state.status == "failed":
            forget_failure(layout.trial(trial.id))


@dataclass(frozen=True)
class _Work:
    """Arguments common to all trials of the sweep; sent to Ray's workers."""

    spec: Spec
    sweep: Path

    def run(self, config: Mapping[str, Any]) -> None:
        """Run one trial on a Ray worker."""
        layout = SweepLayout(self.sweep)
        config = config.get("group") or config
        trial = config.get("trial") or self._suggested(layout, config)
        own = layout.trial(trial.id)
        latest: dict[str, Any] = {"trial": trial.id, "others": {}}

        def report(row: Mapping[str, Any]) -> None:
            latest.update(row)
            report_row(dict(latest))

        with hold_lease(own) as lease:
            self._run(layout, trial, config.get("others", ()), report, latest, lease)

    def _run(
        self,
        layout: SweepLayout,
        trial: TrialSettings,
        others: Sequence[TrialSettings],
        report: Callable[[Mapping[str, Any]], None],
        latest: dict[str, Any],
        lease: Lease,
    ) -> None:
        from ray import tune

        from ganlab.models.train import Interrupted

        own = layout.trial(trial.id)
        # It may have ended already: given up by the driver, or its last word was lost with its node.
        outcome = read_end(own)
        if outcome is None and others and failures_in_a_row(own):
            tune.report({**latest, "alone": True})  # together they failed
            return
        if outcome is None:
            begin_attempt(own)
            beside = [each for each in others if read_end(layout.trial(each.id)) is None]
            try:
                outcome = self._train(trial, report, beside, latest["others"].__setitem__, lease)
            except LeaseLostError:  # the attempt is another process's now
                raise
            except Interrupted as interruption:
                end_attempt(own, Cause.PREEMPTED, str(interruption))
                raise
            except (Exception, SystemExit) as error:
                failure = record_failure(layout, trial, error)
                end_attempt(own, cause_of(error), str(failure), failure.kind)
                raise failure from error
            end_with_outcome(own, outcome)
        ends = {each.id: asdict(end) for each in others if (end := read_end(layout.trial(each.id)))}
        tune.report({**latest, "outcome": asdict(outcome), "ends": ends})

    def _train(
        self,
        trial: TrialSettings,
        report: Callable[[Mapping[str, Any]], None],
        beside: Sequence[TrialSettings],
        report_other: Callable[[str, Mapping[str, Any]], None],
        lease: Lease,
    ) -> Outcome:
        from jobs.training.trial import TrialOptions, run_trial

        resources, search = self.spec.resources, self.spec.search
        options = TrialOptions(
            checkpoint_every_s=resources.checkpoint_every_s,
            device=resources.torch_device,
            probe=search.algorithm == "optuna" or search.scheduler == "asha",
            gpus=resources.gpus_per_trial,
        )
        if trial.train.workers > 1:
            from jobs.training.data_parallel import run_data_parallel

            held = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
            return run_data_parallel(self.sweep, trial, report, held, replace(options, guard=lease.superseded))
        options = replace(options, stop=leaving, guard=lease.check)
        with busy():
            if beside:
                from jobs.training.stacked_trials import run_replicas

                return run_replicas(self.sweep, [trial, *beside], report, report_other, options)
            return run_trial(self.sweep, trial, report, options)

    def _suggested(self, layout: SweepLayout, config: Mapping[str, Any]) -> TrialSettings:
        seed = self.spec.seed_list[0]
        trial = self.spec.trial(config, seed)
        register(layout, trial, {"values": dict(config), "seed": seed})
        return trial


def report_row(row: dict[str, Any]) -> None:
    """Report progress to Tune, and wait until its driver has seen it; on a node that leaves, do not wait.

    The driver may have gone, and would be waited for until the process is killed, its work unsaved.
    """
    from ray import tune

    raised: list[BaseException] = []

    def report() -> None:
        try:
            tune.report(row)
        except BaseException as error:  # SystemExit: Tune's scheduler has stopped the trial
            raised.append(error)

    waiting = threading.Thread(target=report, name="report", daemon=True)
    waiting.start()
    while waiting.is_alive() and not leaving():
        waiting.join(LOOK_S)
    if raised:
        raise raised[0]


def register(layout: SweepLayout, trial: TrialSettings, content: Mapping[str, Any]) -> None:
    """Write what the trial computes, unless it is there; an attempt that still seems to run has ended with its driver."""
    own = layout.trial(trial.id)
    if not own.settings.exists():
        own.root.mkdir(parents=True, exist_ok=True)
        write_json(own.settings, {**content, "settings": trial.model_dump(mode="json")})
    if is_running(read_attempts(own)):
        end_attempt(own, Cause.INTERRUPTED)


def processes_on(spec: Spec, node: Mapping[str, float]) -> int:
    """Number of processes of trials, or of their workers, that a node with so many "CPU" and "GPU" holds at a time."""
    workers, resources = spec.workers_per_trial, spec.resources
    cpus, gpus = resources.cpus_per_trial / workers, resources.gpus_per_trial / workers
    fit = int(node["CPU"] / cpus + 1e-9)
    if gpus:  # of a GPU that is shared, none has a part on another one
        fit = min(fit, int(node["GPU"] / gpus + 1e-9) if gpus >= 1 else int(node["GPU"]) * int(1 / gpus + 1e-9))
    return fit


def trials_at_a_time(spec: Spec, node: Mapping[str, float]) -> int:
    """Number of trials that run at a time on a machine with so many "CPU" and "GPU"; 0 if none fits."""
    return processes_on(spec, node) // spec.workers_per_trial


def run_trials(layout: SweepLayout, spec: Spec, progress: SweepProgress, concurrent: int) -> None:
    """Run every trial that is not done on the Ray cluster that is up; returns when there is none left to try.

    `concurrent` trials are asked for at a time: as many as the cluster can hold when all its nodes are there.

    Raises
    ------
    RuntimeError
        If Ray fails again and again while no trial gets anywhere.
    """
    run = partial(_tune, layout, spec, progress, concurrent)
    todo = unfinished(layout, sweep_trials(layout, spec))
    if todo and spec.resources.replicas_per_worker > 1:
        from jobs.training.stacked_trials import grouped

        groups = [{"trial": first, "others": others} for first, *others in grouped(spec, _registered(layout, todo))]
        run("group", groups)
        todo = unfinished(layout, todo)  # what could not be trained beside others is trained alone
    dropped: set[str] = set()
    if todo:
        dropped |= run("trial", _registered(layout, todo))
    if spec.search.algorithm == "optuna":
        known = sweep_trials(layout, spec)
        if (left := len(spec.trials()) - len(known)) > 0:
            dropped |= run(searcher=_optuna(layout, spec, known), samples=left)
    while dropped:
        todo = [trial for trial in sweep_trials(layout, spec) if trial.id in dropped]
        dropped = run("trial", _registered(layout, todo))


def _registered(layout: SweepLayout, trials: Sequence[TrialSettings]) -> Sequence[TrialSettings]:
    for trial in trials:
        register(layout, trial, {"seed": trial.seed})
    return trials


def _tune(
    layout: SweepLayout,
    spec: Spec,
    progress: SweepProgress,
    concurrent: int,
    name: str = "",
    values: Sequence[Any] = (),
    *,
    searcher: Any = None,
    samples: int = 1,
) -> set[str]:
    """Run one of Tune's trials for each of `values`, or for as many as the searcher suggests.

    Returns the ids of those that Tune has dropped before their end.
    """
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
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # errors of trials are recorded and told by ourselves
    resources = spec.resources
    work = _Work(spec, layout.root)
    one_worker = spec.workers_per_trial == 1
    # Of a data-parallel trial only the coordinator is placed here, at no cost: Ray Train places the workers itself.
    held = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    recorder = _recorder(layout, spec, progress)
    bundle = held if one_worker else {"node:__internal_head__": 0.001}
    with tempfile.TemporaryDirectory(prefix="ganlab-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(_named("trial", work.run), tune.PlacementGroupFactory([bundle])),
            param_space={name: tune.grid_search(list(values))} if values else {},
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_scheduler(spec),
                num_samples=samples,
                max_concurrent_trials=min(resources.max_concurrent or concurrent, concurrent),
                reuse_actors=one_worker,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=-1),  # the recorder says when it is enough
                callbacks=[recorder],
            ),
        ).fit()
    return set(recorder.dropped)


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
        time_attr="step",
        metric=search.metric,
        mode=search.mode,
        max_t=spec.longest_trial_steps,
        grace_period=search.grace_steps,
        reduction_factor=search.reduction_factor,
    )


def _optuna(layout: SweepLayout, spec: Spec, known: Sequence[TrialSettings]) -> Any:
    """Optuna's sampler with the trials that are done, so that a killed search continues from them."""
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
        own = layout.trial(trial.id)
        if (reward := newest(read_history(own.history)).get(str(metric))) is not None:
            points.append(read_json(own.settings)["values"])
            rewards.append(reward)
    return OptunaSearch(
        {word.key: make[word.kind](word.values) for word in spec.space()},
        metric=metric,
        mode=spec.search.mode,
        seed=spec.search.seed + len(known),
        points_to_evaluate=points or None,
        evaluated_rewards=rewards or None,
    )


def _recorder(layout: SweepLayout, spec: Spec, progress: SweepProgress) -> Any:
    """Tune's callback: shows progress, records the ends that trials can't record themselves, and gives up on trials."""
    from ray import tune

    class Recorder(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.dropped: set[str] = set()  # trials that Tune gave up on though they may be tried again
            self._ended: Counter[str] = Counter()  # attempts known to have ended
            self._memory = MemoryKills()
            self._troubles = 0  # of Ray's, in a row

        def __reduce__(self) -> Any:
            return tune.Callback, ()  # Tune pickles its callbacks to restore itself, which we never ask of it

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            self._troubles = 0
            progress.advanced(result["trial"], result)
            for trial_id, row in dict(result["others"]).items():
                progress.advanced(trial_id, row)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            last = trial.last_result
            if "alone" in last:
                return
            outcome = Outcome(**last["outcome"]) if "outcome" in last else None
            if outcome is None:
                outcome = Outcome("stopped", step=last["step"], reason="ended early by the scheduler")
                end_attempt(layout.trial(last["trial"]), Cause.STOPPED, "by the scheduler")
                write_outcome(layout.trial(last["trial"]), outcome)
            progress.ended(last["trial"], outcome.status, outcome.reason)
            for other, end in last.get("ends", {}).items():
                progress.ended(other, end["status"], end["reason"])

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            trial_id = self._end_attempt(trial)
            own = layout.trial(trial_id)
            attempt, failures = read_attempts(own)[-1], failures_in_a_row(own)
            if attempt in failures and len(failures) > spec.resources.max_failures and not _together(trial):
                tried = f"; tried {len(failures)} times from the same point" if len(failures) > 1 else ""
                reason, failure = failures[-1].reason + tried, failures[-1].failure
                write_outcome(own, Outcome("failed", reason=reason, failure=failure))
                trial.max_failures = 0  # what Tune has begun again reports this outcome; if it can't start, that's all
            else:
                progress.interrupted(trial_id, ": ".join(filter(None, (attempt.cause, attempt.reason))))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            if _together(trial):
                return  # each is tried alone
            trial_id = _id_of(spec, trial)
            if (outcome := read_end(layout.trial(trial_id))) is None:
                # Tune gives up at once on what fails while a process is handed from one trial to the next.
                self.on_trial_recover(iteration, trials, trial)
                outcome = read_end(layout.trial(trial_id))
            if outcome is None:
                self.dropped.add(trial_id)
            else:
                progress.ended(trial_id, outcome.status, outcome.reason)

        def _end_attempt(self, trial: Any) -> str:
            """Record the end of an attempt that could not do so itself; returns the trial's id."""
            trial_id = _id_of(spec, trial)
            own = layout.trial(trial_id)
            error = _error_of(trial)
            attempts = read_attempts(own)
            if is_running(attempts) or len(attempts) == self._ended[trial_id]:
                cause, reason, failure = _end_of(layout, error, trial_id, self._memory)
                end_attempt(own, cause, reason, failure)
                attempts = read_attempts(own)
                self._troubles += cause == Cause.RAY
            self._ended[trial_id] = len(attempts)
            if self._troubles > MOST_TROUBLES:
                raise RuntimeError(
                    f"Ray failed {self._troubles} times in a row while no trial got anywhere: {attempts[-1].reason}"
                )
            return trial_id

    return Recorder()


def _together(trial: Any) -> bool:
    """True if one of Tune's trials trains several of the sweep's, stacked."""
    return bool(trial.config.get("group", {}).get("others"))


def _id_of(spec: Spec, trial: Any) -> str:
    """The id of one of Tune's trials: those that a search has suggested may not have reported it yet."""
    config = trial.config.get("group") or trial.config
    settings: TrialSettings = config.get("trial") or spec.trial(config, spec.seed_list[0])
    return settings.id


def _error_of(trial: Any) -> object:
    """Error that Tune has just handled for one of its trials, or its text where Tune keeps no more of it.

    Both files are removed, so that neither is taken for a later error. Tune's own functions read copies of them, which it
    makes only now and then.
    """
    pickled, text = (Path(file) if file else None for file in (trial.pickled_error_file, trial.error_file))
    error: object = "Ray has not said what failed"
    if text is not None and text.exists():
        error = text.read_text(errors="replace")
        text.unlink()
    if pickled is not None and pickled.exists():
        error = pickle.loads(pickled.read_bytes())
        pickled.unlink()
    return error


def _end_of(
    layout: SweepLayout, error: object, trial_id: str, memory: MemoryKills
) -> tuple[Cause, str, Failure | None]:
    """End of an attempt that recorded none, from Ray's error and the kernel's counters."""
    how, text, code = process_end(error)
    if how == "node_lost":
        return Cause.NODE_LOST, "", None
    if isinstance(lost := getattr(error, "cause", None), LeaseLostError):
        return Cause.NODE_LOST, str(lost), None
    if how in ("error", "ray"):
        path = write_log(layout, trial_id, text)
        reason = f"{shortened(last_error(text))}{f' (traceback: {path})' if path else ''}"
        return (Cause.RAY, reason, None) if how == "ray" else (Cause.ERROR, reason, Failure.ERROR)
    if how == "exited":
        reason = f"its process exited with code {code}"
    elif how == "memory":
        reason = "its process was killed for want of memory"
    else:
        attempts = read_attempts(layout.trial(trial_id))
        here = bool(attempts) and attempts[-1].host == socket.gethostname()
        reason = f"its process was killed, or crashed{memory.said() if here else ''}"
    return Cause.DIED, reason, Failure.DIED
