"""Faults planted in samples of a perfect generator: what is found, what is not, and the sentences on them.

Invariant: the real images and the samples are different real digits, so that all that is wrong with them was planted.
"""

import re

import pytest

from jobs.cli.show import sample_lines
from jobs.report.headline import times_words
from jobs.report.results_json import samples_json
from tests.benchmarks.planted import CLEAN, ONE_IMAGE, Fault, measured, noise, one_image, perfect

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_image_of_five_percent_is_found(seed: int) -> None:
    answer = samples_json(measured(ONE_IMAGE, perfect(seed), seed))
    assert answer["passes_quality_gate"]
    assert answer["diversity_ratio_high"] < 1
    (mode,) = answer["heavy_modes"]
    assert mode["mode_mass_low"] <= 0.05 <= mode["mode_mass_high"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_perfect_generator_is_not_accused(seed: int) -> None:
    answer = samples_json(measured(CLEAN, perfect(seed), seed))
    assert answer["passes_quality_gate"]
    assert answer["diversity_ratio_low"] <= 1 <= answer["diversity_ratio_high"]
    assert answer["heavy_modes"] == answer["notes"] == []


def sentences(fault: Fault, seed: int = 0) -> str:
    return "\n".join(sample_lines(measured(fault, perfect(seed), seed)))


def test_one_image_holds_all_duplicates_when_a_part_is_listed() -> None:
    words = sentences(Fault("all one image", one_image(1), bool))
    assert "are too many to list" in words
    assert re.search(r"class \d holds 100% of the samples and 100% of the duplicates", words)
    assert "the largest mode holds 100.00% of the samples and is the only heavy one" in words
    assert "Distinct images seen: 1 of 899 samples; one more" in words


def test_a_collapse_is_named_beyond_the_gate_too() -> None:
    """The image of seed 2 lies far from the others; noise lies far, too, and shows nothing."""
    words = sentences(Fault("all one image, noise 4", one_image(1, 4.0), bool), seed=2)
    assert "Quality gate: not passed" in words
    assert re.search(r"Collapsed all the same: two generated images are duplicates 9\.8k times", words)
    assert "bad samples look diverse" not in words
    words = sentences(Fault("pixel noise 60", noise(60), bool))
    assert "Quality gate: not passed" in words
    assert "Nothing is said of their diversity: bad samples look diverse." in words
    assert "ollapsed" not in words


def test_noise_is_not_called_diversity() -> None:
    words = sentences(Fault("pixel noise 8", noise(8), bool))
    assert "Quality gate: not passed (noise: " in words
    assert "Nothing is said of their diversity: bad samples look diverse." in words


def test_no_difference_shown_is_not_called_equal() -> None:
    words = sentences(CLEAN)
    assert words.startswith("No less diverse than the real images, as far as these samples show: ")
    assert ", no two of them duplicates; one more" in words


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.997, "1.003"), (1.0004, "0.9996"), (1.0, "1"), (0.4, "2.5"), (0.04, "25"), (0.0, "∞")]
)
def test_times_other_than_one_are_not_written_as_one(ratio: float, words: str) -> None:
    assert times_words(ratio) == words
