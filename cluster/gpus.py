"""NVIDIA GPUs that a process may use, and from NVML how much they are used and what energy they took.

Invariant: `visible_gpus` alone reads CUDA_VISIBLE_DEVICES, as CUDA does; without a GPU, or a driver that answers, the use
is an empty list, never an error; what NVML does not say is None, never 0.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, TypedDict

VISIBLE = "CUDA_VISIBLE_DEVICES"
PART = "MIG-"  # how CUDA names a part of a GPU
SAMPLE_S = 0.2  # between two samples of a part's counters; NVML wants at least 0.1 s


class Gpu(TypedDict):
    """One GPU, or a part of one (MIG), and its memory.

    The utilization is the share of the last sample period in which it was busy (0 to 1); None where it is not known.
    """

    utilization: float | None
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
    kind = next((kind for kind in ("GPU-", PART) if entries[0].startswith(kind)), None)
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
    with _nvml() as names:
        return [found for name in names if (found := _gpu(name)) is not None]


def gpu_energy_j() -> list[float | None]:
    """Energy that each of these GPUs has taken since its driver was loaded, in joules.

    None where NVML has no such counter: of a part of a GPU (MIG), whose energy is the whole GPU's, and before Volta.
    """
    with _nvml() as names:
        return [_energy_j(name) for name in names]


@contextmanager
def _nvml() -> Iterator[list[str]]:
    """Names of the GPUs that this process sees, with NVML at hand; none where there is no driver that answers."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield []
        return
    try:
        try:
            names = visible_gpus(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError:
            names = []
        yield names
    finally:
        pynvml.nvmlShutdown()


def _handle(name: str) -> Any:
    import pynvml as nvml

    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)


def _gpu(name: str) -> Gpu | None:
    import pynvml as nvml

    try:
        handle = _handle(name)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        return None
    try:
        busy = _part_utilization(handle) if name.startswith(PART) else _utilization(handle)
    except nvml.NVMLError:  # a GPU that is cut into parts, or a part of one older than Hopper
        busy = None
    return Gpu(utilization=busy, memory_used_bytes=int(memory.used), memory_bytes=int(memory.total))


def _utilization(handle: Any) -> float:
    import pynvml as nvml

    return float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100


def _part_utilization(handle: Any) -> float | None:
    """Share of SAMPLE_S in which a part of a GPU was busy, by the counters (GPM) that Hopper and later GPUs have."""
    import pynvml as nvml

    whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    if not nvml.nvmlGpmQueryDeviceSupport(whole).isSupportedDevice:
        return None
    part = nvml.nvmlDeviceGetGpuInstanceId(handle)
    wanted = nvml.c_nvmlGpmMetricsGet_t()
    wanted.version, wanted.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, 1
    wanted.metrics[0].metricId = nvml.NVML_GPM_METRIC_GRAPHICS_UTIL
    samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
    try:
        nvml.nvmlGpmMigSampleGet(whole, part, samples[0])
        time.sleep(SAMPLE_S)
        nvml.nvmlGpmMigSampleGet(whole, part, samples[1])
        wanted.sample1, wanted.sample2 = samples
        found = nvml.nvmlGpmMetricsGet(wanted).metrics[0]
    finally:
        for sample in samples:
            nvml.nvmlGpmSampleFree(sample)
    return float(found.value) / 100 if found.nvmlReturn == nvml.NVML_SUCCESS else None


def _energy_j(name: str) -> float | None:
    import pynvml as nvml

    if name.startswith(PART):
        return None
    try:
        handle = _handle(name)
        try:
            cut = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        except nvml.NVMLError:  # it can't be cut into parts
            cut = False
        return None if cut else nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except nvml.NVMLError:
        return None
