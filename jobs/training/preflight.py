"""Checks of the folder, the disk and this machine before a sweep begins.

Invariant: nothing that a check writes stays; each refusal is one line that says what is allowed.
"""

import math
import os
import shutil

from cluster.gpus import VISIBLE
from cluster.local import local_memory_bytes, local_resources
from ganlab.pairs.tiles import least_memory_bytes
from jobs.console.words import size
from jobs.spec.datasets import dataset_shape
from jobs.spec.sweep import Spec, SpecError, difference, load_spec
from storage.atomic import check_writable
from storage.layout import SweepLayout
from storage.lock import is_sweep, is_unused
from storage.plan import kind_of

HERE = "a larger measure_memory_gb, or fewer measure_workers"
MEMORY_SHARE = 0.5  # of the machine's memory, for all measuring workers together


def check_here(spec: Spec) -> None:
    """Refuse, by SpecError, a sweep that this machine can't train or compare; reads no image."""
    check_resources(spec)
    check_memory_for(spec, check_dataset(spec), measuring(spec)[1], HERE)


def check_dataset(spec: Spec) -> tuple[int, ...]:
    """Refuse, by SpecError, images that are missing or exceed this machine's memory; returns the shape of one."""
    count, *rest = dataset_shape(spec.dataset, spec.source)
    shape = tuple(rest)
    taken, memory = count * math.prod(shape) * kind_of(shape).itemsize, local_memory_bytes()
    if taken > memory:
        raise SpecError(
            f"got {count:,} images, which take {size(taken)}, but this machine has {size(memory)} of memory; "
            "allowed: fewer, or smaller ones",
            ("dataset",),
            spec.source,
        )
    return shape


def check_place(spec: Spec, layout: SweepLayout) -> None:
    """Refuse, by SpecError, a folder that is not this sweep's or can't be made or written in; leaves nothing there."""
    fault = ""
    if (around := next((parent for parent in layout.root.parents if is_sweep(SweepLayout(parent))), None)) is not None:
        fault = f"lies inside the sweep {around}"
    elif layout.spec.is_file():
        if differences := difference(load_spec(layout.spec), spec):
            fault = f"was made by another sweep file: {'; '.join(differences)}"
    elif layout.root.is_file():
        fault = "is a file"
    elif layout.root.is_dir() and not is_unused(layout):
        fault = "is no sweep folder and not empty"
    if not fault:
        try:
            check_writable(layout.root)
        except OSError as error:
            fault = f"can't be made or written in ({error.strerror})"
    if fault:
        raise SpecError(f"{layout.root} {fault}; give another folder with --out", source=spec.source)


def disk_fault(layout: SweepLayout, needed: int) -> str | None:
    """Fault of a disk on which a new sweep's images, of so many bytes, do not fit; None when they do."""
    place = next(folder for folder in (layout.root, *layout.root.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed <= free:
        return None
    return (
        f"the trials' images take {size(needed)}, but {place} has {size(free)} free; allowed: fewer images, or a "
        "folder on another disk (--out)"
    )


def slow_precision(spec: Spec) -> str | None:
    """Warning of trials in bfloat16 on a processor without bfloat16 instructions; None where it does not apply."""
    if spec.resources.torch_device != "cpu" or all(trial.train.precision == "float32" for trial in spec.trials()):
        return None
    from ganlab.models.precision import has_bfloat16  # late: torch

    if has_bfloat16():
        return None
    return (
        "train.precision is bfloat16, for which this processor has no instructions: trials in float32, which are other "
        "trials, take about half the time (--set train.precision=float32)"
    )


def check_resources(spec: Spec) -> None:
    """Refuse, by SpecError, trials that this machine can't hold."""
    available = local_resources()
    visible = os.environ.get(VISIBLE)
    hidden = {"CPU": "", "GPU": "" if visible is None else f" to show ({VISIBLE}={visible!r}, as CUDA reads it)"}
    wanted = {
        "GPU": ("gpus_per_trial", spec.resources.gpus_per_trial),
        "CPU": ("cpus_per_trial", spec.resources.cpus_per_trial),
    }
    for kind, (key, amount) in wanted.items():
        if amount > (have := available[kind]):
            raise SpecError(
                f"got {amount:g}, but this machine has {have} {kind}s{hidden[kind]}; allowed: at most {have} "
                f"(--set resources.{key}={have})",
                ("resources", key),
                spec.source,
            )
    if spec.resources.torch_device == "cuda" and not available["GPU"]:
        raise SpecError(
            f"got cuda, but this machine has 0 GPUs{hidden['GPU']}; allowed: cpu (--set resources.device=cpu)",
            ("resources", "device"),
            spec.source,
        )


def measuring(spec: Spec) -> tuple[int, int]:
    """Workers that compare images here, and the memory of each in bytes."""
    workers = spec.resources.measure_workers or local_resources()["CPU"]
    return workers, spec.resources.measure_memory_bytes(MEMORY_SHARE * local_memory_bytes() / workers)


def check_memory_for(spec: Spec, shape: tuple[int, ...], memory_bytes: int, allowed: str) -> None:
    """Refuse, by SpecError, workers too small to compare images of this shape, (C, H, W), or points, (D,)."""
    least = least_memory_bytes(shape, 1 if len(shape) == 3 else 4)
    if memory_bytes < least:
        raise SpecError(
            f"a worker that compares images has {size(memory_bytes)}, but those of shape {shape} take "
            f"{size(least)}; allowed: {allowed}",
            ("resources",),
            spec.source,
        )
