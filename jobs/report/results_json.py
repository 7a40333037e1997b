"""The results of a sweep as JSON: every measured number under its name in the results.

Invariant: what is not finite or not measured is null or left out, never a number.
"""

import math
from typing import Any

import numpy as np

from jobs.report.table import Results, Row, Setting, Table

_LISTS = {
    "collision_probability": ("sample_size", ("collision_probability", "collision_probability_low",
                                              "collision_probability_high", "collision_probability_model",
                                              "collision_repeats")),
    "thresholds": ("distance", ("pair_probability", "pair_probability_pairs", "diversity_ratio_at")),
    "classes": ("class", ("class_support_size", "class_support_size_low", "class_support_size_high", "class_samples",
                          "class_duplicates", "class_nonuniformity", "class_largest_mode_mass", "class_nonuniform")),
    "heavy_modes": ("mode", ("mode_mass", "mode_mass_low", "mode_mass_high", "mode_members", "mode_index",
                             "mode_reference_index", "mode_reference_distance")),
    "closest": ("flagged", ("flagged_index", "flagged_distance", "flagged_verdict", "reference_index",
                            "reference_distance")),
}  # fmt: skip
_REAL_LISTS = {
    "collision_probability": ("sample_size", ("real_collision_probability_model",)),
    "thresholds": ("distance", ("real_pair_probability", "real_pair_probability_pairs")),
    "classes": ("class", ("real_class_support_size", "real_class_support_size_low", "real_class_support_size_high")),
}


def results_json(results: Results, table: Table) -> dict[str, Any]:
    """Everything a results Dataset holds of trials, settings and real images, as plain data."""
    results = results.load()
    scalars = {str(name): _measured(values) for name, values in results.data_vars.items() if values.dims == ()}
    real = {name: value for name, value in scalars.items() if name.startswith("real_")}
    told = {*real, "threshold", "embedding_accuracy", "embedding_training_accuracy"}
    numbers = [str(name) for name, values in results.data_vars.items() if values.dims == ("trial", "snapshot")]
    return {
        "title": results.attrs.get("title"),
        "threshold": _plain(results["threshold"].values),
        "threshold_from": results["threshold"].attrs.get("chosen_by"),
        "confidence": table.confidence,
        "fidelity_gate": table.gate,
        "embedding": {
            "name": results.attrs.get("embedding"),
            "held_out_accuracy": _plain(results["embedding_accuracy"].values),
            "training_accuracy": _plain(results["embedding_training_accuracy"].values),
        },
        "settings": [_setting(setting) for setting in table.settings],
        "trials": [_trial(results.isel(trial=place), row, numbers) for place, row in enumerate(table.trials)],
        "sweep": {name: value for name, value in scalars.items() if name not in told and value is not None},
        "real": real | _lists(results, _REAL_LISTS),
    }  # fmt: skip


def _setting(setting: Setting) -> dict[str, Any]:
    """The spread of the seeds of one setting."""
    spread = setting.spread
    return {
        "settings": dict(setting.settings),
        "trials": [row.trial for row in setting.rows],
        "support_size": None if spread is None else {name: _plain(value) for name, value in vars(spread).items()},
    }


def _trial(trial: Results, row: Row, numbers: list[str]) -> dict[str, Any]:
    return {
        "trial": row.trial, "settings": dict(row.settings), "seed": row.seed, "status": row.status, "reason": row.reason,
        "weights": dict(row.weights), "verdict": row.verdict,
        "snapshots": [
            _snapshot(trial.isel(snapshot=place), numbers)
            for place in range(trial.sizes["snapshot"]) if int(trial["samples"].values[place]) >= 0
        ],
    }  # fmt: skip


def _snapshot(here: Results, names: list[str]) -> dict[str, Any]:
    numbers = {name: _measured(here[name]) for name in names}
    numbers["heavy_modes_found"] = count = numbers.pop("heavy_modes")
    found = _lists(here, _LISTS)
    found["heavy_modes"] = found["heavy_modes"][: count or 0]
    found["closest"] = [each for each in found["closest"] if each["flagged_distance"] is not None]
    found["classes"] = [each for each in found["classes"] if each["class_samples"] >= 0]
    if found["classes"]:
        found["nonuniform_classes"] = [each["class"] for each in found["classes"] if each["class_nonuniform"]]
    return {"step": int(here["step"]), **numbers, **found}


def _lists(here: Results, lists: dict[str, tuple[str, tuple[str, ...]]]) -> dict[str, Any]:
    """Variables along one dimension as one list of records; the dimension's own coordinate first."""
    found = {}
    for key, (dim, names) in lists.items():
        coordinate = {dim: here[dim].values.tolist()} if dim in here.coords else {}
        columns = coordinate | {name: [_plain(value) for value in here[name].values] for name in names}
        found[key] = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return found


def _measured(variable: Any) -> Any:
    """The one value of a variable; None for what stands for not measured."""
    value = _plain(variable.values)
    return None if str(value) == variable.attrs.get("not_measured") and not isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    """A number, word, or list of them, as JSON has them."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(each) for each in value]
    plain = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
