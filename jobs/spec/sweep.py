"""The sweep file: its sections, its trials, and what makes two sweeps the same.

Invariant: a trial's id is a hash of its science (dataset, model, train, samples, seed, every default written out), so
that more trials, another machine or another name recompute nothing.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, field_validator

from ganlab.data.datasets import DATASETS, AnyDataset, RealSettings
from ganlab.quality.embeddings.names import default_embedding
from jobs.spec.checkpoints import FORM, PREFIX, identity, is_hashed, settle_checkpoints, shortest_unique_suffixes
from jobs.spec.checks import check_number, check_search, check_sections
from jobs.spec.search_space import KINDS, Parameter, combinations, fill, find_parameters
from jobs.spec.sections import CollisionSettings, ResourceSettings, SampleSettings, SearchSettings, Section
from jobs.spec.validation import (
    Fault,
    KeyPath,
    SpecError,
    dotted,
    nearest,
    override,
    read_mapping,
    settings_file,
    shown,
    validate,
)
from storage.statistics import reserved_names

__all__ = [
    "CollisionSettings",
    "ResourceSettings",
    "SampleSettings",
    "SearchSettings",
    "Spec",
    "SpecError",
    "TrialSettings",
    "check_spec",
    "difference",
    "load_spec",
    "shipped_sweeps",
]


def _as_family_settings(value: Any) -> BaseModel:
    return value if isinstance(value, BaseModel) else _settings_class(value["family"]).model_validate(value)


def _as_train_settings(value: Any) -> BaseModel:
    return value if isinstance(value, BaseModel) else _train_class().model_validate(value)


if TYPE_CHECKING:
    from ganlab.models.train import TrainSettings
else:  # found when a trial is made, so that this module does not load torch: workers that only compare images need none
    TrainSettings = Annotated[Any, BeforeValidator(_as_train_settings)]


class TrialSettings(Section):
    """One trial: all that it computes is a function of these settings."""

    id: str
    """Family, and ten hexadecimal digits of the hash of everything below."""
    dataset: AnyDataset
    """Training images."""
    model: Annotated[Any, BeforeValidator(_as_family_settings)]
    """The family's own settings; `model.family` is its name."""
    train: TrainSettings
    """Training settings."""
    samples: SampleSettings
    """Images to store."""
    seed: int
    """Seed of weights, batches and latent vectors."""


class Spec(Section):
    """A sweep file."""

    name: str
    """Name of the sweep, and of its folder."""
    dataset: AnyDataset
    """Training images."""
    model: dict[str, Any]
    """family, and the family's settings; may hold search words, or be a grid_search of whole models."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Training settings; may hold search words."""
    samples: SampleSettings = SampleSettings()
    """Images that each trial stores."""
    collisions: CollisionSettings = CollisionSettings()
    """Settings of the comparison of images."""
    seeds: Annotated[int, Field(ge=1, le=1_000_000)] | tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...] = 1
    """Number of seeds (0, 1, …), or their list: each trial is trained with each."""
    search: SearchSettings = SearchSettings()
    """Settings of the search."""
    resources: ResourceSettings = ResourceSettings()
    """Resources and speed of a run; changes no number."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Versions and commit, written by ganlab into a sweep's own copy; not read."""

    _source: str = PrivateAttr("")
    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _by_default: frozenset[str] = PrivateAttr(frozenset())

    @field_validator("name")
    @classmethod
    def _file_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(
                f"got {shown(name)}; allowed: at most 100 letters, digits, '.', '_' and '-', the first a "
                "letter or digit (it names the sweep's folder)"
            )
        return name

    @property
    def source(self) -> str:
        """File that the spec came from, and what ``--set`` changed, for messages."""
        return self._source

    @property
    def folder(self) -> Path:
        """Folder of the file that the spec came from."""
        return self._folder

    @property
    def seed_list(self) -> tuple[int, ...]:
        """Every seed."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def workers_per_trial(self) -> int:
        """Data-parallel workers of each trial, which have the trial's GPUs and CPUs among them."""
        return self.trial(_first(self)).train.workers

    @property
    def longest_trial_steps(self) -> int:
        """Largest number of steps of any trial."""
        words = [word for word in self.space() if word.key == "train.steps"]
        return max(words[0].values) if words else self.trial(_first(self)).train.steps

    def continuing(self, on_disk: "Spec") -> "Spec":
        """Return the spec for a sweep begun before: defaults of new sweeps give way to the settings of that one."""
        dataset, collisions = self.dataset, self.collisions
        if "held_out" in self._by_default and isinstance(on_disk.dataset, RealSettings):
            dataset = dataset.model_copy(update={"held_out": on_disk.dataset.held_out})
        if "embedding" in self._by_default:
            collisions = collisions.model_copy(update={"embedding": on_disk.collisions.embedding})
        return self.model_copy(update={"dataset": dataset, "collisions": collisions})

    def space(self) -> tuple[Parameter, ...]:
        """Return the search words, as plain descriptions."""
        return (*find_parameters(self.model, ("model",)), *find_parameters(self.train, ("train",)))

    def trials(self) -> tuple[TrialSettings, ...]:
        """Return every trial, seeds innermost; equal draws are one trial.

        With optuna none is known beforehand: as many as there will be suggestions, each at the first values.
        """
        if self.search.algorithm == "optuna":
            return (self.trial(_first(self)),) * (self.search.trials or 0)
        points = combinations(self.space(), self.search.trials or 1, self.search.seed)
        trials = [self.trial(point, seed) for point in points for seed in self.seed_list]
        return tuple({trial.id: trial for trial in trials}.values())

    def trial(self, values: Mapping[str, Any], seed: int | None = None) -> TrialSettings:
        """Make one trial.

        Parameters
        ----------
        values
            Of every search word, by its dotted key: ``{"model.discriminator_width": 16}``.
        seed
            By default the first one.

        Raises
        ------
        SpecError
            When the values do not fit the settings, or one another.
        """
        model, train = _resolve(self, values)
        for index, step in enumerate(self.samples.snapshots):
            if step >= train.steps:
                raise SpecError(
                    f"got {step}; allowed: steps below train.steps = {train.steps} (there the final images are drawn)",
                    ("samples", "snapshots", index),
                )
        chosen = self.seed_list[0] if seed is None else seed
        parts = {"dataset": self.dataset.identity(), "seed": chosen} | {
            name: identity(part) for name, part in (("model", model), ("train", train), ("samples", self.samples))
        }
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return TrialSettings(
            id=f"{model.family.rpartition(':')[2]}-{hashlib.sha256(canonical.encode()).hexdigest()[:10]}",
            dataset=self.dataset,
            model=model,
            train=train,
            samples=self.samples,
            seed=chosen,
        )

    def hyperparameters(self, trials: Iterable[TrialSettings]) -> dict[str, dict[str, Any]]:
        """Return each key that varies over the sweep, by its short name, with its value in each trial, by id.

        The short name is the last part of the key; the whole key, joined by "_", where that would be ambiguous, or
        means something else in the results.
        """
        taken = reserved_names()
        paths = [path for word in self.space() if word.key != "model.family" for path in _varying(word)]
        last = [path[-1] for path in paths]
        dumps = {trial.id: trial.model_dump(mode="json") for trial in trials}
        names = ["_".join(path) if last.count(path[-1]) > 1 or path[-1] in taken else path[-1] for path in paths]
        columns = [{trial: _at(dump, path) for trial, dump in dumps.items()} for path in paths]
        return {
            name: shortest_unique_suffixes(column) if any(map(is_hashed, column.values())) else column
            for name, path, column in zip(names, paths, columns, strict=True)
        }

    def resolved(self, provenance: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the spec as plain data with every default written out; `load_spec` reads it again."""
        data = self.model_dump(mode="json") | {"provenance": dict(provenance or self.provenance)}
        words = {word.key: {word.kind: list(word.values)} for word in self.space()}
        model, train = _resolve(self, _first(self))
        if not words.keys() & {"model", "model.family"}:  # two families have different defaults
            data["model"] = fill(model.model_dump(mode="json"), words, "model")
        data["train"] = fill(train.model_dump(mode="json"), words, "train")
        return data


def shipped_sweeps() -> dict[str, Path]:
    """Sweep files that come with ganlab, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "sweeps").glob("*.yaml"))}


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Read a sweep file.

    Parameters
    ----------
    path
        A file, or the name of a shipped sweep.
    overrides
        ``key=value`` each (``train.steps=100``), applied in order; none may replace an earlier one.

    Raises
    ------
    SpecError
        One line: file, key path, value, what is allowed.
    """
    file = settings_file(path, shipped_sweeps(), "sweep file")
    data = read_mapping(file, [name for name in Spec.model_fields if name != "provenance"])
    applied: dict[KeyPath, str] = {}
    for assignment in overrides:
        key = override(data, assignment)
        if lost := [earlier for path, earlier in applied.items() if path[: len(key)] == key]:
            raise SpecError(f"replaces --set {lost[0]}; allowed: each key once", source=f"--set {assignment}")
        applied[key] = assignment
    everything = " ".join([str(file), *(f"(with --set {assignment})" for assignment in applied.values())])
    try:
        return check_spec(data, everything, file.absolute().parent)
    except SpecError as error:
        blamed = [f"--set {assignment}" for key, assignment in applied.items() if error.path[: len(key)] == key]
        raise error.at(source=blamed[-1] if blamed else everything) from error


def check_spec(data: Mapping[str, Any], source: str = "", folder: Path | None = None) -> Spec:
    """Make a spec of plain data and check every alternative it holds. Raises SpecError (without the source)."""
    if "model" in data:
        data = {**data, "model": settle_checkpoints(data["model"])}
    if isinstance(data.get("collisions"), dict):
        data = {**data, "collisions": _current_collisions(data["collisions"])}
    for section in (section for section in data if section not in ("model", "train", "provenance")):
        for word in find_parameters(data[section], (section,)):
            raise SpecError(
                f"got the search word {word.kind}; allowed: a value (search words may stand in model and train alone)",
                word.path,
            )
    spec = validate(Spec, data, (), _section_classes(data))
    spec._source, spec._folder = source, folder or Path.cwd()
    if "provenance" not in data:  # not a sweep's own copy, in which what is missing was not set
        spec = _with_defaults_of_real_images(spec)
    check_sections(spec.samples, spec.collisions, spec.seeds)
    words, first = spec.space(), _first(spec)
    for word in words:
        if word.key == "model" and not (word.kind == "grid_search" and all(isinstance(x, dict) for x in word.values)):
            raise SpecError(
                f"got {word.kind} of {shown(word.values[0])}; allowed: grid_search of mappings, each a whole "
                "model with its family",
                ("model", word.kind),
            )
    check_search(spec.search, spec.resources, spec.seeds, words)
    check_number(spec.search, spec.seeds, words)
    try:
        _resolve(spec, first)
    except SpecError as error:
        raise _at_alternative(error, next((word for word in words if _under(error, word)), None), 0) from error
    for word in words:
        for index in range(len(word.values)):
            try:
                _resolve(spec, first | {word.key: word.alternative(index)})
            except SpecError as error:
                raise _at_alternative(error, word, index) from error
    spec.trials()
    if spec.search.scheduler == "asha" and spec.search.grace_steps > spec.longest_trial_steps:
        raise SpecError(
            f"got {spec.search.grace_steps}; allowed: at most train.steps = {spec.longest_trial_steps}",
            ("search", "grace_steps"),
        )
    return spec


def _with_defaults_of_real_images(spec: Spec) -> Spec:
    """Hold out images of a dataset of real images, and compare colour pictures in the space that people agree with most.

    Not in pixels, where a distance is given: it is one of pixels, from 0 to 255.
    """
    from storage.arrays import open_array

    dataset, collisions = spec.dataset, spec.collisions
    if not isinstance(dataset, RealSettings):
        return spec
    by_default = set()
    if "held_out" not in dataset.model_fields_set:
        dataset = dataset.model_copy(update={"held_out": "auto"})
        by_default.add("held_out")
    if "embedding" not in collisions.model_fields_set:
        with suppress(ValueError, OSError):  # files that can't be read are refused when the images are
            embedding = default_embedding(dataset.image_shape(open_array), isinstance(collisions.threshold, float))
            collisions = collisions.model_copy(update={"embedding": embedding})
        by_default.add("embedding")
    spec = spec.model_copy(update={"dataset": dataset, "collisions": collisions})
    spec._by_default = frozenset(by_default)
    return spec


def _current_collisions(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a collisions section with the key of version 0.1.0, `real_neighbour_quantile`, in the words of today.

    Its default, 0.1, stood in every sweep's own copy and was no choice: `auto` then means what it means today.
    """
    current = dict(section)
    quantile = current.pop("real_neighbour_quantile", 0.1)
    if quantile != 0.1 and current.get("threshold", "auto") == "auto":
        current["threshold"] = {"quantile": quantile}
    return current


def difference(on_disk: Spec, spec: Spec) -> list[str]:
    """Sentences on why `spec` cannot continue a sweep made by `on_disk`; empty when it can.

    It can when it is the same sweep with the same trials or more: resources, and where the dataset lies, may change.
    """
    old, new = _flat(on_disk), _flat(spec)
    changed = {
        key: f"{key} is {shown(old.get(key))} there and {shown(new.get(key))} here"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    }
    sections = ("name", "dataset", "samples", "collisions")
    if fixed := [sentence for key, sentence in changed.items() if key.split(".")[0] in sections]:
        return fixed
    if "optuna" in (on_disk.search.algorithm, spec.search.algorithm):  # what it suggests depends on all of these
        grown = (spec.search.trials or 0) > (on_disk.search.trials or 0)
        return [sentence for key, sentence in changed.items() if key != "search.trials" or not grown]
    lost = {trial.id for trial in on_disk.trials()} - {trial.id for trial in spec.trials()}
    return [f"{len(lost)} of the trials there are not among those here: {'; '.join(changed.values())}"] if lost else []


def _flat(spec: Spec) -> dict[str, Any]:
    """Return the resolved spec by dotted key, without what may change freely."""

    def leaves(data: Any, path: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(data, dict) or data.keys() & set(KINDS):
            return {dotted(path): data}
        return {key: leaf for part, value in data.items() for key, leaf in leaves(value, (*path, part)).items()}

    resolved = spec.resolved() | {"dataset": spec.dataset.identity()}
    return leaves({key: value for key, value in resolved.items() if key not in ("resources", "provenance")}, ())


def _families() -> dict[str, type[BaseModel]]:
    from ganlab.models.families import FAMILIES

    return {name: family.Settings for name, family in FAMILIES.items()}


def _settings_class(name: str) -> type[BaseModel]:
    from ganlab.models.families import settings_class

    return settings_class(name)


def _train_class() -> type[BaseModel]:
    from ganlab.models.train import TrainSettings

    return TrainSettings


def _section_classes(data: Mapping[str, Any]) -> dict[str, type[BaseModel]]:
    """Settings of each section, as far as the data tells: where a key that stands in the wrong place may belong."""
    datasets: dict[str, type[BaseModel]] = dict(DATASETS)
    classes: dict[str, type[BaseModel]] = {
        "train": _train_class(),
        "samples": SampleSettings,
        "collisions": CollisionSettings,
        "search": SearchSettings,
        "resources": ResourceSettings,
    }
    for section, tag, known in (("dataset", "name", datasets), ("model", "family", _families())):
        chosen = data[section].get(tag) if isinstance(data.get(section), dict) else None
        if isinstance(chosen, str) and chosen in known:
            classes[section] = known[chosen]
    return classes


def _resolve(spec: Spec, values: Mapping[str, Any]) -> tuple[Any, "TrainSettings"]:
    """Model and training settings with these values in place of the search words."""
    families = _families()
    model, train = fill(spec.model, values, "model"), fill(spec.train, values, "train")
    path: KeyPath = ("model", "family")
    if "family" not in model:
        raise SpecError(f"is missing; allowed: {', '.join(families)} or {FORM}", path)
    name = model["family"]
    if not isinstance(name, str) or not (name in families or name.startswith(PREFIX)):
        hint = nearest(name, list(families)) if isinstance(name, str) else ""
        raise SpecError(f"got {shown(name)}; allowed: {', '.join(families)} or {FORM}{hint}", path)
    elsewhere = _section_classes({"model": model})
    from ganlab.models.train import TrainSettings

    settings = validate(_settings_class(name), model, ("model",), elsewhere)
    return settings, validate(TrainSettings, train, ("train",), elsewhere)


def _first(spec: Spec) -> dict[str, Any]:
    """One value for each search word."""
    return {word.key: word.alternative(0) for word in spec.space()}


def _varying(word: Parameter) -> list[tuple[str, ...]]:
    """Key paths that a word makes differ: its own; of mappings, such as whole models, each that differs among them."""
    if not all(map(_is_mapping, word.values)):
        return [word.path]
    return [path for path in _differing(word.values, word.path) if path != ("model", "family")]


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and not is_hashed(value)


def _differing(values: Sequence[Any], path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Key paths at which mappings differ; mappings in them are compared where all have them, of one architecture."""
    comparable = len({value.get("architecture") for value in values}) == 1
    paths: list[tuple[str, ...]] = []
    for key in dict.fromkeys(key for value in values for key in value):
        inner = [value.get(key) for value in values]
        if not any(map(_is_mapping, inner)):
            paths += [(*path, key)] if any(each != inner[0] for each in inner) else []
        elif comparable and all(map(_is_mapping, inner)):
            paths += _differing(inner, (*path, key))
    return paths


def _under(error: SpecError, word: Parameter) -> bool:
    return error.path[: len(word.path)] == word.path


def _at_alternative(error: SpecError, word: Parameter | None, index: int) -> SpecError:
    """Put the fault of one alternative at its place in the file."""
    whole = word is not None and word.key == "model" and _under(error, word)  # the key stands in one of the models
    if word is None or (error.kind is Fault.UNKNOWN_KEY and not whole):
        return error
    depth = len(word.path)
    if not _under(error, word):
        return error.at(more=f" (with {word.key} = {shown(word.values[index])})")
    fraction = word.kind in ("uniform", "loguniform") and error.kind is Fault.NOT_WHOLE
    hint = f"; {word.kind} draws fractions: use choice or grid_search" if fraction else ""
    return error.at((*word.path, word.kind, index, *error.path[depth:]), more=hint)


def _at(data: Any, path: Sequence[str]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data
