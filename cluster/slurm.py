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
from collections.abc import Callable, Collection, Iterator, Sequence
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
    read_submission,
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
    kind: str | None = None  # of worker; None of a controller

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


def job_scripts(kinds: Sequence[Site], jobs: Jobs, largest: int = 1001) -> dict[str, str]:
    """Return the exact submission scripts by title, of a site with these kinds of worker; needs no SLURM.

    `largest` is SLURM's MaxArraySize. Only the job's name and the dependency are filled in at submission, and shown here
    as ``<…>``.
    """
    from submitit.slurm import slurm

    scripts = {}
    for array in _arrays(kinds, jobs, "<job name>", largest):
        if array.kind is not None:
            array = array.when("after:<controller job>")
        command = f"{_python(kinds[0])} -u -m submitit.core._submit {shlex.quote(str(jobs.logs))}"
        count = {"map_count": array.tasks} if array.tasks > 1 else {}
        scripts[array.title] = slurm._make_sbatch_string(command, jobs.logs, **array.parameters, **count)
    return scripts


def submit(kinds: Sequence[Site], jobs: Jobs, after: str = "") -> Submission:
    """Queue the controller and the workers of each kind, and record their ids in the folder.

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
    before = read_submission(jobs.folder)
    submission = Submission(
        f"ganlab-{jobs.name}-{secrets.token_hex(4)}",
        "",
        (),
        sum(kind.nodes for kind in kinds),
        socket.gethostname(),
        getpass.getuser(),
        time.strftime("%FT%T%z"),
        asked={kind.name: kind.nodes for kind in kinds},
    )
    _prepare(jobs)
    # By their name the jobs are found, should this command be killed before it has their ids.
    write_submission(jobs.folder, submission)
    controller = ""
    try:
        for array in _arrays(kinds, jobs, submission.name, largest):
            dependency = f"after:{controller}" if controller else f"afterok:{after}" if after else ""
            number = _queue(kinds[0], jobs, array.when(dependency) if dependency else array)
            if array.kind is None:
                controller = number
            else:  # without the controller, which waits while this record changes
                submission = submission.with_workers([number], array.kind)
                write_submission(jobs.folder, submission)
    except BaseException:
        try:  # by their name, since the id of the last one may be lost
            ask(["scancel", "--quiet", f"--name={submission.name}", f"--user={submission.user}"])
        except SchedulerError:  # the record stays: jobs that may be there have its name
            pass
        else:
            if before is None:
                ClusterFolder(jobs.folder).submission.unlink(missing_ok=True)
            else:
                write_submission(jobs.folder, before)
        raise
    submission = replace(submission, controller=controller, controllers=(controller,))
    write_submission(jobs.folder, submission)
    return submission


@dataclass(frozen=True)
class Orders:
    """Submissions of a running controller: workers in place of lost ones, and its own successor.

    Attributes
    ----------
    kinds, jobs
        As `submit` was given them.
    largest
        SLURM's MaxArraySize.
    """

    kinds: tuple[Site, ...]
    jobs: Jobs
    largest: int

    def workers(self, name: str, kind: str, count: int, left_out: Collection[str]) -> list[str]:
        """Submit so many worker jobs of a kind, on none of some nodes; returns their ids.

        Raises RefusedError, SchedulerError.
        """
        few = [site.model_copy(update={"nodes": count if site.name == kind else 0}) for site in self.kinds]
        return [
            _queue(self.kinds[0], self.jobs, array.without(left_out))
            for array in _arrays(few, self.jobs, name, self.largest)
            if array.kind is not None
        ]

    def successor(self, name: str, dependency: str = "") -> str:
        """Submit a controller; returns its id. Raises RefusedError, SchedulerError."""
        array = next(_arrays(self.kinds, self.jobs, name, self.largest))
        return _queue(self.kinds[0], self.jobs, array.when(dependency) if dependency else array)


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


def _arrays(kinds: Sequence[Site], jobs: Jobs, name: str, largest: int) -> Iterator[_Array]:
    """Yield the controller, then the workers of each kind in arrays that SLURM accepts."""
    first = kinds[0]
    head = partial(run_controller, jobs.folder, jobs.logs, first, jobs.children, Orders(tuple(kinds), jobs, largest))
    yield _Array("controller", 1, head, _common(first, jobs, name, controller=True) | _controller_parameters(first))
    for kind in (each for each in kinds if each.nodes):
        node = partial(run_worker, jobs.folder, jobs.logs, kind)
        sizes = [min(largest, kind.nodes - start) for start in range(0, kind.nodes, largest)]
        at_once = _shares(kind.array_parallelism or kind.nodes, sizes)
        for number, (size, parallel) in enumerate(zip(sizes, at_once, strict=True), 1):
            parameters = _common(kind, jobs, name) | _worker_parameters(kind) | {"array_parallelism": parallel}
            title = " ".join(filter(None, ["workers", kind.name, str(number) if number > 1 else ""]))
            yield _Array(title, size, node, parameters, kind.name)


def _shares(total: int, sizes: list[int]) -> list[int]:
    """Split what may run at once over arrays, in proportion; at least 1 each, so that the sum may be larger."""
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
