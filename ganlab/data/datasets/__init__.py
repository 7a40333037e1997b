"""Datasets of sweeps, one file each, behind one interface.

Invariant: adding a dataset takes one file here; no other module names it.
"""

from typing import TYPE_CHECKING

from ganlab.data.datasets.base import (
    LEAST_REAL,
    ArrayLike,
    Dataset,
    DatasetSettings,
    ModeCounter,
    OpenArray,
    Progress,
    RealSettings,
    absolute,
)
from ganlab.data.datasets.registry import any_of, datasets

__all__ = [
    "DATASETS",
    "LEAST_REAL",
    "AnyDataset",
    "ArrayLike",
    "Dataset",
    "DatasetSettings",
    "ModeCounter",
    "OpenArray",
    "Progress",
    "RealSettings",
    "absolute",
]

DATASETS = datasets(DatasetSettings)  # type: ignore[type-abstract]

if TYPE_CHECKING:
    AnyDataset = DatasetSettings
else:
    AnyDataset = any_of(DatasetSettings)
