"""Command lines and environments of the Python processes that ganlab starts.

Invariant: no module in the folder that a command is started in, and none on the user's PYTHONPATH, takes the place of
ganlab's packages or of the libraries they use; the user's own modules are found after these. Every process is started by
`python`, inside `safe_python` or with `safe_environment`.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

USER_PATH = "GANLAB_USER_PATH"  # as in startup/sitecustomize.py, which imports nothing of ours
STARTUP = Path(__file__).parent / "startup"


def python(*arguments: str) -> list[str]:
    """Command line of a Python process that does not import from the folder it starts in."""
    return [sys.executable, "-P", *arguments]


def safe_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of a Python process, and of all that it starts, in which the user's PYTHONPATH is searched last.

    `environment`, by default this process's, may be safe already.
    """
    given = dict(os.environ if environment is None else environment)
    users = os.pathsep.join(user_path(given))
    return given | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(STARTUP), USER_PATH: users}


def user_path(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Absolute folders of the user's PYTHONPATH; `environment` may be safe already."""
    folders = environment.get(USER_PATH, environment.get("PYTHONPATH", ""))
    return [os.path.abspath(folder) for folder in folders.split(os.pathsep)] if folders else []


def safe_exports(packages: Path) -> list[str]:
    """Lines of a shell script that make its environment safe for the packages copied to the folder `packages`."""
    startup = packages / STARTUP.relative_to(Path(__file__).parents[1])
    return [
        f'export {USER_PATH}="${{{USER_PATH}-${{PYTHONPATH-}}}}"',
        f"export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(startup))}",
    ]


@contextmanager
def safe_python() -> Iterator[None]:
    """Give this process the safe environment for the length of the context: what is started in it inherits that."""
    names = ("PYTHONSAFEPATH", "PYTHONPATH", USER_PATH)
    before = {name: os.environ.get(name) for name in names}
    os.environ |= safe_environment()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def in_empty_folder(parent: Path) -> Iterator[None]:
    """Make an empty folder the current one for the length of the context.

    Ray lets its workers import from the folder that its driver connects in, before anything else.
    """
    empty = parent / "empty"
    empty.mkdir(exist_ok=True)
    with contextlib.chdir(empty):
        yield
