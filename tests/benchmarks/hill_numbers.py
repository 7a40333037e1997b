"""Coverage of unseen share and Hill numbers by simulation, transitive or not: python -m tests.benchmarks.hill_numbers.

Invariant: the intervals are those of ganlab.statistics.hill_numbers, from degrees of simulated samples; none is fitted.
"""

import argparse
import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial import cKDTree

from ganlab.statistics.hill_numbers import effective_numbers, unseen_share
from tests.benchmarks.coverage import SUPPORTS
from tests.benchmarks.supports import Support

Float = npt.NDArray[np.float64]
Degrees = npt.NDArray[np.int64]

EXPECTED = (0.5, 2, 5, 12, 30, 200, 1000, 20_000)
FAST_EXPECTED = (2, 12, 200)
LEAST = 0.93
MOST_IMAGES = 3000  # of a sample
LEAST_HUBS = 5  # expected in a sample: what hangs on a hub that was not seen, no interval can know
_POINTS = 200_000  # that stand for a law whose integrals are not known


class Law(Protocol):
    """What images are drawn from, and which of them are duplicates."""

    @property
    def orders(self) -> tuple[float, float, float]:
        """Hill numbers of order 0, 1 and 2."""

    def draw(self, images: int, rng: np.random.Generator) -> tuple[Degrees, float]:
        """Degrees of a sample, and the probability that the next image duplicates none of it."""


def degrees_of_counts(counts: npt.NDArray[np.int64], singles: int = 0) -> Degrees:
    """Degrees of a sample that holds each image so often, and so many others once."""
    return np.concatenate([np.repeat(counts - 1, counts), np.zeros(singles, np.int64)])


@dataclass(frozen=True)
class Kinds:
    """Images that are equal or not: duplication is transitive."""

    support: Support

    @property
    def rest(self) -> float:
        return max(0.0, 1 - float(self.support.repeating.sum()))

    @property
    def orders(self) -> tuple[float, float, float]:
        p = self.support.repeating
        if self.rest > 1e-9:
            return math.inf, math.inf, 1 / self.support.p2
        return float(len(p)), math.exp(-float(p @ np.log(p))), 1 / self.support.p2

    def draw(self, images: int, rng: np.random.Generator) -> tuple[Degrees, float]:
        p = self.support.repeating
        *counts, singles = rng.multinomial(images, np.append(p, self.rest))
        unseen = self.rest + float(p[np.array(counts) == 0].sum())
        return degrees_of_counts(np.array(counts), singles), unseen


@dataclass(frozen=True)
class Hub:
    """One image of this mass near all others, which are equally likely and not near one another."""

    mass: float
    others: int

    @property
    def orders(self) -> tuple[float, float, float]:
        rest = 1 - self.mass
        near = self.mass + rest / self.others
        return self.mass + rest / near, math.exp(-rest * math.log(near)), 1 / (self.mass + rest * near)

    def draw(self, images: int, rng: np.random.Generator) -> tuple[Degrees, float]:
        hubs = rng.binomial(images, self.mass)
        counts = rng.multinomial(images - hubs, np.full(self.others, 1 / self.others))
        degrees = np.concatenate([degrees_of_counts(counts) + hubs, np.full(hubs, images - 1)])
        return degrees, 0.0 if hubs else (1 - self.mass) * float((counts == 0).mean())


@dataclass(frozen=True)
class Points:
    """Points in space that are duplicates within a distance: clusters of one spread, with these weights."""

    dimensions: int
    reach: float
    centres: Float
    weights: Float
    spread: float

    def points(self, images: int, rng: np.random.Generator) -> Float:
        of = rng.choice(len(self.weights), images, p=self.weights)
        return self.centres[of] + self.spread * rng.standard_normal((images, self.dimensions))

    @cached_property
    def orders(self) -> tuple[float, float, float]:
        if len(self.centres) == 1:
            squared = stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, self.dimensions)
            near = stats.ncx2.cdf((self.reach / self.spread) ** 2, self.dimensions, squared)
        else:
            rng = np.random.default_rng(0)
            tree = cKDTree(self.points(_POINTS, rng))
            found = tree.query_ball_point(self.points(20_000, rng), self.reach, return_length=True)
            near = (found + 1) / (_POINTS + 1)
        return float((1 / near).mean()), math.exp(-float(np.log(near).mean())), 1 / float(near.mean())

    def draw(self, images: int, rng: np.random.Generator) -> tuple[Degrees, float]:
        sample = self.points(images, rng)
        tree = cKDTree(sample)
        degrees = tree.query_ball_point(sample, self.reach, return_length=True) - 1
        nearest, _ = tree.query(self.points(20 * images, rng), distance_upper_bound=self.reach)
        return degrees, float(np.isinf(nearest).mean())


def gaussian(dimensions: int, reach: float) -> Points:
    return Points(dimensions, reach, np.zeros((1, dimensions)), np.ones(1), 1.0)


def clusters(dimensions: int, reach: float, number: int) -> Points:
    weights = 1 / np.arange(1.0, number + 1)
    centres = 5 * np.random.default_rng(1).standard_normal((number, dimensions))
    return Points(dimensions, reach, centres, weights / weights.sum(), 0.3)


LAWS: dict[str, Law] = {
    **{
        name: Kinds(support)
        for name, support in SUPPORTS.items()
        if isinstance(support, Support) and support.near is None
    },
    "points in 1 dimension": gaussian(1, 0.005),
    "points in 2 dimensions": gaussian(2, 0.1),
    "points in 5 dimensions": gaussian(5, 0.7),
    "points in 8 dimensions": gaussian(8, 1.6),
    "50 clusters in 2 dimensions": clusters(2, 0.1, 50),
    "50 clusters in 8 dimensions": clusters(8, 0.7, 50),
    "hub of 2% near all": Hub(0.02, 100_000),
    "hub of 0.5% near all": Hub(0.005, 100_000),
    "hub of 1%, rest 1,000": Hub(0.01, 1000),
}


@dataclass(frozen=True)
class Cell:
    """Shares of simulated samples in which an interval holds, and median estimates over the truth."""

    law: str
    expected: float
    samples: int
    unseen: float
    below: tuple[float, float]  # the lower limits of order 0 and 1
    ratio: tuple[float, float]


def measure(name: str, expected: float, replicates: int, rng: np.random.Generator) -> Cell | None:
    """Simulate samples of the size at which this many duplicates are expected; None where it is not of interest."""
    law = LAWS[name]
    orders = law.orders
    samples = max(2, round((1 + math.sqrt(1 + 8 * expected * orders[2])) / 2))
    if samples > MOST_IMAGES or (isinstance(law, Hub) and samples * law.mass < LEAST_HUBS):
        return None
    holds, below, ratio = [], [], []
    for _ in range(replicates):
        degrees, truth = law.draw(samples, rng)
        share = unseen_share(degrees)
        holds.append(share.low - 1e-12 <= truth <= share.high + 1e-12)
        numbers = effective_numbers(degrees, (0, 1))
        below.append([number.low <= true * (1 + 1e-9) for number, true in zip(numbers, orders[:2], strict=True)])
        ratio.append([number.value / true for number, true in zip(numbers, orders[:2], strict=True)])
    first, second = np.mean(below, axis=0)
    middle = np.median(ratio, axis=0)
    return Cell(name, expected, samples, float(np.mean(holds)), (first, second), (middle[0], middle[1]))


def table(cells: list[Cell]) -> str:
    """One row per law: the least coverage over its sample sizes, and the estimates of its largest samples."""
    lines = [
        "| law | unseen share | order 0, lower limit | order 1, lower limit | order 0 over truth | order 1 over truth |"
    ]
    lines.append("|---" * 6 + "|")
    for law in dict.fromkeys(cell.law for cell in cells):
        rows = [cell for cell in cells if cell.law == law]
        least = [min(cell.unseen for cell in rows), *(min(cell.below[order] for cell in rows) for order in (0, 1))]
        values = [f"{each:.3f}" for each in least] + [f"{each:.2f}" for each in rows[-1].ratio]
        lines.append(f"| {law} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="fewer cells and replicates, under a minute")
    parser.add_argument("--replicates", type=int, help="simulated samples per cell (default 300, fast 100)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    replicates = options.replicates or (100 if options.fast else 300)
    rng = np.random.default_rng(options.seed)
    started = time.monotonic()
    grid = FAST_EXPECTED if options.fast else EXPECTED
    found = [measure(name, expected, replicates, rng) for name in LAWS for expected in grid]
    cells = [cell for cell in found if cell is not None]
    print(f"Least coverage of 95% intervals over {grid} expected duplicates, {replicates:,} samples a cell:\n")
    print(table(cells))
    print(f"{time.monotonic() - started:.0f} s")
    least = LEAST - 3 * math.sqrt(LEAST * (1 - LEAST) / replicates)
    if failed := [cell for cell in cells if min(cell.unseen, *cell.below) < least]:
        raise SystemExit(f"coverage must be at least {least:.3f} in every cell, but is not in {failed}")


if __name__ == "__main__":
    main()
