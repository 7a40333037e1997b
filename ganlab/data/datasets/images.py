"""Anyone's pictures in a folder as a dataset of sweeps.

Invariant: pictures are read in the order of their names; which of them `limit` leaves depends on their number alone.
"""

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
from ganlab.data.pictures import Frames, chosen_files, picture_files, read_pictures


class ImagesSettings(RealSettings):
    """Pictures in a folder and its subfolders, in sorted order: centred square, resized."""

    name: Literal["images"] = "images"
    path: Location
    """The folder."""
    resolution: Resolution = 64
    """Side after resizing, in pixels."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for RGB."""
    crop_pixels: Annotated[int, Field(ge=1)] | None = None
    """Side of the centred square cut out before resizing; the default is the largest that fits into each picture."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read only so many pictures, drawn at random; the draw depends on the number of pictures alone."""
    skip_unreadable: bool = False
    """Go on without pictures that cannot be read."""
    frames: Annotated[Frames | None, Field(exclude_if=lambda frames: frames is None)] = None
    """Frames or pages to read from a file that has several: first or all; by default such files are refused."""
    held_out: Annotated[Part | Location, Field(exclude_if=none_held_out)] = 0
    """Images kept out of training, which samples are compared with: a share or a number of them, or the path of others
    of the same kind; auto, as in a new sweep: 0.1, or none where that is fewer than 20 images."""
    elsewhere: ClassVar[dict[str, Any]] = {"limit": None}

    def load(self, progress: Progress = silent, open_array: OpenArray | None = None) -> Dataset:
        images, skipped, read = read_pictures(
            self.path,
            channels=self.channels,
            resolution=self.resolution,
            crop_pixels=self.crop_pixels,
            limit=self.limit,
            skip_unreadable=self.skip_unreadable,
            frames=self.frames,
            progress=progress,
        )
        return Dataset(images, skipped=skipped, read=read)

    def image_shape(self, open_array: OpenArray | None = None) -> tuple[int, ...]:
        return self.channels, self.resolution, self.resolution

    def image_count(self, open_array: OpenArray | None = None) -> int:
        return len(picture_files(self.path)[: self.limit])

    def label_count(self) -> int | None:
        return None

    def files(self) -> list[FileIdentity]:
        """Names alone: to ask a parallel file system for 200,000 sizes takes too long."""
        return [(name, None) for name in chosen_files(self.path, self.limit)]
