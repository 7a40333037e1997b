import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.layout import TrialLayout
from storage.shards import (
    BackgroundWriter,
    Images,
    Samples,
    ShardPlan,
    ShardWriter,
    all_committed,
    create_images,
    create_samples,
)

Tree = Callable[[Path], dict[str, bytes]]


def test_a_shard_is_the_very_file_that_zarr_writes(
    complete: TrialLayout, plan: ShardPlan, images: Images, tmp_path: Path, tree: Tree
) -> None:
    group = zarr.create_group(tmp_path / "by zarr")
    create_images(group, plan.samples, plan.image_shape, plan.shard_images, plan.chunk_images)[...] = images
    assert tree(complete.samples / "images") == tree(tmp_path / "by zarr" / "images")
    assert complete.shard(0).stat().st_size == plan.shard_bytes
    assert sum(complete.shard(shard.index).stat().st_size for shard in plan.shards) == plan.bytes


def test_zarr_alone_reads_images_and_steps(complete: TrialLayout, images: Images) -> None:
    group = zarr.open_group(complete.samples, mode="r")
    np.testing.assert_array_equal(group["images"][:], images)
    assert group["images"].metadata.dimension_names == ("sample", "channel", "y", "x")
    assert group["step"][:].tolist() == [10] * 4 + [20] * 8
    assert group["step"].dtype == np.int64


def test_creating_again_changes_nothing(complete: TrialLayout, plan: ShardPlan, tree: Tree) -> None:
    before = tree(complete.root)
    (complete.samples / "images" / ".c.1.0.0.0.0123456789ab.partial").write_bytes(b"left by a kill")
    create_samples(complete, plan)
    assert tree(complete.root) == before


def test_another_plan_is_refused_by_what_differs(complete: TrialLayout, plan: ShardPlan, images: Images) -> None:
    other = ShardPlan(plan.snapshots, plan.image_shape, shard_images=4, chunk_images=4)
    with pytest.raises(ValueError, match="another plan \\(chunk_images was 2, now 4\\)"):
        create_samples(complete, other)
    assert ShardWriter(complete, other).committed() == set()
    with pytest.raises(ValueError, match="another plan"):
        ShardWriter(complete, other).write(0, images[:4])


def test_a_committed_shard_is_left_alone(complete: TrialLayout, plan: ShardPlan, images: Images, tree: Tree) -> None:
    writer = ShardWriter(complete, plan)
    assert writer.committed() == {0, 1, 2}
    assert all_committed(complete)
    before = complete.shard(1).stat()
    writer.write(1, np.zeros_like(images[:4]))
    assert complete.shard(1).stat() == before


def test_a_shard_without_a_whole_record_is_written_again(
    complete: TrialLayout, plan: ShardPlan, images: Images, tree: Tree
) -> None:
    before = tree(complete.root)
    record = complete.commit(1).read_bytes()
    for length in range(len(record) - 1):
        complete.commit(1).write_bytes(record[:length])
        assert ShardWriter(complete, plan).committed() == {0, 2}
        assert not all_committed(complete)
        assert list(Samples(complete).steps) == [10]
    complete.shard(1).unlink()
    ShardWriter(complete, plan).write(1, images[4:8])
    assert tree(complete.root) == before


def test_records_of_deleted_samples_commit_nothing(complete: TrialLayout, plan: ShardPlan) -> None:
    shutil.rmtree(complete.samples)
    create_samples(complete, plan)
    assert ShardWriter(complete, plan).committed() == set()


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b'{"shard": 1}', b"\xff\xfe"])
def test_a_foreign_record_commits_nothing(complete: TrialLayout, plan: ShardPlan, content: bytes) -> None:
    complete.commit(1).write_bytes(content)
    assert ShardWriter(complete, plan).committed() == {0, 2}


def test_wrong_images_are_refused_and_nothing_is_written(
    trial: TrialLayout, plan: ShardPlan, images: Images, tree: Tree
) -> None:
    create_samples(trial, plan)
    before, writer = tree(trial.root), ShardWriter(trial, plan)
    with pytest.raises(ValueError, match=r"shard 0: got uint8 \(3, 3, 8, 8\), expected uint8 \(4, 3, 8, 8\)"):
        writer.write(0, images[:3])
    with pytest.raises(ValueError, match="got float32"):
        writer.write(0, images[:4].astype(np.float32))
    with pytest.raises(ValueError, match="shard 3: the plan has shards 0 to 2"):
        writer.write(3, images[:4])
    assert tree(trial.root) == before


def test_writing_before_creating_says_so(trial: TrialLayout, plan: ShardPlan, images: Images) -> None:
    assert ShardWriter(trial, plan).committed() == set()
    assert not all_committed(trial)
    with pytest.raises(ValueError, match="no samples here yet"):
        ShardWriter(trial, plan).write(0, images[:4])


def test_images_need_not_lie_in_order(trial: TrialLayout, plan: ShardPlan, images: Images) -> None:
    create_samples(trial, plan)
    last = np.ascontiguousarray(images[:4].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not last.flags.c_contiguous
    ShardWriter(trial, plan).write(0, last)
    np.testing.assert_array_equal(Samples(trial).read(0, 4), images[:4])


class Slow(ShardWriter):
    """Waits before each shard; ends with an error at one of them."""

    def __init__(self, trial: TrialLayout, plan: ShardPlan, fail_at: int | None = None) -> None:
        super().__init__(trial, plan)
        self.go, self.fail_at = threading.Event(), fail_at

    def write(self, shard_index: int, images: object, labels: object) -> None:
        assert self.go.wait(20)
        if shard_index == self.fail_at:
            raise OSError(28, "No space left on device", f"shard {shard_index}")
        super().write(shard_index, images)  # type: ignore[arg-type]


def test_background_writing_does_not_keep_the_caller_waiting(
    trial: TrialLayout, plan: ShardPlan, images: Images
) -> None:
    create_samples(trial, plan)
    writer = Slow(trial, plan)
    with BackgroundWriter(writer) as background:
        for shard in plan.shards:
            background.put(images[shard.start : shard.stop], shard.index)
        assert writer.committed() == set()
        writer.go.set()
        background.drain()
        assert writer.committed() == {0, 1, 2}
    background.close()
    np.testing.assert_array_equal(Samples(trial).read(0, plan.samples), images)


def test_background_memory_is_bounded(trial: TrialLayout, plan: ShardPlan, images: Images) -> None:
    create_samples(trial, plan)
    writer, accepted = Slow(trial, plan), []
    background = BackgroundWriter(writer, depth=1)

    def produce() -> None:
        for shard in plan.shards:
            background.put(images[shard.start : shard.stop], shard.index)
            accepted.append(shard.index)

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(0.2)
    assert accepted == [0, 1]  # one being written, one waiting
    writer.go.set()
    producer.join()
    background.close()
    assert writer.committed() == {0, 1, 2}


@pytest.mark.parametrize("call", ["put", "drain", "close"])
def test_a_background_error_is_raised_by_the_next_call(
    trial: TrialLayout, plan: ShardPlan, images: Images, call: str
) -> None:
    create_samples(trial, plan)
    writer = Slow(trial, plan, fail_at=1)
    background = BackgroundWriter(writer, depth=4)
    for shard in plan.shards:
        background.put(images[shard.start : shard.stop], shard.index)
    writer.go.set()
    with pytest.raises(OSError, match="No space left on device: 'shard 1'"):
        background.drain()
    arguments = (images[:4], 2) if call == "put" else ()
    with pytest.raises(OSError, match="No space left on device: 'shard 1'"):
        getattr(background, call)(*arguments)
    with pytest.raises(OSError, match="No space left"):
        background.close()
    assert writer.committed() == {0}  # what was put after the failed shard is not written
    assert threading.active_count() == len([each for each in threading.enumerate() if each.name != "shard-writer"])


def test_an_error_of_the_caller_wins_and_tells_of_the_other(
    trial: TrialLayout, plan: ShardPlan, images: Images
) -> None:
    create_samples(trial, plan)
    writer = Slow(trial, plan, fail_at=0)

    def body() -> None:
        with BackgroundWriter(writer) as background:
            background.put(images[:4], 0)
            writer.go.set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        body()
    assert "No space left" in caught.value.__notes__[0]


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from storage.layout import TrialLayout
from storage.shards import ShardPlan, ShardWriter, Samples, create_samples

trial = TrialLayout(Path(sys.argv[1]))
plan = ShardPlan(((1, 4), (2, 8)), (3, 64, 64), 4, 2)
create_samples(trial, plan)
writer = ShardWriter(trial, plan)
images = np.full((4, 3, 64, 64), 7, np.uint8)
writer.write(0, images)
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
else:
    import subprocess
    options = "remount,size=100k" if sys.argv[2] == "full" else "remount,ro"
    # without the numbers of users that /proc names, which mean nothing inside
    subprocess.run(["mount", "--options-mode", "ignore", "-o", options, sys.argv[3]], check=True)
for attempt in range(2):
    try:
        writer.write(1, images)
    except OSError as error:
        print(error)
assert Samples(trial).steps == {1: range(0, 4)}
assert (Samples(trial).read(0, 4) == 7).all()
assert not list(trial.root.rglob("*.partial")), list(trial.root.rglob("*.partial"))
"""


@pytest.mark.process
def test_a_file_that_cannot_grow_ends_the_write_with_its_name(trial: TrialLayout) -> None:
    unmeasured = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")
    }  # it writes files
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, trial.root, "limit"], text=True, capture_output=True, env=unmeasured
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("File too large, while writing") == 2
    assert done.stdout.count(repr(str(trial.shard(1)))) == 2


def _can_mount() -> bool:
    trial = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(trial, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.process
@pytest.mark.skipif(not _can_mount(), reason="needs a file system of its own, which this system does not grant")
@pytest.mark.parametrize(
    ("kind", "reason"), [("full", "No space left on device"), ("read-only", "Read-only file system")]
)
def test_a_full_or_read_only_disk_ends_the_write_and_keeps_what_is_committed(
    tmp_path: Path, kind: str, reason: str
) -> None:
    mounted = tmp_path / "ü disk"
    mounted.mkdir()
    trial = TrialLayout(mounted / "t")
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$4" "$5" "$1"'
    shell = ["sh", "-c", script, "sh", mounted, sys.executable, FULL_DISK, trial.root, kind]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *map(str, shell)], text=True, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(reason) == 2
    assert done.stdout.count(repr(str(trial.shard(1)))) == 2


def test_the_shard_is_durable_before_its_record_appears(
    trial: TrialLayout, plan: ShardPlan, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_samples(trial, plan)
    calls: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".partial")[0]))
        sync(descriptor)

    def rename(source: Path, target: Path) -> None:
        calls.append(("rename", target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    ShardWriter(trial, plan).write(1, images[4:8])
    kinds = [(kind, name if not name.startswith(".") else "new file") for kind, name in calls]
    assert kinds == [
        ("sync", "new file"),
        ("rename", "c.1.0.0.0"),
        ("sync", "images"),
        ("sync", "new file"),
        ("rename", "000001.json"),
        ("sync", "commits"),
    ]
