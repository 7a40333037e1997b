"""Steps of the shipped sweeps against a plain PyTorch DCGAN loop, and what streaming samples costs a trial.

`python -m tests.benchmarks.training` prints the table. The baseline is the loop of PyTorch's DCGAN example: images in
memory, contiguous float32, torch.optim.Adam and torch's settings as they come, no averaging of weights; networks, batch
and threads are those of the sweep, on random images. Beside it runs the training loop of a trial, with all that a trial
computes between two snapshots. Each is a process of its own; they take turns. Times are CPU seconds of its one thread,
which other work on the machine disturbs less than wall seconds. The floor of a step is the time of its convolutions and
matrix products at the fastest rate that this processor shows in their precision.
"""

import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganlab.memory import keep_freed_memory
from ganlab.models.convolutions import Conv2d, ConvTranspose2d
from ganlab.models.families import make_family
from ganlab.models.families.dcgan import DCGAN, DCGANSettings
from ganlab.models.networks import Discriminator, Generator, initialise
from ganlab.models.train import Interrupted, Request, TrainSettings, make_deterministic, train
from jobs.spec.sweep import TrialSettings, load_spec
from storage.layout import TrialLayout
from storage.shards import BackgroundWriter, ShardPlan, ShardWriter, create_samples

Row = tuple[str, float, str, str]
IMAGES, ROUNDS = 512, 7
STEPS_MAX = 100_000_000


class Case(NamedTuple):
    """A shipped sweep, the shape of its images, steps in a turn, and the ratio that is aimed at."""

    sweep: str
    shape: tuple[int, int, int]
    steps: int
    target: str


CASES = (
    Case("digits-diversity", (1, 8, 8), 50, "≥ 1.3"),
    Case("fashion-diversity", (1, 32, 32), 20, "≥ 2"),
    Case("faces-diversity", (1, 64, 64), 4, "≥ 2.8"),
    Case("celeba-diversity", (3, 64, 64), 1, ""),
)


class Pace:
    """Turns of a loop: called at the end of each step, it waits for its turn, and returns True when there is none left.

    A turn is asked for by its number of steps, and answered by their CPU seconds.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._left, self._began = 0, -1.0

    def __call__(self) -> bool:
        self._left -= 1
        if self._left > 0:
            return False
        if self._began >= 0:  # else the first step, which warms up
            self._connection.send(time.process_time() - self._began)
        self._left = self._connection.recv()
        self._began = time.process_time()
        return self._left == 0


def middle_trial(case: Case) -> TrialSettings:
    """The trial in the middle of a sweep."""
    trials = load_spec(case.sweep).trials()
    return trials[len(trials) // 2]


def random_images(shape: tuple[int, int, int]) -> np.ndarray:
    """Independent random pixels, uint8 (IMAGES, C, H, W)."""
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)


def plain_step(case: Case) -> Callable[[], None]:
    """A step of the loop of PyTorch's DCGAN example, at the settings of a sweep's middle trial."""
    trial = middle_trial(case)
    model, batch = trial.model, trial.train.batch_size
    torch.set_num_threads(trial.train.threads)
    images = torch.from_numpy(random_images(case.shape))
    channels, resolution = case.shape[:2]
    generator = Generator(
        model.latent_dim, model.generator_width, channels, resolution, model.kernel_size, model.refine
    )
    discriminator = Discriminator(
        model.discriminator_width, channels, resolution, model.kernel_size, model.refine, "batch"
    )
    for network in (generator, discriminator):
        initialise(network)
        _have_layers_of_torch(network)
    loss = nn.BCEWithLogitsLoss()
    for_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    ones, zeros = torch.ones(batch), torch.zeros(batch)

    def step() -> None:
        real = images[torch.randint(len(images), (batch,))].float() / 127.5 - 1
        fake = generator(torch.randn(batch, model.latent_dim))
        for_discriminator.zero_grad()
        (loss(discriminator(real), ones) + loss(discriminator(fake.detach()), zeros)).backward()
        for_discriminator.step()
        for_generator.zero_grad()
        loss(discriminator(fake), ones).backward()
        for_generator.step()

    return step


def plain_loop(connection: Connection, case: Case) -> None:
    """The loop of PyTorch's DCGAN example."""
    step, turn_ends = plain_step(case), Pace(connection)
    step()
    while not turn_ends():
        step()


def floor_s(case: Case, precision: str) -> float:
    """Seconds of a step's convolutions and matrix products at the fastest rate of one thread here."""
    with FlopCounterMode(display=False) as counter:
        plain_step(case)()
    return float(counter.get_total_flops() / fastest_rate(precision))


def fastest_rate(precision: str) -> float:
    """Operations per second of a large matrix product or convolution, whichever is faster, by the best of nine."""
    torch.set_num_threads(1)
    dtype = getattr(torch, precision)
    matrix = torch.ones(1024, 1024, dtype=dtype)
    images = torch.ones(64, 128, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weights = torch.ones(128, 128, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    calls: tuple[tuple[int, Callable[[], object]], ...] = (
        (2 * 1024**3, lambda: matrix @ matrix),
        (2 * 64 * 16**2 * 128 * 128 * 3**2, lambda: nn.functional.conv2d(images, weights, padding=1)),
    )
    rates = []
    for operations, call in calls:
        for _ in range(9):
            started = time.process_time()
            call()
            rates.append(operations / (time.process_time() - started))
    return max(rates)


def _have_layers_of_torch(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, Conv2d):
            module.__class__ = nn.Conv2d
        elif isinstance(module, ConvTranspose2d):
            module.__class__ = nn.ConvTranspose2d


def our_loop(connection: Connection, case: Case, precision: str) -> None:
    """The training loop of a sweep's middle trial, as its process runs it, in a precision."""
    trial = middle_trial(case)
    settings = trial.train.model_copy(update={"precision": precision, "steps": STEPS_MAX})
    make_deterministic(settings.threads)
    keep_freed_memory()
    with suppress(Interrupted):
        train(
            make_family(trial.model, case.shape, settings, trial.seed),
            random_images(case.shape),
            settings,
            trial.seed,
            requests=(),
            snapshots=(),
            sink=lambda images, shard, labels: None,
            drain=lambda: None,
            report=lambda row: None,
            checkpoint=_NoCheckpoint(),
            checkpoint_every_s=math.inf,
            stop=Pace(connection),
        )


def turns(case: Case, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """CPU seconds of each loop's turns.

    The loops take turns, so that a change of the machine's speed meets all alike.
    """
    context = multiprocessing.get_context("spawn")
    loops: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {"plain": (plain_loop, (case,))}
    loops |= {precision: (our_loop, (case, precision)) for precision in ("float32", "bfloat16")}
    ends, processes = {}, []
    for name, (loop, arguments) in loops.items():
        ends[name], theirs = context.Pipe()
        processes.append(context.Process(target=loop, args=(theirs, *arguments), daemon=True))
        processes[-1].start()

    def turn(name: str) -> float:
        ends[name].send(case.steps)
        return float(ends[name].recv())

    for name in loops:
        turn(name)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name in loops:
            seconds[name].append(turn(name))
    for end in ends.values():
        end.send(0)
    for process in processes:
        process.join()
    return seconds


def rows_of(case: Case) -> list[Row]:
    """Rows of the table for one sweep."""
    trial = middle_trial(case)
    seconds = turns(case)
    shipped = trial.train.precision

    def ratio(name: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds["plain"], seconds[name], strict=True))

    other = "float32" if shipped == "bfloat16" else "bfloat16"
    title = f"{case.sweep}, width {trial.model.discriminator_width}"
    step = 1000 * statistics.median(seconds[shipped]) / case.steps
    return [
        (f"{title}: as shipped, {shipped}, against a plain loop", ratio(shipped), "× steps/s", case.target),
        (f"{title}: in {other}, against a plain loop", ratio(other), "× steps/s", ""),
        (f"{title}: a step as shipped", step, "ms of CPU", ""),
        (f"{title}: its products at the fastest rate here", 1000 * floor_s(case, shipped), "ms of CPU", ""),
    ]


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
    streaming = "streaming the images of a digits-diversity trial to disk: extra time"
    return [
        *(row for case in CASES for row in rows_of(case)),
        (streaming, 100 * streaming_cost(), "%", "≤ 3"),
    ]


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
