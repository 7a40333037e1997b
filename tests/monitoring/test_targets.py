"""The list of scrape targets: whole at any moment, and gone when its exporter ends on purpose."""

import json
from pathlib import Path
from threading import Event, Thread

from monitoring.targets import Target, remove_targets, write_targets

OWN = Target("ganlab", "n1:9709")


def test_names_job_node_sweep_and_cluster(folder: Path) -> None:
    path = folder / "metrics" / "targets.json"
    labels = {"sweep": "s", "cluster": "c"}
    assert write_targets(path, [OWN, Target("ray", "n2:4001", "n2"), OWN], labels)
    assert json.loads(path.read_text()) == [
        {"targets": ["n1:9709"], "labels": {"job": "ganlab", "sweep": "s", "cluster": "c"}},
        {"targets": ["n2:4001"], "labels": {"job": "ray", "node": "n2", "sweep": "s", "cluster": "c"}},
    ]
    assert not write_targets(path, [OWN, Target("ray", "n2:4001", "n2")], labels), "nothing has changed"
    assert [each.name for each in path.parent.iterdir()] == ["targets.json"]


def test_a_reader_never_meets_half_a_list(folder: Path) -> None:
    path = folder / "targets.json"
    write_targets(path, [OWN], {})
    ended = Event()

    def write() -> None:
        count = 0
        while not ended.is_set():
            count = count % 40 + 1
            write_targets(path, [Target("ray", f"n{number}:1", f"n{number}") for number in range(count)], {})

    writer = Thread(target=write)
    writer.start()
    try:
        for _ in range(2000):
            json.loads(path.read_text())
    finally:
        ended.set()
        writer.join()


def test_only_its_own_list_is_removed(folder: Path) -> None:
    path = folder / "targets.json"
    write_targets(path, [Target("ganlab", "n9:1")], {})
    remove_targets(path, OWN.address)
    assert path.exists()
    remove_targets(path, "n9:1")
    assert not path.exists()
    remove_targets(path, "n9:1")
