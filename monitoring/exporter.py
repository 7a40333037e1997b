"""The exporter's web server: metrics for Prometheus, and the runbook for the person that an alert calls.

Invariant: a port that is taken is an error that names its holder, never a reason to take another; nothing can be changed
through it.
"""

import errno
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from monitoring.metrics import MetricValues, registry

RUNBOOK = Path(__file__).with_name("runbook.md")
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h2{margin-top:2.2em;border-top:1px solid #ccc;padding-top:.8em}:target{background:#fff3c4}
code{background:#f2f2f2;padding:.1em .3em}pre{background:#f2f2f2;padding:.8em;overflow:auto}
table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code,pre{background:#2a2a2a}a{color:#8ab4f8}
:target{background:#544613}}"""


class PortInUseError(RuntimeError):
    """The port is taken; the message says by whom and what to do."""


@contextmanager
def serve(newest: Callable[[], MetricValues], host: str, port: int) -> Iterator[int]:
    """Serve ``/metrics`` and ``/runbook`` for the length of the context; yields the port.

    Parameters
    ----------
    newest
        Returns the newest snapshot; called at every scrape, in a thread of its own.
    host, port
        Where to listen; port 0 lets the system choose.

    Raises
    ------
    PortInUseError
        Naming the process that has the port.
    OSError
        If the host is not an address of this machine, or the like.
    """
    server = _listening(application(newest), host, port)
    thread = Thread(target=server.serve_forever, name="exporter", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def check_address(host: str, port: int) -> None:
    """Listen for a moment, and raise what `serve` would."""
    _listening(application(MetricValues), host, port).server_close()


def _listening(pages: WSGIApplication, host: str, port: int) -> WSGIServer:
    try:
        return make_server(host, port, pages, _server_class(host), _QuietHandler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUseError(
            f"port {port} is in use by {port_holder(port)}; end it, or choose another with --port"
        ) from None


def application(newest: Callable[[], MetricValues]) -> WSGIApplication:
    """The pages: ``/metrics``, ``/runbook``, and an index of the two."""
    metrics = make_wsgi_app(registry(newest))

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return metrics(environ, start_response)
        pages = {"/runbook": runbook_page, "/": _index}
        status, content = ("200 OK", pages[path]()) if path in pages else ("404 Not Found", _index())
        start_response(status, [("Content-Type", "text/html; charset=utf-8")])
        return [content.encode()]

    return answer


def runbook_page() -> str:
    """The runbook as HTML; every heading can be linked to by its own words: ``/runbook#GanlabNoProgress``."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(RUNBOOK.read_text("utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", inline.content.replace(" ", "-"))
    return _page("Runbook", parser.renderer.render(tokens, parser.options, {}))


def port_holder(port: int) -> str:
    """The process that listens on a port of this machine, in words."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        connections = []
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid:
            try:
                process = psutil.Process(each.pid)
                return f"process {each.pid} of {process.username()} (`{' '.join(process.cmdline())[:100]}`)"
            except psutil.Error:
                return f"process {each.pid}"
    return "a process of another user, which this one may not look at"


def _index() -> str:
    return _page(
        "ganlab", '<h1>ganlab exporter</h1><p><a href="metrics">metrics</a> · <a href="runbook">runbook</a></p>'
    )


def _page(title: str, body: str) -> str:
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>{body}</html>"


def _server_class(host: str) -> type[ThreadingWSGIServer]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Server(ThreadingWSGIServer):
        address_family = family

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a scraper that hung up is no error
                super().handle_error(request, client_address)

    return Server


class _QuietHandler(WSGIRequestHandler):
    """Writes no line for each scrape."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
