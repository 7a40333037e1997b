"""The command line called in this process, for tests that need no process of its own.

Invariant: an exception that the command does not turn into one line is raised, never hidden in the result.
"""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner, Result

from jobs.cli.main import main


def call(*arguments: str | Path, **environment: str) -> Result:
    """Run one command: call("plan", "digits-demo") → Result with `exit_code`, `stdout` and `stderr`."""
    runner = CliRunner(env={"COLUMNS": "200", **environment})
    return runner.invoke(main, [*map(str, arguments)], prog_name="ganlab", catch_exceptions=False)


class Written(NamedTuple):
    """Exit code of a command, and the bytes that it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


def call_encoded(encoding: str, *arguments: str | Path) -> Written:
    """Run one command with outputs of this encoding, opened as Python opens them: call_encoded("ascii", "--help")."""
    stdout, stderr = io.BytesIO(), io.BytesIO()
    with (
        redirect_stdout(io.TextIOWrapper(stdout, encoding, write_through=True)),
        redirect_stderr(io.TextIOWrapper(stderr, encoding, "backslashreplace", write_through=True)),
    ):
        try:
            main([*map(str, arguments)], prog_name="ganlab")
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        return Written(code, stdout.getvalue(), stderr.getvalue())
