"""The order of a file changes nothing, and sets of copies are named as such."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits

from ganlab.quality import scores
from ganlab.quality.embedding import ClassifierSettings
from jobs.cli.pipeline import measure_path
from jobs.cli.show import sample_lines
from jobs.measuring import comparison
from jobs.measuring import space as space_module
from jobs.report.results_json import samples_json
from jobs.report.sample_page import write_sample_report
from jobs.spec.sections import FromReal

SILENT = Console(quiet=True)


@pytest.fixture
def few_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """More duplicates than are listed, and more images than are scored."""
    monkeypatch.setattr(comparison, "LISTED", 300)
    monkeypatch.setattr(scores, "MOST_IMAGES", 150)


def without_numbers(found: dict[str, Any]) -> dict[str, Any]:
    """An answer without paths and without the numbers of images."""
    indices = {"path", "flagged_index", "mode_index", "mode_reference_index", "reference_index", "copied_index"}
    indices |= {"copy_index"}

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(each) for key, each in value.items() if key not in indices}
        return [stripped(each) for each in value] if isinstance(value, list) else value

    return stripped(found)


def sorted_digits() -> tuple[np.ndarray, np.ndarray]:
    """Real digits class by class, the first 40 of them exact copies."""
    stored = load_digits()
    images = np.rint(stored.images[:500, None] * (255 / 16)).astype(np.uint8)
    order = np.argsort(stored.target[:500], kind="stable")
    images, labels = images[order], stored.target[:500][order].astype(np.int64)
    images[20:40] = images[:20]
    return images, labels


def samples_of(images: np.ndarray, labels: np.ndarray, count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Noisy and exact copies of a few images, sorted by class."""
    rng = np.random.default_rng(0)
    drawn = np.sort(np.where(rng.random(count) < 0.1, 7, rng.integers(0, 500, count) // 5 * 5))
    noise = rng.integers(-3, 4, (count, 1, 8, 8)) * (rng.random((count, 1, 1, 1)) < 0.7)
    return np.clip(images[drawn].astype(int) + noise, 0, 255).astype(np.uint8), labels[drawn]


@pytest.mark.usefixtures("few_listed")
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_shuffled_file_gives_the_same_answer(folder: Path, kind: str) -> None:
    real, real_labels = sorted_digits()
    own, own_labels = samples_of(real, real_labels)
    rng = np.random.default_rng(1)
    answers = []
    for name, mixed in (("sorted", False), ("shuffled", True)):
        paths = []
        for whose, images, labels in (("own", own, own_labels), ("real", real, real_labels)):
            order = rng.permutation(len(images)) if mixed else np.arange(len(images))
            path = folder / f"{name}-{whose}.{kind}"
            if kind == "npy":
                np.save(path, images[order])
            else:
                np.savez(path, images=images[order], labels=labels[order])
            paths.append(path)
        answers.append(samples_json(measure_path(paths[0], 150.0, paths[1], None, SILENT)))
    assert without_numbers(answers[0]) == without_numbers(answers[1])
    (part,) = [note["text"] for note in answers[0]["notes"] if note["kind"] == "part-of-samples"]
    assert "part-of-reference" not in kinds(answers[0])  # it has fewer duplicates than are listed
    assert "drawn at random from the 900" in part
    assert answers[0]["scored_images"] == 150
    assert answers[0]["heavy_modes"]
    if kind == "npz":
        assert len(answers[0]["classes"]) > 5  # a file sorted by class has not listed the first classes alone


def test_the_closest_pairs_of_many_equally_near_do_not_follow_the_file(folder: Path) -> None:
    real, _ = sorted_digits()
    own = np.concatenate([real[100:400], real[100:200]])  # 100 pairs at distance 0, of which 20 are listed
    np.save(folder / "real.npy", real[40:100])
    shown = []
    for order in (np.arange(400), np.random.default_rng(6).permutation(400)):
        np.save(folder / "own.npy", own[order])
        found = samples_json(measure_path(folder / "own.npy", 100.0, folder / "real.npy", None, SILENT))
        shown.append(
            [(own[order][each["flagged_index"]].tobytes(), each["reference_distance"]) for each in found["closest"]]
        )
    assert len(shown[0]) == 20
    assert shown[0] == shown[1]


@pytest.mark.usefixtures("few_listed")
def test_a_file_without_real_images_may_be_shuffled_too(folder: Path) -> None:
    own, _ = samples_of(*sorted_digits())
    features = own.reshape(len(own), -1).astype(np.float32) * -1  # with negative zeros
    answers = []
    for name, order in (("sorted", np.arange(900)), ("shuffled", np.random.default_rng(2).permutation(900))):
        np.save(folder / f"{name}.npy", features[order])
        answers.append(samples_json(measure_path(folder / f"{name}.npy", 150.0, None, None, SILENT)))
    assert without_numbers(answers[0]) == without_numbers(answers[1])


@pytest.mark.usefixtures("few_listed")
def test_renamed_pictures_give_the_same_answer_and_grid(folder: Path) -> None:
    own, _ = samples_of(*sorted_digits(), 300)
    answers, grids = [], []
    for name, order in (("sorted", np.arange(300)), ("renamed", np.random.default_rng(3).permutation(300))):
        (folder / name).mkdir()
        for number, place in enumerate(order):
            Image.fromarray(own[place, 0]).save(folder / name / f"{number:03}.png")
        answer = measure_path(folder / name, 100.0, None, None, SILENT)
        answers.append(without_numbers(samples_json(answer)))
        page = write_sample_report(answer, folder / f"{name}.html").read_text(encoding="utf-8")
        grids.append(page[page.index('id="samples"') :].split("data:image/png", 2)[1].split('"')[0])
    assert answers[0] == answers[1]
    assert grids[0] == grids[1]


def test_disjoint_samples_of_a_sorted_file_are_like_random_ones(folder: Path) -> None:
    """A hundred classes of forty images, of which those of one class duplicate one another: blocks of one class would."""
    images = np.repeat(np.arange(100, dtype=np.float32), 40)[:, None] * 100
    images += np.random.default_rng(4).random((4000, 1), np.float32)
    np.save(folder / "sorted.npy", images)
    found = samples_json(measure_path(folder / "sorted.npy", 2.0, None, None, SILENT))
    (ten,) = [each for each in found["collision_probability"] if each["sample_size"] == 10]
    assert ten["n_disjoint_samples"] == 400
    low, high = ten["collision_probability_low"], ten["collision_probability_high"]
    assert low < ten["collision_probability_model"] < high < 0.5


def test_a_classifier_of_shuffled_real_images_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    train, settings = space_module.train_classifier, ClassifierSettings(least_steps=30, epochs=1)
    monkeypatch.setattr(space_module, "train_classifier", lambda *images, **more: train(*images, settings, **more))
    images, labels = sorted_digits()
    np.save(folder / "own.npy", samples_of(images, labels, 200)[0])
    answers = []
    for name, order in (("sorted", np.arange(500)), ("shuffled", np.random.default_rng(5).permutation(500))):
        np.savez(folder / f"{name}.npz", images=images[order], labels=labels[order])
        found = samples_json(measure_path(folder / "own.npy", None, folder / f"{name}.npz", None, SILENT, "classifier"))
        answers.append(found)
    assert answers[0]["embedding"] == answers[1]["embedding"]
    for name in ("support_size", "threshold", "precision", "density", "fidelity_ratio"):
        assert answers[0][name] == pytest.approx(answers[1][name], rel=1e-6)


def test_a_mode_among_images_drawn_has_the_count_of_all(folder: Path, few_listed: None) -> None:
    np.save(folder / "same.npy", np.full((1000, 1, 8, 8), 7, np.uint8))
    answer = measure_path(folder / "same.npy", 0.0, None, None, SILENT)
    found = samples_json(answer)
    (mode,) = found["heavy_modes"]
    assert (mode["mode_duplicates"], mode["mode_members"], found["listed_samples"], mode["mode_mass"]) == (
        999,
        25,
        25,
        1.0,
    )
    assert {each["sample_size"]: each["n_disjoint_samples"] for each in found["collision_probability"]} == {
        10: 2,
        20: 1,
        50: 1,
        100: 1,
        200: 1,
        400: 1,
        1000: 1,
    }
    assert all(each["collision_probability"] in (1, None) for each in found["collision_probability"])
    words = "\n".join(sample_lines(answer))
    assert "are of 25 images drawn at random from the 1,000" in words
    assert "among 25 of them" in write_sample_report(answer, folder / "page.html").read_text(encoding="utf-8")


def kinds(found: dict[str, Any]) -> list[str]:
    return [note["kind"] for note in found["notes"]]


def test_samples_that_are_the_real_images_are_named(folder: Path) -> None:
    images = np.random.default_rng(6).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    np.save(folder / "real.npy", images)
    for name, own, expected in (
        ("same", images, ["same-images"]),
        ("reordered", images[::-1], ["same-images"]),
        ("part", images[:30], ["samples-in-reference"]),
        ("whole", np.append(images, 255 - images[:20], axis=0), ["reference-in-samples"]),
        ("some", np.append(images[:3], 255 - images[:27], axis=0), ["copies-of-reference"]),
        ("none", 255 - images, []),
        ("twice", np.append(255 - images[:20], 255 - images[:20], axis=0), ["copies-in-samples"]),
    ):
        np.save(folder / f"{name}.npy", own)
        answer = measure_path(folder / f"{name}.npy", None, folder / "real.npy", None, SILENT)
        found = samples_json(answer)
        assert kinds(found) == [*expected, "rate"], name  # of which so few real images show less
        lines = list(sample_lines(answer))
        page = write_sample_report(answer, folder / "page.html").read_text(encoding="utf-8")
        for number, note in enumerate(found["notes"]):
            assert lines[number] == f"note: {note['text']}"
            assert note["text"] in page
    assert (
        "3 of the 30 samples (10 %) are exact copies"
        in samples_json(measure_path(folder / "some.npy", None, folder / "real.npy", None, SILENT))["notes"][0]["text"]
    )


def test_scores_of_ties_are_left_out(folder: Path) -> None:
    np.save(folder / "one.npy", np.full((300, 1, 8, 8), 9, np.uint8))
    answer = measure_path(folder / "one.npy", FromReal(quantile=0.1), folder / "one.npy", None, SILENT)
    found = samples_json(answer)
    for name in ("fidelity_ratio", "precision", "recall", "density", "coverage"):
        assert found.get(name) is None, name
    assert kinds(found) == [
        "same-images",
        "copies-in-samples",
        "copies-in-reference",
        "zero-threshold",
        "fidelity-not-defined",
        "manifold-not-defined",
    ]
    words = "\n".join(sample_lines(answer))
    assert "fidelity ratio is not defined" in words
    assert "Precision, recall, density and coverage are not defined" in words
    assert "nan" not in words
    page = write_sample_report(answer, folder / "page.html").read_text(encoding="utf-8")
    assert page.count("not defined") >= 2


def test_too_few_real_images_for_any_rate_leave_equal_images_as_duplicates(folder: Path) -> None:
    images = np.random.default_rng(7).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    images[:3] = images[3]
    np.save(folder / "own.npy", images)
    for count, told in ((45, True), (46, False)):
        np.save(folder / "real.npy", images[-count:])
        answer = measure_path(folder / "own.npy", None, folder / "real.npy", None, SILENT)
        found = samples_json(answer)
        assert ("no-rate" in kinds(found)) == told
        assert (found["threshold"] == 0) == told
        assert found["duplicates"] >= 6
        assert found["real_rate"] == (None if told else 0.01)


def test_a_rate_that_the_real_images_cannot_show_is_refused_with_the_number_needed(folder: Path, command) -> None:
    np.save(folder / "own.npy", np.random.default_rng(7).integers(0, 256, (50, 1, 8, 8), dtype=np.uint8))
    refused = command("measure", "own.npy", "--reference", "own.npy", "--rate", "1e-3")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith(
        "ganlab: --rate 0.001: got a rate of 0.001 with 50 different real images, where 142 are needed; allowed: "
    )


def test_a_few_copies_leave_the_scores(folder: Path) -> None:
    """Five equal real images have balls that reach beyond them; six have none."""
    images = np.random.default_rng(7).integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
    np.save(folder / "own.npy", 255 - images)
    for copies in (5, 6):
        images[:copies] = images[0]
        np.save(folder / "real.npy", images)
        found = samples_json(measure_path(folder / "own.npy", 10.0, folder / "real.npy", None, SILENT))
        assert (found.get("density") is None) == (copies == 6)
        assert ("manifold-not-defined" in kinds(found)) == (copies == 6)
        assert found["fidelity_ratio"] is not None


def test_classes_of_a_part_of_the_reference_are_named_so(folder: Path, few_listed: None) -> None:
    labels = np.arange(100) % 2
    images = np.random.default_rng(8).integers(0, 256, (100, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "own.npz", images=images, labels=labels)
    np.savez(folder / "real.npz", images=np.repeat(images[:2], 50, axis=0), labels=labels)
    found = samples_json(measure_path(folder / "own.npz", 5.0, folder / "real.npz", None, SILENT))
    assert "part-of-samples" not in kinds(found)
    (text,) = [note["text"] for note in found["notes"] if note["kind"] == "part-of-reference"]
    assert text.startswith("The 2,450 duplicates among the reference images are too many to list")
