"""CLUSTER.yaml as a `Site` for each kind of worker, and back.

Invariant: a file without `workers` is one kind, with the same settings; what stands beside `workers` holds for each kind
that does not say otherwise.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.site import Site, Workers, shipped_sites
from jobs.spec.validation import Fault, SpecError, nearest, read_mapping, settings_file, shown, validate

KINDS = "workers"


def load_site(path: str | Path) -> tuple[Site, ...]:
    """Read CLUSTER.yaml: a file, or the name of a shipped one.

    Returns
    -------
    tuple of Site
        One for each kind of worker, in the order of preference; all have a name where there are several.

    Raises
    ------
    SpecError
        One line: file, key, value, what is allowed.
    """
    file = settings_file(path, shipped_sites(), "cluster file")
    data = read_mapping(file, [*Site.model_fields, KINDS])
    try:
        return read_kinds(data)
    except SpecError as error:
        raise error.at(source=str(file)) from error


def read_kinds(data: Mapping[str, Any]) -> tuple[Site, ...]:
    """Make settings of a cluster file's content; see `load_site`."""
    if KINDS not in data:
        return (validate(Site, data),)
    shared = {key: value for key, value in data.items() if key != KINDS}
    given = data[KINDS]
    if not isinstance(given, list) or not given or not all(isinstance(own, dict) for own in given):
        raise SpecError(
            f"got {shown(given)}; allowed: a list of kinds of worker, a mapping each: {{partition: gpu, nodes: 4}}",
            (KINDS,),
        )
    kinds = [_read_kind(shared, own, place) for place, own in enumerate(given)]
    return tuple(_named(kinds))


def site_content(kinds: Sequence[Site]) -> dict[str, Any]:
    """Content of a file that `load_site` reads as these kinds."""
    dumped = [kind.model_dump(mode="json") for kind in kinds]
    if len(kinds) == 1:
        return dumped[0]
    shared = {key: value for key, value in dumped[0].items() if key not in Workers.model_fields}
    return shared | {KINDS: [{key: one[key] for key in Workers.model_fields} for one in dumped]}


def _read_kind(shared: Mapping[str, Any], own: Mapping[str, Any], place: int) -> Site:
    known = list(Workers.model_fields)
    for key, value in own.items():
        if key not in known:
            where = "; it stands beside `workers`, for all of them" if key in Site.model_fields else nearest(key, known)
            raise SpecError(
                f"unknown key (with the value {shown(value)}); allowed: {', '.join(known)}{where}",
                (KINDS, place, key),
                kind=Fault.UNKNOWN_KEY,
            )
    try:
        return validate(Site, {**shared, **own})
    except SpecError as error:
        if error.path and error.path[0] in shared and error.path[0] not in own:
            raise
        raise error.at((KINDS, place, *error.path)) from error


def _named(kinds: Sequence[Site]) -> Iterator[Site]:
    """Give each kind a name of its own."""
    given = [kind.name for kind in kinds if kind.name]
    for place, kind in enumerate(kinds):
        if kind.name and kind.name in [other.name for other in kinds[:place]]:
            raise SpecError(f"got {kind.name}, as another kind has; allowed: a name of its own", (KINDS, place, "name"))
    taken = set(given)
    for kind in kinds:
        name = kind.name
        if not name:
            base = re.sub(r"[^A-Za-z0-9_.-]", "-", kind.gpu_type or kind.partition or KINDS)
            numbered = (f"{base}-{number}" for number in range(2, len(kinds) + 2))
            name = next(each for each in (base, *numbered) if each not in taken)
            taken.add(name)
        yield kind.model_copy(update={"name": name})
