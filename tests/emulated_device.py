"""A device with memory of its own, emulated on the processor: for tests of what runs on GPUs.

Invariant: an operation on tensors of the device and of the processor fails, as it would on a GPU, and so does numpy;
what the device holds is limited, and what leaves it is counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import finalize

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from ganlab.pairs import devices, exact, lower_bounds, plan

NAME = "lazy:0"  # a kind of device that torch knows, but that nothing in this process uses
_COPIES = ("aten::_to_copy", "aten::copy_")
_aten = torch.ops.aten


@dataclass
class Device:
    """What the emulated device did.

    Parameters
    ----------
    memory
        Its size, in bytes.
    largest
        Most bytes that were in use at one time.
    left, arrived
        Bytes that were copied from it to the processor, and from the processor to it.
    refused
        Operations that found no room.
    """

    memory: int
    largest: int = 0
    left: int = 0
    arrived: int = 0
    refused: int = 0
    held: dict[int, torch.Tensor] = field(default_factory=dict)

    def used(self) -> int:
        """Bytes in use."""
        storages = (each.untyped_storage() for each in self.held.values())
        return sum({each.data_ptr(): each.nbytes() for each in storages}.values())

    def run(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation of torch."""
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
        on_device = [isinstance(each, _OnDevice) for each in tensors]
        copies = function._schema.name in _COPIES
        if (
            any(on_device)
            and not copies
            and any(each.dim() > 0 for each, there in zip(tensors, on_device, strict=True) if not there)
        ):
            raise RuntimeError(f"{function}: expected all tensors to be on one device, but found some on two")
        target = kwargs.get("device")
        there = torch.device(target) == torch.device(NAME) if target is not None else on_device[:1] == [True]
        if any(on_device) and (not there or function is _aten._local_scalar_dense.default):
            self.left += sum(each.held.nbytes for each in tensors if isinstance(each, _OnDevice))
        args, kwargs = tree_map(_held, (args, {**kwargs, "device": "cpu"} if there and target is not None else kwargs))
        out = function(*args, **kwargs)
        if copies and there and not any(on_device):
            out = out.clone()
            self.arrived += out.nbytes
        return tree_map(self._placed, out) if there else out

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        placed = _OnDevice(value)
        self.held[id(placed)] = value
        finalize(placed, self.held.pop, id(placed))
        used = self.used()
        if used > self.memory:
            self.refused += 1
            raise torch.OutOfMemoryError(f"{used} bytes of {self.memory}")
        self.largest = max(self.largest, used)
        return placed


class _OnDevice(torch.Tensor):
    """A tensor of the emulated device."""

    held: torch.Tensor
    device_in_use: ClassVar[Device]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "_OnDevice":
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), dtype=held.dtype, device=NAME, **shape)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cls.device_in_use.run(function, args, kwargs or {})


def _held(value: Any) -> Any:
    return value.held if isinstance(value, _OnDevice) else value


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _OnDevice.device_in_use.run(function, args, kwargs or {})


@contextmanager
def emulated_device(memory: int = 2**32, free: int | None = None) -> Iterator[Device]:
    """Have a device of this many bytes, named NAME, for the length of the context; `free` is what it claims to have."""
    device = _OnDevice.device_in_use = Device(2**32)
    patch = pytest.MonkeyPatch()
    patch.setattr(devices, "free_bytes", lambda name: memory - device.used() if free is None else free)
    patch.setattr(exact, "_TRIED", 64)  # of matrices by which the best product is chosen
    chosen_once = exact._best_product, lower_bounds.vector_type, plan._look_cost
    for chosen in chosen_once:
        chosen.cache_clear()
    try:
        with _Mode():
            exact._best_product(NAME)
            plan._look_cost(NAME)
            device.memory, device.largest, device.left, device.arrived = memory, 0, 0, 0
            yield device
    finally:
        patch.undo()
        for chosen in chosen_once:
            chosen.cache_clear()
