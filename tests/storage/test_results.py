import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from storage.layout import SweepLayout
from storage.results import (
    SettingRows,
    build_dataset,
    hyperparameter_column,
    known_value,
    open_results,
    open_settings,
    write_results,
)
from storage.statistics import SETTING_VARIABLES, STATISTICS, VARIABLES, Variable, reserved_names

COORDS: dict[str, Any] = {
    "trial": ["0a", "1b é", "2c"],
    "family": ["dcgan", "dcgan", "mix"],
    "status": ["completed", "failed", "stopped"],
    "seed": [0, 1, 2],
    "discriminator_width": [4, 8, 16],
    "step": [100, 200],
    "sample_size": [50, 100, 200, 400],
    "logged_step": [10, 20, 30],
}
VALUES: dict[str, Any] = {
    "support_size": np.array([[10.0, 20.5], [np.nan, np.nan], [np.inf, 3e9]]),
    "duplicates": np.array([[0, 3], [np.nan, np.nan], [7, 10**12]]),
    "is_lower_bound": np.array([[True, False], [False, False], [True, True]]),
    "threshold": 236.0,
    "collision_probability": np.linspace(0, 1, 24).reshape(3, 2, 4),
    "flagged_index": np.arange(60).reshape(3, 2, 5, 2),
    "flagged_distance": np.ones((3, 2, 5), np.float32),
    "flagged_verdict": np.full((3, 2, 5), "duplicate"),
    "generator_loss": np.ones((3, 3)),
    "real_duplicates": 150,
}
SETTINGS = SettingRows(
    {"setting": [0, 1], "family": ["dcgan", "mix"], "discriminator_width": [4, 16]},
    {
        "n_trials": [2, 1],
        "n_seeds": [1, 0],
        "support_size_mean": [20.5, np.nan],
        "support_size_low": [np.nan, np.nan],
        "support_size_high": [np.inf, np.nan],
    },
)
ATTRIBUTES: dict[str, Any] = {"title": "ü sweep", "confidence": 0.95, "threshold": {"chosen_by": "real images"}}


def test_values_return_as_they_were(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    with open_results(sweep) as results:
        for name, value in {**COORDS, **VALUES}.items():
            np.testing.assert_array_equal(results[name].values, value)
        assert {dim: size for dim, size in results.sizes.items() if size} == {
            "trial": 3,
            "snapshot": 2,
            "sample_size": 4,
            "flagged": 5,
            "member": 2,
            "logged": 3,
        }
        assert results.sel(snapshot=200).step == 200
        assert results.sel(trial="1b é").status == "failed"
        assert results.where(results.family == "mix", drop=True).trial.values.tolist() == ["2c"]
        assert results.step.dims == ("snapshot",)
        assert results.logged_step.dims == ("logged",)
        assert results.attrs == {"title": "ü sweep", "confidence": 0.95}
        assert results.threshold.attrs["chosen_by"] == "real images"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ([16, None, 32], "f"),
        ([0.5, 1.0, None], "f"),
        ([16, 32, 64], "i"),
        (["log", None, "hinge"], "U"),
        ([True, False, None], "U"),
        ([True, False, True], "b"),
        ([None, None, None], "f"),
    ],
)
def test_a_hyperparameter_that_a_trial_lacks_is_missing(sweep: SweepLayout, given: list[Any], kind: str) -> None:
    write_results(sweep, COORDS | {"tried": hyperparameter_column(given)}, VALUES, ATTRIBUTES)
    with open_results(sweep) as results:
        column = results["tried"].load()
    assert column.dtype.kind == kind or (kind, column.dtype.kind) == ("U", "T")
    read = [known_value(value.item()) for value in column]
    assert read == [str(value) if kind == "U" and isinstance(value, bool) else value for value in given]
    if kind == "f":
        np.testing.assert_array_equal(column.notnull(), [value is not None for value in given])


def test_results_of_an_older_version_have_a_missing_hyperparameter_as_text() -> None:
    assert [known_value(value) for value in ("None", "", float("nan"), 0, 0.0, False, "log")] == [
        *[None] * 3,
        *(0, 0.0, False, "log"),
    ]


def test_only_what_was_computed_is_there_and_says_what_it_is(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    with open_results(sweep) as results:
        assert set(results.data_vars) == set(VALUES)
        for name in VALUES:
            about, found = VARIABLES[name], results[name]
            assert found.dims == about.dims
            assert found.attrs["long_name"] == about.long_name
            assert found.attrs["units"] == about.units
            assert found.attrs["method"]
            assert found.dtype.kind == {"float64": "f", "int64": "f", "bool": "b", "str": "U"}[about.kind]
        for name in results.coords:
            assert {"long_name", "units"} <= set(results[name].attrs)


def test_counts_are_whole_numbers_on_disk_and_nan_where_they_are_missing(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    with xr.open_dataset(sweep.results, engine="zarr", mask_and_scale=False) as stored:
        assert stored.duplicates.dtype == np.int64
        assert stored.duplicates.values.tolist() == [[0, 3], [-1, -1], [7, 10**12]]
    with open_results(sweep) as results:
        assert np.isnan(results.duplicates[1]).all()
        assert results.duplicates.sum() == 10 + 10**12
        assert results.flagged_index.values[2, 1, 4].tolist() == [58, 59]


def test_every_statistic_is_declared_whole() -> None:
    assert len({statistic.name for statistic in STATISTICS}) == len(STATISTICS)
    for statistic in STATISTICS:
        assert statistic.long_name
        assert statistic.method
        assert not statistic.tables or (statistic.heading and statistic.form)
        ends = {f"{statistic.name}{end}" for end in ("_low", "_high")}
        assert (ends <= set(VARIABLES)) == bool(statistic.interval)
        assert (f"real_{statistic.name}" in VARIABLES) == statistic.real
        means = {f"{statistic.name}_{end}" for end in ("mean", "low", "high")}
        assert (means <= set(SETTING_VARIABLES)) == bool(statistic.over_seeds)
        assert statistic.over_seeds != "geometric" or statistic.interval  # errors of seeds come from it
    assert set(SETTING_VARIABLES) <= reserved_names()


@pytest.mark.parametrize("variables", [VARIABLES, SETTING_VARIABLES])
def test_every_long_name_stands_alone(variables: dict[str, Variable]) -> None:
    """It labels axes and tables: a plain phrase without a variable's name, and no two variables share it."""
    names = [about.long_name for about in variables.values()]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if "_" in name or not name[0].isalpha() or name.endswith(".")] == []


def test_settings_return_as_they_were_beside_the_results(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES, SETTINGS)
    settings = open_settings(sweep)
    assert settings is not None
    for name, value in {**SETTINGS.coords, **SETTINGS.variables}.items():
        np.testing.assert_array_equal(settings[name].values, value)
    assert set(settings.data_vars) == set(SETTINGS.variables)
    for name in SETTINGS.variables:
        about, found = SETTING_VARIABLES[name], settings[name]
        assert (found.dims, found.attrs["units"]) == (("setting",), about.units)
        assert (found.attrs["long_name"], found.attrs["method"]) == (about.long_name, about.method)
    assert settings.attrs == {"title": "ü sweep", "confidence": 0.95}
    with open_results(sweep) as results:
        assert set(results.data_vars) == set(VALUES)
        assert "setting" not in results.sizes


def test_trials_can_be_grouped_by_a_hyperparameter_as_documented(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    with xr.open_zarr(sweep.results, chunks=None) as results:
        groups = results.groupby("discriminator_width").groups
    assert sorted(groups) == sorted(set(np.asarray(COORDS["discriminator_width"]).tolist()))


def test_settings_can_be_grouped_and_selected_by_a_hyperparameter(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES, SETTINGS)
    settings = open_settings(sweep)
    assert settings is not None
    assert settings.n_trials.groupby("family").sum().to_series().to_dict() == {"dcgan": 2, "mix": 1}
    assert settings.set_xindex("discriminator_width").sel(discriminator_width=4).support_size_mean == 20.5


def test_results_without_settings_and_without_any_setting(sweep: SweepLayout) -> None:
    assert open_settings(sweep) is None
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    assert open_settings(sweep) is None
    write_results(sweep, {"trial": []}, {}, {}, SettingRows({"setting": [], "family": []}, {"n_seeds": []}))
    settings = open_settings(sweep)
    assert settings is not None
    assert settings.sizes == {"setting": 0}


def test_settings_that_do_not_fit_are_refused_and_the_old_results_stay(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES, SETTINGS)
    for settings, message in (
        (SettingRows({"setting": [0]}, {"support_size": [1.0]}), "'support_size' is not one of"),
        (SettingRows({"setting": [0]}, {"n_seeds": [1, 2]}), r"n_seeds: got shape \(2,\), expected \(1,\)"),
        (SettingRows({"family": ["dcgan"]}, {}), "coordinate setting"),
    ):
        with pytest.raises(ValueError, match=message):
            write_results(sweep, COORDS, VALUES, {}, settings)
    settings_there = open_settings(sweep)
    assert settings_there is not None
    assert settings_there.n_trials.values.tolist() == [2, 1]


def test_the_contract_is_kept() -> None:
    """Names that results of every version have."""
    ts, tss = ("trial", "snapshot"), ("trial", "snapshot", "sample_size")
    contract: dict[str, tuple[str, ...]] = {"collision_probability": tss, "support_size": ts, "sample_size_at_half": ts}
    contract |= {f"{name}_{end}": dims for name, dims in list(contract.items()) for end in ("low", "high")}
    contract |= dict.fromkeys(["duplicates", "pairs_compared", "largest_mode_mass", "nonuniformity"], ts)
    contract |= dict.fromkeys(["diversity_ratio", "fidelity_ratio", "passes_quality_gate"], ts)
    contract |= dict.fromkeys(["flagged_distance", "flagged_verdict"], (*ts, "flagged"))
    contract |= dict.fromkeys(["flagged_index", "reference_index", "reference_distance"], (*ts, "flagged", "member"))
    contract |= dict.fromkeys(["generator_loss", "discriminator_loss"], ("trial", "logged"))
    contract |= {"threshold": ()}
    assert {name: VARIABLES[name].dims for name in contract} == contract


PLAIN_READER = """
import os, sys
sys.modules["storage"] = sys.modules["dask"] = None  # as where neither is installed
import xarray as xr
results = xr.open_zarr(sys.argv[1])
print(results.load().support_size.sel(trial="0a").values.tolist(), len(str(results)) > 100)
settings = xr.open_zarr(sys.argv[1], group="settings")
print(settings.load().n_trials.values.tolist(), settings.family.values.tolist())
print(xr.open_datatree(sys.argv[1], engine="zarr").groups)
"""


@pytest.mark.process
def test_plain_xarray_reads_it_without_a_warning(sweep: SweepLayout, tmp_path: Path) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES, SETTINGS)
    command = [sys.executable, "-W", "error", "-c", PLAIN_READER, str(sweep.results)]
    done = subprocess.run(command, text=True, capture_output=True, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[10.0, 20.5] True", "[2.0, 1.0] ['dcgan', 'mix']", "('/', '/settings')"]
    with xr.open_zarr(sweep.results) as results:  # with dask, if it is installed
        results.load()


@pytest.mark.process
def test_the_same_inputs_give_the_same_bytes_in_another_process(
    sweep: SweepLayout, tmp_path: Path, tree: Callable[[Path], dict[str, bytes]]
) -> None:
    write_results(sweep, COORDS, {}, ATTRIBUTES, SettingRows(SETTINGS.coords, {}))
    first = tree(sweep.results)
    write_results(sweep, COORDS, VALUES, ATTRIBUTES, SETTINGS)
    other = SweepLayout(tmp_path / "other")
    script = (
        "import json, sys; from pathlib import Path; from storage.layout import SweepLayout;"
        "from storage.results import SettingRows, write_results;"
        "coords, attributes, settings = map(json.loads, sys.argv[2:]);"
        "write_results(SweepLayout(Path(sys.argv[1])), coords, {}, attributes, SettingRows(settings, {}))"
    )
    subprocess.run(
        [sys.executable, "-c", script, other.root, *map(json.dumps, (COORDS, ATTRIBUTES, SETTINGS.coords))],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert tree(other.results) == first
    assert tree(sweep.results) != first
    write_results(sweep, COORDS, {}, ATTRIBUTES, SettingRows(SETTINGS.coords, {}))
    assert tree(sweep.results) == first
    assert [path.name for path in sweep.root.iterdir()] == ["results.zarr"]


def test_the_same_results_are_not_written_again_and_damaged_ones_are(sweep: SweepLayout) -> None:
    def written() -> int:
        write_results(sweep, COORDS, VALUES, ATTRIBUTES, SETTINGS)
        return sweep.results.stat().st_ino

    first = written()
    whole = {path: path.read_bytes() for path in sweep.results.rglob("*") if path.is_file()}
    assert written() == first
    changed = sweep.results / "duplicates" / "0.0"
    for damage in (lambda: changed.write_bytes(changed.read_bytes()[:-1] + b"x"), changed.unlink, changed.mkdir):
        before = sweep.results.stat().st_ino
        damage()
        assert written() != before
        assert {path: path.read_bytes() for path in sweep.results.rglob("*") if path.is_file()} == whole
        if damage == changed.unlink:
            changed.unlink()
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    assert not (sweep.results / "settings").exists()


def test_a_flipped_bit_does_not_go_unseen(sweep: SweepLayout) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    chunk = sweep.results / "collision_probability" / "0.0.0"
    content = chunk.read_bytes()
    for position in range(len(content)):
        chunk.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
        with open_results(sweep) as results:
            try:
                found = results.collision_probability.values
            except (RuntimeError, ValueError):
                continue
            np.testing.assert_array_equal(found, VALUES["collision_probability"])


@pytest.mark.parametrize(
    ("coords", "values", "message"),
    [
        ({}, {"suport_size": 1}, "'suport_size' is not one of VARIABLES; did you mean support_size?"),
        ({}, {"support_size": np.zeros((2, 3))}, r"support_size: got shape \(2, 3\), expected \(3, 2\)"),
        ({}, {"duplicates": np.full((3, 2), 0.5)}, "duplicates: got fractions, expected whole numbers"),
        ({}, {"flagged_verdict": np.zeros((3, 2, 0))}, "flagged_verdict: got float64, expected str"),
        ({"seed": [1, 2]}, {}, r"seed: got shape \(2,\), expected \(3,\), the trials"),
        ({"width": [1, None, 2]}, {}, "width: got object, expected numbers, booleans or strings"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_results_stay(
    sweep: SweepLayout, coords: dict[str, Any], values: dict[str, Any], message: str
) -> None:
    write_results(sweep, COORDS, VALUES, ATTRIBUTES)
    with pytest.raises(ValueError, match=message):
        write_results(sweep, COORDS | coords, values, {})
    with open_results(sweep) as results:
        assert results.real_duplicates == 150


def test_no_trial_at_all(sweep: SweepLayout) -> None:
    write_results(sweep, {"trial": []}, {}, {})
    with open_results(sweep) as results:
        assert results.sizes["trial"] == 0


def test_results_need_trials_and_must_exist(sweep: SweepLayout) -> None:
    with pytest.raises(ValueError, match="coordinate trial"):
        build_dataset({}, {}, {})
    with pytest.raises(ValueError, match="no results here yet"):
        open_results(sweep)
