from pathlib import Path

import numpy as np
import pytest

from storage.layout import SweepLayout, TrialLayout
from storage.shards import Images, ShardPlan, ShardWriter, create_samples

PLAN = ShardPlan(snapshots=((10, 4), (20, 8)), image_shape=(3, 8, 8), shard_images=4, chunk_images=2)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepLayout:
    """A sweep in a folder whose name is as awkward as names get."""
    return SweepLayout(tmp_path / "my sweep (1) #2 'ü' 100%20 日本 -x")


@pytest.fixture
def trial(sweep: SweepLayout) -> TrialLayout:
    return sweep.trial("trial é 1")


@pytest.fixture
def plan() -> ShardPlan:
    return PLAN


@pytest.fixture
def images() -> Images:
    """All images of the plan, the first chunk of them black."""
    made = np.random.default_rng(1).integers(0, 256, (PLAN.samples, *PLAN.image_shape), dtype=np.uint8)
    made[: PLAN.chunk_images] = 0
    return made


@pytest.fixture
def complete(trial: TrialLayout, plan: ShardPlan, images: Images) -> TrialLayout:
    """A trial with every shard committed."""
    create_samples(trial, plan)
    for shard in plan.shards:
        ShardWriter(trial, plan).write(shard.index, images[shard.start : shard.stop])
    return trial


def tree(root: Path) -> dict[str, bytes]:
    """Every file under a folder, by relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(name="tree")
def _tree() -> object:
    return tree
