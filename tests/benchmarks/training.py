"""Training steps per second against a plain PyTorch DCGAN loop, and what streaming samples costs a trial.

`python -m tests.benchmarks.training` prints the table. The baseline is the loop of the textbook: contiguous float32,
torch.optim.Adam with its defaults, one generator pass a step, no averaging of weights; same networks, batch and threads.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ganlab.models.families.dcgan import DCGAN, DCGANSettings
from ganlab.models.networks import Discriminator, Generator, initialise
from ganlab.models.train import Request, TrainSettings, train
from storage.layout import TrialLayout
from storage.shards import BackgroundWriter, ShardPlan, ShardWriter, create_samples

Row = tuple[str, float, str, str]
SHAPE = (3, 64, 64)
MODEL = DCGANSettings(latent_dim=100, generator_width=64, discriminator_width=64)
BATCH = 64
THREADS = 2


def plain_loop(images: torch.Tensor) -> Iterator[None]:
    """The textbook loop; one `next` is one step."""
    generator = Generator(MODEL.latent_dim, MODEL.generator_width, SHAPE[0], SHAPE[1], MODEL.kernel_size, False)
    discriminator = Discriminator(MODEL.discriminator_width, SHAPE[0], SHAPE[1], MODEL.kernel_size, False, "batch")
    initialise(generator)
    initialise(discriminator)
    loss = nn.BCEWithLogitsLoss()
    for_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
    while True:
        real = images[torch.randint(len(images), (BATCH,))].float() / 127.5 - 1
        fake = generator(torch.randn(BATCH, MODEL.latent_dim))
        for_discriminator.zero_grad()
        (loss(discriminator(real), ones) + loss(discriminator(fake.detach()), zeros)).backward()
        for_discriminator.step()
        for_generator.zero_grad()
        loss(discriminator(fake), ones).backward()
        for_generator.step()
        yield


def our_loop(images: np.ndarray, precision: str) -> Iterator[None]:
    """The family's own step, with batches and noise drawn as the training loop draws them."""
    family = DCGAN(MODEL, SHAPE, TrainSettings(batch_size=BATCH, precision=precision), seed=0)
    dataset = family.prepare(images)
    draws = np.random.default_rng(0)
    while True:
        family.step(lambda: dataset[torch.from_numpy(draws.integers(0, len(images), BATCH))], draws)
        yield


def steps_per_second(rounds: int = 5, steps: int = 3) -> dict[str, list[float]]:
    """Seconds per step of each loop, taken in turn so that a change of the machine's speed meets all alike."""
    images = np.random.default_rng(0).integers(0, 256, (512, *SHAPE), dtype=np.uint8)
    torch.set_num_threads(THREADS)
    loops = {
        "plain": plain_loop(torch.from_numpy(images)),
        "float32": our_loop(images, "float32"),
        "bfloat16": our_loop(images, "bfloat16"),
    }
    for loop in loops.values():
        next(loop)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            started = time.perf_counter()
            for _ in range(steps):
                next(loop)
            seconds[name].append((time.perf_counter() - started) / steps)
    return seconds


class _NoCheckpoint:
    def load(self) -> None:
        return None

    def save(self, state: object) -> None:
        return None


def streaming_cost(rounds: int = 3) -> float:
    """Extra time of a trial that writes its images to disk over one that makes the same images and drops them.

    A trial of the shipped `digits-diversity`, whole: what counts is the number of shards for each second of training.
    """
    images = np.random.default_rng(0).integers(0, 256, (1797, 1, 8, 8), dtype=np.uint8)
    settings = TrainSettings(steps=2000, batch_size=64)
    plan = ShardPlan.make(((500, 2000), (1000, 2000), (2000, 20000)), (1, 8, 8))
    requests = [Request(shard.step, shard.index, shard.stop - shard.start) for shard in plan.shards]

    def trial(sink: Callable[[np.ndarray, int, np.ndarray | None], None], drain: Callable[[], None]) -> float:
        family = DCGAN(
            DCGANSettings(latent_dim=32, generator_width=32, discriminator_width=8, refine=True),
            (1, 8, 8),
            settings,
            seed=0,
        )
        started = time.perf_counter()
        train(
            family,
            images,
            settings,
            0,
            requests,
            snapshots=(500, 1000, 2000),
            sink=sink,
            drain=drain,
            report=lambda row: None,
            checkpoint=_NoCheckpoint(),
        )
        return time.perf_counter() - started

    torch.set_num_threads(1)
    ratios = []
    for _ in range(rounds):
        dropped = trial(lambda images, shard, labels: None, lambda: None)
        with tempfile.TemporaryDirectory() as folder:
            layout = TrialLayout(Path(folder))
            create_samples(layout, plan)
            with BackgroundWriter(ShardWriter(layout, plan)) as writer:
                ratios.append(trial(writer.put, writer.drain) / dropped)
    return statistics.median(ratios) - 1


def rows() -> list[Row]:
    """Rows of the benchmark table: name, value, unit, target."""
    seconds = steps_per_second()

    def ratio(name: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds["plain"], seconds[name], strict=True))

    size = f"DCGAN {SHAPE[1]}×{SHAPE[2]}, width 64, batch {BATCH}, {THREADS} threads"
    return [
        (f"{size}: float32 against a plain PyTorch loop", ratio("float32"), "× steps/s", "≥ 0.98"),
        (f"{size}: bfloat16 against a plain PyTorch loop", ratio("bfloat16"), "× steps/s", "≥ 1.5"),
        ("streaming the images of a digits-diversity trial to disk: extra time", 100 * streaming_cost(), "%", "≤ 3"),
    ]


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
