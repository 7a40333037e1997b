"""Figures of trials at one fidelity, and in one number of samples, where trials can be compared.

Invariant: a function of what is measured; a snapshot below the quality gate, or of a trial that did not complete,
enters no figure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganlab.pairs.exact import Index
from ganlab.statistics.hill_numbers import rarefaction
from ganlab.statistics.matching import at_fidelity, matched_fidelity
from storage.statistics import STATISTICS, Statistic


def common_size_values(degrees: Sequence[Sequence[Index | None]]) -> dict[str, Any]:
    """Distinct images among as many samples of each snapshot as the smallest one has, by rarefaction.

    Parameters
    ----------
    degrees : sequence (t) of sequence (s) of int64 (n,) or None
        Duplicates of each sample; None of a snapshot that is not measured.

    Returns
    -------
    mapping
        `common_sample_size`, and `distinct_at_common_size` (t, s); empty while no snapshot is measured.
    """
    sizes = [len(each) for row in degrees for each in row if each is not None]
    if not sizes:
        return {}
    common = min(sizes)
    found = [
        [math.nan if each is None else float(rarefaction(each, np.array([common])).distinct[0]) for each in row]
        for row in degrees
    ]
    return {"common_sample_size": float(common), "distinct_at_common_size": np.array(found)}


def matched_values(variables: Mapping[str, Any], status: Sequence[str]) -> dict[str, Any]:
    """Interpolate the figures of completed trials at one fidelity ratio that the most of them reach.

    Parameters
    ----------
    variables : mapping
        Of the results: `fidelity_ratio` and `passes_quality_gate` (t, s), and statistics declared as `matched`.
    status : sequence of str (t,)
        State of each trial.

    Returns
    -------
    mapping
        `matched_fidelity`, and `<name>_matched` (t,) of each such statistic, NaN for trials that do not reach it; empty
        if no two trials reach one fidelity ratio.
    """
    if "fidelity_ratio" not in variables or "passes_quality_gate" not in variables:
        return {}
    counts = np.asarray(variables["passes_quality_gate"], dtype=bool) & (np.asarray(status) == "completed")[:, None]
    fidelity = np.where(counts, variables["fidelity_ratio"], np.nan)
    ratio = matched_fidelity(fidelity)
    if np.isnan(ratio):
        return {}
    found: dict[str, Any] = {"matched_fidelity": ratio}
    for statistic in STATISTICS:
        if not statistic.matched:
            continue
        for end in _ends(statistic):
            if f"{statistic.name}{end}" in variables:
                found[f"{statistic.name}_matched{end}"] = at_fidelity(
                    fidelity, variables[f"{statistic.name}{end}"], ratio, geometric=statistic.over_seeds == "geometric"
                )
    return found


def _ends(statistic: Statistic) -> tuple[str, ...]:
    return ("", "_low", "_high") if statistic.interval else ("",)
