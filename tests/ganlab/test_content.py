"""The random order of a set follows from its images alone, and copies are no neighbours in it."""

import numpy as np
import pytest

from ganlab.pairs import content
from ganlab.pairs.content import (
    are_among,
    content_digests,
    content_order,
    distinct_images,
    in_order,
    random_places,
    same_images,
    take,
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_BLOCK", 50)


def reader(images: np.ndarray):
    def read(start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= len(images)
        return images[start:stop]

    return read


def digests_of(images: np.ndarray) -> np.ndarray:
    return content_digests(reader(images), len(images))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("labelled", [False, True])
def test_reordering_a_set_reorders_nothing(kind: str, labelled: bool) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (300, 1, 2, 2)).astype(kind)  # 81 different ones: most have copies
    labels = rng.integers(0, 2, 300) if labelled else None
    shuffled = rng.permutation(300)
    order = in_order(random_places(digests_of(images), labels))
    other = in_order(random_places(digests_of(images[shuffled]), None if labels is None else labels[shuffled]))
    np.testing.assert_array_equal(images[order], images[shuffled][other])
    if labels is not None:
        np.testing.assert_array_equal(labels[order], labels[shuffled][other])
    assert sorted(order) == list(range(300))


def test_copies_are_no_neighbours_in_the_order() -> None:
    """Of 2,000 images, each there twice, a sample of the first half holds 500 pairs of copies, as a random one does."""
    images = np.repeat(np.arange(1000, dtype=np.float32), 2)[:, None]
    first = images[content_order(reader(images), 2000)[:1000], 0]
    pairs = 1000 - len(np.unique(first))
    assert 210 < pairs < 290  # 250 expected, standard deviation 11


def test_the_order_of_a_sorted_set_is_random() -> None:
    rng = np.random.default_rng(1)
    images = np.sort(rng.integers(0, 256, (4000, 3), dtype=np.uint8), axis=0)
    place = np.argsort(content_order(reader(images), 4000))
    assert abs(np.corrcoef(place, np.arange(4000))[0, 1]) < 0.06
    assert (np.diff(place) == 1).sum() < 8


def test_images_added_leave_the_others_in_order() -> None:
    images = np.random.default_rng(2).integers(0, 4, (400, 4), dtype=np.uint8)
    before, after = random_places(digests_of(images[:250])), random_places(digests_of(images))
    np.testing.assert_array_equal(after[:250], before)


def test_digests_tell_values_apart_and_not_their_signs_of_zero() -> None:
    images = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0 + 1e-7]], np.float32)
    found = digests_of(images)
    assert distinct_images(found) == 3
    assert (found[0] == found[1]).all()


def test_sets_are_compared_by_their_images() -> None:
    images = np.arange(40, dtype=np.uint8)[:, None]
    whole, part = digests_of(images), digests_of(images[10:30])
    assert are_among(part, whole).all()
    assert are_among(whole, part).sum() == 20
    assert same_images(whole, digests_of(images[::-1]))
    assert not same_images(whole, digests_of(np.append(images[:39], images[:1], axis=0)))
    assert not same_images(part, whole)


def test_images_are_taken_in_the_order_asked_for() -> None:
    images = np.random.default_rng(3).integers(0, 256, (333, 5), dtype=np.uint8)
    numbers = np.random.default_rng(4).permutation(333)[:120]
    np.testing.assert_array_equal(take(reader(images), numbers), images[numbers])
