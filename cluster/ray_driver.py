"""The connection of the one process that hands work to a cluster's Ray.

Invariant: it is the head's own node that is connected to, never a worker's on the same host: workers come and go.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.interpreter import in_empty_folder


@contextmanager
def cluster_ray() -> Iterator[None]:
    """Connect to the cluster at $RAY_ADDRESS for the length of the context; the controller sets what else Ray needs."""
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    address = os.environ["RAY_ADDRESS"]
    with TemporaryDirectory() as parent, in_empty_folder(Path(parent)):
        ray.init(
            address=address,
            _node_ip_address=address.rsplit(":", 1)[0],  # Ray prefers the head among the nodes of this address
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        yield
    finally:
        ray.shutdown()
