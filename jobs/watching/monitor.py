"""The exporter of one sweep: looks at its folder now and then, and serves what it saw to Prometheus.

Invariant: it goes on whatever happens to the folder; it writes only in the folder `metrics`, and removes the list of
scrape targets when it ends on purpose; a scrape reads no file and waits for none.
"""

import os
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from jobs.watching.sweep_watch import SweepWatch
from monitoring.exporter import PortInUseError, check_address, serve
from monitoring.targets import Target, remove_targets, write_targets
from storage.layout import SweepLayout

LOOK_EVERY_S = 5.0
SHARE = 0.05  # of the time, at most, is spent looking: on a slow file system looks become rarer
FILES = Path(__file__).parents[2] / "monitoring"


class Exporter:
    """Looks at a sweep and keeps what it saw, as `newest`.

    Parameters
    ----------
    layout
        The sweep.
    say
        Takes a sentence for the person who started it.
    every_s
        Seconds between two looks, at least.
    """

    def __init__(self, layout: SweepLayout, say: Callable[[str], None], every_s: float = LOOK_EVERY_S) -> None:
        self.watch = SweepWatch(layout)
        self.newest = self.watch.look()
        self._layout, self._say, self._every_s = layout, say, every_s
        self._said = ""
        self._took = 0.0  # seconds of the look before

    def look(self) -> float:
        """Look once; returns the seconds until the next look.

        One slow look, such as one that loads libraries, makes the next no rarer; two in a row do.
        """
        started = time.monotonic()
        try:
            self.newest = self.watch.look()
        except Exception as error:  # the figures grow old, which `ganlab_exporter_looked_timestamp_seconds` shows
            self._complain(f"a look at {self._layout.root} failed: {type(error).__name__}: {error}")
        before, self._took = self._took, time.monotonic() - started
        return max(self._every_s, min(before, self._took) / SHARE)

    def target(self, host: str, port: int) -> Target:
        """This exporter, listening at `host`, as Prometheus reaches it."""
        return Target("ganlab", _address(host, port, self.watch.cluster.address))

    def write_targets(self, own: Target) -> None:
        """Tell Prometheus what there is to scrape now; this exporter is at `own`."""
        try:
            labels = {"sweep": self.watch.name, "cluster": self.watch.cluster.name}
            write_targets(self._layout.targets, [own, *self.watch.cluster.targets()], labels)
        except OSError as error:
            self._complain(
                f"can't write {self._layout.targets} ({error.strerror}): name {own.address} to Prometheus "
                "by hand, as docs/monitoring.md says"
            )

    def _complain(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._say(sentence)


def monitor_sweep(layout: SweepLayout, host: str, port: int, every_s: float, say: Callable[[str], None]) -> None:
    """`ganlab monitor`: say what to point at the exporter, and serve until SIGTERM or Ctrl-C.

    Raises
    ------
    SpecError
        If the port is taken; names its holder. Or if there is no such address.
    """
    with _refused_in_one_line(host, port):
        check_address(host, port)  # before anything is written
    exporter = Exporter(layout, say, every_s)
    controlled = exporter.watch.cluster.controlled
    hints = [f"Grafana's dashboards: {FILES / 'grafana' / 'dashboards'}"]
    if controlled:
        hints.append(
            f"note: the sweep's controller exports the same metrics, and {layout.targets} names it; this "
            "exporter is not added there, or every figure would count twice"
        )
    elif (config := write_config(layout)) is not None:
        hints.append(
            f"Prometheus beside it: prometheus --config.file={shlex.quote(str(config))} "
            f"--storage.tsdb.path={shlex.quote(str(layout.metrics / 'prometheus'))}"
        )
    if host == "127.0.0.1" and port:
        hints.append(
            f"from your own machine: ssh -N -L {port}:localhost:{port} {socket.gethostname()}; --host 0.0.0.0 "
            "lets a Prometheus on another machine in, and everyone else"
        )
    with _refused_in_one_line(host, port):
        run_exporter(exporter, layout, host, port, say, hints, register=not controlled)


@contextmanager
def _refused_in_one_line(host: str, port: int) -> Iterator[None]:
    """Turn a refusal to listen into SpecError."""
    from jobs.spec.sweep import SpecError

    try:
        yield
    except PortInUseError as error:
        raise SpecError(str(error)) from error
    except OSError as error:
        raise SpecError(
            f"--host {host} --port {port}: {error.strerror}; allowed: an address of this machine, and a port "
            "that this user may take"
        ) from error


def run_exporter(
    exporter: Exporter,
    layout: SweepLayout,
    host: str,
    port: int,
    say: Callable[[str], None],
    hints: Sequence[str] = (),
    *,
    register: bool,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Parameters
    ----------
    host, port
        Where to listen; port 0 lets the system choose.
    say, hints
        Takes sentences for the person who started it; what to say once it listens.
    register
        Write the sweep's scrape targets; not when its controller's own exporter does.

    Raises
    ------
    PortInUseError
        Naming the process that has the port.
    """
    with ExitStack() as stack:
        ended = stack.enter_context(_end_signals())
        taken = stack.enter_context(serve(lambda: exporter.newest, host, port))
        own = exporter.target(host, taken)
        say(
            f"metrics of {layout.root}: http://{own.address}/metrics (what to do about an alert: "
            f"http://{own.address}/runbook)"
        )
        for hint in hints:
            say(hint)
        if register:
            stack.callback(lambda: remove_targets(layout.targets, own.address))
        while True:
            if register:
                own = exporter.target(host, taken)
                exporter.write_targets(own)
            if ended.wait(exporter.look()):
                return


def write_config(layout: SweepLayout) -> Path | None:
    """Put a configuration of Prometheus for this sweep beside its targets; None where that can't be written."""
    folder = layout.metrics
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sorted((FILES / "prometheus").glob("*.yml")):
            shutil.copyfile(source, folder / source.name)
    except OSError:
        return None
    return folder / "prometheus.yml"


def _address(host: str, port: int, node: str) -> str:
    """Address at which other hosts reach this process; `node` is this machine's address in the cluster, if any."""
    if host in ("0.0.0.0", "::", ""):
        host = node or socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _end_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, for the length of the context."""
    event = threading.Event()
    before = {each: signal.signal(each, lambda *_: event.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--controller", is_flag=True, required=True, help="Run beside a sweep's controller, on any free port.")
@click.option("--every", "every_s", type=float, default=LOOK_EVERY_S, help="Seconds between two looks at the folder.")
def main(folder: Path, controller: bool, every_s: float) -> None:
    """Run the exporter as a child of the controller: Prometheus, on another host, learns the port from the targets."""
    layout = SweepLayout(folder.absolute())
    exporter = Exporter(layout, lambda line: click.echo(line, err=True), every_s)
    run_exporter(exporter, layout, "0.0.0.0", 0, lambda line: click.echo(line, err=True), register=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
