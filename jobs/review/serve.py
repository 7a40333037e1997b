"""Command `ganlab review`: chooses the pairs, prints the link and serves the page until it is stopped.

Invariant: the token leaves this process only in a file that its owner alone can read; what is printed lets one browser
in, once.
"""

import datetime
import getpass
import os
import signal
import socket
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

from rich.console import Console

from cluster.local import local_memory_bytes
from jobs.console.progress import Bar
from jobs.report.table import setting_label
from jobs.review.choose import Choice, choose
from jobs.review.guard import LOOPBACK, SessionStore
from jobs.spec.sweep import Spec, SpecError, load_spec
from jobs.training.tune import sweep_trials
from storage.layout import SweepLayout
from storage.verdicts import read_verdicts, standing

PORT = 8765
PORTS_TRIED = 50
MEMORY_SHARE = 0.25  # of the machine's memory, for choosing the pairs: others work on a login node too


def serve(
    layout: SweepLayout,
    console: Console,
    *,
    port: int | None,
    host: str,
    reviewer: str,
    blind: bool,
    drawn: int,
    samples: int,
) -> None:
    """Serve the page of a sweep until SIGINT or SIGTERM.

    Parameters
    ----------
    port
        None for the first free one from `PORT` on.
    host
        Address to serve on; any other than loopback is warned about.
    reviewer
        Name that links let a browser in under; empty to ask for it.
    blind, drawn, samples
        As `jobs.review.choose.choose`.

    Raises
    ------
    SpecError
        If the sweep is not measured, or the port is in use.
    """
    import uvicorn

    from jobs.review.app import make_app, page_version
    from jobs.review.pictures import Pictures
    from jobs.review.verdict_store import VerdictStore

    spec = load_spec(layout.spec)
    with _listen(host, port) as listening:
        port = int(listening.getsockname()[1])
        choice = choose_pairs(layout, spec, console, blind=blind, drawn=drawn, samples=samples)
        sessions = SessionStore()
        local = host in LOOPBACK
        app = make_app(
            VerdictStore(layout, choice, page_version(), _now),
            Pictures(layout),
            sessions,
            _labels(layout, spec),
            title=spec.name,
            cookie=f"ganlab-review-{port}",
            reviewer=reviewer,
            any_address=not local,
            hosts=(*LOOPBACK, *(() if local else (host, socket.gethostname(), socket.getfqdn()))),
        )
        token = layout.review_token(port)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=2,
                timeout_keep_alive=75,
                http="h11",
                ws="none",
            )
        )
        # uvicorn ends on SIGTERM by raising it again: this makes an end with the file removed of it.
        before = signal.signal(signal.SIGTERM, _end)
        try:
            with suppress(KeyboardInterrupt):
                _write_secret(token, sessions.token)
                _tell(console, layout, choice, sessions, host, port, token)
                server.run(sockets=[listening])
        finally:
            signal.signal(signal.SIGTERM, before)
            token.unlink(missing_ok=True)
            console.print(f"{_counts(layout)}; `ganlab measure {layout.root}` puts them to use", soft_wrap=True)


def choose_pairs(layout: SweepLayout, spec: Spec, console: Console, *, blind: bool, drawn: int, samples: int) -> Choice:
    """The pairs of a sweep; what is needed to choose them is computed the first time."""
    trials = sweep_trials(layout, spec)
    memory = spec.resources.measure_memory_bytes(MEMORY_SHARE * local_memory_bytes())
    with Bar(console, "Looking for pairs", 1.0) as bar:

        def progress(done: float, total: float, tiles_left: int = 0) -> None:
            bar.update(done / total if total else 1.0, f"{done:.0f} of {total:.0f} snapshots")

        return choose(
            layout,
            trials,
            spec.collisions,
            blind=blind,
            drawn=drawn,
            samples=samples,
            memory_bytes=memory,
            map=map,
            progress=progress,
        )


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket on the port, or on the first free one of several."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port or PORT, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise SpecError(f"--host {host}: {error.strerror}; allowed: an address or name of this machine") from None
    for candidate in (port,) if port is not None else range(PORT, PORT + PORTS_TRIED):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address[0], candidate, *address[2:]))
            listening.listen(128)
        except OSError as error:
            listening.close()
            problem = error.strerror
        else:
            return listening
    where = f"port {port}" if port is not None else f"ports {PORT} to {PORT + PORTS_TRIED - 1}"
    raise SpecError(f"{host}, {where}: {problem}; allowed: a free port of this machine (--port)")


def _write_secret(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")


def _tell(
    console: Console, layout: SweepLayout, choice: Choice, sessions: SessionStore, host: str, port: int, token: Path
) -> None:
    def line(words: str = "") -> None:
        console.print(words, soft_wrap=True, highlight=False, markup=False)

    parts = ", ".join(f"{len(part.pairs)} {part.title}" for part in choice.parts)
    line(f"To judge: {parts}. {_counts(layout)}.")
    if not choice.gate_passed:
        line("No trial passed the fidelity gate: its pairs say little about diversity.")
    local = host in LOOPBACK
    address = "127.0.0.1" if local else socket.getfqdn() if host in ("0.0.0.0", "::") else host
    line(f"\nOpen   http://{address}:{port}/enter#{sessions.link()}")
    line(f"       (lets one browser in, once; for others: 'invite another' on the page, or the token in {token})")
    if local:
        line(
            f"\nFrom another machine, first:\n       ssh -N -L {port}:127.0.0.1:{port} "
            f"{getpass.getuser()}@{socket.getfqdn()}"
        )
    else:
        line(
            f"\nwarning: served on {host} without encryption: whoever can listen on this network can read the session "
            "and judge in its name; without --host, over ssh, nobody can"
        )
    line("\nCtrl-C ends it; what the page calls saved is on disk.")


def _counts(layout: SweepLayout) -> str:
    held = standing(read_verdicts(layout))
    given = sum(len(by_name) for by_name in held.values())
    names = Counter(name for by_name in held.values() for name in by_name)
    if not given:
        return "No verdicts yet"
    by = ", ".join(f"{name} {count}" for name, count in sorted(names.items()))
    return f"{given} verdicts on {len(held)} pairs so far ({by})"


def _labels(layout: SweepLayout, spec: Spec) -> dict[str, str]:
    trials = sweep_trials(layout, spec)
    varying = spec.hyperparameters(trials)
    words = {trial.id: setting_label({name: values[trial.id] for name, values in varying.items()}) for trial in trials}
    return {
        trial.id: ", ".join(filter(None, [trial.model.family, words[trial.id], f"seed {trial.seed}"]))
        for trial in trials
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
