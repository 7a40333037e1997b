"""The report of anyone's samples: one HTML file that needs nothing else.

Invariant: the page says what the JSON says; samples that are no pictures leave out the pictures and nothing else.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jobs.measuring.cells import COPIES, MODES_SHOWN
from jobs.measuring.sample_answer import SampleAnswer
from jobs.report.mosaics import Picture, mosaic
from jobs.report.page import ModeShown, Pair, mode_picture, write_page
from jobs.report.table import NOT_MEASURED, PUBLISHED_FORMS, Measured, magnitude, squared_words
from storage.samples import read_numbers

GRID_IMAGES, GRID_BYTES = 200, 2_000_000
AGAINST = ("", "fidelity ratio", "realistic", "precision", "recall", "density", "coverage", "Fréchet distance")
CLASSES = ("class", "support size", "real images", "samples", "duplicates", "largest mode", "uniform")


def write_sample_report(answer: SampleAnswer, path: Path) -> Path:
    """Write the report, replacing an older one, and return its path.

    Raises
    ------
    OSError
        If the folder is missing or read-only, the disk is full, or the like.
    """
    from markupsafe import Markup

    from jobs.report.curves import Curve, curve_chart, sample_collision_chart

    facts, real = answer.facts, None if answer.real is None else answer.real.facts
    thresholds = None
    if facts.scores is not None:
        curve = facts.scores.curve
        of_real = None if real is None or real.scores is None else real.scores.curve.probability
        own = Curve(curve.probability, facts.diversity_ratio_at)
        thresholds = Markup(curve_chart(curve.distances, [own], of_real, answer.threshold, "samples"))
    frequencies = dict(facts.frequencies)
    collisions = sample_collision_chart(facts.support, frequencies, None if real is None else real.support, "samples")
    return write_page(
        "samples.html.j2", path,
        title=answer.samples.path.name, answer=_sentences(answer), facts=facts, real=real, sample=answer,
        collisions=Markup(collisions), thresholds=thresholds,
        grid=_grid(answer.samples.pictures, even=False),
        real_grid=None if answer.reference is None else _grid(answer.reference.pictures, even=True),
        pairs=_pairs(answer), modes=_modes(answer),
        against_headings=AGAINST, against_rows=_against(answer),
        scored_images=_scored(answer),
        published_headings=PUBLISHED_FORMS[1:], published_rows=_published(answer),
        class_headings=CLASSES, classes=_classes(answer),
        size_words=lambda support: _measured(support),
    )  # fmt: skip


def _sentences(answer: SampleAnswer) -> list[str]:
    facts, support = answer.facts, answer.facts.support
    sentences = [
        f"Whoever made these {support.samples:,} images makes "
        f"{'at least' if support.one_sided else 'about'} {_measured(support).removeprefix('≥ ')} distinct ones."
    ]
    if answer.real is not None:
        sentences.append(f"The {answer.real.facts.support.samples:,} real images, measured in the same way, come to "
                         f"{_measured(answer.real.facts.support)}.")  # fmt: skip
    sentences.append(f"Compared were all {magnitude(facts.record.pairs_compared)} pairs; {support.duplicates:,} are at "
                     f"most {answer.threshold:.4g} apart and count as duplicates.")  # fmt: skip
    if facts.heavy.modes:
        held = sum(len(mode.members) for mode in facts.heavy.modes) / facts.heavy.samples
        count = len(facts.heavy.modes)
        without = (
            f"; without {'it' if count == 1 else 'them'}, {_measured(facts.heavy.rest)}" if facts.heavy.rest else ""
        )
        sentences.append(f"{count} heavy mode{'' if count == 1 else 's'} hold{'s' if count == 1 else ''} {held:.1%} of "
                         f"the samples{without}.")  # fmt: skip
    uneven = [str(each.label) for each in facts.classes if each.nonuniform]
    if uneven:
        sentences.append(f"Not uniform: class {', '.join(uneven)}.")
    if answer.real is None:
        sentences.append("Without real images nothing is known of the samples' fidelity, and bad samples look diverse.")
    return sentences


def _grid(pictures: Any, even: bool) -> Picture | None:
    """The first images; of real ones, which may lie in order, some from across the whole set."""
    if pictures is None:
        return None
    image_bytes = int(np.prod(pictures.shape[1:])) + 30
    count = max(20, min(GRID_IMAGES, GRID_BYTES // image_bytes, pictures.shape[0]) // 20 * 20)
    count = min(count, pictures.shape[0])
    numbers = np.linspace(0, pictures.shape[0] - 1, count).astype(np.int64) if even else np.arange(count)
    images = read_numbers(pictures.read, numbers)
    return mosaic(list(images), 20 if max(images.shape[1:]) <= 32 else 10, 24)


def _pairs(answer: SampleAnswer) -> list[Pair]:
    pictures, facts = answer.samples.pictures, answer.facts
    if pictures is None:
        return []
    references = None if answer.reference is None else answer.reference.pictures
    record, shown = facts.record, []
    for (i, j), squared in zip(record.closest_index.tolist(), record.closest_squared.tolist(), strict=True):
        images: list[np.ndarray | None] = list(read_numbers(pictures.read, np.array([i, j])))
        to_real = None
        if references is not None:
            images += list(read_numbers(references.read, record.neighbour[[i, j]]))
            to_real = (float(facts.distance[i]), float(facts.distance[j]))
        picture = mosaic(images, 2, max(48, *pictures.shape[2:]))
        distance = float(np.sqrt(squared))
        shown.append(Pair(picture, distance, to_real, (i, j), squared <= record.threshold_squared))
    return shown


def _modes(answer: SampleAnswer) -> list[ModeShown]:
    pictures, facts = answer.samples.pictures, answer.facts
    if pictures is None:
        return []
    references = None if answer.reference is None else answer.reference.pictures
    shown = []
    for mode in facts.heavy.modes[:MODES_SHOWN]:
        images = list(read_numbers(pictures.read, mode.members[:COPIES]))
        first, nearest, distance = int(mode.members[0]), None, None
        if references is not None:
            nearest = read_numbers(references.read, facts.record.neighbour[[first]])[0]
            distance = float(facts.distance[first])
        picture = mode_picture(images, nearest, COPIES)
        shown.append(ModeShown(picture, first, len(mode.members), mode.mass, mode.low, mode.high, distance))
    return shown


def _against(answer: SampleAnswer) -> list[list[str]]:
    facts = answer.facts
    if answer.real is None or facts.scores is None or facts.fidelity_ratio is None or facts.realistic_share is None:
        return []
    scores, of_real = facts.scores, answer.real.facts.scores
    nothing = [NOT_MEASURED] * 4
    four = nothing if scores.manifold is None else [
        f"{scores.manifold.precision:.1%}", f"{scores.manifold.recall:.1%}", f"{scores.manifold.density:.2f}",
        f"{scores.manifold.coverage:.1%}",
    ]  # fmt: skip
    rows = [
        ["samples", f"{facts.fidelity_ratio:.2f}", f"{facts.realistic_share:.1%}", *four, squared_words(scores.frechet)]
    ]
    if of_real is not None:
        rows.append(["real images, one half to the other", *[NOT_MEASURED] * 6, squared_words(of_real.frechet)])
    return rows


def _published(answer: SampleAnswer) -> list[list[str]]:
    forms, heavy = answer.facts.published, answer.facts.heavy
    if forms is None:
        return []
    count = len(heavy.modes)
    return [[
        f"{forms.sample_size:,.0f}", magnitude(forms.support), magnitude(forms.corrected), magnitude(forms.bound),
        "yes" if forms.applies else f"no: {count} heavy mode{'s' if count > 1 else ''}", _measured(answer.facts.support),
        _measured(heavy.rest) if count and heavy.rest is not None else "the same",
    ]]  # fmt: skip


def _classes(answer: SampleAnswer) -> list[list[str]]:
    real = {} if answer.real is None else {each.label: each.support for each in answer.real.facts.classes}
    return [
        [str(each.label), _measured(each.support), _measured(real[each.label]) if each.label in real else NOT_MEASURED,
         f"{each.support.samples:,}", f"{each.support.duplicates:,}", f"{each.support.largest_mode_mass:.2%}",
         "no: a few images hold much" if each.nonuniform else "yes"]
        for each in answer.facts.classes
    ]  # fmt: skip


def _scored(answer: SampleAnswer) -> str:
    scores = answer.facts.scores
    return "" if scores is None or scores.manifold is None else f"{scores.manifold.generated_images:,}"


def _measured(support: Any) -> str:
    return str(Measured(support.size, support.low, support.high, support.one_sided))
