"""Code of users' models (``family: import:…``), of which a sweep keeps a copy.

Invariant: trials import the copy in the sweep's own folder, which does not change once images are drawn.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.interpreter import user_path
from jobs.console.words import size
from jobs.spec.checkpoints import PREFIX, content_hash, families_named, files_in
from jobs.spec.validation import SpecError
from jobs.training.failures import refused_model
from storage.atomic import whole_folder
from storage.layout import SweepLayout

if TYPE_CHECKING:
    from jobs.spec.sweep import Spec

OURS = {"cluster", "ganlab", "jobs", "monitoring", "storage"}
MOST_CODE_BYTES = 100_000_000


def use_code(folder: Path) -> None:
    """Let this process import a user's modules from a folder, such as a sweep's own copy.

    Nothing in it takes the place of a package of ours or of a library; it is searched before the user's PYTHONPATH.
    """
    if folder.is_dir() and str(folder) not in sys.path:
        users = user_path()
        place = next((place for place, searched in enumerate(sys.path) if searched in users), len(sys.path))
        sys.path.insert(place, str(folder))


def find_code(spec: "Spec") -> None:
    """Let this process import the code that the sweep file names: beside it, in `code` there, or where we are.

    Raises
    ------
    SpecError
        A module of the same name is installed elsewhere, or is ganlab's own.
    """
    for name in _tops(spec):
        for place in _places(spec):
            if _holds(place, name):
                use_code(place)
                _check_found(name, place, spec)
                break


def keep_code(spec: "Spec", layout: SweepLayout) -> None:
    """Copy what the sweep's models import from beside the sweep file into the sweep; what is installed stays there.

    Raises
    ------
    SpecError
        It is not what images of this sweep were drawn by, or too much to be code.
    """
    if not _tops(spec):
        return
    find_code(spec)
    _import_all(spec)
    sources = [file for place in _places(spec) if place != layout.own_code for file in _imported_from(place)]
    if not sources:
        return
    found = sum(file.stat().st_size for source in sources for file in files_in(source))
    if found > MOST_CODE_BYTES:
        raise SpecError(
            f"got {size(found)} in {', '.join(map(str, sources))}, of which the sweep keeps a copy; allowed: at "
            f"most {size(MOST_CODE_BYTES)} (weights may lie elsewhere: `checkpoint`)",
            ("model", "family"),
            spec.source,
        )
    if layout.own_code.exists():
        if _content(layout.own_code.iterdir()) == _content(sources):
            return
        if any(any(layout.trial(trial).commits.glob("*")) for trial in layout.trial_ids()):
            raise SpecError(
                f"the code in {', '.join(map(str, sources))} has changed since images of {layout.root} were "
                "drawn by it; give another folder with --out, or put the old code back",
                ("model", "family"),
                spec.source,
            )
    with whole_folder(layout.own_code) as folder:
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy2(source, folder / source.name)


def _tops(spec: "Spec") -> list[str]:
    """Outermost packages or modules of the users' models in a sweep file."""
    return sorted({name.removeprefix(PREFIX).split(":")[0].split(".")[0] for name in families_named(spec.model)})


def _import_all(spec: "Spec") -> None:
    from ganlab.models.families import family_of

    models = {trial.model.family: trial.model for trial in spec.trials()}
    for name in families_named(spec.model) & models.keys():
        with refused_model(models[name], spec.source):
            family_of(models[name])


def _places(spec: "Spec") -> Sequence[Path]:
    return tuple(dict.fromkeys((spec.folder / "code", spec.folder, Path.cwd())))


def _holds(place: Path, name: str) -> bool:
    """True if the folder has a module of this name."""
    return (place / f"{name}.py").is_file() or (place / name).is_dir()


def _check_found(name: str, place: Path, spec: "Spec") -> None:
    from importlib.util import find_spec

    whole = (place / f"{name}.py").is_file() or (place / name / "__init__.py").is_file()
    if not whole and name not in OURS:
        return  # a folder of that name may be anything: what is installed goes before it, as ever in Python
    found = find_spec(name)
    origins = [] if found is None else [*(found.submodule_search_locations or ()), found.origin or ""]
    if not any(Path(origin).parent.resolve() == place.resolve() for origin in origins):
        raise SpecError(
            f"got {name}, which lies in {place} and is installed too ({origins[-1] if origins else '?'}); "
            "allowed: one of the two, or another name",
            ("model", "family"),
            spec.source,
        )


def _imported_from(place: Path) -> Iterator[Path]:
    """Modules and packages that lie in the folder and that this process has imported."""
    for name in sorted({name.partition(".")[0] for name in sys.modules}):
        module = sys.modules.get(name)
        if module is None or name in OURS or name == "__main__":
            continue
        places = (getattr(module, "__file__", None), *getattr(module, "__path__", ()))
        origins = {Path(origin).resolve() for origin in places if origin}
        yield from (source for source in (place / f"{name}.py", place / name) if source.resolve() in origins)


def _content(sources: Iterable[Path]) -> dict[str, str]:
    return {
        f"{source.name}/{file.relative_to(source)}": content_hash(file)
        for source in sources
        for file in files_in(source)
    }
