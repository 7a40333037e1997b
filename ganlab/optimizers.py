"""PyTorch's optimizers without its compiler, which their first use would load: seconds of each process that trains.

Invariant: the same steps and the same states, bit for bit.
"""

import inspect
from typing import TypeVar, cast

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def _without_compiler(kind: type[Kind]) -> type[Kind]:
    """The optimizer with the methods that PyTorch's decorators wrap: these tell the compiler where to stop."""
    methods = {
        name: inspect.unwrap(getattr(kind, name))
        for name in ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    }
    methods["step"] = torch.no_grad()(methods["step"])  # which its decorator saw to
    return cast(type[Kind], type(kind.__name__, (kind,), {**methods, "__doc__": kind.__doc__, "__module__": __name__}))


Adam = _without_compiler(torch.optim.Adam)
AdamW = _without_compiler(torch.optim.AdamW)
RMSprop = _without_compiler(torch.optim.RMSprop)
