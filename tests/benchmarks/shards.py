"""Speed of writing and reading shards, against a raw synced file of the same bytes written in turn with each.

Run with ``python -m tests.benchmarks.shards``.
"""

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from storage.layout import TrialLayout
from storage.shards import Images, Samples, ShardPlan, ShardWriter, create_samples

Row = tuple[str, float, str, float | None]
_ROUNDS = 15


def rows() -> list[Row]:
    """Return (name, value, unit, target); a ratio is that of speeds, ours over raw, its target the least wanted."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=os.environ.get("GANLAB_BENCH_FOLDER")) as folder:
        return [
            *_measure(Path(folder, "large"), 4096, (3, 64, 64), rng, target=0.35),
            *_measure(Path(folder, "small"), 2000, (1, 8, 8), rng, target=None),
        ]


def _measure(
    folder: Path, count: int, shape: tuple[int, int, int], rng: np.random.Generator, target: float | None
) -> list[Row]:
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    plan = ShardPlan.make([(step, count) for step in range(_ROUNDS)], shape)
    trial = TrialLayout(folder)
    create_samples(trial, plan)
    writer = ShardWriter(trial, plan)
    assert plan.shard_images == count
    raw_s, shard_s, plain_s, read_s = [], [], [], []
    for shard in plan.shards:
        raw = folder / f"{shard.index}.raw"
        plain = _plain_zarr(folder / f"{shard.index}.zarr", images, plan.chunk_images)
        # In turn, so that a busy disk is as busy for each.
        raw_s.append(_seconds(lambda raw=raw: _write_raw(raw, images)))
        shard_s.append(_seconds(lambda shard=shard: writer.write(shard.index, images)))
        plain_s.append(_seconds(plain))
        raw.unlink()
    samples = Samples(trial)
    samples.read(0, 1)
    for start in rng.integers(0, plan.samples, 50).tolist():
        read_s.append(_seconds(lambda start=start: samples.read(start, start + 1)))
    name = f"shard {count} x {'x'.join(map(str, shape))}"
    ours = statistics.median(r / s for r, s in zip(raw_s, shard_s, strict=True))
    zarrs = statistics.median(r / s for r, s in zip(raw_s, plain_s, strict=True))
    rate = count * math.prod(shape) / statistics.median(shard_s) / 1e6
    return [
        (f"{name}: written, synced, checksummed, committed, against a raw synced file", ours, "ratio", target),
        (f"{name}: Zarr as it comes, its file synced, against a raw synced file", zarrs, "ratio", None),
        (f"{name}: written", rate, "MB/s", None),
        (f"{name}: one image read", 1e3 * statistics.median(read_s), "ms", None),
    ]


def _write_raw(path: Path, images: Images) -> None:
    with path.open("wb", buffering=0) as file:
        rest = images.data.cast("B")
        while rest:
            rest = rest[file.write(rest) or 0 :]
        os.fsync(file.fileno())


def _plain_zarr(path: Path, images: Images, chunk_images: int) -> Callable[[], None]:
    import zarr

    shape = images.shape[1:]
    array = zarr.create_array(
        path, shape=images.shape, dtype="uint8", chunks=(chunk_images, *shape), shards=images.shape, compressors=None
    )

    def write() -> None:
        array[...] = images
        with (path / "c" / "0" / "0" / "0" / "0").open("rb") as file:
            os.fsync(file.fileno())

    return write


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    for name, value, unit, target in rows():
        wanted = "" if target is None else f"   (target {target:g})"
        print(f"{name:<100} {value:10.3f} {unit}{wanted}")
