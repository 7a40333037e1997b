"""Import circles among our modules: python -m tests.import_circles prints each, and nothing when there is none.

Invariant: every import statement counts, also those inside functions and those for type checkers alone.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("cluster", "ganlab", "jobs", "monitoring", "storage")


def imports() -> dict[str, set[str]]:
    """Modules that each module imports, by dotted names; a package's own name stands for its ``__init__``."""
    files = {_name(file): file for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    return {name: set(_imported(file, files)) - {name} for name, file in files.items()}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return one circle of modules, its first module last again; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known:
                    yield name
                elif node.module in known:
                    yield node.module


def main() -> int:
    """Print every circle that is found, one at a time."""
    graph, found = imports(), 0
    while path := circle(graph):
        print(" -> ".join(path))
        graph[path[0]].discard(path[1])
        found += 1
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
