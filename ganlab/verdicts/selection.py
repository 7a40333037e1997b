"""Selection of pairs of images for human judgement, with the number of pairs that each stands for.

Invariant: a draw is a function of the pairs, the seed and nothing else, and in each piece of the distance it is a random
order of all pairs there: however many a person gets to judge, they are a fair sample with a known chance of being in it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganlab.pairs.closest import Pairs

Float = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

RELATIVE_EDGES = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
"""Pieces of the distance that are drawn from alike, in units of the automatic threshold."""


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Every pair of some independent images of a set that is within a distance.

    Attributes
    ----------
    pairs : Pairs
        All of them.
    samples, of : int
        Images compared here, and images of the whole set, for which they stand: its first ones, or some drawn at random.
    """

    pairs: Pairs
    samples: int
    of: int

    @property
    def distance(self) -> Float:
        """float64 (m,)."""
        return np.sqrt(self.pairs.squared_distance.astype(np.float64))

    @property
    def stand_for(self) -> float:
        """Number of pairs of the whole set that each of these stands for."""
        return self.of * (self.of - 1) / (self.samples * (self.samples - 1))


def piece_edges(threshold: float) -> Float:
    """Distances between the pieces, rising from 0 to the widest that is judged, float64 (k + 1,).

    Raises
    ------
    ValueError
        For a threshold that is not above 0.
    """
    if not 0 < threshold < np.inf:
        raise ValueError(f"threshold is {threshold}; allowed: a distance above 0, for pairs around it to be judged")
    return threshold * np.array(RELATIVE_EDGES)


def pieces(distance: npt.ArrayLike, edges: npt.ArrayLike) -> Index:
    """The piece that each distance lies in, int64 (m,); -1 beyond the last edge."""
    at, knots = np.asarray(distance, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    found = np.searchsorted(knots, at, side="right") - 1
    return np.where(at > knots[-1], -1, np.minimum(found, len(knots) - 2)).astype(np.int64)


def draw(
    near: npt.ArrayLike, excluded: npt.ArrayLike, edges: npt.ArrayLike, count: int, random: np.random.Generator
) -> list[Index]:
    """A random order of the pairs of each piece.

    Parameters
    ----------
    near : (m,)
        Distances of the pairs of one set.
    excluded : boolean (m,)
        Pairs that are shown anyway.
    edges : (k + 1,)
        Of the pieces.
    count : int
        Most pairs of each piece to return.
    random : Generator

    Returns
    -------
    list of k int64 arrays
        Places in `near`, of each piece.
    """
    piece = np.where(excluded, -1, pieces(near, edges))
    orders = []
    for number in range(len(np.asarray(edges)) - 1):
        members = np.flatnonzero(piece == number)
        orders.append(random.permutation(members)[:count])
    return orders


def in_turn(orders: list[Index], count: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Take `count` from several sets, one of each in turn, in each set's own order: as (set, place in its order)."""
    turns = [
        (turn, at, owner) for owner, order in enumerate(orders) for turn, at in enumerate(random.random(len(order)))
    ]
    # The order of a set's members is kept; which set comes first in a turn is chance.
    return [(owner, turn) for turn, _, owner in sorted(turns)[:count]]


def closest_of_samples(near: Pairs, samples: int, size: int, count: int) -> list[Index]:
    """The published protocol's pairs: of every disjoint sample of `size` images, the closest `count` at most.

    Parameters
    ----------
    near : Pairs
        All pairs of the first `samples` images within some distance; farther ones are not looked at.
    samples, size, count : int
        Images; images of a sample; pairs of each.

    Returns
    -------
    list of int64 arrays
        For each of the samples // size samples the places in `near`, closest first.
    """
    block = near.index // size
    whole = (block[:, 0] == block[:, 1]) & (block[:, 1] < samples // size)
    places = np.flatnonzero(whole)
    places = places[np.lexsort((near.index[places, 1], near.index[places, 0], near.squared_distance[places]))]
    owner = block[places, 0]
    return [places[owner == number][:count] for number in range(samples // size)]


def weights(owner: npt.ArrayLike, piece: npt.ArrayLike, certain: npt.ArrayLike, population: npt.ArrayLike) -> Float:
    """Weight of each judged pair: the inverse of its chance of having been selected.

    In a cell (a piece of the distance, of one set of images) a pair that was certain to be shown stands for itself; a
    drawn one for an equal share of all others. Then every set counts alike in a piece, so that a collapsed
    generator with its millions of near pairs does not speak for all others; and a piece counts as many pairs as its
    weights are worth (Kish's effective number): only the ratios within a piece carry meaning, as what is fitted is a
    function of the distance.

    Parameters
    ----------
    owner, piece : integer (m,)
        The set of images and the piece of each judged pair.
    certain : boolean (m,)
        Whether the pair was certain to be selected: it is one of the closest.
    population : (m,)
        Pairs of the whole set in its cell, of which this is one.

    Returns
    -------
    float64 (m,)
    """
    sets, place, sure = np.asarray(owner), np.asarray(piece), np.asarray(certain, dtype=bool)
    size = np.asarray(population, dtype=np.float64)
    found = np.empty(len(sets), dtype=np.float64)
    for cell in {(int(each), int(at)) for each, at in zip(sets, place, strict=True)}:
        here = (sets == cell[0]) & (place == cell[1])
        known, drawn = int((here & sure).sum()), int((here & ~sure).sum())
        whole = max(float(size[here].max()), known + drawn)
        found[here & sure] = 1 / whole
        if drawn:
            found[here & ~sure] = (whole - known) / whole / drawn
    for number in np.unique(place):
        here = place == number
        found[here] *= found[here].sum() / (found[here] ** 2).sum()
    return found
