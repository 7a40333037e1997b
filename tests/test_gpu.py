"""The command that checks a GPU, in small sizes without one: what it finds, what it leaves out, and what it stops."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ganlab.pairs import filter_refine
from jobs.spec.sweep import load_spec
from tests import gpu
from tests.emulated_device import NAME, emulated_device


def command(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(gpu.ROOT / "tests/gpu.py"), *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=timeout, check=False, cwd="/")


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.mark.process
def test_every_part_runs_without_the_libraries_of_clusters(tmp_path: Path) -> None:
    """Importing Ray, Dask, submitit or xarray fails there."""
    done = command("--device", "cpu", "--out", str(tmp_path / "rows"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("checks, 0 failed")
    rows = rows_of(tmp_path / "rows")
    assert {row["part"] for row in rows} == {"machine", *gpu.PARTS}
    assert all(row["same"] for row in rows if row["part"] in ("bits", "families"))
    timed = [row for row in rows if "seconds" in row]
    assert {row["part"] for row in timed} == {"pairs", "training"}
    assert all(row["floor_of_all_products_s"] > 0 for row in timed)


@pytest.mark.process
def test_a_part_that_takes_too_long_is_stopped_and_the_others_run(tmp_path: Path) -> None:
    done = command("--device", "cpu", "--out", str(tmp_path / "rows"), "--minutes", "0.002")
    assert done.returncode == 1
    stopped = {row["part"] for row in rows_of(tmp_path / "rows") if "stopped after" in row.get("error", "")}
    assert stopped == set(gpu.PARTS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == (
        f"got --device cuda, but torch {torch.__version__} finds no GPU; allowed here: --device cpu\n"
    )


def test_bits_of_a_device_are_compared_with_those_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    with emulated_device():
        assert all(row["same"] for row in gpu.bits(NAME, True, 60))
    bounds = filter_refine.bounded_distances

    def one_more(*block: Any) -> Any:
        found = bounds(*block)
        return found._replace(low=found.low + (block[4] == NAME))

    monkeypatch.setattr(filter_refine, "bounded_distances", one_more)
    with emulated_device():
        wrong = [row["name"] for row in gpu.bits(NAME, True, 60) if not row["same"]]
    assert {"noise 300×20 uint8", "constant 300×20 uint8", "nearest of 300 references uint8"} <= set(wrong)


def test_a_check_that_fails_is_a_row_with_its_error() -> None:
    def check() -> bool:
        raise RuntimeError("CUDA error: an illegal memory access\nmore")

    row = gpu._judged("one", check)
    assert row == {"name": "one", "same": False, "error": "RuntimeError: CUDA error: an illegal memory access"}


@pytest.mark.parametrize("name", gpu.SHIPPED)
def test_the_settings_timed_are_those_of_shipped_sweeps(name: str) -> None:
    _, model, train = gpu.SHIPPED[name]
    given = [f"model.discriminator_width={model['discriminator_width']}"]
    trial = load_spec(name, given).trials()[0]
    shipped = trial.model.model_dump(exclude_defaults=True)
    assert {key: shipped[key] for key in model if key in shipped} == {
        key: model[key] for key in model if key in shipped
    }
    assert shipped.keys() <= model.keys()
    assert {key: getattr(trial.train, key) for key in train} == train
