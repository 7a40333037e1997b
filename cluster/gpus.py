"""NVIDIA GPUs that a process may use, and from NVML how much they are used.

Invariant: `visible_gpus` alone reads CUDA_VISIBLE_DEVICES, as CUDA does; without a GPU, or a driver that answers, the use
is an empty list, never an error.
"""

import os
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, TypedDict

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpu(TypedDict):
    """One GPU: share of the last sample period in which it was busy (0 to 1), and its memory."""

    utilization: float
    memory_used_bytes: int
    memory_bytes: int


def visible_gpus(machine: int | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of the GPUs that CUDA shows to a process: indices, or UUIDs of GPUs or of parts of them (MIG).

    The first entry of CUDA_VISIBLE_DEVICES that names no GPU ends the list; if one is repeated, CUDA shows none at all.

    Parameters
    ----------
    machine
        Number of GPUs of this machine; None if it is not known, then every index counts as one of them.
    """
    listed = environment.get(VISIBLE)
    if listed is None:
        return [str(index) for index in range(machine or 0)]
    entries = [entry.strip() for entry in listed.split(",")]
    kind = next((kind for kind in ("GPU-", "MIG-") if entries[0].startswith(kind)), None)
    if kind is not None:
        names = list(takewhile(lambda entry: entry.startswith(kind), entries))
    else:
        indices = map(_index, entries)
        names = [str(index) for index in takewhile(lambda index: 0 <= index < (machine or index + 1), indices)]
    return names if len(set(names)) == len(names) else []


def usable_gpus() -> list[str]:
    """Names of the GPUs that this process may use."""
    driver = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))  # some containers hide this folder
    return visible_gpus(driver or None)


def gpu_first(gpus: list[str], number: int) -> str:
    """CUDA_VISIBLE_DEVICES for one of several processes: all GPUs, a different one first, which the process will use."""
    first = number % len(gpus)
    return ",".join([*gpus[first:], *gpus[:first]])


def dask_setup(nanny: Any) -> None:
    """Give each of a node's Dask workers a GPU in turn: Dask calls this before it starts one (``--preload-nanny``)."""
    number = re.search(r"\d+$", str(nanny.name))
    if number and (gpus := usable_gpus()):
        nanny.env[VISIBLE] = gpu_first(gpus, int(number[0]))


def _index(entry: str) -> int:
    """Number that an entry begins with, as C's strtol reads it; -1 if there is none."""
    number = re.match(r"[+-]?[0-9]+", entry)
    return int(number[0]) if number else -1


def gpu_use() -> list[Gpu]:
    """Utilisation of each GPU of CUDA_VISIBLE_DEVICES, or of all GPUs of this machine."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        names = visible_gpus(pynvml.nvmlDeviceGetCount())
        return [found for name in names if (found := _gpu(name)) is not None]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(name: str) -> Gpu | None:
    import pynvml as nvml

    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except nvml.NVMLError:  # a part of a GPU (MIG) has no utilization of its own
        return None
    return Gpu(utilization=busy, memory_used_bytes=int(memory.used), memory_bytes=int(memory.total))
