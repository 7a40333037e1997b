"""Search-space words of a sweep file, Ray Tune's own, and the settings they expand to.

Invariant: what draw number k of a key gives depends on (search seed, key, k) alone, so that more draws, more keys or a
newer Ray change no trial that is there.
"""

import difflib
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.spec.validation import KeyPath, SpecError, dotted, shown

KINDS = ("grid_search", "choice", "uniform", "loguniform")
RULE = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"


@dataclass(frozen=True)
class Parameter:
    """One search word: its key path (``("model", "discriminator_width")``), its kind and what it is given.

    `values` are the alternatives of grid_search and choice, (low, high) of uniform and loguniform.
    """

    path: tuple[str, ...]
    kind: str
    values: tuple[Any, ...]

    @property
    def key(self) -> str:
        """Key path with dots."""
        return dotted(self.path)

    def alternative(self, index: int) -> Any:
        """Return one of `values`, as a draw would give it."""
        return float(self.values[index]) if self.kind in ("uniform", "loguniform") else self.values[index]


def find_parameters(data: Any, path: tuple[str, ...]) -> list[Parameter]:
    """Every search word in a section, in the order of the file. Raises SpecError for one that is ill-formed."""
    if not isinstance(data, Mapping):
        return []
    used = [key for key in data if key in KINDS]
    if not used:
        if len(data) == 1 and difflib.get_close_matches(key := next(iter(data)), KINDS, cutoff=0.75):
            found = difflib.get_close_matches(key, KINDS, n=1)
            raise SpecError(f"unknown search word; allowed: {RULE}; did you mean {found[0]}?", (*path, key))
        return [word for key, value in data.items() for word in find_parameters(value, (*path, key))]
    kind, values = used[0], data[used[0]]
    if len(data) > 1:
        raise SpecError(f"got the keys {', '.join(data)}; allowed: one search word alone", path)
    if kind in ("uniform", "loguniform"):
        _check_bounds(kind, values, (*path, kind))
    elif not isinstance(values, list) or not values:
        raise SpecError(f"got {shown(values)}; allowed: a list of at least one value", (*path, kind))
    elif kind == "grid_search":
        for index, value in enumerate(values):
            if any(value == other and type(value) is type(other) for other in values[:index]):
                raise SpecError(f"got {shown(value)} twice; allowed: each value once", (*path, kind, index))
    return [Parameter(path, kind, tuple(values))]


def _check_bounds(kind: str, values: Any, path: KeyPath) -> None:
    lowest = "0 < low" if kind == "loguniform" else "low"
    numbers = isinstance(values, list) and len(values) == 2 and all(type(value) in (int, float) for value in values)
    if not (
        numbers and all(map(math.isfinite, values)) and values[0] < values[1] and (kind == "uniform" or values[0] > 0)
    ):
        raise SpecError(f"got {shown(values)}; allowed: [low, high] with {lowest} < high", path)


def fill(data: Mapping[str, Any], values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return the section with the value of each dotted key in place of what stands there; or of the section, in its."""
    if section in values:
        return dict(values[section])
    return {
        key: values[here]
        if (here := f"{section}.{key}") in values
        else fill(value, values, here)
        if isinstance(value, dict)
        else value
        for key, value in data.items()
    }


def draw(word: Parameter, seed: int, number: int) -> Any:
    """Draw `number` of a choice, uniform or loguniform word."""
    digest = hashlib.sha256(f"{seed}/{word.key}/{number}".encode()).digest()
    unit = int.from_bytes(digest[:6], "big") / 2**48
    if word.kind == "choice":
        return word.values[int(unit * len(word.values))]
    low, high = word.values
    value = low * (high / low) ** unit if word.kind == "loguniform" else low + (high - low) * unit
    # Six digits: enough for a setting, readable in a table, and the same whatever the last bit of pow() is.
    return min(max(float(f"{value:.6g}"), float(low)), float(high))


def combinations(words: Sequence[Parameter], draws: int, seed: int) -> list[dict[str, Any]]:
    """Values by dotted key of every combination of the grids, each with the same `draws` draws of the other words."""
    grids = [word for word in words if word.kind == "grid_search"]
    others = [word for word in words if word.kind != "grid_search"]
    return [
        {word.key: value for word, value in zip(grids, point, strict=True)}
        | {word.key: draw(word, seed, number) for word in others}
        for point in itertools.product(*(word.values for word in grids))
        for number in range(draws if others else 1)
    ]
