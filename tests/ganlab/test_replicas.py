"""Replicas trained stacked make what each of them makes alone."""

import io
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from ganlab.families import FAMILIES
from ganlab.randomness import generator_for
from ganlab.replicas import Replicas, stackable, steps_of
from ganlab.train import TrainSettings, draw

IMAGES = np.random.default_rng(0).integers(0, 256, (96, 1, 8, 8), dtype=np.uint8)
POINTS = np.random.default_rng(0).standard_normal((96, 2)).astype(np.float32)
SMALL = {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4}
# After so few steps, what float32 loses by adding in another order is far below what one step moves.
TOLERANCE = 1e-4
CASES = [
    ("dcgan", {"refine": True}), ("dcgan", {"loss": "log", "kernel_size": 5}), ("wgan", {"discriminator_steps": 2}),
    ("wgan-gp", {"discriminator_steps": 2}), ("pacgan", {"packing": 3}),
]  # fmt: skip


def make(name: str, seed: int, items: np.ndarray, changes: dict[str, Any], **train: Any) -> Any:
    settings = TrainSettings(**{"batch_size": 8, "learning_rate": 1e-3, **train})
    family = FAMILIES[name]
    return family(family.Settings.model_validate({**SMALL, **changes}), items.shape[1:], settings, seed)


def batches(family: Any, items: np.ndarray, seed: int, step: int) -> tuple[Any, np.random.Generator]:
    draws, dataset = generator_for(seed, "train", step), family.prepare(items)
    return (lambda: dataset[torch.from_numpy(draws.integers(0, len(items), 8))]), draws


def alone(family: Any, items: np.ndarray, seed: int, steps: range) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in family.step(*batches(family, items, seed, step)).items()}
            for step in steps]  # fmt: skip


def distance(one: Any, other: Any) -> float:
    """Largest difference of a weight or batch statistic, of the networks and of their averages."""
    pairs = [(one.networks, other.networks), (one.averages["generator"].network, other.averages["generator"].network)]
    return max(
        float((a.double() - b.double()).abs().max())
        for mine, theirs in pairs for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("items", [IMAGES, POINTS], ids=["images", "points"])
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_stacked_replicas_are_what_they_are_alone(name: str, changes: dict[str, Any], items: np.ndarray) -> None:
    rates = (1e-3, 3e-3, 1e-3)
    together = [make(name, seed, items, changes, learning_rate=rate) for seed, rate in enumerate(rates)]
    step = steps_of(together)
    rows = []
    for number in range(6):
        given = [batches(family, items, seed, number) for seed, family in enumerate(together)]
        rows.append(step([each[0] for each in given], [each[1] for each in given]))
    for seed, (family, rate) in enumerate(zip(together, rates, strict=True)):
        single = make(name, seed, items, changes, learning_rate=rate)
        losses = alone(single, items, seed, range(6))
        assert distance(family, single) < TOLERANCE
        for row, own in zip(rows, losses, strict=True):
            assert {key: float(value) for key, value in row[seed].items()} == pytest.approx(own, abs=TOLERANCE)
        images, wanted = (draw(each, 20, np.random.default_rng(1)).images for each in (family, single))
        assert np.abs(images.astype(float) - wanted).max() <= (1 if items.ndim == 4 else TOLERANCE)
        moved = make(name, seed, items, changes)
        assert distance(moved, single) > 10 * TOLERANCE  # so that the comparison means something


def test_a_replica_goes_on_alone_from_its_checkpoint_and_stacked_from_that_of_one() -> None:
    together = [make("dcgan", seed, IMAGES, {}) for seed in range(2)]
    step = steps_of(together)
    for number in range(3):
        given = [batches(family, IMAGES, seed, number) for seed, family in enumerate(together)]
        step([each[0] for each in given], [each[1] for each in given])
    buffer = io.BytesIO()
    torch.save(together[1].state(), buffer)

    def kept() -> Any:  # anew each time: optimizers go on in the tensors that they are given
        return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)

    continued = make("dcgan", 1, IMAGES, {})
    continued.load_state(kept())
    alone(continued, IMAGES, 1, range(3, 6))
    restacked = [make("dcgan", seed, IMAGES, {}) for seed in range(2)]
    step = steps_of(restacked)
    restacked[1].load_state(kept())  # after stacking, as the training loop does
    for number in range(3, 6):
        given = [batches(family, IMAGES, seed, number) for seed, family in enumerate(restacked)]
        step([each[0] for each in given], [each[1] for each in given])
    single = make("dcgan", 1, IMAGES, {})
    alone(single, IMAGES, 1, range(6))
    assert distance(continued, single) < TOLERANCE
    assert distance(restacked[1], single) < TOLERANCE


def test_replicas_in_threads_end_when_they_like() -> None:
    """Two of three end early: the third takes all its steps, as alone."""
    replicas, families, seen = Replicas(3), {}, {}

    def live(seed: int, steps: int) -> None:
        with replicas.member(seed):
            family = replicas.join(seed, make("dcgan", seed, IMAGES, {}))
            families[seed] = family
            for step in range(steps):
                seen[seed] = step
                family.step(*batches(family, IMAGES, seed, step))

    threads = [Thread(target=live, args=(seed, steps)) for seed, steps in enumerate((2, 4, 8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert seen == {0: 1, 1: 3, 2: 7}
    for seed, steps in enumerate((2, 4, 8)):
        single = make("dcgan", seed, IMAGES, {})
        alone(single, IMAGES, seed, range(steps))
        assert distance(families[seed], single) < TOLERANCE


def test_a_replica_that_never_comes_is_not_waited_for() -> None:
    replicas, ended = Replicas(2), []

    def live() -> None:
        with replicas.member(0):
            family = replicas.join(0, make("dcgan", 0, IMAGES, {}))
            family.step(*batches(family, IMAGES, 0, 0))
            ended.append(0)

    thread = Thread(target=live)
    thread.start()
    with pytest.raises(ValueError, match="no such"), replicas.member(1):
        raise ValueError("no such thing")
    thread.join(60)
    assert ended == [0]


def test_families_with_other_steps_are_not_stacked() -> None:
    assert {name for name, family in FAMILIES.items() if stackable(family)} == {"dcgan", "wgan", "wgan-gp", "pacgan"}
