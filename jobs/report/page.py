"""Parts common to the reports of sweeps and of sample files: pictures with their numbers, and the page around them.

Invariant: a page loads nothing from elsewhere.
"""

import importlib.metadata
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.report.mosaics import Picture, mosaic
from storage.atomic import write_bytes

Images = Sequence[np.ndarray | None]


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
