"""Checks of a sweep file's sections against one another.

Invariant: what passes here can be expanded into trials and measured; each fault is one line at the key to change.
"""

import math
from collections.abc import Sequence

from jobs.spec.search_space import Parameter
from jobs.spec.sections import CollisionSettings, ResourceSettings, SampleSettings, SearchSettings
from jobs.spec.validation import SpecError, shown

Seeds = int | tuple[int, ...]  # their number, or their list

MOST_TRIALS = 100_000


def check_sections(samples: SampleSettings, collisions: CollisionSettings, seeds: Seeds) -> None:
    """Check one section against another; the snapshots are checked against train.steps with each trial."""
    for section, key, values in (
        ("samples", "snapshots", samples.snapshots),
        ("collisions", "sample_sizes", collisions.sample_sizes),
    ):
        for index in range(1, len(values)):
            if values[index] <= values[index - 1]:
                raise SpecError(
                    f"got {values[index]} after {values[index - 1]}; allowed: rising numbers", (section, key, index)
                )
    stored = {"final_images": samples.final_images}
    if samples.snapshots:
        stored["images_per_snapshot"] = samples.images_per_snapshot
    smallest = min(stored, key=lambda key: stored[key])
    for index, size in enumerate(collisions.sample_sizes):
        if size > stored[smallest]:
            raise SpecError(
                f"got {size}; allowed: at most the stored sample, samples.{smallest} = {stored[smallest]}",
                ("collisions", "sample_sizes", index),
            )
    if isinstance(seeds, int):
        return
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            raise SpecError(f"got {seed} twice; allowed: each seed once", ("seeds", index))
    if not seeds:
        raise SpecError("got []; allowed: a whole number of at least 1 or a list of at least one seed", ("seeds",))


def check_number(search: SearchSettings, seeds: Seeds, words: Sequence[Parameter]) -> None:
    """Refuse a sweep of more trials than can be listed; none is made to count them."""
    grids = [len(word.values) for word in words if word.kind == "grid_search"]
    draws = (search.trials or 1) if len(grids) < len(words) else 1
    total = math.prod(grids) * draws * _count(seeds)
    if total > MOST_TRIALS:
        factors = " × ".join(f"{count:,}" for count in (*grids, draws, _count(seeds)))
        raise SpecError(
            f"got {total:,} trials ({factors}: grid values, draws, seeds); allowed: at most {MOST_TRIALS:,}"
        )


def check_search(search: SearchSettings, resources: ResourceSettings, seeds: Seeds, words: Sequence[Parameter]) -> None:
    """Check that the search algorithm fits the search words, and has what it needs."""
    algorithm = f"search.algorithm = {search.algorithm}"
    for word in words:
        if word.key == "train.workers":
            raise SpecError(f"got {word.kind}; allowed: a value (all trials get the same resources)", word.path)
        if search.algorithm == "grid" and word.kind != "grid_search":
            raise SpecError(
                f"got {word.kind} with {algorithm}; allowed: grid_search (or search.algorithm = random or optuna)",
                word.path,
            )
        if search.algorithm == "optuna" and word.kind == "grid_search":
            raise SpecError(f"got grid_search with {algorithm}; allowed: choice, uniform or loguniform", word.path)
    if resources.replicas_per_worker > 1 and (search.algorithm == "optuna" or search.scheduler == "asha"):
        chosen = "search.algorithm = optuna" if search.algorithm == "optuna" else "search.scheduler = asha"
        raise SpecError(
            f"got {resources.replicas_per_worker} with {chosen}, which treats trials one by one; allowed: 1",
            ("resources", "replicas_per_worker"),
        )
    if search.algorithm == "grid":
        if search.trials is not None:
            raise SpecError(
                f"got {search.trials} with {algorithm}, which draws nothing; allowed: null (or "
                "search.algorithm = random or optuna)",
                ("search", "trials"),
            )
        return
    if not any(word.kind != "grid_search" for word in words):
        raise SpecError(
            f"got {search.algorithm}, but nothing is to be drawn; allowed: grid, or a choice, uniform or "
            "loguniform in model or train",
            ("search", "algorithm"),
        )
    if search.trials is None:
        raise SpecError(f"is missing; allowed: a whole number, of draws of {algorithm}", ("search", "trials"))
    if search.algorithm == "optuna" and _count(seeds) > 1:
        raise SpecError(
            f"got {shown(seeds)} with {algorithm}; allowed: one seed (each suggestion is trained once)", ("seeds",)
        )


def _count(seeds: Seeds) -> int:
    return seeds if isinstance(seeds, int) else len(seeds)
