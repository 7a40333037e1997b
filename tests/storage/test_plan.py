import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.plan import ShardPlan, sizes_for

counts = st.integers(1, 200).map(lambda n: 100 * n)
shapes = st.sampled_from([(1, 8, 8), (3, 32, 32), (3, 64, 64), (3, 128, 128), (3, 1024, 1024)])


@given(st.lists(counts, min_size=1, max_size=4), shapes)
def test_shards_cover_every_sample_once_and_no_snapshot_shares_one(
    images: list[int], shape: tuple[int, int, int]
) -> None:
    snapshots = tuple((10 * number, count) for number, count in enumerate(images))
    try:
        plan = ShardPlan.make(snapshots, shape)
    except ValueError as error:
        good = [int(word) for word in str(error).split("; ")[1].split(" would")[0].split(", ")]
        assert len(good) == len(images)
        ShardPlan.make(tuple(zip(range(len(good)), good, strict=True)), shape)  # the remedy is one
        return
    assert [shard.index for shard in plan.shards] == list(range(len(plan.shards)))
    assert plan.shards[0].start == 0
    assert plan.shards[-1].stop == plan.samples == sum(images)
    assert all(before.stop == after.start for before, after in pairwise(plan.shards))
    for step, numbers in plan.snapshot_ranges().items():
        held = [shard for shard in plan.shards if shard.step == step]
        assert (held[0].start, held[-1].stop) == (numbers.start, numbers.stop)
    assert plan.shard_images <= 4096
    assert plan.shard_images * math.prod(shape) <= 64 * 2**20


@pytest.mark.parametrize(
    ("snapshots", "shape", "shard", "chunk"),
    [
        ([(100, 2000), (200, 2000), (300, 20000)], (1, 8, 8), 2000, 2000),
        ([(1, 40960)], (3, 64, 64), 4096, 64),
        ([(1, 5000)], (1, 8, 8), 2500, 2500),
        ([(1, 20000)], (3, 128, 128), 1250, 125),
        ([(1, 10), (2, 5)], (1, 8, 8), 5, 5),
    ],
)
def test_chosen_sizes(snapshots: list[tuple[int, int]], shape: tuple[int, int, int], shard: int, chunk: int) -> None:
    plan = ShardPlan.make(snapshots, shape)
    assert (plan.shard_images, plan.chunk_images) == (shard, chunk)


def test_counts_without_a_common_divisor_are_refused_with_the_nearest_good_ones() -> None:
    with pytest.raises(ValueError, match=r"5000, 7001: no shard size from 256 to 4096.*; 5000, 7000 would do"):
        ShardPlan.make([(1, 5000), (2, 7001)], (1, 8, 8))
    with pytest.raises(ValueError, match=r"10007.*would do"):
        ShardPlan.make([(1, 10007)], (1, 8, 8))


@pytest.mark.parametrize("snapshots", [[], [(5, 0)], [(5, 100), (5, 100)], [(9, 100), (5, 100)], [(-1, 100)]])
def test_impossible_snapshots_are_refused(snapshots: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        ShardPlan.make(snapshots, (1, 8, 8))


def test_equal_plans_share_a_fingerprint_and_others_do_not() -> None:
    plan = ShardPlan.make([(1, 1000)], (1, 8, 8))
    assert plan.fingerprint == ShardPlan.make(((1, 1000),), (1, 8, 8)).fingerprint
    others = [ShardPlan.make([(2, 1000)], (1, 8, 8)), ShardPlan.make([(1, 1000)], (3, 8, 8))]
    assert len({plan.fingerprint, *(other.fingerprint for other in others)}) == 3


@given(st.integers(1, 300_000), shapes)
def test_sizes_for_any_number_of_images(images: int, shape: tuple[int, int, int]) -> None:
    image_bytes = math.prod(shape)
    shard, chunk = sizes_for(images, image_bytes)
    assert 1 <= chunk <= shard <= 4096
    assert shard % chunk == 0
    assert shard * image_bytes <= 64 * 2**20
