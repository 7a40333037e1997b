"""A Dataset of results as JSON: every statistic under the name of its variable.

Invariant: what is not finite or missing is null or left out, never a number.
"""

import math
from typing import Any

import numpy as np

from jobs.measuring.sample_answer import SampleAnswer
from jobs.report.table import Results, Row, Setting, Table, build_table, of_trial, scalar
from storage.statistics import TRIAL, VARIABLES

LISTS = {
    "sample_size": "collision_probability",
    "distance": "thresholds",
    "real_rate": "rates",
    "sample_multiple": "distinct_curve",
    "class": "classes",
    "mode": "heavy_modes",
    "flagged": "closest",
    "copied": "most_copied",
    "component": "components",
}
"""Key of the list of records that stands for the variables along a dimension."""
MAPPINGS = {"order": "effective_numbers", "distance_factor": "sensitivity", "near_quantile": "copied_shares"}
"""Key of the mapping, by coordinate, that stands for the statistic along a dimension: values, or [value, low, high]."""
SPARSE = ("sample_size", "mode", "flagged", "class", "copied")
"""Dimensions of which the places without any value are left out."""


def results_json(results: Results, table: Table) -> dict[str, Any]:
    """Trials, settings and real images of a results Dataset, as plain data."""
    results = results.load()
    alone = [name for name, about in VARIABLES.items() if about.dims == () and name in results]
    head = common_json(results, table)
    return {
        "title": results.attrs.get("title"),
        **head,
        "settings": [_setting(setting) for setting in table.settings],
        "trials": [_trial(results.isel(trial=place), row) for place, row in enumerate(table.trials)],
        "sweep": {
            name: _plain(results[name].values, name)
            for name in alone
            if not name.startswith(("real_", "embedding_")) and name not in head
        },
    }


def common_json(results: Results, table: Table) -> dict[str, Any]:
    """Values common to all trials: threshold, levels, embedding, and the real images."""
    names = [str(name) for name in results.data_vars if str(name).startswith("real_")]
    alone = {name.removeprefix("real_"): _plain(results[name].values, name) for name in names if not results[name].dims}
    return {
        "threshold": _plain(results["threshold"].values, "threshold"),
        "threshold_from": results["threshold"].attrs.get("chosen_by"),
        "real_rate": results["threshold"].attrs.get("real_rate"),
        "confidence": table.confidence,
        "fidelity_gate": _finite(table.gate),
        "moved_copies": bool(results.attrs.get("moved_copies", False)),
        "embedding": {
            "name": results.attrs.get("embedding"),
            "about": results.attrs.get("embedding_about"),
            "fingerprint": results.attrs.get("embedding_fingerprint"),
            **{
                name.removeprefix("embedding_"): _plain(results[name].values, name)
                for name in ("embedding_accuracy", "embedding_training_accuracy")
                if name in results
            },
        },
        "real": alone | _along_dimensions(results, names, prefix="real_") if names else None,
    }


def snapshot_json(here: Results) -> dict[str, Any]:
    """Every statistic of one snapshot."""
    names = [name for name, about in VARIABLES.items() if about.dims[:2] == TRIAL and name in here]
    alone = {name: _plain(here[name].values, name) for name in names if VARIABLES[name].dims == TRIAL}
    found = alone | _along_dimensions(here, names)
    if "classes" in found:
        found["nonuniform_classes"] = [each["class"] for each in found["classes"] if each["class_nonuniform"]]
    return found


def samples_json(answer: SampleAnswer) -> dict[str, Any]:
    """Answer for a sample file, as plain data."""
    results = answer.results.load()
    common = common_json(results, build_table(results))
    if answer.reference is not None:
        common["real"] |= {"path": str(answer.reference.path), "read": answer.reference.read.as_json()}
    if answer.held_out is not None:
        common["held_out"] = {"path": str(answer.held_out.path), "read": answer.held_out.read.as_json()}
    return {
        "path": str(answer.samples.path),
        "read": answer.samples.read.as_json(),
        "notes": [note._asdict() for note in answer.notes],
        **common,
        **snapshot_json(results.isel(trial=0, snapshot=0)),
    }


def _setting(setting: Setting) -> dict[str, Any]:
    """The spread of the seeds of one setting."""
    spread = setting.spread
    return {
        "settings": dict(setting.settings),
        "trials": [row.trial for row in setting.rows],
        "support_size": None if spread is None else {name: _finite(value) for name, value in vars(spread).items()},
    }


def _trial(trial: Results, row: Row) -> dict[str, Any]:
    return {
        "trial": row.trial,
        "settings": dict(row.settings),
        "seed": row.seed,
        "status": row.status,
        "reason": row.reason,
        "weights": dict(row.weights),
        "quality_gate": row.gate_words,
        **{name: _plain(trial[name].values, name) for name in of_trial(trial)},
        "snapshots": [
            {"step": int(trial["step"].values[place]), **snapshot_json(trial.isel(snapshot=place))}
            for place in range(trial.sizes["snapshot"])
            if not math.isnan(trial["samples"].values[place])
        ],
    }


def _along_dimensions(here: Results, names: list[str], prefix: str = "") -> dict[str, Any]:
    """Variables with a dimension of their own: lists of records, or mappings by its coordinate."""
    found: dict[str, Any] = {}
    for dim in [*LISTS, *MAPPINGS]:
        along = [name for name in names if here[name].dims[:1] == (dim,)]
        if not along:
            continue
        columns = {name.removeprefix(prefix): [_plain(value, name) for value in here[name].values] for name in along}
        keys = here[dim].values.tolist() if dim in here.coords else list(range(here.sizes[dim]))
        if dim in MAPPINGS:
            values = [row[0] if len(columns) == 1 else list(row) for row in zip(*columns.values(), strict=True)]
            found[MAPPINGS[dim]] = {f"{key:g}": value for key, value in zip(keys, values, strict=True)}
            continue
        start = {dim: keys} if dim in here.coords else {}
        records = [
            dict(zip([*start, *columns], row, strict=True))
            for row in zip(*start.values(), *columns.values(), strict=True)
        ]
        found[LISTS[dim]] = [
            each
            for each in records
            if dim not in SPARSE
            or any(each[name] not in (None, "", False) and not _nothing(each[name]) for name in columns)
        ]
    return found


def _nothing(value: Any) -> bool:
    return isinstance(value, list) and all(each is None for each in value)


def _plain(value: Any, name: str) -> Any:
    """A number, word, or list of them, as JSON has them."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(each, name) for each in value]
    return _finite(scalar(np.asarray(value), name))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
