"""Blocks of values: parts that stay in a processor's cache, and the few values within limits of their rows or columns.

Invariant: what is found is every value within its limit, once, as long as no value has fallen since its group was seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ganlab.pairs.devices import accelerated

Seen = Callable[[torch.Tensor], None]
Hits = tuple[torch.Tensor, torch.Tensor]
"""Rows and columns of some values of a block, in no order."""

_CACHED_PAIRS = 2**17  # of a part: their int32 or float32 distances take half a megabyte
_GROUP = 32  # values of a row that are a group, of which the least is seen
_MANY = 2  # where one group in so many may have a hit, hits are too many to be listed


def slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Parts of a range, in order, of one size but for the last."""
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def cached_parts(block: torch.Tensor) -> Iterator[slice]:
    """Rows of a block, so many at a time that several passes over their values stay in a processor's cache."""
    step = max(1, _CACHED_PAIRS // max(1, block.shape[1]))
    if accelerated(str(block.device)):
        step = max(1, len(block))
    for start in range(0, len(block), step):
        yield slice(start, min(start + step, len(block)))


def groups_hit(share: float) -> float:
    """The most groups, as a share of all, that have a hit where so large a share of the values are hits."""
    return min(1.0, _GROUP * share)


class Least:
    """The least value of each group of a block, seen some rows after the others."""

    def __init__(self) -> None:
        self._rows: list[torch.Tensor] = []

    def see(self, values: torch.Tensor) -> None:
        """Look at the values of the next rows, (r, c)."""
        self._rows.append(_grouped(values).amin(dim=-1))

    @property
    def values(self) -> torch.Tensor:
        """(r, c // _GROUP) least values of whole groups."""
        return torch.cat(self._rows)


def within(values: torch.Tensor, limit: torch.Tensor, column_limit: torch.Tensor | None) -> torch.Tensor:
    """(r, c) mask of the values of a block that are at most the limit of their row (r,) or, if given, column (c,)."""
    mask = values <= limit[:, None]
    if column_limit is not None:
        mask |= values <= column_limit
    return mask


@dataclass(frozen=True, eq=False)
class Found:
    """Hits, the values of a block within their limits: listed, or as a mask where they may be very many.

    Parameters
    ----------
    shape
        Rows and columns of the block.
    places
        The hits, or their (r, c) mask.
    """

    shape: torch.Size
    places: Hits | torch.Tensor

    @property
    def many(self) -> bool:
        """True if hits are not listed yet."""
        return isinstance(self.places, torch.Tensor)

    @property
    def count(self) -> int:
        """Number of hits."""
        return int(self.places.sum()) if isinstance(self.places, torch.Tensor) else len(self.places[0])

    @property
    def hits(self) -> Hits:
        """All hits."""
        if not isinstance(self.places, torch.Tensor):
            return self.places
        row, column = torch.nonzero(self.places, as_tuple=True)
        return row, column

    @property
    def mask(self) -> torch.Tensor:
        """(r, c) mask of the hits."""
        if isinstance(self.places, torch.Tensor):
            return self.places
        mask = torch.zeros(self.shape, dtype=torch.bool, device=self.places[0].device)
        mask[self.places] = True
        return mask

    @property
    def lines(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows and the columns that have hits, in order."""
        lines = []
        for dim, size in enumerate(self.shape):
            if isinstance(self.places, torch.Tensor):
                some = self.places.any(dim=1 - dim)
            else:
                some = torch.zeros(size, dtype=torch.bool, device=self.places[dim].device)
                some[self.places[dim]] = True
            lines.append(torch.nonzero(some)[:, 0])
        return lines[0], lines[1]


def find_within(values: torch.Tensor, limit: torch.Tensor, column_limit: torch.Tensor | None, least: Least) -> Found:
    """Find the values of a block (r, c) that are at most the limit of their row (r,) or, if given, column (c,).

    Limits of columns side by side should be about equal: values of a group are looked at when the least of them is at
    most the largest limit of its columns.
    """
    largest = limit[:, None]
    if column_limit is not None:
        largest = torch.maximum(largest, _grouped(column_limit).amax(dim=-1))
    some = least.values <= largest
    if _MANY * int(some.sum()) > some.numel() > 0:
        return Found(values.shape, within(values, limit, column_limit))
    row, group = torch.nonzero(some, as_tuple=True)
    limits = limit[row, None]
    if column_limit is not None:
        limits = torch.maximum(limits, _grouped(column_limit)[group])
    which, place = torch.nonzero(_grouped(values)[row, group] <= limits, as_tuple=True)
    rest = values.shape[1] // _GROUP * _GROUP
    last = within(values[:, rest:], limit, None if column_limit is None else column_limit[rest:])
    last_row, last_place = torch.nonzero(last, as_tuple=True)
    hits = torch.cat([row[which], last_row]), torch.cat([group[which] * _GROUP + place, last_place + rest])
    return Found(values.shape, hits)


def _grouped(values: torch.Tensor) -> torch.Tensor:
    """Whole groups of values side by side, (..., c // _GROUP, _GROUP)."""
    groups = values.shape[-1] // _GROUP
    return values[..., : groups * _GROUP].reshape(*values.shape[:-1], groups, _GROUP)
