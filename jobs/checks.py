"""Checks of a sweep file's sections against one another.

Invariant: what passes here can be expanded into trials and measured; each fault is one line at the key to change.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.search_words import Word
from jobs.strict import SpecError, shown

if TYPE_CHECKING:
    from jobs.spec import Spec


MOST_TRIALS = 100_000


def check_sections(spec: "Spec") -> None:
    """Checks of one section against another; of the snapshots against train.steps for each trial later."""
    for section, key, values in (("samples", "snapshots", spec.samples.snapshots),
                                 ("collisions", "sample_sizes", spec.collisions.sample_sizes)):  # fmt: skip
        for index in range(1, len(values)):
            if values[index] <= values[index - 1]:
                raise SpecError(
                    f"got {values[index]} after {values[index - 1]}; allowed: rising numbers", (section, key, index)
                )
    stored = {"final_images": spec.samples.final_images}
    if spec.samples.snapshots:
        stored["images_per_snapshot"] = spec.samples.images_per_snapshot
    smallest = min(stored, key=lambda key: stored[key])
    for index, size in enumerate(spec.collisions.sample_sizes):
        if size > stored[smallest]:
            raise SpecError(
                f"got {size}; allowed: at most the stored sample, samples.{smallest} = {stored[smallest]}",
                ("collisions", "sample_sizes", index),
            )
    for index, seed in enumerate(spec.seed_list):
        if not isinstance(spec.seeds, int) and seed in spec.seeds[:index]:
            raise SpecError(f"got {seed} twice; allowed: each seed once", ("seeds", index))
    if not spec.seed_list:
        raise SpecError("got []; allowed: a whole number of at least 1 or a list of at least one seed", ("seeds",))


def check_number(spec: "Spec", words: Sequence[Word]) -> None:
    """Refuse a sweep of more trials than can be listed; none is made to count them."""
    grids = [len(word.values) for word in words if word.kind == "grid_search"]
    draws = (spec.search.trials or 1) if len(grids) < len(words) else 1
    total = math.prod(grids) * draws * len(spec.seed_list)
    if total > MOST_TRIALS:
        factors = " × ".join(f"{count:,}" for count in (*grids, draws, len(spec.seed_list)))
        raise SpecError(
            f"got {total:,} trials ({factors}: grid values, draws, seeds); allowed: at most {MOST_TRIALS:,}"
        )


def check_search(spec: "Spec", words: Sequence[Word]) -> None:
    """Whether the algorithm can do with the words, and has what it needs."""
    search, algorithm = spec.search, f"search.algorithm = {spec.search.algorithm}"
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
    if spec.resources.replicas_per_worker > 1 and (search.algorithm == "optuna" or search.scheduler == "asha"):
        chosen = "search.algorithm = optuna" if search.algorithm == "optuna" else "search.scheduler = asha"
        raise SpecError(
            f"got {spec.resources.replicas_per_worker} with {chosen}, which treats trials one by one; allowed: 1",
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
    if search.algorithm == "optuna" and len(spec.seed_list) > 1:
        raise SpecError(
            f"got {shown(spec.seeds)} with {algorithm}; allowed: one seed (each suggestion is trained once)", ("seeds",)
        )
