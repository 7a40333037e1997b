"""Speed of the pair engine against the exact peers, on fresh random images, with results compared in the same run.

Run with ``python -m tests.benchmarks.pairs``; ``--large`` adds 100,000 images. Real pictures, with ``--real FOLDER``:
tests/benchmarks/real_pairs.py. A million: tests/benchmarks/million.py.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from ganlab.pairs.closest import closest_pairs
from tests.benchmarks.real_pairs import GROWTH_PLOT, print_growth, print_real
from tests.benchmarks.table import Target, print_table

Array = NDArray[Any]
OUR_RUNS = 3  # of which the median is taken; peers run once, for up to a minute
Row = tuple[str, float, str, Target]
Nearest = tuple[Array, Array]  # the nearest other image of each image, and its squared distance


def generator(image_shape: tuple[int, int, int], latent: int = 128) -> Callable[[int], Array]:
    """A generator of uint8 images: latent numbers of falling weight, smooth patterns, saturation, pixel noise."""
    rng = np.random.default_rng()
    channels, height, width = image_shape
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    falloff = 1 / (1 / height + np.hypot(y, x))
    patterns = np.fft.ifft2(np.fft.fft2(rng.standard_normal((latent, *image_shape))) * falloff).real
    patterns /= patterns.std(axis=(1, 2, 3), keepdims=True)
    weights = 1 / np.arange(1, latent + 1)
    basis = (patterns.reshape(latent, -1) * (weights / np.linalg.norm(weights))[:, None]).astype(np.float32)

    def generate(count: int) -> Array:
        images = np.empty((count, channels * height * width), np.uint8)
        for start in range(0, count, 1000):
            part = images[start : start + 1000]
            values = np.tanh(0.7 * rng.standard_normal((len(part), latent), dtype=np.float32) @ basis)
            values = 127.5 + 127.5 * values + 2 * rng.standard_normal(values.shape, dtype=np.float32)
            part[:] = np.clip(np.rint(values), 0, 255)
        return images.reshape(count, *image_shape)

    return generate


def noise(image_shape: tuple[int, int, int]) -> Callable[[int], Array]:
    """Independent uniform pixels: no projection helps."""
    rng = np.random.default_rng()
    return lambda count: rng.integers(0, 256, (count, *image_shape), dtype=np.uint8)


def cosine_fields(image_shape: tuple[int, int, int], fields: int = 90) -> Callable[[int], Array]:
    """Sums of cosine waves in each channel, by random amplitudes, those of low frequency the largest, and pixel noise."""
    rng = np.random.default_rng()
    channels, height, width = image_shape
    grid = [(v, u) for v in range(-height // 2, height // 2) for u in range(width // 2) if (u, v) > (0, 0)]
    lowest = np.array(sorted(grid, key=lambda wave: np.hypot(*wave))[:fields])
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    angles = 2 * np.pi * (lowest[:, :1] * y / height + lowest[:, 1:] * x / width)
    waves = np.cos(angles + rng.uniform(0, 2 * np.pi, (channels, fields, 1))).astype(np.float32)
    weights = (1 / np.hypot(*lowest.T)).astype(np.float32)
    weights *= 56 / np.linalg.norm(weights)

    def generate(count: int) -> Array:
        images = np.empty((count, channels, height * width), np.uint8)
        for start in range(0, count, 1000):
            part = images[start : start + 1000]
            amplitudes = rng.standard_normal((channels, len(part), fields), dtype=np.float32) * weights
            values = 127.5 + (amplitudes @ waves).transpose(1, 0, 2)
            values += 2 * rng.standard_normal(values.shape, dtype=np.float32)
            part[:] = np.clip(np.rint(values), 0, 255)
        return images.reshape(count, *image_shape)

    return generate


def flat_index(x: Array) -> Any:
    """The index of faiss that is exact.

    Its wheel brings an OpenBLAS that does not know newer processors and then falls back to SSE3, several times slower;
    told the core's type before it is loaded, it is the fair peer it should be.
    """
    if "OPENBLAS_CORETYPE" not in os.environ and "avx512f" in Path("/proc/cpuinfo").read_text():
        os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    import faiss

    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    return index


def faiss_flat(x: Array) -> Nearest:
    """The nearest other image of each image, by the exact index of faiss."""
    squared, neighbours = flat_index(x).search(x, 2)
    # Of an image and its copy, either may come first.
    other = np.where(neighbours[:, 0] == np.arange(len(x)), 1, 0)
    return neighbours[np.arange(len(x)), other], squared[np.arange(len(x)), other]


def numpy_products(x: Array) -> Nearest:
    """Float32 products over the upper triangle, the nearest kept on both sides."""
    lengths = np.einsum("nd,nd->n", x, x)
    best, where = np.full(len(x), np.inf, np.float32), np.zeros(len(x), np.int64)
    for a in range(0, len(x), 1000):
        rows = slice(a, min(a + 1000, len(x)))
        squared = lengths[rows, None] + lengths[a:] - 2 * (x[rows] @ x[a:].T)
        squared[np.tril_indices(rows.stop - a)] = np.inf
        for part, axis in ((rows, 1), (slice(a, len(x)), 0)):
            least = squared.min(axis=axis)
            closer = least < best[part]
            where[part] = np.where(closer, squared.argmin(axis=axis) + a, where[part])
            best[part] = np.minimum(best[part], least)
    return where, best


def torch_cdist(x: Array) -> Nearest:
    """torch.cdist in blocks, then topk."""
    images = torch.from_numpy(x)
    found = [torch.cdist(images[a : a + 1000], images).topk(2, largest=False) for a in range(0, len(x), 1000)]
    distance, where = (torch.cat([getattr(f, name) for f in found]).numpy() for name in ("values", "indices"))
    other = np.where(where[:, 0] == np.arange(len(x)), 1, 0)
    return where[np.arange(len(x)), other], distance[np.arange(len(x)), other] ** 2


def sklearn_neighbours(x: Array) -> Nearest:
    """scikit-learn's brute force."""
    distance, where = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x).kneighbors()
    return where[:, 0], distance[:, 0] ** 2


def sklearn_chunks(x: Array) -> Nearest:
    """scikit-learn's chunked distances, reduced to the nearest."""

    def nearest(chunk: Array, start: int) -> tuple[Array, Array]:
        chunk[np.arange(len(chunk)), start + np.arange(len(chunk))] = np.inf
        return chunk.argmin(axis=1), chunk.min(axis=1)

    found = list(pairwise_distances_chunked(x, reduce_func=nearest))
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]) ** 2


def scipy_pdist(x: Array) -> Nearest:
    """scipy's distances, which are exact float64 sums of squares."""
    squared = squareform(pdist(x, "sqeuclidean"))
    np.fill_diagonal(squared, np.inf)
    return squared.argmin(axis=1), squared.min(axis=1)


PEERS: dict[str, tuple[Callable[[Array], Nearest], int]] = {  # with the most images each is run on; above, it is scaled
    "faiss IndexFlatL2": (faiss_flat, 20_000),
    "numpy float32 products of the upper triangle": (numpy_products, 20_000),
    "torch.cdist and topk": (torch_cdist, 10_000),
    "scikit-learn NearestNeighbors, brute": (sklearn_neighbours, 10_000),
    "scikit-learn pairwise_distances_chunked": (sklearn_chunks, 10_000),
    "scipy pdist": (scipy_pdist, 1000),
}


def rows(images: int = 10_000, large: bool = False) -> list[Row]:
    """Return (name, value, unit, target); a ratio is a peer's time over ours."""
    shape = (3, 64, 64)
    found = [
        *_compare(f"{images:,} generated", generator(shape)(images), list(PEERS), 5.0),
        *_compare(f"{images:,} noise", noise(shape)(images), ["faiss IndexFlatL2"], 4.0),
        *_compare(f"{2 * images:,} cosine fields", cosine_fields(shape)(2 * images), ["faiss IndexFlatL2"], 36.0),
    ]
    if large:
        found += _compare("100,000 generated", generator(shape)(100_000), list(PEERS)[:2], 30.0)
    return found


def _compare(name: str, images: Array, peers: list[str], target: float) -> list[Row]:
    closest_pairs(images[:2000])  # the libraries load
    runs = [_seconds(lambda: closest_pairs(images)) for _ in range(OUR_RUNS)]
    ours_s, ours = statistics.median(seconds for seconds, _ in runs), runs[0][1]
    found: list[Row] = [(f"{name}: ganlab, 20 closest pairs", ours_s, "s", None)]
    for peer in peers:
        function, most = PEERS[peer]
        part = images[:most]
        # float32 is what the peers take: making it is not counted.
        flat = part.reshape(len(part), -1).astype(np.float32)
        peer_s, nearest = _seconds(lambda function=function, flat=flat: function(flat))
        _check(part, nearest, ours if len(part) == len(images) else closest_pairs(part))
        scaled = (len(images) / len(part)) ** 2
        how = "" if scaled == 1 else f", scaled from {len(part):,}"
        found += [
            (f"{name}: {peer}{how}", peer_s * scaled, "s", None),
            (f"{name}: {peer} over ganlab", peer_s * scaled / ours_s, "ratio", target),
        ]
    return found


def _check(images: Array, nearest: Nearest, ours: Any) -> None:
    """Every image of our closest pairs must have a neighbour as near in the peer's answer, as far as float32 tells."""
    where, squared = nearest
    lengths = np.square(images.reshape(len(images), -1), dtype=np.float64).sum(axis=1)
    wrong = 1e-5 * lengths.max()
    least = np.full(len(images), np.inf)
    np.minimum.at(least, ours.index.ravel(), np.repeat(ours.squared_distance, 2))
    known = np.isfinite(least)
    assert np.all(squared[known] <= least[known] + wrong), "the peer found no pair that we found"
    # The other way round by exact distances: those of a peer in float32 may be wrong by more than a bound for all.
    near = np.flatnonzero(squared < ours.squared_distance[-1] + 4 * wrong)
    flat = images.reshape(len(images), -1)
    pairs = {tuple(pair) for pair in ours.index.tolist()}
    for i, j in zip(near.tolist(), where[near].tolist(), strict=True):
        distance = np.square(flat[i].astype(np.int64) - flat[j]).sum()
        missed = distance < ours.squared_distance[-1] and (min(i, j), max(i, j)) not in pairs
        assert not missed, "we found no pair that the peer found"


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, help="images of each set; by default 10,000 made, all of a real set")
    parser.add_argument("--large", action="store_true", help="100,000 images too")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="real pictures instead, from this folder")
    parser.add_argument("--sets", nargs="+", default=[], help="names of the real sets to measure; by default all")
    parser.add_argument("--queries", type=int, default=1000, help="images that a peer searches for in a real set")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions with real sets; the median is printed")
    parser.add_argument("--growth", action="store_true", help="CPU time per pair of 5,000 to 50,000 of CIFAR-10, drawn")
    parser.add_argument("--plot", type=Path, default=GROWTH_PLOT, help="file of the plot of --growth")
    arguments = parser.parse_args()
    if arguments.growth:
        if arguments.real is None:
            parser.error("--growth needs --real FOLDER, which holds CIFAR-10")
        print_growth(arguments.real, arguments.rounds, arguments.plot)
    elif arguments.real:
        print_real(arguments.real, arguments.sets, arguments.images, arguments.queries, arguments.rounds)
    else:
        print_table(rows(arguments.images or 10_000, arguments.large))
