"""Choice and order of the pairs of a sweep that people judge.

Invariant: the choice is a function of the sweep's files and the options alone, so every reviewer, page and restart has
the same pairs under the same numbers.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ganlab.quality.gate import Evidence, judge
from ganlab.quality.scores import Scores
from ganlab.randomness import generator_for
from ganlab.verdicts.selection import NearPairs, closest_of_samples, draw, in_turn
from jobs.measuring.comparison import Map
from jobs.measuring.facts import evidence, gate_of
from jobs.measuring.measure import REFERENCE
from jobs.measuring.measured import MeasuredSnapshot, MeasuredSweep, measured_sweep
from jobs.measuring.near import edges_of, near_pairs, protocol_size
from jobs.measuring.scoring import read_scores, scores_name
from jobs.spec.sweep import CollisionSettings, SpecError, TrialSettings
from storage.layout import SweepLayout
from storage.pair_records import PairRecord
from storage.reference import read_reference

DRAWN = 360  # pairs around the threshold: forty in each of nine pieces of the distance
SAMPLES = 4  # samples of the published protocol of each trial
CONTROLS = 0.1  # of the pairs shown blindly, as many again are controls
SAME = 0.15  # of the controls, one real image twice


@dataclass(frozen=True)
class ReviewPair:
    """A pair that people are asked about.

    Attributes
    ----------
    trial, step : str, int
        Whose samples; of real images ``"reference"`` and 0.
    pair : tuple of int
        Numbers of the images among the samples of their trial.
    chosen : str
        As `storage.verdicts.Verdict.chosen`.
    distance : float
        Between them.
    rank : int
        Place among the closest pairs of its snapshot, from 1; 0 when it is none of those.
    nearest, nearest_distance : tuples of int, float
        The training image nearest to each of the two; empty for real images.
    """

    trial: str
    step: int
    pair: tuple[int, int]
    chosen: str
    distance: float
    rank: int
    nearest: tuple[int, ...]
    nearest_distance: tuple[float, ...]


@dataclass(frozen=True)
class Part:
    """Pairs that are shown together; people may stop after each part."""

    title: str
    pairs: tuple[ReviewPair, ...]


@dataclass(frozen=True)
class Choice:
    """All pairs of a review.

    Attributes
    ----------
    parts : tuple of Part
        In the order in which they are shown; a blind review shuffles the pairs of a part.
    blind : bool
        Whether the review is blind.
    embedding : str
        Space of the distances.
    samples : int
        Samples of each trial that are shown as in the published protocol.
    threshold : float
        The automatic threshold.
    gate_passed : bool
        Whether the pairs are of trials that passed the fidelity gate; else none did, and they are of all.
    """

    parts: tuple[Part, ...]
    blind: bool
    embedding: str
    samples: int
    threshold: float
    gate_passed: bool

    @property
    def fingerprint(self) -> str:
        """Names the pairs and their order."""
        content = [
            self.blind,
            self.embedding,
            [[part.title, [asdict(pair) for pair in part.pairs]] for part in self.parts],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def order(self, reviewer: str) -> tuple[ReviewPair, ...]:
        """Every pair, in the order in which a reviewer sees them; in a blind review each has an order of their own."""
        ordered: list[ReviewPair] = []
        for number, part in enumerate(self.parts):
            random = generator_for(zlib.crc32(f"{self.fingerprint} {reviewer}".encode()), "review order", number)
            places = random.permutation(len(part.pairs)) if self.blind else range(len(part.pairs))
            ordered += [part.pairs[place] for place in places]
        return tuple(ordered)


@dataclass(frozen=True, eq=False)
class Candidates:
    """A snapshot that people are asked about."""

    measured: MeasuredSnapshot
    near: NearPairs

    @property
    def record(self) -> PairRecord:
        """Record of the snapshot's pairs."""
        return self.measured.record

    def pair(self, index: np.ndarray) -> tuple[int, int]:
        """Numbers among the samples of the trial."""
        low, high = sorted(int(number) + self.measured.first for number in index)
        return low, high

    def are_among(self, pairs: set[tuple[int, int]]) -> np.ndarray:
        """Mask of the near pairs that are among these, boolean (m,)."""
        index = self.near.pairs.index
        numbers = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2) - self.measured.first
        count = self.record.samples
        return np.isin(index[:, 0] * count + index[:, 1], numbers[:, 0] * count + numbers[:, 1])


def choose(
    layout: SweepLayout,
    trials: Sequence[TrialSettings],
    settings: CollisionSettings,
    *,
    blind: bool,
    drawn: int = DRAWN,
    samples: int = SAMPLES,
    memory_bytes: int,
    map: Map,
    progress: Callable[[int, int], None],
) -> Choice:
    """Choose the pairs: drawn around the threshold, the closest of each trial, and those of the published protocol.

    Parameters
    ----------
    blind
        With real pairs among them as controls, and in shuffled order.
    drawn
        Pairs to draw around the threshold, about.
    samples
        Samples of each trial whose closest pairs are shown, as in the published protocol.
    memory_bytes, map, progress
        As `jobs.measuring.near.near_pairs`.

    Raises
    ------
    SpecError
        If the sweep is not measured yet, its samples are no images, or its threshold is 0.
    """
    missing = SpecError(f"{layout.root}: nothing is measured here yet; run `ganlab measure {layout.root}` first")
    if not layout.reference.exists():
        raise missing
    if len(shape := read_reference(layout).shape) != 4:
        raise SpecError(f"{layout.root}: its samples are of shape {shape[1:]}; only pairs of images can be judged")
    sweep = measured_sweep(layout, trials, settings, memory_bytes, map)
    edges = edges_of(sweep.threshold_squared)
    last = {snapshot.trial: each for snapshot, each in sweep.snapshots.items()}
    reference = last.pop(REFERENCE, None)
    if reference is None or not last:
        raise missing
    of_real = _scores(sweep, reference)
    held_out = Evidence(sweep.real.distance, None if of_real is None else of_real.detail)
    passed = {
        trial: each
        for trial, each in last.items()
        if judge(evidence(each.record, _scores(sweep, each)), held_out, gate_of(settings)).passes
    }
    wanted = {**(passed or last), **({REFERENCE: reference} if blind else {})}
    near = near_pairs(sweep.layout, list(wanted.values()), float(edges[-1]), memory_bytes, map, progress)
    sets = {trial: Candidates(each, near[each.snapshot]) for trial, each in wanted.items() if each.snapshot in near}
    controls = sets.pop(REFERENCE, None)
    closest = {trial: _closest(each, settings.flagged) for trial, each in sets.items()}
    protocol = {trial: _protocol(each, settings, samples) for trial, each in sets.items()}
    asked = {trial: {shown.pair for shown in (*closest[trial], *protocol[trial])} for trial in sets}
    around = _around(sets, asked, edges, -(-drawn // (len(edges) - 1)))
    others = [shown for group in (closest, protocol) for each in group.values() for shown in each]
    parts = [
        Part("pairs drawn around the threshold", tuple(around)),
        Part("closest pairs of each trial", tuple(pair for pair in others if pair.chosen == "closest")),
        Part("samples of the published test", tuple(pair for pair in others if pair.chosen == "sample")),
    ]
    if blind:
        shown = [around, others]
        mixed = _controls(controls, edges, [round(CONTROLS * len(pairs)) for pairs in shown])
        parts = [
            Part(f"part {number + 1}", (*pairs, *more))
            for number, (pairs, more) in enumerate(zip(shown, mixed, strict=True))
        ]
    threshold = float(np.sqrt(sweep.threshold_squared))
    return Choice(tuple(part for part in parts if part.pairs), blind, sweep.embedding, samples, threshold, bool(passed))


def _scores(sweep: MeasuredSweep, each: MeasuredSnapshot) -> Scores | None:
    return read_scores(sweep.layout.scores(*each.snapshot), scores_name(each.name))


def _closest(each: Candidates, count: int) -> list[ReviewPair]:
    record = each.record
    found = min(count, len(record.closest_index))
    return [
        _shown(each, record.closest_index[place], "closest", float(np.sqrt(record.closest_squared[place])), place + 1)
        for place in range(found)
    ]


def _protocol(each: Candidates, settings: CollisionSettings, samples: int) -> list[ReviewPair]:
    """Closest pairs of disjoint samples, but for those that are among the closest of the snapshot."""
    size = protocol_size(each.record, settings)
    blocks = closest_of_samples(each.near.pairs, each.near.samples, size, settings.flagged)[:samples]
    known = {tuple(pair) for pair in each.record.closest_index[: settings.flagged].tolist()}
    distance = each.near.distance
    return [
        _shown(each, each.near.pairs.index[place], "sample", float(distance[place]))
        for block in blocks
        for place in block
        if tuple(each.near.pairs.index[place].tolist()) not in known
    ]


def _around(
    sets: Mapping[str, Candidates], asked: Mapping[str, set[tuple[int, int]]], edges: np.ndarray, count: int
) -> list[ReviewPair]:
    """As many of each piece of the distance, from all trials in turn, the pieces interleaved."""
    trials = list(sets)
    orders = {
        trial: draw(
            each.near.distance,
            each.are_among(asked[trial]),
            edges,
            count,
            generator_for(_seed(trial, each.measured.snapshot.step), "review draw"),
        )
        for trial, each in sets.items()
    }
    pieces = []
    for piece in range(len(edges) - 1):
        taken = in_turn([orders[trial][piece] for trial in trials], count, generator_for(piece, "review turns"))
        pieces.append([(trials[owner], orders[trials[owner]][piece][turn]) for owner, turn in taken])
    shown = []
    for turn in range(count):
        for piece_pairs in pieces:
            if turn < len(piece_pairs):
                trial, place = piece_pairs[turn]
                each = sets[trial]
                distance = float(each.near.distance[place])
                shown.append(_shown(each, each.near.pairs.index[place], "drawn", distance))
    return shown


def _controls(real: Candidates | None, edges: np.ndarray, counts: Sequence[int]) -> list[list[ReviewPair]]:
    """Real pairs at all distances, and a few images beside themselves, for each part."""
    if real is None or not len(real.near.pairs):
        return [[] for _ in counts]
    random = generator_for(0, "review controls")
    order = draw(real.near.distance, np.zeros(len(real.near.pairs), dtype=bool), edges, sum(counts), random)
    places = [order[owner][turn] for owner, turn in in_turn(order, sum(counts), random)]
    shown = [
        _shown(real, real.near.pairs.index[place], "control", float(real.near.distance[place])) for place in places
    ]
    for place in range(0, len(shown), round(1 / SAME)):
        number = int(random.integers(real.record.samples))
        shown[place] = _shown(real, np.array([number, number]), "same", 0.0)
    random.shuffle(shown)
    stops = np.cumsum(counts)
    return [shown[stop - count : stop] for stop, count in zip(stops, counts, strict=True)]


def _shown(each: Candidates, index: np.ndarray, chosen: str, distance: float, rank: int = 0) -> ReviewPair:
    snapshot, record = each.measured.snapshot, each.record
    low, high = sorted(int(number) for number in index)
    nearest, away = (), ()  # type: tuple[int, ...], tuple[float, ...]
    if snapshot.trial != REFERENCE:
        nearest = (int(record.neighbour[low]), int(record.neighbour[high]))
        away = (float(np.sqrt(record.neighbour_squared[low])), float(np.sqrt(record.neighbour_squared[high])))
    return ReviewPair(snapshot.trial, snapshot.step, each.pair(index), chosen, distance, rank, nearest, away)


def _seed(trial: str, step: int) -> int:
    return zlib.crc32(f"{trial} {step}".encode())
