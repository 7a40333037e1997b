"""CIFAR-10 and CIFAR-100 from the files their authors publish (Krizhevsky 2009), python or binary version.

Invariant: nothing in a file is executed: pickles may name NumPy arrays and nothing else.
"""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

CifarClass = Literal["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CLASSES: tuple[CifarClass, ...] = get_args(CifarClass)
RECORDS = 10_000
"""Images in each published file of CIFAR-10."""
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class BatchForm:
    """Content of a published file.

    Attributes
    ----------
    published
        Name of the data set.
    records
        Images in the file.
    key
        Name of the labels in the python version.
    label_bytes, label_byte
        Bytes of labels before each image of the binary version, and which of them is the label.
    classes
        Labels are 0 to `classes` − 1.
    """

    published: str
    records: int
    key: bytes
    label_bytes: int
    label_byte: int
    classes: int


CIFAR10 = BatchForm("CIFAR-10", RECORDS, b"labels", 1, 0, len(CLASSES))


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Python 2 wrote the files, so NumPy's modules have their old names.
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which published files do not")
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
        of_file, labels_of_file = read_batch(file, CIFAR10)
        images.append(of_file)
        labels.append(labels_of_file)
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


def read_batch(file: Path, form: BatchForm) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read one published file; the binary version ends with .bin.

    Returns
    -------
    images : uint8 array of shape (records, 3, 32, 32)
    labels : int64 array of shape (records,)

    Raises
    ------
    ValueError
        When the file is cut short or something else.
    """
    data, labels = _binary(file, form) if file.suffix == ".bin" else _pickled(file, form)
    if labels.shape != (form.records,) or labels.min() < 0 or labels.max() >= form.classes:
        raise _faulty(file, form, f"holds labels that are not {form.records:,} numbers from 0 to {form.classes - 1}")
    return data.reshape(-1, 3, 32, 32), labels


def _faulty(file: Path, form: BatchForm, fault: str) -> ValueError:
    return ValueError(
        f"path: file '{file}' ({file.stat().st_size:,} bytes) {fault}; allowed: the published file of "
        f"{form.records:,} images, whole (unpack the archive again)"
    )


def _binary(file: Path, form: BatchForm) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    record = form.label_bytes + PIXELS
    size, wanted = file.stat().st_size, form.records * record
    if size != wanted:
        raise _faulty(file, form, f"is {'cut short' if size < wanted else 'too long'}: {wanted:,} bytes are wanted")
    records = np.fromfile(file, np.uint8).reshape(form.records, record)
    return records[:, form.label_bytes :], records[:, form.label_byte].astype(np.int64)


def _pickled(file: Path, form: BatchForm) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    try:
        batch = _ArraysOnly(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        data, labels = batch[b"data"], np.array(batch[form.key], np.int64)
    except EOFError as error:
        raise _faulty(file, form, "is cut short") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        cut = "truncated" in str(error)  # the unpickler has no other name for it
        other = f"is not a {form.published} batch ({str(error)[:80]!r})"
        raise _faulty(file, form, "is cut short" if cut else other) from error
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (form.records, PIXELS):
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise _faulty(file, form, f"holds {got} instead of uint8 {(form.records, PIXELS)}")
    return data, labels
