"""Base of every dataset of a sweep: its settings, and properties of its images with and without reading them.

Invariant: images are a function of the settings and the files read alone: files in sorted order, fixed resampling,
random numbers by seed; neither the number of threads nor the machine changes a pixel.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ganlab.data.inputs import InputDescription
from ganlab.data.known_modes import ModeCount

Progress = Callable[[int, int], None]
"""Called with (done, total) in the loader's own unit while a long read goes on."""
FileIdentity = tuple[str, int | None]
"""Name of a file, from the dataset's folder on, and its size in bytes, or None where sizes take too long to ask for."""
ModeCounter = Callable[[npt.NDArray[Any]], ModeCount]
Resolution = Literal[8, 16, 32, 64, 128]
LEAST_REAL = 2  # real images to train on, and to hold out: distances between them are what samples are held against


class ArrayLike(Protocol):
    """A stored array that is read by ranges of its first axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """First the number of images."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return elements start to stop of the first axis."""


OpenArray = Callable[[Path], ArrayLike]
"""Opens a stored array by its path; needed for `array` alone (formats on disk are not this package's business)."""


@dataclass(frozen=True)
class Dataset:
    """Images, uint8 (N, C, H, W), or points, float32 (N, D), in memory.

    Attributes
    ----------
    images
        The images or points.
    labels
        int64 (N,), or None without classes.
    skipped
        Pictures left out as unreadable.
    read
        What was read from a user's files; None for data made or shipped with a library.
    held_out
        Images of the same law that no model is trained on, with their labels; None without any.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None = None
    skipped: tuple[str, ...] = ()
    read: InputDescription | None = None
    held_out: "Dataset | None" = None

    def __post_init__(self) -> None:
        assert self.images.dtype == (np.uint8 if self.images.ndim == 4 else np.float32)
        assert self.images.ndim in (2, 4)
        assert self.labels is None or self.labels.shape == self.images.shape[:1]


def absolute(path: Path) -> Path:
    """A path of a sweep file, which may begin with ~ or hold $VARIABLES, from the root on."""
    return Path(os.path.expandvars(path)).expanduser().absolute()


Location = Annotated[Path, AfterValidator(absolute)]
"""Relative to the folder ganlab was started in; ~ and $VARIABLES are expanded."""
Part = Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(ge=0)]
"""Share of the images, or their number; auto: `AUTO_SHARE`, or none where that is fewer than `AUTO_LEAST` images."""
AUTO_SHARE, AUTO_LEAST = 0.1, 20


def silent(done: int, total: int) -> None:
    """Report no progress."""


def sized(file: Path, folder: Path) -> FileIdentity:
    """Return the identity of a file by its name and size."""
    return str(file.relative_to(folder)), file.stat().st_size


class DatasetSettings(BaseModel, ABC):
    """A dataset as a sweep file names it: its keys, and what follows from them.

    A subclass with a default for `name` is a dataset (`ganlab.data.datasets.DATASETS`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str

    @abstractmethod
    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        """Read the images.

        Raises
        ------
        ValueError
            When files are missing, unreadable or not what the settings say; the text begins with the setting at fault.
        """

    @abstractmethod
    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        """Shape (C, H, W) of the images, or (D,) of the points, without reading them. Raises ValueError as `load`."""

    @abstractmethod
    def image_count(self, open_array: OpenArray | None = None) -> int:
        """Number of images or points, from names and sizes of files; reads none of them. Raises ValueError as `load`."""

    @abstractmethod
    def label_count(self) -> int | None:
        """Number of classes, whose labels are 0 to the number − 1, without reading the images; None without labels."""

    @abstractmethod
    def files(self) -> list[FileIdentity]:
        """Files that are read, as far as listing them tells: a trial's id depends on them; ValueError as `load`."""

    def modes(self) -> ModeCounter | None:
        """Make a function that counts the known modes among samples (n, …); None for data whose modes are not known."""
        return None

    def identity(self) -> dict[str, object]:
        """Settings that decide the images: all but the place of the files."""
        return self.model_dump(mode="json", exclude={"path"})

    @property
    def limited(self) -> bool:
        """True if only some of the images are read, drawn at random."""
        return getattr(self, "limit", None) is not None


def none_held_out(held_out: object) -> bool:
    """True if no image is held out: the key is then left out of a resolved sweep file."""
    return held_out == 0


class RealSettings(DatasetSettings):
    """A dataset of real images, of which some can be held out of training: a subclass has the key `held_out`."""

    if TYPE_CHECKING:
        held_out: Any
    elsewhere: ClassVar[dict[str, Any]] = {}
    """Changes to the settings for held-out images that are not a part of these: all of them are read."""

    @classmethod
    def __pydantic_init_subclass__(cls, **more: Any) -> None:
        super().__pydantic_init_subclass__(**more)
        assert isabstract(cls) or "held_out" in cls.model_fields, f"{cls.__name__} has no key held_out"

    def held_out_settings(self) -> Self | None:
        """Return the settings of images held out that are others than this dataset's; None if they are a part of it.

        Raises
        ------
        ValueError
            When this dataset's images are the published test images already.
        """
        if isinstance(self.held_out, Path):
            return self.model_copy(update={"path": self.held_out, "held_out": 0, **self.elsewhere})
        if self.held_out == "test":
            if getattr(self, "split", None) == "test":
                raise ValueError(
                    "held_out: got test, with split: test; allowed: a share or a number of the test images"
                )
            return self.model_copy(update={"split": "test", "held_out": 0, **self.elsewhere})
        return None

    def held_out_count(self, images: int) -> int:
        """Number of so many images that are held out, where they are a part of this dataset.

        Raises
        ------
        ValueError
            When that leaves fewer than `LEAST_REAL` images on either side.
        """
        held_out = self.held_out
        if held_out == "auto":
            count = round(AUTO_SHARE * images)
            return count if count >= AUTO_LEAST else 0
        assert isinstance(held_out, int | float), "other images are held out"
        count = held_out if isinstance(held_out, int) else round(held_out * images)
        if (count and not LEAST_REAL <= count <= images - LEAST_REAL) or (held_out and not count):
            raise ValueError(
                f"held_out: got {held_out:g}, which holds out {count:,} of {images:,} images; allowed: {LEAST_REAL} or "
                f"more, with {LEAST_REAL} or more left to train on, or 0 for none"
            )
        return count

    def identity(self) -> dict[str, object]:
        """Settings that decide the images: all but the place of the files."""
        described = super().identity()
        return {**described, "held_out": "path"} if isinstance(self.held_out, Path) else described
