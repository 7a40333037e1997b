"""Known modes: the data as they are described, and counts that a sample made by hand must give."""

import math

import numpy as np
import pytest

from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.datasets.gaussians_grid import GaussiansGridSettings
from ganlab.data.datasets.stacked_digits import StackedDigitsSettings
from ganlab.data.known_modes import StackReader, class_modes, draw_stacks, grid_centres, grid_modes


def test_the_grid_is_the_published_one() -> None:
    grid = GaussiansGridSettings(points=50_000).load()
    assert GaussiansGridSettings().image_shape() == grid.images.shape[1:] == (2,)
    assert grid.images.dtype == np.float32
    assert grid.labels is not None
    for mode, (x, y) in enumerate((x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)):
        own = grid.images[grid.labels == mode]
        assert len(own) == pytest.approx(2000, abs=200)
        np.testing.assert_allclose(own.mean(axis=0), (x, y), atol=0.01)
        np.testing.assert_allclose(own.std(axis=0), 0.05, rtol=0.1)


def test_real_points_fill_all_modes() -> None:
    count = grid_modes(GaussiansGridSettings(points=5000).load().images, 0.05)
    assert count.found == 25
    assert count.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.01)  # Rayleigh: within 3 σ
    assert count.divergence < 0.01


def test_points_between_the_modes_do_not_count() -> None:
    centres = grid_centres()
    points = np.concatenate([centres[:10], centres[:10] + 0.14, centres + 1.0]).astype(np.float32)  # 0.14·√2 > 3 · 0.05
    count = grid_modes(points, 0.05)
    assert (count.found, count.modes, count.samples) == (10, 25, 45)
    assert count.high_quality == pytest.approx(10 / 45)
    assert count.divergence == pytest.approx(math.log(25 / 10))


def test_a_sample_without_any_mode() -> None:
    count = grid_modes(np.full((4, 2), 1.0, np.float32), 0.05)
    assert (count.found, count.high_quality, count.divergence) == (0, 0.0, math.inf)


def test_stacks_spell_their_label() -> None:
    stacks = StackedDigitsSettings(images=3000).load()
    digits = DigitsSettings().load()
    assert stacks.images.shape == (3000, 3, 8, 8)
    assert stacks.labels is not None
    assert digits.labels is not None
    known = {image.tobytes(): int(label) for image, label in zip(digits.images[:, 0], digits.labels, strict=True)}
    for image, label in zip(stacks.images[:200], stacks.labels, strict=False):
        assert int("".join(str(known[channel.tobytes()]) for channel in image)) == label
    assert StackedDigitsSettings().label_count() == 1000
    assert len(np.unique(stacks.labels)) > 900


def test_divergence_of_classes() -> None:
    count = class_modes(np.repeat([3, 7], [30, 10]), 4)
    assert (count.found, count.high_quality) == (2, 1.0)
    assert count.divergence == pytest.approx(0.75 * math.log(0.75 * 4) + 0.25 * math.log(0.25 * 4))


def test_stacks_are_read_as_they_spell() -> None:
    """On digits that the reader never saw: three right at once, and the random ones fill nearly all modes."""
    digits = DigitsSettings().load()
    assert digits.labels is not None
    seen = np.arange(len(digits.images)) % 2 == 0
    reader = StackReader(digits.images[seen], digits.labels[seen])
    stacks, labels = draw_stacks(digits.images[~seen], digits.labels[~seen], 3000, np.random.default_rng(0))
    read = reader.read(stacks)
    assert (read == labels).mean() > 0.9
    count = class_modes(read, 1000)
    assert count.found > 900
    assert count.divergence < 0.3
