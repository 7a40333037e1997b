"""Small sweeps for the review page, through the functions that write a real one; nothing is trained."""

from pathlib import Path

import numpy as np

from ganlab.data.datasets import Dataset
from jobs.cli.pipeline import prepare_folder
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.spec.sweep import Spec, check_spec
from storage.layout import SweepLayout
from storage.shards import ShardPlan, ShardWriter, create_samples


def blobs(random: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Smooth pictures, uint8 (count, C, H, W)."""
    channels, height, width = shape
    y, x = np.mgrid[:height, :width] / height
    pictures = np.zeros((count, channels, height, width))
    for channel in range(channels):
        at = random.random((5, count, 1, 1))
        pictures[:, channel] = np.exp(-(((y - at[0]) / 0.3) ** 2) - ((x - at[1]) / 0.3) ** 2)
        pictures[:, channel] += np.exp(-(((y - at[2]) / 0.25) ** 2) - ((x - at[3]) / 0.25) ** 2) * at[4]
    return np.rint(pictures.clip(0, 1) * 255).astype(np.uint8)


def make_sweep(
    root: Path,
    *,
    shape: tuple[int, int, int] = (1, 8, 8),
    samples: int = 400,
    pool: int = 60,
    real: int = 300,
    seeds: int = 2,
    measured: bool = True,
    **collisions: object,
) -> tuple[SweepLayout, Spec]:
    """A measured sweep of seeds whose samples are a pool's pictures, each with noise of its own strength."""
    random = np.random.default_rng(7)
    spec = check_spec(
        {
            "name": "small",
            "dataset": {"name": "digits"},
            "model": {"family": "known-support", "pool": pool},
            "train": {"steps": 1},
            "samples": {"final_images": samples},
            "seeds": seeds,
            "collisions": {"sample_sizes": [10, 20, 40], "quality_faults": [], **collisions},
        }
    )
    layout = SweepLayout(root)
    originals = blobs(random, max(real, pool), shape)
    prepare_folder(spec, layout, Dataset(originals[:real]))
    for trial in spec.trials():
        plan = ShardPlan.make(((1, samples),), shape)
        own = layout.trial(trial.id)
        create_samples(own, plan)
        noise = random.normal(size=(samples, *shape)) * random.uniform(0, 25, (samples, 1, 1, 1))
        images = np.rint(originals[random.integers(0, pool, samples)] + noise).clip(0, 255).astype(np.uint8)
        for shard in plan.shards:
            ShardWriter(own, plan).write(shard.index, images[shard.start : shard.stop])
    if measured:
        measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, lambda *done: None), spec.trials())
    return layout, spec
