"""Parts common to the reports of sweeps and of sample files: pictures with their numbers, and the page around them.

Invariant: a page loads nothing from elsewhere.
"""

import importlib.metadata
import importlib.resources
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganlab.quality.copying import Word
from ganlab.quality.moves import MOVE_NAMES, MOVES
from jobs.report.mosaics import Picture, mosaic
from jobs.spec.validation import SpecError
from storage.atomic import write_bytes

Images = Sequence[np.ndarray | None]
Take = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A flagged pair, above the training image nearest to each of the two where there are any."""

    picture: Picture
    distance: float
    reference_distance: tuple[float, float] | None
    numbers: tuple[int, int]
    duplicate: bool
    decided: str = ""


@dataclass(frozen=True)
class ModeShown:
    """A heavy mode: some of its images, and the training image nearest to the first where there is one."""

    picture: Picture
    number: int
    members: int
    mass: float
    low: float
    high: float
    reference_distance: float | None
    among: int | None = None  # of which the members are, where they are not of all samples


@dataclass(frozen=True)
class CopyShown:
    """A training image that many samples copy, beside the nearest of its copies, and beside that as it is moved."""

    picture: Picture
    number: int
    times: int
    copy: int
    distance: float
    move: str


def check_page(path: Path) -> None:
    """Raise SpecError where a report would replace something else than a report or an empty file."""
    if not path.exists():
        return
    if path.is_file():
        with path.open("rb") as file:
            if not (begin := file.read(1000)) or b'<meta name="generator" content="ganlab ' in begin:
                return
    found = f"got '{path}', which holds something else; allowed: a new file, or an older report"
    raise SpecError(found, source="--report")


def copies_shown(here: Any, training: Take, samples: Take) -> list[CopyShown]:
    """The training images that most samples of a snapshot copy, of its results; none where no copies were found.

    Parameters
    ----------
    here : xarray.Dataset
        The results of the snapshot alone.
    training, samples
        Give images by their numbers.
    """
    if "copying" not in here or str(here["copying"].values) != Word.COPIES:
        return []
    names = ("copied_index", "copied_times", "copy_index", "copy_distance")
    rows = np.stack([here[name].values for name in names], axis=1)
    there = np.isfinite(rows).all(axis=1)
    if not there.any():
        return []
    rows = rows[there]
    moves = here["copy_move"].values[there].tolist() if "copy_move" in here else [MOVE_NAMES[0]] * len(rows)
    images = zip(training(rows[:, 0].astype(np.int64)), samples(rows[:, 2].astype(np.int64)), strict=True)
    return [
        CopyShown(_copy_picture(*both, move), int(number), int(times), int(copy), float(distance), move)
        for both, (number, times, copy, distance), move in zip(images, rows, moves, strict=True)
        if both[0].ndim == 3
    ]


def _copy_picture(original: np.ndarray, copy: np.ndarray, move: str) -> Picture:
    """A training image, a copy of it, and, where a move brings the copy nearer, the moved copy."""
    shown = [original, copy]
    if move != MOVE_NAMES[0]:
        shown.append(MOVES[MOVE_NAMES.index(move)](copy[None])[0])
    return mosaic(shown, len(shown), max(48, *original.shape[1:]))


def mode_picture(members: Images, nearest: np.ndarray | None, copies: int) -> Picture:
    """Images of a mode in a row, each place of `copies` kept; the nearest training image apart at its end."""
    first = next(image for image in members if image is not None)
    row = [*members, *[None] * (copies - len(members)), *([None, nearest] if nearest is not None else [])]
    return mosaic(row, len(row), max(48, *first.shape[1:]))


def write_page(template: str, path: Path, **context: Any) -> Path:
    """Write a page, replacing an older one when it is safely on disk, and return its path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("jobs.report"), autoescape=True, undefined=StrictUndefined, lstrip_blocks=True
    )
    script = importlib.resources.files("jobs.report").joinpath("templates/page.js").read_text(encoding="utf-8")
    page = environment.get_template(template).render(
        version=importlib.metadata.version("ganlab"), script=Markup(script), **context
    )
    write_bytes(path, page.encode())
    return path
