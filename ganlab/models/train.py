"""One training loop for every family, deterministic and resumable bit for bit.

Invariant: every random number is a function of (seed, purpose, step, shard) alone, so a run that continues from a
checkpoint makes the same weights and samples as one that was never interrupted (same type of device).
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from ganlab.models.families import Family, GeneratedBatch
from ganlab.models.families.base import Dataset, Shape
from ganlab.models.train_settings import TrainSettings as TrainSettings
from ganlab.randomness import generator_for

SAMPLE_BATCH = 512  # images per forward pass when sampling; fixed, since some kernels round differently by batch size
PROBE_IMAGES = 500


class NonFiniteError(RuntimeError):
    """A loss or a weight became NaN or infinite: the trial ends, and says at which step."""


class Interrupted(Exception):
    """The loop was asked to stop; what it had done is saved: not a failure."""


@dataclass(frozen=True)
class Request:
    """Images to draw at one step: the `shard` they fill and how many (`images`)."""

    step: int
    shard: int
    images: int


class Checkpoint(Protocol):
    """Storage of a trial's state between restarts of its process."""

    def load(self) -> dict[str, Any] | None:
        """Return the last state saved, or None."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep the state durably; called only when every image handed to the sink so far may be relied on."""


def train(
    family: Family,
    images: np.ndarray,
    settings: TrainSettings,
    seed: int,
    requests: Iterable[Request],
    *,
    labels: np.ndarray | None = None,
    snapshots: Collection[int],
    sink: Callable[[np.ndarray, int, np.ndarray | None], None],
    drain: Callable[[], None],
    report: Callable[[Mapping[str, float]], None],
    checkpoint: Checkpoint,
    checkpoint_every_s: float = 30.0,
    stop: Callable[[], bool] = lambda: False,
    probe: Callable[[np.ndarray], Mapping[str, float]] | None = None,
    rank: int = 0,
) -> None:
    """Train `family` on `images` and hand the images asked for to `sink` on the way.

    Parameters
    ----------
    family
        Networks, optimizers and one training step, on their device.
    images : uint8 array of shape (N, C, H, W), or float32 array of shape (N, D) of points
        The training set.
    settings, seed
        With the family's own settings they determine every number.
    requests
        What to draw and when; those already on disk are simply not asked for.
    labels : int64 array of shape (N,), optional
        Their classes, for families that are `labelled`.
    snapshots
        Every step at which the trial draws images, whether asked for now or on disk already: they are logged steps.
    sink
        Called with (images, shard, labels), labels None where the family gives none; may return before they are on disk.
    drain
        Returns when everything given to `sink` is on disk.
    report
        Called at every logged step with `step`, mean losses since the last logged step, and rates per second; at every
        snapshot also with the family's own `diagnostics`.
    checkpoint, checkpoint_every_s
        State is saved at the first logged step after this many seconds, and when asked to stop.
    stop
        Asked after every step, so it must be cheap, and between two shards of a snapshot; True saves the state and raises
        Interrupted. Data-parallel workers ask after every step only, and all must get the same answer.
    probe
        Judges PROBE_IMAGES images at each snapshot; what it returns is reported with the losses.
    rank
        Of this data-parallel worker; rank 0 alone samples, reports and saves.

    Raises
    ------
    NonFiniteError
        A loss or weight is NaN or infinite.
    Interrupted
        `stop` said so.
    """
    by_step: dict[int, list[Request]] = {}
    for request in requests:
        by_step.setdefault(request.step, []).append(request)
    start = 0
    sums: dict[str, torch.Tensor] = {}
    counts: Counter[str] = Counter()  # a family may report some losses in some of its steps
    if (state := checkpoint.load()) is not None:
        family.load_state(state["family"])
        # What was summed since the last logged step goes along, so that the history does not show the interruption.
        start, sums, counts = int(state["step"]), dict(state["sums"]), Counter(state["counts"])
    dataset = family.prepare(images, labels)
    local_batch = settings.batch_size // settings.workers
    timed_from, logged_at, saved_at = start, time.monotonic(), time.monotonic()

    for step in range(start + 1, settings.steps + 1):
        draws = generator_for(seed, "train", step, rank)
        losses = family.step(partial(_batch, dataset, len(images), local_batch, draws), draws)
        for name, value in losses.items():
            sums[name] = sums[name] + value if name in sums else value
            counts[name] += 1
        logged = step % settings.log_every == 0 or step in snapshots or step == settings.steps
        stopping = stop() and step < settings.steps
        if not (logged or stopping):
            continue
        if logged and not _finite(sums, family):
            raise NonFiniteError(f"a loss or weight was not finite at step {step}")
        if logged and rank == 0:
            for request in by_step.get(step, ()):
                if settings.workers == 1 and stop():
                    drain()  # no checkpoint: it may not pass a snapshot that isn't whole
                    raise Interrupted(f"stopped while drawing images at step {step}")
                drawn = draw(family, request.images, generator_for(seed, "sample", step, request.shard))
                sink(drawn.images, request.shard, drawn.labels)
            means = {name: float(value) / counts[name] for name, value in sums.items()}
            rate = (step - timed_from) / max(time.monotonic() - logged_at, 1e-9)
            judged: dict[str, float] = {}
            if step in snapshots:
                judged |= family.diagnostics(images, generator_for(seed, "measures", step))
            if probe is not None and step in snapshots:
                judged |= probe(draw(family, PROBE_IMAGES, generator_for(seed, "probe", step)).images)
            report({"step": step, **means, **judged, "steps_per_second": rate})
        if logged:
            sums, counts = {}, Counter()
        if rank == 0 and (stopping or time.monotonic() - saved_at > checkpoint_every_s):
            drain()
            kept = {name: value.detach().cpu() for name, value in sums.items()}
            checkpoint.save({"step": step, "sums": kept, "counts": dict(counts), "family": family.state()})
            saved_at = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped at step {step}")
        timed_from, logged_at = step, time.monotonic()
    drain()


def make_deterministic(threads: int) -> None:
    """Have torch compute the same bits again on this kind of device, with this many CPU threads, in this process.

    On GPUs, float32 then is float32: cuDNN would take TF32, of 10 bits, by default.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS may add in another order
    torch.set_num_threads(threads)
    # As `use_deterministic_algorithms`, which loads PyTorch's compiler, and so takes as long as PyTorch itself.
    torch.set_deterministic_debug_mode("warn")
    # By default it also fills all new memory, 5 % of a step: an aid to find what is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def draw(
    family: Family, images: int, noise: np.random.Generator, progress: Callable[[int], None] = lambda done: None
) -> GeneratedBatch:
    """Draw independent images, or points, as a function of the family's weights and the noise alone.

    `progress` is called with the number of images drawn, after each batch.
    """
    parts = []
    for first in range(0, images, SAMPLE_BATCH):
        parts.append(family.sample(min(SAMPLE_BATCH, images - first), noise))
        progress(min(images, first + SAMPLE_BATCH))
    labels = [part.labels for part in parts if part.labels is not None]
    return GeneratedBatch(np.concatenate([part.images for part in parts]), np.concatenate(labels) if labels else None)


def seconds_per_step(family: Family, shape: Shape, settings: TrainSettings, steps: int = 5) -> float:
    """Median wall time of a few steps on random images; the first, which warms up, is left out."""
    draws = np.random.default_rng(0)
    size = settings.batch_size, *shape
    images = draws.integers(0, 256, size, dtype=np.uint8) if len(shape) == 3 else draws.random(size, dtype=np.float32)
    dataset = family.prepare(images, np.zeros(settings.batch_size, np.int64))
    family.pass_first_phase()
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        family.step(lambda: dataset[torch.arange(settings.batch_size)], draws)
        seconds.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return float(np.median(seconds[1:]))


def _batch(dataset: Dataset, images: int, size: int, draws: np.random.Generator) -> Any:
    return dataset[torch.from_numpy(draws.integers(0, images, size))]


def _finite(sums: Mapping[str, torch.Tensor], family: Family) -> bool:
    weights = [parameter.detach() for parameter in family.networks.parameters()]
    norms = torch._foreach_norm(weights) if weights else []
    return all(bool(torch.isfinite(value).all()) for value in (*sums.values(), *norms))
