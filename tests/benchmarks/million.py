"""All pairs of up to a million images from Zarr, over Dask as `ganlab` does it: time, memory, growth, a second worker.

Run with ``python -m tests.benchmarks.million``, which draws the plot of docs/pairs.md; ``--scaling`` compares two workers
with one, ``--collapsed`` compares images that are all equal, ``--distinct`` counts the distinct images, too; ``--real N``
compares the samples with N training images for copying and the quality gate, beside the time of counting their pairs.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist

from cluster.local import local_dask
from ganlab.pairs.content import content_order, take
from ganlab.quality.copying import Word, copying, training_cells
from ganlab.quality.fidelity import RealNeighbours
from ganlab.quality.gate import Evidence, judge
from ganlab.quality.scores import MOST_IMAGES, detail_basis
from jobs.measuring.comparison import Comparison, PartialResult, compare, pair_record
from jobs.measuring.measure import SnapshotImages
from storage.layout import TrialLayout
from storage.shards import Samples, ShardPlan, ShardWriter, create_samples
from tests.benchmarks.pairs import faiss_flat, generator
from tests.benchmarks.table import Target, print_table

Row = tuple[str, float, str, Target]
SHAPE = (3, 32, 32)
PLOT = Path(__file__).parents[2] / "docs" / "pairs-growth.png"


@contextmanager
def stored(samples: int, make: Callable[[int], np.ndarray]) -> Iterator[Samples]:
    """So many images of `make` in the layout of a sweep's trial, in $GANLAB_BENCH_FOLDER or a temporary folder."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("GANLAB_BENCH_FOLDER")) as folder:
        trial = TrialLayout(Path(folder))
        plan = ShardPlan.make([(0, samples)], SHAPE)
        create_samples(trial, plan)
        writer = ShardWriter(trial, plan)
        for shard in plan.shards:
            writer.write(shard.index, make(shard.stop - shard.start))
        yield Samples(trial)


def measured(images: Samples, count: int, workers: int, memory_bytes: int) -> tuple[float, PartialResult]:
    """Seconds that comparing the first `count` images takes workers that have started, and what they found."""
    wanted = Comparison(SnapshotImages(images, 0, count), os.urandom(8).hex(), threshold_squared=0.0)
    share = memory_bytes // (workers + 1)  # one for the scheduler and this process
    with local_dask(workers) as map:
        list(map(_start, range(4 * workers)))
        start = time.perf_counter()
        ((_, found),) = compare({"all": (wanted, None)}, share, map, lambda done, total, left: None)
        seconds = time.perf_counter() - start
    assert isinstance(found, PartialResult)
    assert found.collisions is not None
    assert found.collisions.complete
    return seconds, found


def _start(number: int) -> None:
    """Import what a task needs, and try the matrix products."""
    from ganlab.pairs.closest import closest_pairs

    closest_pairs(np.random.default_rng(number).integers(0, 256, (2000, 200), dtype=np.uint8))
    time.sleep(0.2)  # so that every worker gets one


def collapsed(samples: int, workers: int, memory_bytes: int) -> list[Row]:
    """The same of a generator that makes one image: every pair is a duplicate."""
    with stored(samples, lambda count: np.full((count, *SHAPE), 7, np.uint8)) as images:
        seconds, found = measured(images, samples, workers, memory_bytes)
    assert found.collisions is not None
    assert found.collisions.duplicates == samples * (samples - 1) // 2
    assert (found.collisions.degrees == samples - 1).all()
    kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return [
        (f"{samples:,} equal images, all pairs duplicates", seconds, "s", None),
        (f"{samples:,} equal images: peak memory of a worker", kib / 2**20, "GiB", None),
    ]


def distinct(samples: int, memory_bytes: int, probabilities: Sequence[float]) -> list[Row]:
    """CPU seconds of finding the distinct images beside those of counting the pairs, in one process, at several p2."""
    rows: list[Row] = []
    with stored(samples, generator(SHAPE)) as images:
        few = images.read(0, min(samples, 3000)).reshape(-1, int(np.prod(SHAPE))).astype(np.float32)
        near = np.sort(pdist(few, "sqeuclidean"))
        for p2 in probabilities:
            threshold_squared = float(near[int(p2 * len(near))])
            wanted = Comparison(SnapshotImages(images, 0, samples), os.urandom(8).hex(), threshold_squared)
            start = time.process_time()
            ((_, found),) = compare({"all": (wanted, None)}, memory_bytes, map, lambda done, total, left: None)
            assert isinstance(found, PartialResult)
            counted = time.process_time()
            record = pair_record(wanted, found, None, memory_bytes)
            done = time.process_time()
            name = f"{samples:,} x 3x32x32, p2 {record.degrees.sum() / samples / (samples - 1):.1e}"
            rows += [
                (f"{name}: all pairs, one process", counted - start, "CPU s", None),
                (f"{name}: the {record.distinct:,} distinct images", done - counted, "CPU s", None),
                (f"{name}: both over all pairs", (done - start) / (counted - start), "ratio", "≤ 1.3"),
            ]
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [*rows, (f"{samples:,}: peak memory", kib / 2**20, "GiB", None)]


def against_real(samples: int, real: int, memory_bytes: int) -> list[Row]:
    """CPU seconds of copying and quality gate beside those of counting the pairs, in one process.

    A tenth as many images as there are training images are held out; one sample of a hundred is a copy.
    """
    make = generator(SHAPE)

    def with_copies(count: int) -> np.ndarray:
        images = make(count)
        images[::100] = training.read(0, len(images[::100]))
        return images

    with stored(real, make) as training, stored(real // 10, make) as test, stored(samples, with_copies) as images:
        sources = [SnapshotImages(each, 0, each.shape[0]) for each in (images, training, test)]
        wanted = {
            "all pairs of the samples": Comparison(sources[0], os.urandom(8).hex(), 0.0),
            "nearest training image": Comparison(sources[0], os.urandom(8).hex(), reference=sources[1]),
            "nearest training image of held-out images": Comparison(
                sources[2], os.urandom(8).hex(), reference=sources[1]
            ),
            "nearest other training image": Comparison(
                sources[1], os.urandom(8).hex(), reference=sources[1], itself=True
            ),
        }
        seconds, near = {}, {}
        for name, each in wanted.items():
            start = time.process_time()
            ((_, found),) = compare({"all": (each, None)}, memory_bytes, map, lambda done, total, left: None)
            seconds[name] = time.process_time() - start
            assert isinstance(found, PartialResult)
            if found.neighbours is not None:
                squared = found.neighbours.squared_distance[:, 0].astype(np.float64)
                near[name] = (np.sqrt(squared), found.neighbours.index[:, 0])
        start = time.process_time()
        order = content_order(sources[1].read, real)
        cells = training_cells(sources[1].read, real, order, real // 10)
        own, held_out, of_samples = (near[name] for name in reversed(list(near)))
        neighbours = RealNeighbours(own[0], *held_out, cells)
        assert copying(*of_samples, neighbours).word == Word.COPIES
        seconds["copying, from these distances"] = time.process_time() - start
        start = time.process_time()
        basis = detail_basis(sources[1].read, real, order)
        assert basis is not None
        looked_at = order[:MOST_IMAGES]
        real_detail = basis.detail(take(sources[1].read, looked_at[len(looked_at) // 2 :]))
        detail = basis.detail(sources[0].read(0, min(samples, MOST_IMAGES)))
        assert judge(Evidence(of_samples[0], detail), Evidence(held_out[0], real_detail)).passes
        seconds["quality gate"] = time.process_time() - start
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    name = f"{samples:,} x 3x32x32, {real:,} training images"
    counted, *others = seconds.values()
    return [
        *((f"{name}: {part}", each, "CPU s", None) for part, each in seconds.items()),
        (f"{name}: all but the pairs over the pairs", sum(others) / counted, "ratio", None),
        (f"{name}: peak memory", kib / 2**20, "GiB", "≤ 4"),
    ]


def scaling(samples: int, memory_bytes: int) -> list[Row]:
    """Two workers against one, in turns: the best of two each."""
    best: dict[int, float] = {}
    with stored(samples, generator(SHAPE)) as images:
        for workers in (1, 2, 1, 2):
            seconds, _ = measured(images, samples, workers, memory_bytes)
            best[workers] = min(seconds, best.get(workers, np.inf))
    name = f"{samples:,} x 3x32x32"
    return [
        (f"{name}: one worker", best[1], "s", None),
        (f"{name}: two workers", best[2], "s", None),
        (f"{name}: one over two", best[1] / best[2], "ratio", 1.8),
    ]


def million(samples: int, workers: int, memory_bytes: int, plot: Path) -> list[Row]:
    """Time at every size from 10,000 to `samples`, memory at the largest, and faiss at the least; draws the plot."""
    sizes = [size for size in (10_000, 30_000, 100_000, 300_000, 1_000_000) if size < samples] + [samples]
    seconds = []
    with stored(samples, generator(SHAPE)) as images:
        for size in sizes:
            seconds.append(measured(images, size, workers, memory_bytes)[0])
        kib = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            + workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # that of the largest
        )
        few = images.read(0, sizes[0]).reshape(sizes[0], -1).astype(np.float32)
    start = time.perf_counter()
    faiss_flat(few)
    peer = time.perf_counter() - start
    _draw(sizes, seconds, peer, workers, plot)
    name = f"x 3x32x32 from Zarr, all pairs, {workers} workers of one thread"
    return [
        *((f"{size:,} {name}", each, "s", None) for size, each in zip(sizes[:-1], seconds, strict=False)),
        (f"{samples:,} {name}", seconds[-1], "s", "≤ 900"),
        (f"{samples:,}: pairs", samples * (samples - 1) / 2 / seconds[-1], "/s", None),
        (f"{samples:,}: peak memory, all processes", kib / 2**20, "GiB", "≤ 4"),
        (f"{sizes[0]:,}: faiss IndexFlatL2", peer, "s", None),
    ]


def _draw(sizes: list[int], seconds: list[float], peer: float, workers: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Any = figure.subplots()
    axes.loglog(sizes, seconds, "o-", color="C0", label=f"ganlab, {workers} workers of one thread")
    scaled = [peer * (size / sizes[0]) ** 2 for size in sizes]
    axes.loglog(sizes, scaled, "--", color="C1", label=f"faiss IndexFlatL2, scaled from {sizes[0]:,}")
    axes.loglog(sizes[:1], [peer], "s", color="C1")
    axes.set(xlabel="images of 3×32×32", ylabel="seconds for all pairs")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-gib", type=float, default=4.0, help="of all processes together")
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--scaling", action="store_true", help="two workers against one (use --samples 200000)")
    parser.add_argument("--distinct", action="store_true", help="distinct images too (use --samples 100000)")
    parser.add_argument("--p2", type=float, nargs="+", default=[1e-6, 1e-5, 1e-4, 1e-3], help="for --distinct")
    parser.add_argument("--real", type=int, metavar="N", help="copying and quality gate against N training images")
    parser.add_argument("--collapsed", action="store_true", help="all images equal (use --samples 200000)")
    arguments = parser.parse_args()
    memory = int(arguments.memory_gib * 2**30)
    if arguments.scaling:
        print_table(scaling(arguments.samples, memory))
    elif arguments.distinct:
        print_table(distinct(arguments.samples, memory, arguments.p2))
    elif arguments.real:
        print_table(against_real(arguments.samples, arguments.real, memory))
    elif arguments.collapsed:
        print_table(collapsed(arguments.samples, arguments.workers, memory))
    else:
        print_table(million(arguments.samples, arguments.workers, memory, arguments.plot))
