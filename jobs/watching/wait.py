"""Waiting for the end of a submitted sweep.

Invariant: the sweep does not depend on whoever waits; the scheduler is asked once a minute at most.
"""

import time

from jobs.watching.slurm_view import on_slurm
from storage.layout import SweepLayout

LOOK_S = 2.0
ASK_S = 60.0  # between questions to the scheduler, which show that all jobs are gone without a word


def wait_for_end(layout: SweepLayout) -> str:
    """Return when nothing works on the sweep any more: "" when it is done, or why it is not, in one line."""
    from cluster.rendezvous import ClusterFolder, read_head

    gone, due = False, time.monotonic() + ASK_S
    while True:
        head = read_head(layout.cluster)
        if head is not None and head.state == "done":
            return ""
        if ClusterFolder(layout.cluster).cancelled.exists():
            return "it was cancelled"
        if head is not None and head.state == "failed":
            return f"its controller failed: {head.reason}"
        if gone:
            return "none of its jobs is left"
        if time.monotonic() >= due:
            slurm = on_slurm(layout)
            gone = slurm is not None and slurm.jobs == []  # and one more look at what the last of them has written
            due = time.monotonic() + ASK_S
        time.sleep(LOOK_S)
