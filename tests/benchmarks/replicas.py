"""Replicas trained stacked against the same trained one after another: steps of all of them per second.

`python -m tests.benchmarks.replicas` prints the table, with the widths at which stacking pays.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from ganlab.data.datasets.gaussians_grid import GaussiansGridSettings
from ganlab.models.families.dcgan import DCGAN, DCGANSettings
from ganlab.models.replicas import ReplicaStep, Stack
from ganlab.models.train import TrainSettings
from ganlab.randomness import generator_for

Row = tuple[str, float, str, str]
PLANE = GaussiansGridSettings(points=10_000).load().images
IMAGES = np.random.default_rng(0).integers(0, 256, (1000, 1, 8, 8), dtype=np.uint8)


def speedup(items: np.ndarray, width: int, replicas: int, batch: int, device: str = "cpu", rounds: int = 5) -> float:
    """How many times faster one step of all replicas is, stacked; median over rounds that take turns."""
    settings = TrainSettings(batch_size=batch)
    model = DCGANSettings(latent_dim=8, generator_width=width, discriminator_width=width, refine=True)

    def make() -> list[DCGAN]:
        return [DCGAN(model, items.shape[1:], settings, seed, device) for seed in range(replicas)]

    apart, together = make(), make()
    dataset, stacked = apart[0].prepare(items), Stack(together)
    step = 0

    def draws() -> list[tuple[Callable[[], torch.Tensor], np.random.Generator]]:
        nonlocal step
        step += 1
        own = [generator_for(seed, "train", step) for seed in range(replicas)]

        def batch_of(draws: np.random.Generator) -> Callable[[], torch.Tensor]:
            return lambda: dataset[torch.from_numpy(draws.integers(0, len(items), batch))]

        return [(batch_of(each), each) for each in own]

    def one_by_one() -> None:
        for family, given in zip(apart, draws(), strict=True):
            family.step(*given)

    def all_at_once() -> None:
        stacked.step([ReplicaStep(*each) for each in draws()])

    def seconds(run: Callable[[], None], steps: int = 5) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            run()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    seconds(one_by_one, 2), seconds(all_at_once, 2)
    return statistics.median(seconds(one_by_one) / seconds(all_at_once) for _ in range(rounds))


def rows(rounds: int = 5) -> list[Row]:
    """Rows of the benchmark table: name, value, unit, target."""
    torch.set_num_threads(1)
    unit = "× steps/s"
    table: list[Row] = [
        (
            f"16 GANs of points stacked, width {width}, batch {batch}",
            speedup(PLANE, width, 16, batch, rounds=rounds),
            unit,
            "≥ 3" if (width, batch) == (32, 64) else "reported",
        )
        for width, batch in ((16, 64), (32, 64), (64, 64), (128, 64), (128, 256))
    ]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    table += [
        (
            f"8 DCGANs at 8×8 stacked, width {width}, {device}",
            speedup(IMAGES, width, 8, 64, device, rounds),
            unit,
            "reported",
        )
        for device in devices
        for width in (4, 8, 16, 32)
    ]
    return table


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
