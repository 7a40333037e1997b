"""The answers of a sweep as one xarray Dataset in ``results.zarr``.

Invariant: what is on disk is a complete Dataset, of which the same inputs always give the same bytes, and which
``xr.open_zarr`` reads without this package and without a warning.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.atomic import whole_folder
from storage.layout import SweepLayout

if TYPE_CHECKING:
    import xarray as xr

#: What stands for "not measured" in each kind of variable.
MISSING: dict[str, float | int | bool | str] = {"float64": np.nan, "int64": -1, "bool": False, "str": ""}


class Variable(NamedTuple):
    """One variable of the results: its dimensions, unit, title, how it is made, and the type of its elements."""

    dims: tuple[str, ...]
    units: str
    long_name: str
    method: str
    kind: str = "float64"


_TS = ("trial", "snapshot")
_TSS = ("trial", "snapshot", "sample_size")
_TSF = ("trial", "snapshot", "flagged")
_TSFM = ("trial", "snapshot", "flagged", "member")
_TL = ("trial", "logged")

_COUNTED = "disjoint samples of that size, cut from the snapshot without replacement, that hold a duplicate"
_INTERVAL = "end of the interval at the confidence given in the attributes of the Dataset"
_SUPPORT = "1 / p2 with p2 = duplicates / pairs compared: the inverse Simpson number, at most the true support"
_HALF = "smallest s with 1 - exp(-s (s - 1) p2 / 2) at least 1/2"

VARIABLES: dict[str, Variable] = {
    "collision_probability": Variable(_TSS, "1", "probability of a duplicate in a sample", f"share of {_COUNTED}"),
    "collision_probability_low": Variable(
        _TSS, "1", "lower end of collision_probability", f"Wilson; lower {_INTERVAL}"
    ),
    "collision_probability_high": Variable(
        _TSS, "1", "upper end of collision_probability", f"Wilson; upper {_INTERVAL}"
    ),
    "collision_probability_model": Variable(
        _TSS, "1", "probability of a duplicate in a sample, from all pairs", "1 - exp(-s (s - 1) p2 / 2)"
    ),
    "collision_repeats": Variable(_TSS, "count", "disjoint samples of that size", "images // sample size", "int64"),
    "support_size": Variable(_TS, "images", "effective number of distinct images", _SUPPORT),
    "support_size_low": Variable(_TS, "images", "lower end of support_size", f"lower {_INTERVAL}"),
    "support_size_high": Variable(
        _TS, "images", "upper end of support_size", f"upper {_INTERVAL}; infinite when one_sided"
    ),
    "one_sided": Variable(
        _TS, "1", "no duplicate seen: support_size is a lower bound", "duplicates == 0; false when not measured", "bool"
    ),
    "support_size_realistic": Variable(
        _TS, "images", "effective number of distinct realistic images", f"{_SUPPORT}; only samples in the real manifold"
    ),
    "support_size_realistic_low": Variable(_TS, "images", "lower end of support_size_realistic", f"lower {_INTERVAL}"),
    "support_size_realistic_high": Variable(_TS, "images", "upper end of support_size_realistic", f"upper {_INTERVAL}"),
    "sample_size_at_half": Variable(_TS, "images", "sample size at which a duplicate is as likely as not", _HALF),
    "sample_size_at_half_low": Variable(_TS, "images", "lower end of sample_size_at_half", f"lower {_INTERVAL}"),
    "sample_size_at_half_high": Variable(_TS, "images", "upper end of sample_size_at_half", f"upper {_INTERVAL}"),
    "samples": Variable(_TS, "images", "images of the snapshot", "all of its committed samples", "int64"),
    "pairs_compared": Variable(_TS, "pairs", "pairs compared", "every unordered pair of the snapshot, once", "int64"),
    "duplicates": Variable(_TS, "pairs", "pairs at most the threshold apart", "exact distances of all pairs", "int64"),
    "threshold": Variable((), "distance", "distance up to which a pair is a duplicate", "see the Dataset's attributes"),
    "nonuniformity": Variable(_TS, "1", "unevenness of the support", "p3 / p2^2; 1 exactly when uniform"),
    "largest_mode_mass": Variable(
        _TS, "1", "share of samples in the largest mode", "size of the largest cluster of duplicates / samples"
    ),
    "diversity_ratio": Variable(
        _TS, "1", "diversity against the real images", "support_size / real_support_size, at the same threshold"
    ),
    "fidelity_ratio": Variable(
        _TS,
        "1",
        "distance to the real images against that of real ones; 1 is as near",
        "median distance of samples to their nearest training image / the same of held-out real images",
    ),
    "precision": Variable(_TS, "1", "share of realistic samples", "share of samples inside the real manifold"),
    "verdict_possible": Variable(
        _TS, "1", "samples realistic enough for a verdict", "fidelity gate passed; false when not measured", "bool"
    ),
    "flagged_index": Variable(
        _TSFM, "1", "the two images of a flagged pair", "number of the image among the samples of its trial", "int64"
    ),
    "flagged_distance": Variable(_TSF, "distance", "distance of a flagged pair", "the closest pairs, nearest first"),
    "flagged_verdict": Variable(_TSF, "1", "a person's verdict on a flagged pair", "last one given; or empty", "str"),
    "reference_index": Variable(
        _TSFM, "1", "training image nearest to each image of a flagged pair", "number of the real image", "int64"
    ),
    "reference_distance": Variable(
        _TSFM, "distance", "distance to the training image nearest to each image of a flagged pair", "exact distance"
    ),
    "generator_loss": Variable(_TL, "1", "loss of the generator", "as logged while training"),
    "discriminator_loss": Variable(_TL, "1", "loss of the discriminator", "as logged while training"),
    "real_samples": Variable((), "images", "real images measured in the same way", "all training images", "int64"),
    "real_pairs_compared": Variable((), "pairs", "pairs of real images compared", "every unordered pair once", "int64"),
    "real_duplicates": Variable(
        (), "pairs", "pairs of real images at most the threshold apart", "exact distances of all pairs", "int64"
    ),
    "real_support_size": Variable((), "images", "effective number of distinct real images", _SUPPORT),
    "real_support_size_low": Variable((), "images", "lower end of real_support_size", f"lower {_INTERVAL}"),
    "real_support_size_high": Variable((), "images", "upper end of real_support_size", f"upper {_INTERVAL}"),
    "real_collision_probability_model": Variable(
        ("sample_size",), "1", "probability of a duplicate among real images", "1 - exp(-s (s - 1) p2 / 2)"
    ),
}

#: Coordinates that do not lie along `trial`: dimension, units, title.
COORDINATES: dict[str, tuple[str, str, str]] = {
    "step": ("snapshot", "steps", "generator step of the snapshot"),
    "sample_size": ("sample_size", "images", "images drawn together"),
    "logged_step": ("logged", "steps", "generator step of a logged loss"),
}


def write_results(
    layout: SweepLayout,
    coords: Mapping[str, ArrayLike],
    variables: Mapping[str, ArrayLike],
    attributes: Mapping[str, Any],
) -> None:
    """Write ``results.zarr``, synced to disk, in place of any older one.

    Parameters
    ----------
    layout : SweepLayout
        Where.
    coords : mapping
        `trial` (the ids), `step`, `sample_size`, `logged_step`, and any others along `trial`: `family`, `seed`,
        `status`, and each hyperparameter that varies. Each one-dimensional.
    variables : mapping
        Values of variables in `VARIABLES`, of the dimensions given there. One left out is written as not measured.
    attributes : mapping
        What was done, for the whole Dataset; a mapping under the name of a variable goes to that variable.

    Raises
    ------
    ValueError
        If a name is not part of the contract, or a shape or type does not fit.
    OSError
        If the disk is full, the folder is read-only, or the like; the older results stay.
    """
    import numcodecs  # type: ignore[import-untyped]

    dataset = build_dataset(coords, variables, attributes)
    compressor = numcodecs.Zstd(level=3, checksum=True)
    # Format 2, because its specification has both fixed-width strings and consolidated metadata: in format 3 strings
    # come back as a type that much of xarray refuses, and metadata that is not consolidated opens with a warning.
    encoding = {name: {"compressors": compressor} for name in dataset.variables}
    with whole_folder(layout.results) as folder:
        dataset.to_zarr(folder, zarr_format=2, consolidated=True, encoding=encoding)


def build_dataset(
    coords: Mapping[str, ArrayLike], variables: Mapping[str, ArrayLike], attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Return the Dataset that `write_results` writes. Parameters and errors are the same."""
    import xarray as xr

    def own_attributes(name: str) -> dict[str, Any]:
        return dict(attributes.get(name, {}))

    unknown = [name for name in variables if name not in VARIABLES]
    if unknown:
        close = difflib.get_close_matches(unknown[0], VARIABLES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"results variable {unknown[0]!r} is not one of VARIABLES{hint}")
    if "trial" not in coords:
        raise ValueError("results need the coordinate trial, the ids of the trials")
    sizes = {"trial": len(np.atleast_1d(np.asarray(coords["trial"]))), "member": 2}
    coordinates: dict[str, xr.Variable] = {}
    for name, given in coords.items():
        values = _plain(name, given)
        dim, units, title = COORDINATES.get(name, ("trial", "1", name.replace("_", " ")))
        if values.ndim != 1 or sizes.setdefault(dim, len(values)) != len(values):
            raise ValueError(
                f"results coordinate {name}: got shape {values.shape}, expected ({sizes[dim]},), the {dim}s"
            )
        coordinates[name] = xr.Variable((dim,), values, {"long_name": title, "units": units, **own_attributes(name)})
    sizes["flagged"] = np.shape(variables.get("flagged_distance", ()))[-1]
    data: dict[str, xr.Variable] = {}
    for name, about in VARIABLES.items():
        shape = tuple(sizes.get(dim, 0) for dim in about.dims)
        described = {
            "long_name": about.long_name,
            "units": about.units,
            "method": about.method,
            "not_measured": str(MISSING[about.kind]),
        }
        values = _values(name, about, shape, variables.get(name))
        data[name] = xr.Variable(about.dims, values, {**described, **own_attributes(name)})
    general = {key: value for key, value in attributes.items() if key not in {*data, *coordinates}}
    return xr.Dataset(data, coordinates, general)


def open_results(layout: SweepLayout) -> xr.Dataset:
    """Return the results, read when used.

    Raises
    ------
    ValueError
        If the sweep has none yet.
    """
    import xarray as xr

    if not layout.results.is_dir():
        raise ValueError(f"{layout.results}: no results here yet; measure the sweep first")
    return xr.open_dataset(layout.results, engine="zarr")


def _values(name: str, about: Variable, shape: tuple[int, ...], given: ArrayLike | None) -> NDArray[Any]:
    kind = np.dtype("U1" if about.kind == "str" else about.kind)
    if given is None:
        return np.full(shape, MISSING[about.kind], dtype=kind)
    values = _plain(name, given)
    if values.shape != shape:
        raise ValueError(f"results variable {name}: got shape {values.shape}, expected {shape} for {about.dims}")
    if kind.kind == values.dtype.kind == "U":
        return values
    if kind.kind == "U" or not np.can_cast(values.dtype, kind, "same_kind"):
        raise ValueError(f"results variable {name}: got {values.dtype}, expected {about.kind}")
    return values.astype(kind)


def _plain(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return an array that Zarr stores as it is: of numbers, booleans, or strings of a fixed width."""
    values = np.asarray(given)
    if values.dtype.kind in "OT" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(np.str_)
    if values.dtype.kind not in "biufU":
        raise ValueError(f"results {name}: got {values.dtype}, expected numbers, booleans or strings")
    return values.astype("U1") if values.dtype.itemsize == 0 else values
