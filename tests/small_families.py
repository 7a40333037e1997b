"""Small families of every kind, and a trial of one that lives once or is broken off: for tests on any device.

Invariant: imports nothing but what training needs: no pytest, Ray or Dask.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ganlab.models.families import FAMILIES
from ganlab.models.train import Request, TrainSettings, train

DRAWS = np.random.default_rng(0)
IMAGES = DRAWS.integers(0, 256, (96, 1, 8, 8), dtype=np.uint8)
LABELS = DRAWS.integers(0, 3, 96)
POINTS = DRAWS.standard_normal((96, 2)).astype(np.float32)
SMALL: dict[str, dict[str, Any]] = {
    "ali": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "code_width": 8},
    "bigan": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "code_width": 8},
    "dcgan": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4},
    "diffusion": {"generator_width": 4, "sampling_steps": 3, "sampler": "ancestral"},
    "flow": {"generator_width": 4, "sampling_steps": 3},
    "gmm": {"components": 3},
    "infogan": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "categories": 3},
    "known-support": {"pool": 20},
    "mix": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "components": 2},
    "pacgan": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "packing": 3},
    "r3gan": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4},
    "stacked": {
        "latent_dim": 4,
        "upper_latent_dim": 3,
        "generator_width": 4,
        "discriminator_width": 4,
        "upper_width": 8,
        "classes": 3,
        "features": 16,
        "classifier_steps": 6,
        "joint_after": 8,
    },
    "vae": {"latent_dim": 4, "generator_width": 4},
    "wgan": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "discriminator_steps": 2},
    "wgan-gp": {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "discriminator_steps": 2},
}
TRAINED = sorted(name for name, family in FAMILIES.items() if family.trained)  # the others: test_checkpoint.py
SETTINGS = TrainSettings(steps=20, batch_size=8, log_every=4, learning_rate=1e-3)


def make(name: str, shape: tuple[int, ...] = (1, 8, 8), device: str = "cpu", **changes: Any) -> Any:
    family = FAMILIES[name]
    return family(family.Settings.model_validate({**SMALL[name], **changes}), shape, SETTINGS, 0, device)


class Run:
    """One life of a trial's process after another, with what they handed out."""

    def __init__(self, name: str, items: np.ndarray = IMAGES, device: str = "cpu") -> None:
        self.name, self.items, self.device, self.saved = name, items, device, b""
        self.shards: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        self.rows: dict[int, dict[str, float]] = {}

    def load(self) -> dict[str, Any] | None:
        return torch.load(io.BytesIO(self.saved), weights_only=True) if self.saved else None

    def save(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.saved = buffer.getvalue()

    def live(self, stop_at: int | None = None) -> "Run":
        steps = 0

        def stop() -> bool:
            nonlocal steps
            steps += 1
            return steps == stop_at

        train(
            make(self.name, self.items.shape[1:], self.device),
            self.items,
            SETTINGS,
            0,
            [Request(step, shard, 10) for shard, step in enumerate((8, 20)) if shard not in self.shards],
            labels=LABELS,
            snapshots=(8, 20),
            drain=lambda: None,
            checkpoint=self,
            stop=stop,
            sink=lambda images, shard, labels: self.shards.__setitem__(shard, (images, labels)),
            report=lambda row: self.rows.__setitem__(
                int(row["step"]), {name: value for name, value in row.items() if "per_second" not in name}
            ),
        )
        return self
