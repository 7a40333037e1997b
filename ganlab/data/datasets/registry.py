"""The datasets of this package, found by their modules: a new one needs no line elsewhere.

Invariant: the order is that of the names, whichever module is imported first.
"""

import importlib
import pkgutil
import sys
from inspect import isabstract
from typing import Annotated, Any, TypeVar, Union

from pydantic import Field

from ganlab.data.datasets.base import DatasetSettings

Kind = TypeVar("Kind", bound=DatasetSettings)


def datasets(kind: type[Kind]) -> dict[str, type[Kind]]:
    """Every dataset of a kind, by the name that a sweep file gives."""
    package, _, _ = __name__.rpartition(".")
    for module in pkgutil.iter_modules(sys.modules[package].__path__):
        importlib.import_module(f"{package}.{module.name}")
    found = {each.model_fields["name"].default: each for each in _concrete(kind) if each.__module__.startswith(package)}
    return dict(sorted(found.items()))


def any_of(kind: type[DatasetSettings]) -> Any:
    """Type of a key that holds any dataset of a kind, told apart by `name`."""
    return Annotated[Union[tuple(datasets(kind).values())], Field(discriminator="name")]  # noqa: UP007


def _concrete(kind: type[Kind]) -> list[type[Kind]]:
    below = [each for child in kind.__subclasses__() for each in _concrete(child)]
    return below if isabstract(kind) else [kind, *below]
