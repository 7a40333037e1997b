"""Images by the pivots nearest to them: columns likely to be near a row, and an order with near images side by side.

Invariant: what is found here changes the time of a search, never its answer.
"""

import numpy as np

from ganlab.pairs.blocks import slices
from ganlab.pairs.exact import Index
from ganlab.pairs.lower_bounds import Floats, Projection, half_distances
from ganlab.pairs.threads import in_threads

_PIVOT_IMAGES = 4096  # most images of one pivot that are looked at for a first bound
_PIVOT_ROWS = 512  # rows that look at them at a time
_PIVOT_COST = 300_000  # of one pivot, in looks at pairs of a pivot and an image
_PROBES = 4  # pivots near a row whose images are looked at
_CLUSTERS, _CLUSTER_IMAGES = 64, 256  # most clusters that bring images into order, and fewest images for each of them
_AT_ONCE = 4096  # images that look at pivots at a time


def likeliest(rows: Projection, columns: Projection, count: int) -> Index:
    """(r, count) places of different columns that are likely to be near each row; -1 where too few were looked at."""
    images, references = len(rows.squared), len(columns.squared)
    looks = images * references * _PROBES / (images + references + _PIVOT_COST)
    pivots = max(1, min(int(np.sqrt(looks)), references // (2 * count)))
    probes_of_row = min(_PROBES, pivots)
    pivot = np.linspace(0, len(columns.squared) - 1, pivots).astype(int)
    near_columns = _nearest_pivots(columns, columns, pivot, probes_of_row)
    near_rows = near_columns if rows is columns else _nearest_pivots(rows, columns, pivot, probes_of_row)
    of_pivot = near_columns[:, 0]
    by_pivot = np.argsort(of_pivot, kind="stable")
    ends = np.searchsorted(of_pivot[by_pivot], np.arange(pivots + 1))
    probes = near_rows.ravel()
    by_probe = np.argsort(probes, kind="stable")
    probe_ends = np.searchsorted(probes[by_probe], np.arange(pivots + 1))
    value = np.full((images, probes_of_row, count), np.inf, np.float32)
    place = np.full(value.shape, -1)

    def look(number: int) -> None:
        """Find the likeliest images of one pivot for the rows near it."""
        members = by_pivot[ends[number] : min(ends[number + 1], ends[number] + _PIVOT_IMAGES)]
        best = min(count, len(members))
        for part in slices(probe_ends[number], probe_ends[number + 1], _PIVOT_ROWS) if best else ():
            row, probe = np.divmod(by_probe[part], probes_of_row)
            half = half_distances(rows, row, columns, members).float()
            least = half.topk(best, dim=1, largest=False)
            value[row, probe, :best] = least.values.cpu().numpy()
            place[row, probe, :best] = members[least.indices.cpu().numpy()]

    in_threads(look, range(pivots), rows.device)
    order = np.argpartition(value.reshape(images, -1), count - 1, axis=1)[:, :count]
    likely: Index = np.take_along_axis(place.reshape(images, -1), order, axis=1)
    return likely


def by_clusters(
    rows: Projection, columns: Projection, bounds: Floats, column_bounds: Floats | None
) -> tuple[Index, Index]:
    """The numbers of rows and of columns in the order of clusters, so that images side by side are near each other.

    Clusters are in the order of the first coordinates of their pivots; images in that of their bounds in a cluster, the
    largest first.
    """
    clusters = max(1, min(_CLUSTERS, len(columns.squared) // _CLUSTER_IMAGES))
    pivot = np.linspace(0, len(columns.squared) - 1, clusters).astype(int)
    pivot = pivot[np.argsort(columns.first_coordinate[pivot], kind="stable")]
    row_order = np.lexsort((-bounds, _nearest_pivots(rows, columns, pivot, 1)[:, 0]))
    if rows is columns:
        return row_order, row_order
    among = np.zeros(len(columns.squared)) if column_bounds is None else -column_bounds
    return row_order, np.lexsort((among, _nearest_pivots(columns, columns, pivot, 1)[:, 0]))


def _nearest_pivots(rows: Projection, columns: Projection, pivot: Index, count: int) -> Index:
    """(r, count) numbers of the pivots nearest to each row."""

    def nearest_of(row: slice) -> Index:
        half = half_distances(rows, row, columns, pivot).float()
        numbers: Index = half.topk(count, dim=1, largest=False).indices.cpu().numpy()
        return numbers

    return np.concatenate(in_threads(nearest_of, slices(0, len(rows.squared), _AT_ONCE), rows.device))
