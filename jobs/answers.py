"""From pair records and histories to the results Dataset.

Invariant: the results are a function of what is on disk, so writing them again changes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganlab.fidelity import MANIFOLD_QUANTILE, RealNeighbours, fidelity_ratio, realistic
from ganlab.support import (
    Estimate,
    collision_frequency,
    collision_probability,
    estimate,
    estimate_from_degrees,
)
from jobs.measure import REFERENCE, Snapshot, fingerprints
from jobs.plan import parameter_counts
from jobs.spec import CollisionSettings, Spec, TrialSettings
from jobs.sweep import trial_state
from storage.history import read_history
from storage.layout import SweepLayout
from storage.pair_records import PairRecord, read_pair_record
from storage.reference import read_reference
from storage.results import write_results
from storage.samples import Samples


def write_answers(
    layout: SweepLayout, spec: Spec, trials: Sequence[TrialSettings], real: RealNeighbours, threshold_squared: int
) -> None:
    """Write ``results.zarr`` from every record that is there; what is missing is marked as not measured."""
    settings = spec.collisions
    records = {
        snapshot: read_pair_record(layout, *snapshot, fingerprint)
        for snapshot, fingerprint in fingerprints(layout, trials, settings, threshold_squared)
    }
    reference = records[Snapshot(REFERENCE, 0)]
    assert reference is not None
    real_support = estimate_from_degrees(reference.degrees, settings.confidence)
    steps = sorted({step for trial in trials for step in (*trial.samples.snapshots, trial.train.steps)})
    rows = [
        [
            _snapshot(layout, trial, step, records.get(Snapshot(trial.id, step)), settings, real, real_support)
            for step in steps
        ]
        for trial in trials
    ]
    variables: dict[str, Any] = {name: np.array([[cell[name] for cell in row] for row in rows]) for name in rows[0][0]}
    logged_steps, losses = _losses(layout, trials)
    sizes = settings.sample_sizes
    variables |= losses | {
        "threshold": np.sqrt(threshold_squared),
        "real_samples": reference.samples,
        "real_pairs_compared": reference.pairs_compared,
        "real_duplicates": real_support.duplicates,
        "real_support_size": real_support.size,
        "real_support_size_low": real_support.low,
        "real_support_size_high": real_support.high,
        "real_collision_probability_model": np.array([real_support.collision_probability(s) for s in sizes]),
    }
    write_results(
        layout, _coordinates(layout, spec, trials, steps, logged_steps), variables, _attributes(spec, threshold_squared)
    )


def _snapshot(
    layout: SweepLayout, trial: TrialSettings, step: int, record: PairRecord | None,
    settings: CollisionSettings, real: RealNeighbours, real_support: Estimate,
) -> dict[str, Any]:  # fmt: skip
    """Every variable of one trial at one step; of a snapshot that isn't measured, what stands for missing."""
    sizes, flagged = settings.sample_sizes, settings.flagged
    cell: dict[str, Any] = {
        "flagged_index": np.full((flagged, 2), -1), "flagged_distance": np.full(flagged, np.nan),
        "reference_index": np.full((flagged, 2), -1), "reference_distance": np.full((flagged, 2), np.nan),
        "collision_probability": np.full(len(sizes), np.nan), "collision_probability_low": np.full(len(sizes), np.nan),
        "collision_probability_high": np.full(len(sizes), np.nan),
        "collision_probability_model": np.full(len(sizes), np.nan), "collision_repeats": np.full(len(sizes), -1),
        "samples": -1, "pairs_compared": -1, "duplicates": -1, "one_sided": False, "verdict_possible": False,
    } | dict.fromkeys((
        "support_size", "support_size_low", "support_size_high", "sample_size_at_half", "sample_size_at_half_low",
        "sample_size_at_half_high", "nonuniformity", "largest_mode_mass", "diversity_ratio", "fidelity_ratio",
        "precision", "support_size_realistic", "support_size_realistic_low", "support_size_realistic_high",
    ), np.nan)  # fmt: skip
    if record is None:
        return cell
    support = estimate_from_degrees(record.degrees, settings.confidence)
    distance = np.sqrt(record.neighbour_squared)
    ratio = fidelity_ratio(distance, real)
    inside = realistic(distance, real)
    first = Samples(layout.trial(trial.id)).steps[step].start
    found = min(flagged, len(record.closest_index))
    pairs = record.closest_index[:found]
    cell["flagged_index"][:found] = pairs + first
    cell["flagged_distance"][:found] = np.sqrt(record.closest_squared[:found])
    cell["reference_index"][:found] = record.neighbour[pairs]
    cell["reference_distance"][:found] = distance[pairs]
    for place, size in enumerate(sizes):
        if size > record.samples:
            continue
        cell["collision_probability_model"][place] = collision_probability(support.p2, size)
        # When duplicates are too many to list, the first images stand for all: they are as independent as any.
        frequency = collision_frequency(record.listed_index, max(record.listed_below, size), size, settings.confidence)
        for name, value in (("", frequency.probability), ("_low", frequency.low), ("_high", frequency.high)):
            cell[f"collision_probability{name}"][place] = value
        cell["collision_repeats"][place] = frequency.repeats
    cell |= {
        "samples": record.samples, "pairs_compared": record.pairs_compared, "duplicates": support.duplicates,
        "one_sided": support.one_sided, "support_size": support.size, "support_size_low": support.low,
        "support_size_high": support.high, "sample_size_at_half": support.sample_size_at_half,
        "sample_size_at_half_low": support.sample_size_at_half_low,
        "sample_size_at_half_high": support.sample_size_at_half_high, "nonuniformity": support.nonuniformity,
        "largest_mode_mass": support.largest_mode_mass, "diversity_ratio": support.size / real_support.size,
        "fidelity_ratio": ratio, "verdict_possible": ratio <= settings.fidelity_gate, "precision": float(inside.mean()),
    }  # fmt: skip
    if (among := _realistic_support(record, inside, settings.confidence)) is not None:
        cell |= {"support_size_realistic": among.size, "support_size_realistic_low": among.low,
                 "support_size_realistic_high": among.high}  # fmt: skip
    return cell


def _realistic_support(record: PairRecord, inside: np.ndarray, confidence: float) -> Estimate | None:
    """Support among the images inside the real manifold, of those whose duplicates are all listed."""
    kept = inside[: record.listed_below]
    if kept.sum() < 2:
        return None
    number = np.cumsum(kept) - 1
    pairs = record.listed_index[kept[record.listed_index].all(axis=1)]
    return estimate(number[pairs], int(kept.sum()), confidence)


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


def _coordinates(
    layout: SweepLayout, spec: Spec, trials: Sequence[TrialSettings], steps: Sequence[int], logged_steps: np.ndarray
) -> dict[str, Any]:
    image_shape = read_reference(layout).shape[1:]
    counts = [parameter_counts(trial, image_shape) for trial in trials]
    varying = spec.hyperparameters(trials)
    states = [trial_state(layout, trial.id) for trial in trials]
    coordinates: dict[str, Any] = {
        "trial": [trial.id for trial in trials],
        "family": [trial.model.family for trial in trials],
        "seed": [trial.seed for trial in trials],
        "status": [state.status if state else "unfinished" for state in states],
        "reason": [(state.reason or "") if state else "" for state in states],
        "step": steps,
        "sample_size": list(spec.collisions.sample_sizes),
        "logged_step": logged_steps,
    }
    for network in sorted({name for count in counts for name in count}):
        coordinates[f"{network}_weights"] = [count.get(network, 0) for count in counts]
    return coordinates | {name: [_plain(values[trial.id]) for trial in trials] for name, values in varying.items()}


def _plain(value: object) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _attributes(spec: Spec, threshold_squared: int) -> Mapping[str, Any]:
    settings = spec.collisions
    how = (
        f"the {settings.real_neighbour_quantile} quantile of real images' distances to their nearest other real image"
        if settings.threshold == "auto" else "set in the sweep"
    )  # fmt: skip
    return {
        "title": spec.name,
        "embedding": settings.embedding,
        "confidence": settings.confidence,
        "fidelity_gate": settings.fidelity_gate,
        "manifold": f"within the {MANIFOLD_QUANTILE} quantile of held-out real images' distances to the nearest other",
        "threshold": {"chosen_by": how, "squared": threshold_squared},
    }
