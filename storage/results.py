"""The answers of a sweep as one xarray Dataset in ``results.zarr``.

Invariant: what is on disk is a complete Dataset, of which the same inputs always give the same bytes, and which
``xr.open_zarr`` reads without this package and without a warning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.atomic import DamagedError, whole_folder
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
_TSM = ("trial", "snapshot", "mode")
_TSD = ("trial", "snapshot", "distance")
_TSC = ("trial", "snapshot", "class")

_COUNTED = "disjoint samples of that size, cut from the snapshot without replacement, that hold a duplicate"
_INTERVAL = "end of the interval at the confidence given in the attributes of the Dataset"
_SUPPORT = "1 / p2 with p2 = duplicates / pairs compared: the inverse Simpson number, at most the true support"
_BALLS = "of balls that reach to the 5th nearest of their own set; as many samples as real images, see scored_images"
_MODES = "heavy modes: too many copies for a sample of equally likely images, at the level of 1 %"
_CLASS = "pairs of images of that class alone"
_HALF = "smallest s with 1 - exp(-s (s - 1) p2 / 2) at least 1/2"

_JUDGED = "falling fit to the verdicts on pairs of all trials, weighted by the inverse of their chance to be shown"
_EXPECTED = "p2 = pairs that people would call duplicates by duplicate_probability, of the first images / their pairs"

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
        _TS, "1", "share of samples in the largest mode", "most duplicates of one image / (samples - 1)"
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
    "realistic_share": Variable(
        _TS, "1", "share of realistic samples", "nearer to a training image than the Dataset's attribute manifold says"
    ),
    "precision": Variable(_TS, "1", "share of samples in a real image's ball", f"Kynkäänniemi et al. 2019, {_BALLS}"),
    "recall": Variable(_TS, "1", "share of real images in a sample's ball", f"Kynkäänniemi et al. 2019, {_BALLS}"),
    "density": Variable(
        _TS, "1", "real images' balls that hold a sample, over 5; 1 when as dense", f"Naeem et al. 2020, {_BALLS}"
    ),
    "coverage": Variable(_TS, "1", "share of real images whose ball holds a sample", f"Naeem et al. 2020, {_BALLS}"),
    "scored_images": Variable(
        _TS, "images", "samples, and real images, that precision to coverage are of", "the first samples", "int64"
    ),
    "frechet_distance": Variable(
        _TS, "distance^2", "Fréchet distance to the real images", "of means and covariances of all samples, float64"
    ),
    "published_support": Variable(
        _TS, "images", "support as the test was published", "sample_size_at_half^2 (Arora and Zhang 2017)"
    ),
    "corrected_support": Variable(
        _TS, "images", "the same for equally likely images", "sample_size_at_half^2 / (2 ln 2)"
    ),
    "theorem_bound": Variable(
        _TS, "images", "size of a set that holds all probability", "theorem of Arora and Zhang 2017, gamma 1/2, rho 1"
    ),
    "theorem_applies": Variable(
        _TS, "1", "the bound may be believed", "no heavy mode, which alone makes samples collide", "bool"
    ),
    "heavy_modes": Variable(_TS, "count", "heavy modes named", _MODES, "int64"),
    "support_size_without_modes": Variable(
        _TS, "images", "effective number of distinct images without the heavy modes", f"{_SUPPORT}; without {_MODES}"
    ),
    "support_size_without_modes_low": Variable(
        _TS, "images", "lower end of support_size_without_modes", f"lower {_INTERVAL}"
    ),
    "support_size_without_modes_high": Variable(
        _TS, "images", "upper end of support_size_without_modes", f"upper {_INTERVAL}"
    ),
    "mode_mass": Variable(_TSM, "1", "share of samples that duplicate the mode's first image", _MODES),
    "mode_mass_low": Variable(_TSM, "1", "lower end of mode_mass", f"Wilson; lower {_INTERVAL}"),
    "mode_mass_high": Variable(_TSM, "1", "upper end of mode_mass", f"Wilson; upper {_INTERVAL}"),
    "mode_members": Variable(_TSM, "images", "images of the mode", "the first and its duplicates", "int64"),
    "mode_index": Variable(
        (*_TSM, "copy"),
        "1",
        "images of the mode",
        "numbers among the samples of the trial; the first, then others",
        "int64",
    ),
    "mode_reference_index": Variable(
        _TSM, "1", "training image nearest to the mode's first image", "number of the real image", "int64"
    ),
    "mode_reference_distance": Variable(_TSM, "distance", "distance to that training image", "exact distance"),
    "pair_probability": Variable(
        _TSD, "1", "probability that two samples are at most so far apart", "share of pairs counted, exact distances"
    ),
    "pair_probability_pairs": Variable(
        _TSD,
        "pairs",
        "pairs counted for pair_probability",
        "up to the threshold all pairs of the snapshot, beyond it those of its first images",
        "int64",
    ),
    "diversity_ratio_at": Variable(
        _TSD, "1", "diversity against the real images at every threshold", "real_pair_probability / pair_probability"
    ),
    "class_support_size": Variable(_TSC, "images", "effective number of distinct images of a class", _CLASS),
    "class_support_size_low": Variable(_TSC, "images", "lower end of class_support_size", f"lower {_INTERVAL}"),
    "class_support_size_high": Variable(_TSC, "images", "upper end of class_support_size", f"upper {_INTERVAL}"),
    "class_samples": Variable(_TSC, "images", "samples of a class", "counted by label", "int64"),
    "class_duplicates": Variable(_TSC, "pairs", "duplicates of a class", _CLASS, "int64"),
    "class_nonuniformity": Variable(_TSC, "1", "unevenness of a class's support", "p3 / p2^2; 1 exactly when uniform"),
    "class_largest_mode_mass": Variable(_TSC, "1", "share of a class's samples in its largest mode", _CLASS),
    "class_nonuniform": Variable(_TSC, "1", "a few images hold much of the class", _MODES, "bool"),
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
    "reconstruction_error": Variable(
        _TS, "value", "distance of G(E(x)) to x", "root mean square over the values of up to 1,000 training images"
    ),
    "reconstruction_baseline": Variable(
        _TS,
        "value",
        "the same of two unrelated training images",
        "as reconstruction_error, of another image for G(E(x))",
    ),
    "code_error": Variable(
        _TS,
        "1",
        "distance of E(G(z)) to z",
        "root mean square over coordinates of 1,000 codes; unrelated ones have 1.41",
    ),
    "code_normality": Variable(
        _TS, "1", "distance of the codes E(x) to a normal law", "largest Kolmogorov-Smirnov distance of a coordinate"
    ),
    "mixture_weight": Variable(
        ("trial", "snapshot", "component"),
        "1",
        "learned weight of a generator in a mixture",
        "averaged weights, softmax",
    ),
    "modes_found": Variable(
        _TS,
        "modes",
        "known modes of the data that a sample holds",
        "of gaussians-grid, by points within 3 standard "
        "deviations of a centre; of stacked-digits, by a classifier of real digits",
        "int64",
    ),
    "high_quality_share": Variable(
        _TS, "1", "share of samples that count for a mode", "points within 3 standard deviations of a centre"
    ),
    "mode_divergence": Variable(
        _TS, "nat", "divergence of the modes' shares from the real ones", "Kullback-Leibler, from the uniform law"
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
    "real_frechet_distance": Variable(
        (), "distance^2", "Fréchet distance of one half of the real images to the other", "random halves"
    ),
    "real_pair_probability": Variable(
        ("distance",), "1", "probability that two real images are at most so far apart", "as pair_probability"
    ),
    "real_pair_probability_pairs": Variable(
        ("distance",), "pairs", "pairs counted for real_pair_probability", "as pair_probability_pairs", "int64"
    ),
    "real_class_support_size": Variable(
        ("class",), "images", "effective number of distinct real images of a class", _CLASS
    ),
    "real_class_support_size_low": Variable(
        ("class",), "images", "lower end of real_class_support_size", f"lower {_INTERVAL}"
    ),
    "real_class_support_size_high": Variable(
        ("class",), "images", "upper end of real_class_support_size", f"upper {_INTERVAL}"
    ),
    "embedding_accuracy": Variable(
        (), "1", "held-out accuracy of the classifier whose top layer is the embedding", "images it never trained on"
    ),
    "embedding_training_accuracy": Variable(
        (), "1", "its accuracy on images it was trained on", "of ten times as many images as are held out"
    ),
    "real_collision_probability_model": Variable(
        ("sample_size",), "1", "probability of a duplicate among real images", "1 - exp(-s (s - 1) p2 / 2)"
    ),
    "duplicate_probability": Variable(
        ("judged_distance",), "1", "probability that people call two images so far apart duplicates", f"{_JUDGED}"
    ),
    "duplicate_probability_low": Variable(
        ("judged_distance",), "1", "lower end of duplicate_probability", f"bootstrap over pairs; lower {_INTERVAL}"
    ),
    "duplicate_probability_high": Variable(
        ("judged_distance",), "1", "upper end of duplicate_probability", f"bootstrap over pairs; upper {_INTERVAL}"
    ),
    "judged_share": Variable(
        ("piece",), "1", "share of verdicts that say duplicate, in a piece of the distance", "undecided counts half"
    ),
    "judged_pairs": Variable(("piece",), "pairs", "judged pairs in a piece of the distance", "counted", "int64"),
    "calibrated_threshold": Variable(
        (), "distance", "distance at which people call half of the pairs duplicates", _JUDGED
    ),
    "calibrated_threshold_low": Variable(
        (), "distance", "lower end of calibrated_threshold", f"bootstrap over pairs; lower {_INTERVAL}"
    ),
    "calibrated_threshold_high": Variable(
        (), "distance", "upper end of calibrated_threshold", f"bootstrap over pairs; upper {_INTERVAL}"
    ),
    "calibrated_support_size": Variable(
        _TS, "images", "effective number of images that people tell apart", f"1 / p2; {_EXPECTED}"
    ),
    "calibrated_support_size_low": Variable(
        _TS, "images", "lower end of calibrated_support_size", f"of sample and calibration; lower {_INTERVAL}"
    ),
    "calibrated_support_size_high": Variable(
        _TS, "images", "upper end of calibrated_support_size", f"of sample and calibration; upper {_INTERVAL}"
    ),
    "real_calibrated_support_size": Variable(
        (), "images", "effective number of real images that people tell apart", f"1 / p2; {_EXPECTED}"
    ),
    "real_calibrated_support_size_low": Variable(
        (), "images", "lower end of real_calibrated_support_size", f"of sample and calibration; lower {_INTERVAL}"
    ),
    "real_calibrated_support_size_high": Variable(
        (), "images", "upper end of real_calibrated_support_size", f"of sample and calibration; upper {_INTERVAL}"
    ),
    "judged_sample_size": Variable(
        _TS, "images", "sample size of the published test with people", "nearest to sample_size_at_half", "int64"
    ),
    "judged_samples": Variable(
        _TS, "count", "samples of the published test", "those with all closest pairs judged", "int64"
    ),
    "judged_collisions": Variable(
        _TS, "count", "samples with a duplicate", "the majority says so of one of the closest pairs", "int64"
    ),
    "judged_collision_probability": Variable(
        _TS, "1", "share of samples in which people find a duplicate", "judged_collisions / judged_samples"
    ),
    "judged_collision_probability_low": Variable(
        _TS, "1", "lower end of judged_collision_probability", f"Wilson; lower {_INTERVAL}"
    ),
    "judged_collision_probability_high": Variable(
        _TS, "1", "upper end of judged_collision_probability", f"Wilson; upper {_INTERVAL}"
    ),
    "judged_published_support": Variable(
        _TS, "images", "support as published: at most this", "judged_sample_size^2 where half of the samples collide"
    ),
    "reviewers": Variable((), "count", "people who judged", "counted by name", "int64"),
    "verdicts": Variable((), "count", "standing verdicts", "the last one of each person on each pair", "int64"),
    "agreement_kappa": Variable((), "1", "agreement beyond chance", "Cohen's kappa of two people, Fleiss' of more"),
    "agreement_kappa_low": Variable(
        (), "1", "lower end of agreement_kappa", f"bootstrap over pairs; lower {_INTERVAL}"
    ),
    "agreement_kappa_high": Variable(
        (), "1", "upper end of agreement_kappa", f"bootstrap over pairs; upper {_INTERVAL}"
    ),
    "agreement_observed": Variable((), "1", "share of verdicts of two people that are the same", "averaged over pairs"),
    "agreement_pairs": Variable((), "pairs", "pairs that two or more people judged", "counted", "int64"),
    "control_kappa": Variable((), "1", "agreement beyond chance on the controls", "as agreement_kappa"),
    "control_verdicts": Variable((), "count", "verdicts on pairs of real images", "shown blindly", "int64"),
    "control_duplicates": Variable(
        (), "1", "share of verdicts that call two real images duplicates", "undecided counts half"
    ),
    "same_verdicts": Variable((), "count", "verdicts on one real image shown twice", "shown blindly", "int64"),
    "same_duplicates": Variable((), "1", "share of them that call it duplicates", "undecided counts half"),
}

#: Coordinates that do not lie along `trial`: dimension, units, title.
COORDINATES: dict[str, tuple[str, str, str]] = {
    "step": ("snapshot", "steps", "generator step of the snapshot"),
    "sample_size": ("sample_size", "images", "images drawn together"),
    "logged_step": ("logged", "steps", "generator step of a logged loss"),
    "distance": ("distance", "distance", "largest distance of a pair"),
    "class": ("class", "1", "label of a class"),
    "judged_distance": ("judged_distance", "distance", "distance of a pair that people may be asked about"),
    "piece": ("piece", "distance", "middle of a piece of the distance"),
}


def reserved_names() -> set[str]:
    """Names that mean something of their own in the results, so that no hyperparameter may have them."""
    dims = {dim for about in VARIABLES.values() for dim in about.dims} | {dim for dim, _, _ in COORDINATES.values()}
    return {"trial", "family", "seed", "status", "reason", *VARIABLES, *COORDINATES, *dims}


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
    sizes["component"] = np.shape(variables.get("mixture_weight", np.empty(0)))[-1]
    sizes["mode"], sizes["copy"] = np.shape(variables.get("mode_index", np.empty((0, 0))))[-2:]
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
    DamagedError
        If they can't be opened.
    """
    import xarray as xr

    if not layout.results.is_dir():
        raise ValueError(f"{layout.results}: no results here yet; measure the sweep first")
    with _damage_named(layout):
        results = xr.open_dataset(layout.results, engine="zarr")
    if missing := [name for name in ("trial", "support_size") if name not in results.variables]:
        raise _damaged(layout, f"no variable {missing[0]}")
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
