"""The quality gate: faults planted among held-out digits are found and named, and held-out digits pass."""

import numpy as np
import pytest

from ganlab.quality.gate import FAULTS, Evidence, Gate, Quality, judge
from tests.benchmarks.gate import CLEAN, PLANTED, Planter, halves_of_digits


@pytest.fixture(scope="module", params=[0, 1, 2])
def digits(request: pytest.FixtureRequest) -> Planter:
    halves = halves_of_digits(request.param)
    return Planter(halves.training, halves.held_out)


def test_held_out_images_pass(digits: Planter) -> None:
    found = digits.judged(CLEAN, 898, 0)
    assert (found.quality, found.passes, found.shares) == (Quality.PASSED, True, {})
    assert found.detail_ratio == pytest.approx(1, abs=0.15)


def test_a_few_held_out_images_pass(digits: Planter) -> None:
    """What chance does to thirty images is no fault."""
    assert all(digits.judged(CLEAN, 30, seed).passes for seed in range(100))


SURE = [name for name in PLANTED if name not in ("noise of sd 4", "noise of sd 8", "averaged over 3 × 3 pixels")]
"""Faults that a thousand samples show for sure beside 449 digits; noise of sd 8 is found in most halves of them."""


@pytest.mark.parametrize("name", SURE)
def test_planted_faults_are_named(digits: Planter, name: str) -> None:
    assert {digits.judged(name, 1000, seed).quality for seed in range(5)} == {PLANTED[name][1]}


def test_copies_by_the_thousand_are_named(digits: Planter) -> None:
    assert digits.judged("copies", 5000, 0).shares[Quality.COPIES] > 0.95


def test_faults_that_are_not_asked_for_pass(digits: Planter) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    seen = digits.look_at(noise)
    assert judge(seen, digits.real).quality is Quality.NOISE
    assert judge(seen, digits.real, Gate(faults=(Quality.FAR,))).quality is Quality.FAR
    assert judge(seen, digits.real, Gate(faults=())).passes
    assert judge(seen, digits.real, Gate(100.0, (Quality.FAR,))).passes


def test_one_image_is_no_noise_and_no_blur(digits: Planter) -> None:
    """Duplicates count once: a collapsed generator is judged by its diversity."""
    faults = 0
    for image in digits.held_out[:50]:
        detail = digits.basis.detail(np.repeat(image[None], 500, axis=0))
        collapsed = Evidence(np.full(500, np.median(digits.real.distance)), detail, np.full(500, 1 / 500))
        faults += not judge(collapsed, digits.real).passes
    assert faults <= 4


@pytest.mark.parametrize(("every", "distinct", "word"), [(12, 0.45, "blur"), (3, 0.55, "blur"), (1, 0.65, "passed")])
def test_blurred_images_that_are_near_duplicates_are_blurred(every: int, distinct: float, word: str) -> None:
    """Blur makes duplicates of images with little detail, so that those that count in full have more of it.

    Where these have more than 0.6 of that of real images, smooth duplicates among sharp images are no blur.
    """
    rng = np.random.default_rng(0)
    real = rng.lognormal(0, 0.6, (2, 2500))
    blurred = 0.25 * rng.lognormal(0, 0.6, (2, 1500))
    weight = np.full(1500, 1 / 1500)
    weight[np.argsort(blurred[0])[1000::every]] = 1  # of the third with most
    blurred *= distinct / (weight @ blurred[0] / weight.sum() / real[0].mean())
    assert blurred[0].mean() < 0.4 * real[0].mean()
    near = rng.uniform(0, 1, 1500)
    held_out = Evidence(rng.uniform(0.9, 1.2, 2500), real)
    found = judge(Evidence(near, blurred, weight), held_out, Gate(faults=(Quality.BLUR,)))
    assert (found.quality, found.blurred) == (word, word == "blur")
    if found.blurred:
        assert judge(Evidence(near, blurred, weight), held_out).quality is Quality.BLUR
        ignored = judge(Evidence(near, blurred, weight), held_out, Gate(faults=()))
        assert (ignored.passes, ignored.blurred) == (True, True)


@pytest.mark.parametrize("count", [20, 30, 100, 1000])
def test_few_images_are_not_far_by_chance(count: int) -> None:
    """Of one law with the held-out images, of so heavy tails that medians of few differ by much."""
    draws = [np.abs(np.random.default_rng(seed).standard_cauchy((2, count))) for seed in range(200)]
    far = sum(judge(Evidence(own), Evidence(others)).quality is Quality.FAR for own, others in draws)
    assert far <= 6


def test_a_median_within_the_limit_is_not_far_however_many_lie_at_it() -> None:
    held_out = np.repeat([1.0, 2.0, 2.2], [30, 60, 10])
    samples = np.repeat([2.0, 2.45, 2.6], [40, 15, 45])
    assert np.median(samples) / np.median(held_out) < 1.25
    assert judge(Evidence(samples), Evidence(held_out), Gate(faults=(Quality.FAR,))).passes


@pytest.mark.parametrize(("ratio", "count", "word"), [(3.0, 30, "far"), (1.35, 3000, "far"), (1.15, 3000, "passed")])
def test_samples_that_lie_farther_are_far(ratio: float, count: int, word: str) -> None:
    held_out, samples = np.random.default_rng(0).gamma(9, size=(2, count))
    assert judge(Evidence(ratio * samples), Evidence(held_out)).quality == word


def test_a_trifle_in_a_million_passes() -> None:
    """Two in a hundred more copies, and two in a hundred more far images, are significant and small."""
    rng = np.random.default_rng(0)
    real = rng.uniform(1, 2, 100_000)
    samples = np.concatenate([rng.uniform(1, 2, 960_000), np.zeros(20_000), np.full(20_000, 9.0)])
    assert judge(Evidence(samples), Evidence(real)).passes
    samples[:80_000] = 0
    found = judge(Evidence(samples), Evidence(real))
    assert (found.quality, found.detail_ratio) == (Quality.COPIES, None)
    assert found.shares[Quality.COPIES] == pytest.approx(0.1, abs=0.005)


def test_samples_of_real_images_that_all_have_a_copy() -> None:
    """Distances of 0 among the real images: samples equal to them pass, others are far."""
    real = Evidence(np.zeros(100))
    assert judge(Evidence(np.zeros(50)), real).passes
    assert judge(Evidence(np.ones(50)), real).quality is Quality.FAR


def test_the_sweep_file_names_every_fault() -> None:
    from jobs.spec.sections import CollisionSettings

    assert CollisionSettings().quality_faults == tuple(map(str, FAULTS))
    assert CollisionSettings().fidelity_gate == Gate().largest_ratio
