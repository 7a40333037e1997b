"""Moved copies: planted ones found in files and in sweeps, records bound to the setting, what has no pixels refused."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from rich.console import Console
from sklearn.datasets import load_digits

from ganlab.quality.embeddings.normalised import Normalised
from ganlab.quality.moves import MOVE_NAMES, MOVES, moved, nearest_moved
from jobs.cli.main import main
from jobs.cli.pipeline import check_folder, measure_folder, measure_path
from jobs.cli.show import sample_lines
from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.measuring.moved import MovedImages, moved_comparison
from jobs.measuring.samples import InMemory, keep_in_cache
from jobs.report.results_json import samples_json
from jobs.report.sample_page import write_sample_report
from jobs.spec.sweep import SpecError
from jobs.training.plan import shard_plan
from jobs.training.tune import register
from storage.outcome import Outcome, write_outcome
from storage.reference import write_reference
from storage.shards import ShardWriter, create_samples

SILENT = Console(quiet=True)
IMAGES = np.rint(load_digits().images[:, None] * (255 / 16)).astype(np.uint8)[
    np.random.default_rng(2).permutation(1797)
]
TRAINING, HELD_OUT, OTHERS = np.split(IMAGES, [800, 1300])


def quiet(done: float, total: float, tiles_left: int) -> None:
    pass


def copies(move: int, count: int = 100) -> np.ndarray:
    """Samples of which the first are moved training images, from the first on."""
    return np.concatenate([MOVES[move](TRAINING[:count]), OTHERS[: 500 - count]])


def answer_of(folder: Path, samples: np.ndarray, test: bool = True, **options: Any) -> Any:
    for name, images in (("samples", samples), ("training", TRAINING), ("test", HELD_OUT)):
        np.save(folder / f"{name}.npy", images)
    held_out = folder / "test.npy" if test else None
    return measure_path(folder / "samples.npy", None, folder / "training.npy", None, SILENT, test=held_out, **options)


def test_any_range_of_moved_images_is_read() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 4), dtype=np.uint8)
    source, every = MovedImages(InMemory(images)), moved(images)
    assert source.shape == every.shape == (30, 2, 3, 4)
    np.testing.assert_array_equal(every[12:18], [move(images[2:3])[0] for move in MOVES])
    for start, stop in itertools.combinations(range(31), 2):
        np.testing.assert_array_equal(source.read(start, stop), every[start:stop])


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("move", [1, 4, 5])
def test_moved_copies_among_samples_are_found(folder: Path, move: int, test: bool) -> None:
    samples = copies(move)
    assert samples_json(answer_of(folder, samples, test))["copying"] == "none-seen"
    answer = answer_of(folder, samples, test, moved_copies=True)
    found = json.loads(json.dumps(samples_json(answer), allow_nan=False))
    assert found["copying"] == "copies"
    assert 0 < found["copied_share_low"] < 0.2
    if move == 5:  # a shift loses an edge: in images of 8 x 8 pixels not all copies are as near as copies
        assert found["copied_share_high"] >= 0.2
        assert (found["passes_quality_gate"], found["quality_reason"]) == (False, "copies")
    back = {1: "shifted left", 4: "shifted down", 5: "mirrored"}[move]
    assert back in {each["copy_move"] for each in found["most_copied"]}
    distance, neighbour = nearest_moved(samples, TRAINING)
    for each in found["most_copied"]:
        copy = int(each["copy_index"])
        assert each["copied_index"] == neighbour[copy]
        assert each["copy_distance"] == pytest.approx(distance[copy])
        brought = MOVES[MOVE_NAMES.index(each["copy_move"])](samples[copy][None]).astype(float)
        assert np.linalg.norm(brought - TRAINING[int(each["copied_index"])]) == pytest.approx(distance[copy])
    page = write_sample_report(answer, folder / "page.html").read_text(encoding="utf-8")
    assert f"once it is {back}" in page


@pytest.mark.parametrize("test", [True, False])
def test_real_images_are_no_moved_copies(folder: Path, test: bool) -> None:
    answer = answer_of(folder, OTHERS, test, moved_copies=True)
    found = samples_json(answer)
    assert (found["copying"], found["copied_share_low"], found["quality_reason"]) == ("none-seen", 0, "passed")
    assert "Shifts by a pixel and mirror images were looked at, too." in "\n".join(sample_lines(answer))


def test_moved_copies_are_found_in_an_embedding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    found = samples_json(answer_of(folder, copies(5), embedding="normalised", moved_copies=True))
    distance, _ = nearest_moved(copies(5), Normalised().features(TRAINING), Normalised().features)
    assert found["copying"] == "copies"
    first = found["most_copied"][0]
    assert first["copy_distance"] == pytest.approx(distance[int(first["copy_index"])], abs=1e-5)


def test_pictures_with_channels_last_are_moved_as_others_are(folder: Path) -> None:
    rng = np.random.default_rng(4)
    training, held_out, others = np.split(rng.integers(0, 256, (400, 5, 6, 3), dtype=np.uint8), [150, 250])
    samples = np.concatenate([training[:50, :, ::-1], others])
    found = []
    for axes in ((0, 1, 2, 3), (0, 3, 1, 2)):
        for name, images in (("samples", samples), ("training", training), ("test", held_out)):
            np.save(folder / f"{name}.npy", images.transpose(axes))
        paths = [folder / f"{name}.npy" for name in ("samples", "training", "test")]
        answer = measure_path(paths[0], None, paths[1], None, SILENT, "pixels", test=paths[2], moved_copies=True)
        found.append({name: samples_json(answer)[name] for name in ("copying", "copied_share", "most_copied")})
    assert found[0]["copying"] == "copies"
    assert found[0] == found[1]


def test_unfinished_searches_are_kept_by_the_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    training = InMemory(TRAINING)

    def store(samples: np.ndarray) -> Any:
        keep = keep_in_cache(folder / "samples.npy", InMemory(samples), training, lambda done, total: None)
        return keep("part", moved_comparison(MovedImages(InMemory(samples)), "", training))

    count = np.asarray(30)
    store(OTHERS[:5]).save({"compared": count})
    assert store(OTHERS[:5]).load() is not None
    assert store(OTHERS[:9]).load() is not None, "more samples: those known are compared"
    assert store(OTHERS[5:10]).load() is None


@pytest.mark.parametrize("pixels", [True, False])
def test_the_command_finds_them_and_refuses_what_has_no_pixels(folder: Path, pixels: bool) -> None:
    sets = {"samples": copies(5), "training": TRAINING, "test": HELD_OUT}
    for name, images in sets.items():
        np.save(folder / f"{name}.npy", images if pixels else images.reshape(len(images), -1).astype(np.float32))
    paths = {name: str(folder / f"{name}.npy") for name in sets}
    given = ["measure", paths["samples"], "--reference", paths["training"], "--test", paths["test"]]
    result = CliRunner().invoke(main, [*given, "--moved-copies", "--json"])
    if pixels:
        assert json.loads(result.stdout)["copying"] == "copies"
        return
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert f"--moved-copies: {paths['samples']}: got float32 of shape (64,), which has no pixels" in line


def test_without_training_images_it_is_refused(folder: Path) -> None:
    np.save(folder / "samples.npy", OTHERS)
    with pytest.raises(SpecError, match=r"--moved-copies: .* give these with --reference PATH"):
        measure_path(folder / "samples.npy", 5.0, None, None, SILENT, moved_copies=True)


@pytest.fixture
def mirrored(prepared):
    """A sweep with held-out images whose one trial has drawn, at its end, mirror images of training images and others."""
    layout, spec = prepared(seeds=1, samples={"snapshots": [5], "images_per_snapshot": 100, "final_images": 500})
    shutil.rmtree(layout.reference)
    write_reference(layout, TRAINING, fingerprint="real", held_out=(HELD_OUT, None))
    (trial,) = spec.trials()
    register(layout, trial, {"seed": 0})
    own, plan = layout.trial(trial.id), shard_plan(trial, TRAINING.shape[1:])
    create_samples(own, plan)
    writer, drawn = ShardWriter(own, plan), np.concatenate([OTHERS[397:], copies(5)])
    for shard in plan.shards:
        writer.write(shard.index, np.ascontiguousarray(drawn[shard.start : shard.stop]))
    write_outcome(own, Outcome("completed", trial.train.steps))
    return layout, spec, trial


def with_moved(spec: Any, moved_copies: bool = True, **settings: Any) -> Any:
    return spec.model_copy(
        update={"collisions": spec.collisions.model_copy(update={"moved_copies": moved_copies, **settings})}
    )


def results_of(layout: Any, spec: Any, map: Any = map) -> Any:
    measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, quiet), spec.trials())
    assert not measured.damaged
    write_answers(layout, spec, spec.trials(), measured.real)
    return xr.open_zarr(layout.results, chunks=None).load()


@pytest.mark.parametrize("embedding", ["pixels", "normalised"])
def test_a_sweep_finds_moved_copies_where_it_looks_for_them(mirrored, embedding: str) -> None:
    layout, spec, _ = mirrored
    spec = with_moved(spec, False, embedding=embedding)
    before = results_of(layout, spec)
    assert before.copying.values[0].tolist() == ["none-seen", "none-seen"]
    assert (before.attrs["moved_copies"], "copy_move" in before) == (False, False)
    after = results_of(layout, with_moved(spec))
    assert after.copying.values[0].tolist() == ["none-seen", "copies"]
    assert after.quality_reason.values[0].tolist() == ["passed", "copies"]
    assert after.attrs["moved_copies"]
    assert after.copy_move.values[0, 1, 0] == "mirrored"
    own = after.isel(trial=0, snapshot=1)
    copy = own.copy_index.values.astype(int)[:3] - 100  # numbers among all samples of the trial
    np.testing.assert_array_equal(copy, own.copied_index.values[:3])
    assert own.copy_distance.values[:3] == pytest.approx(0, abs=1e-6)

    def nothing(function: Any, items: Any) -> Any:
        raise AssertionError("everything is known")

    again = results_of(layout, with_moved(spec), nothing)
    xr.testing.assert_identical(again, after)
    xr.testing.assert_identical(results_of(layout, spec, nothing), before)


def test_records_are_of_the_images_and_never_of_others(mirrored) -> None:
    layout, spec, trial = mirrored
    spec = with_moved(spec)
    first = results_of(layout, spec)
    files = [layout.moved_neighbours(*each) for each in (("reference", 0), ("held-out", 0), (trial.id, 12))]
    shutil.copy(layout.moved_neighbours(trial.id, 5), files[2])  # of other samples
    shutil.copy(files[1], files[0])
    files[1].write_bytes(b"damaged")
    xr.testing.assert_identical(results_of(layout, spec), first)
    files[2].unlink()
    measured = measure_sweep(
        MeasureContext(layout, with_moved(spec, False).collisions, 2**30, map, quiet), spec.trials()
    )
    assert measured.real.moved is None
    real = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, quiet), []).real
    write_answers(layout, spec, spec.trials(), real)
    missing = xr.open_zarr(layout.results, chunks=None).load()
    assert missing.copying.values[0].tolist() == ["none-seen", ""], "not measured, rather than without moves"


def test_a_folder_is_measured_so_by_an_option(mirrored) -> None:
    layout, spec, _ = mirrored
    results_of(layout, spec)
    results_of(layout, with_moved(spec))  # so that no workers are needed
    measure_folder(layout, SILENT)
    assert xr.open_zarr(layout.results, chunks=None).copying.values[0, 1] == "none-seen"
    measure_folder(layout, SILENT, moved_copies=True)
    assert xr.open_zarr(layout.results, chunks=None).copying.values[0, 1] == "copies"
    assert "once it is mirrored" in layout.report.read_text(encoding="utf-8")


def test_points_are_refused_before_anything_is_written(folder: Path, prepared) -> None:
    layout, spec = prepared(
        "points", dataset={"name": "gaussians-grid"}, collisions={"moved_copies": True, "sample_sizes": [10]}
    )
    shutil.rmtree(layout.root)
    with pytest.raises(SpecError, match=r"moved_copies: .*gaussians-grid: got float32 of shape \(2,\), which has no"):
        check_folder(spec, layout, SILENT)
    assert not layout.root.exists()
