"""The review page of a small sweep, served by the command line, and a real Chromium to open it with."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from storage.layout import SweepLayout
from tests.jobs.review.sweeps import make_sweep


class Served:
    """A running ``ganlab review``."""

    def __init__(self, layout: SweepLayout, *arguments: str) -> None:
        self.layout = layout
        self._said = layout.root.parent / f"review-{time.monotonic_ns()}.txt"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("ganlab"), "review", layout.root, *arguments],
                stderr=said,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "COLUMNS": "200"},
            )
        deadline = time.monotonic() + 300  # a busy machine takes long to load the libraries
        while "Ctrl-C" not in self.said:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"ganlab review did not begin: {self.said}")
            time.sleep(0.05)
        link = re.search(r"http://\S+:(\d+)/enter#(\S+)", self.said)
        assert link is not None, self.said
        self.port, self.code = int(link[1]), link[2]
        self.address = f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """Everything printed so far."""
        return self._said.read_text()

    @property
    def link(self) -> str:
        """What the terminal said to open."""
        return f"{self.address}/enter#{self.code}"

    @property
    def token(self) -> str:
        """From the file that only its owner can read."""
        return self.layout.review_token(self.port).read_text().strip()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, exactly as given: `path` isn't tidied, and `headers` may replace Host."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        given = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in given and "Transfer-Encoding" not in given:
                connection.putheader("Content-Length", str(len(body)))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read
                connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def enter(self, reviewer: str) -> dict[str, str]:
        """Come in with the token under a name; returns the headers of a session."""
        status, headers, _ = self.ask("POST", "/enter", f"secret={self.token}".encode())
        assert status == 204
        session = {"Cookie": headers["set-cookie"].split(";")[0]}
        assert self.ask("POST", "/name", f"name={reviewer}".encode(), session)[0] == 303
        return session

    def stop(self) -> int:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it as nobody should."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="package")
def small(tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    """A measured sweep; tests that need the file of verdicts to themselves copy it."""
    return make_sweep(tmp_path_factory.mktemp("review") / "a sweep's  ünïcode folder")[0]


@pytest.fixture
def sweep(small: SweepLayout, tmp_path: Path) -> SweepLayout:
    """A sweep of its own."""
    shutil.copytree(small.root, tmp_path / "sweep")
    return SweepLayout(tmp_path / "sweep")


@pytest.fixture(scope="package")
def served(small: SweepLayout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of a sweep that tests share: each takes reviewers of its own."""
    root = tmp_path_factory.mktemp("served") / "a sweep"
    shutil.copytree(small.root, root)
    page = Served(SweepLayout(root))
    yield page
    page.kill()
