"""Memory of this process, as the C library hands it out.

Invariant: what is set here changes the time of a process, and never what it computes.
"""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's <malloc.h>


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next allocation, in place of giving it back to the system.

    A training step, or the comparison of a block, frees what it allocates, and memory that comes from the system anew is
    cleared page by page: on a CPU a twentieth of a step. The process stays as large as it once was. Libraries other than
    glibc are left as they are.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**25)  # the most that glibc takes; larger blocks still come from the system
        mallopt(_M_TRIM_THRESHOLD, 2**30)
