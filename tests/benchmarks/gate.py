"""Power and false alarms of the quality gate, on faults planted among held-out real images.

    python -m tests.benchmarks.gate [FOLDER] [--draws 20] [--samples 1000] [--sweep FOLDER ...]

The real images are at most 10,000 of the digits, of Fashion-MNIST where it is installed, and of what FOLDER has:
`cifar-10-batches-bin/` (the published binary files) and `faces/` (pictures). Others of a data set, up to 3,000, are
held out: test images where there are some. A draw is of so many samples: held-out images, and a share with a fault.

- copies: training images; one image: a held-out image, the same in all of its places;
- images of noise: every pixel anywhere from 0 to 255; noise of sd: added to every pixel of every sample;
- averaged with the mean: half of each image, half of the mean image; averaged over 3 × 3 pixels: as it says.

A cell has the share of the draws with each word of the gate. `--sweep` adds what it says of each trial's last snapshot,
as it is and with noise.

Invariant: only the gate judges; all random numbers follow from the seed of a draw.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ganlab.data.datasets.cifar10 import Cifar10Settings
from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.datasets.fashion_mnist import FashionMnistSettings
from ganlab.data.datasets.images import ImagesSettings
from ganlab.pairs.closest import nearest
from ganlab.quality.detail import DetailBasis
from ganlab.quality.fidelity import real_neighbours
from ganlab.quality.gate import Evidence, Judgement, Quality, judge
from storage.layout import SweepLayout
from storage.reference import read_reference
from storage.samples import Samples
from tests.benchmarks.planted import with_noise

TRAINING, HELD_OUT = 10_000, 3_000
DEVIATIONS = (4, 8, 12, 16, 32)
CLEAN = "held-out images"
PLANTED: Mapping[str, tuple[Mapping[str, float], Quality]] = {
    CLEAN: ({"held-out": 1}, Quality.PASSED),
    "30 % one image": ({"held-out": 0.7, "one": 0.3}, Quality.PASSED),
    **{f"{p} % copies": ({"held-out": 1 - p / 100, "copies": p / 100}, Quality.COPIES) for p in (10, 20, 40, 60)},
    "copies": ({"copies": 1}, Quality.COPIES),
    **{f"{p} % images of noise": ({"held-out": 1 - p / 100, "noise": p / 100}, Quality.NOISE) for p in (10, 20, 50)},
    "55 % copies, 45 % images of noise": ({"copies": 0.55, "noise": 0.45}, Quality.COPIES),
    "30 % one image, 25 % copies, 45 % images of noise": (
        {"one": 0.3, "copies": 0.25, "noise": 0.45},
        Quality.NOISE,
    ),
    "averaged with the mean": ({"averaged": 1}, Quality.BLUR),
    "averaged over 3 × 3 pixels": ({"box": 1}, Quality.BLUR),
    **{f"noise of sd {d}": ({f"sd {d}": 1}, Quality.NOISE) for d in DEVIATIONS},
}
"""Shares of kinds of samples, and the word that is right."""


def averaged(images: np.ndarray) -> np.ndarray:
    """Half of each image, and half of the mean image."""
    return np.rint((images + images.mean(axis=0)) / 2).astype(np.uint8)


def box(images: np.ndarray) -> np.ndarray:
    """The mean of 3 × 3 pixels around each."""
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.rint(windows.mean(axis=(4, 5))).astype(np.uint8)


KINDS: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "held-out": lambda images, rng: images,
    "noise": lambda images, rng: rng.integers(0, 256, images.shape, dtype=np.uint8),
    "averaged": lambda images, rng: averaged(images),
    "box": lambda images, rng: box(images),
    **{f"sd {d}": lambda images, rng, d=d: with_noise(images, d, rng) for d in DEVIATIONS},
}
"""What becomes of held-out images."""


class Planter:
    """Faults planted among held-out images; every kind of sample is compared once with the training images.

    Parameters
    ----------
    training, held_out
        uint8 (n, C, H, W).
    """

    def __init__(self, training: np.ndarray, held_out: np.ndarray) -> None:
        self.training, self.held_out = training, held_out
        half = len(training) // 2
        self.basis = DetailBasis.learn(training[:half])
        self.real = Evidence(np.sqrt(real_neighbours(training)), self.basis.detail(training[half:]))
        self.kind = cache(self._kind)

    def look_at(self, samples: np.ndarray) -> Evidence:
        """What the gate sees of samples."""
        distance = np.sqrt(nearest(samples, self.training).squared_distance.astype(np.float64))
        return Evidence(distance, self.basis.detail(samples))

    def _kind(self, name: str) -> Evidence:
        if name == "copies":
            some = self.training[: len(self.held_out)]
            return Evidence(np.zeros(len(some)), self.basis.detail(some))
        return self.look_at(KINDS[name](self.held_out, np.random.default_rng(0)))

    def draw(self, name: str, samples: int, seed: int) -> Evidence:
        """What the gate sees of so many samples with a planted fault; images are drawn again where they are too few."""
        rng = np.random.default_rng(seed)
        parts = []
        for kind, share in PLANTED[name][0].items():
            count, own = round(share * samples), self.kind("held-out" if kind == "one" else kind)
            there = len(own.distance)
            if kind == "one":
                index, weight = np.full(count, rng.integers(there)), np.full(count, 1 / count)
            else:
                index, weight = rng.choice(there, count, replace=count > there), np.ones(count)
            assert own.detail is not None
            parts.append((own.distance[index], own.detail[:, index], weight))
        distances, details, weights = zip(*parts, strict=True)
        return Evidence(np.concatenate(distances), np.concatenate(details, axis=1), np.concatenate(weights))

    def judged(self, name: str, samples: int, seed: int) -> Judgement:
        """What the gate says of them."""
        return judge(self.draw(name, samples, seed), self.real)


@dataclass(frozen=True)
class Halves:
    """Training and held-out images of a data set, uint8 (n, C, H, W)."""

    name: str
    training: np.ndarray
    held_out: np.ndarray


def halves_of_digits(seed: int) -> Halves:
    """The digits in two random halves."""
    images = DigitsSettings().load().images
    training, held_out = np.split(np.random.default_rng(seed).permutation(len(images)), [len(images) // 2])
    return Halves("digits", images[training], images[held_out])


def data_sets(folder: Path | None) -> Iterator[Halves]:
    """The data sets that are at hand."""
    yield halves_of_digits(0)
    try:
        training, test = (FashionMnistSettings(split=split).load().images for split in ("train", "test"))
        yield Halves("Fashion-MNIST", training[:TRAINING], test[:HELD_OUT])
    except (OSError, ValueError):
        print("Fashion-MNIST is not installed")
    if folder is not None and (cifar := folder / "cifar-10-batches-bin").is_dir():
        training, test = (Cifar10Settings(path=cifar, split=split).load().images for split in ("train", "test"))
        yield Halves("CIFAR-10", training[:TRAINING], test[:HELD_OUT])
    if folder is not None and (faces := folder / "faces").is_dir():
        images = ImagesSettings(path=faces, resolution=64, channels=1).load().images
        order = np.random.default_rng(0).permutation(len(images))
        yield Halves("faces", images[order[:TRAINING]], images[order[TRAINING:][:HELD_OUT]])


def sweep_rows(folder: Path, samples: int) -> Iterator[list[str]]:
    """What the gate says of the last snapshot of each trial, as it is and with noise."""
    layout = SweepLayout(folder)
    reference = read_reference(layout)
    order = np.random.default_rng(0).permutation(reference.shape[0])[:TRAINING]
    planter = Planter(reference.read(0, reference.shape[0])[order], np.empty(0))
    for trial in layout.trial_ids():
        steps = Samples(layout.trial(trial)).steps
        if not steps:
            continue
        last = steps[max(steps)]
        images = Samples(layout.trial(trial)).read(last.start, last.start + min(samples, len(last)))
        rng = np.random.default_rng(0)
        words = [
            judge(planter.look_at(each), planter.real)
            for each in (images, *(with_noise(images, deviation, rng) for deviation in DEVIATIONS))
        ]
        yield [f"{folder.name} {trial}", f"{words[0].detail_ratio:.2f}", *(str(each.quality) for each in words)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--sweep", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    cells: dict[str, list[str]] = {name: [] for name in PLANTED}
    names = []
    for each in data_sets(options.folder):
        planter = Planter(each.training, each.held_out)
        names.append(f"{each.name}, {len(each.training):,} real")
        for name in PLANTED:
            words = Counter(planter.judged(name, options.samples, seed).quality for seed in range(options.draws))
            cells[name].append(", ".join(f"{word} {n / options.draws:.0%}" for word, n in words.most_common()))
    print(f"{options.draws} draws of {options.samples} samples\n")
    print(f"| planted | right | {' | '.join(names)} |\n{'|---' * (len(names) + 2)}|")
    for name, row in cells.items():
        print(f"| {name} | {PLANTED[name][1]} | {' | '.join(row)} |")
    for folder in options.sweep:
        print(f"\n| trial | fine detail | as it is | {' | '.join(f'noise of sd {d}' for d in DEVIATIONS)} |")
        print(f"{'|---' * (len(DEVIATIONS) + 3)}|")
        for cells_of_trial in sweep_rows(folder, options.samples):
            print(f"| {' | '.join(cells_of_trial)} |")


if __name__ == "__main__":
    main()
