"""Partial results on disk of an unfinished comparison of pairs.

Invariant: a state is whole or absent, and is given back only for the images and settings that it was saved for.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.atomic import read_arrays, write_arrays


@dataclass(frozen=True)
class PartialPairs:
    """The state of one comparison: one small file, replaced as a whole.

    Parameters
    ----------
    path
        The file.
    fingerprint
        ``fingerprint(n)`` names the settings and the first `n` images; None when there are not so many. So a state is
        good for a set that has grown since, and for no other.
    keep_finished
        Keep a finished state too, for when the set has grown; otherwise it is removed.
    """

    path: Path
    fingerprint: Callable[[int], str | None]
    keep_finished: bool = False

    def load(self) -> dict[str, NDArray[Any]] | None:
        """The arrays saved; None when there are none, they are damaged, or they belong to other images or settings."""
        try:
            arrays = read_arrays(self.path)
        except (FileNotFoundError, ValueError):
            return None
        fingerprint = arrays.pop("fingerprint", None)
        known = fingerprint is not None and fingerprint.item() == self.fingerprint(int(arrays["compared"]))
        return arrays if known else None

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep these arrays; `compared`, the number of images, must be among them."""
        write_arrays(self.path, fingerprint=np.asarray(self.fingerprint(int(arrays["compared"]))), **arrays)

    def finish(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """End the comparison, once its result has been consumed."""
        if self.keep_finished:
            self.save(arrays)
        else:
            self.path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """The folder of what may be made again, for this user: $XDG_CACHE_HOME/ganlab, usually ~/.cache/ganlab."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganlab"
