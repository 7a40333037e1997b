"""YAML into checked settings, where every fault is one line that says what to write instead.

Invariant: nothing is guessed or converted: a value that is not of its field's type is refused, and so is a key that is
unknown or stands twice.
"""

import difflib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

KeyPath = tuple[str | int, ...]
Settings = TypeVar("Settings", bound=BaseModel)


class Fault(Enum):
    """Kind of a fault, as far as it decides what else is said of it."""

    UNKNOWN_KEY = auto()
    NOT_WHOLE = auto()
    """A value that was refused where numbers must be whole."""
    OTHER = auto()


class SpecError(ValueError):
    """A fault in a settings file or in ``--set``; its text is one line: where, what was found, what is allowed."""

    def __init__(self, text: str, path: KeyPath = (), source: str = "", kind: Fault = Fault.OTHER) -> None:
        super().__init__(text, path, source, kind)
        self.text, self.path, self.source, self.kind = one_line(text), path, source, kind

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, dotted(self.path), self.text) if part)

    def at(self, path: KeyPath | None = None, source: str = "", more: str = "") -> Self:
        """Return the same fault at another place, with `more` behind its text."""
        return type(self)(self.text + more, self.path if path is None else path, source, self.kind)


def one_line(text: str) -> str:
    """Join the lines of a text; spaces within a line, as in a path, stay."""
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def dotted(path: KeyPath) -> str:
    """Key path as people write it: ``model.discriminator_width.grid_search[2]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def shown(value: object) -> str:
    """Return the value as YAML would write it, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def nearest(word: str, known: Sequence[str], names: Mapping[str, str] | None = None) -> str:
    """Return "; did you mean …?" or nothing; `names` says how to write the known words."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {(names or {}).get(found[0], found[0])}?" if found else ""


LARGEST = 1e18  # in absolute value, of any number
MOST_VALUES = 1_000_000  # of a file, aliases written out: a few lines of aliases can stand for billions


class _Loader(yaml.SafeLoader):
    """YAML with the types of YAML 1.2: ``2e-4`` is a number, ``no`` is a word, dates are words; no key stands twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_TYPES = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:0|[1-9][0-9_]{0,40})",
    "float": r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}
for _name, _pattern in _TYPES.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), None)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key is not text; allowed: text", problem_mark=key.start_mark)
        if key.value in result:
            raise yaml.MarkedYAMLError(
                problem=f"the key {key.value} stands twice; allowed: once", problem_mark=key.start_mark
            )
        result[key.value] = loader.construct_object(value, deep=True)  # type: ignore[no-untyped-call]
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
_Loader.add_constructor(
    "tag:yaml.org,2002:float", lambda loader, node: float(re.sub(r"\.(?=inf|nan)", "", node.value.lower()))
)


def _count(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Number of values that a node stands for; `known` keeps it, so that aliases take no time."""
    if node not in known:
        known[node] = 1  # what a node inside itself counts as; the constructor refuses it
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        known[node] += sum(
            _count(each, known) for part in inner for each in (part if isinstance(part, tuple) else [part])
        )
    return known[node]


def parse_yaml(text: str, source: str) -> Any:
    """Parse one YAML document. Raises SpecError with line and column."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = 0 if node is None else _count(node, {})
        if values <= MOST_VALUES:
            return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError(f"{where}{error.problem or error.context}", source=source) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"is no YAML ({error})", source=source) from error
    raise SpecError(f"holds {values:,} values, each alias written out; allowed: at most {MOST_VALUES:,}", source=source)


def settings_file(path: str | Path, shipped: Mapping[str, Path], kind: str) -> Path:
    """Find a settings file by its path, or by the name of a shipped one.

    Parameters
    ----------
    path
        What the user gave.
    shipped
        Shipped files by name.
    kind
        What the file is, for the error: ``sweep file``.

    Raises
    ------
    SpecError
        No such file; names the nearest shipped one.
    """
    file = Path(path)
    try:
        os.stat(path)
        state = "" if file.is_file() else "is a folder" if file.is_dir() else "is no ordinary file"
    except FileNotFoundError:
        state = "does not exist"
    except (OSError, ValueError) as error:
        state = f"cannot be read ({reason_of(error)})"
    if state and str(path) in shipped:
        return shipped[str(path)]
    if state:
        hint = nearest(file.stem, list(shipped))
        raise SpecError(f"{state}; allowed: a {kind} or one of {', '.join(shipped)}{hint}", source=str(path) or "''")
    return file


def reason_of(error: OSError | ValueError) -> str:
    """Return the reason of an error without the path it is about."""
    return getattr(error, "strerror", None) or str(error)


def read_mapping(path: Path, expected: Sequence[str]) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping with (some of) the expected keys. Raises SpecError."""
    try:
        data = parse_yaml(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise SpecError(
            f"is not text in UTF-8 ({error.reason} at byte {error.start}); allowed: a YAML file", source=str(path)
        ) from error
    except OSError as error:
        raise SpecError(f"cannot be read ({error.strerror}); allowed: a YAML file", source=str(path)) from error
    if not isinstance(data, dict):
        state = "is empty" if data is None else f"holds {shown(data)}"
        raise SpecError(f"{state}; allowed: a mapping with the keys {', '.join(expected)}", source=str(path))
    return data


def override(data: dict[str, Any], assignment: str) -> KeyPath:
    """Apply one ``key=value`` (``train.steps=100``; the value is YAML) to the data in place and return its key path."""
    source = f"--set {assignment}"
    key, equals, value = assignment.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise SpecError("allowed: key=value, as in train.steps=1000", source=source)
    place = data
    for depth, part in enumerate(path[:-1], 1):
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise SpecError(
                f"got {shown(place)} there, which has no keys; allowed: a key path of the sweep file",
                path[:depth],
                source,
            )
    place[path[-1]] = parse_yaml(value, source)
    return path


def validate(
    cls: type[Settings],
    data: Mapping[str, Any],
    path: KeyPath = (),
    elsewhere: Mapping[str, type[BaseModel]] | None = None,
) -> Settings:
    """Make settings of plain data, without any conversion of types.

    Parameters
    ----------
    cls
        The settings' class.
    data
        What YAML gave.
    path
        Key path of `data` in the file.
    elsewhere
        Other sections by name: where a key that is unknown here may belong.

    Raises
    ------
    SpecError
        For the first fault, with its key path.
    """
    refuse_unusable_numbers(data, path)
    try:
        # By way of JSON, since strict validation of Python objects would refuse lists for tuples and text for paths.
        return cls.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise _explained(cls, data, error, path, elsewhere or {}) from error


def refuse_unusable_numbers(data: object, path: KeyPath = ()) -> None:
    """Raise SpecError for a NaN, an infinity, or a number too large to calculate with, anywhere in the data."""
    if isinstance(data, int | float) and not -LARGEST <= data <= LARGEST:
        kind = "a finite number" if isinstance(data, float) and not math.isfinite(data) else "numbers"
        got = data if isinstance(data, float) else shown(data)
        raise SpecError(f"got {got}; allowed: {kind} from -{LARGEST:g} to {LARGEST:g}", path)
    items = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list | tuple) else ()
    for key, value in items:
        refuse_unusable_numbers(value, (*path, key))


def _explained(
    cls: type[BaseModel],
    data: Mapping[str, Any],
    error: ValidationError,
    path: KeyPath,
    elsewhere: Mapping[str, type[BaseModel]],
) -> SpecError:
    """Choose the fault to show: an unknown key explains a missing one, and the deepest place is the most precise."""
    faults = [(_in_data(data, fault["loc"], fault["type"] == "missing"), fault) for fault in error.errors()]
    place, fault = min(
        faults,
        key=lambda item: (item[1]["type"] != "extra_forbidden", -len(item[0]), item[1]["type"] != "value_error"),
    )
    schema = _Schema(cls.model_json_schema())
    where = (*path, *place)
    if fault["type"] == "extra_forbidden":
        key, known = str(place[-1]), [name for name in schema.keys(place[:-1], data) if name != "provenance"]
        others = {name: f"{section}.{name}" for section, other in elsewhere.items() for name in other.model_fields}
        hint = nearest(key, known)
        if key in others or not hint:
            hint = nearest(key, list(others), others)
        got = shown(fault["input"])
        return SpecError(
            f"unknown key (with the value {got}); allowed: {', '.join(known)}{hint}", where, kind=Fault.UNKNOWN_KEY
        )
    if fault["type"] == "value_error":
        return SpecError(fault["msg"].removeprefix("Value error, "), where)
    pattern = fault["ctx"]["pattern"] if fault["type"] == "string_pattern_mismatch" else None
    allowed = schema.describe(place, data) if pattern is None else f"text that matches {pattern}"
    if fault["type"] == "missing":
        return SpecError(f"is missing; allowed: {allowed}", where)
    hint = nearest(fault["input"], schema.choices(place, data)) if isinstance(fault["input"], str) else ""
    got = fault["input"]
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        key = str(fault["ctx"]["discriminator"]).strip("'")
        choices = [tag.strip(" '") for tag in schema.tags(place, data)]
        where = (*where, key)
        if key not in got:
            return SpecError(f"is missing; allowed: {_either(choices)}", where)
        got, allowed = got[key], _either(choices)
        hint = nearest(got, choices) if isinstance(got, str) else ""
    kind = Fault.NOT_WHOLE if schema.is_whole(place, data) else Fault.OTHER
    return SpecError(f"got {shown(got)}; allowed: {allowed}{hint}", where, kind=kind)


def _in_data(data: Any, location: tuple[int | str, ...], missing: bool) -> KeyPath:
    """Leave out of pydantic's location what stands for a branch of a union and not for a place in the data."""
    place: list[int | str] = []
    for number, part in enumerate(location):
        if _holds(data, part):
            place.append(part)
            data = data[part]
        elif missing and number == len(location) - 1:
            place.append(part)
    return tuple(place)


def _holds(data: Any, part: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data


def allowed(cls: type[BaseModel], key: str) -> str:
    """Description of the values that a key allows, for error messages."""
    return _Schema(cls.model_json_schema()).describe((key,), {})


class _Schema:
    """A JSON schema, asked in the words of the file."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root

    def at(self, place: KeyPath, data: Any) -> dict[str, Any]:
        """Return the schema of a place; {} when the place is not described."""
        schema = self._resolved(self.root, data)
        for part in place:
            data = data[part] if _holds(data, part) else None
            branches = [self._resolved(branch, data) for branch in schema.get("anyOf", [schema])]
            inner = [
                described
                for branch in branches
                if (described := _item(branch, part) if isinstance(part, int) else _entry(branch, part)) is not None
            ]
            if not inner:
                return {}
            schema = self._resolved(inner[0], data)
        return schema

    def _resolved(self, schema: dict[str, Any], data: Any) -> dict[str, Any]:
        while "$ref" in schema or "discriminator" in schema:
            reference = schema.get("$ref")
            if reference is None:
                rule = schema["discriminator"]
                tag = data.get(rule["propertyName"]) if isinstance(data, dict) else None
                reference = rule["mapping"].get(tag) if isinstance(tag, str) else None
                if reference is None:
                    return schema
            schema = self.root["$defs"][reference.rsplit("/", 1)[1]]
        return schema

    def keys(self, place: KeyPath, data: Any) -> list[str]:
        """Keys of a section, or of every section that may stand in its place."""
        schema = self.at(place, data)
        branches = [self._resolved(branch, data) for branch in schema.get("anyOf", [schema])]
        return [key for branch in branches for key in branch.get("properties", {})]

    def tags(self, place: KeyPath, data: Any) -> list[str]:
        """Names among which a section's name chooses its other keys."""
        return list(self.at(place, data).get("discriminator", {}).get("mapping", {}))

    def choices(self, place: KeyPath, data: Any) -> list[str]:
        """Words that a value may be."""
        schema = self.at(place, data)
        branches = schema.get("anyOf", [schema])
        return [str(value) for branch in branches for value in branch.get("enum", [branch.get("const")]) if value]

    def is_whole(self, place: KeyPath, data: Any) -> bool:
        """True if numbers at that key must be whole."""
        schema = self.at(place, data)
        kinds = {self._resolved(branch, None).get("type") for branch in schema.get("anyOf", [schema])}
        return "integer" in kinds and "number" not in kinds

    def describe(self, place: KeyPath, data: Any) -> str:
        """Say what a value may be."""
        return self._described(self.at(place, data))

    def _described(self, schema: dict[str, Any]) -> str:
        schema = self._resolved(schema, None)
        if "anyOf" in schema:
            return _either([self._described(branch) for branch in schema["anyOf"]])
        if "discriminator" in schema:
            return f"a mapping with name: {_either(list(schema['discriminator']['mapping']))}"
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if values:
            return _either([str(value) for value in values])
        match schema.get("type"):
            case "integer" | "number" as kind:
                unit = f" ({schema['unit']})" if "unit" in schema else ""
                return f"a {'whole ' if kind == 'integer' else ''}number{_range(schema)}{unit}"
            case "boolean":
                return "true or false"
            case "array":
                fixed = schema.get("prefixItems", [])
                entries = dict.fromkeys(map(self._described, fixed or [schema.get("items", {})]))
                return f"a list{f' of {len(fixed)}' if fixed else ''}, each entry {_either(list(entries))}"
            case "object":
                keys = schema.get("properties", {})
                return f"a mapping with the keys {', '.join(keys)}" if keys else "a mapping"
            case "null":
                return "null"
            case "string":
                return "a path" if schema.get("format") == "path" else "text"
        return "something else"


def _item(schema: Mapping[str, Any], index: int) -> Any:
    """Schema of an entry of a list; None where a list has no such entry."""
    fixed = schema.get("prefixItems", [])
    return fixed[index] if index < len(fixed) else schema.get("items")


def _entry(schema: Mapping[str, Any], key: str) -> Any:
    """Schema of what stands under a key: of a section's own key, or of any key of a free mapping; None for another."""
    free = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return schema.get("properties", {}).get(key, next((each for each in free if isinstance(each, dict)), None))


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    parts = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return f" {' and '.join(parts)}" if parts else ""


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
