"""Ray and Dask on this machine, private to one command.

Invariant: whatever is started here ends with the command, also when that is killed; concurrent commands never meet.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from cluster.gpus import usable_gpus
from cluster.interpreter import in_empty_folder
from cluster.memory import MemoryKills
from cluster.ray_node import private_ray
from cluster.reaper import guarded, shielded
from cluster.supervise import ended_how, node_folder

Item = TypeVar("Item")
Result = TypeVar("Result")
Map = Callable[[Callable[[Item], Result], Iterable[Item]], Iterator[Result]]

NO_MEMORY_LIMIT = 0
"""Memory limit given to Dask, in effect none, since tasks are cut to fit. Dask would let a worker that holds four fifths
of a limit wait for less, which never comes: libraries and the rows of the next tile fill it."""


LOST_S = 60.0
"""After so long without its process, a worker of Dask is replaced; by default after 15 s, which a start can take."""
LOOK_S = 2.0  # between two looks for workers that Dask has given up
STARTS = 5  # of workers that may fail in a row

RAY_STARTS = 3  # tries: Ray gives up after half a minute, which a busy machine can take

WORKER_PRELOAD = "cluster.gpus"
"""Module whose `dask_setup` prepares the environment of each Dask worker."""


def local_resources() -> dict[str, int]:
    """CPUs and NVIDIA GPUs that this process may use: {"CPU": …, "GPU": …}."""
    return {"CPU": len(os.sched_getaffinity(0)), "GPU": len(usable_gpus())}


def local_memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where a container or a job of SLURM has less."""
    from distributed.system import MEMORY_LIMIT  # it knows of containers

    machine = int(MEMORY_LIMIT)
    per_node, per_cpu = (int(os.environ.get(f"SLURM_MEM_PER_{what}") or 0) * 2**20 for what in ("NODE", "CPU"))
    return min(machine, per_node or per_cpu * local_resources()["CPU"] or machine)


@contextmanager
def local_ray() -> Iterator[None]:
    """Run Ray on this machine for the length of the context.

    Ray has all of `local_resources`, a token and a session folder of its own, and no dashboard.

    Raises
    ------
    OSError
        If it does not start, in several tries.
    """
    with ExitStack() as stack:
        for left in reversed(range(RAY_STARTS)):
            try:
                stack.enter_context(_ray())
                break
            except OSError:
                if not left:
                    raise
        yield


@contextmanager
def _ray() -> Iterator[None]:
    """One try of `local_ray`."""
    with _private_folder() as folder, guarded(folder):
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(os.urandom(32).hex())
        os.environ |= private_ray(token)
        # Nobody scrapes this Ray: without these libraries, which its agent loads for that alone, it starts sooner.
        sys.modules["ray.dashboard.optional_deps"] = None  # type: ignore[assignment]
        import ray  # late: it reads the variables above when it is imported
        from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

        AuthenticationTokenLoader.instance().reset_cache()  # of another Ray that this process had before
        resources = local_resources()
        try:
            with in_empty_folder(folder):
                ray.init(
                    address="local",
                    num_cpus=resources["CPU"],
                    num_gpus=resources["GPU"],
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=256 * 2**20,  # trials exchange nothing: images go to disk, not through Ray
                    _temp_dir=str(folder / "ray"),
                )
        except Exception as error:  # of several kinds: Ray names no common one
            ray.shutdown()
            why = " ".join(str(error).split())
            raise OSError(
                f"Ray did not start here in {RAY_STARTS} tries of half a minute, its own limit ({why}): run the same "
                "command again when the machine is less busy"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def local_processes(workers: int) -> Iterator[Map[Any, Any]]:
    """Processes for work that holds Python's lock; yields `map(function, items)`, whose first use starts them.

    Results come in the order of the items. A process is ready in some 0.2 s, a worker of `local_dask` after seconds.

    Raises
    ------
    OSError
        By the map, if a process dies.
    """
    with ExitStack() as stack:
        pool: ProcessPoolExecutor | None = None

        def map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
            nonlocal pool
            if pool is None:
                stack.callback(stack.enter_context(guarded()))
                pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
                stack.callback(pool.shutdown, cancel_futures=True)
            try:
                with shielded():
                    results = pool.map(function, items)
                yield from results
            except BrokenProcessPool as error:
                raise OSError("a process that read files was killed; if memory was short, leave it more") from error

        yield map


@contextmanager
def local_dask(workers: int) -> Iterator[Map[Any, Any]]:
    """Run Dask on this machine for the length of the context; yields `map(function, items)`, whose first use starts it.

    Each worker is a process with one thread. Results come as they are finished, in any order.
    """
    with ExitStack() as stack:
        client: Any = None
        how_ended: Callable[[], str] = str

        def map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
            nonlocal client, how_ended
            if client is None:
                client, how_ended = stack.enter_context(_dask(workers))
            return dask_map(client, lambda: workers, function, items, how_ended)

        yield map


@contextmanager
def _dask(workers: int) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Yield a client and a function that describes how its workers' processes ended."""
    import dask
    from distributed import Client, LocalCluster, Nanny
    from distributed.core import Status

    codes: list[int] = []
    failures: list[str] = []
    memory = MemoryKills()

    class Watched(Nanny):  # type: ignore[misc]
        async def instantiate(self) -> Status:
            try:
                return await super().instantiate()
            except Exception as error:  # of any kind: it has given up, and is replaced
                failures.append(" ".join(str(error).split()))
                return Status.failed

        async def _on_worker_exit(self, exitcode: int) -> None:
            codes.append(exitcode)
            await super()._on_worker_exit(exitcode)

    def how_ended() -> str:
        ends = dict.fromkeys(map(ended_how, codes)) or failures[-1:]
        return f" ({', '.join(ends)}{memory.said()})" if ends else ""

    with (
        _private_folder() as folder,
        guarded(folder),
        dask.config.set(
            {
                "distributed.worker.daemon": True,
                "distributed.scheduler.allowed-failures": 5,
                "distributed.deploy.lost-worker-timeout": f"{LOST_S} s",
            }
        ),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=NO_MEMORY_LIMIT,
            dashboard_address="127.0.0.1:0",  # None would take 8787, and complain when another command has it
            local_directory=str(folder),
            silence_logs="CRITICAL",  # what ends the work is said in one sentence
            worker_class=Watched,
            preload_nanny=[WORKER_PRELOAD],
        ) as cluster,
        Client(cluster) as client,
        _replaced(cluster, client, workers),
    ):
        yield client, how_ended


@contextmanager
def _replaced(cluster: Any, client: Any, workers: int) -> Iterator[None]:
    """Replace workers of Dask that it has given up, as it does with one whose process ends while it starts.

    Where processes can't be started any more, what the client waits for is cancelled.
    """
    from distributed import Future
    from distributed.core import Status

    failed, ended = 0, Event()
    tornado = logging.getLogger("tornado.application")  # has the traceback of each worker that does not start
    level = tornado.level

    def replace() -> None:
        """On the cluster's own thread."""
        nonlocal failed
        lost = [name for name, worker in cluster.workers.items() if worker.status in (Status.closed, Status.failed)]
        for name in lost:
            del cluster.workers[name]
        failed = 0 if cluster.scheduler_info["workers"] else failed + len(lost)
        if failed > STARTS * workers:
            waited_for = [Future(key, client) for key in client.futures]
            cluster.loop.add_callback(client.cancel, waited_for, reason="no worker starts", force=True)
            ended.set()
        elif lost or len(cluster.workers) < workers:
            cluster.scale(workers)  # which starts those that are missing

    def look() -> None:
        while not ended.wait(LOOK_S):
            cluster.loop.add_callback(replace)

    looking = Thread(target=look, name="replace workers", daemon=True)
    looking.start()
    tornado.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ended.set()
        looking.join()
        tornado.setLevel(level)


def dask_map(
    client: Any,
    threads: Callable[[], int],
    function: Callable[[Item], Result],
    items: Iterable[Item],
    how_ended: Callable[[], str] = str,
) -> Iterator[Result]:
    """Yield ``function(item)`` of every item as it is finished, with two tasks per thread in flight.

    A task whose worker dies runs again elsewhere; an exception of `function` is raised here. `how_ended` says how workers
    died, in parentheses, where that is known.

    Raises
    ------
    OSError
        If one task's workers die again and again, or none can be started.
    """
    from distributed import KilledWorker, as_completed

    waiting = iter(items)
    finished = as_completed([], loop=client.loop, with_results=True)
    in_flight = 0

    def fill() -> None:
        nonlocal in_flight
        for item in islice(waiting, max(0, 2 * max(1, threads()) - in_flight)):
            finished.add(client.submit(function, item, pure=False))
            in_flight += 1

    fill()
    try:
        for future, result in finished:
            if future.status == "cancelled":
                raise OSError(
                    "comparing images was given up: Dask's scheduler has ended, or no process for it starts any more"
                    f"{how_ended()}; what is compared is kept, and the same command goes on from there"
                )
            in_flight -= 1
            fill()
            yield result
    except KilledWorker as killed:
        raise OSError(
            f"comparing images was given up: {killed.allowed_failures + 1} processes in a row died of the same task"
            f"{how_ended()}; if memory was short, a lower resources.measure_memory_gb takes less"
        ) from None


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A temporary folder of this user alone, where this process and those it starts also put their temporary files.

    Its path is short enough for Ray's sockets, whatever TMPDIR is.
    """
    base = Path(tempfile.gettempdir())
    with node_folder(base if len(str(base)) <= 30 else Path("/tmp"), str(os.getpid())) as folder:
        before = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir, variable = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable
