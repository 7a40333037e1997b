"""Anyone's samples, from a file or a folder of pictures: opened, put into an embedding, their unfinished work kept.

Invariant: a file is read in pieces and never whole; what is kept is bound to the values it came from.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cluster.local import local_memory_bytes
from ganlab.data.inputs import InputDescription
from ganlab.data.pictures import Frames, PictureError, read_pictures
from ganlab.quality.embedding import embedding_key
from ganlab.quality.embeddings.base import Embedding
from ganlab.quality.embeddings.names import short_name
from jobs.measuring.comparison import ENGINE, SPLIT_FROM, Comparison, Map, Source, StateStore
from jobs.measuring.moved import MovedImages, check_movable, moved_name
from jobs.measuring.space import PIXELS, FeatureRequest, Progress, Space, embed, embedding_space
from jobs.spec.inputs import conversion, describe_array, with_value_range
from jobs.spec.validation import SpecError
from storage.arrays import MissingItemsError, open_array, open_labels
from storage.layout import TrialLayout
from storage.partial_pairs import PartialPairs, cache_folder
from storage.samples import DamagedShardError

READ_BYTES = 2**24  # of a file, at a time
FEATURES_SHARE = 1 / 8  # of this machine's memory, for features that are not written to disk
StoreOf = Callable[[str, Comparison], StateStore]
OPTIONS = {
    "skip_unreadable": "--skip-unreadable",
    "resolution": "--resize PIXELS",
    "frames": "--frames first or --frames all",
}
"""Options of the command line for settings of `ganlab.data.pictures.read_pictures`."""


@dataclass(frozen=True)
class InMemory:
    """Images that were read already, uint8 or float32 (n, …)."""

    images: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return self.images.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        return self.images.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop)."""
        return self.images[start:stop]


@dataclass(frozen=True)
class Pictures:
    """Images that lie with their channels last, or have none, as (n, C, H, W)."""

    source: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        count, height, width, *channels = self.source.shape
        return (count, *(channels or [1]), height, width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        return self.source.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images [start, stop)."""
        images = self.source.read(start, stop)
        return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Opened:
    """Anyone's images.

    Attributes
    ----------
    path : Path
        Where they came from.
    source : Source
        uint8 images or float32 features, one per item of the first axis.
    labels : int64 (n,) or None
        The class of each, where the file says so.
    read : InputDescription
        What was read, converted and left out.
    """

    path: Path
    source: Source
    labels: np.ndarray | None
    read: InputDescription

    @property
    def pictures(self) -> Source | None:
        """The images as uint8 (n, C, H, W), so that they can be shown; None for what is no picture."""
        source, shape = self.source, self.source.shape
        if source.dtype != np.uint8 or len(shape) not in (3, 4):
            return None
        if len(shape) == 4 and shape[1] in (1, 3):
            return source
        return Pictures(source) if len(shape) == 3 or shape[3] in (1, 3) else None


@dataclass(frozen=True)
class Reading:
    """Choices for files that can be read in several ways.

    Attributes
    ----------
    resize : int or None
        Side in pixels to which pictures are cropped and resized; without it they must have one size.
    skip_unreadable : bool
        Leave out pictures that can't be read.
    frames : {"first", "all"} or None
        What to read of picture files with several frames; by default they are refused.
    allow_missing : bool
        Leave out images of a Zarr array whose chunks are not stored.
    """

    resize: int | None = None
    skip_unreadable: bool = False
    frames: Frames | None = None
    allow_missing: bool = False

    def check(self, *opened: Opened) -> None:
        """Raise SpecError for an option that nothing opened can take, and for arrays that would need resizing."""
        kinds = {each.read.kind for each in opened}
        given = {"--skip-unreadable": self.skip_unreadable, "--frames": self.frames is not None}
        names = [name for name, is_given in given.items() if is_given]
        if names and "pictures" not in kinds:
            raise SpecError(
                f"{names[0]}: {opened[0].path} is no folder of pictures, which alone takes it; leave it out"
            )
        if self.allow_missing and kinds == {"pictures"}:
            raise SpecError(f"--allow-missing: {opened[0].path} is a folder of pictures; allowed: with a Zarr array")
        for each in opened if self.resize is not None else ():
            sides = None if each.pictures is None else each.pictures.shape[2:]
            if sides != (self.resize, self.resize):
                raise SpecError(
                    f"--resize {self.resize}: {each.path} is an array of shape {each.source.shape}, and arrays are not "
                    "resized; allowed: an array of that size, or no --resize"
                )


AS_IT_IS = Reading()


def open_samples(
    path: Path,
    reading: Reading = AS_IT_IS,
    progress: Callable[[int, int], None] = lambda done, total: None,
    map: Map | None = None,
) -> Opened:
    """Open an array file (.npy, .npz, Zarr) or read a folder of pictures.

    Parameters
    ----------
    path
        uint8 images or float32 features, one per item of the first axis; ``PATH:MEMBER`` is one array of an ``.npz`` or a
        Zarr group. A folder that `ganlab sample` has filled stands for the samples in it.
    reading
        How files are read that can be read in several ways.
    map
        `map(function, items)` in processes, for folders of many pictures.

    Raises
    ------
    SpecError
        Naming the path, what was found and what is allowed.
    """
    if (samples := TrialLayout(path).samples).is_dir():
        path = samples  # of a folder that `ganlab sample` fills, or of one trial of a sweep
    try:
        if path.is_dir() and not any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
            images, _, read = read_pictures(
                path,
                resolution=reading.resize,
                skip_unreadable=reading.skip_unreadable,
                frames=reading.frames,
                progress=progress,
                map=map,
            )
            opened = Opened(path, InMemory(images), None, read)
        else:
            opened = _open_array(path, reading)
        if opened.source.shape[0] < 2:
            raise ValueError(f"{path}: got {opened.source.shape[0]} image; allowed: two or more")
        opened = replace(opened, read=with_value_range(opened.read, opened.source))
    except PictureError as error:
        remedy = OPTIONS.get(error.setting)
        raise SpecError(f"{error.found}; allowed: {error.allowed}{f', or {remedy}' if remedy else ''}") from error
    except MissingItemsError as error:
        raise SpecError(f"{error}, or --allow-missing, which leaves those images out") from error
    except ValueError as error:
        raise SpecError(str(error)) from error
    return opened


def _open_array(path: Path, reading: Reading) -> Opened:
    source = open_array(path, rank=None, allow_missing=reading.allow_missing)
    read = describe_array(path, source)
    if source.dtype not in (np.uint8, np.float32):
        remedy = conversion(with_value_range(read, source))
        raise ValueError(f"{path}: got {source.dtype}; allowed: uint8 images or float32 features; {remedy}")
    if (labels := open_labels(path, source)) is None:
        return Opened(path, source, None, read)
    return Opened(path, source, labels.values, replace(read, labels=labels.name, unstored_labels=labels.unstored))


def check_alike(samples: Opened, real: Opened, option: str = "--reference") -> None:
    """Raise SpecError unless the real images that an option gives are of the samples' type and shape."""
    theirs, ours = real.source, samples.source
    if theirs.shape[1:] != ours.shape[1:] or theirs.dtype != ours.dtype:
        raise SpecError(
            f"{option} holds {theirs.dtype} of shape {theirs.shape[1:]}, the samples {ours.dtype} of shape "
            f"{ours.shape[1:]}; allowed: the same (of pictures in folders --resize makes one size; of arrays, "
            "uint8 from 0 to 255 beside uint8)"
        )


class Embedded(NamedTuple):
    """Sets of images in the space where distances are taken; None for those that are not given."""

    space: Space
    samples: Source
    reference: Source | None = None
    held_out: Source | None = None
    moved: "MovedSets | None" = None


class MovedSets(NamedTuple):
    """Moved pictures in the space where distances are taken, and the training images that they are compared with.

    Attributes
    ----------
    training : Source
        The training images as they are.
    samples, reference, held_out : Source
        Sets of `jobs.measuring.moved.MovedImages`, or their features.
    """

    training: Source
    samples: Source
    reference: Source
    held_out: Source | None = None


def in_embedding(
    name: str,
    samples: Opened,
    reference: Opened | None,
    held_out: Opened | None,
    map: Map,
    stage: Callable[[str, float, float], None],
    *,
    moved: bool = False,
) -> Embedded:
    """The samples and the real images in an embedding; a classifier is trained on the labelled training images.

    Classifier and features are kept in this user's cache under the content of the images; features that take no longer to
    compute than to read, of images in memory, are not. With `moved` their moved pictures are there, too.

    Raises
    ------
    SpecError
        No pictures, or an embedding that can't be had for them: a classifier without labelled real images, for example.
    """
    every = [each for each in (samples, reference, held_out) if each is not None]
    if moved and reference is None:
        raise SpecError("--moved-copies: copies are of training images; give these with --reference PATH")
    for each in every if moved else ():
        check_movable(each.pictures is not None, each.source, f"--moved-copies: {each.path}", "no --moved-copies")
    if name == PIXELS.setting:
        others, test = (None if each is None else each.source for each in (reference, held_out))
        pictures = [each.pictures for each in every if each.pictures is not None]
        sets_moved = MovedSets(pictures[1], *[MovedImages(each) for each in pictures]) if moved else None
        return Embedded(PIXELS, samples.source, others, test, sets_moved)
    sets = []
    for each in every:
        if each.pictures is None:
            raise SpecError(
                f"--embedding {short_name(name)}: got {each.source.dtype} of shape {each.source.shape} in {each.path}; "
                "allowed: pictures (uint8, of one or three channels), or --embedding pixels"
            )
        sets.append(each.pictures)

    def reading(done: int, total: int) -> None:
        stage("Reading images", done, total)

    contents = [_Content(each, reading).digest(each.shape[0]) for each in sets]
    labels = None if reference is None else reference.labels
    trained_on = "" if labels is None else f"{contents[1]} {hashlib.sha256(labels.tobytes()).hexdigest()}"
    key = embedding_key(trained_on)

    def labelled() -> tuple[np.ndarray, np.ndarray]:
        if labels is None:
            found = "nothing" if reference is None else f"no labels beside {reference.source.dtype} images"
            raise SpecError(
                f"--embedding classifier: got {found} to train it on; allowed: --reference with labelled pictures "
                "(uint8, an .npz or Zarr group with the arrays images and labels), or --embedding pixels"
            )
        return sets[1].read(0, sets[1].shape[0]), labels

    train: Progress = lambda done, total: stage("Training the classifier", done, total)  # noqa: E731
    folder = cache_folder()
    path = folder / f"classifier-{key}.npz"
    space = embedding_space(name, path, key, labelled, sets[0].shape[1:], train, "--embedding")
    names = [space.name_of(content) for content in contents]
    images: list[Source] = list(sets)
    if moved:
        names += [moved_name(each) for each in names]
        images += [MovedImages(each) for each in sets]
    compute: Progress = lambda done, total: stage("Computing features", done, total)  # noqa: E731
    embedded: list[Source] = []
    in_memory = all(isinstance(each, InMemory) for each in sets)
    if space.embedding is not None and space.embedding.immediate and in_memory and _features_fit(images):
        embedded += [_features_in_memory(space.embedding, each, compute) for each in images]
    else:
        wanted = {
            number: FeatureRequest(each, folder / "features" / f"{names[number]}.zarr", names[number])
            for number, each in enumerate(images)
        }
        features = embed(space, wanted, map, compute)
        for found in (features[number] for number in range(len(images))):
            if isinstance(found, DamagedShardError):
                raise found
            embedded.append(found)
    sets_moved = MovedSets(embedded[1], *embedded[len(sets) :]) if moved else None
    others, test = (*embedded[1 : len(sets)], None, None)[:2]
    return Embedded(space, embedded[0], others, test, sets_moved)


def _features_fit(sets: Sequence[Source]) -> bool:
    """True if float32 features of as many values as the images have take a small part of this machine's memory."""
    return 4 * sum(math.prod(each.shape) for each in sets) <= FEATURES_SHARE * local_memory_bytes()


def _features_in_memory(embedding: Embedding, images: Source, progress: Progress) -> InMemory:
    """The features of all images at once: an immediate embedding works through them in blocks of its own."""
    count = images.shape[0]
    features = embedding.features(images.read(0, count))
    progress(count, count)
    return InMemory(features)


def is_long(source: Source, reference: Source | None) -> bool:
    """True if the comparison outlasts the start of workers and a first pass that hashes the images by far."""
    work = Comparison(source, "", 0.0, reference=reference).work
    real = 0.0 if reference is None else Comparison(reference, "", 0.0, reference=reference).work
    return work + real >= SPLIT_FROM


def keep_in_cache(
    path: Path,
    source: Source,
    reference: Source | None,
    progress: Callable[[int, int], None],
    held_out: Source | None = None,
) -> StoreOf:
    """Keep work on a file in this user's cache (see `cache_folder`), finished or not, bound to what the images are.

    So the same command goes on after it was killed, and of a file that has grown compares the new images only.
    """
    content = {id(each): _Content(each, progress) for each in (source, reference, held_out) if each is not None}

    def keeper(part: str, wanted: Comparison) -> PartialPairs:
        for each in (wanted.images, wanted.reference):
            if each is not None and id(each) not in content:  # moved images
                content[id(each)] = _Content(each, progress)
        others = None if wanted.reference is None else content[id(wanted.reference)].digest(wanted.reference.shape[0])
        made = [ENGINE, part, others, wanted.threshold_squared, wanted.closest, wanted.neighbours]

        def fingerprint(images: int) -> str | None:
            own = content[id(wanted.images)].digest(images)
            places = "" if wanted.places is None else hashlib.sha256(wanted.places[:images].tobytes()).hexdigest()
            return own and hashlib.sha256(json.dumps([*made, own, places]).encode()).hexdigest()

        name = hashlib.sha256(json.dumps([str(path.absolute()), part, wanted.threshold_squared]).encode()).hexdigest()
        return PartialPairs(cache_folder() / "pairs" / f"{name[:24]}.npz", fingerprint, keep_finished=True)

    return keeper


class _Content:
    """Names the first images of a source by a digest of their values."""

    def __init__(self, source: Source, progress: Callable[[int, int], None]) -> None:
        self._source, self._progress = source, progress
        self._known: dict[int, str] = {}

    def digest(self, images: int) -> str | None:
        """Fingerprint of the first images; None if there are fewer."""
        samples, *shape = self._source.shape
        if images > samples:
            return None
        if images not in self._known:
            state = hashlib.blake2b(json.dumps([shape, str(self._source.dtype)]).encode())
            step = max(1, READ_BYTES // (self._source.dtype.itemsize * math.prod(shape)))
            for start in range(0, images, step):
                stop = min(start + step, images)
                state.update(np.ascontiguousarray(self._source.read(start, stop)).data)
                self._progress(stop, images)
            self._known[images] = state.hexdigest()
        return self._known[images]
