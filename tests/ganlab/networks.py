"""Networks as TorchScript files, for tests of embeddings."""

import io
import warnings
from collections.abc import Callable

import torch
from torch import nn


class _Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def script(network: nn.Module, shape: tuple[int, ...] = (2, 3, 12, 10)) -> bytes:
    """The TorchScript file of a network, traced on images of this shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(network.eval(), torch.rand(shape), check_trace=False)
        file = io.BytesIO()
        torch.jit.save(made, file)
    return file.getvalue()


def traced(function: Callable[[torch.Tensor], torch.Tensor], side: int = 8) -> bytes:
    """The TorchScript file of a function of square images."""
    return script(_Function(function), (2, 3, side, side))
