"""Devices that matrix products run on: what is kept on them, how large blocks are, and what happens without room.

Invariant: every choice made here changes time and memory, never an answer.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from time import perf_counter, thread_time
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_SHARE = 0.5  # of a device's free memory for what is kept there, and of the rest for blocks: others may compute there
_PAIR_BYTES = 48  # of one pair of a block on an accelerator: products, distances, masks, or five float64 numbers
_TRIALS = 9  # of a call that is timed
_LARGEST = 16  # times as many rows, and columns, of a block as on a processor: 2**29 pairs


def accelerated(device: str) -> bool:
    """True if products run beside the processor: its blocks are large, and only pairs within bounds leave it."""
    return torch.device(device).type != "cpu"


def free_bytes(device: str) -> int:
    """Memory of an accelerator that this process could still fill, in bytes."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def has_room(size: int, device: str) -> bool:
    """True if so many bytes are at most half of a device's free memory; on a processor, always."""
    return not accelerated(device) or size <= _SHARE * free_bytes(device)


def keep(values: torch.Tensor, device: str) -> torch.Tensor:
    """The values on the device; where they are, if they would take more than half of its free memory.

    Blocks of values that stayed behind are copied when they are needed.
    """
    if not has_room(values.nbytes, device):
        return values
    try:
        return values.to(device)
    except torch.OutOfMemoryError:  # another process was faster
        return values


def block_scale(device: str, pairs: int) -> int:
    """How many times as many rows, and columns, a block has on a device, in half of its free memory.

    Parameters
    ----------
    pairs
        Pairs of a block of scale 1, which is that of processors.
    """
    scale = 1
    if accelerated(device):
        room = _SHARE * free_bytes(device)
        while scale < _LARGEST and 4 * scale * scale * pairs * _PAIR_BYTES <= room:
            scale *= 2
    return scale


def on_best_device(compute: Callable[[str], Result]) -> Result:
    """Call `compute` with "cuda" if this process has a GPU, else with "cpu".

    A search takes smaller blocks where a GPU's memory is short. Only where even the smallest finds no room, as beside
    trainings that fill the GPU, the processor takes over, with a warning.
    """
    if torch.cuda.is_available():
        try:
            return compute("cuda")
        except torch.OutOfMemoryError:
            pass  # the memory is freed once the error, which holds it, is gone
        torch.cuda.empty_cache()
        warnings.warn(
            "the GPU has no memory for even the smallest block of pairs, so tiles are compared on the CPU; end other "
            "work on the GPU, or measure with fewer processes",
            RuntimeWarning,
            stacklevel=2,
        )
    return compute("cpu")


class _Sums:
    """Settings of torch for matrix products, which all threads share."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.before: tuple[Any, ...] = ()

    def set(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Set them, and return what they were."""
        cuda, mkldnn = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = cuda.allow_bf16_reduced_precision_reduction, cuda.fp32_precision, mkldnn.fp32_precision
        cuda.allow_bf16_reduced_precision_reduction, cuda.fp32_precision, mkldnn.fp32_precision = values
        return before


_sums = _Sums()


@contextmanager
def sums_in_float32() -> Iterator[None]:
    """Matrix products that are as exact as bounds say: of float32 numbers as they are, and added in float32.

    By default, cuBLAS may add parts of a sum of bfloat16 products in bfloat16; a program may have asked for float32
    products of TF32 or bfloat16 numbers. The program's settings come back when the last thread is done.
    """
    with _sums.lock:
        if not _sums.users:
            _sums.before = _sums.set((False, "ieee", "ieee"))
        _sums.users += 1
    try:
        yield
    finally:
        with _sums.lock:
            _sums.users -= 1
            if not _sums.users:
                _sums.set(_sums.before)


def least_seconds(calls: Sequence[Callable[[], object]], device: str = "cpu") -> list[float]:
    """Seconds that each call takes at best.

    On a processor it is the CPU time of this thread, which other work hardly changes, with one thread for torch as blocks
    have it; on an accelerator, wall time.
    """
    seconds = [float("inf")] * len(calls)
    clock = perf_counter if accelerated(device) else thread_time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(_TRIALS):  # in turn, so that what slows the machine slows all of them
            for number, call in enumerate(calls):
                wait_for(device)
                start = clock()
                call()
                wait_for(device)
                seconds[number] = min(seconds[number], clock() - start)
    finally:
        torch.set_num_threads(threads)
    return seconds


def wait_for(device: str) -> None:
    """Return when the device has computed all that was asked of it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
