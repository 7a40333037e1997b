"""The answers of a sweep as one xarray Dataset in ``results.zarr``.

Invariant: what is on disk is a complete Dataset, of which the same inputs always give the same bytes, and which
``xr.open_zarr`` reads without this package and without a warning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.atomic import DamagedError, whole_folder
from storage.layout import SweepLayout
from storage.statistics import COORDINATES, SETTING_VARIABLES, VARIABLES, Variable

if TYPE_CHECKING:
    import xarray as xr

MISSING_COUNT = -1
"""Value on disk of a missing count; it reads as NaN."""
SETTINGS = "settings"
"""Group of the means over the seeds of each setting."""


@dataclass(frozen=True)
class SettingRows:
    """Columns of the group `settings`, one row for each setting.

    Attributes
    ----------
    coords : mapping
        `setting` and what else describes a setting: `family`, each hyperparameter that varies. Each one-dimensional.
    variables : mapping
        Values of variables in `storage.statistics.SETTING_VARIABLES`; NaN where a number is missing.
    """

    coords: Mapping[str, ArrayLike]
    variables: Mapping[str, ArrayLike]


def write_results(
    layout: SweepLayout,
    coords: Mapping[str, ArrayLike],
    variables: Mapping[str, ArrayLike],
    attributes: Mapping[str, Any],
    settings: SettingRows | None = None,
) -> None:
    """Write ``results.zarr``, synced to disk, in place of an older one that differs.

    Parameters
    ----------
    layout : SweepLayout
        Where.
    coords : mapping
        `trial` (the ids), `step`, `sample_size`, `logged_step`, and any others along `trial`: `family`, `seed`,
        `status`, and each hyperparameter that varies. Each one-dimensional.
    variables : mapping
        Values of variables in `storage.statistics.VARIABLES`, of the dimensions given there; NaN where a number or a
        count is missing. Only these are written.
    attributes : mapping
        What was done, for the whole Dataset; a mapping under the name of a variable goes to that variable.
    settings : SettingRows, optional
        The group `settings`, which gets the attributes of the whole Dataset; left out if not given.

    Raises
    ------
    ValueError
        If a name is not part of the contract, or a shape or type does not fit.
    OSError
        If the disk is full, the folder is read-only, or the like; the older results stay.
    """
    import numcodecs  # type: ignore[import-untyped]
    from zarr.storage import MemoryStore

    dataset = build_dataset(coords, variables, attributes)
    groups = {"/": dataset}
    if settings is not None:
        groups[SETTINGS] = _build(settings.coords, settings.variables, dataset.attrs, SETTING_VARIABLES, "setting")
    compressor = numcodecs.Zstd(level=3, checksum=True)
    # Format 2, because its specification has both fixed-width strings and consolidated metadata: in format 3 strings
    # come back as a type that much of xarray refuses, and metadata that is not consolidated opens with a warning.
    files: dict[str, Any] = {}
    for group, each in groups.items():
        encoding = {name: {**one.encoding, "compressors": compressor} for name, one in each.variables.items()}
        each.to_zarr(MemoryStore(files), group=group, zarr_format=2, consolidated=True, encoding=encoding)
    contents = {name: file.to_bytes() for name, file in files.items()}
    if _files_in(layout.results) == contents:
        return
    with whole_folder(layout.results) as folder:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _files_in(folder: Path) -> dict[str, bytes]:
    """Contents of all files by their paths inside a folder; of none where one can't be read."""
    try:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    except OSError:
        return {}


def build_dataset(
    coords: Mapping[str, ArrayLike], variables: Mapping[str, ArrayLike], attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Return the Dataset that `write_results` writes. Parameters and errors are the same."""
    return _build(coords, variables, attributes, VARIABLES, "trial")


def known_value(value: object) -> Any:
    """The value of a hyperparameter of a trial; None where the trial has no such hyperparameter.

    Results hold NaN there among numbers, and an empty text among texts (before version 0.2.0 the text "None").
    """
    return None if value in ("", "None") or value != value else value


def hyperparameter_column(values: Sequence[Any]) -> NDArray[Any]:
    """The values of a hyperparameter over the trials as a coordinate, of which `known_value` reads each again.

    Parameters
    ----------
    values
        One for each trial: None where a trial has no such hyperparameter; numbers, texts, or anything that is written
        as text.
    """
    known = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        return np.array([np.nan if value is None else value for value in values])
    if len(known) == len(values) and all(isinstance(value, bool) for value in known):
        return np.array(values)
    return np.array(["" if value is None else str(value) for value in values])


def _build(
    coords: Mapping[str, ArrayLike],
    variables: Mapping[str, ArrayLike],
    attributes: Mapping[str, Any],
    declared: Mapping[str, Variable],
    row: str,
) -> xr.Dataset:
    """Build a Dataset of declared variables; coordinates that are not declared lie along the dimension `row`."""
    import xarray as xr

    def own_attributes(name: str) -> dict[str, Any]:
        return dict(attributes.get(name, {}))

    unknown = [name for name in variables if name not in declared]
    if unknown:
        close = difflib.get_close_matches(unknown[0], declared, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"results variable {unknown[0]!r} is not one of VARIABLES{hint}")
    if row not in coords:
        raise ValueError(f"results need the coordinate {row}, one for each {row}")
    sizes = {row: len(np.atleast_1d(np.asarray(coords[row])))}
    coordinates: dict[str, xr.Variable] = {}
    for name, given in {"snapshot": coords["step"], **coords}.items() if "step" in coords else coords.items():
        values = _plain(name, given)
        dim, units, title = COORDINATES.get(name, (row, "1", name.replace("_", " ")))
        if values.ndim != 1 or sizes.setdefault(dim, len(values)) != len(values):
            raise ValueError(
                f"results coordinate {name}: got shape {values.shape}, expected ({sizes[dim]},), the {dim}s"
            )
        coordinates[name] = xr.Variable((dim,), values, {"long_name": title, "units": units, **own_attributes(name)})
    data: dict[str, xr.Variable] = {}
    for name, about in declared.items():
        if name not in variables:
            continue
        values = _values(name, about, variables[name])
        shape = tuple(sizes.setdefault(dim, size) for dim, size in zip(about.dims, values.shape, strict=False))
        if len(shape) != len(about.dims) or values.shape != shape:
            raise ValueError(f"results variable {name}: got shape {values.shape}, expected {shape} for {about.dims}")
        described = {"long_name": about.long_name, "units": about.units, "method": about.method}
        data[name] = xr.Variable(about.dims, values, {**described, **own_attributes(name)})
        if about.kind == "int64":
            data[name].encoding = {"dtype": "int64", "_FillValue": MISSING_COUNT}
    general = {key: value for key, value in attributes.items() if key not in {*data, *coordinates}}
    return xr.Dataset(data, coordinates, general)


def open_results(layout: SweepLayout) -> xr.Dataset:
    """Return the results, read when used.

    Raises
    ------
    ValueError
        If the sweep has none yet.
    DamagedError
        If they can't be opened.
    """
    return _open(layout, "/", "trial")


def open_settings(layout: SweepLayout) -> xr.Dataset | None:
    """Return the group `settings` of the results, read when used; None without it.

    Raises
    ------
    DamagedError
        If it can't be opened.
    """
    return _open(layout, SETTINGS, "setting") if (layout.results / SETTINGS).is_dir() else None


def _open(layout: SweepLayout, group: str, row: str) -> xr.Dataset:
    import xarray as xr

    if not layout.results.is_dir():
        raise ValueError(f"{layout.results}: no results here yet; measure the sweep first")
    with _damage_named(layout):
        results = xr.open_dataset(layout.results, engine="zarr", group=group)
    if row not in results.variables:
        raise _damaged(layout, f"no variable {row}")
    return results


def read_results(layout: SweepLayout) -> xr.Dataset:
    """Return the results, read into memory. Raises as `open_results`."""
    results = open_results(layout)
    with _damage_named(layout):
        return results.load()


@contextmanager
def _damage_named(layout: SweepLayout) -> Iterator[None]:
    """Turn whatever a damaged store makes its readers raise into DamagedError."""
    try:
        yield
    except Exception as error:
        raise _damaged(layout, f"{type(error).__name__}: {error}") from error


def _damaged(layout: SweepLayout, reason: str) -> DamagedError:
    return DamagedError(layout.results, "the results", reason, f"`ganlab measure {layout.root}` writes them again")


def _values(name: str, about: Variable, given: ArrayLike) -> NDArray[Any]:
    """Values as the Dataset holds them: counts as float64, so that NaN can stand for one that is missing."""
    values = _plain(name, given)
    kind = np.dtype({"str": "U1", "int64": "float64"}.get(about.kind, about.kind))
    if kind.kind == values.dtype.kind == "U":
        return values
    if kind.kind == "U" or not np.can_cast(values.dtype, kind, "same_kind"):
        raise ValueError(f"results variable {name}: got {values.dtype}, expected {about.kind}")
    values = values.astype(kind)
    if about.kind == "int64" and (values % 1 > 0).any():
        raise ValueError(f"results variable {name}: got fractions, expected whole numbers")
    return values


def _plain(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return an array that Zarr stores as it is: of numbers, booleans, or strings of a fixed width."""
    values = np.asarray(given)
    if values.dtype.kind in "OT" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(np.str_)
    if values.dtype.kind not in "biufU":
        raise ValueError(f"results {name}: got {values.dtype}, expected numbers, booleans or strings")
    return values.astype("U1") if values.dtype.itemsize == 0 else values
