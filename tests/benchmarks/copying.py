"""Power and false alarms of the statement on copying, on copies planted among held-out images and among a GAN's.

    python -m tests.benchmarks.copying [FOLDER] [--draws 100] [--samples 2000] [--spaces pixels normalised]
                                       [--moved] [--sweep FOLDER ...] [--trials NAME ...]

The real images are those of `tests.benchmarks.gate`: the digits, Fashion-MNIST where it is installed, and of what
FOLDER has `cifar-10-batches-bin/` and `faces/`. Of those that are not trained on, each draw takes a third at random as
held-out images and plants copies of training images among others of them. `--sweep` plants them among the last samples
of each trial of a sweep, or of `--trials` alone, beside the sweep's own held-out images; without any, each training
image is held out in turn. `--moved` takes the least distance over an image's shifts by one pixel and its mirror image.

Copies are exact, moved by up to 3 of 256 levels in every pixel, shifted to the right by one pixel, or mirrored. A cell
has the share of the draws that are called copies: at 0, of ten times as many draws, false alarms; at other shares power.

Invariant: only `ganlab.quality.copying` says what is a copy; all random numbers follow from the number of a draw.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganlab.pairs.closest import nearest
from ganlab.quality.copying import Word, copying
from ganlab.quality.embeddings.normalised import Normalised
from ganlab.quality.fidelity import RealNeighbours
from ganlab.quality.moves import nearest_moved
from storage.layout import SweepLayout
from storage.reference import read_held_out, read_reference
from storage.samples import Samples
from tests.benchmarks.gate import data_sets

SHARES = (0.001, 0.01, 0.1)
CLEAN = 10  # times as many draws without copies
COPIES = 2000  # different training images that are copied, of each kind
OTHERS = 10_000  # samples of a trial


def moved(images: np.ndarray) -> np.ndarray:
    """Every pixel moved by up to 3 levels."""
    noise = np.random.default_rng(0).integers(-3, 4, images.shape, dtype=np.int16)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def shifted(images: np.ndarray) -> np.ndarray:
    """Shifted to the right by one pixel, the first column repeated."""
    return np.concatenate([images[..., :1], images[..., :-1]], axis=-1)


KINDS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda images: images,
    "±3 levels": moved,
    "shifted": shifted,
    "mirrored": lambda images: images[..., ::-1],
}
SPACES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixels": lambda images: images,
    "normalised": Normalised().features,
}
Found = tuple[np.ndarray, np.ndarray]
"""Distances to the nearest training images, and the numbers of these."""


@dataclass(frozen=True)
class Bench:
    """One set of others to plant copies among, compared with the training images once.

    Attributes
    ----------
    training : float64 (N,)
        Of each training image to its nearest other one.
    others : Found
        Images to plant copies among.
    held_out : Found or None
        Of their own; None to take a third of the others in each draw.
    copies : mapping
        By kind.
    stands_in : bool
        The training images stand in for held-out ones.
    """

    training: np.ndarray
    others: Found
    held_out: Found | None
    copies: Mapping[str, Found]
    stands_in: bool = False

    def word(self, kind: str, share: float, samples: int, draw: int) -> str:
        """What is said of so many samples with a share of copies."""
        rng = np.random.default_rng([draw, len(self.training)])
        order = rng.permutation(len(self.others[0]))
        held_out = self.held_out
        if held_out is None and not self.stands_in:
            third = len(order) // 3
            held_out, order = pick(self.others, order[:third]), order[third:]
        samples = min(samples, len(order))
        count = round(share * samples)
        planted = pick(self.copies[kind], rng.permutation(len(self.copies[kind][0]))[:count])
        rest = pick(self.others, order[: samples - count])
        distance, index = (np.concatenate(parts) for parts in zip(planted, rest, strict=True))
        control = (None, None) if held_out is None else held_out
        return copying(distance, index, RealNeighbours(self.training, *control)).word


def pick(found: Found, places: np.ndarray) -> Found:
    return found[0][places], found[1][places]


class Trained:
    """Training images in a space, compared with one another and with their copies once."""

    def __init__(self, space: str, training: np.ndarray, moved: bool) -> None:
        self._features, self._moved = SPACES[space], moved
        self._known = self._features(training)
        self._own = self._compared_with_themselves(training)
        some = training[np.random.default_rng(1).permutation(len(training))[:COPIES]]
        self._copies = {kind: self.compared(make(some)) for kind, make in KINDS.items()}

    def compared(self, images: np.ndarray) -> Found:
        """The nearest training image of each image."""
        if self._moved:
            return nearest_moved(images, self._known, self._features)
        found = nearest(self._features(images), self._known)
        return np.sqrt(found.squared_distance.astype(np.float64)), found.index[:, 1]

    def _compared_with_themselves(self, training: np.ndarray) -> np.ndarray:
        if self._moved:
            return nearest_moved(training, self._known, self._features, itself=True)[0]
        return np.sqrt(nearest(self._known, self._known, 2).squared_distance[1::2].astype(np.float64))

    def bench(self, others: np.ndarray, held_out: Found | None = None, stands_in: bool = False) -> Bench:
        return Bench(self._own, self.compared(others), held_out, self._copies, stands_in)


def of_sweep(folder: Path, space: str, moved: bool, trials: Sequence[str]) -> Iterator[tuple[str, Bench]]:
    """The last samples of each trial, or of some."""
    layout = SweepLayout(folder)
    trained, others = Trained(space, read_reference(layout).images, moved), read_held_out(layout)
    held_out = None if others is None else trained.compared(others.images)
    for trial in [each for each in layout.trial_ids() if not trials or each in trials]:
        steps = Samples(layout.trial(trial)).steps
        if steps:
            last = steps[max(steps)]
            images = Samples(layout.trial(trial)).read(last.start, min(last.stop, last.start + OTHERS))
            yield f"{folder.name} {trial}", trained.bench(images, held_out, held_out is None)


def row(name: str, space: str, each: Bench, draws: int, samples: int) -> str:
    def share(kind: str, planted: float, repeats: int) -> float:
        words = [each.word(kind, planted, samples, draw) for draw in range(repeats)]
        return words.count(Word.COPIES) / repeats

    cells = [f"{share(kind, planted, draws):.0%}" for kind in KINDS for planted in SHARES]
    return f"| {name} | {space} | {share('exact', 0, CLEAN * draws):.1%} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--moved", action="store_true")
    parser.add_argument("--sweep", type=Path, nargs="*", default=[])
    parser.add_argument("--trials", nargs="*", default=[])
    options = parser.parse_args(arguments)
    heads = [f"{kind} {share:g}" for kind in KINDS for share in SHARES]
    print(f"{options.draws} draws of {options.samples} samples\n\n| among | space | 0 | {' | '.join(heads)} |")
    print(f"{'|---' * (len(heads) + 3)}|")

    def show(name: str, space: str, each: Bench) -> None:
        looks = f"{space}, moved" if options.moved else space
        print(row(name, looks, each, options.draws, options.samples), flush=True)

    sets = list(data_sets(options.folder)) if options.folder or not options.sweep else []
    for space in options.spaces:
        for each in sets:
            show(each.name, space, Trained(space, each.training, options.moved).bench(each.held_out))
    for space in options.spaces:
        for folder in options.sweep:
            for name, found in of_sweep(folder, space, options.moved, options.trials):
                show(name, space, found)


if __name__ == "__main__":
    main()
