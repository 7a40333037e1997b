"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017) as a dataset of sweeps.

Invariant: it is the dataset `idx` of its published files, found by their names.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

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
)
from ganlab.data.datasets.idx import IdxSettings


class FashionMnistSettings(RealSettings):
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): grey pictures of clothes in ten classes, 28×28, as published."""

    name: Literal["fashion-mnist"] = "fashion-mnist"
    path: Location = Path("/usr/share/datasets/fashion-mnist")
    """Folder of the four published files; by default where Debian's package dataset-fashion-mnist puts them."""
    split: Literal["train", "test"] = "train"
    """The 60,000 training images or the 10,000 test images."""
    pad: Annotated[int, Field(ge=0, le=64)] = 2
    """Black pixels put around each image on every side."""
    resolution: Resolution | None = None
    """Side after resizing, in pixels; by default 28 + 2 · pad."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read only so many images, drawn at random; the draw depends on the number of images alone."""
    held_out: Annotated[Part | Literal["test"], Field(exclude_if=none_held_out)] = 0
    """Images kept out of training, which samples are compared with: a share or a number of them, or test, the published
    test images; auto, as in a new sweep: 0.1, or none where that is fewer than 20 images."""
    elsewhere: ClassVar[dict[str, Any]] = {"limit": None}

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        return self._idx().load(progress)

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return self._idx().image_shape()

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return self._idx().image_count()

    def label_count(self) -> int | None:
        return 10

    def files(self) -> list[FileIdentity]:
        return self._idx().files()

    def _idx(self) -> IdxSettings:
        """Settings of the same images, with the names of their files."""
        start = "train" if self.split == "train" else "t10k"
        if not self.path.is_dir():
            raise ValueError(
                f"path: got '{self.path}', which does not exist; allowed: the folder of {start}-images-idx3-ubyte.gz "
                "(on Debian, as root: apt-get install dataset-fashion-mnist)"
            )
        images, labels = (
            next((file for file in (self.path / f"{name}.gz", self.path / name) if file.is_file()), self.path / name)
            for name in (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte")
        )
        return IdxSettings(path=images, labels=labels, pad=self.pad, resolution=self.resolution, limit=self.limit)
