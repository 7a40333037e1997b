"""Anyone's samples: the answer, its page, its classes, and what cannot be measured."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits

from ganlab.pairs.closest import pairs_within
from ganlab.pairs.content import content_digests, in_order, random_places
from ganlab.quality.embedding import ClassifierSettings
from ganlab.quality.embeddings.normalised import Normalised
from ganlab.quality.kernels import bandwidth_of, kid_blocks, kid_interval, rke, vendi_score
from ganlab.quality.manifold import manifold_scores
from ganlab.statistics.diversity import diversity
from jobs.cli.pipeline import measure_path
from jobs.cli.show import sample_lines
from jobs.measuring import space as space_module
from jobs.report.results_json import samples_json
from jobs.report.sample_page import write_sample_report
from jobs.spec.sweep import SpecError
from tests.ganlab.networks import traced

SILENT = Console(quiet=True)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    stored = load_digits()
    return np.rint(stored.images[:600, None] * (255 / 16)).astype(np.uint8), stored.target[:600].astype(np.int64)


@pytest.fixture
def files(folder: Path, digits) -> tuple[Path, Path]:
    """Samples of 100 digits, one of them made a tenth of the time, and the real ones, both with labels."""
    images, labels = digits
    rng = np.random.default_rng(0)
    drawn = np.where(rng.random(1500) < 0.1, 0, rng.integers(0, 100, 1500))
    noisy = np.clip(images[drawn].astype(int) + rng.integers(-3, 4, (1500, 1, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(folder / "samples.npz", images=noisy, labels=labels[drawn])
    np.savez(folder / "real.npz", images=images, labels=labels)
    return folder / "samples.npz", folder / "real.npz"


def test_support_and_pairs(folder: Path) -> None:
    random = np.random.default_rng(0)
    pool = random.integers(0, 256, (200, 3, 8, 8), dtype=np.uint8)
    np.save(folder / "samples.npy", pool[random.integers(0, 200, 1500)])
    np.save(folder / "real.npy", pool)
    answer = samples_json(measure_path(folder / "samples.npy", 3.0, None, None, SILENT))
    assert answer["support_size_low"] <= 200 <= answer["support_size_high"]
    assert answer["pairs_compared"] == 1500 * 1499 // 2
    assert answer["heavy_modes"] == []
    assert "fidelity_ratio" not in answer
    with_real = samples_json(measure_path(folder / "samples.npy", None, folder / "real.npy", None, SILENT))
    assert with_real["fidelity_ratio"] == 0
    assert with_real["real"]["samples"] == 200
    assert with_real["precision"] == with_real["realistic_share"] == 1


def test_everything_is_in_the_json(files: tuple[Path, Path], digits) -> None:
    answer = measure_path(files[0], 60.0, files[1], None, SILENT)
    found = json.loads(json.dumps(samples_json(answer), allow_nan=False))
    (heavy,) = found["heavy_modes"]
    assert heavy["mode_mass_low"] <= 0.109 <= heavy["mode_mass_high"]
    assert heavy["mode_reference_index"] == 0
    assert found["heavy_mode_count"] == 1
    assert found["support_size_without_modes_low"] <= 99 <= found["support_size_without_modes_high"]
    assert not found["theorem_applies"]
    assert found["published_support"] == found["sample_size_at_half"] ** 2
    assert {each["class"] for each in found["classes"]} == set(range(10))
    assert 0 in found["nonuniform_classes"]
    assert sum(each["class_samples"] for each in found["classes"]) == 1500
    for each, real in zip(found["classes"], found["real"]["classes"], strict=True):
        there = (digits[1][:100] == each["class"]).sum()
        if not each["class_nonuniform"]:
            assert each["class_support_size_low"] <= there <= each["class_support_size_high"]
        assert real["class_support_size"] > each["class_support_size"]
    at = next(each for each in found["thresholds"] if each["distance"] == 60.0)
    assert at["pair_distance_cdf_pairs"] == 1500 * 1499 // 2
    assert round(at["pair_distance_cdf"] * at["pair_distance_cdf_pairs"]) == found["duplicates"]
    assert found["thresholds"][-1]["diversity_ratio_at"] > 0.5
    scores = manifold_scores(digits[0], np.load(files[0])["images"][_random_order(files[0])[:600]])
    assert found["scored_images"] == 600
    for name in ("precision", "recall", "density", "coverage"):
        assert found[name] == getattr(scores, name)
    assert found["frechet_distance"] > found["frechet_distance_at_infinity"] != 0
    own, others = (np.load(path)["images"][_random_order(path)] for path in files)
    own = own[:600]
    blocks = kid_blocks(others[:600], own)
    assert (found["kid"], found["kid_low"], found["kid_high"]) == pytest.approx(kid_interval(blocks, 0.95))
    assert found["vendi_score"] == pytest.approx(vendi_score(own))
    assert found["rke"] == pytest.approx(rke(own, bandwidth_of(others)))
    assert 1 < found["real"]["vendi_score"] < found["real"]["rke"] < 1500
    assert found["support_size_realistic"] == found["support_size"]
    assert found["closest"][0]["reference_distance"][0] < 60
    words = "\n".join(sample_lines(answer))
    assert "Quality gate: not passed (copies: " in words


def test_a_ratio_of_nothing_is_null(folder: Path) -> None:
    """Where most real images have an equal one, there is no unit to measure the samples' distances in."""
    pool = np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8), dtype=np.uint8)
    np.save(folder / "samples.npy", 255 - pool)
    np.save(folder / "real.npy", np.concatenate([pool, pool]))
    found = samples_json(measure_path(folder / "samples.npy", 5.0, folder / "real.npy", None, SILENT))
    assert json.loads(json.dumps(found, allow_nan=False))["fidelity_ratio"] is None


def test_a_page_for_a_file(files: tuple[Path, Path]) -> None:
    page = files[0].parent / "page.html"
    answer = measure_path(files[0], 60.0, files[1], None, SILENT)
    write_sample_report(answer, page)
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert text.count("data:image/png") == 2 + 20 + 1 + 8  # grids, pairs, a mode, training images that are copied
    for words in (
        "Heavy modes",
        "Class by class",
        "Every threshold",
        "Against the real images",
        "As the test was published",
    ):
        assert f"<h2>{words}</h2>" in text
    assert "Quality gate: not passed (copies: " in text
    first = page.read_bytes()
    write_sample_report(answer, page)
    assert page.read_bytes() == first


def test_a_page_for_features_has_no_pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(folder / "features.npy", rng.normal(size=(50, 7)).astype(np.float32)[rng.integers(0, 50, 400)])
    write_sample_report(measure_path(folder / "features.npy", 0.0, None, None, SILENT), folder / "page.html")
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert "data:image/png" not in text
    assert "Without real images nothing is known" in text


def test_the_classifier_is_trained_once_and_features_are_kept(files, folder, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    train = space_module.train_classifier
    settings = ClassifierSettings(least_steps=200, epochs=1, batch_size=32)
    monkeypatch.setattr(
        space_module, "train_classifier", lambda *images, **options: train(*images, settings, **options)
    )
    first = samples_json(measure_path(files[0], None, files[1], None, SILENT, "classifier"))
    assert first["embedding"]["accuracy"] > 0.7
    assert 80 < first["support_size_without_modes"] < 105  # to the classifier some digits are one
    monkeypatch.setattr(space_module, "train_classifier", None)
    assert samples_json(measure_path(files[0], None, files[1], None, SILENT, "classifier")) == first
    # The same numbers as for the features given as anyone's own; of these other images are drawn to be scored.
    classifier = space_module.Classifier.from_arrays(_arrays(next((folder / "cache").rglob("classifier-*.npz"))))
    features = {}
    for name, path in zip(("own", "real"), files, strict=True):
        features[name] = classifier.features(np.load(path)["images"])
        np.save(folder / f"{name}.npy", features[name])
    by_hand = samples_json(measure_path(folder / "own.npy", None, folder / "real.npy", None, SILENT))
    for name in ("support_size", "duplicates", "threshold", "frechet_distance", "fidelity_ratio"):
        assert by_hand[name] == first[name]
    scores = manifold_scores(features["real"], features["own"][_random_order(files[0])[:600]])
    assert (first["precision"], first["recall"]) == (scores.precision, scores.recall)


def test_an_embedding_gives_the_numbers_of_its_features(files: tuple[Path, Path], folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for name, path in zip(("own", "real"), files, strict=True):
        np.save(folder / f"{name}.npy", Normalised().features(np.load(path)["images"]))
    by_hand = samples_json(measure_path(folder / "own.npy", None, folder / "real.npy", None, SILENT))
    found = samples_json(measure_path(files[0], None, files[1], None, SILENT, "normalised"))
    for key in ("support_size", "duplicates", "threshold", "frechet_distance", "fidelity_ratio"):
        assert by_hand[key] == found[key]
    assert found["embedding"] == {
        "name": "normalised",
        "about": Normalised.about,
        "fingerprint": f"normalised {Normalised.fingerprint}",
    }
    alone = samples_json(measure_path(files[0], found["threshold"], None, None, SILENT, "normalised"))
    assert alone["duplicates"] == found["duplicates"]
    with pytest.raises(SpecError, match=r"--embedding normalised: got float32 .*allowed: pictures"):
        measure_path(folder / "own.npy", 3.0, None, None, SILENT, "normalised")


def test_a_networks_file_gives_the_same_numbers_wherever_it_lies(files, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    network = traced(lambda x: x.flatten(1)[:, :64] * 2)
    (folder / "below").mkdir()
    for place in ("net.pt", "below/net.pt"):
        (folder / place).write_bytes(network)
    answers = [
        samples_json(measure_path(files[0], 0.5, None, None, SILENT, str(folder / place)))
        for place in ("net.pt", "below/net.pt")
    ]
    assert answers[0] == answers[1]
    assert answers[0]["embedding"]["name"] == "net.pt"
    pixels = samples_json(measure_path(files[0], 0.5 * 255 / 2, None, None, SILENT))
    assert pixels["duplicates"] == answers[0]["duplicates"] > 0


def _random_order(path: Path) -> np.ndarray:
    """Numbers of the labelled images of a file in the order in which sub-samples are drawn."""
    with np.load(path) as stored:
        images, labels = stored["images"], stored["labels"]
    return in_order(random_places(content_digests(lambda start, stop: images[start:stop], len(images)), labels))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return {name: found[name] for name in found.files if name != "fingerprint"}


def test_a_classifier_needs_labelled_pictures(files: tuple[Path, Path], folder: Path) -> None:
    with pytest.raises(SpecError, match=r"got nothing to train it on; allowed: --reference with labelled pictures"):
        measure_path(files[0], 60.0, None, None, SILENT, "classifier")
    np.save(folder / "bare.npy", np.load(files[1])["images"])
    with pytest.raises(SpecError, match="got no labels beside uint8 images"):
        measure_path(files[0], None, folder / "bare.npy", None, SILENT, "classifier")


def test_pictures_with_their_channels_last_are_shown(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.save(folder / "last.npy", images)
    answer = measure_path(folder / "last.npy", 10.0, None, None, SILENT)
    pictures = answer.samples.pictures
    assert pictures is not None
    np.testing.assert_array_equal(pictures.read(3, 9), images[3:9].transpose(0, 3, 1, 2))
    write_sample_report(answer, folder / "page.html")
    assert "data:image/png" in (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("images", "threshold", "said"),
    [
        (np.zeros((1, 3), np.float32), 1.0, "two or more"),
        (np.zeros((5, 3)), 1.0, "got float64; allowed: uint8 images or float32"),
        (np.full((50, 3), np.nan, np.float32), 1.0, "NaN or infinite"),
        (np.full((50, 3), np.inf, np.float32), 1.0, "NaN or infinite"),
        (np.zeros((0, 3), np.uint8), 1.0, "at least one item"),
        (np.zeros((5, 3), np.uint8), None, "give --threshold"),
    ],
)
def test_samples_that_cannot_be_measured(folder: Path, images: np.ndarray, threshold: float, said: str) -> None:
    np.save(folder / "bad.npy", images)
    with pytest.raises(SpecError, match=said):
        measure_path(folder / "bad.npy", threshold, None, None, SILENT)


def test_other_bad_input(folder: Path) -> None:
    good = np.zeros((9, 3, 8, 8), np.uint8)
    np.save(folder / "good.npy", good)
    np.save(folder / "other.npy", good[:, :1])
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:-100])
    zarr.create_array(folder / "empty.zarr", shape=(0, 3, 8, 8), dtype="uint8", chunks=(1, 3, 8, 8))
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, side in enumerate((8, 8, 12)):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(pictures / f"{number}.png")
    for path, reference, said in (
        ("cut.npy", None, "cut short"),
        ("empty.zarr", None, "at least one item"),
        ("pictures", None, "resize"),
        ("nothing.npy", None, "no such file"),
        ("good.npy", "other.npy", "--reference holds uint8 of shape"),
    ):
        with pytest.raises(SpecError, match=said):
            measure_path(folder / path, 1.0, reference and folder / reference, None, SILENT)
    assert samples_json(measure_path(pictures, 1.0, None, 8, SILENT))["samples"] == 3


def test_a_collapsed_sample_is_an_answer(folder: Path) -> None:
    np.save(folder / "same.npy", np.full((500, 1, 8, 8), 7, np.uint8))
    answer = measure_path(folder / "same.npy", 0.0, None, None, SILENT)
    found = samples_json(answer)
    assert found["support_size"] == 1
    assert found["largest_mode_mass"] == 1
    assert len(found["heavy_modes"]) == 1
    assert "support_size_without_modes" not in found
    write_sample_report(answer, folder / "page.html")


# Sets on both sides of the numbers at which the pair engine changes its arithmetic (docs/pairs.md).


def test_repeated_images_of_more_values_than_int32_can_sum(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 105, 105), dtype=np.uint8)
    np.save(folder / "samples.npy", np.concatenate([images, images[:100]]))
    answer = samples_json(measure_path(folder / "samples.npy", 0.0, None, None, SILENT))
    assert answer["duplicates"] == 100
    assert answer["support_size"] == 300 * 299 / 2 / 100  # about 448
    assert [each["flagged_distance"] for each in answer["closest"]] == [0] * 20
    assert all(abs(i - j) == 200 for i, j in (each["flagged_index"] for each in answer["closest"]))
    pairs = 300 * 299 // 2
    assert answer["thresholds"][0] == {
        "distance": 0.0,
        "pair_distance_cdf": 100 / pairs,
        "pair_distance_cdf_pairs": pairs,
    }


@pytest.mark.parametrize("shape", [(1, 181, 181), (1, 182, 181), (3, 105, 105), (1, 256, 512)])
@pytest.mark.parametrize("threshold", [0.0, 12.5, 1e10, 1e200])
def test_a_collapsed_sample_of_images_of_any_size(folder: Path, shape: tuple[int, ...], threshold: float) -> None:
    np.save(folder / "samples.npy", np.full((20, *shape), 200, np.uint8))
    answer = samples_json(measure_path(folder / "samples.npy", threshold, None, None, SILENT))
    assert answer["duplicates"] == answer["pairs_compared"] == 190
    assert answer["support_size"] == 1
    assert len(answer["closest"]) == 20


def test_images_of_as_many_values_as_one_product_sums_and_one_more(folder: Path) -> None:
    """512 x 256 images have 131,072 values: the last of two products has one column."""
    images = np.random.default_rng(0).integers(0, 256, (12, 256, 512), dtype=np.uint8)
    images[10:] = images[:2]
    images[11, -1, -1] ^= 3
    np.save(folder / "samples.npy", images)
    flat = images.reshape(12, -1).astype(np.int64)
    i, j = np.triu_indices(12, 1)
    squared = np.sort(np.square(flat[i] - flat[j]).sum(axis=1))
    answer = samples_json(measure_path(folder / "samples.npy", 3.0, None, None, SILENT))
    assert answer["duplicates"] == (squared <= 9).sum()
    assert [each["flagged_distance"] for each in answer["closest"]] == np.sqrt(squared[:20]).tolist()


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_pair_at_the_threshold_is_a_duplicate(folder: Path, kind: str) -> None:
    """Squared distances of about 30 million: roots of a third of such numbers have a square below the number."""
    images = np.random.default_rng(0).integers(0, 256, (40, 2780), dtype=np.uint8).astype(kind)
    np.save(folder / "samples.npy", images)
    flat = images.astype(np.float64)
    i, j = np.triu_indices(40, 1)
    distance = np.sort(np.sqrt(np.square(flat[i] - flat[j]).sum(axis=1)))
    for threshold in distance[50:70].tolist():
        answer = samples_json(measure_path(folder / "samples.npy", threshold, None, None, SILENT))
        assert answer["duplicates"] == (distance <= threshold).sum()
        at = [each for each in answer["thresholds"] if each["distance"] == threshold]
        assert [round(each["pair_distance_cdf"] * each["pair_distance_cdf_pairs"]) for each in at] == [
            answer["duplicates"]
        ]


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1.0, 3.4e38])
def test_features_of_any_size(folder: Path, scale: float) -> None:
    images = np.random.default_rng(0).choice([-scale, 0, scale], (60, 4)).astype(np.float32)
    np.save(folder / "samples.npy", images)
    np.save(folder / "real.npy", images[::-1])
    i, j = np.triu_indices(60, 1)
    distance = np.sqrt(np.square(images[i].astype(float) - images[j].astype(float)).sum(axis=1))
    for threshold in (0.0, float(np.float32(scale)), 1e200):
        answer = samples_json(measure_path(folder / "samples.npy", threshold, folder / "real.npy", None, SILENT))
        assert answer["duplicates"] == (distance <= threshold).sum()
        assert answer["frechet_distance"] == pytest.approx(0, abs=1e-9 * scale**2)
        assert answer["diversity_ratio"] == 1


def test_no_sentence_calls_a_figure_infinite(folder: Path) -> None:
    random = np.random.default_rng(0)
    pool = random.integers(0, 256, (400, 1, 8, 8), dtype=np.uint8)
    np.save(folder / "samples.npy", pool[random.integers(0, 50, 400)])
    np.save(folder / "real.npy", pool)
    words = "\n".join(sample_lines(measure_path(folder / "samples.npy", 0.0, folder / "real.npy", None, SILENT)))
    assert re.search(r"duplicates at least 1\d\d times as often as two real ones", words)
    assert "∞" not in words
    np.save(folder / "apart.npy", pool)
    words = "\n".join(sample_lines(measure_path(folder / "apart.npy", 1.0, None, None, SILENT)))
    assert "no duplicate at 0.9 and no duplicate at 1.1 of that distance" in words
    assert "∞" not in words


@pytest.fixture
def sets_of_digits(folder: Path) -> dict[str, np.ndarray]:
    """Digits to train on, held-out ones and others, in files, and the arrays by name."""
    images = np.rint(load_digits().images[:, None] * (255 / 16)).astype(np.uint8)
    images = images[np.random.default_rng(0).permutation(len(images))]
    sets = {"training": images[:800], "test": images[800:1300], "others": images[1300:]}
    for name, some in sets.items():
        np.save(folder / f"{name}.npy", some)
    return sets


def copying_of(folder: Path, samples: np.ndarray, test: bool = True) -> tuple[dict[str, Any], str]:
    """JSON and sentences on these samples."""
    np.save(folder / "samples.npy", samples)
    held_out = folder / "test.npy" if test else None
    answer = measure_path(folder / "samples.npy", None, folder / "training.npy", None, SILENT, test=held_out)
    return samples_json(answer), "\n".join(sample_lines(answer))


@pytest.mark.parametrize("test", [True, False])
def test_copies_of_training_images_are_called_copies(
    folder: Path, sets_of_digits: dict[str, np.ndarray], test: bool
) -> None:
    rng = np.random.default_rng(1)
    copies = sets_of_digits["training"][rng.integers(0, 800, 5000)]
    found, words = copying_of(folder, copies, test)
    assert found["copying"] == "copies"
    assert found["copied_share"] == found["copied_share_high"] == 1
    assert found["copied_share_low"] > 0.99
    assert found["authenticity"] == 0
    assert found["copying_z"] < -20
    assert found["held_out_images"] == (500 if test else 0)
    times = np.unique((copies.reshape(5000, -1)), axis=0, return_counts=True)[1]
    assert [each["copied_times"] for each in found["most_copied"]] == sorted(times.tolist(), reverse=True)[:8]
    assert [each["copy_distance"] for each in found["most_copied"]] == [0] * 8
    first = found["most_copied"][0]
    assert np.array_equal(copies[int(first["copy_index"])], sets_of_digits["training"][int(first["copied_index"])])
    assert "Copies: 100.0% (99." in words
    assert ("each training image stood in" in words) != test


@pytest.mark.parametrize("test", [True, False])
def test_real_images_are_not_called_copies(folder: Path, sets_of_digits: dict[str, np.ndarray], test: bool) -> None:
    found, words = copying_of(folder, sets_of_digits["others"], test)
    assert found["copying"] == "none-seen"
    assert found["copied_share_low"] == 0
    assert found["copied_share_seen"] < 0.12
    assert found["authenticity"] == pytest.approx(found["held_out_authenticity"], abs=0.1)
    assert abs(found["copying_z"]) < 4
    assert set(found["copied_shares"]) == {"0.001", "0.01", "0.05"}
    seen = f"{found['copied_share_seen']:.1%}"
    assert f"No sign of copying (exact copies would have been seen from {seen} of the samples on)." in words
    # And what would have been seen is seen: copies in place of as many of the same samples.
    count = int(np.ceil(found["copied_share_seen"] * len(sets_of_digits["others"])))
    with_copies = np.concatenate([sets_of_digits["training"][:count], sets_of_digits["others"][count:]])
    found, words = copying_of(folder, with_copies, test)
    assert found["copying"] == "copies"
    assert "Copies: " in words


@pytest.mark.parametrize("test", [True, False])
def test_mixtures_with_copies_have_the_right_reason(
    folder: Path, sets_of_digits: dict[str, np.ndarray], test: bool
) -> None:
    rng = np.random.default_rng(2)
    training, others = sets_of_digits["training"], sets_of_digits["others"]
    noise = rng.integers(0, 256, (450, 1, 8, 8), dtype=np.uint8)
    copies = training[rng.permutation(800)]
    for samples, reason in (
        (np.concatenate([copies[:550], noise]), "copies"),
        (np.concatenate([np.repeat(others[:1], 300, axis=0), copies[:250], noise]), "noise"),
    ):
        found, _ = copying_of(folder, samples, test)
        assert (found["passes_quality_gate"], found["quality_reason"]) == (False, reason)
        share = (samples[:, None] == training[None]).all(axis=(2, 3, 4)).any(axis=1).mean()
        assert found["copying"] == "copies"
        assert found["copied_share_low"] <= share <= found["copied_share_high"]


def test_blurred_samples_are_not_called_copies(folder: Path) -> None:
    rng = np.random.default_rng(3)
    smooth = np.kron(rng.normal(0, 40, (1500, 1, 4, 4)), np.ones((4, 4)))
    images = np.clip(128 + smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)
    np.save(folder / "training.npy", images[:800])
    np.save(folder / "test.npy", images[800:1200])
    averaged = np.rint((images[1200:] + images.mean(axis=0)) / 2).astype(np.uint8)
    found, words = copying_of(folder, averaged)
    assert (found["passes_quality_gate"], found["quality_reason"]) == (False, "blur")
    assert found["copied_share_low"] > 0.1
    assert found["copying"] == "unknown"
    assert (
        "Copying can't be said: blur brings samples near to training images, whether they are copies or not." in words
    )


def test_a_page_shows_copies_beside_the_training_images(folder: Path, sets_of_digits: dict[str, np.ndarray]) -> None:
    for samples, shown in ((sets_of_digits["training"][:300], True), (sets_of_digits["others"], False)):
        np.save(folder / "samples.npy", samples)
        reference, held_out = folder / "training.npy", folder / "test.npy"
        answer = measure_path(folder / "samples.npy", None, reference, None, SILENT, test=held_out)
        page = write_sample_report(answer, folder / "page.html").read_text()
        assert ("of training image" in page) == shown
        assert ("beside its nearest copy, sample" in page) == shown


def test_held_out_images_are_the_control(folder: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (500, 1, 8, 8), dtype=np.uint8)
    near = np.clip(images[:300].astype(int) + random.integers(-3, 4, images[:300].shape), 0, 255).astype(np.uint8)
    held_out = np.concatenate([images[300:400], images[:5]])
    for name, some in (("real", images[:300]), ("test", held_out), ("samples", near)):
        np.save(folder / f"{name}.npy", some)
    reference = folder / "real.npy"
    answer = measure_path(folder / "samples.npy", None, reference, None, SILENT, test=folder / "test.npy")
    flat = [each.reshape(len(each), -1).astype(float) for each in (held_out, images[:300], near)]
    nearest = np.linalg.norm(flat[0][:, None] - flat[1][None], axis=2).min(axis=1)
    assert answer.real is not None
    np.testing.assert_allclose(answer.real.neighbours.distance, nearest)
    own = np.linalg.norm(flat[2][:, None] - flat[1][None], axis=2).min(axis=1)
    assert answer.facts.fidelity_ratio == pytest.approx(np.median(own) / np.median(nearest))
    # The distance of duplicates is of all 405 different real images, five of them copies.
    assert (answer.chosen.real.images, answer.chosen.real.copies) == (405, 5)
    (note,) = [note for note in answer.notes if note.kind == "held-out-in-reference"]
    assert note.text.startswith("5 of the 105 held-out images (4.76 %) are exact copies of reference images")
    found = samples_json(answer)
    assert found["held_out"]["path"].endswith("test.npy")
    with pytest.raises(SpecError, match="--test: held-out images are compared with training images; give these with"):
        measure_path(folder / "samples.npy", 1.0, None, None, SILENT, test=folder / "test.npy")
    np.save(folder / "other.npy", images[:, :, :4])
    with pytest.raises(SpecError, match=r"--test holds uint8 of shape \(1, 4, 8\), the samples uint8 of shape"):
        measure_path(folder / "samples.npy", None, reference, None, SILENT, test=folder / "other.npy")


@pytest.mark.parametrize("images", [np.zeros((2, 1), np.uint8), np.array([[0], [255]], np.uint8)])
def test_two_images_of_one_value(folder: Path, images: np.ndarray) -> None:
    np.save(folder / "samples.npy", images)
    answer = samples_json(measure_path(folder / "samples.npy", 254.9, None, None, SILENT))
    assert answer["duplicates"] == int(images[1, 0] == 0)
    (closest,) = answer["closest"]
    assert sorted(closest["flagged_index"]) == [0, 1]
    assert closest["flagged_distance"] == float(images[1, 0])


def test_every_heavy_mode_is_counted_and_eight_are_pictured(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, (20_000, 1, 4, 4), dtype=np.uint8)
    weights = np.append(np.full(12, 0.03), np.full(19_988, 0.64 / 19_988))
    np.save(folder / "samples.npy", pool[rng.choice(20_000, 1500, p=weights)])
    answer = measure_path(folder / "samples.npy", 0.0, None, None, SILENT)
    found = samples_json(answer)
    assert found["heavy_mode_count"] == 12
    assert len(found["heavy_modes"]) == 8
    assert found["support_size_without_modes_low"] <= 20_000 <= found["support_size_without_modes_high"]
    write_sample_report(answer, folder / "page.html")
    page = (folder / "page.html").read_text()
    assert "12 heavy modes hold" in page
    assert page.count("and others of its mode") == 8
    assert "4 more modes are left out here" in page


def test_the_interval_of_the_ratio_is_that_of_all_pairs_of_the_sample(folder: Path) -> None:
    """More samples than real images: pairs beyond the distance are counted among a part of the samples."""
    points = np.random.default_rng(0).normal(size=(2600, 4)).astype(np.float32)
    real, own = points[:600], points[600:]
    np.save(folder / "real.npy", real)
    np.save(folder / "samples.npy", own)
    answer = measure_path(folder / "samples.npy", None, folder / "real.npy", None, SILENT)
    distance = answer.chosen.real
    assert distance is not None
    close = pairs_within(own, distance.high)
    found = diversity(close.index, close.squared_distance, len(own), distance)
    given = samples_json(answer)
    assert given["diversity_ratio"] == pytest.approx(found.ratio)
    assert given["diversity_ratio_low"] == pytest.approx(found.ratio_low, rel=0.25)
    assert given["diversity_ratio_high"] == pytest.approx(found.ratio_high, rel=0.25)


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (
            None,
            r"Too few samples to say .* without a duplicate among them: .* at most [\d.k]+ times as often",
        ),
        (500.0, "Neither two generated images nor two real ones are duplicates"),
    ],
)
def test_without_a_duplicate_the_ratio_is_a_bound(folder: Path, threshold: float | None, words: str) -> None:
    random = np.random.default_rng(0)
    np.save(folder / "real.npy", random.integers(0, 256, (600, 1, 8, 8), dtype=np.uint8))
    np.save(folder / "samples.npy", random.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8))
    answer = measure_path(folder / "samples.npy", threshold, folder / "real.npy", None, SILENT)
    given = samples_json(answer)
    assert given["duplicates"] == 0
    assert given["diversity_ratio"] == given["diversity_ratio_low"]
    assert given["diversity_ratio_high"] is None
    assert re.match(words, next(sample_lines(answer)))


@pytest.mark.parametrize(
    ("scale", "dtype", "order", "noted"),
    [
        (1, np.uint8, (0, 1, 2, 3), False),
        (1 / 255, np.float32, (0, 1, 2, 3), True),
        (1 / 255, np.float32, (0, 2, 3, 1), True),
        (1, np.uint8, (0, 2, 3, 1), False),
    ],
)
def test_pictures_that_are_not_looked_at_as_pictures_are_named(folder: Path, scale, dtype, order, noted) -> None:
    random = np.random.default_rng(0)
    for name in ("real", "samples"):
        images = random.integers(0, 256, (600, 3, 8, 8), dtype=np.uint8)
        np.save(folder / f"{name}.npy", (images * np.float32(scale)).astype(dtype).transpose(order))
    answer = measure_path(folder / "samples.npy", None, folder / "real.npy", None, SILENT)
    assert ("no-pictures" in {note.kind for note in answer.notes}) == noted


def test_samples_that_are_the_held_out_images_are_named(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("real", "test", "other"):
        np.save(folder / f"{name}.npy", random.integers(0, 256, (600, 1, 8, 8), dtype=np.uint8))
    for samples, kinds in (("test", {"held-out-in-samples"}), ("other", set())):
        answer = measure_path(
            folder / f"{samples}.npy", None, folder / "real.npy", None, SILENT, test=folder / "test.npy"
        )
        assert {note.kind for note in answer.notes} == kinds
