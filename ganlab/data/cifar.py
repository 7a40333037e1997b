"""CIFAR-10 from the files its authors publish (Krizhevsky 2009), python or binary version.

Invariant: nothing in a file is executed: pickles may name NumPy arrays and nothing else.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

CifarClass = Literal["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CLASSES: tuple[CifarClass, ...] = get_args(CifarClass)
RECORDS = 10_000
"""Images in each published file."""
PIXELS = 3 * 32 * 32


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Python 2 wrote the files, so NumPy's modules have their old names.
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which CIFAR-10's files do not")
        return allowed[module, name]


def read_cifar10(
    path: Path, split: Literal["train", "test"], progress: Callable[[int, int], None]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read the training or the test images.

    Parameters
    ----------
    path
        The folder of the batch files, or the folder above it.
    split
        "train" for the five training batches, "test" for the test batch.
    progress
        Called with (files read, files).

    Returns
    -------
    images : uint8 array of shape (N, 3, 32, 32)
    labels : int64 array of shape (N,)
        Position of the class in `CLASSES`.

    Raises
    ------
    ValueError
        When a file is missing, cut short or something else.
    """
    files = cifar_files(path, split)
    images, labels = [], []
    for done, file in enumerate(files, 1):
        data, label = _binary(file) if file.suffix == ".bin" else _pickled(file)
        images.append(data.reshape(-1, 3, 32, 32))
        labels.append(label)
        progress(done, len(files))
    return np.concatenate(images), np.concatenate(labels)


def cifar_files(path: Path, split: Literal["train", "test"]) -> list[Path]:
    """Batch files of the split, in order; ValueError naming what is missing."""
    names = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    folders = [path, path / "cifar-10-batches-py", path / "cifar-10-batches-bin"]
    for folder in folders:
        for suffix in ("", ".bin"):
            files = [folder / (name + suffix) for name in names]
            missing = [file.name for file in files if not file.is_file()]
            if not missing:
                return files
            if len(missing) < len(files):
                raise ValueError(
                    f"path: got '{folder}', which lacks {', '.join(missing)}; allowed: a folder with all "
                    f"of {names[0]}{suffix} … {names[-1]}{suffix} (unpack the archive again)"
                )
    state = "does not exist" if not path.exists() else "holds no batch files"
    raise ValueError(
        f"path: got '{path}', which {state}; allowed: the unpacked folder cifar-10-batches-py or "
        f"cifar-10-batches-bin with {names[0]} or {names[0]}.bin in it"
    )


def _faulty(file: Path, fault: str) -> ValueError:
    return ValueError(
        f"path: file '{file}' ({file.stat().st_size:,} bytes) {fault}; allowed: the published file of "
        f"{RECORDS:,} images, whole (unpack the archive again)"
    )


def _binary(file: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    size, wanted = file.stat().st_size, RECORDS * (PIXELS + 1)
    if size != wanted:
        raise _faulty(file, f"is {'cut short' if size < wanted else 'too long'}: {wanted:,} bytes are wanted")
    records = np.fromfile(file, np.uint8).reshape(RECORDS, PIXELS + 1)
    return records[:, 1:], _labels(file, records[:, 0].astype(np.int64))


def _pickled(file: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    try:
        batch = _ArraysOnly(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        data, labels = batch[b"data"], np.array(batch[b"labels"], np.int64)
    except EOFError as error:
        raise _faulty(file, "is cut short") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        cut = "truncated" in str(error)  # the unpickler has no other name for it
        raise _faulty(file, "is cut short" if cut else f"is not a CIFAR-10 batch ({str(error)[:80]!r})") from error
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (RECORDS, PIXELS):
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise _faulty(file, f"holds {got} instead of uint8 {(RECORDS, PIXELS)}")
    return data, _labels(file, labels)


def _labels(file: Path, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if labels.shape != (RECORDS,) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise _faulty(file, f"holds labels that are not {RECORDS:,} numbers from 0 to {len(CLASSES) - 1}")
    return labels
