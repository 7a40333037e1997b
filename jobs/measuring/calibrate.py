"""Statistics of people's verdicts: calibrated threshold, effective numbers at it, agreement, published test.

Invariant: a function of ``verdicts.jsonl`` and the records alone; without a verdict nothing is said, and a pair that is
in no record is not counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ganlab.statistics.intervals import wilson_interval
from ganlab.verdicts.agreement import Agreement, agreement
from ganlab.verdicts.calibration import Calibration, calibrate, calibrated_support
from ganlab.verdicts.selection import NearPairs, closest_of_samples, pieces, weights
from jobs.measuring.measure import REFERENCE, Snapshot
from jobs.measuring.measured import MeasuredSnapshot, measured_sweep
from jobs.measuring.near import edges_of, near_pairs, protocol_size
from jobs.spec.sweep import CollisionSettings, TrialSettings
from storage.layout import SweepLayout
from storage.verdicts import DISTINCT, DUPLICATE, UNDECIDED, VERDICTS, Verdict, read_verdicts, standing

CURVE_POINTS = 61
MEMORY_BYTES = 2**31  # for lists of near pairs that the review did not need: of earlier snapshots
SHARE = {DUPLICATE: 1.0, UNDECIDED: 0.5, DISTINCT: 0.0}  # a pair that people can't decide is as much one as the other
Snapshots = Mapping[Snapshot, MeasuredSnapshot]


class _Pair(NamedTuple):
    """A pair as it is named in verdicts."""

    snapshot: Snapshot
    numbers: tuple[int, int]


@dataclass(frozen=True)
class _Said:
    """All standing verdicts on one pair."""

    pair: _Pair
    verdicts: tuple[Verdict, ...]

    @property
    def share(self) -> float:
        """Share of duplicate among them."""
        return float(np.mean([SHARE[each.verdict] for each in self.verdicts]))

    @property
    def majority(self) -> str:
        """Verdict of more than half of those who decided; else undecided."""
        count = Counter(each.verdict for each in self.verdicts)
        if count[DUPLICATE] == count[DISTINCT]:
            return UNDECIDED
        return DUPLICATE if count[DUPLICATE] > count[DISTINCT] else DISTINCT

    @property
    def chosen(self) -> str:
        """Why it was shown; when for several reasons, the one that made it certain to be."""
        reasons = {each.chosen for each in self.verdicts}
        return next(
            reason for reason in ("same", "control", "closest", "sample", "drawn", *reasons) if reason in reasons
        )


def verdict_answers(
    layout: SweepLayout, trials: Sequence[TrialSettings], steps: Sequence[int], settings: CollisionSettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and coordinates of the results that rest on verdicts; both empty while there are none.

    Parameters
    ----------
    steps
        Of the snapshots, in the order of the results.
    """
    held = standing(line for line in read_verdicts(layout) if line.embedding == settings.embedding)
    if not held:
        return {}, {}
    sweep = measured_sweep(layout, trials, settings, MEMORY_BYTES, map)
    snapshots, edges = sweep.snapshots, edges_of(sweep.threshold_squared)
    near = near_pairs(sweep.layout, list(snapshots.values()), float(edges[-1]), MEMORY_BYTES, map, lambda *done: None)
    said = {
        pair: _Said(pair, tuple(by_name.values()))
        for (trial, step, numbers), by_name in held.items()
        if (pair := _Pair(Snapshot(trial, step), numbers)).snapshot in snapshots
    }
    calibration = _calibrate(said.values(), snapshots, near, edges, settings)
    variables = _who(said.values(), settings) | _flagged(said, trials, steps, snapshots, settings)
    variables |= _published(said, trials, steps, snapshots, near, settings)
    coordinates: dict[str, Any] = {}
    if calibration is not None:
        at = np.linspace(0, calibration.widest, CURVE_POINTS)
        low, high = calibration.interval(at)
        ends = calibration.threshold_interval
        coordinates = {"judged_distance": at, "distance_bin": (edges[:-1] + edges[1:]) / 2}
        variables |= {
            "duplicate_probability": calibration.probability(at),
            "duplicate_probability_low": low,
            "duplicate_probability_high": high,
            "calibrated_threshold": calibration.threshold,
            "calibrated_threshold_low": ends[0],
            "calibrated_threshold_high": ends[1],
        }
        variables |= _pieces(said.values(), snapshots, near, edges)
        variables |= _supports(calibration, trials, steps, near)
    return variables, coordinates


def _located(each: _Said, snapshots: Snapshots, near: Mapping[Snapshot, NearPairs]) -> float | None:
    """Distance of a judged pair, from the records; None when it is in none."""
    measured = snapshots[each.pair.snapshot]
    low, high = (number - measured.first for number in each.pair.numbers)
    found = near.get(each.pair.snapshot)
    lists = [(measured.record.closest_index, measured.record.closest_squared)]
    if found is not None:
        lists.append((found.pairs.index, found.pairs.squared_distance))
    for index, squared in lists:
        place = np.flatnonzero((index[:, 0] == low) & (index[:, 1] == high))
        if len(place):
            return float(np.sqrt(squared[place[0]]))
    return None


def _generated(
    said: Iterable[_Said], snapshots: Snapshots, near: Mapping[Snapshot, NearPairs], edges: np.ndarray
) -> list[tuple[_Said, float]]:
    """Judged pairs of samples that lie within the widest distance, with theirs."""
    located = ((each, _located(each, snapshots, near)) for each in said if each.pair.snapshot.trial != REFERENCE)
    return [(each, at) for each, at in located if at is not None and at <= edges[-1]]


def _calibrate(
    said: Iterable[_Said],
    snapshots: Snapshots,
    near: Mapping[Snapshot, NearPairs],
    edges: np.ndarray,
    settings: CollisionSettings,
) -> Calibration | None:
    judged = [(each, at) for each, at in _generated(said, snapshots, near, edges) if each.pair.snapshot in near]
    if not judged:
        return None
    at = np.array([distance for _, distance in judged])
    piece = pieces(at, edges)
    names = {snapshot: number for number, snapshot in enumerate(snapshots)}
    counts = {
        snapshot: np.bincount(pieces(each.distance, edges), minlength=len(edges) - 1) * each.stand_for
        for snapshot, each in near.items()
    }
    weight = weights(
        [names[each.pair.snapshot] for each, _ in judged],
        piece,
        [each.chosen != "drawn" for each, _ in judged],
        [counts[each.pair.snapshot][place] for (each, _), place in zip(judged, piece, strict=True)],
    )
    return calibrate(at, [each.share for each, _ in judged], weight, edges, settings.confidence)


def _pieces(
    said: Iterable[_Said], snapshots: Snapshots, near: Mapping[Snapshot, NearPairs], edges: np.ndarray
) -> dict[str, Any]:
    """Plain shares by piece of the distance: what the curve may be held against."""
    judged = _generated(said, snapshots, near, edges)
    place = pieces([at for _, at in judged], edges)
    count = np.bincount(place, minlength=len(edges) - 1)
    total = np.bincount(place, [each.share for each, _ in judged], len(edges) - 1)
    with np.errstate(invalid="ignore"):
        return {"duplicate_share": total / np.where(count, count, np.nan), "judged_pairs": count.astype(np.int64)}


def _supports(
    calibration: Calibration, trials: Sequence[TrialSettings], steps: Sequence[int], near: Mapping[Snapshot, NearPairs]
) -> dict[str, Any]:
    names = ("calibrated_support_size", "calibrated_support_size_low", "calibrated_support_size_high")
    found = np.full((3, len(trials), len(steps)), np.nan)
    variables: dict[str, Any] = dict(zip(names, found, strict=True))
    for snapshot, each in near.items():
        support = calibrated_support(each.pairs.index, each.distance, each.samples, calibration)
        values = (support.size, support.low, support.high)
        if snapshot.trial == REFERENCE:
            variables |= {f"real_{name}": value for name, value in zip(names, values, strict=True)}
        else:
            row = next((place for place, trial in enumerate(trials) if trial.id == snapshot.trial), None)
            if row is not None and snapshot.step in steps:
                found[:, row, list(steps).index(snapshot.step)] = values
    return variables


def _who(said: Iterable[_Said], settings: CollisionSettings) -> dict[str, Any]:
    """Numbers of reviewers and verdicts, and agreement with one another and on the controls."""
    everything = list(said)
    reviewers = sorted({verdict.reviewer for each in everything for verdict in each.verdicts})
    controls = [each for each in everything if each.chosen in ("control", "same")]
    among, on_controls = (_agreement(each, reviewers, settings.confidence) for each in (everything, controls))
    real = [SHARE[verdict.verdict] for each in controls if each.chosen == "control" for verdict in each.verdicts]
    same = [SHARE[verdict.verdict] for each in controls if each.chosen == "same" for verdict in each.verdicts]
    return {
        "reviewers": len(reviewers),
        "verdicts": sum(len(each.verdicts) for each in everything),
        "agreement_kappa": among.kappa,
        "agreement_kappa_low": among.low,
        "agreement_kappa_high": among.high,
        "agreement_observed": among.observed,
        "agreement_pairs": among.pairs,
        "control_kappa": on_controls.kappa,
        "control_verdicts": len(real),
        "identical_control_verdicts": len(same),
        "control_duplicates": np.mean(real) if real else np.nan,
        "identical_control_duplicates": np.mean(same) if same else np.nan,
    }


def _agreement(said: Sequence[_Said], reviewers: Sequence[str], confidence: float) -> Agreement:
    table = np.full((len(said), len(reviewers)), -1)
    for row, each in zip(table, said, strict=True):
        for verdict in each.verdicts:
            row[reviewers.index(verdict.reviewer)] = VERDICTS.index(verdict.verdict)
    return agreement(table, confidence)


def _flagged(
    said: Mapping[_Pair, _Said],
    trials: Sequence[TrialSettings],
    steps: Sequence[int],
    snapshots: Snapshots,
    settings: CollisionSettings,
) -> dict[str, Any]:
    """The majority's verdict on each of the closest pairs."""
    words = np.full((len(trials), len(steps), settings.flagged), "", dtype="U10")
    for row, trial in enumerate(trials):
        for column, step in enumerate(steps):
            snapshot = Snapshot(trial.id, step)
            if snapshot not in snapshots:
                continue
            measured = snapshots[snapshot]
            for place, index in enumerate(measured.record.closest_index[: settings.flagged] + measured.first):
                judged = said.get(_Pair(snapshot, (int(index.min()), int(index.max()))))
                words[row, column, place] = "" if judged is None else judged.majority
    return {"flagged_verdict": words}


def _published(
    said: Mapping[_Pair, _Said],
    trials: Sequence[TrialSettings],
    steps: Sequence[int],
    snapshots: Snapshots,
    near: Mapping[Snapshot, NearPairs],
    settings: CollisionSettings,
) -> dict[str, Any]:
    """The published protocol: does the majority call one of the closest pairs of a sample a duplicate?

    Counted are the first samples, as many as were shown, up to the first with a pair that nobody judged: those that
    happen to be judged in full would hold more or fewer duplicates. Pairs beyond the widest distance are distinct.
    """
    shape = (len(trials), len(steps))
    whole = {name: np.full(shape, np.nan) for name in ("judged_sample_size", "n_judged_samples", "judged_collisions")}
    names = ("judged_collision_probability", "judged_collision_probability_low", "judged_collision_probability_high")
    shares = {name: np.full(shape, np.nan) for name in (*names, "judged_published_support")}
    for row, trial in enumerate(trials):
        for column, step in enumerate(steps):
            snapshot = Snapshot(trial.id, step)
            if snapshot not in near:
                continue
            measured, each = snapshots[snapshot], near[snapshot]
            size = protocol_size(measured.record, settings)
            shown = max(
                (
                    verdict.samples
                    for pair, each_said in said.items()
                    if pair.snapshot == snapshot
                    for verdict in each_said.verdicts
                ),
                default=0,
            )
            hits = counted = 0
            for places in closest_of_samples(each.pairs, each.samples, size, settings.flagged)[:shown]:
                index = each.pairs.index[places] + measured.first
                judged = [said.get(_Pair(snapshot, (int(low), int(high)))) for low, high in index.tolist()]
                if None in judged:
                    break
                counted += 1
                hits += any(pair is not None and pair.majority == DUPLICATE for pair in judged)
            if not counted:
                continue
            low, high = wilson_interval(hits, counted, settings.confidence)
            at = (row, column)
            whole["judged_sample_size"][at], whole["n_judged_samples"][at] = size, counted
            whole["judged_collisions"][at] = hits
            for name, value in zip(names, (hits / counted, low, high), strict=True):
                shares[name][at] = value
            shares["judged_published_support"][at] = size**2 if hits / counted >= 0.5 else np.nan
    return whole | shares
