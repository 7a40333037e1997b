"""Faults planted in samples, and what each line of the answer says of them.

    python -m tests.benchmarks.planted

The real images are a random half of scikit-learn's digits. The samples are the other half, which is what a perfect
generator would make, and those of a Gaussian mixture that is fitted to the first half. The answer is that of
`ganlab measure`.

A fault is found when the answer meets its criterion and the answer on the clean samples of the same generator does not.
"Less diverse" stands for: the quality gate is passed, and the interval of the diversity ratio lies below 1.

- nothing planted: any accusation (less diverse, a heavy mode, or a quality gate that is not passed), so that for a
  perfect generator "not found" is right;
- a share of the samples is one image, with and without noise of 4 grey levels: less diverse, and the interval of the
  largest heavy mode holds the share;
- class 0 is five times as frequent as each other class, or half of the classes are missing: less diverse;
- pixel noise: the quality gate is not passed;
- half of the samples are copies of real images: a note says that samples are copies of reference images;
- all samples are copies of one image: a note says so, and the criterion of a share is met.

Invariant: the criteria use the answer in JSON alone; nothing is estimated here, and all random numbers follow from the
seeds.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ganlab.data.datasets import Dataset
from ganlab.data.datasets.digits import DigitsSettings
from ganlab.models.families.gmm import GMM, GMMSettings
from ganlab.models.train_settings import TrainSettings
from jobs.cli.pipeline import measure_path
from jobs.cli.show import sample_lines
from jobs.measuring.sample_answer import SampleAnswer
from jobs.report.results_json import samples_json
from jobs.report.table import build_table, number_words

SHARE = 0.05  # of the samples that are one image
SMALL_NOISE = 4.0  # grey levels
OFTEN = 5  # times as many images of class 0 as of each other class
CLASSES = 10
MIXTURE_SAMPLES, MIXTURE_POOL = 2_000, 10_000
Answer = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Generator:
    """Real images, and samples of a generator.

    Attributes
    ----------
    real : Dataset
        Labelled real images.
    pool : Dataset
        All samples there are, from which those of some classes are chosen.
    count : int
        Samples in an answer: the first of the pool.
    """

    real: Dataset
    pool: Dataset
    count: int

    @property
    def clean(self) -> Dataset:
        """The samples without a fault."""
        return self.chosen(np.arange(self.count))

    def chosen(self, index: np.ndarray) -> Dataset:
        """Some samples of the pool."""
        return Dataset(self.pool.images[index], labels(self.pool)[index])


Plant = Callable[[Generator, np.random.Generator], Dataset]


@dataclass(frozen=True)
class Fault:
    """A fault, and the criterion by which an answer finds it."""

    name: str
    plant: Plant
    is_found: Callable[[Answer], bool]


def labels(dataset: Dataset) -> np.ndarray:
    assert dataset.labels is not None
    return dataset.labels


def halves(seed: int) -> tuple[Dataset, Dataset]:
    """Split the digits at random into two halves."""
    digits = DigitsSettings().load()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    real, others = np.split(order, [len(order) // 2])
    return (Dataset(digits.images[real], labels(digits)[real]), Dataset(digits.images[others], labels(digits)[others]))


def perfect(seed: int) -> Generator:
    """Half of the digits beside the other half."""
    real, others = halves(seed)
    return Generator(real, others, len(others.images))


def mixture(seed: int) -> Generator:
    """Samples of a Gaussian mixture fitted to half of the digits; their class is that of the nearest real image."""
    real, _ = halves(seed)
    family = GMM(GMMSettings(), real.images.shape[1:], TrainSettings(steps=1), seed)
    family.prepare(real.images)
    images = family.sample(MIXTURE_POOL, np.random.default_rng(seed)).images
    own, theirs = (each.reshape(len(each), -1).astype(np.float64) for each in (images, real.images))
    nearest = (np.square(theirs).sum(axis=1) - 2 * own @ theirs.T).argmin(axis=1)
    return Generator(real, Dataset(images, labels(real)[nearest]), MIXTURE_SAMPLES)


def with_noise(images: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise to every pixel, rounded to whole grey levels from 0 to 255."""
    return np.clip(np.rint(images + rng.normal(0, deviation, images.shape)), 0, 255).astype(np.uint8)


def one_image(share: float, deviation: float = 0) -> Plant:
    """Replace a share of the samples by one of them, each with noise of its own."""

    def plant(generator: Generator, rng: np.random.Generator) -> Dataset:
        clean = generator.clean
        replaced = rng.permutation(generator.count)[: round(share * generator.count)]
        clean.images[replaced] = with_noise(clean.images[np.full_like(replaced, replaced[0])], deviation, rng)
        labels(clean)[replaced] = labels(clean)[replaced[0]]
        return clean

    return plant


def noise(deviation: float) -> Plant:
    """Add noise to every sample."""
    return lambda generator, rng: Dataset(with_noise(generator.clean.images, deviation, rng), labels(generator.clean))


def imbalance(generator: Generator, rng: np.random.Generator) -> Dataset:
    """Choose different samples of the pool, as many as there are in these proportions."""
    proportions = np.where(np.arange(CLASSES) == 0, OFTEN, 1)
    there = np.bincount(labels(generator.pool), minlength=CLASSES)
    unit = min(generator.count // proportions.sum(), (there // proportions).min())
    of_class = [np.flatnonzero(labels(generator.pool) == each)[: unit * proportions[each]] for each in range(CLASSES)]
    return generator.chosen(np.concatenate(of_class))


def imbalance_with_repeats(generator: Generator, rng: np.random.Generator) -> Dataset:
    """Draw from the clean samples with replacement, those of class 0 with a greater weight."""
    weights = np.where(labels(generator.clean) == 0, OFTEN, 1)
    return generator.chosen(rng.choice(generator.count, generator.count, p=weights / weights.sum()))


def half_of_the_classes(generator: Generator, rng: np.random.Generator) -> Dataset:
    """Choose samples of the first half of the classes alone."""
    return generator.chosen(np.flatnonzero(labels(generator.pool) < CLASSES // 2)[: generator.count])


def copies(generator: Generator, rng: np.random.Generator) -> Dataset:
    """Replace half of the samples by real images, each as often as another."""
    clean, real = generator.clean, generator.real
    half = generator.count // 2
    copied = rng.permutation(len(real.images))[np.arange(half) % len(real.images)]
    clean.images[:half], labels(clean)[:half] = real.images[copied], labels(real)[copied]
    return clean


def less_diverse(answer: Answer) -> bool:
    high = answer["diversity_ratio_high"]
    return answer["passes_quality_gate"] and high is not None and high < 1


def has_note(answer: Answer, *kinds: str) -> bool:
    return any(note["kind"] in kinds for note in answer["notes"])


def accused(answer: Answer) -> bool:
    return less_diverse(answer) or answer["heavy_mode_count"] > 0 or not answer["passes_quality_gate"]


def mode_of(share: float) -> Callable[[Answer], bool]:
    """Whether the samples are less diverse, and a share of them is found to be one mode."""

    def is_found(answer: Answer) -> bool:
        largest = answer["heavy_modes"][:1]
        return less_diverse(answer) and any(m["mode_mass_low"] <= share <= m["mode_mass_high"] for m in largest)

    return is_found


def not_passed(answer: Answer) -> bool:
    return not answer["passes_quality_gate"]


CLEAN = Fault("nothing", lambda generator, rng: generator.clean, accused)
ONE_IMAGE = Fault("5 % one image", one_image(SHARE), mode_of(SHARE))
FAULTS = (
    CLEAN,
    ONE_IMAGE,
    Fault("5 % one image, noise 4", one_image(SHARE, SMALL_NOISE), mode_of(SHARE)),
    Fault("class 0 five times as frequent", imbalance, less_diverse),
    Fault("the same, with repeats", imbalance_with_repeats, less_diverse),
    Fault("half of the classes missing", half_of_the_classes, less_diverse),
    *(Fault(f"pixel noise {deviation}", noise(deviation), not_passed) for deviation in (8, 12, 16)),
    Fault(
        "half copies of real images",
        copies,
        lambda answer: has_note(answer, "copies-of-reference", "reference-in-samples"),
    ),
    Fault("all one image", one_image(1), lambda answer: has_note(answer, "copies-in-samples") and mode_of(1.0)(answer)),
    Fault("all one image, noise 4", one_image(1, SMALL_NOISE), mode_of(1.0)),
)
GENERATORS = {"a perfect generator": perfect, "a Gaussian mixture": mixture}


def measured(fault: Fault, generator: Generator, seed: int) -> SampleAnswer:
    """Answer of `ganlab measure` on samples with a fault, beside the real images; both are labelled."""
    planted = fault.plant(generator, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as name:
        for file, dataset in (("samples", planted), ("real", generator.real)):
            np.savez(Path(name, file), images=dataset.images, labels=labels(dataset))
        return measure_path(Path(name, "samples.npz"), None, Path(name, "real.npz"), None, Console(quiet=True))


def cells(answer: SampleAnswer) -> Iterator[str]:
    """What each line of the answer says, also where the quality gate is not passed and the terminal withholds it."""
    row = build_table(answer.results).trials[0]
    for name, form in (("diversity_ratio", "ratio"), ("support_size", "images")):
        found = row.interval(name)
        yield "–" if found is None else found.words(form)
    unseen = row.interval("unseen_share")
    yield f"{row.values['distinct_seen']:,} of {row.samples:,}"
    yield "–" if unseen is None else unseen.words(".0%")
    yield f"{number_words(row.values['largest_mode_mass'], '.1%')}"
    yield f"{row.heavy_modes}"
    yield f"{row.fidelity_ratio:.2f}, {'passed' if row.passes_gate else 'not passed'}"
    yield ", ".join(note.kind for note in answer.notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0; the numbers are those of seed 0")
    parser.add_argument("--sentences", action="store_true", help="print what the terminal says for seed 0")
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, seeds 0 to {options.seeds - 1}; numbers of seed 0")
    for name, make in GENERATORS.items():
        shown: dict[Fault, list[str]] = {}
        found: dict[Fault, list[bool]] = {fault: [] for fault in FAULTS}
        for seed in range(options.seeds):
            generator, before = make(seed), None
            for fault in FAULTS:
                answer = measured(fault, generator, seed)
                after = samples_json(answer)
                before = before or after
                found[fault].append(fault.is_found(after) and (fault is CLEAN or not fault.is_found(before)))
                if seed == 0:
                    shown[fault] = list(cells(answer))
                if seed == 0 and options.sentences:
                    print(f"\n{name}, {fault.name}:", *sample_lines(answer), sep="\n  ")
        print(
            f"\n| planted in {name} | diversity ratio | effective number | distinct seen | unseen share | largest mode "
            "| heavy modes | fidelity, gate | notes | found in seeds | seed 0 |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for fault, words in shown.items():
            verdict = "found" if found[fault][0] else "not found"
            print("|", " | ".join([fault.name, *words, f"{sum(found[fault])} of {options.seeds}", verdict]), "|")


if __name__ == "__main__":
    main()
