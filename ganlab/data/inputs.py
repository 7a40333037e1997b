"""Description of what was read from a user's files: one account for terminal, JSON and report.

Invariant: whatever was chosen, converted or left out while reading is in the description.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class InputDescription:
    """Description of what was read from a path and what was left out.

    Attributes
    ----------
    path : str
        As the user gave it.
    kind : {"pictures", "array", "trial"}
        A folder of pictures, an array file, or the samples of a trial.
    shape : tuple of int
        Of what was read; the first axis counts the images.
    dtype : str
        Type of the values.
    value_range : (float, float) or None
        Least and largest value, over the first `value_range_images` images.
    files : int or None
        Picture files that were read.
    colour : {"grey", "RGB"} or None
        What the pictures were read as.
    stored_modes : mapping of str to int
        Pictures by the mode in which their files store them, in Pillow's words ("P" is a palette, "1" black and white).
    background : str or None
        Colour on which the pictures with transparency were laid; None when none is transparent.
    transparent, turned : int
        Pictures with transparency, and pictures turned upright as their EXIF data say.
    resized_to : int or None
        Side in pixels to which the centred square of each picture was resized.
    left_out : mapping of str to int
        What was not read: count by reason.
    unreadable : tuple of str
        Paths, relative to the folder, of the pictures left out as unreadable.
    member : str or None
        Name of the array, in a file of several.
    other_members : mapping of str to str
        Type and shape of the arrays beside it, which were not read as images.
    missing : tuple of (int, int)
        Ranges [start, stop) of the stored array's images that were left out because their chunks are not stored.
    labels : str or None
        Name of the array that the labels were read from.
    unstored_labels : int
        Labels whose chunks are not stored, read as the array's fill value.
    """

    path: str
    kind: Literal["pictures", "array", "trial"]
    shape: tuple[int, ...]
    dtype: str
    value_range: tuple[float, float] | None = None
    value_range_images: int | None = None
    files: int | None = None
    colour: Literal["grey", "RGB"] | None = None
    stored_modes: Mapping[str, int] = field(default_factory=dict)
    background: str | None = None
    transparent: int = 0
    turned: int = 0
    resized_to: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    member: str | None = None
    other_members: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[tuple[int, int], ...] = ()
    labels: str | None = None
    unstored_labels: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return every attribute, as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.path}: {self._what()}", *self._conversions(), *self._omissions()]
        return "; ".join(parts)

    def _what(self) -> str:
        words = f"{self.dtype} {self.shape}"
        if self.files is not None:
            words = f"{self.files:,} picture file{'' if self.files == 1 else 's'} as {self.colour}, {words}"
        if self.member is not None:
            words = f"array {self.member}, {words}"
        if self.value_range is not None:
            low, high = self.value_range
            whole = self.value_range_images == self.shape[0]
            among = "" if whole else f" in the first {self.value_range_images:,}"
            unit = "" if self.dtype == "uint8" else " (the unit of distances)"
            words = f"{words}, values {low:.6g} to {high:.6g}{among}{unit}"
        return words

    def _conversions(self) -> list[str]:
        parts = []
        if self.stored_modes:
            parts.append(f"stored as {_counted(self.stored_modes)}")
        if self.transparent:
            parts.append(f"{self.transparent:,} with transparency laid on {self.background}")
        if self.turned:
            parts.append(f"{self.turned:,} turned upright by EXIF")
        if self.resized_to is not None:
            parts.append(f"centred squares resized to {self.resized_to}×{self.resized_to}")
        if self.labels is not None:
            unstored = f" ({self.unstored_labels:,} of them not stored, read as the fill value)"
            parts.append(f"labels from {self.labels}{unstored if self.unstored_labels else ''}")
        return parts

    def _omissions(self) -> list[str]:
        parts = []
        others = [f"{name} {words}" for name, words in self.other_members.items() if name != self.labels]
        if others:
            parts.append(f"not read: {', '.join(others)}")
        if self.left_out:
            parts.append(f"left out: {_counted(self.left_out)}")
        return parts


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
