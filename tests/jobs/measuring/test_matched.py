"""Trials at matched fidelity in the results, of planted snapshots."""

from typing import Any

import numpy as np
import pytest

from jobs.measuring.matched import common_size_values, matched_values
from jobs.measuring.settings import setting_rows
from jobs.report.figures import support_chart
from jobs.report.results_json import results_json
from jobs.report.table import build_table
from storage.results import build_dataset
from storage.statistics import VARIABLES

WIDTHS = [4, 4, 16, 16, 64, 64]
ENDS = np.array([1.20, 1.22, 1.14, 1.12, 1.09, 1.09])
COMPLETED = ["completed"] * len(WIDTHS)


def noise_alone(fidelity: np.ndarray) -> dict[str, Any]:
    """Variables of trials whose effective number is a function of the fidelity ratio: noise raises both."""
    numbers = 2000 * np.exp(20 * (fidelity - 1))
    return {
        "samples": np.full(fidelity.shape, 1000.0),
        "duplicates": np.full(fidelity.shape, 50.0),
        "fidelity_ratio": fidelity,
        "passes_quality_gate": fidelity <= 1.25,
        "is_lower_bound": np.zeros(fidelity.shape, bool),
        "support_size": numbers,
        "support_size_low": numbers / 1.1,
        "support_size_high": numbers * 1.1,
        "recall": fidelity - 1,
        "threshold": 3.0,
    }


def planted(status: list[str] = COMPLETED) -> tuple[dict[str, Any], dict[str, Any]]:
    """Coordinates, and variables with those at matched fidelity; three snapshots of each trial, from 1.02 on."""
    variables = noise_alone(1.02 + (ENDS[:, None] - 1.02) * np.array([0.25, 0.5, 1.0]))
    coordinates = {
        "trial": [f"t{row}" for row in range(len(WIDTHS))],
        "family": ["dcgan"] * len(WIDTHS),
        "discriminator_width": WIDTHS,
        "seed": [0, 1] * (len(WIDTHS) // 2),
        "status": status,
        "step": [1, 2, 3],
        "sample_size": [10],
    }
    return coordinates, variables | matched_values(variables, status)


def test_a_confound_of_noise_is_flat_in_the_settings_at_matched_fidelity() -> None:
    coordinates, variables = planted()
    found = setting_rows(coordinates, variables, [2] * len(WIDTHS), 0.95).variables
    unmatched, matched = (np.asarray(found[f"support_size{kind}_mean"]) for kind in ("", "_matched"))
    assert unmatched[0] / unmatched[2] > 8
    np.testing.assert_allclose(matched, 2000 * np.exp(20 * (variables["matched_fidelity"] - 1)))
    np.testing.assert_allclose(np.asarray(found["recall_matched_mean"]), variables["matched_fidelity"] - 1)
    assert np.asarray(found["n_matched"]).tolist() == [2, 2, 2]
    assert found["matched_fidelity"] == variables["matched_fidelity"]
    assert (np.asarray(found["support_size_matched_low"]) < matched).all()


def test_snapshots_below_the_gate_and_trials_that_did_not_complete_take_no_part() -> None:
    fidelity = np.array([[0.9, 1.3], [1.0, 1.2], [1.0, 1.2], [1.0, 1.2]])
    found = matched_values(noise_alone(fidelity), ["completed", "completed", "completed", "stopped"])
    assert found["matched_fidelity"] == pytest.approx(1.2)
    np.testing.assert_array_equal(np.isfinite(found["support_size_matched"]), [False, True, True, False])


@pytest.mark.parametrize(
    "variables",
    [
        {"threshold": 3.0},
        noise_alone(np.array([[1.0, 1.1], [1.15, 1.2]])),
        noise_alone(np.array([[1.3, 1.4], [1.3, 1.4]])),
        noise_alone(np.full((2, 2), np.nan)),
    ],
)
def test_nothing_is_said_where_no_two_trials_can_be_compared(variables: dict[str, Any]) -> None:
    assert matched_values(variables, ["completed"] * 2) == {}
    coordinates: dict[str, Any] = {
        "trial": ["a", "b"],
        "family": ["dcgan"] * 2,
        "seed": [0, 1],
        "status": ["completed"] * 2,
    }
    assert not [name for name in setting_rows(coordinates, variables, [1, 1], 0.95).variables if "matched" in name]


def test_distinct_images_are_compared_among_equally_many_samples() -> None:
    """Snapshots of one generator, of 1,000 to 100,000 samples, show as many distinct images among 1,000."""
    kinds, rng = 5000, np.random.default_rng(0)

    def degrees(samples: int) -> np.ndarray:
        drawn = rng.integers(0, kinds, samples)
        return np.bincount(drawn)[drawn] - 1

    small, large, largest = degrees(1000), degrees(4000), degrees(100_000)
    found = common_size_values([[small, large, largest], [None, small, None]])
    assert found["common_sample_size"] == 1000
    seen = float((1 / (small + 1)).sum())
    expected = kinds * (1 - (1 - 1 / kinds) ** 1000)
    np.testing.assert_allclose(found["distinct_at_common_size"][0], [seen, expected, expected], rtol=0.01)
    np.testing.assert_allclose(found["distinct_at_common_size"][1], [np.nan, seen, np.nan])
    assert common_size_values([[None]]) == {}


def test_figure_table_and_json_say_the_matched_number_and_who_never_reaches_it() -> None:
    coordinates, _ = planted()
    fidelity = 1.02 + (ENDS[:, None] - 1.02) * np.array([0.25, 0.5, 1.0])
    fidelity[0] = [1.21, 1.22, 1.23]
    variables = noise_alone(fidelity)
    variables |= matched_values(variables, COMPLETED)
    results = build_dataset(coordinates, variables, {"confidence": 0.95, "fidelity_gate": 1.25})
    table = build_table(results)
    assert [row.trial for row in table.unmatched] == ["t0"]
    said = [None if row.matched_support is None else row.matched_support.value for row in table.trials]
    expected = 2000 * np.exp(20 * (table.matched_fidelity - 1))  # type: ignore[operator]
    assert said == [None, *[pytest.approx(expected)] * 5]
    written = results_json(results, table)
    assert written["sweep"]["matched_fidelity"] == table.matched_fidelity
    assert [each["support_size_matched"] for each in written["trials"]] == said
    chart = support_chart(table)
    alone = support_chart(build_table(results.drop_vars([name for name in results if "matched" in str(name)])))
    assert "last snapshot, unmatched" in chart
    assert "last snapshot, unmatched" not in alone


def test_every_matched_figure_is_declared() -> None:
    _, variables = planted()
    assert {name for name in variables if "matched" in name} <= VARIABLES.keys()
