"""Blocks of values: parts that stay in a processor's cache, and the few values within limits of their rows or columns.

Invariant: what is found is every value within its limit, once, as long as no value has fallen since its group was seen.
"""

from collections.abc import Callable, Iterator

import torch

from ganlab.pairs.devices import accelerated

Seen = Callable[[torch.Tensor], None]
Hits = tuple[torch.Tensor, torch.Tensor]
"""Rows and columns of some values of a block, in no order."""

_CACHED_PAIRS = 2**17  # of a part: their int32 or float32 distances take half a megabyte
_PART_ROWS = 32  # of which a part has a multiple; as many values of a column are a group, of which the least is seen
_GROUP = 64  # values of a row that are a group
_MANY = 4  # where one group in so many has a hit, hits are too many to be listed


def cached_parts(block: torch.Tensor) -> Iterator[slice]:
    """Rows of a block, so many at a time that several passes over their values stay in a processor's cache."""
    step = max(1, _CACHED_PAIRS // max(1, block.shape[1]) // _PART_ROWS) * _PART_ROWS
    if accelerated(str(block.device)):
        step = max(1, len(block))
    for start in range(0, len(block), step):
        yield slice(start, min(start + step, len(block)))


class Least:
    """The least value of each group of a block, seen some rows after the others.

    Parameters
    ----------
    of_columns
        Whether groups of columns are needed, too.
    """

    def __init__(self, of_columns: bool) -> None:
        self._of_columns = of_columns
        self._rows: list[torch.Tensor] = []
        self._columns: list[torch.Tensor] = []

    def see(self, values: torch.Tensor) -> None:
        """Look at the values of the next rows, (r, c); r is a multiple of _PART_ROWS for all but the last ones."""
        self._rows.append(_grouped(values, _GROUP).amin(dim=2))
        if self._of_columns:
            self._columns.append(_grouped(values.T, _PART_ROWS).amin(dim=2))

    @property
    def of_rows(self) -> torch.Tensor:
        """(r, c // _GROUP) least values of whole groups of rows."""
        return torch.cat(self._rows)

    @property
    def of_columns(self) -> torch.Tensor:
        """(c, r // _PART_ROWS) least values of whole groups of columns."""
        return torch.cat(self._columns, dim=1)


def hits_of_rows(values: torch.Tensor, limit: torch.Tensor, least: Least) -> Hits | None:
    """Values of a block (r, c) at most the limit (r,) of their row; None where they are many."""
    return _hits(values, limit, least.of_rows, _GROUP)


def hits_of_columns(values: torch.Tensor, limit: torch.Tensor, least: Least) -> Hits | None:
    """Values of a block (r, c) at most the limit (c,) of their column; None where they are many."""
    hits = _hits(values.T, limit, least.of_columns, _PART_ROWS)
    return None if hits is None else hits[::-1]


def union(hits: Hits, others: Hits | None, columns: int) -> Hits | None:
    """The hits of two lists, each once; None where one has too many."""
    if others is None:
        return None
    both = torch.unique(torch.cat([hits[0], others[0]]) * columns + torch.cat([hits[1], others[1]]))
    return both // columns, both % columns


def _grouped(values: torch.Tensor, size: int) -> torch.Tensor:
    """Whole groups of values side by side, (r, c // size, size)."""
    groups = values.shape[1] // size
    return values[:, : groups * size].reshape(len(values), groups, size)


def _hits(values: torch.Tensor, limit: torch.Tensor, least: torch.Tensor, size: int) -> Hits | None:
    some = least <= limit[:, None]
    if _MANY * int(some.sum()) > some.numel() > 0:
        return None
    row, group = torch.nonzero(some, as_tuple=True)
    groups = _grouped(values, size)
    which, place = torch.nonzero(groups[row, group] <= limit[row, None], as_tuple=True)
    rest = groups.shape[1] * size
    last_row, last_place = torch.nonzero(values[:, rest:] <= limit[:, None], as_tuple=True)
    return torch.cat([row[which], last_row]), torch.cat([group[which] * size + place, last_place + rest])
