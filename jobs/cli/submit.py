"""A sweep on SLURM: checked and queued in one call, found again and cancelled by its folder alone.

Invariant: nothing is queued or written before everything that can be known here is checked; what the jobs run is a copy
of the code made at submission, whatever happens to the checkout while they wait.
"""

import getpass
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console

from cluster.rendezvous import Demand
from cluster.site import Site
from ganlab.quality.embeddings.names import folder_name
from jobs.cli.cluster_file import load_site, site_content
from jobs.spec.validation import SpecError
from jobs.watching.slurm_view import OnSlurm, on_slurm
from storage.atomic import whole_folder, write_bytes
from storage.layout import SweepLayout
from storage.lock import is_unused, sweep_lock

if TYPE_CHECKING:
    from cluster.scheduler import Submission
    from cluster.slurm import Jobs
    from jobs.spec.sweep import Spec

PACKAGES = ("cluster", "ganlab", "jobs", "monitoring", "storage")


def processes_of(spec: "Spec", kind: Site) -> int:
    """Number of processes of trials that a worker of this kind holds at a time."""
    from jobs.training.tune import processes_on

    return processes_on(spec, {"CPU": kind.cpus_per_node, "GPU": kind.gpus_per_node})


def trials_on(spec: "Spec", kinds: Sequence[Site]) -> int:
    """Number of trials that run at a time when every worker job runs."""
    at_once = (processes_of(spec, kind) * min(kind.nodes, kind.array_parallelism or kind.nodes) for kind in kinds)
    return sum(at_once) // spec.workers_per_trial


def demand_for(spec: "Spec", kinds: Sequence[Site], trials: int) -> Demand:
    """Return what so many trials still ask of the workers."""
    held = {kind.name: processes_of(spec, kind) for kind in kinds}
    return Demand(max(1, trials) * spec.workers_per_trial, held)


def workers_for(spec: "Spec", kinds: Sequence[Site], trials: int) -> tuple[Site, ...]:
    """Return the kinds with as many `nodes` as so many trials can use, of the first ones first; at least one in all."""
    demand = demand_for(spec, kinds, trials)
    jobs = [kind.name for kind in kinds if demand.held[kind.name] for _ in range(kind.nodes)]
    return with_nodes(kinds, Counter(jobs[: demand.enough(jobs)]))


def with_nodes(kinds: Sequence[Site], nodes: Mapping[str, int]) -> tuple[Site, ...]:
    """Return the kinds with so many nodes, by name; none of those that are not named."""
    return tuple(kind.model_copy(update={"nodes": nodes.get(kind.name, 0)}) for kind in kinds)


def workers_now(spec: "Spec", kinds: Sequence[Site], layout: SweepLayout) -> tuple[Site, ...]:
    """Return the kinds with as many nodes as the trials can use that are not trained, or not measured to the end."""
    from jobs.training.tune import sweep_trials
    from storage.trial_state import read_end

    own = layout.in_space(folder_name(spec.collisions.embedding))
    done = [
        trial
        for trial in sweep_trials(layout, spec)
        if read_end(layout.trial(trial.id)) and own.pair_record(trial.id, trial.train.steps).exists()
    ]
    return workers_for(spec, kinds, len(spec.trials()) - len(done))


def measure_memory_bytes(spec: "Spec", kinds: Sequence[Site]) -> int:
    """Memory of the smallest measuring process on workers that hold trials."""
    measuring = [kind for kind in kinds if kind.measure_workers and processes_of(spec, kind)]
    return min(kind.measure_memory_bytes for kind in measuring or kinds)


def check_fits(spec: "Spec", kinds: Sequence[Site], site_path: str | Path) -> None:
    """Refuse trials that no node of the site could hold."""
    workers, resources = spec.workers_per_trial, spec.resources
    each = f"each of a trial's {workers} workers" if workers > 1 else "a trial"
    needs = {"gpus": resources.gpus_per_trial, "cpus": resources.cpus_per_trial}
    for unit, total in needs.items():
        have = max(getattr(kind, f"{unit}_per_node") for kind in kinds)
        if total / workers > have:
            most = "at most " if len(kinds) > 1 else ""
            raise SpecError(
                f"got {total:g}, so {each} needs {total / workers:g}, but {site_path} has {most}{unit}_per_node = "
                f"{have}; allowed: at most {have * workers}",
                ("resources", f"{unit}_per_trial"),
                spec.source,
            )
    if not any(processes_of(spec, kind) for kind in kinds):
        there = ", ".join(f"{kind.name} {kind.gpus_per_node} and {kind.cpus_per_node}" for kind in kinds)
        raise SpecError(
            f"got {needs['gpus']:g}, so {each} needs {needs['gpus'] / workers:g} GPUs and {needs['cpus'] / workers:g} "
            f"CPUs, but no kind of worker of {site_path} has both ({there}); allowed: what one of them has",
            ("resources", "gpus_per_trial"),
            spec.source,
        )
    if trials_on(spec, kinds) == 0:
        nodes = sum(kind.nodes for kind in kinds)
        raise SpecError(
            f"got {workers}, which do not fit on the {nodes} nodes of {site_path}; allowed: fewer workers, or more "
            "nodes there",
            ("train", "workers"),
            spec.source,
        )


@dataclass(frozen=True)
class HeldByKind:
    """Largest CPU- and GPU-hours of the worker jobs of one kind, if each runs to the end of its time.

    Attributes
    ----------
    kind
        Name of the kind; empty where there is one.
    workers, minutes
        Number of jobs, and time of each.
    gpu_hours, cpu_hours
        Of all of them together.
    unused_gpus, unused_cpus
        Of each worker, that the trials running on it leave free.
    """

    kind: str
    workers: int
    minutes: int
    gpu_hours: float
    cpu_hours: float
    unused_gpus: float
    unused_cpus: float

    @property
    def named(self) -> str:
        """Name of a job of this kind."""
        return f"{self.kind} worker" if self.kind else "worker"


@dataclass(frozen=True)
class Held:
    """Largest CPU- and GPU-hours of a sweep's jobs, if each runs to the end of its time.

    Attributes
    ----------
    workers
        Number of worker jobs.
    minutes
        Time of each; the longest.
    gpu_hours, cpu_hours
        Of all jobs together, the controller's with them.
    unused_gpus, unused_cpus
        Of each worker, that the trials running on it leave free; of the kind where it is most.
    kinds
        What the jobs of each kind of worker hold.
    """

    workers: int
    minutes: int
    gpu_hours: float
    cpu_hours: float
    unused_gpus: float
    unused_cpus: float
    kinds: tuple[HeldByKind, ...]

    @property
    def words(self) -> str:
        """Hours of the jobs and what each leaves unused, in one line."""
        by = " and ".join(f"{kind.workers} {kind.named}s of {kind.minutes} min" for kind in self.kinds)
        parts = [
            f"at most {self.gpu_hours:.1f} GPU-hours and {self.cpu_hours:.1f} CPU-hours, by {by}",
            "with work left they run again",
        ]
        for kind in self.kinds:
            unused = ((kind.unused_gpus, "GPU"), (kind.unused_cpus, "CPU"))
            if free := [f"{count:g} {unit}s" for count, unit in unused if count]:
                parts.append(f"trials leave {' and '.join(free)} of each {kind.named} unused")
        return "; ".join(parts)


def held(spec: "Spec", kinds: Sequence[Site]) -> Held:
    """Return what the worker jobs of these kinds and the controller hold."""
    share, resources = spec.workers_per_trial, spec.resources
    own = kinds[0].controller

    def of(kind: Site) -> HeldByKind:
        processes, hours = processes_of(spec, kind), kind.time_min / 60
        return HeldByKind(
            kind.name,
            kind.nodes,
            kind.time_min,
            kind.nodes * kind.gpus_per_node * hours,
            kind.nodes * kind.cpus_per_node * hours,
            kind.gpus_per_node - processes * resources.gpus_per_trial / share,
            kind.cpus_per_node - processes * resources.cpus_per_trial / share,
        )

    each = tuple(of(kind) for kind in kinds if kind.nodes)
    return Held(
        sum(one.workers for one in each),
        max(one.minutes for one in each),
        sum(one.gpu_hours for one in each),
        sum(one.cpu_hours for one in each) + own.cpus * (own.time_min or kinds[0].time_min) / 60,
        max(one.unused_gpus for one in each),
        max(one.unused_cpus for one in each),
        each,
    )


def unused_gpus(spec: "Spec", kinds: Sequence[Site], site_path: str | Path) -> str | None:
    """Warning for workers with GPUs that no trial requests."""
    idle = [kind.name for kind in kinds if kind.gpus_per_node and kind.nodes]
    if spec.resources.gpus_per_trial or not idle:
        return None
    names = f" ({', '.join(idle)})" if len(kinds) > 1 else ""
    return (
        f"{spec.source}: resources.gpus_per_trial is 0, so the GPUs of each worker{names} in {site_path} will be idle"
    )


def unused_kinds(spec: "Spec", kinds: Sequence[Site], site_path: str | Path) -> str | None:
    """Warning for kinds of worker on which no trial fits."""
    names = [kind.name for kind in kinds if not processes_of(spec, kind)]
    return f"{site_path}: no trial fits on workers {', '.join(names)}, so none of them is started" if names else None


def submit_sweep(
    spec: "Spec", site_path: str | Path, layout: SweepLayout, console: Console, after: str = ""
) -> "Submission":
    """Check everything, copy the code, queue the controller and the workers, and return.

    They begin when the job `after`, if one is given, has ended well.

    Raises
    ------
    SpecError, SweepBusyError, cluster.scheduler.RefusedError
        What to change; nothing is queued.
    """
    from cluster.checks import check_shared, check_site, tiny_memory
    from cluster.scheduler import RefusedError
    from jobs.training.preflight import check_place

    kinds = load_site(site_path)
    check_fits(spec, kinds, site_path)
    check_place(spec, layout)
    few = workers_now(spec, kinds, layout)
    useful = with_nodes(kinds, {kind.name: kind.nodes for kind in kinds if processes_of(spec, kind)})
    check_site(useful)
    if (warning := tiny_memory(useful)) is not None:
        console.print(f"{site_path}: {warning}")
    from cluster.slurm import submit  # late: a refusal takes no seconds
    from jobs.cli.pipeline import check_folder, check_memory, check_no_jobs, prepare_folder

    dataset = check_folder(spec, layout, console)
    memory = spec.resources.measure_memory_bytes(measure_memory_bytes(spec, kinds))
    more = f"a larger measure_memory_gb; in {site_path} fewer measure_workers, or a larger mem_gb"
    check_memory(spec, layout, dataset, memory, more)
    absent = not layout.root.exists()
    with sweep_lock(layout, f"ganlab submit {spec.source}"):
        check_no_jobs(layout)  # another command may have queued some while the images were read
        new = absent and is_unused(layout)
        try:
            check_shared([kind for kind in few if kind.nodes], layout.cluster)
            prepare_folder(spec, layout, dataset, console)
            layout.trained.unlink(missing_ok=True)
            write_bytes(layout.site, yaml.safe_dump(site_content(kinds), sort_keys=False).encode())
            copy_code(layout)
            return submit(few, jobs_for(spec, layout), after)
        except RefusedError:
            if new:
                shutil.rmtree(layout.root, ignore_errors=True)
            raise


def jobs_for(spec: "Spec", layout: SweepLayout) -> "Jobs":
    """Commands of a sweep's jobs."""
    from cluster.controller import Child
    from cluster.slurm import Jobs

    def child(name: str, *command: str, required: bool = True) -> Child:
        return Child(name, ("{python}", "-m", *command), required)

    folder = str(layout.root)
    return Jobs(
        name=spec.name,
        folder=layout.cluster,
        logs=layout.logs,
        code=layout.code,
        children=(
            child("train", "jobs.cli.driver", "train", folder),
            child("measure", "jobs.cli.driver", "measure", folder),
            child("monitor", "jobs.watching.monitor", folder, "--controller", required=False),
        ),
    )


def copy_code(layout: SweepLayout) -> None:
    """Copy the packages that run here to where the jobs will import them from."""
    source = Path(__file__).resolve().parents[2]
    with whole_folder(layout.code) as folder:
        for package in PACKAGES:
            shutil.copytree(source / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))


def cancel_sweep(layout: SweepLayout) -> OnSlurm:
    """End every job of the sweep; returns how it stood before, `unknown` saying what SLURM did not do.

    Raises
    ------
    SpecError
        The sweep was never submitted, or not by this user.
    """
    from cluster.scheduler import SchedulerError, cancel

    before = on_slurm(layout)
    if before is None:
        raise SpecError(
            f"{layout.root}: was not submitted to SLURM, so there is nothing to cancel; Ctrl-C ends `ganlab run`"
        )
    if before.jobs is None or before.jobs:
        try:
            cancel(layout.cluster)
            before = replace(before, unknown="")
        except PermissionError:
            who = before.submission.user
            raise SpecError(
                f"{layout.root}: was submitted by {who}, and you are {getpass.getuser()}; allowed: the same "
                "user, who may end it"
            ) from None
        except SchedulerError as error:  # the note that is left in the folder ends what runs
            before = replace(before, unknown=str(error))
    layout.targets.unlink(missing_ok=True)  # an ended sweep is not one whose metrics are missing
    return before


def scripts(spec: "Spec", site_path: str | Path, layout: SweepLayout) -> Mapping[str, str]:
    """The exact submission scripts, by job."""
    from cluster.scheduler import SchedulerError, largest_array
    from cluster.slurm import job_scripts

    kinds = load_site(site_path)
    check_fits(spec, kinds, site_path)
    few = workers_now(spec, kinds, layout)
    try:
        return job_scripts(few, jobs_for(spec, layout), largest_array())
    except SchedulerError:  # not a login node: SLURM's default
        return job_scripts(few, jobs_for(spec, layout))
