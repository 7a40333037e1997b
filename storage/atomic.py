"""Files and folders that appear on disk whole, or not at all.

Invariant: a name holds its old content until the new content is synced to disk; a process killed at any moment leaves
the old, the new, or (a folder that was replaced) nothing under that name, never a part. What it was writing stays under
a name that begins with a dot and ends in ``.partial``.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.patience import patiently

if TYPE_CHECKING:
    from typing_extensions import Buffer


class DamagedError(ValueError):
    """A file is not what was written there: cut short, garbled, or another file."""

    def __init__(self, path: Path, expected: str, reason: object, remedy: str = "restore it from a copy") -> None:
        super().__init__(path, expected, str(reason), remedy)

    def __str__(self) -> str:
        path, expected, reason, remedy = self.args
        return f"{path}: damaged, expected {expected}: {reason}; {remedy}"


class WriteError(OSError):
    """A file or folder could not be written; `filename` names it."""


def write_bytes(path: Path, *buffers: Buffer) -> None:
    """Write `buffers`, one after the other, as the whole content of `path`; missing folders are made.

    When this returns, the content and the name are synced to disk.

    Parameters
    ----------
    path : Path
        The file to create or replace.
    *buffers
        C-contiguous bytes; not copied.

    Raises
    ------
    OSError
        If the disk is full, the folder is read-only, or the like; it names `path`, whose old content is untouched.
        Where that is waited for (`storage.patience`), only for errors that do not pass.
    """
    patiently(lambda: _write_bytes(path, *buffers))


def _write_bytes(path: Path, *buffers: Buffer) -> None:
    make_folder(path.parent)
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.partial"
    try:
        # Not mkstemp: its 0600 would hide results from colleagues; this one follows the umask.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for buffer in buffers:
                rest = memoryview(buffer).cast("B")
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise WriteError(error.errno, f"{error.strerror}, while writing", str(path)) from error
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON, as `write_bytes` does; the same value gives the same bytes.

    Raises
    ------
    ValueError
        If `value` holds NaN or infinity, which JSON cannot.
    """
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedError
        If it is not whole, valid JSON; names the file.
    """
    content = path.read_bytes()
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, "JSON", error) from error


def write_arrays(path: Path, **arrays: ArrayLike) -> None:
    """Write named arrays as an ``.npz``, as `write_bytes` does; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    write_bytes(path, buffer.getbuffer())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return every array of an ``.npz`` by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedError
        If it is damaged (members carry a CRC-32, which is checked) or holds Python objects; names the file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            return {name: members[name] for name in members.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, TypeError) as error:
        raise DamagedError(path, "an .npz of plain arrays", error) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill; when the body ends it is synced and takes the name `path`. One writer at a time.

    A folder already there is moved away just before, so a kill between the two renames leaves no folder of that name.

    Raises
    ------
    OSError
        As `write_bytes`.
    """
    partial, old = path.parent / f".{path.name}.partial", path.parent / f".{path.name}.old.partial"
    make_folder(path.parent)
    try:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        yield partial
        sync_tree(partial)
        if path.exists():
            os.rename(path, old)
        os.rename(partial, path)
        sync_folder(path.parent)
    except BaseException as error:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise WriteError(error.errno, f"{error.strerror}, while writing", str(path)) from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_partials(folder: Path) -> None:
    """Remove the files that killed writers left unfinished in `folder`. Only its one writer may call this."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, and sync the names of those that were made."""
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def check_writable(path: Path) -> None:
    """Make a folder, its missing parents and an entry in it, and remove what was made.

    Raises
    ------
    OSError
        If that can't be done: a parent is a file, the file system is read-only or full, a name is too long, or the like.
    """
    made: list[Path] = []
    try:
        for folder in (*reversed(path.parents), path, path / f".{uuid.uuid4().hex[:12]}.partial"):
            if folder.is_dir():
                continue
            if folder.exists():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
            folder.mkdir()
            made.append(folder)
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # another command has begun in it
                folder.rmdir()


def sync_tree(root: Path) -> None:
    """Sync every file and folder under `root` to disk, `root` itself last."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            _sync(Path(folder, name), os.O_RDONLY)
        sync_folder(Path(folder))


def sync_folder(path: Path) -> None:
    """Sync the names in a folder to disk, where the file system can."""
    try:
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        # Some network file systems make names durable by themselves and refuse this call.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
