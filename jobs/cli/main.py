"""The command line: ganlab plan | run | submit | status | cancel | monitor | sample | measure | review | report | export.

Invariant: data on stdout, everything else on stderr; exit code 0 done, 1 failed while running, 2 wrong usage or input,
130 interrupted; a user's mistake never shows a traceback.
"""

import errno
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from ganlab.quality.embeddings.names import NAMES, settled
from jobs.console.interrupt import EXIT_INTERRUPTED, INTERRUPTED, ended_by_ctrl_c
from jobs.console.streams import forgiving_output, reader_gone
from jobs.console.words import filled

if TYPE_CHECKING:
    from jobs.spec.sweep import Spec
    from storage.layout import SweepLayout


class _Ranged:
    """Option type whose refusal says what is allowed, and which takes no NaN and no infinity."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the number that `value` writes. Raises click.BadParameter."""
        try:
            number = super().convert(value, parameter, context)  # type: ignore[misc]
        except click.BadParameter:
            number = math.nan
        if math.isfinite(number):
            return number
        kind = "a whole number" if isinstance(self, click.IntRange) else "a finite number"
        low, high = self.min, self.max  # type: ignore[attr-defined]  # of click's type beside this one
        inside = f"above {low} and below {high}" if self.min_open else f"from {low} to {high}"  # type: ignore[attr-defined]
        span = f"of at least {low}" if high is None else inside
        raise click.BadParameter(f"got {value}; allowed: {kind} {span}", context, parameter)


class _Whole(_Ranged, click.IntRange):
    """Whole number in a range."""


class _Real(_Ranged, click.FloatRange):
    """Finite number in a range."""


class _Path(click.Path):
    """Path that is not empty and that this machine can look up; whether anything is there is the command's matter."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the path. Raises click.BadParameter."""
        try:
            os.stat(value)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not str(value):
                raise click.BadParameter("got nothing; allowed: a path", context, parameter) from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise click.BadParameter(f"got {value} ({reason}); allowed: a path", context, parameter) from error
        return super().convert(value, parameter, context)


class _Embedding(click.ParamType[str]):
    """Names of embeddings, or the path of a network's file."""

    name = "embedding"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the name, or the path made absolute. Raises click.BadParameter."""
        try:
            return settled(value)
        except ValueError as error:
            self.fail(str(error), parameter, context)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return names that begin so; where none does, files."""
        found = [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


def _given(context: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse an empty address, by which the system means every one of this machine."""
    if not value:
        raise click.BadParameter("got nothing; allowed: an address or name of this machine", context, option)
    return value


def _shipped(folder: Path) -> Any:
    """Completion by the names of shipped files and by one's own; by any path where nothing of either begins so."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        shipped = sorted(file.stem for file in folder.glob("*.yaml"))
        names = [*shipped, *sorted(file.name for file in Path().glob("*.yaml"))]
        fitting = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [
            CompletionItem(incomplete, type="file"),
            *fitting,
        ]  # bash forgets what came before "file"

    return complete


PACKAGES = Path(__file__).parents[2]
SWEEP = click.argument("sweep", shell_complete=_shipped(PACKAGES / "jobs" / "sweeps"))
SITES = _shipped(PACKAGES / "cluster" / "sites")
FOLDER = click.argument("folder", type=_Path(path_type=Path))
OUT = click.option("--out", type=_Path(path_type=Path), help="The sweep's folder; default: sweeps/<name>.")
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the sweep file.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Commands(click.Group):
    """Group of commands whose errors are one line: exit code 2 for the user's to mend, 1 for failures while running."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command."""
        with _errors_in_one_line():
            return super().make_context(*args, **kwargs)

    def main(self, *arguments: Any, **options: Any) -> Any:
        with forgiving_output():
            return super().main(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """Parse the command's own options and run it."""
        with _errors_in_one_line():
            return super().invoke(context)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print an error that one line explains, and exit with its code; other errors are faults of ganlab's and pass."""
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, click.exceptions.Exit, click.Abort):
        raise
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = f" {context.info_name}" if context is not None and context.parent is not None else ""
        _note(f"{error.format_message().rstrip('.')}; see `ganlab{command} --help`")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo(INTERRUPTED, err=True)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        unnamed_output = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)  # files are named
        if unnamed_output or (isinstance(error, BrokenPipeError) and reader_gone()):
            raise
        _note(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)
    except Exception as error:
        if (code := _exit_code(error)) is None:
            raise
        _note(str(error))
        sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    """Exit code of an error that one line explains; None for a bug."""
    from cluster.scheduler import RefusedError, SchedulerError
    from jobs.spec.validation import SpecError
    from storage.atomic import DamagedError
    from storage.lock import SweepBusyError
    from storage.samples import DamagedShardError

    if isinstance(error, SpecError | RefusedError | SweepBusyError):
        return 2
    return 1 if isinstance(error, DamagedError | DamagedShardError | SchedulerError) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ganlab", prog_name="ganlab")
def main() -> None:
    """How diverse are the images of a generative model?

    SWEEP is a sweep file, or the name of a shipped one (digits-demo, digits-diversity, …).

    Completion of commands, options, sweeps and sites, in ~/.bashrc: eval "$(_GANLAB_COMPLETE=bash_source ganlab)"; for
    zsh and fish, zsh_source and fish_source.
    """


@main.command()
@SWEEP
@SET
@click.option("--no-timing", is_flag=True, help="Skip the time estimate, which trains a few steps in memory.")
@click.option(
    "--cluster", metavar="CLUSTER.yaml", shell_complete=SITES, help="Plan for SLURM, and show the submission scripts."
)
@OUT
@JSON
@ended_by_ctrl_c()
def plan(
    sweep: str, overrides: tuple[str, ...], no_timing: bool, cluster: str | None, out: Path | None, as_json: bool
) -> None:
    """Show what a sweep will do and cost; write nothing."""
    from jobs.console.progress import loading, spinner, stderr_console

    with loading():
        from jobs.cli.show import show_plan
        from jobs.training.plan import plan_sweep
        from jobs.training.preflight import check_here, check_place, disk_fault, slow_precision

    spec, layout = _opened(sweep, overrides, out)
    if out is not None:
        check_place(spec, layout)
    texts = slots = costs = None
    if cluster is None:
        check_here(spec)
    else:
        from jobs.cli.cluster_file import load_site
        from jobs.cli.submit import held, scripts, trials_on, unused_gpus, unused_kinds, workers_now

        texts, kinds = scripts(spec, cluster, layout), load_site(cluster)
        few = workers_now(spec, kinds, layout)
        costs = held(spec, few)
        slots = trials_on(spec, kinds)
        _note(unused_gpus(spec, few, cluster))
        _note(unused_kinds(spec, kinds, cluster))
    with spinner(stderr_console(), "Planning"):
        planned = plan_sweep(spec, timed=not no_timing, slots=slots)
    _note(disk_fault(layout, planned.sample_bytes))
    if cluster is None:
        _note(slow_precision(spec))
    show_plan(spec, planned, as_json, texts, costs)


@main.command()
@SWEEP
@SET
@OUT
@JSON
@ended_by_ctrl_c()
def run(sweep: str, overrides: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Train, sample, compare and report on this machine; the same command resumes."""
    from jobs.console.progress import loading, stderr_console

    with loading():
        from jobs.cli.pipeline import run_sweep
        from jobs.cli.show import show_results
        from jobs.training.preflight import slow_precision

    spec, layout = _opened(sweep, overrides, out)
    if not layout.spec.is_file():
        _note(slow_precision(spec))
    failed = run_sweep(spec, layout, stderr_console())
    show_results(layout, as_json)
    if failed:
        click.echo(
            f"ganlab: {failed} of the trials failed; see `ganlab status {layout.root}`; the same command "
            "tries them again",
            err=True,
        )
        sys.exit(1)


@main.command()
@SWEEP
@click.option(
    "--cluster",
    metavar="CLUSTER.yaml",
    required=True,
    shell_complete=SITES,
    help="The site: a file, or the name of a shipped one.",
)
@click.option("--after", metavar="JOBID", default="", help="Begin when this job of SLURM has ended well.")
@click.option("--wait", is_flag=True, help="Return when the sweep has ended; Ctrl-C ends the waiting alone.")
@SET
@OUT
@JSON
@ended_by_ctrl_c()
def submit(
    sweep: str, cluster: str, after: str, wait: bool, overrides: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """Run a sweep on SLURM: queue its jobs and return; the same command goes on with what is not done."""
    from jobs.console.progress import loading, stderr_console

    if wait and as_json:
        raise click.UsageError("--wait shows the results for people, --json the jobs for programs; give one of them")
    if after and not re.fullmatch(r"\d+(_\d+)?", after):
        raise click.UsageError(f"--after: got {after!r}; allowed: the number of a job, as in 1234 or 1234_5")
    with loading():
        from jobs.cli.cluster_file import load_site
        from jobs.cli.submit import held, submit_sweep, unused_gpus, unused_kinds, with_nodes

    spec, layout = _opened(sweep, overrides, out)
    submission = submit_sweep(spec, cluster, layout, stderr_console(), after)
    kinds = load_site(cluster)
    few = with_nodes(kinds, submission.wanted)
    _note(unused_gpus(spec, few, cluster))
    _note(unused_kinds(spec, kinds, cluster))
    costs = held(spec, few)
    if as_json:
        click.echo(json.dumps({"folder": str(layout.root), **asdict(submission), "held": asdict(costs)}, indent=2))
        return
    click.echo(f"folder: {layout.root}")
    click.echo(f"controller: job {submission.controller}")
    click.echo(f"workers: {submission.tasks} in {_jobs(submission.workers)}")
    click.echo(f"they hold {costs.words}")
    click.echo(f"How it stands: ganlab status {layout.root}\nTo end it:     ganlab cancel {layout.root}", err=True)
    if wait:
        _wait(layout, spec)


def _wait(layout: "SweepLayout", spec: "Spec") -> None:
    """Wait for the end of a submitted sweep and show its results; exit code 1 when it, or a trial of it, has failed."""
    from jobs.cli.pipeline import failed_trials
    from jobs.cli.show import show_results
    from jobs.watching.wait import wait_for_end

    if why := wait_for_end(layout):
        click.echo(f"ganlab: {layout.root}: {why}; see `ganlab status {layout.root}`", err=True)
        sys.exit(1)
    show_results(layout)
    if failed := failed_trials(layout, spec):
        click.echo(f"ganlab: {len(failed)} of the trials failed; see `ganlab status {layout.root}`", err=True)
        sys.exit(1)


@main.command()
@FOLDER
@JSON
def cancel(folder: Path, as_json: bool) -> None:
    """End a submitted sweep's jobs; what is done is kept, and submitting it again goes on from there."""
    from jobs.cli.submit import cancel_sweep

    before = cancel_sweep(_sweep_folder(folder))
    recorded = (before.submission.controller, *before.submission.workers)
    jobs = tuple(filter(None, recorded)) or tuple(job.id for job in before.jobs or ())
    if as_json:
        click.echo(
            json.dumps({"folder": str(folder.absolute()), "jobs": jobs, "cancelled": before.jobs != []}, indent=2)
        )
    elif before.jobs == []:
        click.echo(f"no job of {folder} was left to cancel ({_jobs(jobs)})")
    else:
        click.echo(f"cancelled {_jobs(jobs)}")
    if before.unknown:
        _note(
            f"{before.unknown}; jobs that run end by themselves within a minute, because {folder}/cluster says so; "
            "when SLURM answers again, the same command takes those that wait out of the queue"
        )


@main.command()
@FOLDER
@JSON
@click.option("--watch", is_flag=True, help="Keep showing how it gets on, until it is done or Ctrl-C.")
def status(folder: Path, as_json: bool, watch: bool) -> None:
    """Show how a sweep stands, from its files and, on SLURM, the queue."""
    from jobs.watching.status import show_status
    from jobs.watching.terminal import watch_sweep

    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for programs; give one of them")
    if watch:
        watch_sweep(_sweep_folder(folder))
    else:
        show_status(_sweep_folder(folder), as_json)


@main.command()
@FOLDER
@click.option("--port", type=_Whole(0, 65535), default=9709, show_default=True, help="0: any free one.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_given,
    help="Address to serve on; 0.0.0.0 for other machines.",
)
@click.option(
    "--every",
    "every_s",
    type=_Real(0.1, 600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks at the folder.",
)
def monitor(folder: Path, port: int, host: str, every_s: float) -> None:
    """Export a sweep's metrics to Prometheus, whether it runs or is done; Ctrl-C ends it."""
    from jobs.console.progress import loading

    with loading() as shown:
        from jobs.watching.monitor import monitor_sweep

        def say(line: str) -> None:
            shown.stop()
            click.echo(line, err=True)

        monitor_sweep(_sweep_folder(folder), host, port, every_s, say)


@main.command()
@FOLDER
@JSON
@ended_by_ctrl_c()
def report(folder: Path, as_json: bool) -> None:
    """Write the sweep's report, one self-contained HTML file, and print its path; at any time, beside a running sweep."""
    from jobs.console.progress import loading, spinner, stderr_console

    layout, console = _sweep_folder(folder), stderr_console()
    with loading():
        from jobs.report.sweep_page import write_report
        from jobs.watching.slurm_view import on_slurm
        from storage.lock import lock_holder
    slurm = on_slurm(layout)
    # The controller of a submitted sweep writes results by itself while trials run.
    submitted = slurm is not None and slurm.holder is not None and not layout.results.is_dir()
    if lock_holder(layout) is not None or submitted:
        with loading():
            from jobs.cli.so_far import report_so_far
        report_so_far(layout, console)
    else:
        with spinner(console, "Writing the report"):
            write_report(layout)
    told = {"report": str(layout.report), "results": str(layout.results)}
    click.echo(json.dumps(told, indent=2) if as_json else layout.report)


@main.command()
@click.argument("checkpoint", metavar="CHECKPOINT.yaml", type=_Path(path_type=Path))
@click.option("--images", type=_Whole(2, 1_000_000_000), required=True, help="How many to draw.")
@click.option(
    "--out", type=_Path(path_type=Path), required=True, help="Folder of the samples; the same command resumes."
)
@click.option("--seed", type=_Whole(0, 2**32 - 1), default=0, show_default=True, help="Of latent vectors and labels.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to draw.")
@JSON
@ended_by_ctrl_c()
def sample(checkpoint: Path, images: int, out: Path, seed: int, device: str, as_json: bool) -> None:
    """Draw images of a trained model of another library; `ganlab measure` takes the folder.

    CHECKPOINT.yaml names the file and says what it takes: docs/own-gan.md.
    """
    from jobs.console.progress import Bar, loading, stderr_console

    with loading():
        from jobs.training.sampling import sample_checkpoint

    with Bar(stderr_console(), "Drawing images", images) as bar:
        sample_checkpoint(checkpoint, images, out, seed, device, bar.update)
    click.echo(json.dumps({"folder": str(out), "images": images}, indent=2) if as_json else out)


@main.command()
@FOLDER
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["csv", "parquet", "tensorboard", "mlflow", "wandb-offline", "croissant", "ro-crate"]),
    help="Format.",
)
@click.option("--out", type=_Path(path_type=Path), help="Folder to write; default: export/<format> in the sweep.")
@JSON
@ended_by_ctrl_c()
def export(folder: Path, form: str, out: Path | None, as_json: bool) -> None:
    """Write the results in the format of another tool, without a network; an older export is replaced."""
    from jobs.console.progress import loading, spinner, stderr_console

    layout = _sweep_folder(folder)
    with loading():
        from jobs.export.formats import export as write
    with spinner(stderr_console(), f"Writing {form}"):
        written = write(layout, form, out or layout.root / "export" / form)
    click.echo(json.dumps({"export": str(written)}, indent=2) if as_json else written)


@main.command()
@click.argument("path", type=_Path(path_type=Path))
@click.option("--threshold", type=_Real(0, 1e18), help="Largest distance of a duplicate.")
@click.option(
    "--rate",
    type=_Real(0, 1, min_open=True, max_open=True),
    help="Duplicates are as near as this share of the pairs of different real images; default: 1e-4.",
)
@click.option("--reference", type=_Path(path_type=Path), help="Training images: for the distance, and to compare with.")
@click.option(
    "--test", type=_Path(path_type=Path), help="Real images that the model was not trained on; needs --reference."
)
@click.option("--resize", type=_Whole(4, 4096), metavar="PIXELS", help="Crop and resize pictures of a folder.")
@click.option("--skip-unreadable", is_flag=True, help="Leave out pictures that can't be read.")
@click.option(
    "--frames",
    type=click.Choice(["first", "all"]),
    help="What to read of pictures with several frames or pages; default: refuse them.",
)
@click.option("--allow-missing", is_flag=True, help="Leave out images of a Zarr array whose chunks are not stored.")
@click.option(
    "--embedding",
    type=_Embedding(),
    metavar="FILE_OR_NAME",
    help="Where distances are taken: pixels, normalised (default for colour pictures without --threshold), "
    "classifier (trained on labelled real images), "
    "efficientnet-lite0 (extra efficientnet), NAME-unit, NAME+NAME, or a file (.pt, .onnx, .safetensors, .yaml).",
)
@click.option(
    "--moved-copies",
    is_flag=True,
    help="Look for copies that are shifted by a pixel or mirrored, too; of pictures, with --reference.",
)
@click.option(
    "--report",
    "page",
    type=_Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write a report of a sample file, one self-contained page; a sweep's is written beside its results.",
)
@JSON
@ended_by_ctrl_c()
def measure(
    path: Path,
    threshold: float | None,
    rate: float | None,
    reference: Path | None,
    test: Path | None,
    resize: int | None,
    skip_unreadable: bool,
    frames: Literal["first", "all"] | None,
    allow_missing: bool,
    embedding: str | None,
    moved_copies: bool,
    page: Path | None,
    as_json: bool,
) -> None:
    """Compare all pairs: of a sweep so far, or of anyone's samples (.npy, .npz, Zarr, a folder of pictures).

    PATH:MEMBER names one array of an .npz file or a Zarr group.
    """
    from jobs.console.progress import loading, stderr_console

    with loading():
        from jobs.cli.pipeline import measure_folder, measure_path
        from jobs.cli.show import show_results, show_samples
        from jobs.report.page import check_page
        from jobs.spec.sections import FromReal
        from jobs.spec.validation import SpecError
        from storage.layout import SweepLayout

    console = stderr_console()
    if SweepLayout(path).spec.is_file():
        flags = (skip_unreadable or None, allow_missing or None)
        if any(option is not None for option in (threshold, rate, reference, test, resize, frames, page, *flags)):
            raise click.UsageError(
                "--threshold, --rate, --reference, --test, --resize, --skip-unreadable, --frames, --allow-missing, "
                "--report are for sample files; a sweep has its own settings"
            )
        layout = _sweep_folder(path)
        measure_folder(layout, console, embedding, moved_copies=moved_copies)
        show_results(layout, as_json)
        return
    if page is not None:
        check_page(page)
    if threshold is not None and rate is not None:
        raise click.UsageError(f"got --threshold {threshold:g} and --rate {rate:g}; allowed: one of them")
    try:
        answer = measure_path(
            path,
            threshold if rate is None else FromReal(rate=rate),
            reference,
            resize,
            console,
            embedding,
            skip_unreadable=skip_unreadable,
            frames=frames,
            allow_missing=allow_missing,
            test=test,
            moved_copies=moved_copies,
        )
    except SpecError as error:
        if error.path != ("collisions", "threshold"):
            raise
        raise SpecError(error.text, source=f"--rate {rate:g}") from error
    if page is not None:
        from jobs.report.sample_page import write_sample_report

        write_sample_report(answer, page)
    show_samples(answer, as_json, page)


def _opened(sweep: str, overrides: tuple[str, ...], out: Path | None) -> tuple[Any, Any]:
    """Read a sweep file, and return its spec and the layout of its folder, where the sweep may have begun before."""
    from jobs.spec.sweep import load_spec
    from storage.layout import SweepLayout

    spec = load_spec(sweep, overrides)
    layout = SweepLayout((out or Path("sweeps", spec.name)).absolute())
    return (spec.continuing(load_spec(layout.spec)) if layout.spec.is_file() else spec), layout


def _note(words: str | None) -> None:
    """Print a message, if there is one, on stderr: as one line, which a terminal gets broken between words."""
    if words:
        from jobs.spec.validation import one_line

        line = f"ganlab: {one_line(words)}"
        click.echo(filled(line, shutil.get_terminal_size().columns) if sys.stderr.isatty() else line, err=True)


def _jobs(ids: tuple[str, ...]) -> str:
    return f"{'job' if len(ids) == 1 else 'jobs'} {', '.join(ids)}"


@main.command()
@FOLDER
@click.option("--port", type=_Whole(1, 65535), help="Port of the page; default: the first free one from 8765 on.")
@click.option("--reviewer", default="", metavar="NAME", help="Your name, beside your verdicts; default: the page asks.")
@click.option(
    "--blind", is_flag=True, help="Show nothing but the images, shuffled, with real pairs among them as controls."
)
@click.option(
    "--pairs",
    type=_Whole(0, 100_000),
    default=360,
    show_default=True,
    help="Pairs to draw around the threshold, for the calibration.",
)
@click.option(
    "--samples",
    type=_Whole(0, 10_000),
    default=4,
    show_default=True,
    help="Samples of each trial to judge as in the published test: the closest pairs of each.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_given,
    help="Address to serve on; others than loopback are in the open.",
)
def review(folder: Path, port: int | None, reviewer: str, blind: bool, pairs: int, samples: int, host: str) -> None:
    """Judge pairs of images in the browser; `ganlab measure` then puts the verdicts to use."""
    from jobs.console.progress import loading, stderr_console

    with loading():
        from jobs.review.serve import serve

    serve(
        _sweep_folder(folder),
        stderr_console(),
        port=port,
        host=host,
        reviewer=reviewer,
        blind=blind,
        drawn=pairs,
        samples=samples,
    )


def _sweep_folder(folder: Path) -> Any:
    from jobs.spec.validation import SpecError
    from storage.layout import SweepLayout

    layout = SweepLayout(folder.absolute())
    if not layout.spec.is_file():
        raise SpecError(
            f"{folder}: no sweep here (no sweep.yaml); allowed: a folder made by `ganlab run` or `ganlab submit`"
        )
    return layout
