"""Samples of a trained model of another library, streamed into a folder of shards: `ganlab sample`.

Invariant: the folder's images are a function of the checkpoint's content, its settings and the seed; a command that was
killed goes on with the shards that are not committed, to the same bits.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, create_model

from ganlab.models.families import FAMILIES, make_family
from ganlab.models.train import draw
from ganlab.models.train_settings import TrainSettings
from ganlab.randomness import generator_for
from jobs.spec.checkpoints import CHECKPOINT, check_checkpoint, identity, settle_checkpoints
from jobs.spec.validation import SpecError, read_mapping, settings_file, shown, validate
from jobs.training.failures import refused_model
from storage.atomic import make_folder, write_json
from storage.layout import SweepLayout, TrialLayout
from storage.lock import is_unused, sweep_lock
from storage.plan import ShardPlan
from storage.samples import committed_shards
from storage.shards import BackgroundWriter, ShardWriter, create_samples

STEP = 1  # of the one snapshot, as of a sweep's trial with train.steps = 1

Progress = Callable[[int], None]
Side = Annotated[int, Field(ge=1, le=65_536)]


def read_checkpoint_file(path: Path) -> tuple[Any, tuple[int, ...]]:
    """Read CHECKPOINT.yaml: the keys of `family: checkpoint`, and `shape`.

    Returns
    -------
    model : CheckpointSettings
        Settings of the family.
    shape : tuple of int
        Channels, height and width of one image.

    Raises
    ------
    SpecError
        One line: file, key, value, what is allowed.
    """
    settings = FAMILIES[CHECKPOINT].Settings
    described: type[BaseModel] = create_model("CheckpointFile", __base__=settings, shape=(tuple[Side, Side, Side], ...))
    file = settings_file(path, {}, "checkpoint file")
    data = read_mapping(file, [name for name in described.model_fields if name != "family"])
    try:
        settled = settle_checkpoints({**data, "family": CHECKPOINT}, ())
        given = validate(described, settled)
    except SpecError as error:
        raise error.at(source=str(file)) from error
    shape = tuple(given.model_dump()["shape"])
    return settings.model_validate(given.model_dump(exclude={"shape"})), shape


def sample_checkpoint(path: Path, images: int, out: Path, seed: int, device: str, progress: Progress) -> None:
    """Draw images of a checkpoint into a folder, or those that are missing there.

    Parameters
    ----------
    path
        CHECKPOINT.yaml.
    images
        How many.
    out
        The folder; a folder that holds samples of other settings is refused.
    seed
        Of latent vectors and labels.
    device
        "cpu" or "cuda".
    progress
        Called with the number of images drawn so far.

    Raises
    ------
    SpecError
        A setting, the model or the folder can't be used; one line.
    SweepBusyError
        Another command fills the folder.
    """
    model, shape = read_checkpoint_file(path)
    family_class = FAMILIES[model.family]
    layout = TrialLayout(out)
    try:
        plan = ShardPlan.make([(STEP, images)], shape, labelled=family_class.gives_labels(model))
    except ValueError as error:
        raise SpecError(str(error), source="--images") from None
    settings = {
        "model": identity(model),
        "shape": list(shape),
        "images": images,
        "seed": seed,
    }
    _check_folder(layout, settings)
    with _refused(model, path):
        family_class.check(model, shape, None)
        check_checkpoint(model)
        family = make_family(model, shape, TrainSettings(steps=STEP), seed, device)
        family.prepare(np.empty((0, *shape)))
        make_folder(out)
        with sweep_lock(SweepLayout(out), f"ganlab sample {path}"):
            _check_folder(layout, settings)  # another command may have filled it while the model was loaded
            write_json(layout.settings, settings)
            create_samples(layout, plan)
            committed = committed_shards(layout, plan)
            missing = [shard for shard in plan.shards if shard.index not in committed]
            done = images - len(missing) * plan.shard_images
            with BackgroundWriter(ShardWriter(layout, plan)) as writer:
                for shard in missing:
                    noise = generator_for(seed, "sample", STEP, shard.index)
                    drawn = draw(family, plan.shard_images, noise, partial(_add, progress, done))
                    writer.put(drawn.images, shard.index, drawn.labels)
                    done += plan.shard_images


@contextmanager
def _refused(model: Any, path: Path) -> Iterator[None]:
    """As `refused_model`, of a file that has no section `model`."""
    try:
        with refused_model(model, str(path)):
            yield
    except SpecError as error:
        raise SpecError(error.text, source=str(path)) from error


def _add(progress: Progress, before: int, done: int) -> None:
    progress(before + done)


def _check_folder(layout: TrialLayout, settings: dict[str, Any]) -> None:
    """Raise SpecError unless the folder is new, empty, or holds samples of these settings."""
    if layout.settings.is_file():
        found = json.loads(layout.settings.read_text("utf-8"))
        changed = [key for key in settings if found.get(key) != settings[key]]
        if changed:
            key = changed[0]
            raise SpecError(
                f"{layout.root} holds samples of other settings: {key} was {shown(found.get(key))} and is "
                f"{shown(settings[key])}; allowed: another --out, or the settings of these samples",
                source="--out",
            )
    elif (
        layout.root.exists()
        and not is_unused(SweepLayout(layout.root))
        and (not layout.root.is_dir() or any(layout.root.iterdir()))
    ):
        raise SpecError(f"{layout.root} holds something else; allowed: a new or empty folder", source="--out")
