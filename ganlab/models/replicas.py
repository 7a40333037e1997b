"""Trainings that differ by seed or by a rate alone, stacked: a step of all of them is one pass of stacked networks.

Invariant: each replica remains a family of its own, with its own random numbers, optimizer state, averages and
checkpoint; stacked, it takes the steps that it would take alone, up to the rounding of sums in another order.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Condition
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganlab.models.families import Family
from ganlab.models.families.base import NextBatch
from ganlab.models.families.dcgan import DCGAN, discriminator_loss, generator_loss
from ganlab.models.stacking import StackedNetwork


def stackable(family: type[Family]) -> bool:
    """True if trainings of this family can be stacked: one generator, one discriminator, DCGAN's step."""
    return issubclass(family, DCGAN)


class Turn(NamedTuple):
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
        self._turns: dict[int, Turn] = {}
        self._losses: dict[int, Mapping[str, Tensor]] = {}
        self._stacked: list[int] = []
        self._error: BaseException | None = None
        self._stack: Stack | None = None

    @contextmanager
    def member(self, number: int) -> Iterator[None]:
        """Be replica `number`; when it ends, however it ends, the others go on."""
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
            self._turns[number] = Turn(next_batch, draws)
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
    """The stacked networks of replicas, and one step of them."""

    def __init__(self, families: Sequence[DCGAN]) -> None:
        self.families, self.first = list(families), families[0]
        self.networks = {
            name: StackedNetwork([family.networks[name] for family in families]) for name in self.first.networks
        }
        for family in families:
            for name, average in family.averages.items():
                average.follow(family.networks[name])
        self.optimizers = {name: self._one_optimizer(name) for name in self.networks}

    def step(self, turns: Sequence[Turn]) -> list[Mapping[str, Tensor]]:
        """One step as `DCGAN.step` takes it, of every replica."""
        first, settings = self.first, self.first.settings
        generator, discriminator = self.networks["generator"], self.networks["discriminator"]
        both = list(zip(self.families, turns, strict=True))
        for _ in range(first.discriminator_steps):
            reals = [family.real(turn.next_batch) for family, turn in both]
            count, real = len(reals[0]), discriminator.join(reals)
            with first.arithmetic():
                fake = self._packed(
                    generator(generator.join([family.latent(count, turn.draws) for family, turn in both]))
                )
                on_discriminator = discriminator_loss(
                    settings.loss, discriminator.logits(real).float(), discriminator.logits(fake.detach()).float()
                )
                if settings.loss == "wasserstein-gp":
                    mix = torch.cat([family.uniform(count, 1, turn.draws) for family, turn in both], dim=1)
                    penalty = self._gradient_penalty(real, fake.detach(), mix)
                    on_discriminator = on_discriminator + settings.gradient_penalty * penalty
            self._descend(on_discriminator.sum(), "discriminator")
            if settings.loss == "wasserstein-clip":
                with torch.no_grad():
                    for weights, _ in discriminator.shared:
                        weights.clamp_(-settings.weight_clip, settings.weight_clip)
        with first.arithmetic():
            on_generator = generator_loss(settings.loss, discriminator.logits(fake).float())
        self._descend(on_generator.sum(), "generator")
        self._update_averages()
        return [
            {"generator_loss": of_generator, "discriminator_loss": of_discriminator}
            for of_generator, of_discriminator in zip(on_generator.detach(), on_discriminator.detach(), strict=True)
        ]

    def _packed(self, made: Tensor) -> Tensor:
        if self.first.discriminated_shape == self.first.shape:
            return made
        parts = self.networks["generator"].split(made)
        return self.networks["discriminator"].join(
            [family.pack(part) for family, part in zip(self.families, parts, strict=True)]
        )

    def _gradient_penalty(self, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """(K,) penalties; `mix` is (n, K)."""
        discriminator = self.networks["discriminator"]
        count = discriminator.count
        if discriminator.of_vectors:
            shaped = mix.t()[:, None]
        else:
            shaped = mix.repeat_interleave(real.shape[1] // count, dim=1)[:, :, None, None]
        between = (shaped * real + (1 - shaped) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator.logits(between).sum(), between, create_graph=True)
        if discriminator.of_vectors:
            norms = gradient.float().norm(dim=1)
        else:
            norms = gradient.float().reshape(len(gradient), count, -1).norm(dim=2).t()
        penalty: Tensor = (norms - 1).square().mean(-1)
        return penalty

    def _descend(self, loss: Tensor, name: str) -> None:
        network = self.networks[name]
        gradients = torch.autograd.grad(loss, [weights for weights, _ in network.shared])
        for (weights, own), gradient in zip(network.shared, gradients, strict=True):
            if gradient.stride() != weights.stride():  # a fused optimizer walks through memory, both alike
                gradient = torch.empty_like(weights).copy_(gradient)
            for parameter, part in zip(own, gradient.chunk(network.count), strict=True):
                parameter.grad = part
        optimizer = self.optimizers[name]
        for family in self.families:  # a state that was loaded since the last step
            optimizer.state.update(family.optimizers[name].state)
        optimizer.step()
        for family in self.families:
            theirs = family.optimizers[name].state
            if not theirs:  # from now on both hold the same tensors
                theirs.update(
                    {parameter: optimizer.state[parameter] for parameter in family.networks[name].parameters()}
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

    def _update_averages(self) -> None:
        by_decay: dict[float, list[tuple[Tensor, Tensor]]] = {}
        for family in self.families:
            for average in family.averages.values():
                by_decay.setdefault(average.decay, []).extend(average.pairs)
        with torch.no_grad():
            for decay, pairs in by_decay.items():
                torch._foreach_lerp_([mine for mine, _ in pairs], [theirs for _, theirs in pairs], 1 - decay)
