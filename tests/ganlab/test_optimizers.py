"""PyTorch's optimizers without its compiler: the same bits, and nothing of it loaded."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ganlab import optimizers

KINDS: dict[str, dict[str, Any]] = {
    "Adam": {"lr": 1e-2, "betas": (0.5, 0.999), "fused": True},
    "AdamW": {"lr": 1e-2, "weight_decay": 0.1},
    "RMSprop": {"lr": 1e-2, "foreach": True},
}
PROGRAM = """
import sys
from tests.ganlab.test_optimizers import KINDS, trained
from ganlab import optimizers
for name, options in KINDS.items():
    trained(getattr(optimizers, name), options)
print("torch._dynamo" in sys.modules)
"""


def trained(kind: Callable[..., torch.optim.Optimizer], options: dict[str, Any]) -> list[torch.Tensor]:
    """Weights and the optimizer's state after five steps, with its state kept and loaded after the second."""
    torch.manual_seed(0)
    network = torch.nn.Linear(5, 3)
    optimizer = kind(network.parameters(), **options)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 10)
    for step in range(5):
        optimizer.zero_grad()
        network(torch.randn(4, 5)).square().mean().backward()
        optimizer.step()
        rate.step()
        if step == 1:
            kept = optimizer.state_dict()
            optimizer = kind(network.parameters(), **options)
            optimizer.load_state_dict(kept)
            rate.optimizer = optimizer
    state = optimizer.state_dict()["state"]
    return [*network.parameters(), *(value for each in state.values() for value in each.values())]


@pytest.mark.parametrize("name", KINDS)
def test_steps_and_states_are_those_of_pytorch(name: str) -> None:
    ours = trained(getattr(optimizers, name), KINDS[name])
    theirs = trained(getattr(torch.optim, name), KINDS[name])
    assert len(ours) > 4
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.process
def test_the_compiler_is_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
