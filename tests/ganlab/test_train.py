"""The training loop: a function of settings and seed, whatever interrupts it."""

import io
import platform
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from ganlab.models.families import FAMILIES
from ganlab.models.families.dcgan import DCGANSettings
from ganlab.models.train import Interrupted, NonFiniteError, Request, TrainSettings, make_deterministic, train

IMAGES = np.random.default_rng(0).integers(0, 256, (96, 1, 8, 8), dtype=np.uint8)
SETTINGS = TrainSettings(steps=24, batch_size=8, log_every=4, learning_rate=1e-3)


class MemoryCheckpoint:
    """Keeps a state as bytes, as a file would."""

    def __init__(self) -> None:
        self.bytes: bytes | None = None

    def load(self) -> dict[str, Any] | None:
        return None if self.bytes is None else torch.load(io.BytesIO(self.bytes), weights_only=True)

    def save(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.bytes = buffer.getvalue()


class Run:
    """One life of a trial's process, and what it handed out."""

    def __init__(self, model: DCGANSettings | None = None, settings: TrainSettings = SETTINGS, seed: int = 0) -> None:
        self.model = model or DCGANSettings(latent_dim=4, generator_width=4, discriminator_width=4, refine=True)
        self.settings, self.seed = settings, seed
        self.checkpoint = MemoryCheckpoint()
        self.shards: dict[int, np.ndarray] = {}
        self.rows: dict[int, dict[str, float]] = {}

    def live(self, stop_at: int | None = None, device: str = "cpu", stop: Callable[[], bool] | None = None) -> "Run":
        family = FAMILIES["dcgan"](self.model, IMAGES.shape[1:], self.settings, self.seed, device)
        requests = [Request(step, shard, 10) for shard, step in enumerate((10, 10, 24)) if shard not in self.shards]

        def report(row: Any) -> None:
            self.rows[row["step"]] = {name: value for name, value in row.items() if "per_second" not in name}

        train(
            family,
            IMAGES,
            self.settings,
            self.seed,
            requests,
            snapshots=(10, 24),
            sink=lambda images, shard, labels: self.shards.__setitem__(shard, images),
            drain=lambda: None,
            report=report,
            checkpoint=self.checkpoint,
            stop=stop or (lambda: stop_at is not None and max(self.rows, default=0) >= stop_at),
        )
        return self


def assert_equal(one: Run, other: Run) -> None:
    assert one.rows == other.rows
    assert one.shards.keys() == other.shards.keys()
    for shard in one.shards:
        np.testing.assert_array_equal(one.shards[shard], other.shards[shard])


@pytest.mark.parametrize("stop_at", [4, 8, 10, 16])
@pytest.mark.parametrize("loss", ["non-saturating", "log", "wasserstein-clip", "wasserstein-gp"])
def test_a_resumed_run_equals_an_unbroken_one(loss: str, stop_at: int) -> None:
    model = DCGANSettings(latent_dim=4, generator_width=4, discriminator_width=4, loss=loss)
    unbroken, broken = Run(model).live(), Run(model)
    with pytest.raises(Interrupted):
        broken.live(stop_at)
    assert_equal(broken.live(), unbroken)


@pytest.mark.parametrize("asks", [1, 2, 10, 11, 12, 13, 25])
def test_a_run_stopped_after_any_step_equals_an_unbroken_one(asks: int) -> None:
    """Between logged steps, and in the middle of a snapshot of two shards (step 10 is asked three times)."""
    unbroken, broken = Run().live(), Run()
    asked = count(1)
    with pytest.raises(Interrupted):
        broken.live(stop=lambda: next(asked) >= asks)
    assert not broken.rows or max(broken.rows) <= asks
    assert_equal(broken.live(), unbroken)


def test_another_seed_gives_other_images() -> None:
    assert not np.array_equal(Run(seed=0).live().shards[2], Run(seed=1).live().shards[2])


def test_shards_of_one_snapshot_differ() -> None:
    shards = Run(settings=SETTINGS.model_copy(update={"learning_rate": 0.03, "ema_decay": 0.0})).live().shards
    assert not np.array_equal(shards[0], shards[1])


def test_bfloat16_resumes_exactly_too() -> None:
    settings = SETTINGS.model_copy(update={"precision": "bfloat16"})
    unbroken, broken = Run(settings=settings).live(), Run(settings=settings)
    with pytest.raises(Interrupted):
        broken.live(8)
    assert_equal(broken.live(), unbroken)


def test_a_diverging_run_says_at_which_step() -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(NonFiniteError, match="step 4"):
        Run(settings=settings).live()


def test_random_state_of_the_process_does_not_matter() -> None:
    torch.manual_seed(1)
    first = Run().live()
    torch.rand(7)
    assert_equal(Run().live(), first)


def test_the_average_follows_the_weights() -> None:
    settings = SETTINGS.model_copy(update={"ema_decay": 0.0})
    family = FAMILIES["dcgan"](Run().model, IMAGES.shape[1:], settings, 0)
    dataset = family.prepare(IMAGES)
    family.step(lambda: dataset[torch.arange(8)], np.random.default_rng(0))
    for average, weight in zip(
        family.averages["generator"].network.parameters(), family.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(average, weight, rtol=0, atol=0)


def test_images_of_one_batch_are_independent() -> None:
    """Each image is a function of its own latent vector: in another batch it comes out the same, up to rounding."""
    run = Run()
    family = FAMILIES["dcgan"](run.model, IMAGES.shape[1:], SETTINGS, 0)
    latent = torch.randn(6, 4)
    together = family.averages["generator"].network(latent)
    alone = torch.cat([family.averages["generator"].network(row[None]) for row in latent])
    torch.testing.assert_close(together, alone)


def test_new_memory_is_not_filled_and_no_bit_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    make_deterministic(torch.get_num_threads())
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    plain = Run().live()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    assert_equal(Run().live(), plain)


FAULTS = """
import resource, sys, threading
import numpy as np
from ganlab.memory import keep_freed_memory

def work():
    if sys.argv[1] == "keep":
        keep_freed_memory()
    for number in range(13):
        if number == 3:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [np.ones(2**20) for _ in range(6)]
        del arrays
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)  # in a sweep, a trial runs in a thread
thread.start()
thread.join()
"""


@pytest.mark.process
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    def faults(how: str) -> int:
        run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert faults("keep") < 20
    assert faults("as it comes") > 200, "the C library has changed: this test looks at nothing"


START = """
import sys
from ganlab.data.datasets.digits import DigitsSettings
from tests.ganlab.test_train import Run, make_deterministic
make_deterministic(1)
DigitsSettings().load()
Run().live()
print(sorted({"sklearn", "sympy", "torch._dynamo", "torch._inductor"} & sys.modules.keys()))
"""


@pytest.mark.process
def test_training_on_digits_loads_neither_pytorchs_compiler_nor_scikit_learn() -> None:
    """Each takes as long as the rest of PyTorch, in every process of every trial."""
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]
