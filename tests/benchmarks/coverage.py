"""Coverage of the support size's interval by simulation: python -m tests.benchmarks.coverage.

Invariant: the intervals are those of ganlab.statistics.intervals, from degrees of simulated samples; nothing is fitted.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from ganlab.randomness import generator_for
from ganlab.statistics.intervals import pair_probability_interval
from tests.benchmarks.interval_0_1_0 import interval_0_1_0
from tests.benchmarks.supports import (
    AnySupport,
    Counts,
    Line,
    heavy,
    heavy_tail,
    hub,
    lognormal,
    normal_points,
    normalised,
    stars,
    trained_gan,
    two_level,
)

Float = npt.NDArray[np.float64]

EXPECTED = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 12, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000)
FAST_EXPECTED = (0.5, 2, 5, 12, 30, 200)
SAMPLES = (200, 600, 2000, 6000, 20_000)
FAST_SAMPLES = (200, 2000)
LEAST, MOST = 0.93, 0.98


@dataclass(frozen=True)
class Rule:
    """Coverage of a rule in a cell, and the median of upper over lower end."""

    coverage: float
    width: float


@dataclass(frozen=True)
class Cell:
    """Rules on the same simulated samples; ``absent`` is the probability that a sample holds no hub."""

    support: str
    expected: float
    samples: int
    absent: float
    ideal_width: float
    today: Rule
    before: Rule
    gamma: Rule


SUPPORTS: dict[str, AnySupport] = {
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

LARGE: dict[str, AnySupport] = {
    "hub of 0.5%, near all": hub(0.005),
    "hub of 2%, near all": hub(0.02),
    "hub of 2%, near all of 1,000": hub(0.02, others=1000),
    "hub of 1%, near 20%": hub(0.01, 0.2),
    "10 stars": stars(10, 0.02, 0.5),
    "100 stars": stars(100, 0.1, 0.8),
    "lognormal, σ = 1": lognormal(1),
    "lognormal, σ = 2": lognormal(2),
    "lognormal, σ = 3": lognormal(3),
    "3% and 2% over a power law": heavy_tail(0.03, 0.02),
    "2%, 2% and 1% over a power law": heavy_tail(0.02, 0.02, 0.01),
}

GAN = "trained DCGAN"
POINTS = {f"normal points in {dimensions} dimensions": (dimensions, 1e-3) for dimensions in (2, 5, 8)}


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


def measure(
    name: str,
    support: AnySupport,
    samples: int,
    replicates: int,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Cell:
    """Simulate samples of this size and compute the rules' intervals from them."""
    chunk = max(1, min(replicates, 200, 4_000_000 // samples))  # keeps the arrays of most supports below some 40 MB
    parts = [support.draw(samples, min(chunk, replicates - done), rng) for done in range(0, replicates, chunk)]
    counts = Counts(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Counts)))
    pairs, triples = counts.ordered_pairs, counts.ordered_triples
    today = pair_probability_interval(samples, pairs, triples, counts.mode_size, confidence)
    before = interval_0_1_0(samples, pairs, triples, counts.largest_degree, confidence)
    gamma = gamma_law(samples, counts, confidence)
    none = pairs == 0
    gamma = np.where(none, 0, gamma[0]), np.where(none, today[1], gamma[1])
    logs = np.log(pairs[~none]) if (~none).any() else np.zeros(1)
    return Cell(
        name,
        samples * (samples - 1) / 2 * support.p2,
        samples,
        (1 - support.hub_mass) ** samples if support.hub_mass else 0.0,
        math.exp(2 * stats.norm.ppf((1 + confidence) / 2) * logs.std()),
        *(_rule(*ends, support.p2) for ends in (today, before, gamma)),
    )


def samples_for(expected: float, p2: float) -> int:
    """Sample size at which this many duplicates are expected: two images at least."""
    return max(2, round((1 + math.sqrt(1 + 8 * expected / p2)) / 2))


def _rule(low: Float, high: Float, truth: float) -> Rule:
    with np.errstate(divide="ignore"):
        width = float(np.median(high / low))
    return Rule(float(((low <= truth * (1 + 1e-12)) & (truth * (1 - 1e-12) <= high)).mean()), width)


def table(cells: list[Cell], column: Callable[[Cell], float], show: Callable[[Cell], str]) -> str:
    """Lay the cells out in Markdown: a row per support, a column per expected number of duplicates or sample size."""
    columns = sorted({column(cell) for cell in cells})
    lines = ["| support | " + " | ".join(f"{each:,g}" for each in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(cell.support for cell in cells):
        row = {column(cell): show(cell) for cell in cells if cell.support == name}
        lines.append(f"| {name} | " + " | ".join(row[each] for each in columns) + " |")
    return "\n".join(lines)


def summary(cells: list[Cell], title: str, rule: Callable[[Cell], Rule]) -> str:
    values = np.array([rule(cell).coverage for cell in cells])
    worst = cells[int(values.argmin())]
    return (
        f"| {title} | {len(values)} | {values.min():.3f} ({worst.support}, {worst.samples:,} images) | "
        f"{values.mean():.3f} |"
    )


def show_coverage(cell: Cell, confidence: float) -> str:
    return f"{cell.today.coverage:.3f}" + ("°" if cell.absent > 1 - confidence else "")


def show_width(width: float) -> str:
    if math.isinf(width):
        return "∞"
    return f"{width:.2f}" if width < 10 else f"{width:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="fewer cells and replicates, about a minute")
    parser.add_argument("--replicates", type=int, help="simulated samples per cell (default 2000, fast 500)")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--gan", type=Path, metavar="FILE.npy", help="a trained GAN too; FILE keeps its pairs (minutes)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="supports whose name holds this alone")
    options = parser.parse_args()
    replicates = options.replicates or (500 if options.fast else 2000)
    started = time.monotonic()

    def wanted(name: str) -> bool:
        return options.only in name

    def cell(name: str, support: AnySupport, samples: int) -> Cell:
        """A cell whose draws depend on the seed, its support and its sample size alone."""
        rng = generator_for(options.seed, name, samples)
        return measure(name, support, samples, replicates, rng, options.confidence)

    large: dict[str, AnySupport] = {name: support for name, support in LARGE.items() if wanted(name)}
    large |= {name: normal_points(*of) for name, of in POINTS.items() if wanted(name)}
    if options.gan and wanted(GAN):
        large[GAN] = trained_gan(options.gan)
    by_samples = (
        cell(name, support, n) for name, support in large.items() for n in (FAST_SAMPLES if options.fast else SAMPLES)
    )
    by_expected = (
        replace(cell(name, support, samples_for(each, support.p2)), expected=each)
        for name, support in SUPPORTS.items()
        if wanted(name)
        for each in (FAST_EXPECTED if options.fast else EXPECTED)
    )
    error = math.sqrt(options.confidence * (1 - options.confidence) / replicates)
    print(
        f"Coverage of the {options.confidence:.0%} interval, {replicates:,} samples a cell: "
        f"standard error {error:.4f}.\n"
    )
    every: list[Cell] = []
    for drawn, column, title in (
        (by_samples, lambda cell: cell.samples, "images (°: no hub in more than 5 % of the samples)"),
        (by_expected, lambda cell: cell.expected, "expected duplicates"),
    ):
        cells = list(drawn)
        if not cells:
            continue
        every += cells
        print(f"Coverage by {title}:\n")
        print(table(cells, column, lambda cell: show_coverage(cell, options.confidence)))
        print(f"\nCoverage of ganlab 0.1.0 by {title}:\n")
        print(table(cells, column, lambda cell: f"{cell.before.coverage:.3f}"))
        print("\nMedian width, upper over lower end: this rule / 0.1.0 / with the spread of the estimate known:\n")
        print(
            table(
                cells,
                column,
                lambda cell: " / ".join(
                    show_width(each) for each in (cell.today.width, cell.before.width, cell.ideal_width)
                ),
            )
        )
        print(flush=True)
    judged = [cell for cell in every if cell.absent <= 1 - options.confidence]
    if not judged:
        parser.error(f"--only: got {options.only!r}; allowed is a part of a support's name, such as 'hub'")
    many, few = ([cell for cell in judged if (cell.expected >= 5) == each] for each in (True, False))
    between = [cell for cell in judged if min(SAMPLES) <= cell.samples <= max(SAMPLES)]
    print("| | cells | least | mean |\n|---|---|---|---|")
    for cells, title, rule in (
        (between, f"{min(SAMPLES):,} to {max(SAMPLES):,} images", lambda cell: cell.today),
        (many, "5 and more expected", lambda cell: cell.today),
        (few, "fewer than 5 expected", lambda cell: cell.today),
        (many, "ganlab 0.1.0, 5 and more", lambda cell: cell.before),
        (many, "gamma law, 5 and more", lambda cell: cell.gamma),
    ):
        if cells:
            print(summary(cells, title, rule))
    print(f"{time.monotonic() - started:.0f} s")
    if options.confidence == 0.95:
        least = min(cell.today.coverage for cell in judged)
        mean = max(np.mean([cell.today.coverage for cell in cells]) for cells in (many, between) if cells)
        if least < LEAST or mean > MOST:
            raise SystemExit(f"coverage must be at least {LEAST} in every cell and at most {MOST} on average")


if __name__ == "__main__":
    main()
