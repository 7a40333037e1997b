"""The whole job on one machine: prepare the folder, train every trial, compare all pairs, write results and report.

Invariant: any part may be killed at any moment; the same call keeps what is finished and does the rest.
"""

import importlib.metadata
import math
import os
import platform
import subprocess
from contextlib import ExitStack
from pathlib import Path

import yaml
from rich.console import Console

from cluster.local import local_dask, local_ray, local_resources
from ganlab.datasets import Dataset
from jobs.answers import write_answers
from jobs.data import dataset_fingerprint, load_dataset
from jobs.measure import measure_snapshots, real_neighbours_of, threshold_of, unmeasured
from jobs.plan import shard_plan
from jobs.progress import Bar, SweepProgress, reading_bar
from jobs.report import write_report
from jobs.samples import InMemory, Map, SampleAnswer, measure_samples, open_samples
from jobs.spec import Spec, SpecError, difference, load_spec
from jobs.sweep import run_trials, sweep_trials, trial_state, unfinished
from storage.atomic import write_bytes
from storage.layout import SweepLayout
from storage.lock import SweepBusyError, is_unused, lock_holder, sweep_lock
from storage.reference import write_reference

RECORDED_VERSIONS = ("ganlab", "numpy", "ray", "torch", "zarr")
DASK_FROM_PRODUCTS = 1e12  # products of two values below which starting workers takes longer than comparing
MEMORY_SHARE = 0.5  # of the machine's memory, for all measuring workers together


def run_sweep(spec: Spec, layout: SweepLayout, console: Console) -> int:
    """Bring the sweep in this folder to its end, from wherever it stands; returns how many trials failed."""
    dataset = check_folder(spec, layout, console)
    with sweep_lock(layout, f"ganlab run {spec.source}"):
        prepare_folder(spec, layout, dataset)
        train_all(spec, layout, console)
        measure_all(spec, layout, console)
    states = [trial_state(layout, trial.id) for trial in sweep_trials(layout, spec)]
    return sum(state is None or state.status == "failed" for state in states)


def measure_folder(layout: SweepLayout, console: Console) -> None:
    """Measure what is committed in a sweep so far."""
    spec = load_spec(layout.spec)
    with sweep_lock(layout, f"ganlab measure {layout.root}"):
        measure_all(spec, layout, console)


def check_folder(spec: Spec, layout: SweepLayout, console: Console) -> Dataset | None:
    """Find every fault that can be known before anything is written, and read the training images.

    Returns
    -------
    Dataset or None
        The training images; None when the folder has them already.
    """
    _check_resources(spec)
    if (holder := lock_holder(layout)) is not None:
        raise SweepBusyError(layout, holder)
    if layout.spec.exists():
        if differences := difference(load_spec(layout.spec), spec):
            raise SpecError(f"{layout.root} was made by another sweep file: {'; '.join(differences)}; "
                            "give another folder with --out", source=spec.source)  # fmt: skip
    elif layout.root.exists() and not is_unused(layout):
        raise SpecError(f"{layout.root} is no sweep folder and not empty; give another folder with --out",
                        source=spec.source)  # fmt: skip
    if layout.reference.exists():
        return None
    with reading_bar(console, "Reading images") as progress:
        dataset = load_dataset(spec.dataset, progress, spec.source)
    for path in dataset.skipped:
        console.print(f"left out, unreadable: {path}")
    for trial in spec.trials():
        try:
            shard_plan(trial, dataset.images.shape[1:])
        except ValueError as error:
            raise SpecError(str(error), ("samples",), spec.source) from None
    return dataset


def prepare_folder(spec: Spec, layout: SweepLayout, dataset: Dataset | None) -> None:
    """Write the resolved spec and the training images, unless they are there."""
    layout.logs.mkdir(parents=True, exist_ok=True)
    on_disk = load_spec(layout.spec) if layout.spec.exists() else None
    if on_disk is None or on_disk.resolved({}) != spec.resolved({}):
        content = yaml.safe_dump(spec.resolved(provenance()), sort_keys=False, allow_unicode=True)
        write_bytes(layout.spec, content.encode())
    if dataset is not None:
        write_reference(layout, dataset.images, dataset.labels, fingerprint=dataset_fingerprint(spec.dataset))


def train_all(spec: Spec, layout: SweepLayout, console: Console) -> None:
    """Run every trial that is not done."""
    trials = sweep_trials(layout, spec)
    if not unfinished(layout, trials) and len(trials) >= len(spec.trials()):
        console.print(f"Training: all {len(trials)} trials are done")
        return
    steps = {trial.id: trial.train.steps for trial in trials}
    ended = {trial.id: state.status for trial in trials
             if (state := trial_state(layout, trial.id)) and state.status != "failed"}  # fmt: skip
    with local_ray(), Bar(console, "Training", sum(steps.values())) as bar:
        run_trials(layout, spec, SweepProgress(bar, steps, ended), local_resources())


def _check_resources(spec: Spec) -> None:
    available = local_resources()
    wanted = {"GPU": ("gpus_per_trial", spec.resources.gpus_per_trial),
              "CPU": ("cpus_per_trial", spec.resources.cpus_per_trial)}  # fmt: skip
    for kind, (key, amount) in wanted.items():
        if amount > (have := available[kind]):
            raise SpecError(f"got {amount:g}, but this machine has {have} {kind}s; allowed: at most {have} "
                            f"(--set resources.{key}={have})", ("resources", key), spec.source)  # fmt: skip


def measure_all(spec: Spec, layout: SweepLayout, console: Console) -> None:
    """Compare all pairs of what is committed, then write results and report."""
    workers = spec.resources.measure_workers or local_resources()["CPU"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE / workers
    if spec.resources.measure_memory_gb is not None:
        memory = spec.resources.measure_memory_gb * 1e9
    trials = sweep_trials(layout, spec)
    real = real_neighbours_of(layout)
    threshold_squared = threshold_of(spec.collisions, real)
    if wanted := unmeasured(layout, trials, spec.collisions, threshold_squared):
        with local_dask(workers, int(memory)) as map, Bar(console, "Comparing pairs", 1.0) as bar:

            def progress(done: float, total: float) -> None:
                bar.update(done / total, f"{done:.3g} of {total:.3g} pairs")

            measure_snapshots(layout, wanted, spec.collisions, threshold_squared, int(memory), map, progress)
    write_answers(layout, spec, trials, real, threshold_squared)
    write_report(layout)


def measure_path(
    path: Path, threshold: float | None, reference: Path | None, resize: int | None, console: Console
) -> SampleAnswer:
    """Measure anyone's samples; Dask's workers share the work when it is long and the samples lie in a file."""
    with reading_bar(console, "Reading pictures") as reading:
        source = open_samples(path, resize, reading)
        real = None if reference is None else open_samples(reference, resize, reading)
    workers = local_resources()["CPU"]
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE / workers)
    products = source.shape[0] ** 2 / 2 * math.prod(source.shape[1:])
    with ExitStack() as stack:
        map_tiles: Map = map
        if products > DASK_FROM_PRODUCTS and not isinstance(source, InMemory):
            map_tiles = stack.enter_context(local_dask(workers, memory))
        bar = stack.enter_context(Bar(console, "Comparing pairs", 1.0))

        def progress(done: float, total: float) -> None:
            bar.update(done / total, f"{done:.3g} of {total:.3g} pairs")

        try:
            return measure_samples(path, source, real, threshold, memory, map_tiles, progress)
        except ValueError as error:  # values that can't be compared, found while reading
            raise error if isinstance(error, SpecError) else SpecError(f"{path}: {error}") from error


def provenance() -> dict[str, str]:
    """Versions and commit that a sweep's own copy of its spec records."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED_VERSIONS}
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True,
                           check=False)  # fmt: skip
    commit = {"commit": found.stdout.strip()} if found.returncode == 0 else {}
    return versions | commit | {"python": platform.python_version()}
