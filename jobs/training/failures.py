"""Failures in one line: the error, the line of the user's code that raised it, and the file with the whole traceback.

Invariant: an error of a user's model (`family: import:…`) has its traceback on disk before the line that names it is
shown or recorded.
"""

import os
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from cluster.ray_errors import names_lost_node
from jobs.spec.validation import SpecError, one_line
from storage.atomic import WriteError, write_bytes
from storage.attempts import Cause
from storage.layout import SweepLayout
from storage.outcome import Failure
from storage.patience import is_waited_for

PACKAGES = ("cluster", "ganlab", "jobs", "monitoring", "storage")
LONGEST = 400  # characters of an error's own text
_ROOT = Path(__file__).parents[2]
_NOT_USERS = (
    *(str(_ROOT / package) for package in PACKAGES),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)


class TrialFailedError(RuntimeError):
    """A worker's failure that is recorded already: its line, its cause, and whether the user's code raised it."""

    def __init__(self, line: str, of_user: bool, kind: Failure) -> None:
        super().__init__(line, of_user, kind)
        self.line, self.of_user, self.kind = line, of_user, kind

    def __str__(self) -> str:
        return self.line


def record_failure(layout: SweepLayout, trial: Any, error: BaseException, rank: int = 0) -> TrialFailedError:
    """Write the traceback of a trial's error to the sweep's logs, and return its line.

    Of an error that Ray Train brings from several workers, which have recorded theirs, the user's own comes first.
    """
    failures = getattr(error, "worker_failures", {}).values()
    recorded = [getattr(failure, "_base_exc", failure) for failure in failures]
    known = sorted((each for each in recorded if isinstance(each, TrialFailedError)), key=lambda each: not each.of_user)
    if known:
        return known[0]
    place = user_place(error, trial.model.family, layout.own_code)
    text = "".join(traceback.format_exception(error))
    line = _line(error, place, write_log(layout, trial.id, text, rank))
    kind = Failure.DISK if isinstance(error, WriteError) else Failure.ERROR
    return TrialFailedError(line, place is not None, kind)


def cause_of(error: BaseException) -> Cause:
    """Cause of the end of an attempt that an exception has ended: the machine's, or perhaps the trial's."""
    if names_lost_node(error):
        return Cause.NODE_LOST
    return Cause.DISK if is_waited_for(error) else Cause.ERROR


def write_log(layout: SweepLayout, trial_id: str, text: str, rank: int = 0) -> Path | None:
    """Write what a trial's failure left to say to the sweep's logs; None where nothing can be written."""
    path = layout.logs / (f"{trial_id}-worker-{rank}.txt" if rank else f"{trial_id}.txt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode(errors="backslashreplace"))
    except OSError:  # a full disk: the line must do
        return None
    return path


@contextmanager
def refused_model(model: Any, source: str) -> Iterator[None]:
    """Turn any error of a user's model, and a ValueError of ours, into a SpecError of the sweep file `source`.

    The sweep has no logs yet: the traceback goes to a temporary file, which stays.
    """
    from ganlab.models.families import FAMILIES

    try:
        yield
    except SpecError:
        raise
    except (Exception, SystemExit) as error:
        if model.family in FAMILIES and not isinstance(error, ValueError):
            raise
        place, path = user_place(error, model.family), None
        if place is not None:
            descriptor, name = tempfile.mkstemp(prefix="ganlab-traceback-", suffix=".txt")
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(traceback.format_exception(error))
            path = Path(name)
        raise SpecError(_line(error, place, path), ("model", "family"), source) from error


def user_place(error: BaseException, family: str, code: Path | None = None) -> str | None:
    """``file:line`` of the user's code that raised the error; in a sweep's copy `code` the file is named from there.

    It is the innermost line outside of ganlab and installed packages, or of the module that `family` names.
    """
    module = family.removeprefix("import:").split(":")[0].split(".")[0] if family.startswith("import:") else None
    for each in reversed(list(_causes(error))):
        places = _places(each.__traceback__, module)
        if isinstance(each, SyntaxError) and each.filename and _is_users(each.filename):
            places.append((each.filename, each.lineno or 1))
        if places:
            file, line = places[-1]
            inside = code is not None and Path(file).is_relative_to(code)
            return f"{Path(file).relative_to(code) if inside and code is not None else file}:{line}"
    return None


def shortened(text: str) -> str:
    """Join the lines of an error's text, and cut what is too long for a line."""
    words = one_line(text)
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"


def _line(error: BaseException, place: str | None, path: Path | None) -> str:
    from ganlab.models.families.imported import ModelError

    said, kind = shortened(str(error)), type(error).__name__
    whole = isinstance(error, ModelError) or (place is None and isinstance(error, ValueError | RuntimeError | OSError))
    words = said if whole and said not in ("", "None") else f"{kind}: {said}".removesuffix(": ")
    where = [*([place] if place else []), *([f"traceback: {path}"] if path else [])]
    return f"{words} ({'; '.join(where)})" if where else words


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, then what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _places(trace: TracebackType | None, module: str | None) -> list[tuple[str, int]]:
    """File and line of each of the user's frames, the innermost last."""
    return [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(trace)
        if _is_users(frame.f_code.co_filename) or (module and _top(frame.f_globals) == module)
    ]


def _top(variables: dict[str, Any]) -> str:
    return str(variables.get("__name__", "")).split(".")[0]


def _is_users(file: str) -> bool:
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in _NOT_USERS)
