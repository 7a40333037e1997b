"""Preemption notice of a node to the processes on it, and their marks while they have work.

Invariant: asking costs one look at a file on the node's own disk, and off the cluster the answer is always no.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NODE = "GANLAB_NODE"  # in the environment of everything that runs on a worker: a folder on the node's own disk

KINDS = ("busy", "measuring")


def leaving() -> bool:
    """True if this node is about to end: write a checkpoint now and stop."""
    folder = os.environ.get(NODE)
    return folder is not None and os.path.exists(f"{folder}/leaving")


@contextmanager
def busy() -> Iterator[None]:
    """Mark this process as one with work to save: a node that leaves waits some seconds for it."""
    with _marked("busy"):
        yield


@contextmanager
def measuring() -> Iterator[None]:
    """Mark this process as one that works, and loses little if its node leaves."""
    with _marked("measuring"):
        yield


@contextmanager
def _marked(kind: str) -> Iterator[None]:
    folder = os.environ.get(NODE)
    if folder is None:
        yield
        return
    mark = Path(folder, kind, str(os.getpid()))
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def request_stop(folder: Path) -> None:
    """Raise the flag that `leaving` sees."""
    (folder / "leaving").touch()


def retract(folder: Path) -> None:
    """Lower the flag, and forget processes that were killed while busy."""
    (folder / "leaving").unlink(missing_ok=True)
    for mark in _marks(folder):
        mark.unlink(missing_ok=True)


def still_checkpointing(folder: Path) -> list[int]:
    """Processes that have not saved their work yet."""
    return [pid for mark in _marks(folder, "busy") if _alive(pid := int(mark.name))]


def idle_since(folder: Path) -> float | None:
    """Return when the last work here ended, in seconds since 1970, or 0 without any so far; None while some goes on."""
    if any(_alive(int(mark.name)) for mark in _marks(folder)):
        return None
    places = [folder / kind for kind in KINDS]
    return max((place.stat().st_mtime for place in places if place.is_dir()), default=0.0)


def _marks(folder: Path, *kinds: str) -> list[Path]:
    return [mark for kind in kinds or KINDS for mark in (folder / kind).glob("*")]


def _alive(pid: int) -> bool:
    """True if the process runs; False for a zombie, whose parent was killed too."""
    with suppress(OSError):
        return Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    return False
