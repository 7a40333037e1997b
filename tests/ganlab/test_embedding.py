"""The published classifier: it learns, it is reproducible, and no batch changes a bit of its features."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ganlab.quality import embedding
from ganlab.quality.embedding import (
    BLOCK,
    FEATURES,
    Classifier,
    ClassifierSettings,
    Network,
    embedding_key,
    train_classifier,
)

QUICK = ClassifierSettings(least_steps=250)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    stored = load_digits()
    return np.rint(stored.images[:, None] * (255 / 16)).astype(np.uint8), stored.target.astype(np.int64)


@pytest.fixture(scope="module")
def classifier(digits) -> Classifier:
    return train_classifier(*digits, QUICK)


def test_it_classifies_digits_it_never_saw(classifier: Classifier) -> None:
    assert classifier.held_out_images == 180
    assert classifier.held_out_accuracy > 0.9
    assert classifier.training_accuracy >= classifier.held_out_accuracy - 0.02


def test_same_images_and_settings_give_the_same_weights(digits, classifier: Classifier) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(99)
    try:
        again = train_classifier(*digits, QUICK)
    finally:
        torch.set_num_threads(1)
    assert again.fingerprint == classifier.fingerprint
    assert again.held_out_accuracy == classifier.held_out_accuracy


def test_weights_do_not_depend_on_how_many_threads_there_are(digits, classifier: Classifier, monkeypatch) -> None:
    threads = embedding.ThreadPoolExecutor
    monkeypatch.setattr(embedding, "ThreadPoolExecutor", lambda count, **options: threads(1, **options))
    assert train_classifier(*digits, QUICK).fingerprint == classifier.fingerprint


def test_colour_images_are_shifted_and_mirrored_and_grey_ones_shifted() -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 16, 16), np.uint8)
    for channels, flips in ((3, (1, -1)), (1, (1,))):
        given = images[:, :channels]
        moved = embedding._moved(given, np.random.default_rng(1))
        # The middle of an image, 14 by 14 pixels, is found whole wherever the image was moved to.
        found = np.array(
            [
                (moved[..., ::flip][..., down : down + 14, right : right + 14] == given[..., 1:-1, 1:-1]).all(
                    axis=(1, 2, 3)
                )
                for flip in flips
                for down in range(3)
                for right in range(3)
            ]
        )
        assert (found.sum(axis=0) == 1).all()
        assert found.any(axis=1).all()
    small = images[:, :, :8, :8]
    np.testing.assert_array_equal(embedding._moved(small[:, :1], np.random.default_rng(1)), small[:, :1])


def test_features_do_not_depend_on_how_many_are_asked_for(digits, classifier: Classifier) -> None:
    images = digits[0]
    whole = classifier.features(images)
    assert whole.shape == (1797, FEATURES)
    assert whole.dtype == np.float32
    assert (whole >= 0).all()
    for start, stop in ((0, 1), (0, 100), (BLOCK, 3 * BLOCK), (3 * BLOCK, 3 * BLOCK + 5)):
        np.testing.assert_array_equal(classifier.features(images[start:stop]), whole[start:stop])
    torch.set_num_threads(2)
    np.testing.assert_array_equal(classifier.features(images), whole)
    torch.set_num_threads(1)


def test_features_are_the_layer_under_the_class_scores(digits, classifier: Classifier) -> None:
    scores = classifier.features(digits[0]) @ classifier.weights["scores.weight"].T + classifier.weights["scores.bias"]
    np.testing.assert_array_equal(scores.argmax(1), classifier.classify(digits[0]))


def test_it_travels(digits, classifier: Classifier) -> None:
    expected = classifier.features(digits[0][:50])
    for copy in (Classifier.from_arrays(classifier.to_arrays()), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_array_equal(copy.features(digits[0][:50]), expected)
        assert copy.fingerprint == classifier.fingerprint
    broken = classifier.to_arrays() | {"weights.scores.weight": np.zeros((3, 3), np.float32)}
    with pytest.raises(ValueError, match="train it again"):
        Classifier.from_arrays(broken)


@pytest.mark.process
def test_another_process_computes_the_same_features(digits, classifier: Classifier, tmp_path) -> None:
    np.savez(tmp_path / "classifier.npz", **classifier.to_arrays())
    np.save(tmp_path / "images.npy", digits[0][:600])
    script = (
        "import sys, numpy as np; from ganlab.quality.embedding import Classifier;"
        "made = Classifier.from_arrays(dict(np.load('classifier.npz')));"
        "np.save('features.npy', made.features(np.load('images.npy')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), classifier.features(digits[0][:600]))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 12, 20), (1, 64, 64), (4, 3, 3)])
def test_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    assert Network(shape, 7)(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "without labels; allowed are labelled images, or the embedding pixels"),
        (np.zeros(100, np.int64), "1 classes"),
        (np.arange(100) * 1.0, "labels: got float64"),
        (np.arange(90), r"labels: got int64 \(90,\)"),
    ],
)
def test_images_that_no_classifier_can_learn(labels, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train_classifier(np.zeros((100, 1, 8, 8), np.uint8), labels, QUICK)


def test_other_images_are_refused(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="resize them"):
        classifier.features(np.zeros((2, 1, 16, 16), np.uint8))


def test_a_cache_knows_images_and_settings_apart() -> None:
    keys = {embedding_key("a"), embedding_key("b"), embedding_key("a", QUICK)}
    assert len(keys) == 3
    assert embedding_key("a") in keys
