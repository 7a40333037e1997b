"""Several trials trained stacked in one process, each with its own records, as if it ran alone.

Invariant: a trial that can't be trained beside the others is left as it is, to be trained alone: whatever happens to one
changes no other.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.spec.sweep import Spec, TrialSettings
from jobs.training.failures import cause_of, record_failure
from storage.attempts import Cause, begin_attempt, end_attempt, end_with_outcome
from storage.layout import SweepLayout
from storage.lease import LeaseLostError, hold_lease
from storage.outcome import Outcome

if TYPE_CHECKING:
    from jobs.training.trial import TrialOptions

FREE = {"learning_rate", "discriminator_learning_rate", "ema_decay", "steps", "log_every"}
"""Training settings by which stacked trials may differ; and the seed."""


def grouped(spec: Spec, trials: Sequence[TrialSettings]) -> list[list[TrialSettings]]:
    """Cut trials into groups to be trained stacked, at most `resources.replicas_per_worker` in each, in their order."""
    from ganlab.models.families import FAMILIES
    from ganlab.models.replicas import stackable

    most = spec.resources.replicas_per_worker
    alike: dict[str, list[TrialSettings]] = {}
    for trial in trials:
        train = trial.train.model_dump(exclude=FREE)
        key = json.dumps([trial.model.model_dump(mode="json"), train], sort_keys=True)
        family = FAMILIES.get(trial.model.family)
        alone = family is None or not stackable(family) or trial.train.workers > 1
        alike.setdefault(trial.id if alone else key, []).append(trial)
    return [same[first : first + most] for same in alike.values() for first in range(0, len(same), most)]


def run_replicas(
    sweep: Path,
    trials: Sequence[TrialSettings],
    report: Callable[[Mapping[str, Any]], None],
    report_other: Callable[[str, Mapping[str, Any]], None],
    options: "TrialOptions",
) -> Outcome:
    """Train the trials stacked; see `jobs.training.trial.run_trial`.

    Parameters
    ----------
    report
        Of the first trial, whose end the caller records.
    report_other
        Called with the id and the newest metrics of another one, which records its own end here. What ends it by an error
        is kept in its log, and it has no outcome then.

    Returns
    -------
    Outcome
        Of the first trial; what it raises is raised when all have ended.
    """
    from ganlab.models.replicas import Replicas
    from ganlab.models.train import Interrupted
    from jobs.training.trial import run_trial

    layout, replicas = SweepLayout(sweep), Replicas(len(trials))

    def first() -> Outcome:
        with replicas.member(0):
            return run_trial(sweep, trials[0], report, replace(options, together=partial(replicas.join, 0)))

    def other(number: int) -> None:
        trial = trials[number]
        own = layout.trial(trial.id)
        try:
            with replicas.member(number), hold_lease(own) as lease:
                begin_attempt(own)
                told = partial(report_other, trial.id)
                mine = replace(options, together=partial(replicas.join, number), guard=lease.check)
                outcome = run_trial(sweep, trial, told, mine)
        except LeaseLostError:  # the attempt is another process's now
            return
        except Interrupted as interruption:
            end_attempt(own, Cause.PREEMPTED, str(interruption))
        except Exception as error:
            failure = record_failure(layout, trial, error)
            end_attempt(own, cause_of(error), str(failure), failure.kind)
        else:
            end_with_outcome(own, outcome)

    with ThreadPoolExecutor(len(trials)) as threads:
        others = [threads.submit(other, number) for number in range(1, len(trials))]
        ended = threads.submit(first)
        for each in others:
            each.result()
        return ended.result()
