"""CIFAR-10 (Krizhevsky 2009) as a dataset of sweeps.

Invariant: labels are those of the files, whichever classes are read.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from ganlab.data.cifar import CLASSES, RECORDS, CifarClass, cifar_files, read_cifar10
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


class Cifar10Settings(RealSettings):
    """CIFAR-10 in the files its authors publish (python or binary version)."""

    name: Literal["cifar10"] = "cifar10"
    path: Location
    """Folder that holds data_batch_1 … or data_batch_1.bin …, or the folder above it."""
    split: Literal["train", "test"] = "train"
    """The 50,000 training images or the 10,000 test images."""
    classes: Annotated[tuple[CifarClass, ...], Field(min_length=1)] = CLASSES
    """Classes to keep; labels stay those of the files (airplane 0 … truck 9)."""
    resolution: Resolution = 32
    """Side, in pixels."""
    held_out: Annotated[Part | Literal["test"], Field(exclude_if=none_held_out)] = 0
    """Images kept out of training, which samples are compared with: a share or a number of them, or test, the published
    test images; auto, as in a new sweep: 0.1, or none where that is fewer than 20 images."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[CifarClass, ...]) -> tuple[CifarClass, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError(f"got {', '.join(classes)}; allowed: each class once")
        return classes

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        images, labels = read_cifar10(self.path, self.split, progress)
        keep = np.isin(labels, [CLASSES.index(name) for name in self.classes])
        return Dataset(resized(images[keep], self.resolution, progress), labels[keep])

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return 3, self.resolution, self.resolution

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return len(cifar_files(self.path, self.split)) * RECORDS * len(self.classes) // len(CLASSES)

    def label_count(self) -> int | None:
        return len(CLASSES)

    def files(self) -> list[FileIdentity]:
        return [sized(file, file.parent) for file in cifar_files(self.path, self.split)]
