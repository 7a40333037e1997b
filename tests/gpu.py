"""Checks and speeds on a GPU, in one command: `python tests/gpu.py`; docs/gpu.md says what it prints.

Invariant: needs torch, numpy, pydantic and this repository alone; each part is a process with a time limit, so that none
hides the others, and every result is written as a line of JSON when it is there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UNNEEDED = ("dask", "distributed", "pytest", "ray", "submitit", "xarray", "yaml", "zarr")
"""Libraries that a machine with a GPU need not have: importing them here fails."""

if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    sys.modules.update(dict.fromkeys(UNNEEDED))  # type: ignore[arg-type]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from ganlab.models.families import FAMILIES, make_family  # noqa: E402
from ganlab.models.train import Interrupted, TrainSettings, make_deterministic  # noqa: E402
from ganlab.pairs.closest import closest_pairs, nearest  # noqa: E402
from ganlab.pairs.devices import least_seconds, wait_for  # noqa: E402
from tests.pair_sets import KINDS, Array, answers, noise  # noqa: E402
from tests.small_families import IMAGES, LABELS, TRAINED, Run, make  # noqa: E402

Row = dict[str, Any]
FEATURES = 3072
SHARE = {"bits": 0.35, "families": 0.25, "pairs": 0.28, "training": 0.12}
"""Share of the time that each part may take."""
SHIPPED: dict[str, tuple[tuple[int, int, int], dict[str, Any], dict[str, Any]]] = {
    "digits-demo": (
        (1, 8, 8),
        {"family": "dcgan", "latent_dim": 32, "generator_width": 32, "discriminator_width": 32, "refine": True},
        {"batch_size": 64, "learning_rate": 0.001},
    ),
    "cifar10-diversity": (
        (3, 32, 32),
        {"family": "dcgan", "latent_dim": 100, "generator_width": 64, "discriminator_width": 64, "kernel_size": 5},
        {"batch_size": 64, "precision": "bfloat16"},
    ),
    "celeba-diversity": (
        (3, 64, 64),
        {"family": "dcgan", "latent_dim": 100, "generator_width": 64, "discriminator_width": 64, "kernel_size": 5},
        {"batch_size": 64, "precision": "bfloat16"},
    ),
}
"""Settings of shipped sweeps, with one of their discriminators: shape of the images, model, training."""


def bits(device: str, small: bool, seconds: float) -> Iterator[Row]:
    """The pair engine's answers on the device and on the processor, for sets that could lose a pair."""
    sets = [(kind, 300, 20) for kind in KINDS]
    if not small:
        sets += [(kind, 1700, 130) for kind in KINDS] + [(kind, 2500, 784) for kind in ("noise", "low_rank")]
    cases = [
        (f"{kind} {n}×{features} {dtype}", kind, n, features, dtype)
        for kind, n, features in sets
        for dtype in ("uint8", "float32")
    ]
    for features in (1, 17) if small else (1, 17, 511, 513, 2**15 - 1, 2**15, 2**17 + 1):
        cases.append((f"noise 9×{features} uint8", "noise", 9, features, "uint8"))
    for n in () if small else (8191, 8192, 8193):  # rows of the largest block
        cases.append((f"low_rank {n}×130 uint8", "low_rank", n, 130, "uint8"))
    for name, kind, n, features, dtype in cases:
        yield _judged(name, lambda k=kind, n=n, f=features, d=dtype: _same_answers(KINDS[k](n, f).astype(d), device))
    rows, columns = (40, 300) if small else (600, 65_537)  # columns of the largest block
    for dtype in ("uint8", "float32"):
        yield _judged(
            f"nearest of {columns} references {dtype}", lambda d=dtype: _same_nearest(rows, columns, d, device)
        )


def _same_answers(images: Array, device: str) -> bool:
    pairs = zip(answers(images, "cpu"), answers(images, device), strict=True)
    return all(here.dtype == there.dtype and np.array_equal(here, there) for here, there in pairs)


def _same_nearest(rows: int, columns: int, dtype: str, device: str) -> bool:
    queries, references = (noise(n, 48).astype(dtype) for n in (rows, columns))
    here, there = (nearest(queries, references, 2, each) for each in ("cpu", device))
    same = np.array_equal(here.index, there.index)
    return same and np.array_equal(here.squared_distance, there.squared_distance)


def families(device: str, small: bool, seconds: float) -> Iterator[Row]:
    """Every family for some steps, once unbroken and once broken off: the same losses and images, bit for bit."""
    make_deterministic(1)
    for name in TRAINED[:2] if small else TRAINED:
        yield _judged(name, lambda name=name: _resumes(name, device))
    for name in sorted(set(TRAINED) - {"gmm", "known-support"})[: 1 if small else None]:
        yield _judged(f"{name} in bfloat16", lambda name=name: _steps_in_bfloat16(name, device))


def _resumes(name: str, device: str) -> bool:
    unbroken, broken = Run(name, device=device).live(), Run(name, device=device)
    try:
        broken.live(11)
    except Interrupted:
        broken.live()
    finite = all(np.isfinite(list(row.values())).all() for row in unbroken.rows.values())
    same = unbroken.rows == broken.rows and unbroken.shards.keys() == broken.shards.keys()
    return bool(finite and same) and all(
        np.array_equal(images, broken.shards[shard][0]) for shard, (images, _) in unbroken.shards.items()
    )


def _steps_in_bfloat16(name: str, device: str) -> bool:
    family = make(name, (1, 8, 8), device)
    family.train = family.train.model_copy(update={"precision": "bfloat16"})
    dataset, draws = family.prepare(IMAGES, LABELS), np.random.default_rng(0)
    losses = [family.step(lambda: dataset[torch.arange(8)], draws) for _ in range(3)]
    return all(bool(torch.isfinite(value).all()) for row in losses for value in row.values())


def pairs(device: str, small: bool, seconds: float) -> Iterator[Row]:
    """Seconds of the pair engine, up to a million images, beside the floor by rates measured in the same process."""
    measured = rates(device, small)
    yield {"name": "rates", **measured}
    product = max(measured.get(name, 0.0) for name in ("int8_operations_per_s", "bfloat16_operations_per_s"))
    until, last = time.monotonic() + seconds, dict[tuple[str, str], float]()
    kinds: dict[str, Callable[[int, str], Array]] = {"noise": _noise, "generated-like": _generated_like}
    questions: dict[str, Callable[[Array], object]] = {
        "closest pairs": lambda images: closest_pairs(images, 20, device),
        "nearest": lambda images: nearest(images, images, 1, device),
    }
    for n in (512, 1024) if small else (2**14, 2**16, 2**18, 2**20):
        for kind, images_of in kinds.items():
            images = None
            for question, ask in questions.items():
                row = {"name": f"{question} of {n} {kind}", "images": n, "features": FEATURES}
                if 16 * last.get((kind, question), 0.0) > until - time.monotonic():
                    yield row | {"left_out": "would take longer than is left of this part's time"}
                    continue
                images = images_of(n, device) if images is None else images
                started = time.perf_counter()
                ask(images)
                wait_for(device)
                last[kind, question] = taken = time.perf_counter() - started
                operations = float(n) * (n - 1) * FEATURES
                yield row | {"seconds": taken, "floor_of_all_products_s": operations / product}


def _noise(n: int, device: str) -> Array:
    random = torch.Generator(device).manual_seed(0)
    parts = (
        torch.randint(0, 256, (size, FEATURES), dtype=torch.uint8, device=device, generator=random).cpu().numpy()
        for size in _batches(n)
    )
    return np.concatenate(list(parts))


def _generated_like(n: int, device: str) -> Array:
    """Sums of 90 smooth fields, as images of a generator are of few directions, with noise of standard deviation 2."""
    random = torch.Generator(device).manual_seed(0)
    place = torch.arange(FEATURES, device=device) / FEATURES
    fields = torch.stack([torch.cos(torch.pi * number * place) / (1 + number / 8) for number in range(90)])

    def some(size: int) -> Array:
        weights = 25 * torch.randn(size, len(fields), device=device, generator=random)
        values = 128 + weights @ fields + 2 * torch.randn(size, FEATURES, device=device, generator=random)
        return values.clamp(0, 255).round().to(torch.uint8).cpu().numpy()

    return np.concatenate([some(size) for size in _batches(n)])


def _batches(n: int) -> list[int]:
    return [min(2**15, n - first) for first in range(0, n, 2**15)]


def rates(device: str, small: bool) -> Row:
    """Rates of copies on the device, of copies to and from it, and of matrix products, by the best of five."""
    size, side = (2**22, 256) if small else (2**30, 8192)
    here, there = torch.ones(size, dtype=torch.uint8), torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(there)
    matrices = {name: torch.ones(side, side, dtype=getattr(torch, name), device=device) for name in _PRODUCTS}
    calls: dict[str, tuple[float, Callable[[], object]]] = {
        "copied_bytes_per_s": (2 * size, lambda: target.copy_(there)),
        "to_device_bytes_per_s": (size, lambda: target.copy_(here)),
        "from_device_bytes_per_s": (size, lambda: there.cpu()),
    }
    for name, product in _PRODUCTS.items():
        calls[f"{name}_operations_per_s"] = 2.0 * side**3, lambda m=matrices[name], p=product: p(m, m)
    found: Row = {}
    for name, (work, call) in calls.items():
        try:
            found[name] = work / least_seconds([call], device)[0]
        except RuntimeError as error:  # a device without this product
            found[f"no_{name}"] = str(error).splitlines()[0]
    return found


_PRODUCTS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "float32": lambda a, b: a @ b.T,
    "bfloat16": lambda a, b: a @ b.T,
    "int8": lambda a, b: torch._int_mm(a, b.T),
}


def training(device: str, small: bool, seconds: float) -> Iterator[Row]:
    """Steps per second of shipped settings, beside the floor of a step's products at the rate measured here."""
    make_deterministic(1)
    measured = rates(device, small)
    yield {"name": "rates", **measured}
    names, size = list(SHIPPED)[: 1 if small else None], 256 if small else 20_000
    for name in names:
        shape, model, train = SHIPPED[name]
        settings = TrainSettings(**train)
        family = make_family(FAMILIES[model["family"]].Settings(**model), shape, settings, 0, device)
        draws = np.random.default_rng(0)
        dataset = family.prepare(draws.integers(0, 256, (size, *shape), dtype=np.uint8))

        def step(family: Any = family, dataset: Any = dataset, draws: Any = draws) -> None:
            batch = torch.from_numpy(draws.integers(0, size, family.train.batch_size))
            family.step(lambda: dataset[batch], draws)

        with FlopCounterMode(display=False) as counter:
            step()
        for _ in range(2 if small else 20):
            step()
        wait_for(device)
        started, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - started < seconds / (4 * len(names)):
            for _ in range(1 if small else 20):
                step()
            wait_for(device)
            steps += 1 if small else 20
        taken = (time.perf_counter() - started) / steps
        floor = counter.get_total_flops() / measured[f"{settings.precision}_operations_per_s"]
        yield {"name": name, "steps_per_s": 1 / taken, "seconds": taken, "floor_of_all_products_s": floor}


def _judged(name: str, check: Callable[[], bool]) -> Row:
    started = time.perf_counter()
    try:
        return {"name": name, "same": check(), "check_s": time.perf_counter() - started}
    except Exception as error:
        return {"name": name, "same": False, "error": f"{type(error).__name__}: {error}".splitlines()[0]}


PARTS: dict[str, Callable[[str, bool, float], Iterator[Row]]] = {
    "bits": bits,
    "families": families,
    "pairs": pairs,
    "training": training,
}


def run_part(part: str, device: str, small: bool, seconds: float, out: Path) -> None:
    """Run one part in this process; its rows are appended to a file as lines of JSON, each at once."""
    with out.open("a", encoding="utf-8", buffering=1) as file:
        for row in PARTS[part](device, small, seconds):
            file.write(json.dumps({"part": part, **row}, ensure_ascii=False) + "\n")


def run_all(device: str, small: bool, seconds: float, out: Path, parts: Sequence[str]) -> list[Row]:
    """Run parts one after another, each as a process that ends with its time; return all rows."""
    for part in parts:
        limit = SHARE[part] * seconds
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--device", device, "--out", str(out)]
        try:
            # Python and the device take some seconds to start.
            ended = subprocess.run(
                [*command, "--minutes", str(0.8 * limit / 60)], timeout=limit, check=False
            ).returncode
            error = f"ended with code {ended}" if ended else ""
        except subprocess.TimeoutExpired:
            error = f"stopped after {limit:.0f} s"
        if error:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"part": part, "name": part, "same": False, "error": error}) + "\n")
        _print(row for row in _rows(out) if row["part"] == part)
    return _rows(out)


def _rows(out: Path) -> list[Row]:
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def _print(rows: Iterator[Row]) -> None:
    for row in rows:
        values = {name: value for name, value in row.items() if name not in ("part", "name")}
        words = (
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        )
        print(f"{row['part']:9} {row['name']}: {', '.join(words)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit code 0 if all bits are the same, 1 if not, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="most time of all parts together (default 8)")
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, …; cpu runs all of it in small sizes")
    parser.add_argument("--out", type=Path, help="file for lines of JSON; what it holds is replaced")
    parser.add_argument("--part", choices=PARTS, help="this part alone, in this process")
    given = parser.parse_args(arguments)
    small = given.device == "cpu"
    if not small and not torch.cuda.is_available():
        print(
            f"got --device {given.device}, but torch {torch.__version__} finds no GPU; allowed here: --device cpu",
            file=sys.stderr,
        )
        return 2
    if given.part:
        run_part(given.part, given.device, small, 60 * given.minutes, given.out)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder, "rows.jsonl")
        machine = "cpu" if small else torch.cuda.get_device_name(given.device)
        out.write_text(json.dumps({"part": "machine", "name": machine, "torch": torch.__version__}) + "\n", "utf-8")
        _print(iter(_rows(out)))
        rows = run_all(given.device, small, 60 * given.minutes, out, list(PARTS))
    wrong = [row for row in rows if row.get("same") is False]
    print(f"{sum('same' in row for row in rows)} checks, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
