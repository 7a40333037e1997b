"""The report and the table of a small sweep, written by the storage functions that a real one is written by."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganlab.support import Estimate, collision_frequency, collision_probability, estimate
from jobs.report import answer, results_table, write_report
from jobs.strict import SpecError
from jobs.table import Measured, Table, magnitude
from storage.layout import SweepLayout
from storage.reference import write_reference
from storage.results import write_results
from storage.samples import Samples
from storage.shards import ShardPlan, ShardWriter, create_samples

SIZES = [10, 20, 50, 100]
FLAGGED = 6
GATE = 1.25


class Sweep:
    """Writes a sweep of trials whose samples are drawn from pools of known sizes."""

    def __init__(self, root: Path, shape: tuple[int, int, int] = (1, 8, 8), samples: int = 400, real: int = 300) -> None:
        self.layout, self.shape, self.samples, self.random = SweepLayout(root), shape, samples, np.random.default_rng(5)
        self.real = self._pictures(real)
        self.coordinates: dict[str, list[Any]] = {}
        self.cells: list[dict[str, Any]] = []
        self.steps, self.logged = [100, 200], np.arange(0, 201, 1)
        write_reference(self.layout, self.real, fingerprint="real")

    def _pictures(self, count: int) -> np.ndarray:
        """Smooth blobs, so that a person looking at the page sees something."""
        channels, height, width = self.shape
        y, x = np.mgrid[:height, :width] / height
        at = self.random.random((4, count, 1, 1))
        blob = np.exp(-(((y - at[0]) / 0.3) ** 2) - ((x - at[1]) / 0.3) ** 2) + np.exp(-(((x - at[2]) / 0.2) ** 2)) * at[3]
        return np.repeat((blob.clip(0, 1) * 255).astype(np.uint8)[:, None], channels, axis=1)

    def trial(
        self, trial_id: str, pool: int, *, fidelity: float = 1.1, status: str = "completed", reason: str = "",
        measured: int = 2, stored: bool = True, **coordinates: Any,
    ) -> None:  # fmt: skip
        """Add a trial; `measured` of its two snapshots are complete."""
        plan = ShardPlan(tuple((step, self.samples) for step in self.steps), self.shape, self.samples, self.samples)
        images = self._pictures(pool)
        own = self.layout.trial(trial_id)
        drawn = self.random.integers(0, pool, (len(self.steps), self.samples))
        if stored:
            create_samples(own, plan)
            for shard in plan.shards[:measured]:
                ShardWriter(own, plan).write(shard.index, images[drawn[shard.index]])
        nothing = self._cell(np.zeros((0, 2), dtype=int), np.zeros(0), np.nan, measured=False)
        for snapshot in range(len(self.steps)):
            if snapshot >= measured:
                self.cells.append(nothing)
                continue
            first, second = np.triu_indices(self.samples, 1)
            same = drawn[snapshot][first] == drawn[snapshot][second]
            pairs = np.stack([first[same], second[same]], axis=1)
            closest = np.stack([first[:FLAGGED], second[:FLAGGED]], axis=1) if len(pairs) < FLAGGED else pairs[:FLAGGED]
            self.cells.append(self._cell(pairs, closest + snapshot * self.samples, fidelity, measured=True))
        values = {"trial": trial_id, "family": "dcgan", "status": status, "reason": reason} | coordinates
        for name, value in values.items():
            self.coordinates.setdefault(name, []).append(value)

    def _cell(self, pairs: np.ndarray, closest: np.ndarray, fidelity: float, measured: bool) -> dict[str, Any]:
        found: Estimate = estimate(pairs, self.samples)
        frequencies = [collision_frequency(pairs, self.samples, size) for size in SIZES]
        cell: dict[str, Any] = {
            "support_size": found.size, "support_size_low": found.low, "support_size_high": found.high,
            "sample_size_at_half": found.sample_size_at_half, "sample_size_at_half_low": found.sample_size_at_half_low,
            "sample_size_at_half_high": found.sample_size_at_half_high, "fidelity_ratio": fidelity, "precision": 0.8,
            "largest_mode_mass": found.largest_mode_mass, "one_sided": found.one_sided, "samples": self.samples,
            "duplicates": found.duplicates, "verdict_possible": fidelity <= GATE,
            "collision_probability": [each.probability for each in frequencies],
            "collision_probability_low": [each.low for each in frequencies],
            "collision_probability_high": [each.high for each in frequencies],
            "collision_probability_model": [collision_probability(found.p2, size) for size in SIZES],
            "flagged_index": closest, "flagged_distance": 100.0 + np.arange(FLAGGED),
            "reference_index": np.tile([3, 7], (FLAGGED, 1)), "reference_distance": np.full((FLAGGED, 2), 250.5),
        }  # fmt: skip
        if measured:
            return cell
        missing = {name: np.full(np.shape(value), np.nan) for name, value in cell.items()}
        counts = {"samples": -1, "duplicates": -1, "one_sided": False, "verdict_possible": False}
        indices = dict.fromkeys(("flagged_index", "reference_index"), np.full((FLAGGED, 2), -1))
        return missing | counts | indices | {"flagged_distance": np.full(FLAGGED, np.nan)}

    def write(self) -> SweepLayout:
        trials = len(self.coordinates["trial"])
        variables: dict[str, Any] = {
            name: np.array([cell[name] for cell in self.cells]).reshape(trials, len(self.steps), *np.shape(self.cells[0][name]))
            for name in self.cells[0]
        }
        noise = self.random.normal(0, 0.1, (2, trials, len(self.logged)))
        variables |= {
            "generator_loss": noise[0] + 1 + self.logged / 200, "discriminator_loss": noise[1] + 1.3 - self.logged / 400,
            "threshold": 103.0, "real_samples": len(self.real), "real_duplicates": 20, "real_support_size": 2242.5,
            "real_support_size_low": 1500.0, "real_support_size_high": 3700.0,
        }  # fmt: skip
        coordinates = self.coordinates | {"step": self.steps, "sample_size": SIZES, "logged_step": self.logged}
        attributes = {"title": "a <b>sweep</b> & more", "confidence": 0.95, "fidelity_gate": GATE, "embedding": "pixels",
                      "threshold": {"chosen_by": "set in the sweep"}}  # fmt: skip
        self.layout.spec.write_text("provenance: {ganlab: 9.8.7, torch: '<script>'}\n", encoding="utf-8")
        write_results(self.layout, coordinates, variables, attributes)
        return self.layout
