import pickle

import numpy as np
import pytest

from storage.layout import TrialLayout
from storage.shards import DamagedShardError, Images, Samples, ShardPlan, ShardWriter, create_samples


def test_reads_any_range(complete: TrialLayout, images: Images) -> None:
    samples = Samples(complete)
    assert samples.shape == images.shape
    assert samples.dtype == np.uint8
    for start in range(len(images) + 1):
        for stop in range(start, len(images) + 1):
            np.testing.assert_array_equal(samples.read(start, stop), images[start:stop])


def test_takes_any_numbers(complete: TrialLayout, images: Images) -> None:
    for numbers in ([], [3], [11, 0, 1, 1, 7], range(12), range(11, -1, -1)):
        np.testing.assert_array_equal(Samples(complete).take(numbers), images[list(numbers)])


def test_only_whole_snapshots_are_listed_and_only_committed_samples_read(
    trial: TrialLayout, plan: ShardPlan, images: Images
) -> None:
    create_samples(trial, plan)
    writer = ShardWriter(trial, plan)
    assert Samples(trial).steps == {}
    writer.write(1, images[4:8])  # the first half of the second snapshot
    assert Samples(trial).steps == {}
    np.testing.assert_array_equal(Samples(trial).read(4, 8), images[4:8])
    writer.write(0, images[:4])
    samples = Samples(trial)
    assert samples.steps == {10: range(0, 4)}
    with pytest.raises(ValueError, match=r"samples 8 to 12 .* are not committed"):
        samples.read(7, 9)
    writer.write(2, images[8:])
    assert Samples(trial).steps == {10: range(0, 4), 20: range(4, 12)}


def test_a_shard_on_disk_without_its_record_is_not_there(complete: TrialLayout) -> None:
    complete.commit(2).unlink()
    with pytest.raises(ValueError, match="not committed"):
        Samples(complete).read(8, 12)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, 13), (13, 13)])
def test_ranges_outside_are_refused(complete: TrialLayout, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="has 0 to 12"):
        Samples(complete).read(start, stop)


def test_is_small_when_sent_and_still_reads(complete: TrialLayout, images: Images) -> None:
    samples = Samples(complete)
    samples.read(0, 1)
    sent = pickle.dumps(samples)
    assert len(sent) < 1500
    np.testing.assert_array_equal(pickle.loads(sent).read(2, 9), images[2:9])


def test_every_flipped_bit_of_a_shard_is_found_and_its_file_named(complete: TrialLayout) -> None:
    path = complete.shard(1)
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedShardError, match=r"c\.1\.0\.0\.0: .*trial é 1 and run again") as caught:
            Samples(complete).read(4, 8)
        assert caught.value.path == path
    path.write_bytes(content)
    Samples(complete).read(4, 8)


def test_damage_elsewhere_does_not_hide_other_shards(complete: TrialLayout, images: Images) -> None:
    complete.shard(1).write_bytes(bytes(complete.shard(1).stat().st_size))
    np.testing.assert_array_equal(Samples(complete).read(0, 4), images[:4])
    np.testing.assert_array_equal(Samples(complete).read(8, 12), images[8:])


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_shard_cut_short_or_missing_is_named(complete: TrialLayout, length: int) -> None:
    content = complete.shard(1).read_bytes()
    complete.shard(1).write_bytes(content[:length])
    with pytest.raises(DamagedShardError, match=f"expected {len(content)}"):
        Samples(complete).read(0, 12)
    complete.shard(1).unlink()
    with pytest.raises(DamagedShardError, match=r"c\.1\.0\.0\.0: the file is missing") as caught:
        Samples(complete).read(0, 12)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.path) == (str(caught.value), caught.value.path)


def test_a_trial_without_samples_says_so(trial: TrialLayout) -> None:
    with pytest.raises(ValueError, match="no samples here yet"):
        Samples(trial)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"attributes": {}}', '{"attributes": {"plan": {"snapshots": 3}}}'])
def test_a_damaged_description_is_named(complete: TrialLayout, content: str) -> None:
    (complete.samples / "zarr.json").write_text(content)
    with pytest.raises(ValueError, match=r"zarr\.json: damaged"):
        Samples(complete)


def test_an_altered_description_is_noticed(complete: TrialLayout) -> None:
    path = complete.samples / "zarr.json"
    path.write_text(path.read_text().replace('"chunk_images": 2', '"chunk_images": 4'))
    with pytest.raises(ValueError, match="does not match its fingerprint"):
        Samples(complete)
