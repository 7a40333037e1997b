"""From pair records and histories to the results Dataset.

Invariant: the results are a function of what is on disk and of whether trials are being trained, so writing them again
changes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganlab.quality.embeddings.names import folder_name
from ganlab.quality.fidelity import MANIFOLD_QUANTILE
from jobs.measuring.calibrate import verdict_answers
from jobs.measuring.cells import Axes, numbered_from, rate_values, real_values, sample_values, stacked
from jobs.measuring.distance import ChosenDistance, RealImages
from jobs.measuring.facts import RealFacts, SampleFacts, gate_of, sample_facts
from jobs.measuring.known_modes import mode_cell
from jobs.measuring.matched import common_size_values, matched_values
from jobs.measuring.measure import REFERENCE, Snapshot, fingerprints, read_moved
from jobs.measuring.scoring import read_scores, scores_name
from jobs.measuring.settings import setting_rows
from jobs.measuring.space import Space, sweep_space
from jobs.spec.sweep import Spec, SpecError, TrialSettings
from jobs.training.plan import parameter_counts
from jobs.training.user_models import use_code
from storage.attempts import read_attempts
from storage.history import read_history
from storage.layout import SweepLayout
from storage.pair_records import read_pair_record
from storage.reference import read_reference
from storage.results import hyperparameter_column, write_results
from storage.samples import DamagedShardError, Samples
from storage.trial_state import read_end, trial_state
from storage.usage import read_usage


def write_answers(
    layout: SweepLayout, spec: Spec, trials: Sequence[TrialSettings], real: RealImages, *, active: bool = False
) -> None:
    """Write ``results.zarr`` from every record that is there; `active` while trials are being trained.

    Raises
    ------
    SpecError
        When the search has suggested no trial yet.
    """
    if not trials:
        raise SpecError(f"{layout.root}: no trial has begun yet")
    use_code(layout.own_code)
    settings = spec.collisions
    space = sweep_space(layout, settings.embedding)
    known = dict(fingerprints(layout, trials, settings, real.chosen.squared, space))
    reference = read_reference(layout)
    labelled = any(_labels(layout, trial.id, trial.train.steps) is not None for trial in trials)
    of_real = _facts(layout, spec, known, Snapshot(REFERENCE, 0), reference.labels if labelled else None, None)
    assert of_real is not None
    held_against = RealFacts(real, of_real)
    steps = sorted({step for trial in trials for step in (*trial.samples.snapshots, trial.train.steps)})
    found = {
        Snapshot(trial.id, step): facts
        for trial in trials
        for step in steps
        if (
            facts := _facts(
                layout, spec, known, Snapshot(trial.id, step), _labels(layout, trial.id, step), held_against
            )
        )
    }
    labels = sorted({each.label for facts in found.values() for each in facts.classes})
    axes = Axes(settings.sample_sizes, labels, settings.flagged, tuple(each.rate for each in real.rates))

    def cell(trial: TrialSettings, step: int) -> Mapping[str, Any]:
        facts = found.get(Snapshot(trial.id, step))
        own = mode_cell(layout, spec.dataset, trial.id, step)
        if facts is None:
            return own
        first = Samples(layout.trial(trial.id)).steps[step].start
        return own | numbered_from(first, sample_values(facts, axes))

    variables: dict[str, Any] = stacked([[cell(trial, step) for step in steps] for trial in trials])
    measured = [[found.get(Snapshot(trial.id, step)) for step in steps] for trial in trials]
    variables |= common_size_values(
        [[None if each is None else each.record.degrees for each in row] for row in measured]
    )
    logged_steps, losses = _losses(layout, trials)
    variables |= _own_measures(layout, trials, steps)
    variables |= _costs(layout, trials)
    variables |= losses | {
        "threshold": np.sqrt(real.chosen.squared),
        **real_values(of_real, axes),
        **rate_values(real.rates),
    }
    if space.classifier is not None:
        variables |= {
            "embedding_accuracy": space.classifier.held_out_accuracy,
            "embedding_training_accuracy": space.classifier.training_accuracy,
        }
    coordinates = _coordinates(layout, spec, trials, steps, logged_steps, active)
    variables |= matched_values(variables, coordinates["status"])
    if of_real.scores is not None:
        coordinates["distance"] = of_real.scores.curve.distances
    coordinates |= axes.coordinates
    if labels:
        coordinates["class"] = np.array(labels, dtype=np.int64)
    judged, judged_coordinates = verdict_answers(layout, trials, steps, settings)
    variables, coordinates = variables | judged, coordinates | judged_coordinates
    final = [steps.index(trial.train.steps) for trial in trials]
    by_setting = setting_rows(coordinates, variables, final, settings.confidence)
    write_results(layout, coordinates, variables, _attributes(spec, real.chosen, space), by_setting)


def _facts(
    layout: SweepLayout,
    spec: Spec,
    known: Mapping[Snapshot, str],
    snapshot: Snapshot,
    labels: np.ndarray | None,
    real: RealFacts | None,
) -> SampleFacts | None:
    """Values of one snapshot; None while it is not measured."""
    own = layout.in_space(folder_name(spec.collisions.embedding))
    record = read_pair_record(own, *snapshot, known[snapshot]) if snapshot in known else None
    if record is None:
        return None
    settings, moved = spec.collisions, None
    if settings.moved_copies and real is not None:
        moved = read_moved(own, snapshot, known[snapshot])
        if moved is None:
            return None
    of_real = None if real is None else real.facts.scores
    distances = None if of_real is None else of_real.curve.distances
    scores = read_scores(own.scores(*snapshot), scores_name(known[snapshot]), distances)
    return sample_facts(
        record,
        settings.sample_sizes,
        settings.confidence,
        labels=labels,
        scores=scores,
        real=real,
        gate=gate_of(settings),
        moved=moved,
    )


def _labels(layout: SweepLayout, trial_id: str, step: int) -> np.ndarray | None:
    """Class of each sample of a snapshot, of a class-conditional model; None, too, when they are damaged."""
    own = layout.trial(trial_id)
    if not own.samples.exists():
        return None
    samples = Samples(own)
    numbers = samples.steps.get(step)
    try:
        return None if numbers is None else samples.labels(numbers.start, numbers.stop)
    except DamagedShardError:
        return None


def _losses(layout: SweepLayout, trials: Sequence[TrialSettings]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    histories = [read_history(layout.trial(trial.id).history) for trial in trials]
    steps = np.unique(np.concatenate([history.get("step", np.empty(0)) for history in histories])).astype(np.int64)
    losses = {}
    for name in ("generator_loss", "discriminator_loss"):
        losses[name] = np.full((len(trials), len(steps)), np.nan)
        for row, history in zip(losses[name], histories, strict=True):
            if name in history:
                row[np.searchsorted(steps, history["step"])] = history[name]
    return steps, losses


OWN_MEASURES = {
    "reconstruction_error": "reconstruction_error",
    "reconstruction_baseline": "reconstruction_baseline",
    "code_error": "latent_reconstruction_error",
    "code_normality": "code_normality",
}
"""Statistics that families report of themselves: the name in their histories, and in the results."""


def _own_measures(layout: SweepLayout, trials: Sequence[TrialSettings], steps: Sequence[int]) -> dict[str, np.ndarray]:
    """Diagnostics of families at each snapshot, from the trials' histories."""
    histories = [read_history(layout.trial(trial.id).history) for trial in trials]
    weights = "mixture_weight_"
    components = max((len([name for name in history if name.startswith(weights)]) for history in histories), default=0)

    def at_snapshots(name: str) -> np.ndarray:
        values = np.full((len(trials), len(steps)), np.nan)
        for row, history in zip(values, histories, strict=True):
            if name in history:
                known = dict(zip(history["step"].tolist(), history[name].tolist(), strict=True))
                row[:] = [known.get(step, np.nan) for step in steps]
        return values

    reported = {name for history in histories for name in history}
    own = {result: at_snapshots(name) for name, result in OWN_MEASURES.items() if name in reported}
    if components:
        own["mixture_weight"] = np.stack([at_snapshots(f"{weights}{number}") for number in range(components)], axis=2)
    return own


def _costs(layout: SweepLayout, trials: Sequence[TrialSettings]) -> dict[str, Any]:
    """GPU time and energy of each trial and of all; none where no trial has held a GPU."""
    usages = [read_usage(layout.trial(trial.id)) for trial in trials]
    if not any(usages):
        return {}
    held, energy = np.zeros(len(trials)), np.zeros(len(trials))
    for place, (trial, usage) in enumerate(zip(trials, usages, strict=True)):
        if usage is not None:
            held[place] = usage.gpu_s / 3600
            energy[place] = np.nan if usage.energy_j is None else usage.energy_j
        elif read_attempts(layout.trial(trial.id)):  # begun by a version that kept no account, or without a GPU
            held[place] = energy[place] = np.nan
    return {"gpu_hours": held, "gpu_energy": energy, "sweep_gpu_hours": held.sum(), "sweep_gpu_energy": energy.sum()}


def _coordinates(
    layout: SweepLayout,
    spec: Spec,
    trials: Sequence[TrialSettings],
    steps: Sequence[int],
    logged_steps: np.ndarray,
    active: bool,
) -> dict[str, Any]:
    image_shape = read_reference(layout).shape[1:]
    counts = [parameter_counts(trial, image_shape) for trial in trials]
    varying = spec.hyperparameters(trials)
    ends = [read_end(layout.trial(trial.id)) for trial in trials]
    attempts = [read_attempts(layout.trial(trial.id)) for trial in trials]
    coordinates: dict[str, Any] = {
        "trial": [trial.id for trial in trials],
        "family": [trial.model.family for trial in trials],
        "seed": [trial.seed for trial in trials],
        "status": [trial_state(end, begun, active).value for end, begun in zip(ends, attempts, strict=True)],
        "reason": [(end.reason or "") if end else "" for end in ends],
        "step": steps,
        "sample_size": list(spec.collisions.sample_sizes),
        "logged_step": logged_steps,
    }
    for network in sorted({name for count in counts for name in count}):
        coordinates[f"{network}_weights"] = [count.get(network, 0) for count in counts]
    return coordinates | {
        name: hyperparameter_column([values[trial.id] for trial in trials]) for name, values in varying.items()
    }


def _attributes(spec: Spec, chosen: ChosenDistance, space: Space) -> Mapping[str, Any]:
    settings = spec.collisions
    return {
        "title": spec.name,
        "embedding": space.name,
        "embedding_about": space.about,
        "embedding_fingerprint": space.fingerprint,
        "confidence": settings.confidence,
        "fidelity_gate": settings.fidelity_gate,
        "quality_faults": list(settings.quality_faults),
        "moved_copies": settings.moved_copies,
        "manifold": f"within the {MANIFOLD_QUANTILE} quantile of held-out real images' distances to the nearest other",
        "threshold": chosen.attributes,
    }
