"""Coverage of the diversity ratio, of perfect generators and with a heavy image; how it depends on the real images.

    python -m tests.benchmarks.ratio

Invariant: distances are those of ganlab.statistics.duplicate_distance, intervals those of ganlab.statistics.diversity;
nothing is fitted here.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture

from ganlab.pairs.closest import Pairs
from ganlab.statistics.diversity import Diversity, diversity
from ganlab.statistics.duplicate_distance import RATES, DuplicateDistance, duplicate_distance, duplicate_distances

REAL_SIZES = (300, 1000, 1797)
GENERATED = 2000
LEAST, MOST = 0.93, 0.98
SAMPLES = 5000
SUBSETS = (150, 300, 600, 1200, 1797)
COPIES, MOST_MOVED = 100, 0.02
POINTS, DIMENSIONS, HEAVY_RATE, HEAVY_SPREAD = 300, 5, 1e-3, 0.08
HEAVY = ((0, 0), (3, 0), (5, 0), (7, 0), (10, 0), (15, 0), (0, 3), (0, 5), (0, 6), (0, 7), (5, 5))
"""Copies of one heavy image that are expected among the generated and among the real points."""
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Mixture:
    """Normal laws fitted to the digits, rounded to uint8: a source whose generator can be perfect."""

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    @classmethod
    def of_digits(cls, components: int = 50) -> "Mixture":
        fit = GaussianMixture(components, reg_covar=20.0, random_state=0).fit(digits().reshape(-1, 64).astype(float))
        return cls(fit.weights_, fit.means_, np.linalg.cholesky(fit.covariances_))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        images = np.empty((count, 64))
        which = rng.choice(len(self.weights), count, p=self.weights)
        for component in np.unique(which):
            mine = which == component
            noise = rng.standard_normal((int(mine.sum()), 64))
            images[mine] = self.means[component] + noise @ self.roots[component].T
        return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def digits() -> np.ndarray:
    return np.rint(load_digits().images * (255 / 16)).astype(np.uint8).reshape(-1, 64)


def measured(real: np.ndarray, confidence: float) -> list[DuplicateDistance | None]:
    """The distance of each rate."""
    return list(duplicate_distances(real, RATES, confidence).values())


def listed(images: np.ndarray, distance: float) -> Pairs:
    """All pairs within a distance, the closest first: exact for 64 values of 8 bits in float32, and fast."""
    values = images.astype(np.float32)
    lengths = np.einsum("nd,nd->n", values, values)
    squared = np.triu(lengths[:, None] + lengths - 2 * (values @ values.T) + 1, 1)
    i, j = np.nonzero((squared > 0) & (squared <= distance**2 + 1))
    found = squared[i, j].astype(np.int64) - 1
    order = np.argsort(found, kind="stable")
    return Pairs(np.stack([i, j], axis=1)[order], found[order])


def diversities(
    generated: np.ndarray, several: Sequence[Sequence[DuplicateDistance | None]], confidence: float
) -> list[list[Diversity | None]]:
    """Diversity at each distance that could be measured, for several sets of real images."""
    close = listed(generated, max(each.high for distances in several for each in distances if each is not None))

    def at(distance: DuplicateDistance) -> Diversity:
        some = close[: int(np.searchsorted(close.squared_distance, distance.high**2, side="right"))]
        return diversity(some.index, some.squared_distance, len(generated), distance, confidence)

    return [[None if each is None else at(each) for each in distances] for distances in several]


@dataclass(frozen=True)
class Cell:
    source: str
    real: int
    rate: float
    coverage: float
    median: float
    width: float
    distance_coverage: float


def coverage(
    source: str, real: int, draw: Draw, draws: int, confidence: float, truth: dict[float, DuplicateDistance | None]
) -> list[Cell]:
    """Cells of one source and number of real images: the ratio of a perfect generator is 1."""
    rng = np.random.default_rng(real)
    found: dict[float, list[tuple[Diversity, DuplicateDistance]]] = {rate: [] for rate in RATES}
    for _ in range(draws):
        real_images, generated = draw(rng)
        distances = measured(real_images, confidence)
        (answers,) = diversities(generated, [distances], confidence)
        for rate, distance, each in zip(RATES, distances, answers, strict=True):
            if each is not None and distance is not None:
                found[rate].append((each, distance))
    cells = []
    for rate, both in found.items():
        if not both:
            continue
        exact = truth.get(rate)
        cells.append(
            Cell(
                source,
                real,
                rate,
                float(np.mean([each.ratio_low <= 1 <= each.ratio_high for each, _ in both])),
                float(np.median([each.ratio for each, _ in both])),
                float(np.median([each.ratio_high / each.ratio_low for each, _ in both])),
                np.nan if exact is None else float(np.mean([d.low <= exact.distance <= d.high for _, d in both])),
            )
        )
    return cells


def halves(images: np.ndarray, real: int) -> Draw:
    """So many real images, and others of them as the sample: at most as many, of those that are left."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        order = rng.permutation(len(images))
        return images[order[:real]], images[order[real : 2 * real]]

    return draw


def heavy(draws: int, confidence: float) -> list[float]:
    """Print how often the interval holds the ratio where one image is drawn often; returns these shares.

    Normal points, 45 pairs of which show the rate; a heavy image lies far from all others, and its copies differ, by more
    than what is set aside as a copy and by less than the distance of the rate.
    """
    print(
        f"\nOne heavy image, {POINTS} normal points in {DIMENSIONS} dimensions, rate {HEAVY_RATE:g}, {draws} draws:\n"
    )
    print("| copies expected, generated | real | coverage | ratio too high | too low | median width |")
    print("|---|---|---|---|---|---|")
    i, j = np.triu_indices(POINTS, 1)
    shares = []
    for copies in HEAVY:
        rng = np.random.default_rng((7, *copies))
        of_generated, of_real = np.divide(copies, POINTS) ** 2
        rest = (HEAVY_RATE - of_real) / (
            1 - copies[1] / POINTS
        ) ** 2  # p2 of the normal points at the distance of the rate
        truth = HEAVY_RATE / ((1 - copies[0] / POINTS) ** 2 * rest + of_generated)
        found = []
        for _ in range(draws):
            generated, real = (_with_heavy(each / POINTS, rng) for each in copies)
            distance = duplicate_distance(real, HEAVY_RATE, confidence)
            squared = ((generated[i].astype(np.float64) - generated[j]) ** 2).sum(1)
            near = squared <= distance.high**2
            each = diversity(np.stack([i, j], axis=1)[near], squared[near], POINTS, distance, confidence)
            found.append((each.ratio_low, each.ratio_high))
        low, high = np.transpose(found)
        shares.append(float(np.mean((low <= truth) & (truth <= high))))
        print(
            f"| {copies[0]} | {copies[1]} | {shares[-1]:.3f} | {np.mean(low > truth):.3f} | {np.mean(high < truth):.3f} "
            f"| {np.median(high / low):.2f} |",
            flush=True,
        )
    return shares


def _with_heavy(mass: float, rng: np.random.Generator) -> np.ndarray:
    points = rng.standard_normal((POINTS, DIMENSIONS))
    often = rng.random(POINTS) < mass
    points[often] = 50 + HEAVY_SPREAD * points[often]
    return points.astype(np.float32)


def stability(mixture: Mixture, repeats: int, confidence: float) -> bool:
    """Print the effective number of one sample against several numbers of real digits, and with copies among them.

    Returns whether subsets' intervals hold the number of all digits as often as they should, and copies move no number.
    """
    real, rng = digits(), np.random.default_rng(0)
    generated = mixture.draw(SAMPLES, np.random.default_rng(1))
    subsets = [
        [rng.permutation(len(real))[:count] for _ in range(repeats if count < len(real) else 1)] for count in SUBSETS
    ]
    distances = [measured(real[subset], confidence) for some in subsets for subset in some]
    *answers, copied = diversities(
        generated, [*distances, measured(np.concatenate([real, real[:COPIES]]), confidence)], confidence
    )
    whole, steady = answers[-1], True
    print(f"\nEffective number of one sample of {SAMPLES:,} (a mixture), by real digits, {repeats} subsets each:\n")
    print("| real digits | rate | median number | median interval | subsets whose interval holds that of all |")
    print("|---|---|---|---|---|")
    for count, some in zip(SUBSETS, subsets, strict=True):
        rows, answers = answers[: len(some)], answers[len(some) :]
        for place, rate in enumerate(RATES):
            all_real = whole[place]
            shown = [each for row in rows if (each := row[place]) is not None]
            if all_real is None or not shown:
                continue
            held = np.mean([each.low <= all_real.effective_number <= each.high for each in shown])
            steady &= bool(held >= LEAST)
            number, low, high = (
                np.median([getattr(each, name) for each in shown]) for name in ("effective_number", "low", "high")
            )
            print(f"| {count:,} | {rate:g} | {number:,.0f} | {low:,.0f} – {high:,.0f} | {held:.2f} |", flush=True)
    pairs = [(a, b) for a, b in zip(whole, copied, strict=True) if a is not None and b is not None]
    moved = max(abs(b.effective_number / a.effective_number - 1) for a, b in pairs)
    print(f"\n{COPIES} copies among all digits move it by {moved:.2%} at most, at {len(pairs)} rates.")
    return steady and moved < MOST_MOVED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400, help="simulated pairs of sets per cell; 0 for none")
    parser.add_argument("--subsets", type=int, default=20, help="random subsets of each number of real digits")
    parser.add_argument("--confidence", type=float, default=0.95)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    mixture = Mixture.of_digits()
    steady = stability(mixture, options.subsets, options.confidence)
    if options.draws == 0:
        raise SystemExit(0 if steady else "the effective number moves with the number of real images")
    truth = duplicate_distances(mixture.draw(10_000, np.random.default_rng(2)), RATES, options.confidence)
    cells: list[Cell] = []
    print(
        f"\nCoverage of the {options.confidence:.0%} interval of a perfect generator's ratio, {options.draws} draws:\n"
    )
    print("| source | real images | rate | coverage | median ratio | median width | coverage of the distance |")
    print("|---|---|---|---|---|---|---|")

    def mixed(real: int) -> Draw:
        return lambda rng: (mixture.draw(real, rng), mixture.draw(GENERATED, rng))

    sources: list[tuple[str, int, Draw, dict[float, DuplicateDistance | None]]] = [
        *((f"mixture, {GENERATED:,} generated", real, mixed(real), truth) for real in REAL_SIZES),
        ("digits against others", 300, halves(digits(), 300), {}),
        ("half of the digits against the other", 898, halves(digits(), 898), {}),
    ]
    for source, real, draw, exact in sources:
        for cell in coverage(source, real, draw, options.draws, options.confidence, exact):
            cells.append(cell)
            print(
                f"| {cell.source} | {cell.real:,} | {cell.rate:g} | {cell.coverage:.3f} | {cell.median:.2f} "
                f"| {cell.width:.2f} | {cell.distance_coverage:.3f} |",
                flush=True,
            )
    shares = heavy(options.draws, options.confidence)
    print(f"\n{time.monotonic() - started:.0f} s")
    wide = sum(cell.coverage > MOST for cell in cells)
    print(f"{wide} of {len(cells)} cells are covered more often than {MOST}: their intervals are wider than needed")
    if options.confidence == 0.95 and min(cell.coverage for cell in cells) < LEAST:
        raise SystemExit(f"coverage must be at least {LEAST} in every cell")
    of_generated = [share for share, (_, real) in zip(shares, HEAVY, strict=True) if real == 0]
    if options.confidence == 0.95 and min(of_generated) < LEAST:
        raise SystemExit(f"coverage must be at least {LEAST} where a generated image is heavy")
    if not steady:
        raise SystemExit("the effective number moves with the number of real images")


if __name__ == "__main__":
    main()
