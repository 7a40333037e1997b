"""Exact squared distances: of listed pairs, and of whole blocks by integer matrix products.

Invariant: a squared distance depends on the two images alone. uint8 images give the integer itself; float32 images
give numpy's sum over one row of squared float64 differences, whatever the block, the machine or the BLAS.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray

from ganlab.pairs.blocks import Seen, cached_parts
from ganlab.pairs.devices import accelerated, keep, least_seconds
from ganlab.pairs.threads import in_threads

Array = NDArray[Any]
Index = NDArray[np.int64]
Read = Callable[[int, int], Array]  # read(start, stop) gives the images [start, stop)
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_READ_BYTES = 2**25  # of images read at a time
_BATCH_BYTES = 2**19  # of differences at a time: they stay in the cache
_INT32_FEATURES = 2**15 - 1  # so many squares of differences of uint8, or twice products of int8, fit in int32
_INT8_COLUMNS = 16
_INT32_COLUMNS = 2**17 - 1  # so many products of int8 fit in int32 (each is at most 2**14)
_FLOAT32_COLUMNS = 512  # so many sum to at most 512 * 2**14 = 2**23 on the way: exact in float32, with a bit to spare
_ALIGNED = 32  # cuBLAS takes int8 matrices whose sizes are multiples of 8, with more than 16 rows
_TRIED = 2048  # rows of the matrices by which a product is chosen on an accelerator
_GATHER_BYTES = 2**28  # of differences of listed pairs at a time on an accelerator


@dataclass(frozen=True, eq=False)
class Images:
    """Images as rows, ready for exact comparison.

    Parameters
    ----------
    values
        (n, d) C-contiguous uint8 or float32; or int8: uint8 images shifted by -128, which have the same differences.
    """

    values: Array

    def __len__(self) -> int:
        return len(self.values)

    @property
    def features(self) -> int:
        """The number of values of one image, d."""
        return int(self.values.shape[1])

    @property
    def integer(self) -> bool:
        """True when squared distances are integers."""
        return bool(self.values.dtype != np.float32)

    @property
    def most_squared(self) -> float:
        """A squared distance that no pair exceeds: the largest possible one for uint8 images, finite for float32 ones."""
        return float(self.features) * (255**2 if self.integer else 2.0**258)  # differences of float32 stay below 2**129

    @cached_property
    def _kept(self) -> tuple[Any, dict[Any, tuple[object, Any]]]:
        return RLock(), {}

    def derived(self, name: Any, make: Callable[[], Any], by: object = None) -> Any:
        """Return what is derived from each of these images; made by the first thread that needs it, then kept.

        Parameters
        ----------
        name
            Under which it is kept.
        make
            Called when nothing is kept under the name, or what something else than `by` made. Its result has a method
            ``take(which)``, which gives that of some of the images.
        by
            What makes it; one result is kept for each name, so that images that many look at grow no further.
        """
        lock, kept = self._kept
        with lock:
            if name not in kept or kept[name][0] is not by:
                kept[name] = by, make()
            return kept[name][1]

    def take(self, which: Index) -> "Images":
        """Some of the images, in this order, with what is derived from each of them."""
        some = Images(self.values[which])
        lock, kept = self._kept
        with lock:
            some._kept[1].update({name: (by, derived.take(which)) for name, (by, derived) in kept.items()})
        return some

    @cached_property
    def _shifted(self) -> tuple[NDArray[np.int8], Index]:
        shifted = signed(self.values)
        return shifted, squared_lengths(shifted)

    def keep_shifted(self) -> None:
        """Shift all uint8 images now, for a caller that will need them again and again."""
        _ = self._shifted

    def shifted(self, which: slice | Index) -> tuple[NDArray[np.int8], Index]:
        """Some uint8 images shifted by -128, and their exact squared lengths; all are kept once many are needed."""
        some = self.values[which]
        if "_shifted" not in self.__dict__ and 4 * len(some) < len(self):
            some = signed(some)
            return some, squared_lengths(some)
        shifted, lengths = self._shifted
        return shifted[which], lengths[which]

    @cached_property
    def _on_devices(self) -> dict[str, torch.Tensor]:
        return {}

    def on(self, device: str, which: slice | Index) -> torch.Tensor:
        """Some images on a device, as they are stored; all of them stay on an accelerator that has room."""
        if device not in self._on_devices:
            with warnings.catch_warnings():  # of values that are not writable, which nothing here writes to
                warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
                self._on_devices[device] = keep(torch.from_numpy(self.values), device)
        values = self._on_devices[device]
        if not isinstance(which, slice):
            return values[torch.from_numpy(which).to(values.device)].to(device)
        return values[which].to(device)

    def shifted_on(self, device: str, which: slice | Index) -> tuple[torch.Tensor, torch.Tensor]:
        """The tensors of `shifted` on a device; lengths in int32, or int64 where squared distances could overflow it."""
        kind = torch.int32 if self.features <= _INT32_FEATURES else torch.int64
        if not accelerated(device):
            shifted, lengths = self.shifted(which)
            return torch.from_numpy(shifted), torch.from_numpy(lengths).to(kind)
        values = self.on(device, which)
        if values.dtype == torch.uint8:
            values = values.bitwise_xor(128).view(torch.int8)
        parts = (part.float().square_().sum(dim=1).to(kind) for part in torch.split(values, _FLOAT32_COLUMNS, dim=1))
        return values, sum(parts, torch.zeros(len(values), dtype=kind, device=values.device))


def as_images(images: Array | Images, what: str = "images", at_least: int = 1) -> Images:
    """Anyone's array as checked rows; checked rows as they are, with what was derived from them.

    Raises
    ------
    ValueError
        Not an array of uint8 or float32 with one image per row, fewer images than `at_least`, images of no size, or
        NaN or infinite values.
    """
    if isinstance(images, Images):
        _check_number(len(images), what, at_least)
        return images
    if not isinstance(images, np.ndarray) or images.dtype == np.object_:
        raise ValueError(
            f"{what}: got {type(images).__name__} of several shapes or kinds; allowed is one numpy array "
            "(n, ...) of images of one shape; resize the images to one size and stack them"
        )
    if images.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f"{what}: got dtype {images.dtype}; allowed are uint8 and float32; convert the array, "
            "for example with .astype(numpy.float32)"
        )
    if images.ndim < 2 or 0 in images.shape[1:]:
        raise ValueError(
            f"{what}: got shape {images.shape}; allowed is (n, ...) with at least one value per image; "
            "put one image in each row"
        )
    _check_number(len(images), what, at_least)
    rows = np.ascontiguousarray(images.reshape(len(images), -1))
    _check_finite(rows, what)
    return Images(rows)


def _check_number(images: int, what: str, at_least: int) -> None:
    if images < at_least:
        raise ValueError(f"{what}: got {images} image(s); allowed are {at_least} or more; give a larger sample")


def read_rows(read: Read, start: int, stop: int, like: Array | None = None) -> Array:
    """Images [start, stop) as checked rows, with as many values of the same type as those of `like`.

    Raises
    ------
    ValueError
        As for `as_images`, or another number of images, or of values per image, than wanted.
    """
    what = f"images {start} to {stop - 1}"
    rows = as_images(read(start, stop), what).values
    like = rows if like is None else like
    if (len(rows), rows.shape[1], rows.dtype) != (stop - start, like.shape[1], like.dtype):
        raise ValueError(
            f"{what}: got {len(rows)} images of {rows.shape[1]} {rows.dtype} values; allowed are "
            f"{stop - start} images of {like.shape[1]} {like.dtype} values; bring all to one shape and type"
        )
    return rows


def load_rows(read: Read, start: int, stop: int) -> Images:
    """Images [start, stop) as checked rows, read in parts so that no second copy of all of them is ever held.

    uint8 images are shifted to int8, so that integer products need no copy; float32 rows of an array in memory are
    those of the array itself. Raises as `read_rows` does.
    """
    first = read_rows(read, start, min(start + 1, stop))
    if first.dtype == np.float32 and np.may_share_memory(first, read(start, min(start + 1, stop))):
        return Images(read_rows(read, start, stop, first))
    step = max(1, _READ_BYTES // first.nbytes)
    values = np.empty((stop - start, first.shape[1]), np.int8 if first.dtype == np.uint8 else np.float32)
    for place in range(start, stop, step):
        part = read_rows(read, place, min(place + step, stop), first)
        values[place - start : place - start + len(part)] = signed(part) if part.dtype == np.uint8 else part
    return Images(values)


def check_same_kind(rows: Images, columns: Images, what: str) -> None:
    """Raise ValueError unless both hold as many values of one type for each image."""
    if (rows.features, rows.values.dtype) != (columns.features, columns.values.dtype):
        raise ValueError(
            f"{what}: got images of {rows.features} {rows.values.dtype} and of {columns.features} "
            f"{columns.values.dtype} values; allowed is one shape and type; resize them"
        )


def _check_finite(rows: Array, what: str) -> None:
    if rows.dtype != np.float32:
        return
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf on the way is what we look for
        finite = np.isfinite(rows.sum(axis=1))
    finite[~finite] = np.isfinite(rows[~finite]).all(axis=1)  # large values may have a sum that is none
    if not finite.all():
        raise ValueError(
            f"{what}: image {int(np.argmin(finite))} holds NaN or infinite values; allowed are finite "
            "values; leave such images out or check the network that made them"
        )


def squared_limit(distance: npt.ArrayLike) -> NDArray[np.float64]:
    """Largest float64 whose square root is at most `distance`, elementwise.

    A pair is at most `distance` apart when its squared distance is at most this limit. The rounded square of a distance
    can lie below the squared distance that it is the root of.

    Parameters
    ----------
    distance : array
        Distances, 0 or more.
    """
    at = np.asarray(distance, np.float64)
    with np.errstate(over="ignore"):
        limit = np.nextafter(np.square(at), 0)
        for _ in range(4):  # of the float64 numbers next to the square, at most three more have this root
            above = np.nextafter(limit, np.inf)
            limit = np.where(np.sqrt(above) <= at, above, limit)
    return limit


def squared_threshold(distance: float, integer: bool) -> float:
    """Largest squared distance of duplicates at most `distance` apart: an int where squared distances are integers.

    The int stops at 2**53, above every squared distance of uint8 images.
    """
    limit = float(squared_limit(distance))
    return int(min(limit, 2.0**53)) if integer else limit


def signed(values: Array) -> NDArray[np.int8]:
    """uint8 values shifted by -128 as int8; int8 values are returned as they are."""
    return values if values.dtype == np.int8 else (values ^ np.uint8(128)).view(np.int8)


def squared_lengths(values: NDArray[np.int8]) -> Index:
    """(n,) exact squared lengths of int8 rows."""

    def lengths(part: slice) -> Array:
        total = np.zeros(len(values[part]))
        for start in range(0, values.shape[1], _FLOAT32_COLUMNS):
            single = values[part, start : start + _FLOAT32_COLUMNS].astype(np.float32)  # its sums are exact
            total += np.einsum("nd,nd->n", single, single)
        return total.astype(np.int64)

    return _in_batches(len(values), _FLOAT32_COLUMNS, lengths)


def squared_distances(rows: Images, columns: Images, i: Index, j: Index, device: str = "cpu") -> Array:
    """Exact squared distances of the pairs of `rows[i]` and `columns[j]`; those of float32 images on the processor.

    Returns
    -------
    ndarray
        (m,) int64 for uint8 images, float64 for float32 images.
    """
    a, b = rows.values, columns.values
    assert (a.dtype, a.shape[1]) == (b.dtype, b.shape[1])
    if rows.integer and accelerated(device):
        return _gathered_distances(rows, columns, i, j, device)
    wide = np.int16 if rows.integer else np.float64

    def distances(part: slice) -> Array:
        difference: Array = a[i[part]].astype(wide)
        np.subtract(difference, b[j[part]], out=difference)
        return _square_sums(difference)

    return _in_batches(len(i), rows.features, distances)


def _gathered_distances(rows: Images, columns: Images, i: Index, j: Index, device: str) -> Index:
    """The squared distances of listed pairs of uint8 images, computed on an accelerator."""
    step = max(1, _GATHER_BYTES // (4 * rows.features))
    parts = [np.empty(0, np.int64)]
    for start in range(0, len(i), step):
        part = slice(start, start + step)
        difference = rows.on(device, i[part]).to(torch.int32) - columns.on(device, j[part]).to(torch.int32)
        parts.append(difference.square_().sum(dim=1).cpu().numpy())  # torch adds integers in int64
    return np.concatenate(parts)


def _in_batches(rows: int, features: int, function: Callable[[slice], Array]) -> Array:
    step = max(1, _BATCH_BYTES // (4 * features))
    parts = in_threads(function, (slice(start, start + step) for start in range(0, rows, step)))
    return np.concatenate(parts) if parts else function(slice(0, 0))


def _square_sums(difference: Array) -> Array:
    if difference.dtype == np.float64:
        np.square(difference, out=difference)
        total: Array = difference.sum(axis=1)  # row by row and pairwise: an order that the shape alone decides
        return total
    wide: Array = difference.astype(np.int32 if difference.shape[1] <= _INT32_FEATURES else np.int64)
    sums: Index = np.einsum("nd,nd->n", wide, wide).astype(np.int64)
    return sums


def block_distances(
    rows: Images,
    columns: Images,
    row: slice | Index,
    column: slice | Index,
    device: str = "cpu",
    seen: Seen = lambda values: None,
) -> torch.Tensor:
    """Exact squared distances of all pairs of a block of uint8 images, by one integer matrix product.

    Parameters
    ----------
    rows, columns, row, column
        The images, and those of the block.
    device
        Where the product runs.
    seen
        Called with the distances of some rows after the others, while a processor has them in its cache.

    Returns
    -------
    Tensor
        (len(rows[row]), len(columns[column])) int32, or int64 for images of so many values that int32 could overflow; on
        the device.
    """
    (a, a_lengths), (b, b_lengths) = rows.shifted_on(device, row), columns.shifted_on(device, column)
    product = integer_product(a, b, device)
    if product.dtype != b_lengths.dtype:
        product = product.to(b_lengths.dtype)
    for part in cached_parts(product):
        seen(torch.sub(b_lengths, product[part], alpha=2, out=product[part]).add_(a_lengths[part, None]))
    return product


def integer_product(a: torch.Tensor, b: torch.Tensor, device: str = "cpu") -> torch.Tensor:
    """Exact product a @ b.T of int8 matrices (n, d) and (m, d), on a device: int32, or int64 if int32 could overflow."""
    if a.shape[1] <= _INT32_COLUMNS:
        return _product_int32(a.to(device), b.to(device))
    total = torch.zeros(len(a), len(b), dtype=torch.int64, device=device)
    for start in range(0, a.shape[1], _INT32_COLUMNS):
        part = slice(start, start + _INT32_COLUMNS)
        total += _product_int32(a[:, part].contiguous().to(device), b[:, part].contiguous().to(device))
    return total


def _product_int32(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if accelerated(device := str(a.device)):
        return _best_product(device)(a, b)
    # torch 2.13 reads a matrix of one column wrongly, and short rows gain nothing
    int8 = a.shape[1] >= _INT8_COLUMNS and _int8_is_best()
    return _product_int8(a, b) if int8 else _product_float32(a, b)


def _product_int8(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch._int_mm(a, b.T)


def _product_aligned_int8(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Products of int8 matrices that are filled up with zeros to sizes that cuBLAS takes."""
    return _product_int8(_filled(a), _filled(b))[: len(a), : len(b)]


def _filled(values: torch.Tensor) -> torch.Tensor:
    rows, columns = (-size % _ALIGNED for size in values.shape)
    return torch.nn.functional.pad(values, (0, columns, 0, rows)) if rows or columns else values


def _product_float32(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return _product_in_parts(a, b, lambda left, right: left.float() @ right.float().T)


def _product_bfloat16(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # All of -128 ... 127 are bfloat16 numbers.
    return _product_in_parts(a, b, lambda x, y: torch.mm(x.bfloat16(), y.bfloat16().T, out_dtype=torch.float32))


def _product_in_parts(a: torch.Tensor, b: torch.Tensor, product: Product) -> torch.Tensor:
    """Sum in int32 of products of columns so few that float32 sums of them are exact, in any order."""
    total = torch.zeros(len(a), len(b), dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], _FLOAT32_COLUMNS):
        part = slice(start, start + _FLOAT32_COLUMNS)
        total += product(a[:, part], b[:, part]).to(torch.int32)
    return total


def _extremes(rows: int, device: str = "cpu") -> torch.Tensor:
    """(rows, 1024) int8 whose products are as large as products can be."""
    values = torch.tensor([-128, 127], dtype=torch.int8).repeat(rows, 512)
    values[::3] = 127
    values[1::3] = -128
    return values.to(device)


@cache
def _int8_is_best() -> bool:
    """Try both products once: some processors have no fast one for int8, and some old ones saturate inside it."""
    rows = _extremes(64)
    try:
        if not torch.equal(_product_int8(rows, rows), _product_float32(rows, rows)):
            return False
    except (AttributeError, RuntimeError):  # a torch without this product
        return False
    int8, float32 = least_seconds([lambda: _product_int8(rows, rows), lambda: _product_float32(rows, rows)])
    return int8 < float32


@cache
def _best_product(device: str) -> Product:
    """The fastest product of an accelerator among those that are exact at the extremes, tried once."""
    rows = _extremes(_TRIED, device)
    few = _extremes(64).long()
    exact = (few @ few.T).int()
    products: list[Product] = []
    for product in (_product_aligned_int8, _product_bfloat16, _product_float32):
        try:
            if torch.equal(product(rows, rows)[:64, :64].cpu(), exact):
                products.append(product)
        except (AttributeError, RuntimeError):  # this torch, or this device, has none
            continue
    if not products:
        raise RuntimeError(f"matrix products of {device}: none is exact for integers; allowed is a device with one")
    seconds = least_seconds([lambda product=product: product(rows, rows) for product in products], device)  # type: ignore[misc]
    return products[seconds.index(min(seconds))]
