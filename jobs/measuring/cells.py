"""The facts of samples as the variables of the results.

Invariant: the name of every value here is in `storage.results.VARIABLES`; what was not measured is missing, not zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganlab.support import Estimate, collision_probability
from jobs.measuring.facts import SampleFacts

MODES_SHOWN = 8  # heavy modes kept of a sample, the largest first, to be looked at
COPIES = 6  # images kept of each
_NUMBERS = (
    "support_size", "support_size_low", "support_size_high", "sample_size_at_half", "sample_size_at_half_low",
    "sample_size_at_half_high", "nonuniformity", "largest_mode_mass", "diversity_ratio", "fidelity_ratio",
    "realistic_share", "support_size_realistic", "support_size_realistic_low", "support_size_realistic_high",
    "support_size_without_modes", "support_size_without_modes_low", "support_size_without_modes_high",
    "published_support", "corrected_support", "theorem_bound", "precision", "recall", "density", "coverage",
    "frechet_distance",
)  # fmt: skip
_COUNTS = ("samples", "pairs_compared", "duplicates", "heavy_modes", "scored_images")
_FLAGS = ("one_sided", "verdict_possible", "theorem_applies")
_SIZES = ("collision_probability", "collision_probability_low", "collision_probability_high",
          "collision_probability_model")  # fmt: skip
_CLASSES = ("class_support_size", "class_support_size_low", "class_support_size_high", "class_nonuniformity",
            "class_largest_mode_mass")  # fmt: skip


def missing_cell(sizes: int, flagged: int, distances: int, classes: int) -> dict[str, Any]:
    """Every variable of a snapshot that isn't measured."""
    nan = np.nan
    return {
        **dict.fromkeys(_NUMBERS, nan), **dict.fromkeys(_COUNTS, -1), **dict.fromkeys(_FLAGS, False),
        **{name: np.full(sizes, nan) for name in _SIZES}, "collision_repeats": np.full(sizes, -1),
        "flagged_index": np.full((flagged, 2), -1), "flagged_distance": np.full(flagged, nan),
        "reference_index": np.full((flagged, 2), -1), "reference_distance": np.full((flagged, 2), nan),
        **{f"mode_mass{end}": np.full(MODES_SHOWN, nan) for end in ("", "_low", "_high")},
        "mode_members": np.full(MODES_SHOWN, -1), "mode_index": np.full((MODES_SHOWN, COPIES), -1),
        "mode_reference_index": np.full(MODES_SHOWN, -1), "mode_reference_distance": np.full(MODES_SHOWN, nan),
        "pair_probability": np.full(distances, nan), "pair_probability_pairs": np.full(distances, -1),
        "diversity_ratio_at": np.full(distances, nan),
        **{name: np.full(classes, nan) for name in _CLASSES},
        "class_samples": np.full(classes, -1), "class_duplicates": np.full(classes, -1),
        "class_nonuniform": np.full(classes, False),
    }  # fmt: skip


def snapshot_cell(
    facts: SampleFacts, first: int, sizes: Sequence[int], flagged: int, gate: float, classes: Sequence[int]
) -> dict[str, Any]:
    """Every variable of a snapshot whose first image has the number `first` among the samples of its trial."""
    record, support = facts.record, facts.support
    curve = None if facts.scores is None else facts.scores.curve
    cell = missing_cell(len(sizes), flagged, 0 if curve is None else len(curve.distances), len(classes))
    cell |= {
        "samples": record.samples, "pairs_compared": record.pairs_compared, "duplicates": support.duplicates,
        "one_sided": support.one_sided, "nonuniformity": support.nonuniformity,
        "largest_mode_mass": support.largest_mode_mass, "heavy_modes": len(facts.heavy.modes),
        **_interval("support_size", support), **_interval("support_size_realistic", facts.realistic),
        **_interval("support_size_without_modes", facts.heavy.rest),
        **{f"sample_size_at_half{end}": getattr(support, f"sample_size_at_half{end}") for end in ("", "_low", "_high")},
    }  # fmt: skip
    if facts.fidelity_ratio is not None:
        cell |= {
            "diversity_ratio": facts.diversity_ratio, "fidelity_ratio": facts.fidelity_ratio,
            "realistic_share": facts.realistic_share, "verdict_possible": facts.fidelity_ratio <= gate,
        }  # fmt: skip
    if facts.published is not None:
        cell |= {
            "published_support": facts.published.support, "corrected_support": facts.published.corrected,
            "theorem_bound": facts.published.bound, "theorem_applies": facts.published.applies,
        }  # fmt: skip
    _put_collisions(cell, facts, sizes)
    _put_flagged(cell, facts, first, flagged)
    _put_modes(cell, facts, first)
    _put_scores(cell, facts)
    for each in facts.classes:
        place = classes.index(each.label)
        own = each.support
        values: dict[str, Any] = {
            **_interval("class_support_size", own), "class_samples": own.samples,
            "class_duplicates": own.duplicates, "class_nonuniformity": own.nonuniformity,
            "class_largest_mode_mass": own.largest_mode_mass, "class_nonuniform": each.nonuniform,
        }  # fmt: skip
        for name, value in values.items():
            cell[name][place] = value
    return cell


def real_cell(facts: SampleFacts, sizes: Sequence[int], classes: Sequence[int]) -> dict[str, Any]:
    """The variables of the real images."""
    support = facts.support
    cell: dict[str, Any] = {
        "real_samples": support.samples, "real_pairs_compared": facts.record.pairs_compared,
        "real_duplicates": support.duplicates, **_interval("real_support_size", support),
        "real_collision_probability_model": np.array([support.collision_probability(size) for size in sizes]),
    }  # fmt: skip
    if facts.scores is not None:
        curve = facts.scores.curve
        cell |= {"real_frechet_distance": facts.scores.frechet, "real_pair_probability": curve.probability,
                 "real_pair_probability_pairs": curve.pairs}  # fmt: skip
    by_label = {each.label: each.support for each in facts.classes}
    for end, ends in (("", "size"), ("_low", "low"), ("_high", "high")):
        cell[f"real_class_support_size{end}"] = np.array(
            [getattr(by_label[label], ends) if label in by_label else np.nan for label in classes], dtype=np.float64
        )
    return cell


def _interval(name: str, support: Estimate | None) -> Mapping[str, float]:
    if support is None:
        return {}
    return {name: support.size, f"{name}_low": support.low, f"{name}_high": support.high}


def _put_collisions(cell: dict[str, Any], facts: SampleFacts, sizes: Sequence[int]) -> None:
    for place, size in enumerate(sizes):
        if size not in facts.frequencies:
            continue
        frequency = facts.frequencies[size]
        cell["collision_probability_model"][place] = collision_probability(facts.support.p2, size)
        for name, value in (("", frequency.probability), ("_low", frequency.low), ("_high", frequency.high)):
            cell[f"collision_probability{name}"][place] = value
        cell["collision_repeats"][place] = frequency.repeats


def _put_flagged(cell: dict[str, Any], facts: SampleFacts, first: int, flagged: int) -> None:
    record = facts.record
    found = min(flagged, len(record.closest_index))
    pairs = record.closest_index[:found]
    cell["flagged_index"][:found] = pairs + first
    cell["flagged_distance"][:found] = np.sqrt(record.closest_squared[:found].astype(np.float64))
    if len(record.neighbour):
        cell["reference_index"][:found] = record.neighbour[pairs]
        cell["reference_distance"][:found] = facts.distance[pairs]


def _put_modes(cell: dict[str, Any], facts: SampleFacts, first: int) -> None:
    for place, mode in enumerate(facts.heavy.modes[:MODES_SHOWN]):
        shown = mode.members[:COPIES]
        cell["mode_mass"][place], cell["mode_mass_low"][place] = mode.mass, mode.low
        cell["mode_mass_high"][place], cell["mode_members"][place] = mode.high, len(mode.members)
        cell["mode_index"][place, : len(shown)] = shown + first
        if len(facts.record.neighbour):
            cell["mode_reference_index"][place] = facts.record.neighbour[shown[0]]
            cell["mode_reference_distance"][place] = facts.distance[shown[0]]


def _put_scores(cell: dict[str, Any], facts: SampleFacts) -> None:
    if facts.scores is None:
        return
    manifold = facts.scores.manifold
    if manifold is not None:
        cell |= {name: getattr(manifold, name) for name in ("precision", "recall", "density", "coverage")}
        cell["scored_images"] = manifold.generated_images
    cell["frechet_distance"] = facts.scores.frechet
    cell["pair_probability"], cell["pair_probability_pairs"] = facts.scores.curve.probability, facts.scores.curve.pairs
    if facts.diversity_ratio_at is not None:
        cell["diversity_ratio_at"] = facts.diversity_ratio_at
