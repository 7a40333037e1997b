"""Neighbours of any tiles, merged in any order, are those of brute force."""

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ganlab.pairs import filter_refine, pivots
from ganlab.pairs import lower_bounds as screen
from ganlab.pairs import plan as planning
from ganlab.pairs.closest import nearest
from ganlab.pairs.estimates import Bounds, bounded_distances
from ganlab.pairs.exact import Images, Read, squared_distances
from ganlab.pairs.filter_refine import nearest_bounds
from ganlab.pairs.lower_bounds import half_distances, learn
from ganlab.pairs.neighbours import Neighbours, nearest_in_tile
from ganlab.pairs.plan import Plan, cheapest_plan
from ganlab.pairs.tiles import Tile, plan_rectangle
from ganlab.quality.manifold import balls_of, count_mutually

Array = NDArray[Any]


@pytest.fixture
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_SAMPLE", 64)
    monkeypatch.setattr(screen, "_FIRST", 6)
    monkeypatch.setattr(screen, "_WHOLE", 8)
    monkeypatch.setattr(filter_refine, "_ROWS", 32)
    monkeypatch.setattr(filter_refine, "_COLUMNS", 50)


def brute(queries: Array, references: Array, count: int, itself: bool) -> tuple[Array, Array]:
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (queries, references))
    squared = np.stack([np.square(row - b).sum(axis=1) for row in a])
    if itself:
        np.fill_diagonal(squared, np.inf)
    order = np.stack([np.lexsort((np.arange(len(row)), row))[:count] for row in squared])
    return order, np.take_along_axis(squared, order, axis=1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("small_levels")
def test_any_tiles_in_any_order_give_brute_force(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kind, itself = data.draw(st.sampled_from(["uint8", "float32"])), data.draw(st.booleans())
    centres = rng.integers(0, 256, (9, 40))
    images = (centres[rng.integers(0, 9, 200)] // 2 + rng.integers(0, data.draw(st.integers(1, 8)), (200, 40))).astype(
        kind
    )
    queries = images[: data.draw(st.integers(2, 100))]
    references = queries if itself else images[100 : 100 + data.draw(st.integers(1, 100))]
    count = data.draw(st.integers(1, len(references) - itself))

    def read_queries(start: int, stop: int) -> Array:
        return queries[start:stop]

    def read(start: int, stop: int) -> Array:
        return references[start:stop]

    learnt = learn(read, len(references), count)
    parts = [
        nearest_in_tile(read_queries, read, tile, learnt, count, itself)
        for tile in plan_rectangle(0, len(queries), len(references), data.draw(st.integers(10, 120)))
    ]
    rng.shuffle(parts)  # type: ignore[arg-type]
    found = reduce(Neighbours.merge, parts)
    index, squared = brute(queries, references, count, itself)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_array_equal(found.squared_distance, squared)
    again = Neighbours.from_arrays(found.to_arrays())
    assert (again.start, again.stop, again.count) == (0, len(queries), count)


def clustered(rng: np.random.Generator, kind: str) -> Array:
    """Images near 9 centres, some of them equal, one far from all, whose nearest image is that of few others."""
    centres = rng.integers(0, 256, (9, 40))
    images = centres[rng.integers(0, 9, 300)] // 2 + rng.integers(0, 20, (300, 40))
    images[7], images[100:104], images[299] = 255, images[3], images[0]
    return images.astype(kind)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("looks", [(0,), (1,), (0, 1), ()])
@pytest.mark.usefixtures("small_levels")
def test_whichever_plan_is_cheapest_the_nearest_are_those_of_brute_force(
    kind: str, mutual: bool, ordered: bool, looks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a set with itself an order is one of both rows and columns; any is right, and so is any choice of levels."""
    rng = np.random.default_rng(5)
    images = clustered(rng, kind)
    learnt = learn(lambda start, stop: images[start:stop], len(images), neighbours=3)
    assert learnt is not None
    levels = tuple(level for number, level in enumerate(learnt.levels) if number in looks)
    order, other = rng.permutation(300), rng.permutation(300)

    def plan(rows: Images, columns: Images, *others: Any) -> Plan:
        once = mutual and rows is columns
        return Plan(levels, once, (order, order if once else other) if ordered else None)

    monkeypatch.setattr(filter_refine, "cheapest_plan", plan)
    for count, itself in ((1, True), (4, True), (3, False)):
        tile = Tile(0, 300, 0, 300)
        found = nearest_in_tile(read_of(images), read_of(images), tile, learnt, count, itself)
        index, squared = brute(images, images, count, itself)
        np.testing.assert_array_equal(found.index, index)
        np.testing.assert_array_equal(found.squared_distance, squared)
        if not itself:
            np.testing.assert_array_equal(nearest(images, images, count).index[:, 1], index.ravel())


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("looks", [(0,), (1,), (0, 1), (), None])
@pytest.mark.parametrize("neighbours", [1, 9])
@pytest.mark.usefixtures("small_levels")
def test_whichever_plan_is_cheapest_balls_of_two_sets_hold_what_those_of_brute_force_hold(
    kind: str, looks: tuple[int, ...] | None, neighbours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the plan that is chosen (None), and of others."""
    rng = np.random.default_rng(6)
    real, generated = clustered(rng, kind), clustered(rng, kind)[:170]
    ours, others = balls_of(real, neighbours), balls_of(generated, neighbours)
    assert ours.screen is not None
    levels = tuple(level for number, level in enumerate(ours.screen.levels) if number in (looks or ()))
    order = rng.permutation(300), rng.permutation(170)
    if looks is not None:
        monkeypatch.setattr(filter_refine, "cheapest_plan", lambda *_: Plan(levels, True, order))
    squared = squared_distances(
        ours.centres, others.centres, *(each.ravel() for each in np.indices((300, 170)))
    ).reshape(300, 170)
    in_ours, in_others = squared <= ours.squared_radii[:, None], squared <= others.squared_radii
    (inside, around), (other_inside, other_around) = count_mutually(ours, others)
    for found, expected in (
        (inside, in_ours.sum(axis=1)),
        (around, in_others.sum(axis=1)),
        (other_inside, in_others.sum(axis=0)),
        (other_around, in_ours.sum(axis=0)),
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("small_levels")
def test_first_bounds_hold_as_many_columns_as_are_wanted_and_few_more() -> None:
    rng = np.random.default_rng(3)
    images = Images(clustered(rng, "uint8"))
    learnt = learn(read_of(images.values), len(images), neighbours=2)
    squared = np.sort(brute(images.values, images.values, 300, False)[1], axis=1)
    for count in (1, 2, 5, 40, 300):
        within = (squared <= nearest_bounds(images, images, learnt, count)[:, None]).sum(axis=1)
        assert np.all(within >= count)
        assert np.median(within) <= max(8 * count, 20)
    assert np.all(np.isinf(nearest_bounds(images, images, learnt, 301)))


def test_few_queries_take_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """First bounds have a fixed cost by pivot: as many pivots as for a large search would cost more than they save."""
    rng, looks = np.random.default_rng(0), 0
    references = Images(rng.integers(0, 256, (9, 200))[rng.integers(0, 9, 3000)].astype(np.uint8) ^ 1)
    queries = Images(references.values[:100].copy())
    learnt = learn(read_of(references.values), 3000)

    def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return half_distances(*arguments)

    monkeypatch.setattr(pivots, "half_distances", counted)
    nearest_bounds(queries, references, learnt, 1)
    assert 1 <= looks < 12


@pytest.mark.parametrize(("queries", "references"), [(500, 1000), (1000, 1000), (30, 1500)])
def test_small_sets_are_compared_little_more_than_once(
    queries: int, references: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, products = np.random.default_rng(0).integers(0, 256, (2500, 60), dtype=np.uint8), 0

    def counted(*arguments: Any) -> Bounds:
        nonlocal products
        bounds = bounded_distances(*arguments)
        products += bounds.low.numel()
        return bounds

    monkeypatch.setattr(filter_refine, "bounded_distances", counted)
    nearest(images[:queries], images[queries : queries + references])
    assert products <= 1.3 * queries * references


def test_a_window_that_leaves_few_pairs_is_looked_at_whatever_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(np.random.default_rng(0).integers(0, 256, (1600, 300), dtype=np.uint8))
    learnt = learn(read_of(images.values), 1600, neighbours=1)
    learnt = replace(learnt, directions=np.ones((9, 300), np.int8), weights=np.full(9, 0.01))
    others = Images(images.values[:800].copy())
    monkeypatch.setattr(planning, "_window", lambda *arguments: 0.2)
    assert cheapest_plan(others, images, learnt, np.full(800, 1e7), None, None, (512, 4096)).levels == (9,)
    monkeypatch.setattr(planning, "_window", lambda *arguments: 1.0)
    assert cheapest_plan(others, images, learnt, np.full(800, 1e7), None, None, (512, 4096)).levels == ()


def read_of(images: Array) -> Read:
    return lambda start, stop: images[start:stop]


@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_merge_is_associative_and_commutative(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)

    def some() -> Neighbours:
        start, queries = int(rng.integers(0, 5)), int(rng.integers(1, 6))
        tile = Tile(start, start + queries, 0, 10)
        return nearest_in_tile(lambda a, b: x[a:b], lambda a, b: y[a:b], tile, None, count)

    parts = []
    for _ in range(3):  # references of three sets: merged, they need not make sense, only be merged in any order
        x, y = rng.integers(0, 3, (12, 4), dtype=np.uint8), rng.integers(0, 3, (10, 4), dtype=np.uint8)
        parts.append(some())
    a, b, c = parts
    for left, right in ((a.merge(b), b.merge(a)), (a.merge(b).merge(c), a.merge(b.merge(c)))):
        np.testing.assert_array_equal(left.index, right.index)
        np.testing.assert_array_equal(left.squared_distance, right.squared_distance)
        assert left.start == right.start


def test_summaries_of_different_settings_do_not_merge() -> None:
    with pytest.raises(ValueError, match="got 1 and 2 references"):
        Neighbours.create(0, 3, 1).merge(Neighbours.create(0, 3, 2))
