"""The distance of duplicates: by a rate of real pairs, by a quantile of real neighbours, or as given.

Invariant: a function of the settings and the real images alone; the distances of real rates are computed once and kept.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ganlab.pairs.content import take
from ganlab.pairs.exact import Index, squared_threshold
from ganlab.quality.fidelity import RealNeighbours
from ganlab.statistics.duplicate_distance import MOST_IMAGES, DuplicateDistance, default_rate, duplicate_distances
from jobs.measuring.comparison import Source
from jobs.spec.sections import FromReal, Threshold
from jobs.spec.validation import SpecError

GIVEN = "given"
NO_RATE = "equal images alone: too few different real images to show any rate"


@dataclass(frozen=True)
class ChosenDistance:
    """The distance of duplicates, and how it was chosen.

    Attributes
    ----------
    distance : float
    squared : float
        Largest squared distance of a duplicate; a whole number for uint8 images.
    chosen_by : str
        In words.
    real : DuplicateDistance or None
        The rate of real pairs that it stands for; None for a distance chosen in another way.
    """

    distance: float
    squared: float
    chosen_by: str
    real: DuplicateDistance | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """Origin of the distance, as attributes of the results."""
        found: dict[str, Any] = {"chosen_by": self.chosen_by, "squared": self.squared}
        if self.real is not None:
            found |= {"real_rate": self.real.rate, "low": self.real.low, "high": self.real.high}
            found |= {"real_pairs": self.real.pairs, "real_pairs_within": self.real.within, "copies": self.real.copies}
        return found

    @property
    def rate(self) -> float | None:
        """Share of the pairs of different real images within the distance, as asked for."""
        return None if self.real is None else self.real.rate


@dataclass(frozen=True, eq=False)
class RealImages:
    """The real images as samples are held against them.

    Attributes
    ----------
    neighbours : RealNeighbours
        Distances of real images to their nearest other one.
    chosen : ChosenDistance
        The distance of duplicates.
    rates : tuple of DuplicateDistance
        Distances of the rates that the real images can show.
    moved : RealNeighbours or None
        Distances over moves (`jobs.measuring.moved`); None where moved copies are not looked for.
    """

    neighbours: RealNeighbours
    chosen: ChosenDistance
    rates: tuple[DuplicateDistance, ...]
    moved: RealNeighbours | None = None

    @property
    def copies(self) -> RealNeighbours:
        """Distances by which samples are copies: over moves where moved copies are looked for."""
        return self.neighbours if self.moved is None else self.moved


@dataclass(frozen=True)
class Joined:
    """The images of two sets, of one shape and type, as one set."""

    first: Source
    second: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return (self.first.shape[0] + self.second.shape[0], *self.first.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        return self.first.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop)."""
        edge = self.first.shape[0]
        if stop <= edge:
            return self.first.read(start, stop)
        if start >= edge:
            return self.second.read(start - edge, stop - edge)
        return np.concatenate([self.first.read(start, edge), self.second.read(0, stop - edge)])


def real_rates(images: Source, order: Index, rates: Sequence[float]) -> tuple[DuplicateDistance, ...]:
    """Distances of those rates that the real images can show, the largest rate first.

    Parameters
    ----------
    images
        The real images, in the space where distances are taken; held-out images among them, since the rate is one of
        the law that they all are drawn from.
    order
        Their numbers in a random order, of which the first `MOST_IMAGES` are compared.
    rates
        Shares of the pairs of different images.
    """
    some = take(images.read, order[:MOST_IMAGES])
    found = duplicate_distances(some, sorted(rates, reverse=True), order=np.arange(len(some)))
    return tuple(each for each in found.values() if each is not None)


def choose_distance(
    wanted: Threshold, rates: Sequence[DuplicateDistance], neighbours: RealNeighbours | None, integer: bool
) -> ChosenDistance:
    """Choose the distance of duplicates.

    Parameters
    ----------
    wanted
        As in a sweep file: "auto", a rate, a quantile, or a distance.
    rates
        Of the real images, as `real_rates` gives them; empty without real images.
    neighbours
        Distances of real images to their nearest other one; needed for a quantile.
    integer
        Squared distances are whole numbers, and so is that of the distance.

    Raises
    ------
    SpecError
        The real images cannot show the rate that is asked for; without any rate, "auto" is a distance of 0.
    """
    if isinstance(wanted, FromReal) and wanted.quantile is not None:
        assert neighbours is not None
        distance = neighbours.threshold(wanted.quantile)
        how = f"the {wanted.quantile} quantile of real images' distances to their nearest other real image"
        return ChosenDistance(distance, squared_threshold(distance, integer), how)
    if isinstance(wanted, float | int):
        return ChosenDistance(float(wanted), squared_threshold(float(wanted), integer), GIVEN)
    if wanted == "auto" and not rates:
        return ChosenDistance(0.0, squared_threshold(0.0, integer), NO_RATE)
    rate = default_rate(rates[0].images - rates[0].copies) if wanted == "auto" else wanted.rate
    assert rate is not None
    found = next((each for each in rates if math.isclose(each.rate, rate)), None)
    if found is None:
        raise SpecError(_cannot_show(rate, rates), ("collisions", "threshold"))
    how = f"{rate:g} of the pairs of different real images are that near"
    return ChosenDistance(found.distance, squared_threshold(found.distance, integer), how, found)


def wanted_rates(wanted: Threshold, known: Sequence[float]) -> tuple[float, ...]:
    """Rates to compute: the usual ones and the one of the settings."""
    asked = wanted.rate if isinstance(wanted, FromReal) else None
    return tuple(dict.fromkeys([*known, *([] if asked is None else [asked])]))


RATE_FIELDS = tuple(field.name for field in fields(DuplicateDistance))


def rates_to_arrays(rates: Sequence[DuplicateDistance]) -> dict[str, np.ndarray]:
    """Plain arrays by name, for numpy.savez."""
    return {f"rates.{name}": np.array([asdict(each)[name] for each in rates]) for name in RATE_FIELDS}


def rates_from_arrays(arrays: dict[str, np.ndarray]) -> tuple[DuplicateDistance, ...]:
    """Restore from the arrays of `rates_to_arrays`."""
    columns = {name: arrays[f"rates.{name}"].tolist() for name in RATE_FIELDS}
    return tuple(
        DuplicateDistance(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
    )


def _cannot_show(rate: float, rates: Sequence[DuplicateDistance]) -> str:
    from ganlab.statistics.duplicate_distance import images_needed

    have = "too few" if not rates else f"{rates[0].images - rates[0].copies:,}"
    return (
        f"got a rate of {rate:g} with {have} different real images, where {images_needed(rate):,} are needed;"
        " allowed: more real images, a larger rate, or a distance"
    )
