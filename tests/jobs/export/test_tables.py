"""Exports by libraries that every installation has, opened again by their own readers."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from jobs.export.content import Content
from jobs.export.formats import FORMATS, MARK, export
from jobs.spec.validation import SpecError
from storage.history import HistoryWriter
from storage.layout import SweepLayout
from storage.results import read_results
from tests.conftest import Command
from tests.jobs.report.test_sweep_page import Sweep, discriminator


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    """Three trials, one of them beyond the quality gate, one without a duplicate."""
    sweep = Sweep(tmp_path_factory.mktemp("export") / "a sweep, é", samples=100)
    for name, pool, fidelity, width in (("noise", 40, 1.7, 2), ("good", 60, 1.1, 8), ("unique", 10**6, 1.0, 32)):
        sweep.trial(name, pool, fidelity=fidelity, seed=0, **discriminator(width))
        with HistoryWriter(sweep.layout.trial(name)) as history:
            for step in (50, 100):
                history.append({"step": step, "generator_loss": step / 100, "steps_per_second": 20.0})
    return sweep.write()


def test_tables_hold_what_the_results_hold(layout: SweepLayout, tmp_path: Path) -> None:
    folder, results = export(layout, "csv", tmp_path / "csv"), read_results(layout)
    snapshots = pd.read_csv(folder / "trial-snapshot.csv")
    assert len(snapshots) == results.sizes["trial"] * results.sizes["snapshot"]
    last = snapshots[snapshots["step"] == 200].set_index("trial")
    for name in ("support_size", "support_size_high", "diversity_ratio", "passes_quality_gate", "samples"):
        expected = results[name].isel(snapshot=-1).sel(trial=list(last.index)).values
        np.testing.assert_allclose(last[name].to_numpy(dtype=float), expected.astype(float))
    assert list(last.loc[["noise", "good"], "discriminator_width"]) == [2, 8]
    assert float(pd.read_csv(folder / "sweep.csv")["threshold"].iloc[0]) == float(results["threshold"])
    by_size = pd.read_csv(folder / "trial-snapshot-sample_size.csv")
    here = by_size[(by_size["trial"] == "good") & (by_size["step"] == 200) & (by_size["sample_size"] == 20)]
    expected = results["collision_probability"].sel(trial="good").isel(snapshot=-1, sample_size=1)
    assert float(here["collision_probability"].iloc[0]) == pytest.approx(float(expected))


def test_every_variable_is_a_column_of_one_table_with_its_unit(layout: SweepLayout, tmp_path: Path) -> None:
    folder = export(layout, "csv", tmp_path / "csv")
    columns = pd.read_csv(folder / "columns.csv")
    results = read_results(layout)
    assert columns["column"].value_counts()[list(map(str, results.data_vars))].eq(1).all()
    threshold = columns[columns["column"] == "threshold"].iloc[0]
    assert threshold["long_name"] == results["threshold"].attrs["long_name"]


def test_parquet_has_types_units_and_meanings(layout: SweepLayout, tmp_path: Path) -> None:
    table = pq.read_table(export(layout, "parquet", tmp_path / "parquet") / "trial-snapshot.parquet")
    assert str(table.schema.field("passes_quality_gate").type) == "bool"
    assert str(table.schema.field("support_size").type) == "double"
    metadata = table.schema.field("support_size").metadata
    assert metadata[b"long_name"].decode() == read_results(layout)["support_size"].attrs["long_name"]
    csv = pd.read_csv(export(layout, "csv", tmp_path / "csv") / "trial-snapshot.csv")
    np.testing.assert_allclose(table.to_pandas()["support_size"], csv["support_size"])


def test_runs_withhold_diversity_beyond_the_quality_gate(layout: SweepLayout) -> None:
    runs = {run.name: run for run in Content(layout).runs}
    assert runs["good"].settings["discriminator_width"] == 8
    assert sorted(runs["good"].metrics) == [50, 100, 200]
    assert runs["good"].metrics[50] == {"generator_loss": 0.5, "steps_per_second": 20.0}
    assert runs["good"].metrics[200]["support_size"] == pytest.approx(
        float(read_results(layout)["support_size"].sel(trial="good").isel(snapshot=-1))
    )
    assert runs["noise"].metrics[200]["fidelity_ratio"] == 1.7
    assert runs["noise"].metrics[200]["passes_quality_gate"] == 0
    assert not {"support_size", "diversity_ratio", "distinct_seen"} & runs["noise"].metrics[200].keys()


def test_a_hyperparameter_that_a_trial_lacks_is_left_out_of_its_run_and_empty_in_tables(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", samples=100)
    sweep.trial("gan", 40, seed=0, discriminator_width=8.0, loss="log")
    sweep.trial("vae", 60, seed=0, discriminator_width=float("nan"), loss="")
    layout = sweep.write()
    settings = {run.name: run.settings for run in Content(layout).runs}
    assert (settings["gan"]["discriminator_width"], settings["gan"]["loss"]) == (8, "log")
    assert not {"discriminator_width", "loss"} & settings["vae"].keys()
    written = (export(layout, "csv", tmp_path / "csv") / "trial-snapshot.csv").read_text("utf-8")
    assert not re.search(r"\b(nan|None)\b", written)
    for form, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        table = read(export(layout, form, tmp_path / form) / f"trial-snapshot.{form}")
        assert table.loc[table["trial"] == "vae", "discriminator_width"].isna().all()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_is_a_function_of_the_results_and_replaces_an_older_one(
    layout: SweepLayout, tmp_path: Path, form: str
) -> None:
    folder = export(layout, form, tmp_path / "out")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "left over").write_text("of another version")
    export(layout, form, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert (folder / MARK).read_text() == f"{form}\n"


def test_nothing_else_is_ever_replaced(layout: SweepLayout, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    for out in (thesis, thesis / "chapter.tex"):
        with pytest.raises(SpecError, match="holds something else; allowed: a new or empty folder, or an older export"):
            export(layout, "csv", out)
    assert (thesis / "chapter.tex").read_text() == "years of work"


def test_a_missing_library_and_missing_results_are_named(layout: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "mlflow", FORMATS["mlflow"]._replace(module="no_such_library"))
    with pytest.raises(SpecError, match=r"--to mlflow: needs no_such_library.*pip install 'ganlab\[export\]'"):
        export(layout, "mlflow", layout.root / "export")
    with pytest.raises(SpecError, match="no results here yet; run `ganlab measure"):
        export(SweepLayout(layout.root / "none"), "csv", layout.root / "export")
    assert not (layout.root / "export").exists()


def test_the_command_prints_the_folder(layout: SweepLayout, tmp_path: Path, command: Command) -> None:
    copy = SweepLayout(Path(shutil.copytree(layout.root, tmp_path / "sweep")))
    done = command("export", str(copy.root), "--to", "csv", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"export": str(copy.root / "export" / "csv")}
    assert (copy.root / "export" / "csv" / "sweep.csv").is_file()
    refused = command("export", str(copy.root), "--to", "excel")
    assert refused.exit_code == 2
