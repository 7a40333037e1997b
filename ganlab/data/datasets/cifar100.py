"""CIFAR-100 (Krizhevsky 2009) as a dataset of sweeps.

Invariant: a file is read whole or refused; the labels are those of the file.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ganlab.data.cifar import BatchForm, read_batch
from ganlab.data.datasets.base import (
    Dataset,
    FileIdentity,
    Location,
    OpenArray,
    Part,
    Progress,
    RealSettings,
    Resolution,
    none_held_out,
    silent,
    sized,
)
from ganlab.data.pictures import resized

CLASSES = {"fine": 100, "coarse": 20}
RECORDS = {"train": 50_000, "test": 10_000}


class Cifar100Settings(RealSettings):
    """CIFAR-100 in the files its authors publish (python or binary version): colour photographs in 100 classes."""

    name: Literal["cifar100"] = "cifar100"
    path: Location
    """Folder that holds train or train.bin, or the folder above it."""
    split: Literal["train", "test"] = "train"
    """The 50,000 training images or the 10,000 test images."""
    labels: Literal["fine", "coarse"] = "fine"
    """Labels of the 100 classes, or of the 20 superclasses."""
    resolution: Resolution = 32
    """Side, in pixels."""
    held_out: Annotated[Part | Literal["test"], Field(exclude_if=none_held_out)] = 0
    """Images kept out of training, which samples are compared with: a share or a number of them, or test, the published
    test images; auto, as in a new sweep: 0.1, or none where that is fewer than 20 images."""

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        form = BatchForm(
            published="CIFAR-100",
            records=RECORDS[self.split],
            key=f"{self.labels}_labels".encode(),
            label_bytes=2,
            label_byte=["coarse", "fine"].index(self.labels),
            classes=CLASSES[self.labels],
        )
        images, labels = read_batch(self._file(), form)
        return Dataset(resized(images, self.resolution, progress), labels)

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return 3, self.resolution, self.resolution

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return RECORDS[self.split]

    def label_count(self) -> int | None:
        return CLASSES[self.labels]

    def files(self) -> list[FileIdentity]:
        file = self._file()
        return [sized(file, file.parent)]

    def _file(self) -> Path:
        """Path of the published file; ValueError if there is none."""
        for folder in (self.path, self.path / "cifar-100-python", self.path / "cifar-100-binary"):
            for name in (self.split, f"{self.split}.bin"):
                if (folder / name).is_file():
                    return folder / name
        state = "does not exist" if not self.path.exists() else f"holds neither {self.split} nor {self.split}.bin"
        raise ValueError(
            f"path: got '{self.path}', which {state}; allowed: the unpacked folder cifar-100-python or cifar-100-binary"
        )
