"""Values of statistics: how each one is computed from what comparing found.

Invariant: every name here is declared in `storage.statistics`; a statistic that does not apply gives None and is missing
in the results, never a number.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganlab.pairs.exact import Index
from ganlab.quality.copying import QUANTILES, SHOWN, CopiedShare, Copying
from ganlab.quality.gate import Judgement
from ganlab.quality.kernels import kid_interval
from ganlab.quality.moves import MOVE_NAMES
from ganlab.statistics.diversity import FACTORS
from ganlab.statistics.duplicate_distance import DuplicateDistance
from ganlab.statistics.support import Estimate
from jobs.measuring.facts import MULTIPLES, SampleFacts
from storage.pair_records import NearestReal
from storage.statistics import STATISTICS, TRIAL, VARIABLES, Statistic

MODES_SHOWN = 8  # heavy modes of which images are kept, to be looked at
COPIES_SHOWN = 6  # images kept of each
OF_SAMPLES = ("flagged_index", "mode_index", "copy_index")  # statistics that are numbers of samples
ORDERS = (0, 1, 2)  # of effective numbers


@dataclass(frozen=True, eq=False)
class Axes:
    """Coordinates that the values of all snapshots share.

    Attributes
    ----------
    sample_sizes, classes : sequence of int
    flagged : int
        Closest pairs of a snapshot that are kept.
    rates : tuple of float
        Rates of real pairs that the real images can show.
    """

    sample_sizes: Sequence[int]
    classes: Sequence[int]
    flagged: int
    rates: tuple[float, ...] = ()

    @property
    def coordinates(self) -> dict[str, Sequence[float]]:
        """Coordinates of the results that do not lie along trials."""
        found: dict[str, Sequence[float]] = {
            "sample_size": self.sample_sizes,
            "order": ORDERS,
            "distance_factor": (FACTORS[0], FACTORS[-1]),
            "sample_multiple": MULTIPLES,
            "near_quantile": QUANTILES,
        }
        return found | ({"real_rate": self.rates} if self.rates else {})


Compute = Callable[[SampleFacts, Axes], Any]
"""Gives a number or an array of the statistic's own dimensions; (value, low, high) of a statistic with an interval."""


def _triple(support: Estimate | None) -> tuple[float, float, float] | None:
    return None if support is None else (support.size, support.low, support.high)


def _by_size(facts: SampleFacts, axes: Axes, name: str) -> np.ndarray:
    found = facts.frequencies
    return np.array([getattr(found[size], name) if size in found else np.nan for size in axes.sample_sizes], np.float64)


def _by_class(facts: SampleFacts, axes: Axes, value: Callable[[Any], float]) -> np.ndarray | None:
    """Values of classes by label, in the order of the axis; None of images without labels."""
    if not facts.classes:
        return None
    by_label = {each.label: each for each in facts.classes}
    return np.array([value(by_label[label]) if label in by_label else np.nan for label in axes.classes], np.float64)


def _by_mode(facts: SampleFacts, value: Callable[[Any], float]) -> np.ndarray:
    return _padded([value(mode) for mode in facts.heavy.modes[:MODES_SHOWN]], (MODES_SHOWN,))


def _mode_images(facts: SampleFacts) -> np.ndarray:
    found = np.full((MODES_SHOWN, COPIES_SHOWN), np.nan)
    for row, mode in zip(found, facts.heavy.modes, strict=False):
        row[: len(mode.members)] = mode.members[:COPIES_SHOWN]
    return found


def _nearest_of(facts: SampleFacts, images: np.ndarray, shape: tuple[int, ...], distance: bool) -> np.ndarray | None:
    """The nearest real image of each of these samples, or the distance to it; None without real images."""
    if not len(facts.record.neighbour):
        return None
    return _padded((facts.distance if distance else facts.record.neighbour)[images], shape)


def _first_of_modes(facts: SampleFacts) -> np.ndarray:
    return np.array([mode.members[0] for mode in facts.heavy.modes[:MODES_SHOWN]], np.int64)


def _closest(facts: SampleFacts, axes: Axes) -> np.ndarray:
    return facts.record.closest_index[: axes.flagged]


def _curve(facts: SampleFacts, name: str) -> np.ndarray | None:
    return None if facts.scores is None else getattr(facts.scores.curve, name)


def _manifold(name: str) -> Compute:
    def compute(facts: SampleFacts, axes: Axes) -> float | None:
        scores = facts.scores
        return None if scores is None or scores.manifold is None else getattr(scores.manifold, name)

    return compute


def _score(name: str) -> Compute:
    return lambda facts, axes: None if facts.scores is None else getattr(facts.scores, name)


def _judged(value: Callable[[Judgement], Any]) -> Compute:
    return lambda facts, axes: None if facts.judgement is None else value(facts.judgement)


def _published(name: str) -> Compute:
    return lambda facts, axes: None if facts.published is None else getattr(facts.published, name)


def _at_rates(facts: SampleFacts, names: Sequence[str]) -> list[list[float]] | None:
    """Attributes of the diversity at each rate; None without real images."""
    return [[getattr(each, name) for each in facts.at_rates] for name in names] if facts.at_rates else None


def _copying(value: Callable[[Copying], Any]) -> Compute:
    return lambda facts, axes: None if facts.copying is None else value(facts.copying)


def _of_copies(facts: SampleFacts, value: Callable[[NearestReal, Index], Any]) -> Any:
    """A value of the copies that are shown, from the training images that samples may be copies of, and the copies."""
    return None if facts.copying is None or facts.original is None else value(facts.original, facts.copying.copy)


def _move_names(moves: Index) -> np.ndarray:
    names = [MOVE_NAMES[move] for move in moves.tolist()]
    return np.array([*names, *[""] * (SHOWN - len(names))])


def _interval(share: CopiedShare | None) -> tuple[float, float, float]:
    """A share of copies with its interval; NaN where too few images are held out."""
    return (math.nan,) * 3 if share is None else (share.value, share.low, share.high)


def _padded(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values padded with NaN to a shape."""
    given = np.asarray(values, np.float64)
    padded = np.full(shape, np.nan)
    padded[: len(given)] = given
    return padded


COMPUTED: dict[str, Compute] = {
    "samples": lambda facts, axes: facts.record.samples,
    "pairs_compared": lambda facts, axes: facts.record.pairs_compared,
    "duplicates": lambda facts, axes: facts.support.duplicates,
    "listed_samples": lambda facts, axes: facts.listed_samples,
    "listed_duplicates": lambda facts, axes: len(facts.record.listed_index),
    "diversity_ratio": lambda facts, axes: facts.diversity_ratio,
    "distinct_seen": lambda facts, axes: facts.record.distinct,
    "distinct_seen_share": lambda facts, axes: facts.record.distinct / facts.record.samples,
    "unseen_share": lambda facts, axes: (facts.unseen.value, facts.unseen.low, facts.unseen.high),
    "sensitivity": lambda facts, axes: facts.sensitivity,
    "effective_number": lambda facts, axes: [
        [getattr(each, name) for each in facts.numbers] for name in ("value", "low", "high")
    ],
    "distinct_expected": lambda facts, axes: [
        getattr(facts.distinct_curve, name) for name in ("distinct", "low", "high")
    ],
    "support_size_at_rate": lambda facts, axes: _at_rates(facts, ("effective_number", "low", "high")),
    "diversity_ratio_at_rate": lambda facts, axes: _at_rates(facts, ("ratio", "ratio_low", "ratio_high")),
    "support_size": lambda facts, axes: _triple(facts.support),
    "is_lower_bound": lambda facts, axes: facts.support.one_sided,
    "support_size_realistic": lambda facts, axes: _triple(facts.realistic),
    "sample_size_at_half": lambda facts, axes: (
        facts.support.sample_size_at_half,
        facts.support.sample_size_at_half_low,
        facts.support.sample_size_at_half_high,
    ),
    "collision_probability": lambda facts, axes: [
        _by_size(facts, axes, name) for name in ("probability", "low", "high")
    ],
    "collision_probability_model": lambda facts, axes: np.array(
        [
            facts.support.collision_probability(size) if size in facts.frequencies else np.nan
            for size in axes.sample_sizes
        ]
    ),
    "n_disjoint_samples": lambda facts, axes: _by_size(facts, axes, "repeats"),
    "nonuniformity": lambda facts, axes: facts.support.nonuniformity,
    "largest_mode_mass": lambda facts, axes: facts.support.largest_mode_mass,
    "heavy_mode_count": lambda facts, axes: len(facts.heavy.modes),
    "heavy_mode_share": lambda facts, axes: sum(len(mode.members) for mode in facts.heavy.modes) / facts.heavy.samples,
    "support_size_without_modes": lambda facts, axes: _triple(facts.heavy.rest),
    "mode_mass": lambda facts, axes: [
        _by_mode(facts, value) for value in (lambda mode: mode.mass, lambda mode: mode.low, lambda mode: mode.high)
    ],
    "mode_duplicates": lambda facts, axes: _by_mode(facts, lambda mode: facts.duplicates_of(int(mode.members[0]))),
    "mode_members": lambda facts, axes: _by_mode(facts, lambda mode: len(mode.members)),
    "mode_index": lambda facts, axes: _mode_images(facts),
    "mode_reference_index": lambda facts, axes: _nearest_of(facts, _first_of_modes(facts), (MODES_SHOWN,), False),
    "mode_reference_distance": lambda facts, axes: _nearest_of(facts, _first_of_modes(facts), (MODES_SHOWN,), True),
    "pair_distance_cdf": lambda facts, axes: _curve(facts, "probability"),
    "pair_distance_cdf_pairs": lambda facts, axes: _curve(facts, "pairs"),
    "diversity_ratio_at": lambda facts, axes: facts.diversity_ratio_at,
    "class_support_size": lambda facts, axes: (
        None
        if not facts.classes
        else [
            _by_class(facts, axes, value)
            for value in (
                lambda each: each.support.size,
                lambda each: each.support.low,
                lambda each: each.support.high,
            )
        ]
    ),
    "class_samples": lambda facts, axes: _by_class(facts, axes, lambda each: each.support.samples),
    "class_duplicates": lambda facts, axes: _by_class(facts, axes, lambda each: each.support.duplicates),
    "class_nonuniformity": lambda facts, axes: _by_class(facts, axes, lambda each: each.support.nonuniformity),
    "class_largest_mode_mass": lambda facts, axes: _by_class(facts, axes, lambda each: each.support.largest_mode_mass),
    "class_nonuniform": lambda facts, axes: (
        None if not facts.classes else _by_class(facts, axes, lambda each: each.nonuniform) == 1
    ),
    "fidelity_ratio": lambda facts, axes: facts.fidelity_ratio,
    "passes_quality_gate": _judged(lambda judgement: judgement.passes),
    "quality_reason": _judged(lambda judgement: str(judgement.quality)),
    "detail_ratio": _judged(lambda judgement: judgement.detail_ratio),
    "copying": _copying(lambda found: str(found.word)),
    "copied_share": _copying(lambda found: _interval(found.share())),
    "copied_share_at": _copying(lambda found: np.transpose([_interval(found.share(each)) for each in QUANTILES])),
    "copied_share_seen": _copying(lambda found: found.seen),
    "held_out_images": _copying(lambda found: found.held_out),
    "authenticity": _copying(lambda found: found.authenticity),
    "held_out_authenticity": _copying(lambda found: found.held_out_authenticity),
    "copying_z": _copying(lambda found: found.z),
    "copying_z_in_cells": _copying(lambda found: found.z_in_cells),
    "copied_index": _copying(lambda found: _padded(found.copied, (SHOWN,))),
    "copied_times": _copying(lambda found: _padded(found.times, (SHOWN,))),
    "copy_index": _copying(lambda found: _padded(found.copy, (SHOWN,))),
    "copy_distance": lambda facts, axes: _of_copies(
        facts, lambda original, copy: _padded(np.sqrt(original.squared[copy].astype(np.float64)), (SHOWN,))
    ),
    "copy_move": lambda facts, axes: _of_copies(
        facts, lambda original, copy: None if original.move is None else _move_names(original.move[copy])
    ),
    "realistic_share": lambda facts, axes: facts.realistic_share,
    "precision": _manifold("precision"),
    "recall": _manifold("recall"),
    "density": _manifold("density"),
    "coverage": _manifold("coverage"),
    "scored_images": _manifold("generated_images"),
    "frechet_distance": _score("frechet"),
    "frechet_distance_at_infinity": _score("frechet_at_infinity"),
    "kid": lambda facts, axes: (
        None
        if facts.scores is None or not len(facts.scores.kid_blocks)
        else kid_interval(facts.scores.kid_blocks, facts.support.confidence)
    ),
    "vendi_score": _score("vendi"),
    "rke": _score("rke"),
    "published_support": _published("support"),
    "corrected_support": _published("corrected"),
    "theorem_bound": _published("bound"),
    "theorem_applies": _published("applies"),
    "flagged_index": lambda facts, axes: _padded(_closest(facts, axes), (axes.flagged, 2)),
    "flagged_distance": lambda facts, axes: _padded(
        np.sqrt(facts.record.closest_squared[: axes.flagged].astype(np.float64)), (axes.flagged,)
    ),
    "reference_index": lambda facts, axes: _nearest_of(facts, _closest(facts, axes), (axes.flagged, 2), False),
    "reference_distance": lambda facts, axes: _nearest_of(facts, _closest(facts, axes), (axes.flagged, 2), True),
}
"""Function that computes each statistic of one sample from its facts."""


def sample_values(facts: SampleFacts, axes: Axes) -> dict[str, Any]:
    """Every statistic of one sample, by the name of its variable."""
    return _values(facts, axes, STATISTICS)


def real_values(facts: SampleFacts, axes: Axes) -> dict[str, Any]:
    """Every statistic that the real images have, too, as ``real_<name>``."""
    found = _values(facts, axes, (statistic for statistic in STATISTICS if statistic.real))
    return {f"real_{name}": value for name, value in found.items()}


def rate_values(rates: Sequence[DuplicateDistance]) -> dict[str, Any]:
    """The distances of rates of real pairs."""
    if not rates:
        return {}
    names = {"rate_distance": "distance", "rate_distance_low": "low", "rate_distance_high": "high"}
    return {name: np.array([getattr(each, field) for each in rates]) for name, field in names.items()} | {
        "real_copies": rates[0].copies
    }


def stacked(cells: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, np.ndarray]:
    """Arrays (trial, snapshot, …) of values by trial and snapshot; what a snapshot lacks is missing."""
    every = [cell for row in cells for cell in row]
    arrays = {}
    for name in dict.fromkeys(name for cell in every for name in cell):
        shape = next(np.shape(cell[name]) for cell in every if name in cell)
        missing: Any = np.full(shape, {"bool": False, "str": ""}.get(VARIABLES[name].kind, np.nan))
        arrays[name] = np.array([[cell.get(name, missing) for cell in row] for row in cells])
    return arrays


def numbered_from(first: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, with images numbered among the samples of the trial, of which the snapshot begins at `first`."""
    return {**values, **{name: values[name] + first for name in OF_SAMPLES if name in values}}


def _values(facts: SampleFacts, axes: Axes, statistics: Iterable[Statistic]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for statistic in statistics:
        compute = COMPUTED.get(statistic.name)
        value = None if compute is None else compute(facts, axes)
        if value is None:
            continue
        if statistic.interval:
            middle, low, high = value
            found |= {statistic.name: middle, f"{statistic.name}_low": low, f"{statistic.name}_high": high}
        else:
            found[statistic.name] = value
    return found


assert all(VARIABLES[name].dims[:2] == TRIAL for name in COMPUTED)
