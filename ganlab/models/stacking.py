"""Several networks of one architecture as one: their weights side by side, their layers grouped.

Invariant: a stacked network and the networks it was made of share memory, weights and batch statistics alike, so that
each of them can be used, saved and loaded alone at any time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganlab.models import convolutions
from ganlab.models.networks import Discriminator, Generator, Perceptron


class StackedNetwork:
    """K networks as one function of K batches.

    Batches stand side by side: images as channels, (n, K·C, H, W); vectors as rows, (K, D, n), so that each layer is one
    batched matrix product. A generator's output is a discriminator's input.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        first = networks[0]
        assert all(type(network) is type(first) for network in networks)
        assert isinstance(first, Generator | Discriminator | Perceptron)
        self.count = len(networks)
        self.of_vectors = isinstance(first, Perceptron)
        self.from_latent = isinstance(first, Generator)
        layers = [getattr(network, "layers") for network in networks]  # noqa: B009
        self._layers = [_stacked(list(same)) for same in zip(*layers, strict=True)]
        self.shared = [pair for layer in self._layers for pair in layer.shared()]
        """Every stacked weight, with the networks' own weights, which are slices of it."""
        self.counters = [
            module.num_batches_tracked
            for network in networks
            for module in network.modules()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        ]

    def join(self, batches: Sequence[Tensor]) -> Tensor:
        """Lay K batches, (n, C, H, W) or (n, D), side by side."""
        if self.of_vectors:
            return torch.stack([batch.t() for batch in batches])
        joined = torch.cat(list(batches), dim=1)
        return joined[:, :, None, None] if self.from_latent else joined.contiguous(memory_format=torch.channels_last)

    def split(self, joined: Tensor) -> list[Tensor]:
        """Undo `join`."""
        return [part.t() for part in joined] if self.of_vectors else list(joined.chunk(self.count, dim=1))

    def __call__(self, joined: Tensor) -> Tensor:
        """Run all networks, in training mode."""
        for layer in self._layers:
            joined = layer(joined)
        if self.counters:
            torch._foreach_add_(self.counters, 1)  # type: ignore[arg-type]
        return joined

    def logits(self, joined: Tensor) -> Tensor:
        """Run all networks, which give one number for each item: (K, n)."""
        outputs = self(joined)
        return outputs[:, 0] if self.of_vectors else outputs.flatten(1).t()


class _Layer(ABC):
    """One layer of all networks."""

    def shared(self) -> list[tuple[nn.Parameter, list[nn.Parameter]]]:
        """Stacked weights, each with the networks' own."""
        return []

    @abstractmethod
    def __call__(self, joined: Tensor) -> Tensor:
        """Run the layer of all networks."""


class _Same(_Layer):
    def __init__(self, modules: list[nn.Module]) -> None:
        self._module = modules[0]

    def __call__(self, joined: Tensor) -> Tensor:
        result: Tensor = self._module(joined)
        return result


class _Weighted(_Layer):
    """A layer with weights: those of all networks, one behind the other along the first axis."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules, self.count = modules, len(modules)
        self._shared = [
            (name, *_joined([module.get_parameter(name) for module in modules]))
            for name, _ in modules[0].named_parameters()
        ]
        self.weights = {name: stacked for name, stacked, _ in self._shared}

    def shared(self) -> list[tuple[nn.Parameter, list[nn.Parameter]]]:
        return [(stacked, own) for _, stacked, own in self._shared]


class _Convolution(_Weighted):
    def __call__(self, joined: Tensor) -> Tensor:
        weight, bias, like = self.weights["weight"], self.weights.get("bias"), self.modules[0]
        if isinstance(like, nn.ConvTranspose2d):
            return functional.conv_transpose2d(
                joined,
                weight,
                bias,
                like.stride,
                like.padding,  # type: ignore[arg-type]
                like.output_padding,  # type: ignore[arg-type]
                groups=self.count,
            )
        assert isinstance(like, nn.Conv2d)
        return functional.conv2d(joined, weight, bias, like.stride, like.padding, groups=self.count)  # type: ignore


class _Linear(_Weighted):
    def __call__(self, joined: Tensor) -> Tensor:
        weight = self.weights["weight"].view(self.count, -1, joined.shape[1])
        if "bias" not in self.weights:
            return torch.bmm(weight, joined)
        return torch.baddbmm(self.weights["bias"].view(self.count, -1, 1), weight, joined)


class _BatchNorm(_Weighted):
    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__(modules)
        self._mean, self._variance = (_joined_buffers(modules, name) for name in ("running_mean", "running_var"))

    def __call__(self, joined: Tensor) -> Tensor:
        like = self.modules[0]
        assert isinstance(like, nn.BatchNorm1d | nn.BatchNorm2d)
        # Vectors (K, D, n) are to batch normalisation one item of K·D channels and length n.
        given = joined.reshape(1, -1, joined.shape[2]) if joined.ndim == 3 else joined
        result = functional.batch_norm(
            given,
            self._mean,
            self._variance,
            self.weights["weight"],
            self.weights["bias"],
            True,
            like.momentum or 0.1,
            like.eps,
        )
        return result.view_as(joined)


class _GroupNorm(_Weighted):
    def __call__(self, joined: Tensor) -> Tensor:
        like = self.modules[0]
        assert isinstance(like, nn.GroupNorm)
        groups = like.num_groups * self.count
        return functional.group_norm(joined, groups, self.weights["weight"], self.weights["bias"], like.eps)


_LAYERS: dict[type[nn.Module], type[_Layer]] = {
    nn.Conv2d: _Convolution,
    convolutions.Conv2d: _Convolution,
    convolutions.ConvTranspose2d: _Convolution,
    nn.Linear: _Linear,
    nn.BatchNorm1d: _BatchNorm,
    nn.BatchNorm2d: _BatchNorm,
    nn.GroupNorm: _GroupNorm,
    nn.ReLU: _Same,
    nn.LeakyReLU: _Same,
    nn.Tanh: _Same,
}


def _stacked(modules: list[nn.Module]) -> _Layer:
    made: _Layer = _LAYERS[type(modules[0])](modules)  # type: ignore[call-arg]
    return made


def _joined(own: list[nn.Parameter]) -> tuple[nn.Parameter, list[nn.Parameter]]:
    """Copy weights into one, and make each a slice of it."""
    whole = torch.cat([parameter.data for parameter in own])
    if whole.ndim == 4:
        whole = whole.contiguous(memory_format=torch.channels_last)
    stacked = nn.Parameter(whole)
    for parameter, part in zip(own, stacked.data.chunk(len(own)), strict=True):
        parameter.data = part
    return stacked, own


def _joined_buffers(modules: list[nn.Module], name: str) -> Tensor:
    whole = torch.cat([module.get_buffer(name) for module in modules])
    for module, part in zip(modules, whole.chunk(len(modules)), strict=True):
        setattr(module, name, part)
    return whole
