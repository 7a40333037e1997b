"""The xarray engine "ganlab": a sweep folder opened as a Dataset of answers, or as a DataTree with every image.

Invariant: no image is loaded before it is used, and only committed samples are shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from storage.layout import SweepLayout
from storage.plan import array_of
from storage.reference import Reference, read_reference
from storage.results import SETTINGS, open_results, open_settings
from storage.samples import Images, Samples, dimensions, read_numbers

_LABEL = {"long_name": "class of the image", "units": "1"}


class GanlabBackend(BackendEntrypoint):
    """Opens the folder of a sweep."""

    description: ClassVar[str] = "Open the folder of a ganlab sweep"
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = ("filename_or_obj", "drop_variables")
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether this is the folder of a sweep."""
        return isinstance(filename_or_obj, str | os.PathLike) and SweepLayout(_path(filename_or_obj)).spec.is_file()

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        """Open the results of a sweep.

        Raises
        ------
        ValueError
            If the folder has no results yet.
        """
        return _drop(open_results(SweepLayout(_path(filename_or_obj))), drop_variables)

    def open_groups_as_dict(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None
    ) -> dict[str, xr.Dataset]:
        """Open results (``/``, ``/settings``), real images (``/reference``) and samples (``/trials/<trial>``).

        What the sweep does not have yet is left out. A trial shows the snapshots that are complete.
        """
        layout = SweepLayout(_path(filename_or_obj))
        if not layout.root.is_dir():
            raise ValueError(f"{layout.root}: no such folder")
        groups = {"/": open_results(layout) if layout.results.is_dir() else xr.Dataset()}
        if (settings := open_settings(layout)) is not None:
            groups[f"/{SETTINGS}"] = settings
        if layout.reference.is_dir():
            groups["/reference"] = _reference(read_reference(layout))
        for trial_id in layout.trial_ids():
            if layout.trial(trial_id).samples.is_dir():
                groups[f"/trials/{trial_id}"] = _samples(Samples(layout.trial(trial_id)))
        return {name: _drop(dataset, drop_variables) for name, dataset in groups.items()}

    def open_datatree(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.DataTree:
        """Open the groups of `open_groups_as_dict` as one tree."""
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, drop_variables=drop_variables))


class _LazyImages(BackendArray):
    """The images of some sample numbers, read when indexed."""

    def __init__(self, source: Samples | Reference, numbers: NDArray[np.int64]) -> None:
        self._source, self._numbers, self.dtype = source, numbers, source.dtype
        self.shape = (len(numbers), *source.shape[1:])

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Images:
        images = read_numbers(self._source.read, np.atleast_1d(self._numbers[key[0]]))
        for axis in range(len(self.shape) - 1, 0, -1):  # from the last: a number removes its axis
            images = images[(slice(None),) * axis + (key[axis],)]
        return images[0] if np.ndim(self._numbers[key[0]]) == 0 else images


def _samples(samples: Samples) -> xr.Dataset:
    steps = samples.steps
    numbers = np.concatenate([np.arange(0), *(np.arange(each.start, each.stop) for each in steps.values())])
    step = np.repeat(np.array([*steps], dtype=np.int64), [len(each) for each in steps.values()])
    data = _images(samples, numbers, samples.plan.shard_images)
    if samples.plan.labelled:
        labels = [samples.labels(each.start, each.stop) for each in steps.values()]
        values = np.concatenate([np.empty(0, np.int64), *(each for each in labels if each is not None)])
        data["label"] = xr.Variable("sample", values, _LABEL)
    attributes = {"long_name": "generator step the sample was drawn at", "units": "steps"}
    return xr.Dataset(data, {"step": xr.Variable("sample", step, attributes)})


def _reference(reference: Reference) -> xr.Dataset:
    numbers = np.arange(reference.shape[0])
    data = _images(reference, numbers, reference.shard_images)
    if reference.labels is not None:
        data["label"] = xr.Variable("sample", reference.labels, _LABEL)
    return xr.Dataset(data, attrs={"fingerprint": reference.fingerprint})


def _images(source: Samples | Reference, numbers: NDArray[np.int64], shard_images: int) -> dict[str, xr.Variable]:
    """`images` or `points`, by that name."""
    lazy = indexing.LazilyIndexedArray(_LazyImages(source, numbers))
    dims, name = dimensions(source.shape[1:]), array_of(source.shape[1:])
    chunks = dict(zip(dims, (shard_images, *source.shape[1:]), strict=True))
    attributes = {"long_name": "pixels" if name == "images" else "coordinates", "units": "1"}
    return {name: xr.Variable(dims, lazy, attributes, encoding={"preferred_chunks": chunks})}


def _drop(dataset: xr.Dataset, names: str | Iterable[str] | None) -> xr.Dataset:
    return dataset.drop_vars([names] if isinstance(names, str) else names or (), errors="ignore")


def _path(given: str | os.PathLike[str]) -> Path:
    return Path(given).expanduser()
