"""The estimates of `ganlab.statistics.support`, under the name that programs outside this project import."""

from ganlab.statistics.support import (
    Estimate,
    Frequency,
    Spread,
    collision_frequency,
    collision_probability,
    corrected_support,
    degrees_of,
    estimate,
    estimate_from_degrees,
    published_support,
    ratio_interval,
    sample_size_at_half,
    spread,
    theorem_bound,
    without_largest_mode,
)

__all__ = [
    "Estimate",
    "Frequency",
    "Spread",
    "collision_frequency",
    "collision_probability",
    "corrected_support",
    "degrees_of",
    "estimate",
    "estimate_from_degrees",
    "published_support",
    "ratio_interval",
    "sample_size_at_half",
    "spread",
    "theorem_bound",
    "without_largest_mode",
]
