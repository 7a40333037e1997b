"""Reading anyone's files: what is refused, what is left out, and that the answer says so everywhere."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from rich.console import Console

from ganlab.data.inputs import InputDescription
from ganlab.quality.embeddings.normalised import Normalised
from jobs.cli.pipeline import measure_path
from jobs.cli.show import sample_lines
from jobs.measuring import samples
from jobs.measuring.samples import Embedded, InMemory, Opened, Reading, in_embedding, open_samples
from jobs.report.results_json import samples_json
from jobs.report.sample_page import write_sample_report
from jobs.spec import inputs
from jobs.spec.validation import SpecError
from storage.features import CHUNK_ROWS
from storage.layout import SweepLayout
from storage.plan import ShardPlan
from storage.shards import ShardWriter, create_samples
from tests.conftest import Command

SILENT = Console(quiet=True)
POOL = np.random.default_rng(3).integers(1, 256, (60, 3, 8, 8), dtype=np.uint8)


def save_pictures(folder: Path, images: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:03}{suffix}")
    return folder


def half_written(path: Path, images: int) -> Path:
    """Write the first images of an array that is allocated for all."""
    array = zarr.create_group(path).create_array("images", shape=POOL.shape, dtype="uint8", chunks=(10, 3, 8, 8))
    array[:images] = POOL[:images]
    return path


def test_black_images_of_a_trial_are_stored(folder: Path) -> None:
    """Also where its samples were copied without the commit records."""
    plan = ShardPlan(snapshots=((10, 60),), image_shape=(3, 8, 8), shard_images=20, chunk_images=10)
    trial = SweepLayout(folder / "sweep").trial("one")
    create_samples(trial, plan)
    images = POOL * (np.arange(60) >= 20)[:, None, None, None].astype(np.uint8)
    for shard in plan.shards:
        ShardWriter(trial, plan).write(shard.index, images[shard.start : shard.stop])
    opened = open_samples(trial.samples)
    assert (opened.read.kind, opened.read.missing, opened.read.shape) == ("trial", (), POOL.shape)
    copied = shutil.copytree(trial.samples, folder / "copy.zarr")
    copy = open_samples(copied)
    assert (copy.read.kind, copy.read.member, copy.read.missing) == ("array", "images", ())
    np.testing.assert_array_equal(copy.source.read(0, 60), images)
    next(copied.glob("images/c.1.*")).unlink()
    with pytest.raises(SpecError, match=r"20 of 60 images are missing \(numbers 20 to 39\)"):
        open_samples(copied)


def test_missing_images_are_no_duplicates(folder: Path) -> None:
    path = half_written(folder / "half.zarr", 40)
    with pytest.raises(
        SpecError, match=r"half\.zarr: 20 of 60 images are missing \(numbers 40 to 59\).*--allow-missing"
    ):
        measure_path(path, 1.0, None, None, SILENT)
    answer = measure_path(path, 1.0, None, None, SILENT, allow_missing=True)
    found = samples_json(answer)
    assert (found["samples"], found["duplicates"]) == (40, 0)
    assert found["read"]["missing"] == ((40, 60),)
    assert found["read"]["left_out"] == {"images whose chunks are not stored": 20}
    assert any("left out: 20 images whose chunks are not stored" in line for line in sample_lines(answer))


def test_one_description_in_terminal_json_and_report(folder: Path) -> None:
    path = folder / "own [1].npz"
    np.savez(path, z=np.zeros((60, 4), np.float32), y=np.arange(60) % 2, fakes=POOL)
    real = save_pictures(folder / "real", POOL)
    (real / "notes.txt").write_text("text")
    answer = measure_path(path, 1.0, real, None, SILENT)
    found = json.loads(json.dumps(samples_json(answer)))
    assert found["read"] == json.loads(json.dumps(answer.samples.read.as_json()))
    assert found["read"]["member"] == "fakes"
    assert found["read"]["labels"] == "y"
    assert found["read"]["other_members"] == {"z": "float32 (60, 4)", "y": "int64 (60,)"}
    assert found["read"]["shape"] == [60, 3, 8, 8]
    assert found["read"]["value_range"] == [1, 255]
    assert found["real"]["read"]["files"] == 60
    assert found["real"]["read"]["left_out"] == {".txt": 1}
    words = [
        f"{path}: array fakes, uint8 (60, 3, 8, 8), values 1 to 255; labels from y; not read: z float32 (60, 4)",
        f"{real}: 60 picture files as RGB, uint8 (60, 3, 8, 8), values 1 to 255; stored as 60 RGB; left out: 1 .txt",
    ]
    console = Console(record=True, width=1000, file=io.StringIO())
    for line in sample_lines(answer):
        console.print(line)
    write_sample_report(answer, folder / "page.html")
    for text in (console.export_text(), (folder / "page.html").read_text("utf-8").replace("&#39;", "'")):
        for sentence in words:
            assert sentence in text


def test_the_chosen_array_is_measured(folder: Path) -> None:
    np.savez(folder / "a.npz", fake=POOL[:20].repeat(2, axis=0), real=POOL)
    with pytest.raises(SpecError, match=r"a\.npz: .*2 of its arrays could be the images \(fake, real"):
        open_samples(folder / "a.npz")
    found = samples_json(measure_path(folder / "a.npz:fake", 0.0, folder / "a.npz:real", None, SILENT))
    assert (found["samples"], found["duplicates"], found["real"]["duplicates"]) == (40, 20, 0)
    assert (found["read"]["member"], found["real"]["read"]["member"]) == ("fake", "real")


@pytest.mark.parametrize(
    ("values", "range_words", "conversion"),
    [
        (POOL / 255, "from 0.00392157 to 1", "np.float32"),
        (POOL.astype(np.int64), "from 1 to 255", "np.uint8"),
        (POOL.astype(np.int16) - 7, "from -6 to 248", "np.float32"),
        (POOL > 9, "from 0 to 1", "np.uint8"),
    ],
    ids=["float64", "int64", "int16", "bool"],
)
@pytest.mark.parametrize("kind", [".npy", ".npz", ".zarr", " group.zarr"])
def test_the_conversion_that_is_named_works(
    folder: Path, kind: str, values: np.ndarray, range_words: str, conversion: str
) -> None:
    path = folder / f"a{kind}"
    match kind:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez(path, images=values)
        case ".zarr":
            zarr.create_array(path, data=values)
        case " group.zarr":
            zarr.create_group(path).create_array("images", data=values)
    with pytest.raises(SpecError, match=rf"got {values.dtype}; allowed: .*{range_words}, so convert it") as caught:
        open_samples(path)
    text = str(caught.value.__cause__)
    assert conversion in text
    exec(text.partition("convert it with ")[2], {"np": np, "zarr": zarr})
    (made,) = folder.glob("*-*.npy")
    np.testing.assert_array_equal(np.load(made), values.astype(np.load(made).dtype))
    assert open_samples(made).source.shape == POOL.shape


def test_what_was_not_seen_is_not_squeezed_into_a_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "RANGE_BYTES", 8 * 10)
    np.save(folder / "a.npy", np.arange(300).reshape(300, 1))
    with pytest.raises(SpecError, match=r"from 0 to 9, so convert it with .*np\.float32"):
        open_samples(folder / "a.npy")
    np.save(folder / "b.npy", np.arange(300, dtype=np.float32).reshape(300, 1))
    assert "values 0 to 19 in the first 20" in str(open_samples(folder / "b.npy").read)


def test_the_range_of_floats_is_the_unit_of_distances(folder: Path) -> None:
    np.save(folder / "a.npy", np.linspace(-1, 1, 120, dtype=np.float32).reshape(60, 2))
    assert "float32 (60, 2), values -1 to 1 (the unit of distances)" in str(open_samples(folder / "a.npy").read)


def test_arrays_are_not_resized_in_silence(folder: Path) -> None:
    np.save(folder / "a.npy", POOL)
    np.save(folder / "features.npy", np.zeros((60, 8), np.float32))
    pictures = save_pictures(folder / "pictures", POOL)
    for name in ("a.npy", "features.npy"):
        with pytest.raises(SpecError, match=rf"--resize 16: .*{name} is an array of shape \(60, .*not resized"):
            measure_path(folder / name, 1.0, None, 16, SILENT)
    with pytest.raises(SpecError, match=r"--resize 16: .*a\.npy is an array"):
        measure_path(pictures, 1.0, folder / "a.npy", 16, SILENT)
    found = samples_json(measure_path(pictures, 1.0, folder / "a.npy", 8, SILENT))  # an array of that size already
    assert found["read"]["resized_to"] == 8
    assert found["real"]["read"]["resized_to"] is None


@pytest.mark.parametrize("options", [{"skip_unreadable": True}, {"frames": "all"}])
def test_options_of_pictures_need_pictures(folder: Path, options: dict[str, object]) -> None:
    np.save(folder / "a.npy", POOL)
    (name,) = options
    with pytest.raises(SpecError, match=rf"^--{name.replace('_', '-')}: .*a\.npy is no folder of pictures"):
        measure_path(folder / "a.npy", 1.0, None, None, SILENT, **options)
    pictures = save_pictures(folder / "pictures", POOL)
    assert samples_json(measure_path(pictures, 1.0, folder / "a.npy", None, SILENT, **options))["samples"] == 60


def test_allow_missing_needs_an_array(folder: Path) -> None:
    pictures = save_pictures(folder / "pictures", POOL)
    with pytest.raises(SpecError, match=r"--allow-missing: .* is a folder of pictures"):
        measure_path(pictures, 1.0, None, None, SILENT, allow_missing=True)


def test_remedies_are_options_of_the_command_line(folder: Path) -> None:
    pictures = save_pictures(folder / "pictures", POOL[:5])
    (pictures / "002.png").write_text("text")
    with pytest.raises(
        SpecError, match=r"^.*002\.png' cannot be read .*; allowed: readable pictures, or --skip-unreadable$"
    ):
        open_samples(pictures)
    opened = open_samples(pictures, Reading(skip_unreadable=True))
    assert opened.source.shape[0] == 4
    assert opened.read.unreadable == ("002.png",)
    (pictures / "002.png").unlink()
    first = Image.new("RGB", (8, 8))
    first.save(pictures / "002.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), (255, 0, 0))])
    with pytest.raises(SpecError, match=r"002\.gif' has several frames .*, or --frames first or --frames all$"):
        open_samples(pictures)
    assert open_samples(pictures, Reading(frames="all")).source.shape[0] == 6


def test_the_command_line_takes_the_options(folder: Path, command: Command) -> None:
    pictures = save_pictures(folder / "pictures", POOL)
    (pictures / "bad.png").write_text("text")
    refused = command("measure", pictures, "--threshold", "1")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "--skip-unreadable" in refused.stderr
    np.savez(folder / "a.npz", real=POOL, fake=POOL)
    done = command("measure", pictures, "--reference", "a.npz:real", "--skip-unreadable", "--frames", "first", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["read"]["left_out"] == {"unreadable": 1}
    assert found["real"]["read"]["member"] == "real"
    half = half_written(folder / "half.zarr", 30)
    assert command("measure", half, "--threshold", "1").exit_code == 2
    done = command("measure", half, "--threshold", "1", "--allow-missing")
    assert "left out: 30 images whose chunks are not stored" in " ".join(done.stdout.split())  # the path may be long


def test_normalised_pictures_in_memory_are_written_only_where_memory_is_short(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (CHUNK_ROWS + 3, 3, 5, 4), dtype=np.uint8)
    images[7] = 9
    read = InputDescription("x", "pictures", images.shape, "uint8")
    sets = [Opened(folder / name, InMemory(part), None, read) for name, part in (("a", images), ("b", images[:10]))]

    def embedded() -> Embedded:
        return in_embedding("normalised", sets[0], sets[1], None, map, lambda name, done, total: None)

    found = embedded()
    assert not (folder / "cache").exists()
    monkeypatch.setattr(samples, "local_memory_bytes", lambda: 8 * 4 * (CHUNK_ROWS + 13) * 60 - 1)
    kept = embedded()
    assert (folder / "cache").exists()
    for name in ("samples", "reference"):
        own, other = (getattr(each, name) for each in (found, kept))
        assert own.shape == other.shape
        np.testing.assert_array_equal(own.read(0, own.shape[0]), other.read(0, own.shape[0]))
    np.testing.assert_array_equal(found.samples.read(0, len(images)), Normalised().features(images))
    assert found.held_out is None
