"""Coverage of the support size's interval by simulation: python -m tests.benchmarks.coverage.

Invariant: the intervals are those of ganlab.intervals, from the degrees of simulated samples; nothing is fitted here.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ganlab.intervals import pair_probability_interval

Float = npt.NDArray[np.float64]

EXPECTED = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 12, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000)
FAST_EXPECTED = (0.5, 2, 5, 12, 30, 200)
LEAST, MOST = 0.93, 0.985


@dataclass(frozen=True)
class Counts:
    """What the interval needs, one entry per simulated sample."""

    ordered_pairs: Float
    ordered_triples: Float
    largest_degree: Float


@dataclass(frozen=True)
class Cell:
    support: str
    expected: float
    samples: int
    coverage: float
    width: float
    gamma_coverage: float


@dataclass(frozen=True)
class Support:
    """Probabilities of the images that can repeat; what is left of 1 goes to images that never do."""

    probabilities: Float

    @property
    def p2(self) -> float:
        return float((self.probabilities**2).sum())

    def draw(self, samples: int, replicates: int, rng: np.random.Generator) -> Counts:
        others = max(0.0, 1 - self.probabilities.sum())
        counts = rng.multinomial(samples, np.append(self.probabilities, others), replicates)[:, :-1].astype(float)
        ordered_pairs = counts * (counts - 1)
        return Counts(ordered_pairs.sum(1), (ordered_pairs * (counts - 2)).sum(1), np.maximum(counts.max(1) - 1, 0))


@dataclass(frozen=True)
class Line:
    """Normal points on a line, duplicates within a distance: duplication that is not transitive."""

    reach: float

    @property
    def p2(self) -> float:
        return float(2 * stats.norm.cdf(self.reach / math.sqrt(2)) - 1)

    def draw(self, samples: int, replicates: int, rng: np.random.Generator) -> Counts:
        rows = np.arange(replicates)[:, None] * 100.0
        points = np.sort(rng.standard_normal((replicates, samples)) + rows, axis=1).ravel()
        right = np.searchsorted(points, points + self.reach, side="right")
        degree = (right - np.searchsorted(points, points - self.reach) - 1).reshape(replicates, samples).astype(float)
        return Counts(degree.sum(1), (degree * (degree - 1)).sum(1), degree.max(1))


def heavy(mass: float, others: int) -> Support:
    return Support(np.concatenate([[mass], np.full(others, (1 - mass) / max(others, 1))]))


def two_level(images: int, mass: float, others: int) -> Support:
    return Support(np.concatenate([np.full(images, mass / images), np.full(others, (1 - mass) / others)]))


def normalised(weights: Float) -> Support:
    return Support(weights / weights.sum())


SUPPORTS: dict[str, Support | Line] = {
    "uniform, 1,000": normalised(np.ones(1000)),
    "uniform, 10,000": normalised(np.ones(10_000)),
    "Zipf, exponent 1, 1,000": normalised(1 / np.arange(1.0, 1001)),
    "Zipf, exponent 2, 1,000": normalised(1 / np.arange(1.0, 1001) ** 2),
    "geometric, ratio 0.9": normalised(0.9 ** np.arange(150.0)),
    "geometric, ratio 0.99": normalised(0.99 ** np.arange(1500.0)),
    **{
        f"one of {mass:.0%}, {rest}": heavy(mass, others)
        for mass in (0.01, 0.1, 0.5)
        for others, rest in ((0, "rest never twice"), (1000, "rest 1,000"))
    },
    "one of 1%, rest 10,000": heavy(0.01, 10_000),
    "3 hold 10%, rest 1,000": two_level(3, 0.1, 1000),
    "10 hold 50%, rest 1,000": two_level(10, 0.5, 1000),
    "points on a line": Line(0.005),
}


def gamma_law(samples: int, counts: Counts, confidence: float) -> tuple[Float, Float]:
    """The interval to beat: a gamma law whose effective count is p2² over its estimated variance."""
    n, error = samples, 1 - confidence
    pairs = np.maximum(counts.ordered_pairs, 1)
    p2 = pairs / (n * (n - 1))
    p3 = counts.ordered_triples / max(n * (n - 1) * (n - 2), 1)
    variance = 4 * (n - 2) * np.maximum(p3 - p2**2, 0) / (n * (n - 1)) + 2 * p2 * (1 - p2) / (n * (n - 1))
    effective = np.minimum(p2**2 / np.maximum(variance, 1e-300), 1e12)
    low = p2 * stats.gamma.ppf(error / 2, effective) / effective
    return low, p2 * stats.gamma.ppf(1 - error / 2, effective + 1) / effective


def measure(name: str, expected: float, replicates: int, rng: np.random.Generator, confidence: float = 0.95) -> Cell:
    """Simulate samples of the size at which this many duplicates are expected (two images at least)."""
    support = SUPPORTS[name]
    samples = max(2, round((1 + math.sqrt(1 + 8 * expected / support.p2)) / 2))
    chunk = min(replicates, 200)  # keeps the arrays below some 20 MB
    parts = [support.draw(samples, min(chunk, replicates - done), rng) for done in range(0, replicates, chunk)]
    fields = ("ordered_pairs", "ordered_triples", "largest_degree")
    counts = Counts(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))
    low, high = pair_probability_interval(
        samples, counts.ordered_pairs, counts.ordered_triples, counts.largest_degree, confidence
    )
    gamma_low, gamma_high = gamma_law(samples, counts, confidence)
    none = counts.ordered_pairs == 0
    with np.errstate(divide="ignore"):
        width = float(np.median(high / low))
    return Cell(
        name,
        expected,
        samples,
        _share_covered(low, high, support.p2),
        width,
        _share_covered(np.where(none, 0, gamma_low), np.where(none, high, gamma_high), support.p2),
    )


def _share_covered(low: Float, high: Float, truth: float) -> float:
    return float(((low <= truth * (1 + 1e-12)) & (truth * (1 - 1e-12) <= high)).mean())


def table(cells: list[Cell], show: Callable[[Cell], str]) -> str:
    """Lay the cells out in Markdown: a row per support, a column per expected number of duplicates."""
    columns = sorted({cell.expected for cell in cells})
    lines = ["| support | " + " | ".join(f"{each:,g}" for each in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(cell.support for cell in cells):
        row = {cell.expected: show(cell) for cell in cells if cell.support == name}
        lines.append(f"| {name} | " + " | ".join(row[each] for each in columns) + " |")
    return "\n".join(lines)


def summary(cells: list[Cell], title: str, coverage: Callable[[Cell], float]) -> str:
    values = np.array([coverage(cell) for cell in cells])
    worst = cells[int(values.argmin())]
    return (
        f"{title}: {len(values)} cells, least {values.min():.3f} ({worst.support}, {worst.expected:g} expected), "
        f"mean {values.mean():.3f}"
    )


def show_width(cell: Cell) -> str:
    if math.isinf(cell.width):
        return "∞"
    return f"{cell.width:.2f}" if cell.width < 10 else f"{cell.width:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="fewer cells and replicates, under a minute")
    parser.add_argument("--replicates", type=int, help="simulated samples per cell (default 5000, fast 1000)")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    replicates = options.replicates or (1000 if options.fast else 5000)
    rng = np.random.default_rng(options.seed)
    started = time.monotonic()
    grid = FAST_EXPECTED if options.fast else EXPECTED
    cells = [measure(name, expected, replicates, rng, options.confidence) for name in SUPPORTS for expected in grid]
    many = [cell for cell in cells if cell.expected >= 5]
    few = [cell for cell in cells if cell.expected < 5]
    print(
        f"Coverage of the {options.confidence:.0%} interval, {replicates:,} samples a cell, by expected duplicates:\n"
    )
    print(table(cells, lambda cell: f"{cell.coverage:.3f}"))
    print("\nMedian width, upper over lower end (∞: most samples hold no duplicate):\n")
    print(table(cells, show_width))
    print()
    print(summary(many, "5 and more expected", lambda cell: cell.coverage))
    print(summary(few, "fewer than 5 expected", lambda cell: cell.coverage))
    print(summary(many, "gamma law, 5 and more", lambda cell: cell.gamma_coverage))
    print(f"{time.monotonic() - started:.0f} s")
    mean = float(np.mean([cell.coverage for cell in many]))
    if options.confidence == 0.95 and (min(cell.coverage for cell in cells) < LEAST or mean > MOST):
        raise SystemExit(f"coverage must be at least {LEAST} in every cell and at most {MOST} on average")


if __name__ == "__main__":
    main()
