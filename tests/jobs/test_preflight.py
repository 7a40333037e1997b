"""Notes on this machine before a sweep begins."""

import pytest
import torch

from jobs.spec.sweep import load_spec
from jobs.training.preflight import slow_precision

WITHOUT = {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False, "num_physical_cores": 2}


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16", "bf16"])
def test_bfloat16_is_called_slow_where_the_processor_imitates_it(
    monkeypatch: pytest.MonkeyPatch, instructions: str
) -> None:
    spec = load_spec("fashion-demo")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITHOUT)
    assert "--set train.precision=float32" in str(slow_precision(spec))
    assert slow_precision(load_spec("digits-demo")) is None  # in float32
    gpus = spec.model_copy(update={"resources": spec.resources.model_copy(update={"gpus_per_trial": 1})})
    assert slow_precision(gpus) is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITHOUT | {instructions: True})
    assert slow_precision(spec) is None
