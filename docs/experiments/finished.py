"""The finished sweep that an experiment's script is given, and its trials by kind of model."""

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import xarray as xr

from storage.attempts import read_attempts
from storage.layout import SweepLayout


def finished_sweep(arguments: list[str] | None = None) -> tuple[Path, xr.Dataset]:
    """The folder that is the only argument, by default of the command line, and its results."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER, that of a finished sweep")
    folder = Path(arguments[0])
    return folder, read_sweep(folder)


def read_sweep(folder: Path) -> xr.Dataset:
    """Results of the finished sweep in a folder, in memory."""
    if not (folder / "results.zarr").exists():
        sys.exit(f"{folder}: no results here yet; run the sweep to its end first")
    return xr.open_zarr(folder / "results.zarr").load()


def history(folder: Path) -> str:
    """How the trials of a sweep were trained: starts, time, machines and what interrupted them, from their records.

    The time of an attempt whose process was killed is not known, and not counted: the next command wrote its end.
    """
    layout = SweepLayout(folder)
    attempts = [each for trial in layout.trial_ids() for each in read_attempts(layout.trial(trial))]
    ended = [each for each in attempts if each.ended is not None]
    causes = [str(each.cause) for each in ended if each.cause != "completed"]
    known = [each for each in ended if each.cause != "interrupted"]
    hours = timedelta(seconds=round(sum((each.ended or 0) - each.started for each in known)))
    interruptions = ", ".join(f"{causes.count(cause)} {cause}" for cause in dict.fromkeys(causes)) or "none"
    hosts = len({each.host for each in attempts})
    return (
        f"trained: {len(layout.trial_ids())} trials by {len(attempts)} starts on {hosts} machine{'s' * (hosts != 1)} "
        f"in {hours} h:min:s, summed over trials{' without interrupted starts' * ('interrupted' in causes)}; "
        f"interruptions: {interruptions}"
    )


def by_model(results: xr.Dataset) -> dict[str, xr.Dataset]:
    """The trials by family, pixel scale and packing, in the order of the sweep."""
    keys = [key for key in ("pixel_scale", "packing") if key in results.coords]

    def label(trial: int) -> str:
        row = results.isel(trial=trial)
        given = {key.replace("_", " "): float(row[key]) for key in keys if not np.isnan(row[key])}
        return ", ".join([str(row.family.item()), *(f"{name} {value:g}" for name, value in given.items())])

    labels = [label(trial) for trial in range(results.sizes["trial"])]
    return {
        name: results.isel(trial=[i for i, other in enumerate(labels) if other == name])
        for name in dict.fromkeys(labels)
    }
