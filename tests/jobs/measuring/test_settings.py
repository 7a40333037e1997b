"""Means over the seeds of each setting, of planted values."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ganlab.statistics.support import estimate, spread
from jobs.measuring.settings import setting_rows
from jobs.report.results_json import results_json
from jobs.report.table import build_table
from storage.layout import SweepLayout
from storage.results import hyperparameter_column, open_settings, read_results, write_results

COLUMNS = ("family", "discriminator_width", "seed", "status", "support_size", "final", "passes")
TRIALS: list[tuple[Any, ...]] = [
    ("dcgan", 8, 0, "completed", 100.0, 1, True),
    ("dcgan", 8, 1, "completed", 400.0, 1, True),
    ("dcgan", 8, 2, "completed", 1600.0, 0, True),  # a shorter training: its final snapshot is the first of the sweep
    ("dcgan", 32, 0, "completed", 500.0, 1, True),
    ("dcgan", 32, 1, "completed", 9e9, 1, False),
    ("dcgan", 32, 2, "stopped", 9e9, 1, True),
    ("mix", 8, 0, "completed", 300.0, 1, True),
    ("mix", 8, 1, "completed", 1200.0, 1, True),
    ("mix", 32, 0, "failed", math.nan, 1, False),
]
BOUND = 7  # the place of a trial without duplicates


def planted(trials: list[tuple[Any, ...]]) -> tuple[dict[str, Any], dict[str, Any], list[int]]:
    """Coordinates and variables of results, and the place of each trial's final snapshot; the other one misleads."""
    columns = dict(zip(COLUMNS, zip(*trials, strict=True), strict=True))
    support, final = np.array(columns["support_size"]), list(columns["final"])
    rows = np.arange(len(trials))
    values = {name: np.full((len(trials), 2), 77.0) for name in ("support_size", "samples", "distinct_seen_share")}
    values["fidelity_ratio"] = np.full((len(trials), 2), 1.1)
    values["support_size"][rows, final] = support
    values["distinct_seen_share"][rows, final] = np.linspace(0.1, 0.9, len(trials))
    values["support_size_low"], values["support_size_high"] = (
        values["support_size"] / 1.01,
        values["support_size"] * 1.01,
    )
    passes, bound = np.zeros((len(trials), 2), bool), np.zeros((len(trials), 2), bool)
    passes[rows, final] = columns["passes"]
    if len(trials) > BOUND:
        bound[BOUND], values["support_size_high"][BOUND] = True, np.inf
    coordinates = {
        "trial": [f"t{row}" for row in rows],
        **{name: list(columns[name]) for name in ("family", "discriminator_width", "seed", "status")},
        "step": [100, 200],
        "sample_size": [10],
        "generator_weights": [9] * len(trials),
    }
    return coordinates, values | {"passes_quality_gate": passes, "is_lower_bound": bound, "threshold": 3.0}, final


def test_rows_of_planted_trials() -> None:
    coordinates, variables, final = planted(TRIALS)
    rows = setting_rows(coordinates, variables, final, 0.95)
    assert {name: list(values) for name, values in rows.coords.items()} == {
        "setting": [0, 1, 2, 3],
        "family": ["dcgan", "dcgan", "mix", "mix"],
        "discriminator_width": [8, 32, 8, 32],
        "generator_weights": [9, 9, 9, 9],
    }
    found = {name: np.asarray(values) for name, values in rows.variables.items()}
    assert found["n_trials"].tolist() == [3, 3, 2, 1]
    assert found["n_seeds"].tolist() == [3, 1, 2, 0]
    assert found["n_lower_bounds"].tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(found["support_size_mean"], [400, 500, 600, np.nan])
    half = stats.t.ppf(0.975, 2) * math.log(4) / math.sqrt(3)
    np.testing.assert_allclose(found["support_size_low"][:2], [400 * math.exp(-half), np.nan])
    np.testing.assert_allclose(found["support_size_high"], [400 * math.exp(half), np.nan, np.inf, np.nan])
    assert 0 < found["support_size_low"][2] < 600
    np.testing.assert_allclose(found["distinct_seen_share_mean"], [0.2, 0.4, 0.75, np.nan])
    reference = stats.ttest_1samp([0.1, 0.2, 0.3], 0).confidence_interval(0.95)
    assert found["distinct_seen_share_high"][0] == pytest.approx(reference.high)
    np.testing.assert_allclose(found["fidelity_ratio_mean"], [1.1, 1.1, 1.1, np.nan])
    assert "diversity_ratio_mean" not in found


def test_seeds_that_agree_by_luck_keep_their_own_uncertainty_and_other_levels_are_wider() -> None:
    coordinates, variables, final = planted([("dcgan", 8, seed, "completed", 100.0, 1, True) for seed in range(4)])
    narrow, wide = (setting_rows(coordinates, variables, final, level).variables for level in (0.8, 0.95))
    error = math.log(1.01**2) / (2 * stats.norm.ppf(0.975))
    half = stats.t.ppf(0.975, 3) * error / 2
    assert wide["support_size_high"] == pytest.approx([100 * math.exp(half)])
    assert wide["support_size_high"] > narrow["support_size_high"] > [100.0]


def test_nothing_measured_and_no_trial() -> None:
    coordinates, _, final = planted(TRIALS)
    rows = setting_rows(coordinates, {"threshold": 3.0}, final, 0.95)
    assert dict(rows.variables) == {"n_trials": [3, 3, 2, 1], "n_seeds": [0] * 4, "n_lower_bounds": [0] * 4}
    empty = setting_rows({"trial": [], "family": [], "status": []}, {}, [], 0.95)
    assert [len(np.asarray(values)) for values in (*empty.coords.values(), *empty.variables.values())] == [0] * 5


def test_the_group_agrees_with_the_settings_of_the_json(tmp_path: Path) -> None:
    """Both are of the same seeds where every trial's final snapshot is the last one measured."""
    sweep = SweepLayout(tmp_path)
    trials = [(*each[:5], 1, each[6]) for each in TRIALS]
    coordinates, variables, final = planted(trials)
    duplicates = np.array([64, 16, 4, 9, 1, 1, 30, 0, 5])[:, None] * np.ones(2)
    size = math.comb(1000, 2) / np.maximum(duplicates, 0.5)
    variables |= {"samples": np.full((9, 2), 1000.0), "duplicates": duplicates, "support_size": size}
    variables |= {"support_size_low": size / 1.1, "support_size_high": np.where(duplicates > 0, size * 1.2, np.inf)}
    variables["support_size_low"][BOUND] = size[BOUND]
    attributes = {"confidence": 0.95, "fidelity_gate": 1.5}
    write_results(sweep, coordinates, variables, attributes, setting_rows(coordinates, variables, final, 0.95))
    results = read_results(sweep)
    settings = open_settings(sweep)
    assert settings is not None
    said = [each["support_size"] for each in results_json(results, build_table(results))["settings"]]
    assert [0 if each is None else each["seeds"] for each in said] == settings.n_seeds.values.tolist()
    for name in ("mean", "low", "high"):
        finite = [np.nan if each is None or each[name] is None else each[name] for each in said]
        np.testing.assert_allclose(finite, settings[f"support_size_{name}"].where(np.isfinite))


def test_the_public_spread_gives_the_same_mean() -> None:
    pairs = [np.arange(2 * count).reshape(-1, 2) for count in (10, 20, 40)]
    estimates = [estimate(each, 1000) for each in pairs]
    rows = setting_rows(
        {"trial": ["a", "b", "c"], "family": ["dcgan"] * 3, "status": ["completed"] * 3},
        {
            "passes_quality_gate": np.ones((3, 1), bool),
            "support_size": np.array([[each.size] for each in estimates]),
            "support_size_low": np.array([[each.low] for each in estimates]),
            "support_size_high": np.array([[each.high] for each in estimates]),
        },
        [0, 0, 0],
        0.95,
    ).variables
    expected = spread(estimates)
    found = [np.asarray(rows[f"support_size_{name}"]).item() for name in ("mean", "low", "high")]
    assert found == pytest.approx([expected.mean, expected.low, expected.high])


def test_trials_that_lack_a_hyperparameter_are_one_setting() -> None:
    coordinates = {
        "trial": ["a", "b", "c", "d"],
        "family": ["dcgan", "dcgan", "vae", "vae"],
        "seed": [0, 1, 0, 1],
        "status": ["completed"] * 4,
        "discriminator_width": hyperparameter_column([8, 8, None, None]),
        "loss": hyperparameter_column(["log", "log", None, None]),
    }
    rows = setting_rows(coordinates, {}, [0] * 4, 0.95)
    assert rows.variables["n_trials"] == [2, 2]
    np.testing.assert_array_equal(rows.coords["discriminator_width"], [8, np.nan])
    assert list(rows.coords["loss"]) == ["log", ""]
