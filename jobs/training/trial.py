"""One trial: train one family with one seed and stream its images into its shards.

Invariant: started any number of times, on any worker, it goes on from what is durably there and ends with the same bits;
its outcome is written last.
"""

import errno
import io
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from ganlab.memory import keep_freed_memory
from ganlab.models.families import Family, make_family
from ganlab.models.train import Checkpoint, NonFiniteError, Request, make_deterministic, train
from ganlab.quality.fidelity import fidelity_probe
from jobs.spec.checkpoints import check_checkpoint
from jobs.spec.sweep import TrialSettings
from jobs.training.metering import METER
from jobs.training.plan import shard_plan
from jobs.training.user_models import use_code
from storage.atomic import make_folder, remove_partials, write_bytes
from storage.attempts import resume_attempt
from storage.history import HistoryWriter
from storage.layout import SweepLayout, TrialLayout
from storage.outcome import Failure, Outcome, write_outcome
from storage.patience import is_waited_for, patiently
from storage.reference import Reference, read_reference
from storage.samples import committed_shards
from storage.shards import BackgroundWriter, ShardWriter, create_samples

Report = Callable[[Mapping[str, Any]], None]
REPORT_EVERY_S = 2.0  # each report waits for Tune's driver, so a fast trial must not report every logged step
# What no retry can mend: the disk is full, read-only or not ours.
PERMANENT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def _never() -> bool:
    return False


def _alone(family: Family) -> Family:
    return family


def _unguarded() -> None:
    pass


@dataclass(frozen=True)
class TrialOptions:
    """Options of a trial's run; none of them changes its bits.

    Attributes
    ----------
    checkpoint_every_s
        Longest work lost when the process is killed, about.
    device
        "cpu" or "cuda".
    probe
        Also report `fidelity_ratio` of a probe sample at each snapshot, for a searcher or scheduler that asks for it.
    stop
        Asked after every step; once it returns True, a checkpoint is written and Interrupted is raised.
    guard
        Called before a shard, a checkpoint or the outcome is written; raises when the trial is another process's.
    together
        Takes the new family and returns the one to train: for replicas that take their steps together.
    rank, average_gradients
        Of this data-parallel worker; rank 0 alone writes.
    gpus
        Number of GPUs that this process holds, for the account of what the trial costs.
    """

    checkpoint_every_s: float = 30.0
    device: str = "cpu"
    probe: bool = False
    stop: Callable[[], bool] = _never
    guard: Callable[[], None] = _unguarded
    together: Callable[[Family], Family] = _alone
    rank: int = 0
    average_gradients: Callable[[Any], None] | None = None
    gpus: float = 0.0


def run_trial(sweep: Path, trial: TrialSettings, report: Report, options: TrialOptions = TrialOptions()) -> Outcome:
    """Train, sample and record the outcome of one trial of the sweep in folder `sweep`.

    Parameters
    ----------
    report
        Called every few seconds and at every snapshot with the newest metrics.

    Returns
    -------
    Outcome
        Also on disk. A failure that a retry can't mend is an outcome; any other error is raised.

    Raises
    ------
    Interrupted
        `stop` said so: the trial can go on, here or elsewhere.
    """
    layout = SweepLayout(sweep)
    own = layout.trial(trial.id)
    try:
        with METER.counting(own, options.gpus):
            _train(layout, own, trial, report, options)
        outcome = Outcome("completed", step=trial.train.steps)
    except NonFiniteError as error:
        outcome = Outcome("failed", reason=str(error), failure=Failure.NAN)
    except OSError as error:
        if error.errno not in PERMANENT_ERRORS or is_waited_for(error):
            raise
        outcome = Outcome("failed", reason=f"{error.strerror}: {error.filename or own.root}", failure=Failure.DISK)
    except torch.cuda.OutOfMemoryError as error:
        reason = f"out of GPU memory: {str(error).splitlines()[0]}"
        outcome = Outcome("failed", reason=reason, failure=Failure.OUT_OF_MEMORY)
    options.guard()
    if options.rank == 0:
        try:
            write_outcome(own, outcome)
        except OSError:
            if outcome.status == "completed":
                raise
            # A full or read-only disk takes no record of itself: the outcome still reaches the driver.
    return outcome


def _train(layout: SweepLayout, own: TrialLayout, trial: TrialSettings, report: Report, options: TrialOptions) -> None:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"torch finds no GPU on {socket.gethostname()} (resources.device = cpu trains without one)")
    make_deterministic(trial.train.threads)
    keep_freed_memory()
    use_code(layout.own_code)
    check_checkpoint(trial.model)
    reference = _reference(layout.root, layout.reference.stat().st_mtime_ns)
    shape = reference.images.shape[1:]
    plan = shard_plan(trial, shape)
    family = options.together(
        make_family(trial.model, shape, trial.train, trial.seed, options.device, options.average_gradients)
    )
    committed = committed_shards(own, plan)
    missing = [shard for shard in plan.shards if shard.index not in committed]
    requests = [Request(shard.step, shard.index, shard.stop - shard.start) for shard in missing]
    first_missing = min((request.step for request in requests), default=trial.train.steps + 1)

    def resumes(step: int) -> None:
        if options.average_gradients is not None:
            _agree_over_workers(step, options.device)
        if options.rank == 0:
            resume_attempt(own, step)

    checkpoint = _FileCheckpoint(own, first_missing, resumes, options.guard)
    loop = partial(
        train,
        family,
        reference.images,
        trial.train,
        trial.seed,
        labels=reference.labels,
        snapshots=(*trial.samples.snapshots, trial.train.steps),
        checkpoint=checkpoint,
        stop=options.stop,
    )
    if options.rank > 0:
        nothing = lambda *_: None  # noqa: E731
        loop(requests=[], sink=nothing, drain=nothing, report=report, rank=options.rank)
        return
    patiently(partial(create_samples, own, plan))
    patiently(partial(make_folder, own.checkpoint.parent))
    remove_partials(own.checkpoint.parent)
    throttled = _Throttle(report, options.probe)

    with HistoryWriter(own) as history, BackgroundWriter(ShardWriter(own, plan)) as background:

        def log(row: Mapping[str, Any]) -> None:
            history.append(row)
            throttled(row)

        def put(*shard: Any) -> None:
            options.guard()
            background.put(*shard)

        def drain() -> None:
            background.drain()
            history.sync()

        loop(
            requests=requests,
            sink=put,
            drain=drain,
            report=log,
            checkpoint_every_s=options.checkpoint_every_s,
            probe=fidelity_probe(reference.images) if options.probe else None,
        )


class _FileCheckpoint(Checkpoint):
    """State in one file, replaced atomically. A state past the first missing shard is of no use and passed over."""

    def __init__(
        self, trial: TrialLayout, first_missing: int, resumes: Callable[[int], None], guard: Callable[[], None]
    ) -> None:
        self._path, self._first_missing, self._resumes, self._guard = trial.checkpoint, first_missing, resumes, guard

    def load(self) -> dict[str, Any] | None:
        state = self._usable()
        self._resumes(0 if state is None else state["step"])
        return state

    def _usable(self) -> dict[str, Any] | None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception:  # damaged: the trial starts over and comes to the same bits
            return None
        return state if state["step"] < self._first_missing else None

    def save(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._guard()
        write_bytes(self._path, buffer.getvalue())


class _Throttle:
    """Passes on at most one report every REPORT_EVERY_S; with a probe just those that carry its result.

    So a searcher or scheduler compares trials at the same steps, not at the same times.
    """

    def __init__(self, report: Report, probing: bool) -> None:
        self._report, self._probing, self._last = report, probing, 0.0

    def __call__(self, row: Mapping[str, Any]) -> None:
        if "fidelity_ratio" in row or (not self._probing and time.monotonic() - self._last > REPORT_EVERY_S):
            self._report(row)
            self._last = time.monotonic()


def average_over_workers(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over the data-parallel workers, in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for gradient, mean in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def stop_over_workers(stop: Callable[[], bool], device: str, every: int = 10) -> Callable[[], bool]:
    """Return a `stop` with the same value on all data-parallel workers: true once it is true on one of them.

    They must all ask equally often; every so many times they talk about it.
    """
    asked = 0

    def together() -> bool:
        nonlocal asked
        asked += 1
        if asked % every:
            return False
        answers = torch.tensor(float(stop()), device=device)
        torch.distributed.all_reduce(answers)
        return bool(answers > 0)

    return together


def _agree_over_workers(step: int, device: str) -> None:
    """Raise unless all workers go on from the same step: over a network they may see different files for a while."""
    steps = torch.tensor([step, -step], device=device)
    torch.distributed.all_reduce(steps, torch.distributed.ReduceOp.MAX)
    last, first = int(steps[0]), -int(steps[1])
    if first != last:
        raise RuntimeError(f"the workers see different files: one goes on from step {first}, another from step {last}")


@lru_cache(maxsize=1)
def _reference(sweep: Path, modified_ns: int) -> Reference:
    """Training images, cached for the next trial of this process; `modified_ns` changes when they do."""
    return read_reference(SweepLayout(sweep))
