"""Writes docs/reference/ from the code that defines what it describes: keys, options, variables, metrics.

`python docs/generate.py` writes the pages; with `--check` it only says which of them are stale, and fails.

Invariant: a page names everything that its source has, each with the description that stands there; where one is missing
no page is written.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FOLDER = Path(__file__).with_name("reference")
NOTE = "<!-- Written by `python docs/generate.py`: change what it reads, not this page. -->\n"


def descriptions(cls: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                assert isinstance(after.value, ast.Constant), (base, field.target.id)
                found[field.target.id] = inspect.cleandoc(after.value.value)
    return found


def as_yaml(value: Any) -> str:
    """A default as one would write it in a file."""
    if isinstance(value, BaseModel):
        return as_yaml(value.model_dump(mode="json"))
    return json.dumps(value, ensure_ascii=False, default=str)


def default(cls: type[BaseModel], key: str) -> str:
    """The default of a key; for a whole section, that of its keys."""
    field = cls.model_fields[key]
    if field.default_factory is not None or (is_section(cls, key) and not is_path(cls, key)):
        return "its keys' own"
    return "must be given" if field.default is PydanticUndefined else f"`{as_yaml(field.default)}`"


def row(*cells: str) -> str:
    """One line of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"


def table(titles: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    titles = tuple(titles)
    return "\n".join([row(*titles), row(*["---"] * len(titles)), *(row(*cells) for cells in rows)]) + "\n"


def keys(cls: type[BaseModel], leave_out: Iterable[str] = ()) -> str:
    """Table of a section's keys. ValueError when one has no description."""
    from jobs.spec.validation import allowed

    described = descriptions(cls)
    own = [key for key in cls.model_fields if key not in leave_out]
    if missing := [key for key in own if key not in described]:
        raise ValueError(f"{cls.__module__}.{cls.__name__}: no description under {', '.join(missing)}")
    return table(
        ("key", "allowed", "default", "what it is"),
        (
            (
                f"`{key}`",
                "a path" + " or null" * (not cls.model_fields[key].is_required())
                if is_path(cls, key)
                else "a mapping, see below"
                if is_section(cls, key)
                else allowed(cls, key),
                default(cls, key),
                described[key],
            )
            for key in own
        ),
    )


def is_path(cls: type[BaseModel], key: str) -> bool:
    """Return True for a key given as a path, to which the content's hash is added."""
    from ganlab.models.families.imported import CheckpointFile

    given = cls.model_fields[key].annotation
    return CheckpointFile in (given, *get_args(given))


def is_section(cls: type[BaseModel], key: str) -> bool:
    """True if the key holds a section with a table of its own."""
    annotation = cls.model_fields[key].annotation
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def purpose(cls: type) -> str:
    """First paragraph of the class's docstring."""
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]


def sweep_file() -> str:
    """Every key of the sweep file whose section is the same for all datasets and families."""
    from ganlab.models.train import TrainSettings
    from jobs.spec.search_space import KINDS
    from jobs.spec.sections import CollisionSettings, ResourceSettings, SampleSettings, SearchSettings
    from jobs.spec.sweep import Spec

    sections = {
        "train": TrainSettings,
        "samples": SampleSettings,
        "collisions": CollisionSettings,
        "search": SearchSettings,
        "resources": ResourceSettings,
    }
    return "\n".join(
        [
            "# The sweep file",
            "",
            "Every key, its type, bounds and default, in the words that an error would use. The keys of `dataset` are in "
            "[datasets](datasets.md), those of `model` in [families](families.md). An unknown key is refused, and so is a "
            "value of another type.",
            "",
            "`dataset`, `model`, `train`, `samples` and a seed decide what a trial computes, and its id; `resources` may be "
            "changed at any time.",
            "",
            keys(Spec, ("provenance",)),
            "## Search words",
            "",
            f"In `model` and `train` a value may be a mapping with one of {', '.join(f'`{kind}`' for kind in KINDS)}. The "
            "first two take a list of values, the others `[low, high]`. A grid has `grid_search` alone; the others are drawn "
            "when `search.algorithm` is `random` or `optuna`. `model` as a whole may be a `grid_search` of models.",
            "",
            *(f"## {name}\n\n{purpose(cls)}\n\n{keys(cls)}" for name, cls in sections.items()),
        ]
    )


def dataset_keys() -> str:
    """Every dataset with its keys."""
    from ganlab.data.datasets import DATASETS

    parts = (
        f"## {name}\n\n{purpose(settings)}\n\n" + (keys(settings, ("name",)) if len(settings.model_fields) > 1 else "")
        for name, settings in DATASETS.items()
    )
    head = (
        "# Datasets\n\nOne of these stands in a sweep file as `dataset: {name: …}`, with keys of its own. A path is "
        "relative to the folder that ganlab is started in; `~` and `$VARIABLES` are filled in.\n"
    )
    return "\n".join([head, *parts])


def family_keys() -> str:
    """Every family with its keys."""
    from ganlab.models.families import FAMILIES

    parts = (
        f"## {name}\n\n{purpose(family.Settings)}\n\n{keys(family.Settings, ('family',))}"
        for name, family in sorted(FAMILIES.items())
    )
    head = (
        "# Families\n\nOne of these stands in a sweep file as `model: {family: …}`, with keys of its own. What each "
        "is and how to add one: [families of models](../families.md); a model that is yours: [your own GAN]"
        "(../own-gan.md).\n"
    )
    return "\n".join([head, *parts])


def cluster_file() -> str:
    """Every key of CLUSTER.yaml."""
    from cluster.site import Controller, Site, Workers

    return "\n".join(
        [
            "# The cluster file",
            "",
            f"{purpose(Site)} How to choose: [sweeps on SLURM](../slurm.md).",
            "",
            keys(Site),
            "## workers",
            "",
            "Several kinds of worker, in the order of preference: a list of mappings with these keys. What stands beside "
            "`workers` holds for each kind that does not say otherwise.",
            "",
            keys(Workers),
            "## controller",
            "",
            purpose(Controller),
            "",
            keys(Controller),
        ]
    )


def command_line() -> str:
    """The help of every command."""
    from jobs.cli.main import main

    parts = [
        "# The command line",
        "",
        "What `--help` prints. Exit codes and messages: [errors](../errors.md).",
        "",
        help_of(main, "ganlab"),
    ]
    parts += [f"## ganlab {name}\n\n{help_of(command, f'ganlab {name}')}" for name, command in commands(main)]
    return "\n".join(parts)


def commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Commands in the order that --help shows."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not command.help:
            raise ValueError(f"ganlab {name}: no description")
        for option in command.params:
            if isinstance(option, click.Option) and not option.help:
                raise ValueError(f"ganlab {name} {option.opts[0]}: no description")
        yield name, command


def help_of(command: click.Command, name: str) -> str:
    """Output of --help on a terminal of 100 columns."""
    context = click.Context(
        command, info_name=name, terminal_width=100, max_content_width=100, help_option_names=["-h", "--help"]
    )
    return f"```text\n{command.get_help(context)}\n```\n"


def results() -> str:
    """Every variable of the results."""
    from storage.statistics import COORDINATES, SETTING_VARIABLES, VARIABLES, Variable

    def rows(variables: dict[str, Variable]) -> Iterator[tuple[str, ...]]:
        for name, about in variables.items():
            dims = ", ".join(about.dims) or "none"
            yield f"`{name}`", dims, about.kind, about.units, about.long_name, about.method

    columns = ("variable", "dimensions", "type", "unit", "what it is", "how it is made")
    return "\n".join(
        [
            "# The results",
            "",
            "`results.zarr` is one xarray Dataset, which `xr.open_zarr` reads without ganlab; `xr.open_dataset(DIR, "
            'engine="ganlab")` is the same, and `xr.open_datatree(DIR, engine="ganlab")` has the images of every trial '
            "beside it. Each variable carries `units`, `long_name` and `method` as attributes. "
            '`xr.open_zarr(PATH, chunks=None)` leaves out dask, so that `results.groupby("discriminator_width")` works: '
            "dask arrays, which are xarray's default, have no known groups. "
            "How to query them: [results in Python](../results.ipynb).",
            "",
            "Only what was computed is there; a number or a count that one snapshot lacks is NaN, a flag False.",
            "",
            "## Coordinates",
            "",
            "Along `trial`: the trial's id, `family`, `seed`, `status`, `generator_weights` and the weights of every other "
            "network, and each hyperparameter that varies, by the last part of its key (`discriminator_width`).",
            "",
            table(
                ("coordinate", "along", "unit", "what it is"),
                ((f"`{name}`", f"`{dim}`", unit, title) for name, (dim, unit, title) in COORDINATES.items()),
            ),
            "## Variables",
            "",
            table(columns, rows(VARIABLES)),
            "## Settings",
            "",
            "The group `settings` has one row for each setting: the trials that differ by their seed alone. "
            '`xr.open_zarr("results.zarr", group="settings")` reads it, and it is `settings` in the tree. Along `setting`: '
            "`family`, the weights of each network, and each hyperparameter that varies. "
            "How means and intervals are made: [seeds](../statistics.md#seeds).",
            "",
            table(columns, rows(SETTING_VARIABLES)),
        ]
    )


def metrics() -> str:
    """Every metric of the exporter."""
    from monitoring.metrics import METRICS

    return "\n".join(
        [
            "# Metrics",
            "",
            "What the exporter serves to Prometheus ([watching a sweep](../monitoring.md)). All of them have the labels "
            "`sweep`, `cluster` and `job` of their target. Ray's metrics begin with `ray_`, Dask's with `dask_`, and both "
            "have the label `node` too; the exporter's own CPU and memory begin with `process_`. A value that is not "
            "known is left out.",
            "",
            table(
                ("metric", "type", "labels", "what it says"),
                (
                    (f"`{name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
                    for name, metric in METRICS.items()
                ),
            ),
        ]
    )


PAGES: dict[str, Callable[[], str]] = {
    "sweep-file.md": sweep_file,
    "datasets.md": dataset_keys,
    "families.md": family_keys,
    "cluster-file.md": cluster_file,
    "command-line.md": command_line,
    "results.md": results,
    "metrics.md": metrics,
}


def stale() -> dict[Path, str]:
    """Pages that are not as the code says, with what they should hold."""
    pages = {FOLDER / name: NOTE + "\n" + make().rstrip() + "\n" for name, make in PAGES.items()}
    return {path: text for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text}


if __name__ == "__main__":
    for path, text in stale().items():
        print(path.relative_to(FOLDER.parents[1]))
        if sys.argv[1:] == ["--check"]:
            sys.exit("is stale: run python docs/generate.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
