"""The SLURM job that this process belongs to.

Invariant: the exit codes here are what the batch script acts upon at its end (`cluster/script.py`).
"""

import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

DONE, FAILED = 0, 1
REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: put the job into the queue again
HANDED_OVER = 79  # the controller has a successor: the script ends with 0 and leaves the workers alone
TERMINATED = 143  # what a shell reports of a process that SIGTERM has ended


class JobEnd(Exception):
    """Ends a supervisor with an exit code and a sentence that says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return self.reason


def fail(reason: str) -> NoReturn:
    """End the supervisor as failed."""
    raise JobEnd(FAILED, reason)


def leave(code: int) -> NoReturn:
    """End this process at once: a thread of Ray's that still waits for an answer must not hold it up."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass(frozen=True)
class Job:
    """A running job: its id as `squeue` writes it (``12`` or ``12_3``), its restarts, its node, its folder of logs."""

    id: str
    restart: int
    node: str
    logs: Path

    @classmethod
    def here(cls, logs: Path) -> "Job":
        """Read it from the environment."""
        get = os.environ.get
        array = get("SLURM_ARRAY_JOB_ID")
        return cls(
            f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"],
            int(get("SLURM_RESTART_COUNT", "0")),
            get("SLURMD_NODENAME") or socket.gethostname(),
            logs,
        )

    @property
    def log(self) -> Path:
        """Log of the supervisor itself, written by submitit."""
        return self.logs / f"{self.id}_0_log.out"

    def log_of(self, child: str) -> Path:
        """Log of a child process."""
        return self.logs / f"{self.id}-{child.lower().replace(' ', '-')}.log"
