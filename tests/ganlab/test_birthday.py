import math

import numpy as np
import pytest
from scipy import stats

from ganlab.statistics.birthday import (
    collision_probability,
    corrected_support,
    published_support,
    sample_size_at_half,
    theorem_bound,
)


def test_model_at_half():
    assert sample_size_at_half(365) == 23
    assert collision_probability(1 / 365, 23) >= 0.5 > collision_probability(1 / 365, 22)
    assert sample_size_at_half(1) == 2


def test_model_agrees_with_uniform_draws():
    support, size = 500, 25
    exact = 1 - np.prod(1 - np.arange(size) / support)
    assert collision_probability(1 / support, size) == pytest.approx(exact, abs=0.01)


def test_published_and_corrected_support():
    assert published_support(400) == 160_000
    assert corrected_support(400) == pytest.approx(115_416, abs=1)
    assert sample_size_at_half(corrected_support(400)) == pytest.approx(400, abs=1)


def test_theorem_bound():
    assert theorem_bound(400, 0.5) == pytest.approx(115_549, abs=1)
    assert theorem_bound(1000, 0.5) == pytest.approx(721_681, abs=1)
    assert theorem_bound(400, 0.5, 0.999) > theorem_bound(400, 0.5)
    assert theorem_bound(400, 0.5, 0.99) == math.inf


def test_theorem_bound_fails_with_one_heavy_image():
    mass, others = 0.01, 10**9
    size = 168
    collision = 1 - stats.binom.cdf(1, size, mass)
    assert collision == pytest.approx(0.5, abs=0.01)
    assert theorem_bound(size, collision) < others / 10_000


@pytest.mark.parametrize("arguments", [(0, 0.5), (400, 0.0), (400, 1.0), (400, 0.5, 0.0), (400, 0.5, 1.1)])
def test_theorem_bound_refuses(arguments):
    with pytest.raises(ValueError, match="allowed"):
        theorem_bound(*arguments)
