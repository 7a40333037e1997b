"""What a first look leaves of blocks of real images, in the order of clusters and in others: no times, but counts.

Run with ``python -m tests.benchmarks.order FOLDER``, the folder of real pictures as in tests/benchmarks/real_pairs.py.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ganlab.pairs import plan
from ganlab.pairs.exact import Images
from ganlab.pairs.filter_refine import nearest_bounds
from ganlab.pairs.neighbours import is_long_search, learn_for_neighbours
from ganlab.pairs.pivots import by_clusters
from tests.benchmarks.real_pairs import real_sets

BLOCK = 512, 4096
COUNT = 2  # nearest images of each: itself, and the nearest other


def row(name: str, values: np.ndarray[Any, Any]) -> list[str]:
    """Shares of blocks of 512 x 4,096 pairs that the rows and columns with a pair left take, and the levels looked at."""
    images = Images(values.reshape(len(values), -1))
    long = is_long_search(len(images), len(images), images.features)
    screen = learn_for_neighbours(lambda start, stop: images.values[start:stop], len(images), COUNT, long)
    assert screen is not None
    bounds = nearest_bounds(images, images, screen, COUNT)
    projected = screen.project(images, screen.levels[0])
    clusters = by_clusters(projected, projected, bounds, bounds)[0]
    orders = {"clusters": clusters, "bounds": np.argsort(-bounds, kind="stable"), "stored": np.arange(len(images))}
    levels = plan.cheapest_plan(images, images, screen, bounds, bounds, None, BLOCK, itself=True).levels
    plan._JUDGED_BLOCKS, plan._ONE_OF = 64, 8
    left = [
        plan._area_in_order(screen, projected, projected, bounds, bounds, (each, each), BLOCK)
        for each in orders.values()
    ]
    taken = ", ".join(map(str, levels)) or "none"
    return [f"{name} {len(images):,} × {images.features:,}", *(f"{share:.1%}" for share in left), taken]


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    table = Table("images", "left: in clusters", "by bounds", "as stored", "directions of the looks taken here")
    for name, read in real_sets(parser.parse_args().folder).items():
        table.add_row(*row(name, read()))
    Console().print(table)


if __name__ == "__main__":
    main()
