"""Checkpoints of users' models (``family: checkpoint`` or ``import:…``) in the settings of a sweep.

Invariant: a trial takes a checkpoint only while its content has the hash that the trial's id was made of.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from jobs.spec.search_space import KINDS
from jobs.spec.validation import KeyPath, SpecError, reason_of, shown

PREFIX = "import:"  # as in ganlab.models.families.imported, which loads torch
CHECKPOINT = "checkpoint"  # as in ganlab.models.families, likewise
FORM = "import:package.module:factory"
FILES = ("checkpoint", "code")
"""Keys of a model whose files' content is a part of its trial's id: of users' own families the first alone."""
SETTINGS_FILES = ("config", "scheduler")
"""Keys of the family ``checkpoint`` that hold a mapping, or the path of a JSON file that holds it."""


def settle_checkpoints(model: Any, path: KeyPath = ("model",)) -> Any:
    """Return a model section with the content's hash beside the path of the files of users' models.

    Those are ``checkpoint``, and of the family ``checkpoint`` the folder ``code``, too.
    ``checkpoint: weights.pt`` becomes ``{path: /here/weights.pt, sha256: …}``, also in a list of alternatives; so it
    stands in the sweep's own copy, where nothing is read again. A JSON file of ``config`` or ``scheduler`` becomes the
    mapping that it holds; ``config`` of weights alone is by default config.json beside the checkpoint.

    Raises
    ------
    SpecError
        A file is missing or can't be read.
    """
    if not isinstance(model, dict):
        return model
    if isinstance(alternatives := model.get("grid_search"), list):
        settled = [settle_checkpoints(each, (*path, "grid_search", at)) for at, each in enumerate(alternatives)]
        return {**model, "grid_search": settled}
    family = model.get("family")
    settle: dict[str, Callable[[Any, KeyPath], Any]] = {}
    if family == CHECKPOINT:
        model = _with_config_beside(model)
        settle = dict.fromkeys(FILES, _settled) | dict.fromkeys(SETTINGS_FILES, _read)
    elif families_named(family):
        settle = {CHECKPOINT: _settled}
    return {
        name: _settled_words(each, (*path, name), settle[name]) if name in settle else each
        for name, each in model.items()
    }


def _settled_words(given: Any, place: KeyPath, settle: Callable[[Any, KeyPath], Any]) -> Any:
    """A value, or search words for one, with `settle` applied to each alternative."""
    if not isinstance(given, dict) or not given.keys() & set(KINDS):
        return settle(given, place)
    return {
        kind: [settle(each, (*place, kind, at)) for at, each in enumerate(values)]
        if isinstance(values, list)
        else values
        for kind, values in given.items()
    }


def _with_config_beside(model: dict[str, Any]) -> dict[str, Any]:
    """Return the model with the path of config.json beside its weights as `config`, if none is given and it exists."""
    weights = model.get(CHECKPOINT)
    if model.get("format") != "safetensors" or "config" in model or not isinstance(weights, str):
        return model
    beside = os.path.join(os.path.dirname(weights), "config.json")
    return {**model, "config": beside} if os.path.isfile(_absolute(beside)) else model


def _read(given: Any, place: KeyPath) -> Any:
    """A mapping as it is given, or as the JSON file holds it whose path is given."""
    if not isinstance(given, str):
        return given
    try:
        held = json.loads(_absolute(given).read_text("utf-8"))
    except OSError as error:
        reason = str(error.strerror)
    except (ValueError, RecursionError) as error:
        reason = f"holds no JSON ({error})"
    else:
        if isinstance(held, dict):  # without notes of the library, such as its version
            return {key: value for key, value in held.items() if key == "_class_name" or not key.startswith("_")}
        reason = "holds no JSON object"
    raise SpecError(
        f"got {shown(given)}: {reason}; allowed: a mapping, or the path of a JSON file that holds one", place
    )


def _settled(given: Any, place: KeyPath) -> Any:
    if given is None or isinstance(given, dict):
        return given
    if not isinstance(given, str):
        raise SpecError(f"got {shown(given)}; allowed: a path", place)
    file = _absolute(given)
    try:
        return {"path": str(file), "sha256": content_hash(file)}
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise SpecError(
            f"got {shown(given)}: {reason_of(error)}; allowed: a file, or a folder of files", place
        ) from error


def _absolute(path: str) -> Path:
    from ganlab.data.datasets import absolute

    return absolute(Path(path))


def content_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the names and hashes of all files in it."""
    if path.is_dir():
        listed = "".join(f"{content_hash(file)}  {file.relative_to(path)}\n" for file in files_in(path))
        return hashlib.sha256(listed.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(settings: BaseModel) -> dict[str, Any]:
    """Return settings as plain data without the paths of users' files, of which the hashes count."""
    return settings.model_dump(mode="json", exclude={name: {"path"} for name in hashed_files(settings)})


def hashed_files(settings: BaseModel) -> dict[str, Any]:
    """Files that settings name with a hash of their content, by key."""
    files = {name: getattr(settings, name, None) for name in FILES}
    return {name: file for name, file in files.items() if hasattr(file, "sha256")}


def check_checkpoint(model: BaseModel) -> None:
    """Raise ValueError when a file that a user's model is made from is not the one that the trial is of."""
    for name, file in hashed_files(model).items():
        try:
            found = content_hash(file.path)
        except OSError as error:
            raise ValueError(f"the {name} {file.path} can't be read here: {error.strerror}") from error
        if found != file.sha256:
            raise ValueError(f"the {name} {file.path} is not the one of this trial: its content has changed")


def is_hashed(value: Any) -> bool:
    """Return True for plain data that is a path with a hash beside it, as `settle_checkpoints` writes it."""
    return isinstance(value, dict) and value.keys() == {"path", "sha256"}


def shortest_unique_suffixes(checkpoints: Mapping[str, Any]) -> dict[str, str]:
    """Short names of checkpoints, by trial: as much of the ends of their paths as tells them apart."""
    parts = {trial: Path(each["path"]).parts if each else () for trial, each in checkpoints.items()}
    paths = set(parts.values())
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return {trial: "/".join(path[-length:]) for trial, path in parts.items()}


def families_named(model: Any) -> set[str]:
    """Every ``import:…`` in a model section, whether it stands alone or among alternatives."""
    if isinstance(model, str):
        return {model} if model.startswith(PREFIX) else set()
    if isinstance(model, Mapping):
        words = {key: value for key, value in model.items() if key in ("family", "grid_search", "choice")}
        return set().union(*(families_named(value) for value in words.values()))
    return set().union(*(families_named(each) for each in model)) if isinstance(model, list | tuple) else set()


def files_in(source: Path) -> list[Path]:
    """Files of a module, package or folder, without what Python and tools leave behind."""
    if source.is_file():
        return [source]

    def left_behind(file: Path) -> bool:
        return any(part == "__pycache__" or part.startswith(".") for part in file.relative_to(source).parts)

    return [file for file in sorted(source.rglob("*")) if file.is_file() and not left_behind(file)]
