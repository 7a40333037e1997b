"""Use of the NVIDIA GPUs that this process may use, from NVML.

Invariant: without a GPU, or a driver that answers, the answer is an empty list, never an error.
"""

import os
from typing import TypedDict


class Gpu(TypedDict):
    """One GPU: share of the last sample period in which it was busy (0 to 1), and its memory."""

    utilization: float
    memory_used_bytes: int
    memory_bytes: int


def gpu_use() -> list[Gpu]:
    """How busy each GPU is now; those of CUDA_VISIBLE_DEVICES, or all of this machine."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = [str(i) for i in range(pynvml.nvmlDeviceGetCount())] if visible is None else visible.split(",")
        return [found for name in names if name.strip() and (found := _gpu(name.strip())) is not None]
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
