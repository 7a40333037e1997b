"""Trainings that differ by seed or by a rate alone, stacked: a step of all of them is one pass of stacked networks.

Invariant: each replica remains a family of its own, with its own random numbers, optimizer state, averages and
checkpoint; stacked, it takes the steps that it would take alone, up to the rounding of sums in another order.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from threading import Condition
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganlab.models.families import Family
from ganlab.models.families.base import NextBatch
from ganlab.models.families.dcgan import DCGAN, gradient_penalty
from ganlab.models.stacking import StackedNetwork

REPLACED = ("__init__", "build", "step", "optimizer_step", "frozen", "update_averages")
"""Methods of a family that a stacked step does not call: a stack has its own, or supposes DCGAN's."""


def stackable(family: type[Family]) -> bool:
    """True if trainings of this family can be stacked: a DCGAN that overrides none of `REPLACED`."""
    return issubclass(family, DCGAN) and all(getattr(family, name) is getattr(DCGAN, name) for name in REPLACED)


class ReplicaStep(NamedTuple):
    """Batches and random draws of one replica for a step."""

    next_batch: NextBatch
    draws: np.random.Generator


class Replicas:
    """Trainings in threads of one process that take their steps together.

    Each thread runs the ordinary training loop under ``with replicas.member(number):`` with the family that `join` gives
    back. A step is taken when every replica still there has come to it; one that has ended, or failed, is not waited for.

    Parameters
    ----------
    count : int
        Number of replicas.
    """

    def __init__(self, count: int) -> None:
        self._state = Condition()
        self._families: dict[int, DCGAN] = {}
        self._members = set(range(count))
        self._turns: dict[int, ReplicaStep] = {}
        self._losses: dict[int, Mapping[str, Tensor]] = {}
        self._stacked: list[int] = []
        self._error: BaseException | None = None
        self._stack: Stack | None = None

    @contextmanager
    def member(self, number: int) -> Iterator[None]:
        """Act as replica `number` within the context; the others go on however it ends."""
        try:
            yield
        finally:
            with self._state:
                self._members.discard(number)
                self._state.notify_all()

    def join(self, number: int, family: Family) -> Family:
        """Put a new family in; its steps are taken together with the others'."""
        assert isinstance(family, DCGAN)
        with self._state:
            self._families[number] = family
            self._state.notify_all()
            self._state.wait_for(lambda: self._families.keys() >= self._members)
        family.step = partial(self._step, number)  # type: ignore[method-assign]
        return family

    def _step(self, number: int, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        with self._state:
            self._turns[number] = ReplicaStep(next_batch, draws)
            self._state.notify_all()
            # Whoever first sees that all have come takes the step for all.
            self._state.wait_for(lambda: number not in self._turns or self._turns.keys() >= self._members)
            if number in self._turns:
                self._take_step()
                self._state.notify_all()
            if self._error is not None:
                raise RuntimeError("the step of stacked replicas failed") from self._error
            return self._losses.pop(number)

    def _take_step(self) -> None:
        present = sorted(self._turns)
        turns = [self._turns.pop(number) for number in present]
        try:
            if self._stack is None or present != self._stacked:
                self._stack = Stack([self._families[number] for number in present])  # the others have ended
                self._stacked = present
            losses = self._stack.step(turns)
            self._losses |= zip(present, losses, strict=True)
        except BaseException as error:
            self._error = error


class Stack:
    """The stacked networks of replicas: `Opponents` of all of them."""

    def __init__(self, families: Sequence[DCGAN]) -> None:
        self.families, self.first = list(families), families[0]
        self.networks = {
            name: StackedNetwork([family.networks[name] for family in families]) for name in self.first.networks
        }
        for family in families:
            for name, average in family.averages.items():
                average.follow(family.networks[name])
        self.optimizers = {name: self._one_optimizer(name) for name in self.networks}
        self.autocast = self.first.autocast

    def step(self, turns: Sequence[ReplicaStep]) -> list[Mapping[str, Tensor]]:
        """One step of every replica, as its family takes it."""
        self._both = list(zip(self.families, turns, strict=True))
        logged = self.first.play(self)
        return [{name: values[number] for name, values in logged.items()} for number in range(len(turns))]

    def real(self) -> Tensor:
        """Next real items of every replica, side by side."""
        items = [family.real(turn.next_batch) for family, turn in self._both]
        self._count = len(items[0])
        return self.networks["discriminator"].join(items)

    def generate(self) -> Tensor:
        """Generate as many items as the last real batches have, side by side."""
        generator = self.networks["generator"]
        made = generator(generator.join([family.latent(self._count, turn.draws) for family, turn in self._both]))
        if self.first.discriminated_shape == self.first.shape:
            return made
        parts = zip(self.families, generator.split(made), strict=True)
        return self.networks["discriminator"].join([family.pack(part) for family, part in parts])

    def judge(self, items: Tensor) -> Tensor:
        """Logits, float32 (K, n)."""
        return self.networks["discriminator"].logits(items).float()

    def gradient_penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Penalty of every replica, (K,)."""
        discriminator = self.networks["discriminator"]
        mix = torch.cat([family.uniform(self._count, 1, turn.draws) for family, turn in self._both], dim=1)
        if discriminator.of_vectors:
            return gradient_penalty(self.judge, real, fake, mix.t()[:, None], lambda gradient: gradient.norm(dim=1))
        shaped = mix.repeat_interleave(real.shape[1] // discriminator.count, dim=1)[:, :, None, None]

        def norms(gradient: Tensor) -> Tensor:
            by_item: Tensor = gradient.reshape(len(gradient), discriminator.count, -1).norm(dim=2)
            return by_item.t()

        return gradient_penalty(self.judge, real, fake, shaped, norms)

    def weights(self, network: str) -> Iterable[Tensor]:
        """Stacked weights of a network, to be changed in place."""
        return [weights for weights, _ in self.networks[network].shared]

    def frozen(self, network: str) -> AbstractContextManager[Any]:
        """No context: `optimizer_step` asks for the gradients of one network's weights alone."""
        return nullcontext()

    def optimizer_step(self, loss: Tensor, network: str) -> None:
        """One optimizer step of every replica's network, each at its own rate, from losses (K,)."""
        stacked, optimizer = self.networks[network], self.optimizers[network]
        gradients = torch.autograd.grad(loss.sum(), [weights for weights, _ in stacked.shared])
        for (weights, own), gradient in zip(stacked.shared, gradients, strict=True):
            if gradient.stride() != weights.stride():  # a fused optimizer walks through memory, both alike
                gradient = torch.empty_like(weights).copy_(gradient)
            for parameter, part in zip(own, gradient.chunk(stacked.count), strict=True):
                parameter.grad = part
        for family in self.families:  # a state that was loaded since the last step
            optimizer.state.update(family.optimizers[network].state)
        optimizer.step()
        for family in self.families:
            theirs = family.optimizers[network].state
            if not theirs:  # from now on both hold the same tensors
                theirs.update(
                    {parameter: optimizer.state[parameter] for parameter in family.networks[network].parameters()}
                )

    def _one_optimizer(self, name: str) -> torch.optim.Optimizer:
        """An optimizer of all replicas' weights, each at its own rate."""
        own = [family.optimizers[name] for family in self.families]
        rates: dict[float, list[torch.nn.Parameter]] = {}
        for optimizer in own:
            for group in optimizer.param_groups:
                rates.setdefault(group["lr"], []).extend(group["params"])
        kind, taken = type(own[0]), inspect.signature(type(own[0])).parameters
        defaults = {key: value for key, value in own[0].defaults.items() if key in taken}
        return kind([{"params": parameters, "lr": rate} for rate, parameters in rates.items()], **defaults)

    def update_averages(self) -> None:
        """Move the averaged weights of every replica, those of one decay together."""
        by_decay: dict[float, list[tuple[Tensor, Tensor]]] = {}
        for family in self.families:
            for average in family.averages.values():
                by_decay.setdefault(average.decay, []).extend(average.pairs)
        with torch.no_grad():
            for decay, pairs in by_decay.items():
                torch._foreach_lerp_([mine for mine, _ in pairs], [theirs for _, theirs in pairs], 1 - decay)
