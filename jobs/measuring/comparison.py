"""Comparing sets of images as tasks for any `map`: all pairs of a set, and the nearest of another set to each image.

Invariant: every pair is compared once, also when the work is killed and begun again: what is finished is kept with a list
of what is left, bound to the images and settings. Tiles, workers and restarts change no number.
"""

import builtins
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ganlab.pairs.closest import Pairs
from ganlab.pairs.collisions import LISTED, Collisions, compare_tile
from ganlab.pairs.content import in_order, take
from ganlab.pairs.devices import on_best_device
from ganlab.pairs.exact import Images, Index, load_rows
from ganlab.pairs.lower_bounds import Screen, learn
from ganlab.pairs.neighbours import Neighbours, is_long_search, learn_for_neighbours, nearest_in_tile
from ganlab.pairs.tiles import Tile, choose_tile_images, plan_rectangle, plan_tiles, split
from ganlab.statistics.packing import distinct_images, search_distinct_images
from storage.pair_records import NearestReal, PairRecord
from storage.samples import DamagedShardError

Key = TypeVar("Key")
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
Progress = Callable[[float, float, int], None]  # pairs done, pairs to do, tiles left

ENGINE = 3  # version of what comparing finds, in every fingerprint: what was kept before a fault was mended is not used
SAVE_EVERY_S = 30.0  # what a kill can cost, beside the tiles being compared
SPLIT_FROM, TASKS = 4e12, 16  # work (see `Comparison.work`) of a task worth a worker of its own, and tasks to share it
TILE_WORK = 4e13  # of a task where one process does all: seconds between two reports of progress
ALONE_S = 10.0  # of tasks done before workers are started: about what these take to start and to load their libraries
PAIR_WORK = 1000  # of looking at one pair, in products of two values


class Source(Protocol):
    """A set of images that is read by ranges; cheap to send to a worker."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Images, and the shape of one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values: uint8 or float32."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop)."""


@dataclass(frozen=True)
class Comparison:
    """Comparison requested of one set of images.

    Parameters
    ----------
    images
        The set.
    fingerprint
        Names the images, the reference and the settings: workers keep what they read and learnt under this name.
    threshold_squared
        Squared distance within which a pair is a duplicate; None to compare no pairs of the set.
    closest
        Closest pairs to keep.
    reference, reference_name
        Where to look for the nearest neighbours of each image, None for none; and what names it alone, so that workers
        keep it for other comparisons with it, which have another fingerprint.
    neighbours
        How many to keep.
    itself
        The reference is the set itself: an image is no neighbour of itself.
    places : int64 (n,), optional
        Where each image stands in a random order of the set, in which duplicates are listed when they are too many to
        list all; by default its number, for images that are independent as they are stored.
    """

    images: Source
    fingerprint: str
    threshold_squared: float | None = None
    closest: int = 20
    reference: Source | None = None
    neighbours: int = 1
    itself: bool = False
    places: Index | None = field(default=None, compare=False)
    reference_name: str = ""

    @property
    def samples(self) -> int:
        """Images of the set."""
        return self.images.shape[0]

    @property
    def pairs(self) -> int:
        """Pairs to compare, of both kinds."""
        among = 0 if self.threshold_squared is None else self.samples * (self.samples - 1) // 2
        return among + (0 if self.reference is None else self.samples * self.reference.shape[0])

    @property
    def work(self) -> float:
        """About how long it takes, in products of two values."""
        return float(self.pairs) * (int(np.prod(self.images.shape[1:])) + PAIR_WORK)

    def found(self) -> "PartialResult":
        """Initial state, before any tile is compared."""
        among = None if self.threshold_squared is None else Collisions.create(self.samples, self.closest, LISTED)
        nearest = None if self.reference is None else Neighbours.create(0, self.samples, self.neighbours)
        return PartialResult(among, nearest)

    def tile_images(self, memory_bytes: int, shared: bool = True) -> int:
        """Rows, and columns, of a tile for a worker of so much memory."""
        most = self.samples if self.reference is None else max(self.samples, self.reference.shape[0])
        tasks = TASKS if shared and self.work >= SPLIT_FROM else math.ceil(self.work / TILE_WORK)
        return choose_tile_images(most, self.images.shape[1:], memory_bytes, self.images.dtype.itemsize, tasks)

    def tiles(self, compared: int, tile_images: int) -> list["Part"]:
        """Part left to do if the first `compared` images were compared before."""
        parts = []
        if self.threshold_squared is not None:
            parts += [Part(True, tile) for tile in plan_tiles(self.samples, tile_images, compared)]
        if self.reference is not None:
            references = self.reference.shape[0]
            parts += [Part(False, tile) for tile in plan_rectangle(compared, self.samples, references, tile_images)]
        return parts

    def places_in(self, part: "Part") -> tuple[Index, Index] | None:
        """The places of the rows and columns of a part."""
        if self.places is None or not part.among:
            return None
        tile = part.tile
        return self.places[tile.row_start : tile.row_stop], self.places[tile.column_start : tile.column_stop]

    def compare(self, part: "Part", bound_squared: float, places: tuple[Index, Index] | None) -> "PartialResult":
        """Compare one part, in any process.

        Parameters
        ----------
        bound_squared
            Squared distance above which a pair is none of the closest.
        places
            What `places_in` gave.
        """
        tile = part.tile
        images = _Named(self.fingerprint, self.images)
        rows = _loaded(images, tile.row_start, tile.row_stop)
        if part.among:
            assert self.threshold_squared is not None
            screen = _screen(images, self.closest, self.threshold_squared)
            among = partial(
                compare_tile,
                self.images.read,
                tile,
                screen,
                self.threshold_squared,
                self.closest,
                LISTED,
                bound_squared=bound_squared,
                rows=rows,
                columns=_loaded(images, tile.column_start, tile.column_stop),
                places=places,
            )
            return PartialResult(on_best_device(lambda device: among(device=device)), None)
        assert self.reference is not None
        reference = _Named(self.reference_name or f"reference of {self.fingerprint}", self.reference)
        if self.itself:
            reference = images
        references, *shape = self.reference.shape
        long = is_long_search(references, self.samples, math.prod(shape))
        screen = _neighbours_screen(reference, self.neighbours, long)
        nearest = partial(
            nearest_in_tile,
            self.images.read,
            self.reference.read,
            tile,
            screen,
            self.neighbours,
            self.itself,
            rows=rows,
            columns=_loaded(reference, tile.column_start, tile.column_stop),
        )
        return PartialResult(None, on_best_device(lambda device: nearest(device=device)))


class Part(NamedTuple):
    """One task: a tile of pairs among the images, or of images and references."""

    among: bool
    tile: Tile

    @property
    def pairs(self) -> int:
        """Pairs it compares."""
        tile = self.tile
        rows, columns = tile.row_stop - tile.row_start, tile.column_stop - tile.column_start
        return tile.pairs if self.among else rows * columns


class PartialResult(NamedTuple):
    """Results of the tiles compared so far; None if not requested, or not computed by this task."""

    collisions: Collisions | None
    neighbours: Neighbours | None

    def merge(self, other: "PartialResult") -> "PartialResult":
        """Merge this result, which has all that is requested, with that of a part."""
        collisions, neighbours = self
        if collisions is not None and other.collisions is not None:
            collisions = collisions.merge(other.collisions)
        if neighbours is not None and other.neighbours is not None:
            neighbours = neighbours.merge(other.neighbours)
        return PartialResult(collisions, neighbours)


def pair_record(
    wanted: Comparison, found: PartialResult, nearest: NearestReal | None, memory_bytes: int, fingerprint: str = ""
) -> PairRecord:
    """The record of a finished comparison of all pairs of a set.

    Parameters
    ----------
    nearest
        The nearest real image of each image; None without real images.
    memory_bytes
        That finding the distinct images may take, where not all duplicates are listed: as much as a worker has.
    fingerprint
        Of the images and settings, for a record that is kept.
    """
    among, nobody = found.collisions, np.empty(0, np.int64)
    assert among is not None
    assert wanted.threshold_squared is not None
    listed_below = among.listed_below if wanted.places is None else among.listed_before_cut(wanted.places)
    closest = among.closest if wanted.places is None else _closest_by_place(among, wanted.places)
    return PairRecord(
        fingerprint=fingerprint,
        samples=among.samples,
        pairs_compared=among.pairs_compared,
        threshold_squared=wanted.threshold_squared,
        degrees=among.degrees,
        closest_index=closest.index,
        closest_squared=closest.squared_distance,
        listed_index=among.listed.index,
        listed_squared=among.listed.squared_distance,
        listed_below=listed_below,
        distinct=_distinct(wanted, among, listed_below == among.samples, memory_bytes),
        neighbour=nobody if nearest is None else nearest.neighbour,
        neighbour_squared=nobody if nearest is None else nearest.squared,
        order=nobody if wanted.places is None else in_order(wanted.places),
    )


def _closest_by_place(among: Collisions, places: Index) -> Pairs:
    """The closest pairs, those equally near by their places in a random order, and so each pair's two images.

    The engine's ties are by number. More pairs may be equally near than it keeps: duplicates, which are listed.
    """
    both = among.closest.join(among.listed.index, among.listed.squared_distance)
    both = both[both.squared_distance <= among.closest.squared_distance.max(initial=0)]
    pairs = both[np.unique(both.index @ [among.samples, 1], return_index=True)[1]]
    at = places[pairs.index]
    index = np.where(at[:, :1] <= at[:, 1:], pairs.index, pairs.index[:, ::-1])
    order = np.lexsort((at.min(axis=1), at.max(axis=1), pairs.squared_distance))[: len(among.closest)]
    return Pairs(index[order], pairs.squared_distance[order])


def _distinct(wanted: Comparison, among: Collisions, all_listed: bool, memory_bytes: int) -> int:
    """Distinct images of a set, from the list of its duplicates where that is complete, else by distance."""
    degrees, threshold_squared = among.degrees, wanted.threshold_squared
    assert threshold_squared is not None
    # Ties in a random order, so that the order in which images are stored changes nothing.
    order = np.lexsort((np.arange(wanted.samples) if wanted.places is None else wanted.places, degrees))
    if all_listed:
        return distinct_images(degrees, among.listed.index, order).count
    images = wanted.images
    return search_distinct_images(
        lambda numbers: take(images.read, numbers),
        degrees,
        threshold_squared,
        learn(images.read, wanted.samples, 1, threshold_squared),
        order,
        # By memory alone: tiles for several workers are smaller, and would be read again for each block.
        tile_images=choose_tile_images(wanted.samples, images.shape[1:], memory_bytes, images.dtype.itemsize),
    ).count


class StateStore(Protocol):
    """Storage of a comparison's state across restarts of its process."""

    def load(self) -> Mapping[str, np.ndarray] | None:
        """Load the state saved for the same settings and the same images, or the first of them."""

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays instead of what was kept before, whole or not at all."""

    def finish(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Save the final state once the result has been consumed."""


def compare(
    wanted: Mapping[Key, tuple[Comparison, StateStore | None]], memory_bytes: int, map: Map, progress: Progress
) -> Iterator[tuple[Key, PartialResult | DamagedShardError]]:
    """Yield what each comparison found as soon as it is complete, or the error where its images can't be read.

    Parameters
    ----------
    wanted
        Comparisons by any name. What was begun before and kept goes on.
    memory_bytes
        Of one worker.
    map
        `map(function, items)` runs the tasks and gives their results in any order; the only link to workers.
    """
    in_this_process = map is builtins.map
    going = {
        key: _RunningComparison(comparison, keep, memory_bytes, shared=keep is not None or not in_this_process)
        for key, (comparison, keep) in wanted.items()
    }
    total = float(sum(each.comparison.pairs for each in going.values()))
    done = total - sum(part.pairs for each in going.values() for part in each.left.values())
    left = sum(len(each.left) for each in going.values())
    progress(done, total, left)
    tasks = (
        # The places of all images would go to the workers with every task.
        _Task(
            key,
            number,
            replace(each.comparison, places=None),
            part,
            each.bound_squared,
            each.comparison.places_in(part),
        )
        for key, each in list(going.items())
        for number, part in list(each.left.items())
        if key in going
    )
    saved = time.monotonic()
    try:
        for key in [key for key, each in going.items() if not each.left]:
            yield key, going[key].found
            going.pop(key).finish()
        for result in map(_run, tasks) if going else ():
            done, left = done + result.pairs, left - 1
            progress(done, total, left)
            each = going.get(result.key)
            if each is None:  # another part of it failed
                continue
            if isinstance(result.found, DamagedShardError):
                del going[result.key]
                yield result.key, result.found
                continue
            each.add(result.number, result.found)
            if not each.left:
                yield result.key, each.found
                going.pop(result.key).finish()
            elif time.monotonic() - saved > SAVE_EVERY_S:
                _save(going)
                saved = time.monotonic()
    finally:
        _save(going)


class _RunningComparison:
    """A comparison under way: what it has found, and what is left."""

    def __init__(self, comparison: Comparison, keep: StateStore | None, memory_bytes: int, shared: bool) -> None:
        self.comparison, self._keep = comparison, keep
        size = comparison.tile_images(memory_bytes, shared)
        kept = None if keep is None else keep.load()
        self.found, parts, compared = (comparison.found(), [], 0) if kept is None else _unpack(kept, size)
        self.left = dict(enumerate([*parts, *comparison.tiles(compared, size)]))
        self.changed = False

    @property
    def bound_squared(self) -> float:
        """Current k-th smallest squared distance; prunes later tiles."""
        among = self.found.collisions
        enough = among is not None and len(among.closest) == among.count
        return float(among.closest.squared_distance[-1]) if among is not None and enough else np.inf

    def add(self, number: int, found: PartialResult) -> None:
        """Take what one part has found."""
        self.found = self.found.merge(found)
        del self.left[number]
        self.changed = True

    def save(self) -> None:
        """Keep the state, where it is kept."""
        if self._keep is not None and self.changed:
            self._keep.save(_pack(self.found, self.left.values(), self.comparison.samples))
            self.changed = False

    def finish(self) -> None:
        """End the comparison, once its result has been consumed."""
        if self._keep is not None:
            self._keep.finish(_pack(self.found, [], self.comparison.samples))


def _save(going: Mapping[Any, _RunningComparison]) -> None:
    for each in going.values():
        each.save()


def _pack(found: PartialResult, left: Iterable[Part], samples: int) -> dict[str, np.ndarray]:
    """A state as plain arrays."""
    arrays = {"compared": np.asarray(samples)}
    arrays["left"] = np.array([(among, *tile) for among, tile in left], np.int64).reshape(-1, 5)
    for name, each in found._asdict().items():
        if each is not None:
            arrays |= {f"{name}.{field}": values for field, values in each.to_arrays().items()}
    return arrays


def _unpack(arrays: Mapping[str, np.ndarray], tile_images: int) -> tuple[PartialResult, list[Part], int]:
    """Results so far, the tiles left, and the number of images that the tiles were planned for."""

    def named(name: str) -> dict[str, np.ndarray]:
        start = f"{name}."
        return {key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)}

    among, nearest = named("collisions"), named("neighbours")
    found = PartialResult(
        Collisions.from_arrays(among) if among else None, Neighbours.from_arrays(nearest) if nearest else None
    )
    parts = [
        Part(bool(kind), tile) for kind, *whole in arrays["left"].tolist() for tile in split(Tile(*whole), tile_images)
    ]
    return found, [part for part in parts if part.pairs], int(arrays["compared"])


class _Task(NamedTuple):
    key: Any
    number: int
    comparison: Comparison
    part: Part
    bound_squared: float
    places: tuple[Index, Index] | None


class _Result(NamedTuple):
    key: Any
    number: int
    pairs: int
    found: PartialResult | DamagedShardError


def _run(task: _Task) -> _Result:
    """Do one task, on whatever worker it lands."""
    found: PartialResult | DamagedShardError
    try:
        found = task.comparison.compare(task.part, task.bound_squared, task.places)
    except DamagedShardError as error:  # others go on
        found = error
    return _Result(task.key, task.number, task.part.pairs, found)


@dataclass(frozen=True)
class _Named:
    """Images by name: two are equal when their names are."""

    name: str
    source: Source = field(compare=False)


@lru_cache(maxsize=2)
def _screen(images: _Named, count: int, threshold_squared: float) -> Screen | None:
    """Learnt by every worker for itself: a second, where sending megabytes with every task would cost more."""
    return learn(images.source.read, images.source.shape[0], count, threshold_squared)


@lru_cache(maxsize=2)
def _neighbours_screen(reference: _Named, count: int, long: bool) -> Screen | None:
    """Screen of the nearest images of a reference, learnt by every worker for itself."""
    return learn_for_neighbours(reference.source.read, reference.source.shape[0], count, long)


def _loaded(images: _Named, start: int, stop: int) -> Images:
    """Images [start, stop), ready to be compared.

    Two sets are kept, the rows and the columns of a tile, since those of one tile are mostly among those of the next;
    the one not used for longest makes room before another is read.
    """
    key = images, start, stop
    kept = _KEPT.pop(key, None)
    if kept is None:
        while len(_KEPT) > 1:
            del _KEPT[next(iter(_KEPT))]
        kept = load_rows(images.source.read, start, stop)
    _KEPT[key] = kept
    return kept


def alone_first(map: Map) -> Map:
    """A map that does tasks in this process until they have taken `ALONE_S` in all, and gives `map` what is left.

    So no worker starts for short work. Only for tasks that don't end their process.
    """
    left_s = ALONE_S

    def alone(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        nonlocal left_s
        waiting = iter(items)
        for item in waiting:
            if left_s <= 0:
                yield from map(function, chain([item], waiting))
                return
            began = time.monotonic()
            result = function(item)
            left_s -= time.monotonic() - began
            if left_s <= 0:
                forget_images()
            yield result

    return alone


def forget_images() -> None:
    """Free the images that this process keeps between tiles, for work that needs others."""
    _KEPT.clear()


_KEPT: dict[tuple[_Named, int, int], Images] = {}
