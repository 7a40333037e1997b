"""Images streamed into shards: written whole by one writer, then committed.

Invariant: a shard is written once and synced to disk before its commit record appears by an atomic rename. So a process
may be killed at any moment and run again: what is committed stays, and the rest is written again.
"""

from __future__ import annotations

from dataclasses import asdict
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Any, Self

import google_crc32c
import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.atomic import make_folder, remove_partials, whole_folder, write_bytes, write_json
from storage.layout import TrialLayout
from storage.plan import CHECKSUM_BYTES, Shard, ShardPlan, array_of, kind_of
from storage.samples import (
    DamagedShardError,
    Images,
    Samples,
    all_committed,
    commit_record,
    committed_shards,
    dimensions,
    is_committed,
    read_plan,
)

__all__ = [
    "BackgroundWriter",
    "DamagedShardError",
    "Samples",
    "Shard",
    "ShardPlan",
    "ShardWriter",
    "all_committed",
    "create_images",
    "create_samples",
    "encode_shard",
]


def create_samples(trial: TrialLayout, plan: ShardPlan) -> None:
    """Make ``samples.zarr`` ready for the shards of `plan`; nothing to do when it already is.

    The group holds `images` uint8 (sample, channel, y, x), or `points` float32 (sample, coordinate); `label` int64
    (sample) where the plan is labelled; and `step` int64 (sample), written here in full because the plan knows it. Also
    removes what a killed writer of this trial left unfinished, so only the trial itself may call.

    Raises
    ------
    ValueError
        If the folder was made for another plan.
    OSError
        If the disk is full, the folder is read-only, or the like.
    """
    import zarr
    from zarr.codecs import Crc32cCodec

    make_folder(trial.commits)
    remove_partials(trial.commits)
    for array in ("images", "points", "label"):
        remove_partials(trial.samples / array)
    if trial.samples.exists():
        existing = read_plan(trial)
        if existing != plan:
            theirs, ours = asdict(existing), asdict(plan)
            changed = "; ".join(f"{key} was {theirs[key]}, now {ours[key]}" for key in ours if theirs[key] != ours[key])
            raise ValueError(f"{trial.samples} was made for another plan ({changed}); use another folder, or delete it")
        return
    for record in trial.commits.glob("*.json"):
        record.unlink()  # of samples that someone deleted
    with whole_folder(trial.samples) as folder:
        group = zarr.create_group(folder, attributes={"plan": {**asdict(plan), "fingerprint": plan.fingerprint}})
        create_images(group, plan.samples, plan.image_shape, plan.shard_images, plan.chunk_images)
        if plan.labelled:
            group.create_array(
                "label",
                shape=(plan.samples,),
                chunks=(plan.shard_images,),
                dtype="int64",
                filters=None,
                compressors=[Crc32cCodec()],
                fill_value=0,
                dimension_names=("sample",),
                chunk_key_encoding={"name": "default", "separator": "."},
                config={"write_empty_chunks": True},
            )
        steps = np.repeat(*np.array(plan.snapshots, dtype=np.int64).T)
        group.create_array("step", data=steps, compressors=[Crc32cCodec()], dimension_names=("sample",))


def create_images(group: Any, samples: int, image_shape: tuple[int, ...], shard: int, chunk: int) -> Any:
    """Create the Zarr array `images` uint8 (sample, channel, y, x), or `points` float32 (sample, coordinate).

    The one definition of how they lie on disk.

    Shards are flat in one folder, their chunks uncompressed (the pixels of a generator are noisy; this is faster to
    write than any codec and lets a reader take one chunk) and each followed by its CRC-32C.
    """
    from zarr.codecs import Crc32cCodec

    return group.create_array(
        array_of(image_shape),
        shape=(samples, *image_shape),
        dtype=kind_of(image_shape),
        chunks=(chunk, *image_shape),
        shards=(shard, *image_shape),
        filters=None,
        compressors=[Crc32cCodec()],
        fill_value=0,
        dimension_names=dimensions(image_shape),
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},  # a black chunk must not look like a missing one
    )


class ShardWriter:
    """Writes the shards of one trial. There may be only one at a time for each trial.

    Parameters
    ----------
    trial : TrialLayout
        Where.
    plan : ShardPlan
        Which images; `create_samples` is called with the same plan before the first `write`.
    """

    def __init__(self, trial: TrialLayout, plan: ShardPlan) -> None:
        self._trial, self._plan = trial, plan

    def committed(self) -> set[int]:
        """Return the numbers of the shards that need not be written again."""
        return set(committed_shards(self._trial, self._plan))

    def write(self, shard_index: int, images: ArrayLike, labels: ArrayLike | None = None) -> None:
        """Write one whole shard and then its commit record, both synced; a committed shard is left alone.

        Parameters
        ----------
        shard_index : int
            Number of the shard in the plan.
        images : uint8 (shard_images, C, H, W), or float32 (shard_images, D)
            Not copied when C-contiguous.
        labels : int64 (shard_images,), optional
            Given exactly when the plan is labelled.

        Raises
        ------
        ValueError
            If the images are not those the plan expects, or ``samples.zarr`` was not made for this plan.
        OSError
            If the disk is full, the folder is read-only, or the like; names the shard. Committed shards stay readable.
        """
        plan = self._plan
        if not 0 <= shard_index < len(plan.shards):
            raise ValueError(f"shard {shard_index}: the plan has shards 0 to {len(plan.shards) - 1}")
        shard, images = plan.shards[shard_index], np.asarray(images)
        kind = kind_of(plan.image_shape)
        if images.dtype != kind or images.shape != (plan.shard_images, *plan.image_shape):
            raise ValueError(
                f"shard {shard_index}: got {images.dtype} {images.shape}, expected {kind} "
                f"{(plan.shard_images, *plan.image_shape)}"
            )
        named = None if labels is None else np.ascontiguousarray(labels, dtype="<i8")
        wanted = (plan.shard_images,) if plan.labelled else None
        given = None if named is None else named.shape
        if given != wanted:
            raise ValueError(f"shard {shard_index}: got labels of shape {given}, expected {wanted}")
        if is_committed(self._trial, plan, shard):
            return
        if read_plan(self._trial) != plan:
            raise ValueError(f"{self._trial.samples} was made for another plan; create_samples says what differs")
        parts = encode_shard(images, plan.chunk_images)
        # Every other part is a checksum, of the part before it: these stand for the whole file, without a second pass.
        checksums = parts[1::2]
        if named is not None:
            checksums.append(_checksum(named.view(np.uint8)))
            write_bytes(self._trial.label_shard(shard_index), named.data, checksums[-1].data)
        checksum = google_crc32c.value(np.concatenate(checksums))
        write_bytes(self._trial.shard(shard_index, images.ndim), *(part.data for part in parts))
        write_json(self._trial.commit(shard_index), commit_record(plan, shard, checksum))


def encode_shard(images: Images, chunk_images: int) -> list[Images]:
    """Return the bytes of a shard file in Zarr's ``sharding_indexed`` codec, in pieces to be written one after another.

    Written out here because it is faster than the general pipeline (the benchmarks tell), copies no pixel, and leaves
    the file's creation and syncing to us; the tests hold it to the bytes that Zarr itself writes.
    Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html

    Parameters
    ----------
    images : uint8 (n, C, H, W), or float32 (n, D)
        All images of the shard; `chunk_images` divides n.
    """
    little = np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("<"))
    chunks = little.reshape(len(images) // chunk_images, -1).view(np.uint8)
    size = chunks.shape[1] + CHECKSUM_BYTES
    index = np.array([(number * size, size) for number in range(len(chunks))], dtype="<u8").view(np.uint8).reshape(-1)
    return [piece for part in (*chunks, index) for piece in (part, _checksum(part))]


def _checksum(part: Images) -> Images:
    return np.array([google_crc32c.value(part)], dtype="<u4").view(np.uint8)


class BackgroundWriter:
    """Writes shards in a thread of its own, in order, so that a trial trains on while they go to disk.

    Holds up to `depth` shards in memory beside the one being written; `put` waits for room. Images that were put
    belong to the writer and may not change any more. As a context manager it closes itself.

    Parameters
    ----------
    writer : ShardWriter
        Does the writing.
    depth : int
        Shards that may wait.

    Raises
    ------
    Exception
        What ended the writing is raised, itself, by every later call; shards put after it are not written.
    """

    def __init__(self, writer: ShardWriter, depth: int = 2) -> None:
        self._writer = writer
        self._queue: Queue[tuple[Images, int, NDArray[np.int64] | None] | None] = Queue(maxsize=depth)
        self._error: BaseException | None = None
        # Dying with the process is as safe as a kill, and a crash elsewhere must not hang waiting for this thread.
        self._thread = Thread(target=self._run, name="shard-writer", daemon=True)
        self._thread.start()

    def put(self, images: Images, shard_index: int, labels: NDArray[np.int64] | None = None) -> None:
        """Hand over one whole shard of images, as `ShardWriter.write` takes it."""
        assert self._thread.is_alive(), "put after close"
        self._raise()
        self._queue.put((images, shard_index, labels))

    def drain(self) -> None:
        """Wait until all shards handed over are committed."""
        self._queue.join()
        self._raise()

    def close(self) -> None:
        """Write what was put, and end the thread."""
        self._finish()
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()
        if error is None:
            self._raise()
        elif self._error is not None and self._error is not error:
            error.add_note(f"Writing shards had ended as well: {self._error!r}")

    def _finish(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._writer.write(item[1], item[0], item[2])
            except BaseException as error:  # handed to the thread that trains
                self._error = error
            finally:
                del item  # the shard's memory, while waiting for the next
                self._queue.task_done()
