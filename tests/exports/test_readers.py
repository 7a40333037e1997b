"""Exports opened by the tool that they are for: readers of an extra of their own (`make test-exports`)."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.export.formats import export
from storage.layout import SweepLayout
from storage.results import read_results
from tests.jobs.export.test_tables import layout as layout  # the fixture
from tests.jobs.report.test_sweep_page import Sweep, discriminator

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]


def support(layout: SweepLayout) -> float:
    return float(read_results(layout)["support_size"].sel(trial="good").isel(snapshot=-1))


def test_duckdb_reads_parquet(layout: SweepLayout, tmp_path: Path) -> None:
    import duckdb

    folder = export(layout, "parquet", tmp_path / "parquet")
    query = f"select support_size from '{folder}/trial-snapshot.parquet' where trial = 'good' and step = 200"
    assert duckdb.sql(query).fetchall() == [(pytest.approx(support(layout)),)]


def test_tensorboard_reads_every_trial(layout: SweepLayout, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(export(layout, "tensorboard", tmp_path / "tb")))
    multiplexer.Reload()
    events = multiplexer.GetAccumulator("good")
    assert [(event.step, event.value) for event in events.Scalars("generator_loss")] == [(50, 0.5), (100, 1.0)]
    assert events.Scalars("support_size")[-1].value == pytest.approx(support(layout), rel=1e-6)
    assert "support_size" not in multiplexer.GetAccumulator("noise").Tags()["scalars"]
    assert {"good", "noise", "unique"} <= {run.split("/")[0] for run in multiplexer.Runs()}


def test_mlflow_reads_every_trial(layout: SweepLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    store = export(layout, "mlflow", tmp_path / "mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=store.as_uri())
    (experiment,) = (each for each in client.search_experiments() if each.name != "Default")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"good", "noise", "unique"}
    assert runs["good"].data.params["discriminator_width"] == "8"
    history = client.get_metric_history(runs["good"].info.run_id, "support_size")
    assert history[-1].step == 200
    assert history[-1].value == pytest.approx(support(layout))
    assert "support_size" not in runs["noise"].data.metrics


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of an offline run: protocol buffers in LevelDB's log format behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if (room := 32768 - place % 32768) < 7:  # a record's head never spans two blocks
            place += room
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def test_an_offline_run_of_wandb_holds_every_step(layout: SweepLayout, tmp_path: Path) -> None:
    files = sorted(export(layout, "wandb-offline", tmp_path / "wandb").glob("wandb/offline-run-*/run-*.wandb"))
    assert [file.name for file in files if file.name == "run-good.wandb"] == ["run-good.wandb"]
    assert len(files) == 3
    (good,) = (file for file in files if file.name == "run-good.wandb")
    rows = {}
    for record in wandb_records(good):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            rows[row["_step"]] = row
    assert rows[50]["generator_loss"] == 0.5
    assert rows[200]["support_size"] == pytest.approx(support(layout))


def test_croissant_validates_and_gives_the_records(layout: SweepLayout, tmp_path: Path) -> None:
    import mlcroissant

    folder = export(layout, "croissant", tmp_path / "croissant")
    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    rows = list(dataset.records("trial-snapshot"))
    good = [row for row in rows if row["trial-snapshot/trial"] == b"good" and row["trial-snapshot/step"] == 200]
    assert good[0]["trial-snapshot/support_size"] == pytest.approx(support(layout))


def test_an_ro_crate_names_every_file(layout: SweepLayout, tmp_path: Path) -> None:
    from rocrate.rocrate import ROCrate

    folder = export(layout, "ro-crate", tmp_path / "crate")
    crate = ROCrate(folder)
    files = {entity.id for entity in crate.data_entities}
    assert files == {
        path.name for path in folder.iterdir() if path.name not in ("ro-crate-metadata.json", ".ganlab-export")
    }
    with (folder / "trial-snapshot.csv").open() as table:
        assert sum(1 for _ in csv.reader(table)) == 1 + 3 * 2


@pytest.mark.parametrize("form", ["csv", "parquet", "tensorboard", "mlflow", "croissant", "ro-crate"])
def test_many_trials_take_less_than_a_minute(tmp_path: Path, form: str) -> None:
    sweep = Sweep(tmp_path / "sweep", samples=100)
    for number in range(100):
        sweep.trial(f"t{number}", 60, seed=number, stored=False, **discriminator(8))
    layout, before = sweep.write(), time.process_time()
    export(layout, form, tmp_path / "out")
    assert time.process_time() - before < 30
