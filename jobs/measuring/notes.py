"""Notes on degenerate sets: copies of the real images, copies within a set, and figures that these leave undefined.

Invariant: a note states what was counted over whole sets; a figure that is not defined has a note that says why.
"""

import math
from typing import NamedTuple

from ganlab.pairs.content import Digests, are_among, distinct_images, same_images
from ganlab.quality.manifold import NEIGHBOURS
from ganlab.statistics.duplicate_distance import RATE, RATES, DuplicateDistance, images_needed
from jobs.measuring.distance import GIVEN, NO_RATE, ChosenDistance
from jobs.measuring.facts import SampleFacts
from jobs.measuring.samples import Opened

COPIES_WORTH_A_NOTE = 0.01  # share of the real images
RAISED = 1.1  # times as many of the real pairs are duplicates with copies as without: these are worth a note, too
REMEDY = "remove the copies from the reference"


class Note(NamedTuple):
    """A warning about the sets, shown before the figures.

    Attributes
    ----------
    kind : str
        One of the names in docs/your-images.md.
    text : str
        One sentence.
    """

    kind: str
    text: str


def content_notes(own: Digests, real: Digests | None, held_out: Digests | None = None) -> list[Note]:
    """Compare the content of sets with one another, and each with itself.

    Parameters
    ----------
    own : uint64 (n, 2)
        Digests of the samples (see `ganlab.pairs.content`).
    real : uint64 (m, 2) or None
        Digests of the real images.
    held_out : uint64 (k, 2) or None
        Digests of the real images that no model was trained on.
    """
    within = _copies_within("copies-in-samples", "samples", own)
    if real is None:
        return within
    of_real = _copies_of_real(own, real)
    beside = [] if held_out is None else [*_copies_of_training(held_out, real), *_copies_of_held_out(own, held_out)]
    return [*of_real, *within, *_copies_within("copies-in-reference", "reference images", real), *beside]


def type_notes(samples: Opened, judged: bool) -> list[Note]:
    """Say where samples that look like pictures are not looked at as pictures; `judged` against real ones."""
    shape = samples.source.shape[1:]
    if not judged or samples.pictures is not None or len(shape) != 3:
        return []
    channels_first, channels_last = shape[0] in (1, 3, 4), shape[2] in (1, 3, 4)
    sides = shape[1:] if channels_first else shape[:2]
    if not (channels_first or channels_last) or min(sides) == 1:
        return []
    text = (
        f"Samples of {samples.source.dtype} and shape {tuple(shape)} are not looked at for noise and blur; give pictures "
        "as uint8, 0 to 255, of one or three channels."
    )
    return [Note("no-pictures", text)]


def figure_notes(facts: SampleFacts, real: SampleFacts | None, chosen: ChosenDistance) -> list[Note]:
    """Name the figures of a sample, and of the real images, that are not defined or are of a part of the images."""
    notes = []
    record = facts.record
    if chosen.real is not None:
        notes += _rate_notes(chosen.real)
    if chosen.chosen_by == NO_RATE:
        least = images_needed(max(RATES))
        text = f"Fewer than {least} different real images show no distance of duplicates, so only equal images count"
        notes.append(Note("no-rate", f"{text}; give more real images or --threshold."))
    elif chosen.chosen_by != GIVEN and record.threshold_squared == 0:
        text = "The automatic threshold is 0, so only exact copies count as duplicates: many reference images have one"
        notes.append(Note("zero-threshold", f"{text}; {REMEDY} or give --threshold."))
    if facts.fidelity_ratio is not None and math.isnan(facts.fidelity_ratio):
        text = "The fidelity ratio is not defined: most reference images have an exact copy, at distance 0"
        notes.append(Note("fidelity-not-defined", f"{text}; {REMEDY}."))
    if facts.scores is not None and facts.scores.without_ball:
        count = f"{facts.scores.without_ball:,} of the scored reference images"
        text = (
            f"Precision, recall, density and coverage are not defined: {count} have {NEIGHBOURS} or more exact copies"
        )
        notes.append(Note("manifold-not-defined", f"{text}; {REMEDY}."))
    if record.listed_below < record.samples:
        part = f"{record.listed_below:,} images drawn at random from the {record.samples:,}"
        figures = "heavy modes, classes, collision frequencies and the realistic support"
        text = f"The {facts.support.duplicates:,} duplicates are too many to list: {figures} are of {part}."
        notes.append(Note("part-of-samples", text))
    if real is not None and real.classes and real.record.listed_below < real.record.samples:
        part = f"{real.record.listed_below:,} of them drawn at random"
        text = f"The {real.support.duplicates:,} duplicates among the reference images are too many to list"
        notes.append(Note("part-of-reference", f"{text}: their support by class is of {part}."))
    return notes


def _rate_notes(real: DuplicateDistance) -> list[Note]:
    """Say what the real images can't show, and how many of them were set aside."""
    notes = []
    if real.rate > RATE:
        different = real.images - real.copies
        text = (
            f"{different:,} different real images have too few pairs for the usual rate of {RATE:g}: duplicates are pairs"
            f" as near as {real.rate:g} of the real pairs, a larger distance."
        )
        notes.append(Note("rate", text))
    if real.copies > COPIES_WORTH_A_NOTE * real.images or real.with_copies > RAISED * real.probability:
        text = (
            f"{real.copies:,} of {real.images:,} real images are copies of others, and were set aside for the distance; "
            "where the ratio's interval ends above, they count: their source may repeat images, too."
        )
        notes.append(Note("copies-set-aside", text))
    return notes


def _copies_of_real(own: Digests, real: Digests) -> list[Note]:
    copies, images = int(are_among(own, real).sum()), len(own)
    if same_images(own, real):
        text = (
            f"The samples and the reference are the same {images:,} images: figures against it say nothing of a model."
        )
        return [Note("same-images", text)]
    if not copies:
        return []
    some = f"{copies:,} of the {images:,} samples ({100 * copies / images:.3g} %)"
    text = f"{some if copies < images else f'All {images:,} samples'} are exact copies of reference images"
    if are_among(real, own).all():
        return [Note("reference-in-samples", f"{text}, and every reference image is among them.")]
    return [Note("samples-in-reference" if copies == images else "copies-of-reference", f"{text}.")]


def _copies_of_training(held_out: Digests, training: Digests) -> list[Note]:
    """Say how many held-out images the training images hold, too."""
    copies, images = int(are_among(held_out, training).sum()), len(held_out)
    if not copies:
        return []
    some = f"{copies:,} of the {images:,} held-out images ({100 * copies / images:.3g} %)"
    return [
        Note("held-out-in-reference", f"{some} are exact copies of reference images: copying is judged against them.")
    ]


def _copies_of_held_out(own: Digests, held_out: Digests) -> list[Note]:
    """Say how many samples are held-out images: a model has seen these, or the samples are no model's."""
    copies, images = int(are_among(own, held_out).sum()), len(own)
    if not copies:
        return []
    some = f"{copies:,} of the {images:,} samples ({100 * copies / images:.3g} %)"
    text = "are exact copies of held-out images: what is judged against these says less"
    return [Note("held-out-in-samples", f"{some} {text}.")]


def _copies_within(kind: str, name: str, digests: Digests) -> list[Note]:
    images, distinct = len(digests), distinct_images(digests)
    if distinct == images:
        return []
    if distinct == 1:
        return [Note(kind, f"The {images:,} {name} are copies of one image.")]
    copies = images - distinct
    some = f"{copies:,} exact {'copy' if copies == 1 else 'copies'} of these"
    text = f"The {images:,} {name} are {distinct:,} distinct images and {some}."
    return [Note(kind, text)]
