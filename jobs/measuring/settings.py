"""Means over the seeds of each setting: the group `settings` of the results.

Invariant: a row is a function of the coordinates and variables of the results, at the final snapshots of its trials.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganlab.statistics.support import SeedMean, error_of_log, mean_over_seeds
from storage.results import SettingRows, known_value
from storage.statistics import COORDINATES, STATISTICS, Statistic

OF_A_TRIAL = {"trial", "seed", "status", "reason"}
"""Coordinates along trials that differ between the seeds of a setting."""


def setting_rows(
    coordinates: Mapping[str, Sequence[Any]], variables: Mapping[str, Any], final: Sequence[int], confidence: float
) -> SettingRows:
    """Group trials that differ by their seed alone, and average the figures of their final snapshots.

    Parameters
    ----------
    coordinates, variables : mapping
        As of `storage.results.write_results`; statistics of a snapshot are arrays (trial, snapshot).
    final : sequence of int, one for each trial
        Place of the trial's final snapshot.
    confidence : float
        Level of the intervals, there and here.

    Returns
    -------
    SettingRows
        In the order in which settings first appear. Means are of the trials that completed and whose final snapshot
        passes the quality gate, those at matched fidelity of the trials that reach it, so NaN where no trial does;
        statistics that the results lack are left out.
    """
    described = {name: values for name, values in coordinates.items() if name not in {*OF_A_TRIAL, *COORDINATES}}
    members: dict[tuple[Any, ...], list[int]] = {}
    for trial, setting in enumerate(zip(*described.values(), strict=True)):
        members.setdefault(tuple(map(known_value, setting)), []).append(trial)  # NaN equals no other NaN
    trials = np.arange(len(final))

    def last(name: str, missing: float | bool = np.nan) -> np.ndarray:
        if name not in variables:
            return np.full(len(final), missing)
        values: np.ndarray = variables[name]
        return values if values.ndim == 1 else values[trials, final]

    counts = last("passes_quality_gate", False) & (np.asarray(coordinates["status"]) == "completed")
    seeds = [np.array(each)[counts[each]] for each in members.values()]
    is_lower_bound = last("is_lower_bound", False)
    found: dict[str, Any] = {
        "n_trials": [len(each) for each in members.values()],
        "n_seeds": [len(each) for each in seeds],
        "n_lower_bounds": [int(is_lower_bound[each].sum()) for each in seeds],
    }
    matched = seeds
    if "matched_fidelity" in variables:
        reached = np.isfinite(variables["support_size_matched"])
        matched = [np.array(each)[reached[each]] for each in members.values()]
        found |= {
            "n_matched": [len(each) for each in matched],
            "matched_fidelity": variables["matched_fidelity"],
        }
    for statistic in STATISTICS:
        for name, rows in ((statistic.name, seeds), (f"{statistic.name}_matched", matched)):
            if statistic.over_seeds and name in variables:
                values, low, high = (last(f"{name}{end}") for end in ("", "_low", "_high"))
                means = [_mean(statistic, values[each], low[each], high[each], confidence) for each in rows]
                found |= {f"{name}_{end}": [getattr(mean, end) for mean in means] for end in ("mean", "low", "high")}
    first = [each[0] for each in members.values()]
    columns = {name: np.asarray(values)[first] for name, values in described.items()}
    return SettingRows({"setting": np.arange(len(members)), **columns}, found)


def _mean(statistic: Statistic, values: np.ndarray, low: np.ndarray, high: np.ndarray, confidence: float) -> SeedMean:
    """Mean over the given seeds; NaN without any."""
    if not len(values):
        return SeedMean(np.nan, np.nan, np.nan)
    if statistic.over_seeds == "arithmetic":
        return mean_over_seeds(values, confidence=confidence)
    errors = [error_of_log(*ends, confidence) for ends in zip(low, high, strict=True)]
    return mean_over_seeds(values, errors, geometric=True, confidence=confidence)
