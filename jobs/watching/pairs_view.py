"""Metrics of a sweep's pairs: from the records, the running comparison and people's verdicts.

Invariant: a record is read once, and only the few numbers that are needed of it.
"""

from collections.abc import Iterable
from functools import lru_cache
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from ganlab.quality.embeddings.names import PIXELS, folder_name
from monitoring.metrics import QUANTILES, MetricValues
from storage.layout import SweepLayout
from storage.progress import Measuring, read_measuring
from storage.verdicts import read_verdicts, standing
from storage.watch import PairCounts, Signature, TrialWatch, read_nearest, read_pair_counts, signature, snapshot_records

if TYPE_CHECKING:
    from ganlab.statistics.support import Estimate

REFERENCE, HELD_OUT = "reference", "held-out"  # stand for real images where a trial's id may stand
FRESH_S = 120.0  # a comparison that said nothing for longer is not under way; its tiles take seconds


class PairsView:
    """Reads the pairs of one sweep."""

    def __init__(self, layout: SweepLayout) -> None:
        self._sweep = self._layout = layout
        self._records: dict[str, dict[int, tuple[Signature, PairCounts]]] = {}
        self._copies: dict[str, dict[int, tuple[Signature, bool]]] = {}
        self._folders: dict[str, Signature] = {}
        self._verdicts: tuple[Signature, int] = (None, 0)
        self._measuring: Measuring | None = None
        self._compared = 0.0

    def look(
        self,
        new: MetricValues,
        trials: Iterable[TrialWatch],
        now: float,
        confidence: float,
        *,
        embedding: str = PIXELS,
        moved: bool = False,
    ) -> None:
        """Fill in the metrics of pairs in an embedding; `moved` where moved copies are looked for."""
        trials = list(trials)
        own = self._sweep.in_space(folder_name(embedding))
        if own != self._layout:
            self._layout, self._records, self._copies, self._folders = own, {}, {}, {}
        for trial_id in (REFERENCE, *(trial.id for trial in trials)):
            try:
                self._read(trial_id, confidence, moved)
            except (OSError, ValueError):
                new.add("ganlab_exporter_problems", 1, "unreadable")
        real = self._counts(REFERENCE).get(0)
        supports = []
        for trial in trials:
            counts = self._counts(trial.id)
            self._add_snapshots(new, trial, set(counts))
            for each in counts.values():
                new.add("ganlab_pairs", each.pairs, "compared")
                new.add("ganlab_duplicates", each.duplicates)
                new.add("ganlab_verdicts", each.closest, "missing")
            if counts:
                newest = counts[max(counts)]
                supports.append(_support(newest, confidence))
                if real is not None and _collapsed(newest, real, confidence):
                    new.add("ganlab_trials_collapsed", 1, family_of(trial))
                if self._copies.get(trial.id, {}).get(max(counts), (None, False))[1]:
                    new.add("ganlab_trials_copying", 1, family_of(trial))
        new.add("ganlab_duplicates", 0)
        for quantile in QUANTILES if supports else ():
            new.set("ganlab_support_size", float(np.quantile(supports, float(quantile))), quantile)
        given = min(self._judged(new), new.get("ganlab_verdicts", "missing"))
        new.set("ganlab_verdicts", given, "given")
        new.add("ganlab_verdicts", -given, "missing")
        self._add_measuring(new, now)

    @property
    def newest(self) -> float:
        """Time at which the newest record was written, in seconds since 1970 by the file system's clock; 0 for never."""
        return max(
            (found[0] / 1e9 for each in self._records.values() for found, _ in each.values() if found), default=0
        )

    @property
    def last_rate(self) -> float:
        """Pairs per second of the comparison under way, or of the last one; 0 when there was none."""
        last = self._measuring
        return last.pairs_done / (last.written - last.started) if last and last.written > last.started else 0.0

    def _read(self, trial_id: str, confidence: float, moved: bool) -> None:
        """Read what is new among a trial's records."""
        folder = signature(self._layout.pair_record(trial_id, 0).parent)
        if trial_id in self._folders and folder == self._folders[trial_id]:
            return
        known = self._records.setdefault(trial_id, {})
        for step, (path, found) in snapshot_records(self._layout, trial_id).items():
            if step not in known or known[step][0] != found:
                known[step] = found, read_pair_counts(path)
            if trial_id != REFERENCE:
                self._read_copying(trial_id, step, confidence, moved)
        self._folders[trial_id] = folder

    def _read_copying(self, trial_id: str, step: int, confidence: float, moved: bool) -> None:
        """Read whether the samples of a snapshot are copies of training images, where its distances are new."""
        from ganlab.quality.copying import Word, copying  # late: scipy is slow to load
        from ganlab.quality.fidelity import RealNeighbours

        layout, squared = self._layout, "squared" if moved else "neighbour_squared"
        file, training, held_out = (
            [layout.moved_neighbours(*each) for each in ((trial_id, step), (REFERENCE, 0), (HELD_OUT, 0))]
            if moved
            else [layout.pair_record(trial_id, step), layout.real_neighbours, layout.held_out_neighbours]
        )
        version = signature(file)
        known = self._copies.setdefault(trial_id, {})
        if version is None or not training.exists() or known.get(step, (None, False))[0] == version:
            return
        of_training, _ = read_nearest(training, "squared", "neighbour")
        of_held_out = read_nearest(held_out, "squared", "neighbour")[0] if held_out.exists() else None
        real = RealNeighbours(of_training, of_held_out)
        word = copying(*read_nearest(file, squared, "neighbour"), real, confidence).word
        known[step] = version, word == Word.COPIES

    def _counts(self, trial_id: str) -> dict[int, PairCounts]:
        return {step: counts for step, (_, counts) in self._records.get(trial_id, {}).items()}

    def _add_snapshots(self, new: MetricValues, trial: TrialWatch, measured: set[int]) -> None:
        completed = trial.end is not None and trial.end.status == "completed"
        for step, images in snapshots_of(trial).items():
            if step in measured:
                new.add("ganlab_snapshots", 1, "measured")
                continue
            drawn = completed or step <= trial.steps
            if trial.end is not None and not drawn:
                continue  # it failed or was stopped before: this will never be drawn
            new.add("ganlab_snapshots", 1, "to_measure" if drawn else "to_draw")
            new.add("ganlab_pairs", comb(images, 2), "to_compare")

    def _add_measuring(self, new: MetricValues, now: float) -> None:
        measuring, before = read_measuring(self._layout), self._measuring
        if measuring is not None:
            same = before is not None and before.started == measuring.started
            self._compared += max(0.0, measuring.pairs_done - (before.pairs_done if before and same else 0.0))
            self._measuring = measuring
        going = measuring is not None and measuring.tiles_left > 0 and abs(now - measuring.written) < FRESH_S
        new.set("ganlab_pairs_compared_total", self._compared)
        new.set("ganlab_pairs_per_second", self.last_rate if going else 0)
        new.set("ganlab_tiles_left", measuring.tiles_left if measuring is not None and going else 0)

    def _judged(self, new: MetricValues) -> int:
        """Flagged pairs of samples that a person has judged."""
        try:
            now = signature(self._layout.verdicts)
            if now != self._verdicts[0]:
                pairs = standing(read_verdicts(self._layout))
                self._verdicts = now, sum(trial != REFERENCE for trial, _, _ in pairs)
        except (OSError, ValueError):
            new.add("ganlab_exporter_problems", 1, "unreadable")
        return self._verdicts[1]


def family_of(trial: TrialWatch) -> str:
    """The kind of model; "unknown" until its settings could be read."""
    return str(trial.settings.get("model", {}).get("family", "unknown"))


def snapshots_of(trial: TrialWatch) -> dict[int, int]:
    """Images of every snapshot that a trial is to draw, by step; empty until its settings could be read."""
    samples, steps = trial.settings.get("samples", {}), trial.settings.get("train", {}).get("steps")
    if steps is None or trial.gone:
        return {}
    early = {int(step): int(samples["images_per_snapshot"]) for step in samples["snapshots"]}
    return {**early, int(steps): int(samples["final_images"])}


def _support(counts: PairCounts, confidence: float) -> float:
    return counts.support if counts.support is not None else float(_estimate(counts, confidence).size)


def _collapsed(counts: PairCounts, real: PairCounts, confidence: float) -> bool:
    from ganlab.statistics.diversity import collapsed
    from ganlab.statistics.support import ratio_interval

    return collapsed(ratio_interval(_estimate(real, confidence), _estimate(counts, confidence))[1])


@lru_cache(maxsize=4096)
def _estimate(counts: PairCounts, confidence: float) -> "Estimate":
    from ganlab.statistics.support import estimate_from_degrees  # late: scipy is slow to load

    numbers, images = np.array(counts.degrees).T
    return estimate_from_degrees(np.repeat(numbers, images), confidence)
