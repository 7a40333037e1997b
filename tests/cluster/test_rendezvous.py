"""Records are read whole while they are replaced, and tell what they were told."""

import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from cluster.rendezvous import (
    ClusterFolder,
    Head,
    WorkerState,
    read_head,
    read_json,
    read_workers,
    write_head,
    write_json,
    write_worker,
)


def test_a_reader_meets_whole_records_only(folder: Path) -> None:
    path = folder / "record.json"
    write_json(path, {"number": 0, "filling": ""})
    over = threading.Event()

    def write() -> None:
        for number in range(300):
            write_json(path, {"number": number, "filling": "x" * 50 * number})
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not over.is_set():
        record = read_json(path)
        assert record is not None
        assert len(record["filling"]) == 50 * record["number"]
        seen.add(record["number"])
    writer.join()
    assert len(seen) > 1
    assert [file.name for file in folder.iterdir()] == ["record.json"]


def test_a_head_is_read_as_written_also_by_another_version(folder: Path) -> None:
    assert read_head(folder) is None
    head = Head("12", 1, 3, "running", ray_address="10.0.0.1:11001", dask_address="tls://10.0.0.1:11010", host="n1")
    write_head(folder, head)
    found = read_head(folder)
    assert found is not None
    assert found.written > 0
    assert found == Head(**{**head.__dict__, "written": found.written})
    path = ClusterFolder(folder).head
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "blue"}))
    assert read_head(folder) == found
    path.write_text('{"job_id": "12", ')
    assert read_head(folder) is None


def test_workers_come_in_the_order_of_their_tasks(folder: Path) -> None:
    assert read_workers(folder) == []
    for job in ("9", "12_10", "12_2"):
        write_worker(folder, WorkerState(job, 0, "n1", "joined"))
    (folder / "workers" / ".12_3.json.1.partial").write_text("{")
    assert [worker.job_id for worker in read_workers(folder)] == ["9", "12_2", "12_10"]


def test_a_file_system_that_syncs_names_by_itself_takes_records_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refusing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    write_json(folder / "record.json", {"number": 1})
    assert read_json(folder / "record.json") == {"number": 1}
