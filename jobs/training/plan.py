"""Plan of a sweep: its work and cost, computed without running it.

Invariant: nothing is written.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ganlab.data.datasets import LEAST_REAL
from ganlab.models.families import FAMILIES, family_of, make_family, own_settings
from ganlab.models.train import seconds_per_step
from ganlab.quality.embeddings.names import PIXELS, needs_classifier, short_name
from jobs.spec.datasets import dataset_shape
from jobs.spec.sweep import Spec, SpecError, TrialSettings
from jobs.training.failures import refused_model
from jobs.training.user_models import find_code
from storage.plan import ShardPlan


@dataclass(frozen=True)
class Plan:
    """A sweep's trials and what they will take.

    Attributes
    ----------
    trials : tuple of TrialSettings
        Those of a model-based search stand for suggestions that are not known yet.
    concurrency : int
        Trials at a time.
    weights : list of dict
        Parameters of each network by name, for each trial.
    shards, samples, sample_bytes : int
        Over all trials.
    pairs : int
        Unordered pairs of samples to compare, over all trials and snapshots.
    seconds : float or None
        Estimated training time at the given concurrency, from a few timed steps on this machine; None when not timed.
    """

    trials: tuple[TrialSettings, ...]
    concurrency: int
    weights: list[dict[str, int]]
    shards: int
    samples: int
    sample_bytes: int
    pairs: int
    seconds: float | None


def shard_plan(trial: TrialSettings, shape: tuple[int, ...], source: str = "") -> ShardPlan:
    """Every shard the trial will write, known before it starts, for images or points of this shape.

    Raises
    ------
    SpecError
        For counts of images that no shards of one size hold.
    """
    snapshots = [(step, trial.samples.images_per_snapshot) for step in trial.samples.snapshots]
    snapshots.append((trial.train.steps, trial.samples.final_images))
    labelled = family_of(trial.model).gives_labels(own_settings(trial.model))
    try:
        return ShardPlan.make(snapshots, shape, labelled=labelled)
    except ValueError as error:
        raise SpecError(str(error), ("samples",), source) from None


def check_model(trial: TrialSettings, shape: tuple[int, ...], classes: int | None, source: str = "") -> None:
    """Refuse, by SpecError, a family that cannot learn from these data; `classes` is None when there are no labels."""
    with refused_model(trial.model, source):
        family_of(trial.model).check(own_settings(trial.model), shape, classes)


def check_sweep(spec: Spec) -> tuple[tuple[int, ...], list[ShardPlan]]:
    """Find every fault that can be known without reading an image.

    Returns
    -------
    shape
        Of one training image, (C, H, W), or point, (D,).
    plans
        The shards of each trial.

    Raises
    ------
    SpecError
        One line: file, key path, value, what is allowed.
    """
    count, *rest = dataset_shape(spec.dataset, spec.source)
    shape = tuple(rest)
    check_enough(count, spec.source)
    classes = spec.dataset.label_count()
    embedding = spec.collisions.embedding
    if needs_classifier(embedding) and (classes is None or len(shape) != 3):
        raise SpecError(
            f"got {embedding}, but dataset {spec.dataset.name} cannot train one: no labelled images; allowed: pixels",
            ("collisions", "embedding"),
            spec.source,
        )
    if embedding != PIXELS and len(shape) != 3:
        raise SpecError(
            f"got {short_name(embedding)}, but dataset {spec.dataset.name} has points; allowed: pixels, whose distances "
            "are then between the points themselves",
            ("collisions", "embedding"),
            spec.source,
        )
    find_code(spec)
    plans = []
    for trial in spec.trials():
        check_model(trial, shape, classes, spec.source)
        plans.append(shard_plan(trial, shape, spec.source))
    return shape, plans


def check_enough(images: int, source: str) -> None:
    """Refuse, by SpecError, a dataset of too few images to tell how far apart real ones are."""
    if images < LEAST_REAL:
        raise SpecError(
            f"got {images} image{'' if images == 1 else 's'}; allowed: {LEAST_REAL} or more, whose distances "
            "are what samples are held against",
            ("dataset",),
            source,
        )


def try_imported(trials: Sequence[TrialSettings], shape: tuple[int, ...], source: str, device: str = "cpu") -> None:
    """Make one model of each family that is not trained here, and see what it draws. SpecError: one line."""
    for trial in {trial.model.family: trial for trial in reversed(trials)}.values():
        if trial.model.family in FAMILIES and family_of(trial.model).trained:
            continue
        with refused_model(trial.model, source):
            family = make_family(trial.model, shape, trial.train, trial.seed, device)
            if not family.trained:
                family.prepare(np.empty((0, *shape)))


def plan_sweep(spec: Spec, *, timed: bool = True, slots: int | None = None) -> Plan:
    """Plan the sweep for this machine, or for one where so many trials fit at a time. Writes nothing."""
    shape, shards = check_sweep(spec)
    trials = spec.trials()
    if timed:
        try_imported(trials, shape, spec.source)
    slots = slots or max(1, len(os.sched_getaffinity(0)) // spec.resources.cpus_per_trial)
    concurrency = min(spec.resources.max_concurrent or len(trials), len(trials), slots)
    return Plan(
        trials=trials,
        concurrency=concurrency,
        weights=[parameter_counts(trial, shape) for trial in trials],
        shards=sum(len(plan.shards) for plan in shards),
        samples=sum(plan.samples for plan in shards),
        sample_bytes=sum(plan.bytes for plan in shards),
        pairs=sum(images * (images - 1) // 2 for plan in shards for _, images in plan.snapshots),
        seconds=training_seconds(trials, shape, spec.source) / concurrency if timed else None,
    )


def parameter_counts(trial: TrialSettings, shape: tuple[int, ...]) -> dict[str, int]:
    """Trained parameters of each network of the trial, by the network's name."""
    return dict(_parameter_counts(trial.model, trial.train, tuple(shape)))


@lru_cache(maxsize=256)
def _parameter_counts(model: Any, train: Any, shape: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    try:
        if not family_of(model).trained:
            return ()
        networks = make_family(model, shape, train, seed=0, device="meta").networks
    except Exception:
        if model.family in FAMILIES:
            raise
        return ()  # a user's family need not know of a device without numbers, nor its code be here any more
    return tuple(
        (name, sum(parameter.numel() for parameter in network.parameters())) for name, network in networks.items()
    )


def training_seconds(trials: Sequence[TrialSettings], shape: tuple[int, ...], source: str = "") -> float:
    """Seconds to train all trials one after another on this machine's CPU.

    A few steps are timed for at most three of the models (the smallest, the largest and one between, by weights); the
    others are interpolated.
    """
    weights = np.array([sum(parameter_counts(trial, shape).values()) for trial in trials])
    order = np.argsort(weights, kind="stable")
    chosen = sorted({int(order[place]) for place in (0, len(order) // 2, len(order) - 1)}, key=lambda i: weights[i])
    chosen = [i for place, i in enumerate(chosen) if place == 0 or weights[i] > weights[chosen[place - 1]]]
    timed = [_step_seconds(trials[i], shape, source) for i in chosen]
    per_step = np.interp(weights, weights[chosen], timed)
    return float(sum(seconds * trial.train.steps for seconds, trial in zip(per_step, trials, strict=True)))


def _step_seconds(trial: TrialSettings, shape: tuple[int, ...], source: str) -> float:
    with refused_model(trial.model, source):
        if not family_of(trial.model).trained:
            return 0.0
        family = make_family(trial.model, shape, trial.train, trial.seed)
        return seconds_per_step(family, shape, trial.train)
