"""Use and energy of GPUs, from a stand-in for NVIDIA's library: of whole GPUs, of parts of them, and without any."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml
import pytest

from cluster import gpus
from cluster.gpus import gpu_energy_j, gpu_use

GIB = 2**30


class Nvml(ModuleType):
    """The functions of pynvml that are called, for these devices by their index or UUID; counts initialisations."""

    NVMLError, NVML_SUCCESS, NVML_DEVICE_MIG_ENABLE = pynvml.NVMLError, 0, 1
    NVML_GPM_METRICS_GET_VERSION, NVML_GPM_METRIC_GRAPHICS_UTIL = 1, pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL
    c_nvmlGpmMetricsGet_t = pynvml.c_nvmlGpmMetricsGet_t

    def __init__(self, **devices: Any) -> None:
        super().__init__("pynvml")
        self.devices, self.open, self.samples = devices, 0, 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return sum(name.isdigit() for name in self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimpleNamespace:
        return self._known(str(index))

    def nvmlDeviceGetHandleByUUID(self, name: str) -> SimpleNamespace:
        return self._known(name)

    def nvmlDeviceGetMemoryInfo(self, handle: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(used=GIB, total=8 * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._supported(handle, "busy"))

    def nvmlDeviceGetMigMode(self, handle: SimpleNamespace) -> list[int]:
        return [self._supported(handle, "cut")] * 2

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: SimpleNamespace) -> int:
        return self._supported(handle, "millijoules")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: SimpleNamespace) -> SimpleNamespace:
        return self._known(self._supported(handle, "whole"))

    def nvmlDeviceGetGpuInstanceId(self, handle: SimpleNamespace) -> int:
        return self._supported(handle, "part")

    def nvmlGpmQueryDeviceSupport(self, handle: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(isSupportedDevice=hasattr(handle, "part_busy"))

    def nvmlGpmSampleAlloc(self) -> Any:
        self.samples += 1
        return pynvml.c_nvmlGpmSample_t()

    def nvmlGpmSampleFree(self, sample: Any) -> None:
        self.samples -= 1

    def nvmlGpmMigSampleGet(self, handle: SimpleNamespace, part: int, sample: Any) -> None:
        self.sampled = handle.part_busy[part]

    def nvmlGpmMetricsGet(self, wanted: Any) -> Any:
        assert wanted.metrics[0].metricId == self.NVML_GPM_METRIC_GRAPHICS_UTIL
        wanted.metrics[0].value, wanted.metrics[0].nvmlReturn = self.sampled, self.NVML_SUCCESS
        return wanted

    def _known(self, name: str) -> SimpleNamespace:
        if name not in self.devices:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return SimpleNamespace(**self.devices[name])

    def _supported(self, handle: SimpleNamespace, name: str) -> Any:
        if not hasattr(handle, name):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return getattr(handle, name)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """Two GPUs, one of them old, and a third that is cut into parts, whose use it counts; of the old one a part, too."""
    found = Nvml(
        **{
            "0": {"busy": 50, "cut": 0, "millijoules": 7_000},
            "1": {"busy": 0},
            "2": {"cut": 1, "millijoules": 9_000, "part_busy": {1: 25.0, 2: 75.0}},
            "MIG-a": {"whole": "2", "part": 1},
            "MIG-b": {"whole": "2", "part": 2},
            "MIG-old": {"whole": "1", "part": 1},
        }
    )
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr(gpus, "SAMPLE_S", 0)
    return found


@pytest.mark.parametrize(
    ("visible", "busy", "energy"),
    [
        ("0", [0.5], [7.0]),
        ("1,0", [0.0, 0.5], [None, 7.0]),
        (None, [0.5, 0.0, None], [7.0, None, None]),  # of a GPU that is cut into parts neither is any one's
        ("MIG-a,MIG-b", [0.25, 0.75], [None, None]),
        ("MIG-old", [None], [None]),
        ("MIG-gone", [], [None]),
        ("NoDevFiles", [], []),
    ],
)
def test_what_nvml_does_not_say_is_not_known(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, visible: str | None, busy: list[float], energy: list[float]
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    used = gpu_use()
    assert [gpu["utilization"] for gpu in used] == busy
    assert {(gpu["memory_used_bytes"], gpu["memory_bytes"]) for gpu in used} <= {(GIB, 8 * GIB)}
    assert gpu_energy_j() == energy
    assert (nvml.open, nvml.samples) == (0, 0)


def test_without_a_driver_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Nvml()

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(none, "nvmlInit", missing)
    monkeypatch.setitem(sys.modules, "pynvml", none)
    assert gpu_use() == []
    assert gpu_energy_j() == []
    assert none.open == 0
