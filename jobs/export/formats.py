"""Choice of a format, and the writing of an export as a whole.

Invariant: the folder of an export is complete or is not there.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from jobs.export import packages, tables, trackers
from jobs.export.content import Content
from jobs.spec.validation import SpecError
from storage.atomic import whole_folder
from storage.layout import SweepLayout


class Format(NamedTuple):
    """A format: its writer, and the module that has it."""

    write: Callable[[Content, Path], None]
    module: str


FORMATS: Mapping[str, Format] = {
    "csv": Format(tables.write_csv, "pandas"),
    "parquet": Format(tables.write_parquet, "pyarrow"),
    "tensorboard": Format(trackers.write_tensorboard, "tensorboardX"),
    "mlflow": Format(trackers.write_mlflow, "mlflow"),
    "wandb-offline": Format(trackers.write_wandb, "wandb"),
    "croissant": Format(packages.write_croissant, "mlcroissant"),
    "ro-crate": Format(packages.write_ro_crate, "rocrate"),
}


def export(layout: SweepLayout, name: str, folder: Path) -> Path:
    """Write the results of a sweep in a format of `FORMATS`, replacing an older export, and return its folder.

    Raises
    ------
    SpecError
        If there are no results, the format's library is not installed, or the folder holds something else.
    OSError
        If the disk is full, the folder is read-only, or the like.
    """
    chosen = FORMATS[name]
    if importlib.util.find_spec(chosen.module) is None:
        raise SpecError(
            f"--to {name}: needs {chosen.module}, which is not installed; run `pip install 'ganlab[export]'`"
        )
    if not layout.results.is_dir():
        raise SpecError(f"{layout.root}: no results here yet; run `ganlab measure {layout.root}` first")
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(f"--out {folder}: holds something else; allowed: a new or empty folder, or an older export")
    with whole_folder(folder) as unfinished:
        chosen.write(Content(layout), unfinished)
        (unfinished / MARK).write_text(f"{name}\n", encoding="utf-8")
    return folder


MARK = ".ganlab-export"
"""File by which an export is known, so that nothing else is ever replaced."""
