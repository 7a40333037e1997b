"""Writes that wait while the disk is full, read-only or away, in jobs without a user at the terminal.

Invariant: without `WAIT` in the environment every error is raised at once; what waits is written whole, or again.
"""

import errno
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

WAIT = "GANLAB_WAIT_FOR_DISK"  # in the environment of everything that runs in jobs of SLURM
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE}
"""Errors that are the machine's, and pass when somebody makes room or the server is back."""
PAUSE_S = 2.0
PROBE_BYTES = 2**20


def is_waited_for(error: BaseException) -> bool:
    """True if an error is one of the disk's that this process waits for."""
    return isinstance(error, OSError) and error.errno in PASSING and WAIT in os.environ


def patiently(write: Callable[[], Result]) -> Result:
    """Call `write`, again and again while the disk is full, read-only or away.

    Raises
    ------
    OSError
        For other errors, and where nothing is waited for.
    """
    while True:
        try:
            return write()
        except OSError as error:
            if not is_waited_for(error):
                raise
        time.sleep(PAUSE_S)


def await_disk(folder: Path) -> None:
    """Return once a file can be written in `folder`."""
    probe = folder / f".{uuid.uuid4().hex[:12]}.partial"

    def write() -> None:
        try:
            probe.write_bytes(bytes(PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)

    patiently(write)
