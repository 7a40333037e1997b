"""Index of a sweep's trials in its folder, so that reading a sweep loads no model.

Invariant: says what `Spec.trials` says of the very sweep.yaml that lies beside it; otherwise it is passed over.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from storage.atomic import read_json, write_json
from storage.layout import SweepLayout

if TYPE_CHECKING:
    from jobs.spec.sweep import Spec, TrialSettings


@dataclass(frozen=True)
class TrialSummary:
    """A trial's id, seed and steps of training, and the values of the hyperparameters that vary over the sweep."""

    id: str
    seed: int
    steps: int
    values: dict[str, Any]


@dataclass(frozen=True)
class SweepSummary:
    """A sweep's name, the trials that are known, and how many a model-based search has still to suggest."""

    name: str
    trials: list[TrialSummary]
    later: int = 0


def write_known(spec: "Spec", layout: SweepLayout) -> None:
    """Keep what is known of the trials, once ``sweep.yaml`` is written; those of a model-based search come later."""
    if spec.search.algorithm != "optuna":
        trials = [asdict(trial) for trial in _trials(spec, spec.trials())]
        write_json(layout.known, {"sweep": _hash(layout), "name": spec.name, "trials": trials})


def read_known(layout: SweepLayout) -> SweepSummary:
    """Read what is known of a sweep's trials; takes seconds where it was not kept. SpecError as `load_spec`."""
    if (kept := _kept(layout)) is not None:
        return kept
    from jobs.spec.sweep import load_spec
    from jobs.training.tune import sweep_trials

    spec = load_spec(layout.spec)
    trials = sweep_trials(layout, spec)
    return SweepSummary(spec.name, _trials(spec, trials), len(spec.trials()) - len(trials))


def _kept(layout: SweepLayout) -> SweepSummary | None:
    """Read the index; None if it is missing, damaged, or of another sweep.yaml."""
    try:
        content = read_json(layout.known)
        trials = [TrialSummary(**each) for each in content["trials"]]
        return SweepSummary(content["name"], trials) if content["sweep"] == _hash(layout) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _trials(spec: "Spec", trials: "Sequence[TrialSettings]") -> list[TrialSummary]:
    columns = spec.hyperparameters(trials)

    def values(trial: str) -> dict[str, Any]:
        return {name: column[trial] for name, column in columns.items()}

    return [TrialSummary(trial.id, trial.seed, trial.train.steps, values(trial.id)) for trial in trials]


def _hash(layout: SweepLayout) -> str:
    return hashlib.sha256(layout.spec.read_bytes()).hexdigest()
