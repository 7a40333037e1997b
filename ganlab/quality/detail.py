"""Fine detail of pictures: their variance in the directions of small patches in which real pictures vary least.

Invariant: the detail of a picture depends on that picture and on the real ones that the directions come from, never on
the pictures beside it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ganlab.pairs.exact import Array
from ganlab.pairs.threads import in_threads

PATCH = 8  # pixels along each side of a patch
BANDS = (0.95, 0.99)
"""Shares of the variance of real patches: a band has the directions that are left after those that hold this share."""
_BLOCK_BYTES = 2**24  # of patches in float64
_BITS = 40  # behind the point in directions: with grey levels, sums of up to 192 products are exact in float64
Floats = npt.NDArray[np.float64]


def is_picture(images: Array) -> bool:
    """True if images are pictures: uint8 (n, C, H, W)."""
    return images.dtype == np.uint8 and images.ndim == 4


@dataclass(frozen=True, eq=False)
class DetailBasis:
    """Directions in which patches of real pictures vary least.

    Attributes
    ----------
    mean : float64 (d,)
        Mean patch of all channels, d = C · PATCH², in grey levels; patches are smaller in pictures smaller than them.
    directions : tuple of float64 (d, k)
        Orthonormal directions of each of `BANDS`, in multiples of 2⁻⁴⁰; k is 0 where the real patches do not vary.
    """

    mean: Floats
    directions: tuple[Floats, ...]

    @classmethod
    def learn(cls, pictures: Array) -> "DetailBasis":
        """Find the principal directions of the patches of real pictures, uint8 (n, C, H, W).

        Sums of products of grey levels are integers, so neither blocks nor threads change them.
        """

        def sums_of(block: slice) -> tuple[int, Floats, Floats]:
            patches = _patches(pictures[block])
            rows = patches.reshape(-1, patches.shape[-1])
            return len(rows), rows.sum(axis=0), _product(rows.T, rows)

        count, total, products = (sum(parts) for parts in zip(*in_threads(sums_of, _blocks(pictures)), strict=True))
        mean = total / count
        variance, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
        held = np.cumsum(np.maximum(variance, 0))  # eigenvalues ascend: the first directions hold the least variance
        directions = np.ldexp(np.rint(np.ldexp(directions, _BITS)), -_BITS)
        return cls(mean, tuple(directions[:, : np.searchsorted(held, (1 - band) * held[-1])] for band in BANDS))

    def detail(self, pictures: Array) -> Floats:
        """Fine detail of pictures, float64 (bands, n): mean square along each band's directions, in grey levels².

        Independent noise of variance v at every pixel adds v to it; averaging over neighbouring pixels takes it away.

        Parameters
        ----------
        pictures : uint8 (n, C, H, W)
            Of the size of the real ones.
        """
        along_mean = [self.mean @ each for each in self.directions]

        def detail_of(block: slice) -> Floats:
            patches = _patches(pictures[block])
            rows = patches.reshape(-1, patches.shape[-1])
            part = np.zeros((len(self.directions), len(patches)))
            for number, (each, mean) in enumerate(zip(self.directions, along_mean, strict=True)):
                if each.size:
                    part[number] = np.square(_product(rows, each) - mean).reshape(len(patches), -1).mean(axis=1)
            return part

        nothing = np.empty((len(self.directions), 0))
        return np.concatenate([nothing, *in_threads(detail_of, _blocks(pictures))], axis=1)


def _product(a: Floats, b: Floats) -> Floats:
    """Matrix product on as many threads as torch has here; exact here, whatever pictures stand beside each other."""
    product: Floats = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return product


def _blocks(pictures: Array) -> Iterator[slice]:
    """Blocks of pictures whose patches fit in the memory for them."""
    rows = max(1, _BLOCK_BYTES // (8 * math.prod(pictures.shape[1:])))
    return (slice(start, start + rows) for start in range(0, len(pictures), rows))


def _patches(pictures: Array) -> Floats:
    """Patches side by side that cover each picture, (n, patches, d).

    The last ones overlap where a side is no multiple of `PATCH`.
    """
    size = tuple(min(PATCH, side) for side in pictures.shape[2:])
    down, across = (
        np.append(np.arange(0, side - own, own), side - own) for side, own in zip(pictures.shape[2:], size, strict=True)
    )
    windows = np.lib.stride_tricks.sliding_window_view(pictures, size, axis=(2, 3))[:, :, down][:, :, :, across]
    of_picture = windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(pictures), len(down) * len(across), -1)
    patches: Floats = of_picture.astype(np.float64)
    return patches
