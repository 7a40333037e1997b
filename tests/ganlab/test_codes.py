"""Statistics of codes on an encoder and decoder that are known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ganlab.models.codes import code_statistics, normality
from ganlab.models.families.trained import Points


class Shift:
    """Decodes z to 2z, and encodes x to x / 2 plus an error."""

    shape = (3,)

    def __init__(self, error: float) -> None:
        self.error = error

    def prepare(self, images: np.ndarray) -> Points:
        return Points(images, "cpu")

    def encode(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        return items / 2 + self.error

    def decode(self, codes: Tensor) -> Tensor:
        return codes * 2

    def normal(self, count: int, size: int, noise: np.random.Generator) -> Tensor:
        return torch.from_numpy(noise.standard_normal((count, size), dtype=np.float32))


@pytest.mark.parametrize("error", [0.0, 0.25])
def test_errors_are_those_of_the_encoder(error: float) -> None:
    points = 2 * np.random.default_rng(0).standard_normal((1500, 3)).astype(np.float32)
    found = code_statistics(Shift(error), points, np.random.default_rng(1))
    assert found["code_error"] == pytest.approx(error, abs=1e-6)
    assert found["reconstruction_error"] == pytest.approx(2 * error, abs=1e-6)
    assert found["reconstruction_baseline"] == pytest.approx(2 * np.sqrt(2), rel=0.05)
    expected = 0.25 * 0.39894 if error else 0  # a normal law moved by 0.25: its density at the middle, times that
    assert found["code_normality"] == pytest.approx(expected, abs=0.05)


def test_normality_tells_normal_codes_from_others() -> None:
    draws = np.random.default_rng(0)
    assert normality(draws.standard_normal((4000, 2))) < 0.05
    assert normality(draws.uniform(-1, 1, (4000, 2))) > 0.15  # Φ(1) − 1 = −0.159 at the end of the interval
    assert normality(np.zeros((4000, 1))) == pytest.approx(0.5)
