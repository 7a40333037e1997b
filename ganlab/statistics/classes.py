"""Effective number of each class, for class-conditional models.

Invariant: only pairs of one class are counted, so a class's figures are those of its images alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganlab.statistics.modes import HeavyModes, heavy_modes
from ganlab.statistics.support import Estimate, estimate


@dataclass(frozen=True)
class ClassEstimate:
    """One class: its label, its support, and the modes that make it nonuniform (none when it is not)."""

    label: int
    support: Estimate
    heavy: HeavyModes

    @property
    def nonuniform(self) -> bool:
        """True if heavy modes make the support size misleading (the failure mode of the published test)."""
        return bool(self.heavy.modes)


def estimate_by_class(
    duplicates: npt.ArrayLike, labels: npt.NDArray[np.int64], confidence: float = 0.95
) -> list[ClassEstimate]:
    """Estimate the support of every class that has two images or more.

    Parameters
    ----------
    duplicates : integer array (m, 2)
        Every duplicate pair of the sample once; pairs of two classes are left out.
    labels : int64 (n,)
        The class of each image.
    confidence : float
        Level of the intervals.

    Returns
    -------
    list of ClassEstimate
        By label, rising. Members of modes are numbers in the whole sample.

    Raises
    ------
    ValueError
        As `ganlab.statistics.support.estimate`.
    """
    pairs = np.asarray(duplicates, dtype=np.int64).reshape(-1, 2)
    pairs = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]
    answers = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) < 2:
            continue
        mine = np.searchsorted(own, pairs[labels[pairs[:, 0]] == label])
        found = heavy_modes(mine, len(own), confidence)
        answers.append(ClassEstimate(int(label), estimate(mine, len(own), confidence), found))
    return answers


def nonuniform_classes(classes: Sequence[ClassEstimate]) -> list[int]:
    """Labels of the classes whose support is not uniform."""
    return [each.label for each in classes if each.nonuniform]
