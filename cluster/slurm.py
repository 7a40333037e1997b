"""The batch scripts of a cluster, and their submission.

Invariant: `job_scripts` shows, to the letter, what `submit` hands to sbatch; what the controller submits later differs in
the number of jobs, the dependency and the nodes that are left out, and in nothing else.
"""

import getpass
import io
import os
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from cluster.controller import Child, run_controller
from cluster.dask_node import make_certificate, write_secret
from cluster.interpreter import safe_exports
from cluster.rendezvous import ClusterFolder
from cluster.scheduler import (
    RefusedError,
    SchedulerError,
    Submission,
    ask,
    largest_array,
    outside_any_job,
    write_submission,
)
from cluster.script import first_lines, last_lines
from cluster.site import Site
from cluster.worker import run_worker


@dataclass(frozen=True)
class Jobs:
    """Settings shared by the jobs of one sweep.

    Attributes
    ----------
    name
        Name of the sweep; the jobs' own name is made from it.
    folder
        Where the jobs meet: ``<sweep>/cluster``, on a file system that all nodes share.
    logs
        Folder of submitit's files and of all logs.
    code
        Folder from which the jobs import the packages, before any other.
    children
        What the controller runs.
    """

    name: str
    folder: Path
    logs: Path
    code: Path
    children: tuple[Child, ...]


@dataclass(frozen=True)
class _Array:
    """Jobs that one call of sbatch submits."""

    title: str
    tasks: int
    function: Callable[[], None]
    parameters: dict[str, Any]

    def when(self, dependency: str) -> "_Array":
        """Let it wait, in SLURM's words: ``after:12``, ``afterany:12``."""
        return replace(self, parameters={**self.parameters, "dependency": dependency})

    def without(self, nodes: Collection[str]) -> "_Array":
        """Keep it off some nodes, beside those that the site leaves out itself."""
        if not nodes:
            return self
        more = dict(self.parameters["additional_parameters"])
        left_out = ",".join([*filter(None, [more.pop("exclude", "")]), *sorted(nodes)])
        return replace(self, parameters={**self.parameters, "additional_parameters": more, "exclude": left_out})


def job_scripts(site: Site, jobs: Jobs, largest: int = 1001) -> dict[str, str]:
    """Return the exact submission scripts by title; needs no SLURM.

    `largest` is SLURM's MaxArraySize. Only the job's name and the dependency are filled in at submission, and shown here
    as ``<…>``.
    """
    from submitit.slurm import slurm

    scripts = {}
    for array in _arrays(site, jobs, "<job name>", largest):
        if array.title != "controller":
            array = array.when("after:<controller job>")
        command = f"{_python(site)} -u -m submitit.core._submit {shlex.quote(str(jobs.logs))}"
        count = {"map_count": array.tasks} if array.tasks > 1 else {}
        scripts[array.title] = slurm._make_sbatch_string(command, jobs.logs, **array.parameters, **count)
    return scripts


def submit(site: Site, jobs: Jobs, after: str = "") -> Submission:
    """Queue the controller and the workers, and record their ids in the folder.

    What an earlier submission has left in the folder is forgotten: it must have ended. `after` is the id of a job that
    must have ended well before the controller begins.

    Raises
    ------
    RefusedError
        With all that sbatch says when it refuses; then nothing stays queued.
    SchedulerError
        If SLURM does not answer.
    """
    if shutil.which("sbatch") is None:
        raise RefusedError(
            "SLURM is not installed here: there is no command sbatch; `ganlab run` runs a sweep on this machine alone"
        )
    largest = largest_array()
    name = f"ganlab-{jobs.name}-{secrets.token_hex(4)}"
    _prepare(jobs)
    ids: list[str] = []
    try:
        for array in _arrays(site, jobs, name, largest):
            dependency = f"after:{ids[0]}" if ids else f"afterok:{after}" if after else ""
            ids.append(_queue(site, jobs, array.when(dependency) if dependency else array))
    except BaseException:
        if ids:
            ask(["scancel", "--quiet", *ids])
        raise
    submission = Submission(
        name,
        ids[0],
        tuple(ids[1:]),
        site.nodes,
        socket.gethostname(),
        getpass.getuser(),
        time.strftime("%FT%T%z"),
        controllers=(ids[0],),
    )
    write_submission(jobs.folder, submission)
    return submission


@dataclass(frozen=True)
class Orders:
    """Submissions of a running controller: workers in place of lost ones, and its own successor.

    Attributes
    ----------
    site, jobs
        As `submit` was given them.
    largest
        SLURM's MaxArraySize.
    """

    site: Site
    jobs: Jobs
    largest: int

    def workers(self, name: str, count: int, left_out: Collection[str]) -> list[str]:
        """Submit so many worker jobs, on none of some nodes; returns their ids. Raises RefusedError, SchedulerError."""
        few = self.site.model_copy(update={"nodes": count})
        return [
            _queue(self.site, self.jobs, array.without(left_out))
            for array in _arrays(few, self.jobs, name, self.largest)
            if array.title != "controller"
        ]

    def successor(self, name: str, dependency: str = "") -> str:
        """Submit a controller; returns its id. Raises RefusedError, SchedulerError."""
        array = next(_arrays(self.site, self.jobs, name, self.largest))
        return _queue(self.site, self.jobs, array.when(dependency) if dependency else array)


def _queue(site: Site, jobs: Jobs, array: _Array) -> str:
    """Submit an array and return its id.

    Raises
    ------
    RefusedError
        With all that sbatch says when it refuses.
    SchedulerError
        Where there is no sbatch.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    try:
        with _clean_environment(), redirect_stderr(io.StringIO()):  # what sbatch says is in the error, too
            executor = SlurmExecutor(jobs.logs, python=_python(site))
            executor.update_parameters(**array.parameters)
            if array.tasks == 1:
                submitted = [executor.submit(array.function)]
            else:
                with executor.batch():
                    submitted = [executor.submit(array.function) for _ in range(array.tasks)]
    except (FailedJobError, FailedSubmissionError) as error:
        raise RefusedError(f"sbatch refuses: {str(error).strip()}") from error
    except (FileNotFoundError, RuntimeError) as error:
        raise SchedulerError(f"sbatch could not be run: {error}") from error
    return str(submitted[0].job_id.split("_")[0])


def _prepare(jobs: Jobs) -> None:
    files = ClusterFolder(jobs.folder)
    for records in (files.workers, files.runs):
        records.mkdir(parents=True, exist_ok=True)
    jobs.logs.mkdir(parents=True, exist_ok=True)
    for left in (
        files.head,
        files.cancelled,
        files.replacements,
        files.demand,
        *files.workers.glob("*.json"),
        *files.runs.glob("*.*"),
    ):
        left.unlink(missing_ok=True)
    write_secret(files.token, secrets.token_hex(32))
    make_certificate(jobs.folder)


def _arrays(site: Site, jobs: Jobs, name: str, largest: int) -> Iterator[_Array]:
    """Yield the controller, then the workers in arrays that SLURM accepts."""
    head = partial(run_controller, jobs.folder, jobs.logs, site, jobs.children, Orders(site, jobs, largest))
    yield _Array("controller", 1, head, _common(site, jobs, name, controller=True) | _controller_parameters(site))
    node = partial(run_worker, jobs.folder, jobs.logs, site)
    sizes = [min(largest, site.nodes - first) for first in range(0, site.nodes, largest)]
    at_once = _shares(site.array_parallelism or site.nodes, sizes)
    for number, (size, parallel) in enumerate(zip(sizes, at_once, strict=True), 1):
        parameters = _common(site, jobs, name) | _worker_parameters(site) | {"array_parallelism": parallel}
        yield _Array("workers" if number == 1 else f"workers {number}", size, node, parameters)


def _shares(total: int, sizes: list[int]) -> list[int]:
    """Split what may run at once over arrays, in proportion, at least 1 each."""
    before = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    ends = [total * end // before[-1] for end in before]
    return [max(1, last - first) for first, last in pairwise(ends)]


def _common(site: Site, jobs: Jobs, name: str, controller: bool = False) -> dict[str, Any]:
    own = site.controller
    parameters = {
        "job_name": name,
        "nodes": 1,
        "ntasks_per_node": 1,
        "signal_delay_s": site.notice_s,
        "stderr_to_stdout": True,
        "wckey": None,
        "setup": [
            *first_lines(jobs.folder, jobs.logs, name, controller),
            *site.setup,
            *(f"export {key}={shlex.quote(value)}" for key, value in site.environment.items()),
            *safe_exports(jobs.code),
        ],
        "teardown": last_lines(),
        "additional_parameters": {"requeue": True, "chdir": str(jobs.folder)}
        | dict(_option(line) for line in (*site.sbatch, *(own.sbatch if controller else ()))),
    }
    for key in ("partition", "account", "qos", "constraint"):
        parameters[key] = (getattr(own, key) if controller else None) or getattr(site, key)
    return {key: value for key, value in parameters.items() if value is not None or key == "wckey"}


def _controller_parameters(site: Site) -> dict[str, Any]:
    own = site.controller
    return _memory(own.mem_gb) | {
        "time": own.time_min or site.time_min,
        "cpus_per_task": own.cpus,
        "srun_args": [f"--cpus-per-task={own.cpus}", *site.srun_args],  # srun does not take it over from sbatch
    }


def _worker_parameters(site: Site) -> dict[str, Any]:
    gpus = f"{site.gpu_type}:{site.gpus_per_node}" if site.gpu_type else site.gpus_per_node
    return (
        _memory(site.mem_gb)
        | {
            "time": site.time_min,
            "cpus_per_task": site.cpus_per_node,
            "srun_args": [f"--cpus-per-task={site.cpus_per_node}", *site.srun_args],
        }
        | ({"gpus_per_node": gpus} if site.gpus_per_node else {})
        | ({"exclusive": True} if site.exclusive else {})
    )


def _memory(gigabytes: float | None) -> dict[str, Any]:
    return {} if gigabytes is None else {"mem": f"{round(gigabytes * 1024)}M"}


def _option(line: str) -> tuple[str, str | bool]:
    name, equals, value = line.removeprefix("--").partition("=")
    return name, value if equals else True


def _python(site: Site) -> str:
    python = site.python or ("python3" if site.prefix else shlex.quote(sys.executable))
    return f"{site.prefix} {python}" if site.prefix else python


@contextmanager
def _clean_environment() -> Iterator[None]:
    """Remove SLURM's variables from the environment, so that no job inherits those of the job that submits it."""
    before, clean = dict(os.environ), outside_any_job()
    os.environ.clear()
    os.environ.update(clean)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
