"""Models whose files run code when they are loaded, in a process of their own that can do little else.

Invariant: the process sees no environment variable but `NEEDED`, changes no file outside of a temporary folder (see
`ganlab.models.confined_process`), and ends with this one; what it answers is read as plain numbers.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np

PROGRAM = Path(__file__).with_name("confined_process.py")
NEEDED = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "GANLAB_COMMAND")
"""Variables without which Python, the GPU, or the end of what a command started, would not be found; no others."""


class ConfinedError(Exception):
    """Error of the model, or of loading it, in its process; one line."""


class ConfinedModel:
    """A model in a process of its own.

    Parameters
    ----------
    request
        What to load: `path`; `format`, "pickle" or "torch-export"; `entry`, the key of a pickled dictionary; `code`, the
        folder that the pickle imports from, or None; `device` and `threads`.

    Raises
    ------
    ConfinedError
        The kernel can't confine a process, or the file can't be loaded.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        own = tempfile.mkdtemp(prefix="ganlab-model-")
        environment = {name: os.environ[name] for name in NEEDED if name in os.environ}
        environment |= {"HOME": own, "TMPDIR": own, "PATH": os.defpath, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(PROGRAM), own, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=own,
            env=environment,
        )
        self._end = weakref.finalize(self, _end, self._process, own)
        self.folder = own
        self.facts: dict[str, int] = json.loads(self._answer())
        """Sizes that the model itself states: `z_dim` of its latent vectors, `c_dim` classes."""

    def __call__(self, seed: int, **inputs: np.ndarray) -> np.ndarray:
        """Run the model on `latent`, float32 (n, …), and `label`, if it takes labels, with torch seeded by `seed`."""
        buffer = io.BytesIO()
        np.savez(buffer, seed=np.array(seed), **inputs)  # type: ignore[arg-type]
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, or its end, says why
        return np.asarray(np.load(io.BytesIO(self._answer()), allow_pickle=False))

    def close(self) -> None:
        """End the process and remove its folder."""
        self._end()

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        head = self._process.stdout.read(9)
        payload = _exactly(self._process.stdout, int.from_bytes(head[1:], "little")) if len(head) == 9 else None
        if payload is None:
            code = self._process.wait()
            self.close()
            raise ConfinedError(f"its process ended without an answer (exit code {code})")
        if head[0] == 0:
            self.close()
            raise ConfinedError(payload.decode(errors="replace"))
        return payload


def _exactly(stream: IO[bytes], count: int) -> bytes | None:
    data = stream.read(count)
    return data if len(data) == count else None


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue
    shutil.rmtree(folder, ignore_errors=True)
