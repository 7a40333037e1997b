"""The stages of a sweep, and all of them on one machine: prepare the folder, train the trials, compare all pairs, report.

Invariant: any part may be killed at any moment; the same call keeps what is finished and does the rest. The drivers of a
submitted sweep (`jobs.cli.driver`) run the same stages.
"""

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import yaml
from rich.console import Console

from cluster.local import local_dask, local_memory_bytes, local_processes, local_ray, local_resources
from ganlab.data.datasets import Dataset
from ganlab.data.pictures import Frames
from ganlab.memory import keep_freed_memory
from ganlab.quality.embedding import check_labelled
from ganlab.quality.embeddings.names import default_embedding, needs_classifier
from jobs.console.progress import Bar, PairsBar, SweepProgress, reading_bar, spinner
from jobs.measuring.answers import write_answers
from jobs.measuring.comparison import Map, alone_first
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.measuring.moved import check_movable
from jobs.measuring.sample_answer import SampleAnswer, measure_samples
from jobs.measuring.samples import (
    InMemory,
    Opened,
    Reading,
    check_alike,
    in_embedding,
    is_long,
    keep_in_cache,
    open_samples,
)
from jobs.measuring.space import PIXELS, check_setting
from jobs.spec.datasets import dataset_fingerprint, held_out_in_words, load_dataset
from jobs.spec.sections import Threshold
from jobs.spec.sweep import Spec, SpecError, load_spec
from jobs.training.plan import check_enough, check_sweep, try_imported
from jobs.training.preflight import (
    HERE,
    MEMORY_SHARE,
    check_dataset,
    check_memory_for,
    check_place,
    check_resources,
    disk_fault,
    measuring,
)
from jobs.training.trial_index import write_known
from jobs.training.tune import run_trials, sweep_trials, trials_at_a_time, try_failed_again, unfinished
from jobs.training.user_models import keep_code
from storage.atomic import write_bytes
from storage.layout import SweepLayout
from storage.lock import SweepBusyError, lock_holder, publishing, sweep_lock
from storage.reference import read_reference, write_reference
from storage.trial_state import read_end

RECORDED_VERSIONS = ("ganlab", "numpy", "ray", "torch", "zarr")
FAILURES_SHOWN = 5  # at the end of a run; `ganlab status` shows all


def run_sweep(spec: Spec, layout: SweepLayout, console: Console) -> int:
    """Bring the sweep in this folder to its end, from wherever it stands; returns how many trials failed."""
    check_resources(spec)
    dataset = check_folder(spec, layout, console)
    check_memory(spec, layout, dataset, measuring(spec)[1], HERE)
    if dataset is not None:
        try_imported(spec.trials(), dataset.images.shape[1:], spec.source, spec.resources.torch_device)
    with sweep_lock(layout, f"ganlab run {spec.source}"):
        check_no_jobs(layout)
        prepare_folder(spec, layout, dataset, console)
        train_all(spec, layout, console, local_ray, trials_at_a_time(spec, local_resources()))
        measure_all(spec, layout, console)
    failed = failed_trials(layout, spec)
    for trial_id, reason in islice(failed.items(), FAILURES_SHOWN):
        console.print(f"failed: {trial_id}: {reason}")
    return len(failed)


def failed_trials(layout: SweepLayout, spec: Spec) -> dict[str, str]:
    """Reasons of the trials of an ended sweep that failed, by id."""
    ends = {trial.id: read_end(layout.trial(trial.id)) for trial in sweep_trials(layout, spec)}
    return {
        trial_id: str(end.reason) if end else "not tried to its end"
        for trial_id, end in ends.items()
        if end is None or end.status == "failed"
    }


def measure_folder(
    layout: SweepLayout, console: Console, embedding: str | None = None, *, moved_copies: bool = False
) -> None:
    """Measure what is committed in a sweep so far.

    Parameters
    ----------
    embedding
        Another embedding than its own.
    moved_copies
        Look for moved copies, which its settings may do, too.
    """
    spec = load_spec(layout.spec)
    if not layout.reference.exists():
        raise SpecError(f"{layout.root}: nothing to measure here yet; run its sweep first, with this folder as --out")
    if embedding is not None and embedding != spec.collisions.embedding:
        if isinstance(spec.collisions.threshold, float):
            raise SpecError(
                f"--embedding {embedding}: the sweep's collisions.threshold = {spec.collisions.threshold:g} is a "
                f"distance in {spec.collisions.embedding}; allowed: another embedding for sweeps whose threshold "
                "is auto, a rate or a quantile"
            )
        collisions = spec.collisions.model_copy(update={"embedding": embedding})
        spec = spec.model_copy(update={"collisions": collisions})
    if moved_copies:
        reference = read_reference(layout)
        check_movable(len(reference.shape) == 4, reference, f"--moved-copies: {layout.root}", "no --moved-copies")
        collisions = spec.collisions.model_copy(update={"moved_copies": True})
        spec = spec.model_copy(update={"collisions": collisions})
    check_memory(spec, layout, None, measuring(spec)[1], HERE)
    check_unused(layout)
    with sweep_lock(layout, f"ganlab measure {layout.root}"):
        check_no_jobs(layout)
        measure_all(spec, layout, console)


def check_folder(spec: Spec, layout: SweepLayout, console: Console) -> Dataset | None:
    """Find every fault that can be known before anything is written, and read the training images.

    Returns
    -------
    Dataset or None
        The training images; None when the folder has them already.
    """
    check_unused(layout)
    check_place(spec, layout)
    if layout.reference.exists():
        return None
    check_dataset(spec)
    _, plans = check_sweep(spec)
    if fault := disk_fault(layout, sum(plan.bytes for plan in plans)):
        raise SpecError(fault, ("samples",), spec.source)
    with reading_bar(console, "Reading images") as progress:
        dataset = load_dataset(spec.dataset, progress, spec.source)
    check_enough(len(dataset.images), spec.source)
    if needs_classifier(spec.collisions.embedding):
        try:
            check_labelled(dataset.images, dataset.labels)
        except ValueError as error:
            raise SpecError(
                f"got {spec.collisions.embedding}, but dataset {spec.dataset.name} cannot train one: {error}",
                ("collisions", "embedding"),
                spec.source,
            ) from None
    if spec.collisions.embedding != PIXELS.setting:
        check_setting(spec.collisions.embedding, dataset.images.shape[1:], f"{spec.source}: collisions.embedding")
    if spec.collisions.moved_copies:
        asked = f"{spec.source}: collisions.moved_copies: dataset {spec.dataset.name}"
        check_movable(dataset.images.ndim == 4, dataset.images, asked, "false")
    if dataset.read is not None:
        console.print(f"read {dataset.read}")
    for path in dataset.skipped:
        console.print(f"left out, unreadable: {path}")
    return dataset


def check_unused(layout: SweepLayout) -> None:
    """Raise SweepBusyError when another command, or jobs on SLURM, work on the sweep."""
    if (holder := lock_holder(layout)) is not None:
        raise SweepBusyError(layout, holder)
    check_no_jobs(layout)


def check_no_jobs(layout: SweepLayout) -> None:
    """Raise SweepBusyError when jobs on SLURM work on the sweep."""
    from jobs.watching.slurm_view import on_slurm  # late: most sweeps never meet SLURM

    slurm = on_slurm(layout)
    if slurm is not None and slurm.holder is not None:
        raise SweepBusyError(layout, slurm.holder)


def prepare_folder(spec: Spec, layout: SweepLayout, dataset: Dataset | None, console: Console | None = None) -> None:
    """Write the resolved spec and the training images, unless they are there; trials that failed are to run again."""
    keep_code(spec, layout)
    layout.logs.mkdir(parents=True, exist_ok=True)
    on_disk = load_spec(layout.spec) if layout.spec.exists() else None
    if on_disk is None or on_disk.resolved({}) != spec.resolved({}):
        content = yaml.safe_dump(spec.resolved(provenance()), sort_keys=False, allow_unicode=True)
        write_bytes(layout.spec, content.encode())
    write_known(spec, layout)
    if dataset is not None:
        others = dataset.held_out
        write_reference(
            layout,
            dataset.images,
            dataset.labels,
            fingerprint=dataset_fingerprint(spec.dataset),
            held_out=None if others is None else (others.images, others.labels),
        )
        if others is not None and console is not None:
            console.print(f"held out {held_out_in_words(dataset)}")
    try_failed_again(layout, sweep_trials(layout, spec))


def train_all(
    spec: Spec,
    layout: SweepLayout,
    console: Console,
    ray: Callable[[], AbstractContextManager[None]],
    concurrent: int,
    told: Callable[[int], None] = lambda ended: None,
) -> None:
    """Run every trial that is not done, `concurrent` at a time, on the cluster that is there inside ``ray()``.

    `told` is called with the number of trials that have ended, at the start and after each.
    """
    trials = sweep_trials(layout, spec)
    if not unfinished(layout, trials) and len(trials) >= len(spec.trials()):
        console.print(f"Training: all {len(trials)} trials are done")
        return
    steps = {trial.id: trial.train.steps for trial in trials}
    ended = {trial.id: end.status for trial in trials if (end := read_end(layout.trial(trial.id)))}
    with ray(), Bar(console, "Training", sum(steps.values())) as bar:
        run_trials(layout, spec, SweepProgress(bar, steps, ended, told), concurrent)


def check_memory(spec: Spec, layout: SweepLayout, dataset: Dataset | None, memory_bytes: int, allowed: str) -> None:
    """Refuse, by SpecError, workers too small to compare the sweep's images; `allowed` says what helps.

    `dataset` is None when the folder has the training images already.
    """
    shape = (read_reference(layout) if dataset is None else dataset.images).shape[1:]
    check_memory_for(spec, shape, memory_bytes, allowed)


def measure_all(spec: Spec, layout: SweepLayout, console: Console) -> None:
    """Compare all pairs of what is committed, then write results and report."""
    workers, memory = measuring(spec)
    trials = sweep_trials(layout, spec)
    with local_dask(workers) as map, PairsBar(console) as progress:
        context = MeasureContext(layout, spec.collisions, memory, alone_first(map), progress, progress.stage)
        measured = measure_sweep(context, trials)
    with spinner(console, "Writing results and report"), publishing(layout):
        write_answers(layout, spec, trials, measured.real)
        if not _is_newer(layout.report, layout.results):
            from jobs.report.sweep_page import write_report  # late: plotting libraries

            write_report(layout)
    for snapshot, error in measured.damaged.items():
        console.print(f"not measured: step {snapshot.step} of {snapshot.trial}: {error}")
    if measured.damaged:
        raise next(iter(measured.damaged.values()))


def _is_newer(page: Path, results: Path) -> bool:
    """True if the page was written after the results."""
    return page.exists() and page.stat().st_mtime_ns > results.stat().st_mtime_ns


def measure_path(
    path: Path,
    threshold: Threshold | None,
    reference: Path | None,
    resize: int | None,
    console: Console,
    embedding: str | None = None,
    *,
    skip_unreadable: bool = False,
    frames: Frames | None = None,
    allow_missing: bool = False,
    test: Path | None = None,
    moved_copies: bool = False,
) -> SampleAnswer:
    """Measure anyone's samples; when it is long and they lie in a file, workers share the work, and it can be resumed."""
    keep_freed_memory()
    reading = Reading(resize, skip_unreadable, frames, allow_missing)
    workers = local_resources()["CPU"]
    with reading_bar(console, "Reading pictures") as progress, local_processes(workers) as map_files:
        read = partial(open_samples, reading=reading, progress=progress, map=map_files)
        samples = read(path)
        real = None if reference is None else read(reference)
        held_out = None if test is None else read(test)
    sets = [each for each in (samples, real, held_out) if each is not None]
    reading.check(*sets)
    if held_out is not None:
        if real is None:
            raise SpecError(
                "--test: held-out images are compared with training images; give these with --reference PATH"
            )
        check_alike(samples, held_out, "--test")
    if real is not None:
        check_alike(samples, real)
    elif not isinstance(threshold, float | int):
        raise SpecError(
            "what is a duplicate? give --threshold DISTANCE (Euclidean, over all values of an image), or "
            "--reference PATH with real images to take it from"
        )
    memory = int(MEMORY_SHARE * local_memory_bytes() / workers)
    in_files = not any(isinstance(each.source, InMemory) for each in sets)
    with ExitStack() as stack:
        map_tasks: Map = map
        keep = None
        long = in_files and is_long(samples.source, None if real is None else real.source)
        if long:
            map_tasks = stack.enter_context(local_dask(workers))
        bar = stack.enter_context(PairsBar(console))
        try:
            embedded = in_embedding(
                embedding or _default_embedding(samples, threshold),
                samples,
                real,
                held_out,
                map_tasks,
                bar.stage,
                moved=moved_copies,
            )
            if long:
                reading_images = partial(bar.stage, "Reading images")
                keep = keep_in_cache(path, embedded.samples, embedded.reference, reading_images, embedded.held_out)
            return measure_samples(
                samples,
                real,
                "auto" if threshold is None else threshold,
                memory,
                map_tasks,
                bar,
                held_out=held_out,
                in_space=embedded,
                keep=keep,
                stage=bar.stage,
            )
        except ValueError as error:  # values that can't be compared, found while reading
            raise error if isinstance(error, SpecError) else SpecError(f"{path}: {error}") from error


def _default_embedding(samples: Opened, threshold: Threshold | None) -> str:
    """Embedding of samples where none is named."""
    return default_embedding(
        () if samples.pictures is None else samples.pictures.shape[1:], isinstance(threshold, float | int)
    )


def provenance() -> dict[str, str]:
    """Versions and commit that a sweep's own copy of its spec records."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED_VERSIONS}
    commit = {}
    if shutil.which("git") is not None:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        commit = {"commit": found.stdout.strip()} if found.returncode == 0 else {}
    return versions | commit | {"python": platform.python_version()}
