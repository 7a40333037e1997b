"""A sweep on SLURM: checked and queued in one call, found again and cancelled by its folder alone.

Invariant: nothing is queued or written before everything that can be known here is checked; what the jobs run is a copy
of the code made at submission, whatever happens to the checkout while they wait.
"""

import getpass
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console

from cluster.site import Site, shipped_sites
from jobs.spec.validation import SpecError, read_mapping, settings_file, validate
from jobs.watching.slurm_view import OnSlurm, on_slurm
from storage.atomic import whole_folder, write_bytes
from storage.layout import SweepLayout
from storage.lock import sweep_lock

if TYPE_CHECKING:
    from cluster.scheduler import Submission
    from cluster.slurm import Jobs
    from jobs.spec.sweep import Spec

PACKAGES = ("cluster", "ganlab", "jobs", "monitoring", "storage")


def load_site(path: str | Path) -> Site:
    """Read CLUSTER.yaml: a file, or the name of a shipped one.

    Raises
    ------
    SpecError
        One line: file, key, value, what is allowed.
    """
    file = settings_file(path, shipped_sites(), "cluster file")
    data = read_mapping(file, list(Site.model_fields))
    try:
        return validate(Site, data)
    except SpecError as error:
        raise error.at(source=str(file)) from error


def trials_on(spec: "Spec", site: Site) -> int:
    """Number of trials that run at a time when every worker job runs."""
    from jobs.training.tune import trials_at_a_time

    nodes = min(site.nodes, site.array_parallelism or site.nodes)
    return trials_at_a_time(spec, {"CPU": site.cpus_per_node, "GPU": site.gpus_per_node}, nodes)


def workers_for(spec: "Spec", site: Site, trials: int) -> int:
    """Number of worker jobs, at least one, that so many trials can use."""
    from jobs.training.tune import trials_at_a_time

    node = {"CPU": site.cpus_per_node, "GPU": site.gpus_per_node}
    enough = (nodes for nodes in range(1, site.nodes) if trials_at_a_time(spec, node, nodes) >= trials)
    return next(enough, site.nodes)


def workers_now(spec: "Spec", site: Site, layout: SweepLayout) -> int:
    """Number of worker jobs that the trials can use that are not trained, or not measured to the end."""
    from jobs.training.tune import sweep_trials
    from storage.trial_state import read_end

    done = [
        trial
        for trial in sweep_trials(layout, spec)
        if read_end(layout.trial(trial.id)) and layout.pair_record(trial.id, trial.train.steps).exists()
    ]
    return workers_for(spec, site, len(spec.trials()) - len(done))


def check_fits(spec: "Spec", site: Site, site_path: str | Path) -> None:
    """Refuse trials that no node of the site could hold."""
    workers, resources = spec.workers_per_trial, spec.resources
    each = f"each of a trial's {workers} workers" if workers > 1 else "a trial"
    for kind, total, have in (
        ("gpus", resources.gpus_per_trial, site.gpus_per_node),
        ("cpus", resources.cpus_per_trial, site.cpus_per_node),
    ):
        if total / workers > have:
            raise SpecError(
                f"got {total:g}, so {each} needs {total / workers:g}, but {site_path} has {kind}_per_node = {have}; "
                f"allowed: at most {have * workers}",
                ("resources", f"{kind}_per_trial"),
                spec.source,
            )
    if trials_on(spec, site) == 0:
        raise SpecError(
            f"got {workers}, which do not fit on the {site.nodes} nodes of {site_path}; allowed: fewer workers, or more "
            "nodes there",
            ("train", "workers"),
            spec.source,
        )


@dataclass(frozen=True)
class Held:
    """Largest CPU- and GPU-hours of a sweep's jobs, if each runs to the end of its time.

    Attributes
    ----------
    workers
        Number of worker jobs.
    minutes
        Time of each.
    gpu_hours, cpu_hours
        Of all jobs together, the controller's with them.
    unused_gpus, unused_cpus
        Of each worker, that the trials running on it leave free.
    """

    workers: int
    minutes: int
    gpu_hours: float
    cpu_hours: float
    unused_gpus: float
    unused_cpus: float

    @property
    def words(self) -> str:
        """The same in one line."""
        free = [f"{count:g} {kind}s" for count, kind in ((self.unused_gpus, "GPU"), (self.unused_cpus, "CPU")) if count]
        line = (
            f"at most {self.gpu_hours:.1f} GPU-hours and {self.cpu_hours:.1f} CPU-hours, by {self.workers} workers of "
            f"{self.minutes} min; with work left they run again"
        )
        return f"{line}; trials leave {' and '.join(free)} of each worker unused" if free else line


def held(spec: "Spec", site: Site, workers: int) -> Held:
    """Return what so many worker jobs and the controller hold."""
    from jobs.training.tune import trials_at_a_time

    share, resources = spec.workers_per_trial, spec.resources
    node = {"CPU": site.cpus_per_node, "GPU": site.gpus_per_node}
    on_one = trials_at_a_time(spec, node, share)  # processes of trials on one worker
    hours, own = site.time_min / 60, site.controller
    return Held(
        workers,
        site.time_min,
        workers * site.gpus_per_node * hours,
        workers * site.cpus_per_node * hours + own.cpus * (own.time_min or site.time_min) / 60,
        site.gpus_per_node - on_one * resources.gpus_per_trial / share,
        site.cpus_per_node - on_one * resources.cpus_per_trial / share,
    )


def unused_gpus(spec: "Spec", site: Site, site_path: str | Path) -> str | None:
    """Warning for workers with GPUs that no trial requests."""
    if spec.resources.gpus_per_trial or not site.gpus_per_node:
        return None
    return f"{spec.source}: resources.gpus_per_trial is 0, so the GPUs of each worker in {site_path} will be idle"


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

    site = load_site(site_path)
    check_fits(spec, site, site_path)
    check_place(spec, layout)
    check_site(site)
    if (warning := tiny_memory(site)) is not None:
        console.print(f"{site_path}: {warning}")
    from cluster.slurm import submit  # late: a refusal takes no seconds
    from jobs.cli.pipeline import check_folder, check_memory, prepare_folder

    dataset = check_folder(spec, layout, console)
    memory = spec.resources.measure_memory_bytes(site.measure_memory_bytes)
    more = f"a larger measure_memory_gb; in {site_path} fewer measure_workers, or a larger mem_gb"
    check_memory(spec, layout, dataset, memory, more)
    new = not layout.root.exists()
    try:
        with sweep_lock(layout, f"ganlab submit {spec.source}"):
            check_shared(site, layout.cluster)
            prepare_folder(spec, layout, dataset, console)
            layout.trained.unlink(missing_ok=True)
            write_bytes(layout.site, yaml.safe_dump(site.model_dump(mode="json"), sort_keys=False).encode())
            copy_code(layout)
            few = site.model_copy(update={"nodes": workers_now(spec, site, layout)})
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

    site = load_site(site_path)
    check_fits(spec, site, site_path)
    few = site.model_copy(update={"nodes": workers_now(spec, site, layout)})
    try:
        return job_scripts(few, jobs_for(spec, layout), largest_array())
    except SchedulerError:  # not a login node: SLURM's default
        return job_scripts(few, jobs_for(spec, layout))
