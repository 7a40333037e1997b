"""Spaces and scores against people's judgement of near-duplicates.

    python -m tests.benchmarks.duplicates FOLDER

FOLDER holds CIFAR-10 in its binary layout (cifar-10-batches-bin/) and cifar10-duplicates.csv, whose rows begin with the
numbers of a test image and of a training image that people judged to be the same picture, or nearly.

- average precision: test images are ranked by a score; a test image with a pair in the list is a positive. Scores: the
  distance to the nearest training image, and this over the distance to the 5th nearest (`ganlab.quality.relative`);
- nearest is theirs: share of the positives whose nearest training image is the one of a pair;
- precision and recall: of "the nearest training image lies within the default duplicate distance".

The list was made by looking at neighbours in a classifier's features: a pair that only another space finds is missing in
it and counts as wrong.

Invariant: neighbours and distances are those of the pair engine; nothing is fitted to the list.
"""

import argparse
import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ganlab.data.cifar import read_cifar10
from ganlab.pairs import nearest
from ganlab.quality.embedding import train_classifier
from ganlab.quality.embeddings.base import Embedding, EmbeddingError
from ganlab.quality.embeddings.names import PIXELS
from ganlab.quality.embeddings.registry import embedding_of
from ganlab.quality.relative import NEIGHBOURS, relative_distance
from ganlab.statistics.duplicate_distance import duplicate_distance

SPACES = (
    "pixels",
    "normalised",
    "classifier",
    "classifier-unit",
    "normalised+classifier",
    "efficientnet-lite0",
    "normalised+efficientnet-lite0",
)


@dataclass(frozen=True)
class Agreement:
    """How far a space agrees with people, each a share."""

    by_distance: float
    by_relative_distance: float
    nearest_is_theirs: float
    precision: float
    recall: float


def people_pairs(path: Path) -> dict[int, set[int]]:
    """Training images that people judged to be the same as a test image, by test image."""
    pairs: dict[int, set[int]] = {}
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for test, training, *_ in rows:
            pairs.setdefault(int(test), set()).add(int(training))
    return pairs


def average_precision(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Mean, over the positives, of the share of positives among all that score no higher than it."""
    order = np.argsort(scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    found = np.cumsum(positive[order])[last]
    return float(np.sum(np.diff(found, prepend=0) * found / (last + 1)) / found[-1])


def agreement(tests: NDArray[np.generic], training: NDArray[np.generic], people: Mapping[int, set[int]]) -> Agreement:
    """Compare a space with people's pairs, from the images or features of both sets in it."""
    found = nearest(tests, training, NEIGHBOURS)
    index = found.index[:, 1].reshape(len(tests), NEIGHBOURS)[:, 0]
    squared = found.squared_distance.reshape(len(tests), NEIGHBOURS).astype(np.float64)
    positive = np.isin(np.arange(len(tests)), list(people))
    within = squared[:, 0] <= duplicate_distance(training).distance ** 2
    return Agreement(
        average_precision(squared[:, 0], positive),
        average_precision(relative_distance(squared), positive),
        float(np.mean([index[test] in theirs for test, theirs in people.items()])),
        float(positive[within].mean()) if within.any() else np.nan,
        float(within[positive].mean()),
    )


def quiet(done: int, total: int) -> None:
    """Show nothing of how far reading is."""


def main() -> None:
    """Print a row for each space, as it is done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.duplicates", description="See the module's text.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spaces", nargs="+", default=SPACES, help="names, or files of networks")
    arguments = parser.parse_args()
    folder = arguments.folder / "cifar-10-batches-bin"
    people = people_pairs(arguments.folder / "cifar10-duplicates.csv")
    (training, labels), (tests, _) = (read_cifar10(folder, split, quiet) for split in ("train", "test"))

    trained: list[Embedding] = []

    def classifier() -> Embedding:
        if not trained:
            trained.append(train_classifier(training, labels))
        return trained[0]

    console = Console(width=140)
    ratio = f"of distance over the {NEIGHBOURS}th"
    table = Table("space", "average precision", ratio, "nearest is theirs", "precision", "recall", "s")
    for name in arguments.spaces:
        start = time.perf_counter()
        try:
            embedding = None if name == PIXELS else embedding_of(name, classifier)
            spaces = [each if embedding is None else embedding.features(each) for each in (tests, training)]
        except EmbeddingError as error:
            console.print(f"{name}: left out: {error}")
            continue
        found = agreement(spaces[0], spaces[1], people)
        shares = (found.by_distance, found.by_relative_distance, found.nearest_is_theirs, found.precision, found.recall)
        table.add_row(name, *(f"{share:.3f}" for share in shares), f"{time.perf_counter() - start:.0f}")
        console.print(name, *(f"{share:.3f}" for share in shares))
    console.print(table)


if __name__ == "__main__":
    main()
