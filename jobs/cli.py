"""The command line: ganlab plan | run | status | measure | report.

Invariant: data on stdout, everything else on stderr; exit code 0 done, 1 failed while running, 2 wrong usage or input; a
user's mistake never shows a traceback.
"""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import click

SWEEP = click.argument("sweep")
FOLDER = click.argument("folder", type=click.Path(path_type=Path))
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the sweep file.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Commands(click.Group):
    """Turns errors that are the user's to mend into one line and exit code 2, others into one line and 1."""

    def invoke(self, context: click.Context) -> Any:
        from storage.lock import SweepBusyError
        from storage.samples import DamagedShardError

        try:
            return super().invoke(context)
        except (ValueError, SweepBusyError) as error:
            if isinstance(error, ValueError) and not _is_input_error(error):
                raise
            click.echo(f"ganlab: {error}", err=True)
            sys.exit(2)
        except (DamagedShardError, OSError) as error:
            click.echo(f"ganlab: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("ganlab: interrupted; the same command goes on from here", err=True)
            sys.exit(1)


def _is_input_error(error: ValueError) -> bool:
    from jobs.spec import SpecError

    return isinstance(error, SpecError)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("ganlab"), prog_name="ganlab")
def main() -> None:
    """How many distinct images can a generative model make?

    SWEEP is a sweep file, or the name of a shipped one (digits-demo, digits-diversity, …).
    """


@main.command()
@SWEEP
@SET
@click.option("--no-timing", is_flag=True, help="Skip the time estimate, which trains a few steps in memory.")
@JSON
def plan(sweep: str, overrides: tuple[str, ...], no_timing: bool, as_json: bool) -> None:
    """Show what a sweep will do and cost; write nothing."""
    from jobs.plan import plan_sweep
    from jobs.show import show_plan
    from jobs.spec import load_spec

    spec = load_spec(sweep, overrides)
    show_plan(spec, plan_sweep(spec, timed=not no_timing), as_json)


@main.command()
@SWEEP
@SET
@click.option("--out", type=click.Path(path_type=Path), help="The sweep's folder; default: sweeps/<name>.")
def run(sweep: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Train, sample, compare and report on this machine; the same command resumes."""
    from jobs.pipeline import run_sweep
    from jobs.progress import stderr_console
    from jobs.show import show_results
    from jobs.spec import load_spec
    from storage.layout import SweepLayout

    spec = load_spec(sweep, overrides)
    layout = SweepLayout((out or Path("sweeps", spec.name)).absolute())
    failed = run_sweep(spec, layout, stderr_console())
    show_results(layout)
    if failed:
        click.echo(f"ganlab: {failed} of the trials failed; see `ganlab status {layout.root}`; the same command "
                   "tries them again", err=True)  # fmt: skip
        sys.exit(1)


@main.command()
@FOLDER
@JSON
def status(folder: Path, as_json: bool) -> None:
    """Show how a sweep stands, from its files alone."""
    from jobs.show import show_status

    show_status(_sweep_folder(folder), as_json)


@main.command()
@FOLDER
def report(folder: Path) -> None:
    """Write the sweep's report, one self-contained HTML file, and print its path."""
    from jobs.report import write_report

    click.echo(write_report(_sweep_folder(folder)))


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--threshold", type=click.FloatRange(min=0), help="Largest distance of a duplicate.")
@click.option(
    "--reference", type=click.Path(path_type=Path), help="Real images, to take the threshold and fidelity from."
)
@click.option("--resize", type=click.IntRange(min=1), metavar="PIXELS", help="Crop and resize pictures of a folder.")
@JSON
def measure(path: Path, threshold: float | None, reference: Path | None, resize: int | None, as_json: bool) -> None:
    """Compare all pairs: of a sweep so far, or of anyone's samples (.npy, .npz, Zarr, a folder of pictures)."""
    from jobs.progress import stderr_console
    from jobs.show import show_results, show_samples
    from storage.layout import SweepLayout

    console = stderr_console()
    if SweepLayout(path).spec.is_file():
        from jobs.pipeline import measure_folder

        if threshold is not None or reference is not None or resize is not None:
            raise click.UsageError(
                "--threshold, --reference and --resize are for sample files; a sweep has its own settings"
            )
        layout = _sweep_folder(path)
        measure_folder(layout, console)
        show_results(layout, as_json)
        return
    from jobs.pipeline import measure_path

    show_samples(measure_path(path, threshold, reference, resize, console), as_json)


def _sweep_folder(folder: Path) -> Any:
    from jobs.spec import SpecError
    from storage.layout import SweepLayout

    layout = SweepLayout(folder.absolute())
    if not layout.spec.is_file():
        raise SpecError(f"{folder}: no sweep here (no sweep.yaml); allowed: a folder made by `ganlab run`")
    return layout
