"""The screen: short vectors whose distances never exceed those of the images, compared by one matrix product.

Invariant: `half_distances` of every pair whose computed squared distance is within a bound are at most its `half_limits`,
whatever the rounding. The derivation is in docs/pairs.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.pairs.devices import accelerated, has_room, keep, least_seconds
from ganlab.pairs.estimates import Codes, as_limits, codes_of, have_codes
from ganlab.pairs.exact import (
    Array,
    Images,
    Index,
    Read,
    integer_product,
    read_rows,
    signed,
    squared_distances,
    squared_lengths,
)
from ganlab.pairs.threads import in_threads, one_thread_for_torch

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_EXTRA = 4  # columns for the bounds
_FIRST = 123  # directions of the first level: with the length of the rest and the bounds, products of depth 128
_SECOND = 507  # and of depth 512
_SAYS_NOTHING = 2.0**-10  # of the variance along all directions: what the last ones may have together and be left out
_WHOLE = 124  # images so short are looked at whole
_DEPTH = 32  # depths are multiples of what matrix units take at once
_SAMPLE = 1536
_RUN = 32  # images of the sample read in one piece
_SCALED_BY = 256  # images of the sample by whose lengths the scale is chosen
_PART_BYTES = 2**24  # of images projected at a time
_DEVICE_PART_BYTES = 2**27  # and on an accelerator
_CHUNK = 512  # terms added in float32 before float64 takes over
_CHUNK_ERROR = (_CHUNK + 2) * 2.0**-24
_FLOOR = 2.0**-4  # taken from the length of the rest for float32 images: see `_rest`
_FAR = 2.0**60  # squared length from which an image always survives
_FEW = 2.0**-9  # of the pairs: settling them costs little
PAIR_COST = 256  # settling one pair alone costs so many times its share of an exact product of a whole block
_SURVIVES = -(2.0**100)
_JUDGED_BELOW = 2.0**99  # half of every squared distance of vectors of images that are judged
_TINY = 2.0**-60  # makes a zero negative


@dataclass(frozen=True, eq=False)
class Projection:
    """The short vectors of some images, as `half_distances` takes them.

    Parameters
    ----------
    vectors
        (n, depth) bfloat16 values: the vector z, then 1, 1, then two numbers whose sum is at most |z|^2 / 2, then 0.
    squared
        (n,) |z|^2; minus infinity for an image that is too far out to be judged.
    error
        (n,) the most by which z differs from the vector it stands for.
    width
        Length of z.
    device
        Where products of the vectors run; the vectors may have stayed behind (see `ganlab.pairs.devices.keep`).
    """

    vectors: torch.Tensor
    squared: Floats
    error: Floats
    width: int
    device: str = "cpu"

    @cached_property
    def first_coordinate(self) -> Floats:
        """(n,) the first value of each vector: for a look along directions, that along which images differ most."""
        return self.vectors[:, 0].double().cpu().numpy()

    def take(self, which: Index) -> "Projection":
        """The vectors of some of the images, in this order."""
        some = self.vectors[torch.from_numpy(which).to(self.vectors.device)]
        return Projection(some, self.squared[which], self.error[which], self.width, self.device)


@dataclass(frozen=True, eq=False)
class Screen:
    """Projection learnt from a sample of the images, small enough to be sent with a task.

    Parameters
    ----------
    centre
        (d,) a mean image: int8 (shifted by -128) for uint8 images, else float32.
    directions
        (k, d) int8: rounded principal directions, the largest first.
    weights
        (k,) what each direction is multiplied with: together they lengthen no vector.
    scale
        Power of two that brings typical distances from the centre near 1; 1 for uint8 images.
    closest_squared
        (m,) squared distances of m pairs, in order: a bound on those of the closest pairs of all.
    """

    centre: Array
    directions: NDArray[np.int8]
    weights: Floats
    scale: float
    closest_squared: Floats

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of directions projected on, level by level; the number of values stands for whole images."""
        features, directions = self.directions.shape[::-1]
        levels = (_FIRST, directions) if directions > _FIRST else (directions,) if directions else ()
        # Of long uint8 images, an exact product costs less than a look at all values.
        return levels if self.centre.dtype == np.int8 and features > _WHOLE else (*levels, features)

    def levels_for(self, *sets: Images) -> tuple[int, ...]:
        """The levels for these images: of long ones that have codes, too, an exact product costs less than all values."""
        features = len(self.centre)
        some = (
            self.levels if features <= _WHOLE or not have_codes(*sets) else self.levels[: self.levels.index(features)]
        )
        return some

    def bound_squared(self, count: int) -> float:
        """A squared distance that at least `count` pairs of the whole set do not exceed."""
        return float(self.closest_squared[count - 1]) if count <= len(self.closest_squared) else np.inf

    def reach(self, bounds: Floats, error: Floats) -> Floats:
        """(m,) the most by which the vectors of pairs within squared bounds differ.

        Parameters
        ----------
        error
            (m,) the sum of the errors of both vectors of a pair, or more.
        """
        reach: Floats = np.sqrt(bounds) * (self.scale * (1 + 2.0**-20)) + error
        return reach

    def half_limits(self, bounds: Floats, error: Floats, half: torch.Tensor) -> torch.Tensor:
        """(m,) limits, of the type and on the device of `half`, that `half_distances` of such pairs do not exceed."""
        return as_limits(np.minimum(np.square(self.reach(bounds, error)) / 2, _JUDGED_BELOW), half)

    def block_limits(
        self,
        half: torch.Tensor,
        row_error: Floats,
        column_error: Floats,
        bounds: Floats,
        column_bounds: Floats | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The limits of the rows of a block of `half_distances`, and of its columns where these have bounds."""
        limits = self.half_limits(bounds, row_error + column_error.max(), half)
        if column_bounds is None:
            return limits, None
        return limits, self.half_limits(column_bounds, column_error + row_error.max(), half)

    def project(self, images: Images, level: int, device: str = "cpu") -> Projection:
        """The vectors of images for one of the levels; they are kept with the images until another screen projects them.

        Raises
        ------
        ValueError
            Images of another type or size than those of the sample.
        """
        return self.project_together(images, (level,), device)[0]

    def project_together(self, images: Images, levels: tuple[int, ...], device: str = "cpu") -> tuple[Projection, ...]:
        """`project` for several levels by one look at the images; those of fewer directions cost little beside it."""
        if images.features != len(self.centre) or images.integer != (self.centre.dtype == np.int8):
            raise ValueError(
                f"images: got {images.features} {images.values.dtype} values per image; allowed are "
                f"{len(self.centre)} like those the screen was learnt from; learn it from this sample"
            )
        together = cache(lambda: self._project(images, levels, device))
        return tuple(
            images.derived((level, device), lambda place=place: together()[place], self)  # type: ignore[misc]
            for place, level in enumerate(levels)
        )

    def _project(self, images: Images, levels: tuple[int, ...], device: str) -> list[Projection]:
        whole = images.features in levels
        if accelerated(device) and images.integer and not whole:
            return [self._project_there(images, level, device) for level in levels]
        vectors_of = self._vectors_of(images, levels, device)
        widths = [level if whole else level + 1 for level in levels]
        depths = [-(-(width + _EXTRA) // _DEPTH) * _DEPTH for width in widths]
        vectors = [torch.zeros(len(images), depth, dtype=vector_type(device)) for depth in depths]
        squared, error = np.empty((2, len(levels), len(images)))
        step = max(1, _PART_BYTES // (4 * images.features))

        def project(part: slice) -> None:
            for place, (exact, wrong) in enumerate(vectors_of(part)):
                rounded = torch.from_numpy(exact).to(torch.bfloat16)
                vectors[place][part, : widths[place]] = rounded
                z = rounded.float().numpy()
                length = _squared(z)
                z -= exact
                far = np.isinf(wrong)  # its vector is zero
                doubt = wrong + 1.01 * np.sqrt(_squared(z)) + 2.0**-20 * np.sqrt(length)
                error[place, part] = np.where(far, 0, doubt)
                squared[place, part] = np.where(far, -np.inf, length)

        in_threads(project, (slice(start, start + step) for start in range(0, len(images), step)), device)
        for made, width, depth, lengths in zip(vectors, widths, depths, squared, strict=True):
            made[:, width : width + 2] = 1
            made[:, width + 2 : width + 4] = _two_parts(_half(lengths, depth))
        return [
            Projection(keep(made, device), lengths, wrong, width, device)
            for made, lengths, wrong, width in zip(vectors, squared, error, widths, strict=True)
        ]

    def _project_there(self, images: Images, level: int, device: str) -> Projection:
        """Project uint8 images on an accelerator: in float64 in place of float32, with the same bounds of errors."""
        width = level + 1
        depth = -(-(width + _EXTRA) // _DEPTH) * _DEPTH
        directions, centre = self.directions[:level].astype(np.int64), self.centre.astype(np.int64)
        stacked = torch.from_numpy(np.concatenate([self.directions[:level], self.centre[None]])).to(device)
        offset = torch.from_numpy((directions @ centre).astype(np.float64)).to(device)
        weights = torch.from_numpy(self.weights[:level]).to(device)
        kind = vector_type(device)
        fits = has_room(len(images) * depth * kind.itemsize, device)
        vectors = torch.zeros(len(images), depth, dtype=kind, device=device if fits else "cpu")
        squared, error = np.empty(len(images)), np.empty(len(images))
        step = max(1, _DEVICE_PART_BYTES // images.features)
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            values, lengths = images.shifted_on(device, part)
            product = integer_product(values, stacked, device).double()
            along = (product[:, :-1] - offset) * weights
            total = lengths.double() - 2 * product[:, -1] + float(centre @ centre)
            rest, doubt = total - along.square().sum(dim=1), total * 2.0**-40
            high, low = ((rest + sign * doubt).clamp_(min=0).sqrt_() for sign in (1, -1))
            exact = torch.cat([along, ((high + low) / 2)[:, None]], dim=1).float()
            z = exact.to(torch.bfloat16)
            vectors[part, :width] = z.to(vectors.device, kind)
            length, apart = (each.double().square().sum(dim=1) for each in (z, z.double() - exact.double()))
            squared[part] = length.cpu().numpy()
            error[part] = ((high - low) / 2 + 1.01 * apart.sqrt() + 2.0**-20 * length.sqrt()).cpu().numpy()
        vectors[:, width : width + 2] = 1
        vectors[:, width + 2 : width + 4] = _two_parts(_half(squared, depth)).to(vectors.device, kind)
        return Projection(vectors, squared, error, width, device)

    def _vectors_of(
        self, images: Images, levels: tuple[int, ...], device: str
    ) -> Callable[[slice], list[tuple[Singles, Floats]]]:
        """Function that returns, for each level, unrounded vectors of some of the images, with a bound on each error."""
        if images.features in levels:
            (_,) = levels  # alone
            return lambda part: [self._project_whole(images.values[part])]
        directions = self.directions[: max(levels)]
        if have_codes(images):
            codes, project_codes = codes_of(images), self._code_projector(directions, device)
            return lambda part: _to_levels(project_codes(codes.take(part)), levels)
        project = self._projector(directions, device)
        return lambda part: _to_levels(project(images.values[part]), levels)

    def _project_whole(self, values: Array) -> tuple[Singles, Floats]:
        if self.centre.dtype == np.int8:
            centred = np.subtract(signed(values), self.centre, dtype=np.int16).astype(np.float32)
            return centred, np.zeros(len(values))
        centred, _, wrong = self._centred(values)
        return centred, wrong

    def _centred(self, values: Array) -> tuple[Singles, Floats, Floats]:
        """Scaled float32 images less the centre, their squared lengths, and by how much they are wrong."""
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is far out
            centred = values * np.float32(self.scale)
            centred -= self.centre * np.float32(self.scale)
            squared = _squared(centred)
        far = ~(squared < _FAR)
        centred[far], squared[far] = 0, 0
        return centred, squared, np.where(far, np.inf, 2.0**-22 * np.sqrt(squared) + 2.0**-100)

    def _projector(self, directions: NDArray[np.int8], device: str) -> Callable[[Array], "_Along"]:
        """Function that returns what images are along directions."""
        weights = self.weights[: len(directions)]
        if self.centre.dtype == np.int8:
            centre = self.centre.astype(np.int64)
            offset, centre_squared = directions.astype(np.int64) @ centre, centre @ centre
            stacked = torch.from_numpy(np.concatenate([directions, self.centre[None]]))

            def project_integers(values: Array) -> _Along:
                shifted = signed(values)
                product = integer_product(torch.from_numpy(shifted), stacked, device).cpu().numpy().astype(np.int64)
                along = (product[:, :-1] - offset) * weights
                squared = (squared_lengths(shifted) - 2 * product[:, -1] + centre_squared).astype(np.float64)
                return _Along(along, squared, 2.0**-40 * squared, np.zeros(len(values)), 0)

            return project_integers
        frobenius = np.sqrt(np.sum(np.square(weights) * squared_lengths(directions)))
        columns = directions.T.astype(np.float32)

        def project_floats(values: Array) -> _Along:
            centred, squared, wrong = self._centred(values)
            along = np.zeros((len(values), len(weights)))
            for start in range(0, len(self.centre), _CHUNK):
                along += centred[:, start : start + _CHUNK] @ columns[start : start + _CHUNK]
            along *= weights
            length = np.sqrt(squared)
            along_wrong = 1.1 * _CHUNK_ERROR * frobenius * length
            doubt = 1.1 * _CHUNK_ERROR * squared + along_wrong * (2.1 * length + along_wrong)
            return _Along(along, squared, doubt, wrong + along_wrong, _FLOOR)

        return project_floats

    def _code_projector(self, directions: NDArray[np.int8], device: str) -> Callable[[Codes], "_Along"]:
        """Project float32 images by their codes: what an image differs from these, its vector differs at most."""
        weights = self.weights[: len(directions)]
        centre, stacked = self.centre.astype(np.float64), torch.from_numpy(directions)
        centre_along, centre_total, centre_squared = directions @ centre, centre.sum(), centre @ centre
        total = directions.sum(axis=1, dtype=np.float64)
        rounding = 2.0**-50 * (len(centre) + 64)

        def project_codes(codes: Codes) -> _Along:
            product = integer_product(torch.from_numpy(codes.values), stacked, device).cpu().numpy()
            along = product * codes.step[:, None]
            along += codes.offset[:, None] * total
            along -= centre_along
            along *= weights * self.scale
            on_centre = codes.offset * centre_total + codes.step * (codes.values @ centre)
            squared = (codes.lengths_squared - 2 * on_centre + centre_squared) * self.scale**2
            # Float64 sums of codes, offset and centre, that weighted directions do not lengthen.
            size = codes.size_squared + centre_squared
            along_wrong = rounding * np.sqrt(len(directions)) * self.scale * np.sqrt(size)
            doubt = rounding * self.scale**2 * size
            far = np.isinf(codes.error) | ~(squared < _FAR)
            along[far], squared[far], doubt[far], along_wrong[far] = 0, 0, 0, 0
            doubt += along_wrong * (2.1 * np.sqrt(np.maximum(squared, 0)) + along_wrong)
            wrong = self.scale * np.where(far, 0, codes.error) + along_wrong
            return _Along(along, squared, doubt, np.where(far, np.inf, wrong), _FLOOR)

        return project_codes


def half_distances(rows: Projection, row: slice | Index, columns: Projection, column: slice | Index) -> torch.Tensor:
    """Half of the squared distances of vectors, or a little less.

    Parameters
    ----------
    rows, columns
        Vectors of one screen.
    row, column
        The block.

    Returns
    -------
    Tensor
        (r, c) on the device of the vectors: at most half of |z - z'|^2, in squared scaled units, rounded to the vectors'
        type. Images that are too far out to be judged have a number far below 0.
    """
    width = rows.width
    left = rows.vectors[row].to(rows.device, copy=True)
    left[:, :width].neg_()
    left[:, width : width + 2] = left[:, width + 2 : width + 4]
    left[:, width + 2 : width + 4] = 1
    return left @ columns.vectors[column].to(columns.device).T


def _half(squared: Floats, depth: int) -> Floats:
    """At most half of `squared`, less this side's share of what the matrix product may round away."""
    half = squared * (1 - 2.0**-14) / 2
    share = 1.1 * depth * 2.0**-23  # any order of summation, rounded or cut off
    half = half - share * (np.maximum(squared, 0) / 2 + np.abs(half)) - _TINY
    return np.maximum(half, _SURVIVES)


def _two_parts(numbers: Floats) -> torch.Tensor:
    """(n, 2) bfloat16 whose sum is at most the number, and nearly so."""
    exact = torch.from_numpy(numbers)
    first = exact.to(torch.bfloat16)
    rest = exact - first.double()
    return torch.stack([first, (rest - rest.abs() * 2.0**-6).to(torch.bfloat16)], dim=1)


def _squared(rows: Singles) -> Floats:
    """(n,) squared lengths, each within a relative error of _CHUNK_ERROR, and raised by what may have underflowed."""
    parts = (rows[:, start : start + _CHUNK] for start in range(0, rows.shape[1], _CHUNK))
    underflow = np.full(len(rows), rows.shape[1] * 2.0**-126)
    return sum((np.einsum("nd,nd->n", part, part).astype(np.float64) for part in parts), underflow)


class _Along(NamedTuple):
    """Products of n images with k directions, before rounding, with bounds on their errors.

    Parameters
    ----------
    along
        (n, k) products.
    squared, doubt
        (n,) squared lengths of the images, and by how much these less those of `along` may be wrong.
    wrong
        (n,) the most by which `along` is wrong.
    floor
        Taken from the length of the rest: see `_rest`.
    """

    along: Floats
    squared: Floats
    doubt: Floats
    wrong: Floats
    floor: float


def _to_levels(made: _Along, levels: tuple[int, ...]) -> list[tuple[Singles, Floats]]:
    """Unrounded vectors of images for each level, the number of directions taken, with a bound on the error of each."""
    vectors = []
    for level in levels:
        along = made.along[:, :level]
        rest, rest_wrong = _rest(made.squared, along, made.doubt, made.floor)
        vectors.append((np.column_stack([along, rest]).astype(np.float32), made.wrong + rest_wrong))
    return vectors


def _rest(squared: Floats, along: Floats, doubt: Floats, floor: float) -> tuple[Floats, Floats]:
    """Length of what the directions drop, less `floor` (but not below 0), and by how much it is wrong.

    The root of a small doubtful number is badly wrong; a floor, which lengthens no difference either, hides that.
    """
    rest = squared - np.einsum("nk,nk->n", along, along)
    high = np.maximum(np.sqrt(np.maximum(rest + doubt, 0)) - floor, 0)
    low = np.maximum(np.sqrt(np.maximum(rest - doubt, 0)) - floor, 0)
    return (high + low) / 2, (high - low) / 2


@np.errstate(over="raise", divide="raise", invalid="raise")
def learn(
    read: Read, samples: int, count: int = 20, threshold_squared: float = 0.0, neighbours: int = 0
) -> Screen | None:
    """Learn a screen from a sample of the images; None when there are so few that it does not pay.

    Parameters
    ----------
    read
        `read(start, stop)` gives the images [start, stop), uint8 or float32.
    samples
        Number of images in the whole set.
    count
        Closest pairs that will be asked for.
    threshold_squared
        Squared distance within which all pairs will be asked for.
    neighbours
        Nearest images of each image that will be asked for; 0 for none.

    Raises
    ------
    ValueError
        Images that are not of one shape, not uint8 or float32, or not finite.
    """
    if samples <= _SAMPLE:
        return None
    starts = np.linspace(0, samples - _RUN, _SAMPLE // _RUN).astype(int)  # so many images that no two runs overlap
    first = read_rows(read, 0, 1)
    values = np.concatenate([read_rows(read, int(start), int(start) + _RUN, first) for start in starts])
    sample = Images(signed(values) if values.dtype == np.uint8 else values)
    mean = sample.values.mean(axis=0, dtype=np.float64)
    centre = np.rint(mean).astype(np.int8) if sample.integer else mean.astype(np.float32)
    scale = 1.0 if sample.integer else _power_of_two(sample.values, centre)
    screen = Screen(centre, np.empty((0, sample.features), np.int8), np.empty(0), scale, np.empty(0))
    if sample.features <= _WHOLE:
        return replace(screen, closest_squared=_closest_squared(sample, _estimates(screen, sample), count))
    centred = screen._project_whole(sample.values)[0]
    # Directions fit the images they were learnt from too well: the others judge them.
    judge = np.arange(len(sample)) % (2 * _RUN) < _RUN // 2
    between_judges = np.triu(judge[:, None] & judge, 1)
    matrix = torch.from_numpy(centred[~judge]).to(vector_type("cpu"))
    gram = (matrix @ matrix.T).float()
    for level in (_FIRST, _SECOND):
        directions, weights = _directions(matrix, gram, level)
        screen = replace(screen, directions=directions, weights=weights)
        estimates = _estimates(screen, sample)
        if level == _FIRST:
            screen = replace(screen, closest_squared=_closest_squared(sample, estimates, count))
        bound = max(threshold_squared, screen.bound_squared(count)) * scale**2
        if neighbours:
            # Those within the sample, an image itself among them: they are farther than those of the whole set.
            bound = max(bound, float(np.median(np.partition(estimates[judge], neighbours, axis=1)[:, neighbours])))
        judged = estimates[between_judges]
        left = float(np.mean(judged <= bound))
        # Enough, or as many directions as matter, or hopeless with four times as many.
        if left < _FEW or len(directions) < level or 4 * level > sample.features or np.mean(judged) < bound / 4:
            break
        if neighbours and sample.integer and sample.features <= 2 * _SECOND:  # exact products cost less
            break
    if left < 0.5:
        return screen
    # Where most pairs are left even so, looking costs more than it saves, and only all values tell what is close.
    screen = replace(screen, directions=screen.directions[:0], weights=screen.weights[:0])
    return replace(screen, closest_squared=_closest_squared(sample, _estimates(screen, sample), count))


def _estimates(screen: Screen, sample: Images) -> Singles:
    """(m, m) squared distances of the vectors of a sample, scaled: about the least that the images' can be."""
    projected = screen.project(sample, len(screen.directions) or sample.features)
    vectors = projected.vectors[:, : projected.width].float()
    squared = torch.from_numpy(np.maximum(projected.squared, 0)).float()
    estimates: Singles = (squared[:, None] + squared - 2 * vectors @ vectors.T).numpy()
    return estimates


def _closest_squared(sample: Images, estimates: Singles, count: int) -> Floats:
    """(count,) exact squared distances of about the closest pairs of the sample, in order."""
    i, j = np.triu_indices(len(sample), 1)
    near = np.argpartition(estimates[i, j], min(4 * count, len(i) - 1))[: 4 * count]
    return np.sort(squared_distances(sample, sample, i[near], j[near]).astype(np.float64))[:count]


def _power_of_two(values: Array, centre: Array) -> float:
    lengths = np.linalg.norm(values[:: -(-len(values) // _SCALED_BY)].astype(np.float64) - centre, axis=1)
    if not lengths.any():
        return 1.0
    exponent = -np.round(np.log2(np.median(lengths[lengths > 0])))
    return float(2.0 ** np.clip(exponent, -120, 120))


def _directions(matrix: torch.Tensor, gram: torch.Tensor, count: int) -> tuple[NDArray[np.int8], Floats]:
    """Principal directions of images in int8 and their weights, by subspace iteration from their inner products.

    Exactness is not needed, only the norm.
    """
    start = np.random.default_rng(0).standard_normal((len(gram), min(count + 5, len(gram))), dtype=np.float32)
    basis = torch.from_numpy(start)
    for _ in range(3):
        spread = gram @ basis
        with one_thread_for_torch():
            basis = torch.linalg.qr(spread)[0]
    spanned = basis.T.contiguous().to(matrix.dtype) @ matrix
    with one_thread_for_torch():
        variances, vectors = torch.linalg.eigh((spanned @ spanned.T).double())
    left_out = int((variances.cumsum(0) <= _SAYS_NOTHING * variances.sum()).sum())
    depth = -(-(len(variances) - left_out + 1 + _EXTRA) // _DEPTH) * _DEPTH
    largest_first = vectors[:, -min(count, depth - 1 - _EXTRA) :].flip(1).T.contiguous()
    directions = (largest_first.to(matrix.dtype) @ spanned).float()
    largest = directions.abs().amax(dim=1, keepdim=True)
    some = largest[:, 0] > 0
    rounded = torch.round(directions[some] / largest[some] * 127).to(torch.int8)
    products = integer_product(rounded, rounded).double()
    weights = products.diagonal().rsqrt()
    if len(weights):
        with one_thread_for_torch():
            longest = torch.linalg.eigvalsh(products * weights[:, None] * weights)[-1]
        weights = weights / (longest.sqrt() * (1 + 2.0**-30))
    return rounded.numpy(), weights.numpy()


@cache
def vector_type(device: str) -> torch.dtype:
    """Type of vectors on a device: bfloat16 or float32, tried once.

    Many processors have no fast bfloat16, and some libraries add it in bfloat16.
    """
    column = torch.ones(1024, 1024)
    column[:, -3:] = torch.tensor([-1020.0, -1.0, 2.0**-10])
    sums = torch.ones(64, 1024, device=device).bfloat16() @ column.to(device).bfloat16().T
    if not torch.equal(sums, torch.full_like(sums, 2.0**-10)):
        return torch.float32

    def product(kind: torch.dtype) -> Callable[[], torch.Tensor]:
        a, b = torch.ones(256, 128, dtype=kind, device=device), torch.ones(2048, 128, dtype=kind, device=device)
        return lambda: a @ b.T

    bfloat16, float32 = least_seconds([product(torch.bfloat16), product(torch.float32)], device)
    return torch.bfloat16 if bfloat16 < float32 else torch.float32
