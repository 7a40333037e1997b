"""Bounds on the squared distances of a block of images, by one matrix product; of uint8 images the distances themselves.

Invariant: what `squared_distances` gives of a pair is neither below the low bound nor above the high one. The derivation
is in docs/pairs.md.
"""

from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.pairs.blocks import Seen, cached_parts
from ganlab.pairs.devices import sums_in_float32
from ganlab.pairs.exact import Images, Index, block_distances, integer_product
from ganlab.pairs.threads import in_threads

Floats = NDArray[np.float64]

_LOOKED_AT = 256  # images by which a set is judged to have codes
_WITHOUT = 0.01  # share of them that may have none
_FITS = 2.0**-12  # of a step, for each value (root mean square): the largest error of codes that fit
_SORTED = 256  # values of an image among which the least step is looked for
_ENCODED_BYTES = 2**19  # of images at a time: they stay in the cache
_SMALLEST, _LARGEST = 2.0**-40, 2.0**40  # of values: squares, and their sums, are ordinary float32 numbers
_ROUNDED = 1.1 * 2.0**-19  # of squared lengths: the most that a distance by codes is wrong in float32
_ROUGH_CHUNK = 512  # values added in float32 before float64 takes over
_ROUGH = 2.25 * (_ROUGH_CHUNK + 2) * 2.0**-23  # the same of a distance by a product of float32
_TOO_FAR = 2.0**100  # squared length from which float32 has no room
_LOWEST = -(2.0**100)  # a low bound of every distance


class Bounds(NamedTuple):
    """Bounds on the squared distances of a block.

    Parameters
    ----------
    low
        (r, c) float32 or float64; of uint8 images int32 or int64.
    slack
        (r,) and (c,): the high bound of a pair is its low one, and those of its row and its column. None of uint8 images,
        of which both are the squared distance itself.
    """

    low: torch.Tensor
    slack: tuple[Floats, Floats] | None

    @property
    def high(self) -> torch.Tensor:
        """(r, c) high bounds: float64, of uint8 images as `low`."""
        if self.slack is None:
            return self.low
        row, column = (torch.from_numpy(slack).to(self.low.device) for slack in self.slack)
        return (self.low.double() + row[:, None]).add_(column)

    def part(self, row: slice, column: slice) -> "Bounds":
        """Bounds of the pairs of some rows and some columns of the block."""
        slack = None if self.slack is None else (self.slack[0][row], self.slack[1][column])
        return Bounds(self.low[row, column], slack)

    def high_of(self, i: torch.Tensor, j: torch.Tensor) -> Floats:
        """(m,) float64 high bounds of some pairs of the block."""
        high: Floats = self.low[i, j].double().cpu().numpy()
        if self.slack is not None:
            high = high + self.slack[0][i.cpu().numpy()] + self.slack[1][j.cpu().numpy()]
        return high


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of 8 bits that float32 images were made of: an image is its offset and its step times its codes, nearly.

    Parameters
    ----------
    values
        (n, d) int8.
    step, offset
        (n,) float32 numbers.
    error
        (n,) the most by which an image is from what its codes say, Euclidean; infinite for images without codes.
    total, squared
        (n,) sums of the codes and of their squares.
    """

    values: NDArray[np.int8]
    step: Floats
    offset: Floats
    error: Floats
    total: Floats
    squared: Floats

    def take(self, which: slice | Index) -> "Codes":
        """The codes of some of the images, in this order."""
        return Codes(*(getattr(self, field.name)[which] for field in fields(self)))

    @cached_property
    def as_images(self) -> Images:
        """The codes as images, for their copies on devices."""
        return Images(self.values)

    @property
    def size_squared(self) -> Floats:
        """(n,) squared lengths of what the offset and of what the codes add to an image, together."""
        size: Floats = self.values.shape[1] * np.square(self.offset) + np.square(self.step) * self.squared
        return size

    @property
    def lengths_squared(self) -> Floats:
        """(n,) squared lengths of the images that codes stand for."""
        lengths: Floats = self.size_squared + 2 * self.offset * self.step * self.total
        return np.maximum(lengths, 0)

    @property
    def fit(self) -> NDArray[np.bool_]:
        """(n,) whether codes say of an image what it is, up to rounding."""
        least = _FITS * np.sqrt(self.values.shape[1]) * self.step
        return np.asarray((self.error <= least) | (self.error == 0))


@dataclass(frozen=True)
class _Judgement:
    """Judgement from some images of a set whether its images have codes; it holds for every part of the set."""

    fits: bool

    def take(self, which: Index) -> "_Judgement":
        return self


def have_codes(*sets: Images) -> bool:
    """True if nearly all images of each set are 8-bit images in float32, with any offset and step of each image.

    Judged by some images of each set: bounds hold whatever the others are.
    """
    smallest_first = sorted(sets, key=len)  # the least to judge
    return all(not each.integer and each.derived("judgement", partial(_judge, each)).fits for each in smallest_first)


def _judge(images: Images) -> _Judgement:
    some = images.values[:: -(-len(images) // _LOOKED_AT)]
    return _Judgement(bool(np.mean(~_encode(some).fit) <= _WITHOUT))


def codes_of(images: Images) -> Codes:
    """The codes of float32 images; they are kept with the images."""
    codes: Codes = images.derived("codes", partial(_encode, images.values))
    return codes


def _encode(images: NDArray[np.float32]) -> Codes:
    """The codes of each image: its range has as many levels as steps of the least size seen in it."""
    n, features = images.shape
    values = np.empty((n, features), np.int8)
    step, offset, error, total, squared = (np.empty(n) for _ in range(5))

    def encode(part: slice) -> None:
        rows = torch.tensor(images[part])
        low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
        most = torch.maximum(high, -low)
        sized = (most == 0) | ((most >= _SMALLEST) & (most <= _LARGEST))
        if not sized.all():
            rows, low, high, most = (torch.where(sized, each, 0) for each in (rows, low, high, most))
        width = high - low
        some = torch.from_numpy(np.sort(rows[:, :: -(-features // _SORTED)].numpy(), axis=1))
        gap = some.diff(dim=1, append=torch.full((len(some), 1), torch.inf))  # none: of one value
        levels = (width / torch.where(gap > 0, gap, torch.inf).amin(dim=1, keepdim=True)).round_().clamp_(1, 255)
        unit = width / levels
        level = (rows - low).mul_(torch.where(unit > 0, 1 / unit, 0)).round_()
        # Codes about 0, so that little is lost when products of them are rounded.
        first = level.mean(dim=1, keepdim=True).round_().neg_().clamp_(min=-128).minimum(127 - levels)
        origin = low - unit * first
        codes = level.add_(first)
        values[part] = codes.numpy()
        total[part] = codes.sum(dim=1, dtype=torch.float64).numpy()
        squared[part] = codes.square().sum(dim=1, dtype=torch.float64).numpy()
        step[part], offset[part] = unit[:, 0].numpy(), origin[:, 0].numpy()
        apart = torch.addcmul(origin, codes, unit).sub_(rows)
        wrong = 1.001 * torch.linalg.vector_norm(apart, dim=1, keepdim=True, dtype=torch.float64)
        wrong += (2.0**-23 * np.sqrt(features)) * (width + most)
        error[part] = torch.where(sized, wrong, torch.inf)[:, 0].numpy()

    at_a_time = max(1, _ENCODED_BYTES // (4 * features))
    in_threads(encode, (slice(start, start + at_a_time) for start in range(0, n, at_a_time)))
    return Codes(values, step, offset, error, total, squared)


def as_limits(bounds: Floats, squared: torch.Tensor) -> torch.Tensor:
    """Bounds in the type of some values and on their device: what is within a bound is, rounded, within its limit."""
    kind = squared.dtype
    if not kind.is_floating_point:
        most = min(torch.iinfo(kind).max - 1.0, 2.0**53)
        return torch.as_tensor(np.floor(np.minimum(bounds, most)).astype(np.int64)).to(squared)
    exact = torch.as_tensor(np.asarray(bounds, np.float64))
    limits = exact.to(kind)
    if kind != torch.float64:
        above = limits.nextafter(torch.tensor(torch.inf, dtype=kind))
        limits = torch.where(limits < exact, above, limits)
    return limits.clamp_(max=torch.finfo(kind).max).to(squared.device)


@sums_in_float32()
def bounded_distances(
    rows: Images,
    columns: Images,
    row: slice | Index,
    column: slice | Index,
    device: str = "cpu",
    seen: Seen = lambda values: None,
) -> Bounds:
    """Bounds on the squared distances of all pairs of a block, on the device for integer products.

    uint8 images, and float32 images that have codes (see `have_codes`), take an integer product, others one of float64.
    `seen` is called with the low bounds, as in `block_distances`.
    """
    if rows.integer:
        return Bounds(block_distances(rows, columns, row, column, device, seen), None)
    if have_codes(rows, columns):
        a, b = codes_of(rows), codes_of(columns)
        product = integer_product(a.as_images.on(device, row), b.as_images.on(device, column), device)
        return _bounded_by_codes(a.take(row), b.take(column), product, seen)
    left, right = rows.values[row].astype(np.float64), columns.values[column].astype(np.float64)
    centre = left.mean(axis=0)  # the closer to the images, the smaller the error
    left -= centre
    right -= centre
    a_length, b_length = np.einsum("nd,nd->n", left, left), np.einsum("nd,nd->n", right, right)
    wrong = 8 * (rows.features + 8) * 2.0**-53
    low = (torch.from_numpy(left) @ torch.from_numpy(right).T).numpy()  # on as many threads as torch has here
    low *= -2
    low += a_length[:, None] + b_length
    low -= wrong * a_length[:, None] + wrong * b_length
    seen(torch.from_numpy(low))
    return Bounds(torch.from_numpy(low), (2.1 * wrong * a_length, 2.1 * wrong * b_length))


@sums_in_float32()
def rough_distances(
    rows: Images, columns: Images, row: slice | Index, column: slice | Index, device: str = "cpu"
) -> Bounds:
    """Bounds on the squared distances of all pairs of a block of few columns: as `bounded_distances`, or wider.

    Of float32 images without codes they come from a product of float32, which costs less with few columns than making
    float64 numbers of the rows, and are within about 10⁻⁴ of the images' squared distances from the mean column.
    """
    if rows.integer or have_codes(rows, columns):
        return bounded_distances(rows, columns, row, column, device)
    left, right = (torch.from_numpy(each).to(device) for each in (rows.values[row], columns.values[column]))
    centre = right.mean(dim=0)
    left, right = left - centre, right - centre
    low = torch.zeros(len(left), len(right), dtype=torch.float64, device=device)
    a_length, b_length = (torch.zeros(len(each), dtype=torch.float64, device=device) for each in (left, right))
    for start in range(0, rows.features, _ROUGH_CHUNK):
        a, b = left[:, start : start + _ROUGH_CHUNK], right[:, start : start + _ROUGH_CHUNK]
        low += a @ b.T
        a_length += a.square().sum(dim=1)
        b_length += b.square().sum(dim=1)
    if not torch.maximum(a_length.max(), b_length.max()) < _TOO_FAR:
        return bounded_distances(rows, columns, row, column, device)
    tiny = rows.features * 2.0**-120  # what has underflowed
    a_wrong, b_wrong = (_ROUGH * each + tiny for each in (a_length, b_length))
    low.mul_(-2).add_((a_length - a_wrong)[:, None]).add_(b_length - b_wrong)
    return Bounds(low, (2.1 * a_wrong.cpu().numpy(), 2.1 * b_wrong.cpu().numpy()))


def _bounded_by_codes(a: Codes, b: Codes, product: torch.Tensor, seen: Seen) -> Bounds:
    a_wrong, b_wrong = _wrong(a, b), _wrong(b, a)
    low, features = torch.empty_like(product, dtype=torch.float32), a.values.shape[1]

    def in_float32(*columns: Floats) -> torch.Tensor:
        return torch.from_numpy(np.stack(np.broadcast_arrays(*columns), axis=1)).to(low)

    # Squared lengths, less what each side may be wrong, and products of offsets with offsets and codes.
    one, scaled = np.ones(1), a.step * a.total
    left = in_float32(a.lengths_squared - a_wrong, one, -2 * (features * a.offset + scaled), -2 * a.offset)
    right = in_float32(one, b.lengths_squared - b_wrong, b.offset, b.step * b.total)
    left_step, right_step = in_float32(-2 * a.step), in_float32(b.step).T
    for part in cached_parts(product):
        scaled_product = low[part].copy_(product[part]).mul_(left_step[part]).mul_(right_step)
        seen(scaled_product.addmm_(left[part], right.T))
    a_slack, b_slack = (
        np.where(np.isinf(each.error), np.inf, 2 * wrong) for each, wrong in ((a, a_wrong), (b, b_wrong))
    )
    return Bounds(low, (a_slack, b_slack))


def _wrong(codes: Codes, others: Codes) -> Floats:
    """(n,) this side's share of what distances from others may be wrong."""
    error = np.where(np.isinf(codes.error), 0, codes.error)
    longest = np.sqrt(codes.lengths_squared) + np.sqrt(others.lengths_squared.max())
    wrong = _ROUNDED * codes.size_squared + 2 * error * (longest + error)
    return np.where(np.isinf(codes.error), -_LOWEST, wrong)
