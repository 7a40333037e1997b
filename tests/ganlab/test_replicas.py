"""Replicas trained stacked make what each of them makes alone."""

import io
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from ganlab.models.families import FAMILIES
from ganlab.models.families.dcgan import DCGAN, Opponents
from ganlab.models.replicas import REPLACED, Replicas, stackable
from ganlab.models.train import TrainSettings, draw
from ganlab.randomness import generator_for

IMAGES = np.random.default_rng(0).integers(0, 256, (96, 1, 8, 8), dtype=np.uint8)
POINTS = np.random.default_rng(0).standard_normal((96, 2)).astype(np.float32)
SMALL = {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4}
# After so few steps, what float32 loses by adding in another order is far below what one step moves.
TOLERANCE = 1e-4
CASES = [
    ("dcgan", {"refine": True}),
    ("dcgan", {"loss": "log", "kernel_size": 5}),
    ("wgan", {"discriminator_steps": 2}),
    ("wgan-gp", {"discriminator_steps": 2}),
    ("pacgan", {"packing": 3}),
]


def make(name: str, seed: int, items: np.ndarray, changes: dict[str, Any], **train: Any) -> Any:
    settings = TrainSettings(**{"batch_size": 8, "learning_rate": 1e-3, **train})
    family = FAMILIES[name]
    return family(family.Settings.model_validate({**SMALL, **changes}), items.shape[1:], settings, seed)


def batches(family: Any, items: np.ndarray, seed: int, step: int) -> tuple[Any, np.random.Generator]:
    draws, dataset = generator_for(seed, "train", step), family.prepare(items)
    return (lambda: dataset[torch.from_numpy(draws.integers(0, len(items), 8))]), draws


def live(family: Any, items: np.ndarray, seed: int, steps: range) -> list[dict[str, float]]:
    return [
        {name: float(value) for name, value in family.step(*batches(family, items, seed, step)).items()}
        for step in steps
    ]


def live_together(
    families: Sequence[Any], items: np.ndarray, steps: Sequence[range], states: Mapping[int, Any] | None = None
) -> list[list[dict[str, float]]]:
    """Each in a thread of its own, from its state if it has one, as the training loop does it; returns their losses."""
    replicas, losses = Replicas(len(families)), {}

    def member(seed: int) -> None:
        with replicas.member(seed):
            family = replicas.join(seed, families[seed])
            if states and seed in states:
                family.load_state(states[seed])
            losses[seed] = live(family, items, seed, steps[seed])

    threads = [Thread(target=member, args=(seed,)) for seed in range(len(families))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return [losses[seed] for seed in range(len(families))]


def distance(one: Any, other: Any) -> float:
    """Largest difference of a weight or batch statistic, of the networks and of their averages."""
    pairs = [(one.networks, other.networks), (one.averages["generator"].network, other.averages["generator"].network)]
    return max(
        float((a.double() - b.double()).abs().max())
        for mine, theirs in pairs
        for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("items", [IMAGES, POINTS], ids=["images", "points"])
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_stacked_replicas_are_what_they_are_alone(name: str, changes: dict[str, Any], items: np.ndarray) -> None:
    """Each with its own rates and decay, of which some share one."""
    trains = [
        {"learning_rate": 1e-3, "ema_decay": 0.5},
        {"learning_rate": 3e-3, "discriminator_learning_rate": 1e-3, "ema_decay": 0.9},
        {"learning_rate": 1e-3, "discriminator_learning_rate": 2e-3, "ema_decay": 0.9},
    ]
    together = [make(name, seed, items, changes, **own) for seed, own in enumerate(trains)]
    rows = live_together(together, items, [range(6)] * 3)
    for seed, (family, own) in enumerate(zip(together, trains, strict=True)):
        single = make(name, seed, items, changes, **own)
        for row, wanted in zip(rows[seed], live(single, items, seed, range(6)), strict=True):
            assert row == pytest.approx(wanted, abs=TOLERANCE)
        assert distance(family, single) < TOLERANCE
        images, wanted = (draw(each, 20, np.random.default_rng(1)).images for each in (family, single))
        assert np.abs(images.astype(float) - wanted).max() <= (1 if items.ndim == 4 else TOLERANCE)
        moved = make(name, seed, items, changes, **own)
        assert distance(moved, single) > 10 * TOLERANCE  # so that the comparison means something


def test_a_replica_goes_on_alone_from_its_checkpoint_and_stacked_from_that_of_one() -> None:
    together = [make("dcgan", seed, IMAGES, {}) for seed in range(2)]
    live_together(together, IMAGES, [range(3)] * 2)
    buffer = io.BytesIO()
    torch.save(together[1].state(), buffer)

    def kept() -> Any:  # anew each time: optimizers go on in the tensors that they are given
        return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)

    continued = make("dcgan", 1, IMAGES, {})
    continued.load_state(kept())
    live(continued, IMAGES, 1, range(3, 6))
    restacked = [make("dcgan", seed, IMAGES, {}) for seed in range(2)]
    live_together(restacked, IMAGES, [range(3, 6)] * 2, {1: kept()})
    single = make("dcgan", 1, IMAGES, {})
    live(single, IMAGES, 1, range(6))
    assert distance(continued, single) < TOLERANCE
    assert distance(restacked[1], single) < TOLERANCE


def test_replicas_end_when_they_like() -> None:
    """Two of three end early: the third takes all its steps, as alone."""
    together, steps = [make("dcgan", seed, IMAGES, {}) for seed in range(3)], [range(2), range(4), range(8)]
    losses = live_together(together, IMAGES, steps)
    assert [len(of_one) for of_one in losses] == [2, 4, 8]
    for seed, family in enumerate(together):
        single = make("dcgan", seed, IMAGES, {})
        live(single, IMAGES, seed, steps[seed])
        assert distance(family, single) < TOLERANCE


def test_a_replica_that_never_comes_is_not_waited_for() -> None:
    replicas, ended = Replicas(2), []

    def first() -> None:
        with replicas.member(0):
            family = replicas.join(0, make("dcgan", 0, IMAGES, {}))
            family.step(*batches(family, IMAGES, 0, 0))
            ended.append(0)

    thread = Thread(target=first)
    thread.start()
    with pytest.raises(ValueError, match="no such"), replicas.member(1):
        raise ValueError("no such thing")
    thread.join(60)
    assert ended == [0]


class LeastSquares(DCGAN):
    """A family whose step is its own (Mao et al. 2017)."""

    def play(self, opponents: Opponents) -> Mapping[str, torch.Tensor]:
        real, fake = opponents.real(), opponents.generate()
        loss = (opponents.judge(real) - 1).square().mean(-1) + opponents.judge(fake.detach()).square().mean(-1)
        opponents.optimizer_step(loss, "discriminator")
        with opponents.frozen("discriminator"):
            on_generator = (opponents.judge(fake) - 1).square().mean(-1)
            opponents.optimizer_step(on_generator, "generator")
        opponents.update_averages()
        return {"least_squares": loss.detach(), "generator_loss": on_generator.detach()}


@pytest.mark.parametrize("items", [IMAGES, POINTS], ids=["images", "points"])
def test_a_step_that_a_family_overrides_is_the_one_that_is_stacked(items: np.ndarray) -> None:
    def one(seed: int) -> Any:
        settings = DCGAN.Settings.model_validate(SMALL)
        return LeastSquares(settings, items.shape[1:], TrainSettings(batch_size=8, learning_rate=1e-3), seed)

    assert stackable(LeastSquares)
    together = [one(seed) for seed in range(2)]
    rows = live_together(together, items, [range(4)] * 2)
    for seed, family in enumerate(together):
        single, other = one(seed), make("dcgan", seed, items, {})
        for row, wanted in zip(rows[seed], live(single, items, seed, range(4)), strict=True):
            assert row == pytest.approx(wanted, abs=TOLERANCE)
        assert distance(family, single) < TOLERANCE
        live(other, items, seed, range(4))
        assert distance(family, other) > 10 * TOLERANCE  # DCGAN's step goes elsewhere


@pytest.mark.parametrize("name", REPLACED)
def test_what_a_stack_does_not_call_may_not_be_overridden(name: str) -> None:
    """A family that clips its gradients in `optimizer_step`, say, would lose that when stacked, without a word."""
    assert not stackable(type("Own", (DCGAN,), {name: lambda self, *_: None}))


def test_families_with_other_steps_are_not_stacked() -> None:
    assert {name for name, family in FAMILIES.items() if stackable(family)} == {"dcgan", "wgan", "wgan-gp", "pacgan"}
