"""The report of anyone's samples: one HTML file that needs nothing else.

Invariant: the page says what the JSON says; samples that are no pictures leave out the pictures and nothing else.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jobs.measuring.cells import COPIES_SHOWN, MODES_SHOWN
from jobs.measuring.sample_answer import SampleAnswer
from jobs.report.headline import headline
from jobs.report.mosaics import Picture, mosaic
from jobs.report.page import CopyShown, ModeShown, Pair, copies_shown, mode_picture, write_page
from jobs.report.table import CLASSES, build_table, class_rows, table_headings
from storage.samples import read_numbers

GRID_IMAGES, GRID_BYTES = 200, 2_000_000


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
    results = answer.results
    table = build_table(results)
    sentences = [note.text for note in answer.notes] + headline(
        table.trials[0], table, results.isel(trial=0, snapshot=0)
    )
    row, rows = table.trials[0], [*table.trials, *([] if table.real is None else [table.real])]
    return write_page(
        "samples.html.j2",
        path,
        title=answer.samples.path.name,
        answer=sentences,
        row=row,
        facts=facts,
        real=real,
        sample=answer,
        collisions=Markup(collisions),
        thresholds=thresholds,
        grid=_grid(answer.samples.pictures, facts.record.numbers),
        real_grid=None
        if answer.reference is None or real is None
        else _grid(answer.reference.pictures, real.record.numbers),
        pairs=_pairs(answer),
        modes=_modes(answer),
        copies=_copies(answer, results.isel(trial=0, snapshot=0)),
        quality_headings=table_headings("quality"),
        quality_rows=[] if real is None else [each.table_cells("quality") for each in rows],
        scored_images=row.values.get("scored_images", ""),
        published_headings=table_headings("published"),
        published_rows=[each.table_cells("published") for each in rows if "published_support" in row.values],
        class_headings=CLASSES[1:],
        classes=[cells[1:] for cells in class_rows(row, results)],
    )


def _grid(pictures: Any, order: np.ndarray) -> Picture | None:
    """The first images in a random order."""
    if pictures is None:
        return None
    image_bytes = int(np.prod(pictures.shape[1:])) + 30
    count = max(20, min(GRID_IMAGES, GRID_BYTES // image_bytes, pictures.shape[0]) // 20 * 20)
    images = read_numbers(pictures.read, order[:count])
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


def _copies(answer: SampleAnswer, here: Any) -> list[CopyShown]:
    pictures = answer.samples.pictures
    references = None if answer.reference is None else answer.reference.pictures
    if pictures is None or references is None:
        return []
    return copies_shown(here, *(partial(read_numbers, each.read) for each in (references, pictures)))


def _modes(answer: SampleAnswer) -> list[ModeShown]:
    pictures, facts = answer.samples.pictures, answer.facts
    if pictures is None:
        return []
    references = None if answer.reference is None else answer.reference.pictures
    shown = []
    for mode in facts.heavy.modes[:MODES_SHOWN]:
        images = list(read_numbers(pictures.read, mode.members[:COPIES_SHOWN]))
        first, nearest, distance = int(mode.members[0]), None, None
        if references is not None:
            nearest = read_numbers(references.read, facts.record.neighbour[[first]])[0]
            distance = float(facts.distance[first])
        picture = mode_picture(images, nearest, COPIES_SHOWN)
        among = None if facts.heavy.samples == facts.record.samples else facts.heavy.samples
        shown.append(ModeShown(picture, first, len(mode.members), mode.mass, mode.low, mode.high, distance, among))
    return shown
