"""Speed of the pair engine on real pictures against exact peers and a floor; results are compared in the same run.

Run with ``python -m tests.benchmarks.pairs --real FOLDER``; ``--growth`` draws the time per pair of more and more images
of CIFAR-10 instead (docs/pairs.md). FOLDER holds CIFAR-10 in a published layout
(cifar-10-batches-bin/) and pictures of faces (faces/); Fashion-MNIST is read from its Debian package.

- Every round runs ganlab and all peers once, one after the other; a time is the median of the rounds.
- A peer searches a random part of the images in all of them; its time is scaled to all.
- CPU time is that of all threads of this process: beside other work it is steadier than wall time. Threads that wait
  for others may count as busy; with OMP_NUM_THREADS=1 there are none.
- The floor is one pass of integer or bfloat16 matrix products over half of all pairs, at the rate at which a block of
  512 by 4,096 images runs in the same rounds.

Invariant: no time is printed of an answer that differs from that of exact float64 products.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.neighbors import NearestNeighbors

from ganlab.data.datasets.cifar10 import Cifar10Settings
from ganlab.data.datasets.fashion_mnist import FashionMnistSettings
from ganlab.data.datasets.images import ImagesSettings
from ganlab.pairs import Pairs, closest_pairs, nearest

Array = NDArray[Any]
Found = tuple[Array, Array]  # (q, 2) numbers of the nearest two images of each query, and squared distances

COUNT = 2  # nearest images of each: of one set in itself, the image and its nearest other
CLOSEST = 20
EXACT_QUERIES = 200
BLOCK = 512, 4096
GROWTH = 5_000, 10_000, 20_000, 30_000, 40_000, 50_000
GROWTH_PLOT = Path(__file__).parents[2] / "docs" / "pairs-growth-real.png"


class Seconds(NamedTuple):
    """Duration of one call."""

    wall: float
    cpu: float


def real_sets(folder: Path) -> dict[str, Callable[[], Array]]:
    """Loaders of the real sets by name, uint8 (n, ...), smallest first."""
    return {
        "faces": lambda: ImagesSettings(path=folder / "faces", channels=1, resolution=64).load().images,
        "Fashion-MNIST": lambda: FashionMnistSettings(pad=2).load().images[..., 2:-2, 2:-2],  # 28×28, as published
        "CIFAR-10": lambda: Cifar10Settings(path=folder).load().images,
    }


def print_real(folder: Path, names: list[str], images: int | None, queries: int, rounds: int) -> None:
    """Print a table of times and ratios for each set, or what is missing.

    Parameters
    ----------
    folder
        Folder of the real data.
    names
        Sets to measure; empty for all.
    images
        Use only so many random images of each set; None for all.
    queries
        Images that a peer searches for.
    rounds
        Repetitions.
    """
    for name, load in real_sets(folder).items():
        if names and name not in names:
            continue
        try:
            values = load()
        except ValueError as error:
            print(f"{name}: left out; {error}")
            continue
        some = np.random.default_rng().permutation(len(values))[:images]
        Console(width=150).print(_measure(name, values[some].reshape(len(some), -1), queries, rounds))


def print_growth(folder: Path, rounds: int, plot: Path) -> None:
    """Print, and draw, CPU time per pair of more and more random images of CIFAR-10.

    Parameters
    ----------
    folder
        Folder of the real data.
    rounds
        Repetitions; each round runs all sizes, one after the other, and a time is the median of the rounds.
    plot
        Where to draw.
    """
    images = real_sets(folder)["CIFAR-10"]().reshape(-1, 3072)
    images = images[np.random.default_rng().permutation(len(images))]
    nearest(images[:2000], images[:2000], COUNT)  # the libraries load
    times: dict[int, dict[str, list[Seconds]]] = {size: {} for size in GROWTH}
    for _ in range(rounds):
        for size, each in times.items():
            some = images[:size]
            _timed(each, f"{CLOSEST} closest pairs", partial(closest_pairs, some, CLOSEST))
            _timed(each, f"nearest {COUNT} of each in the set", partial(nearest, some, some, COUNT))
            _timed(each, "floor: int8 products of half of all pairs", _block_products(some)["int8"])
    seconds = {
        size: {what: median(one.cpu for one in each) for what, each in by_name.items()}
        for size, by_name in times.items()
    }
    lines: dict[str, list[float]] = {}
    table = Table("CIFAR-10, 3,072 values", *(f"{size:,}" for size in GROWTH))
    for what in seconds[GROWTH[0]]:
        pairs = {size: BLOCK[0] * BLOCK[1] if what.startswith("floor") else size * (size - 1) / 2 for size in GROWTH}
        lines[what] = [1e9 * seconds[size][what] / pairs[size] for size in GROWTH]
        table.add_row(f"{what}: CPU ns per pair", *(f"{value:.3g}" for value in lines[what]))
        if not what.startswith("floor"):
            table.add_row(f"{what}: CPU s", *(f"{seconds[size][what]:.3g}" for size in GROWTH))
    Console(width=150).print(table)
    _draw_growth(lines, plot)


def _draw_growth(lines: Mapping[str, list[float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Any = figure.subplots()
    for what, values in lines.items():
        axes.loglog(GROWTH, values, "--" if what.startswith("floor") else "o-", label=what)
    axes.set_xticks(GROWTH, [f"{size:,}" if size != 40_000 else "" for size in GROWTH])  # no room for all
    axes.minorticks_off()
    axes.set(xlabel="random images of CIFAR-10", ylabel="CPU nanoseconds per pair of images", ylim=(0.1, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def faiss_exact(x: Array, queries: Array) -> Found:
    """The exact index of faiss, with the kernels it has for this processor."""
    from tests.benchmarks.pairs import flat_index

    squared, index = flat_index(x).search(queries, COUNT)
    return index, squared


def torch_products(x: Array, queries: Array) -> Found:
    """Float32 products in blocks, then topk."""
    images = torch.from_numpy(x)
    lengths = images.square().sum(1)

    def block(part: torch.Tensor) -> torch.return_types.topk:
        return (part.square().sum(1)[:, None] + lengths - 2 * part @ images.T).topk(COUNT, largest=False)

    return _joined([block(part) for part in _parts(queries)])


def torch_cdist(x: Array, queries: Array) -> Found:
    """torch.cdist in blocks, then topk."""
    images = torch.from_numpy(x)
    index, distance = _joined([torch.cdist(part, images).topk(COUNT, largest=False) for part in _parts(queries)])
    return index, distance**2


def sklearn_brute(x: Array, queries: Array) -> Found:
    """scikit-learn's brute force."""
    distance, index = NearestNeighbors(n_neighbors=COUNT, algorithm="brute").fit(x).kneighbors(queries)
    return index, distance**2


PEERS: Mapping[str, Callable[[Array, Array], Found]] = {
    "faiss IndexFlatL2": faiss_exact,
    "torch float32 products, topk": torch_products,
    "torch.cdist, topk": torch_cdist,
    "scikit-learn NearestNeighbors, brute": sklearn_brute,
}
TARGETS: Mapping[str, tuple[int, int]] = {"faces": (8, 10), "Fashion-MNIST": (8, 30), "CIFAR-10": (10, 60)}
"""Least ratios of faiss's time over that of ganlab's `nearest` and `closest_pairs`."""


def _parts(queries: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(queries[start : start + 500]) for start in range(0, len(queries), 500)]


def _joined(parts: list[Any]) -> Found:
    index, values = (torch.cat([getattr(part, name) for part in parts]).numpy() for name in ("indices", "values"))
    return index, values


def _measure(name: str, images: Array, queries: int, rounds: int) -> Table:
    n, features = images.shape
    some = np.random.default_rng().choice(n, min(queries, n), replace=False)
    x = images.astype(np.float32)  # the peers take this: making it is not counted
    peers = dict(PEERS)
    try:
        import faiss  # noqa: F401
    except ImportError:
        print(f"{name}: faiss left out; it is not installed (pip install faiss-cpu)")
        del peers["faiss IndexFlatL2"]
    nearest(images[:2000], images[:2000], COUNT)  # the libraries load
    times: dict[str, list[Seconds]] = {}
    products = _block_products(images)
    for _ in range(rounds):
        closest = _timed(times, "closest", lambda: closest_pairs(images, CLOSEST))
        ours = _timed(times, "nearest", lambda: nearest(images, images, COUNT))
        for kind, product in products.items():
            _timed(times, kind, product)
        for peer, search in peers.items():
            _check_peer(peer, images, some, ours, _timed(times, peer, partial(search, x, x[some])))
    _check_exact(images, some[:EXACT_QUERIES], ours)
    _check_closest(closest, ours)
    seconds = {key: Seconds(*(median(column) for column in zip(*each, strict=True))) for key, each in times.items()}
    least = "faiss over nearest ≥ {}, over closest ≥ {}".format(*TARGETS[name])
    table = Table(
        f"{name} {n:,} × {features:,} ({images.nbytes / 1e6:,.0f} MB)",
        *("wall s", "CPU s", "over nearest: wall", "CPU", "over closest: wall", "CPU"),
        title=f"medians of {rounds}, measured side by side in this run; wanted: {least}",
    )

    def add(what: str, each: Seconds) -> None:
        ratios = [
            f"{theirs / own:.2f}"
            for key in ("nearest", "closest")
            for theirs, own in zip(each, seconds[key], strict=True)
        ]
        table.add_row(what, *(f"{value:.3g}" for value in each), *ratios)

    add(f"ganlab, {CLOSEST} closest pairs", seconds["closest"])
    add(f"ganlab, nearest {COUNT} of each in the set", seconds["nearest"])
    for kind in products:
        blocks = n * n / 2 / (BLOCK[0] * BLOCK[1])
        rate = 2 * BLOCK[0] * BLOCK[1] * features / seconds[kind].cpu
        floor = Seconds(*(blocks * value for value in seconds[kind]))
        add(f"floor: {n * n / 1e9 * features:,.0f} Gop in {kind} at {rate / 1e9:,.0f} Gop/s of CPU time", floor)
    for peer in peers:
        scaled = Seconds(*(value * n / len(some) for value in seconds[peer]))
        add(f"{peer}, nearest {COUNT}, scaled from {len(some):,} queries", scaled)
    return table


def _timed(times: dict[str, list[Seconds]], name: str, function: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    times.setdefault(name, []).append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return result


def _block_products(images: Array) -> dict[str, Callable[[], Any]]:
    """Products of one block of images by the type of values."""
    rows, columns = (torch.from_numpy(np.resize(images, (size, images.shape[1])) ^ 128) for size in BLOCK)
    rows, columns = rows.view(torch.int8), columns.view(torch.int8)
    left, right = rows.bfloat16(), columns.bfloat16()
    return {"int8": lambda: torch._int_mm(rows, columns.T), "bfloat16": lambda: left @ right.T}


def _squared(images: Array, i: Array, j: Array) -> Array:
    squared: Array = np.square(images[i].astype(np.int64) - images[j]).sum(axis=-1)
    return squared


def _check_exact(images: Array, queries: Array, ours: Pairs) -> None:
    """Compare index and distance of some queries with products of float64, in which the integers are exact."""
    some = images[queries].astype(np.float64)
    lengths = np.square(some).sum(axis=1)[:, None]
    parts = []
    for start in range(0, len(images), 4096):
        part = images[start : start + 4096].astype(np.float64)
        parts.append(lengths + np.square(part).sum(axis=1) - 2 * some @ part.T)
    squared = np.concatenate(parts, axis=1)
    order = np.argsort(squared, axis=1, kind="stable")[:, :COUNT]  # ties by number
    np.testing.assert_array_equal(ours.index[:, 1].reshape(-1, COUNT)[queries], order)
    np.testing.assert_array_equal(
        ours.squared_distance.reshape(-1, COUNT)[queries], np.take_along_axis(squared, order, axis=1)
    )


def _check_peer(peer: str, images: Array, queries: Array, ours: Pairs, found: Found) -> None:
    """Compare exact distances of a peer's images with ours: as near, as far as float32 tells, and never nearer."""
    wrong = 1e-5 * float(np.square(images[:1000], dtype=np.float64).sum(axis=1).max())
    theirs = np.sort(_squared(images, queries[:, None], found[0]), axis=1)
    own = ours.squared_distance.reshape(-1, COUNT)[queries]
    assert np.all(own <= theirs), f"{peer} found a nearer image"
    assert np.all(theirs <= own + 4 * wrong), f"{peer} found images that are too far"


def _check_closest(closest: Pairs, ours: Pairs) -> None:
    """Compare the closest pairs with the nearest other image of each image."""
    other = ours.squared_distance.reshape(-1, COUNT)[:, -1]
    assert np.all(closest.squared_distance >= other[closest.index].max(axis=1)), "a pair is nearer than the nearest"
    within = np.flatnonzero(other < closest.squared_distance[-1])
    assert np.isin(within, closest.index).all(), "an image of a close pair is missing"
