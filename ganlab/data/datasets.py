"""Training images by name, as uint8 arrays (N, C, H, W); or points, as float32 arrays (N, 2).

Invariant: images are a function of the settings and the files read alone: files in sorted order, fixed resampling,
random numbers by seed; neither the number of threads nor the machine changes a pixel.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ganlab.data.cifar import CLASSES, RECORDS, CifarClass, cifar_files, read_cifar10
from ganlab.data.idx import image_count as idx_count
from ganlab.data.idx import image_size, read_images, read_labels
from ganlab.data.inputs import InputDescription
from ganlab.data.known_modes import draw_grid, draw_stacks, grid_centres
from ganlab.data.pictures import Frames, picture_files, read_pictures, resized
from ganlab.randomness import generator_for, some_of

UInt8 = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with (done, total) in the loader's own unit while a long read goes on."""
DIGITS = 1797  # of scikit-learn
ARRAY_FILES = "a .npy or .npz file or a Zarr store"
Law = Literal["uniform", "zipf", "geometric", "one-heavy"]
Resolution = Literal[8, 16, 32, 64, 128]


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
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None = None
    skipped: tuple[str, ...] = ()
    read: InputDescription | None = None

    def __post_init__(self) -> None:
        assert self.images.dtype == (np.uint8 if self.images.ndim == 4 else np.float32)
        assert self.images.ndim in (2, 4)
        assert self.labels is None or self.labels.shape == self.images.shape[:1]


def absolute(path: Path) -> Path:
    """A path of a sweep file, which may begin with ~ or hold $VARIABLES, from the root on."""
    return Path(os.path.expandvars(path)).expanduser().absolute()


def array_file(path: Path) -> Path:
    """File or folder of the path of an array, which may end with :MEMBER."""
    file, colon, _ = str(path).rpartition(":")
    return Path(file) if colon and not path.exists() else path


Location = Annotated[Path, AfterValidator(absolute)]
"""Relative to the folder ganlab was started in; ~ and $VARIABLES are expanded."""


class DatasetSettings(BaseModel):
    """Settings common to all datasets."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str


class DigitsSettings(DatasetSettings):
    """scikit-learn's 1,797 real handwritten digits (ten classes), stored at 8×8 in 17 levels of grey."""

    name: Literal["digits"] = "digits"
    resolution: Resolution = 8
    """Side, in pixels."""


class Cifar10Settings(DatasetSettings):
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

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[CifarClass, ...]) -> tuple[CifarClass, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError(f"got {', '.join(classes)}; allowed: each class once")
        return classes


class ImagesSettings(DatasetSettings):
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


class ArraySettings(DatasetSettings):
    """Images in an array file: .npy, .npz or Zarr; uint8 (N, C, H, W) or (N, H, W, C)."""

    name: Literal["array"] = "array"
    path: Location
    """The file, or the Zarr store's folder; PATH:MEMBER for one array of an .npz file or a Zarr group."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read only so many images, drawn at random; the draw depends on the number of images alone."""


class IdxSettings(DatasetSettings):
    """Grey images in an idx file of the MNIST family, gzipped or not."""

    name: Literal["idx"] = "idx"
    path: Location
    """File of images, such as train-images-idx3-ubyte.gz."""
    labels: Location | None = None
    """File of their labels, such as train-labels-idx1-ubyte.gz."""
    pad: Annotated[int, Field(ge=0, le=64)] = 0
    """Black pixels put around each image on every side: 2 makes 28×28 images 32×32, and no pixel is interpolated."""
    resolution: Resolution | None = None
    """Side after resizing, in pixels; by default the images keep their (padded) size, which then must be allowed here."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read only so many images, drawn at random; the draw depends on the number of images alone."""


class FashionMnistSettings(DatasetSettings):
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

    @property
    def files(self) -> IdxSettings:
        """The same images by their files' names."""
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


RealDataset = Annotated[
    DigitsSettings | Cifar10Settings | ImagesSettings | ArraySettings | IdxSettings | FashionMnistSettings,
    Field(discriminator="name"),
]


class KnownSupportSettings(DatasetSettings):
    """Images drawn with replacement from a pool of known size: data whose diversity is known exactly."""

    name: Literal["known-support"] = "known-support"
    base: RealDataset = DigitsSettings()
    """Dataset whose images fill the pool; when the pool is larger than it, the pool is random pictures of its shape."""
    pool: Annotated[int, Field(ge=1, le=10_000_000)]
    """Number of distinct images."""
    images: Annotated[int, Field(ge=2, le=100_000_000)] = 10_000
    """Number of images drawn."""
    law: Law = "uniform"
    """Probabilities of the pool's images."""
    exponent: Annotated[float, Field(gt=0, le=10)] = 1.0
    """For zipf: the k-th image has probability ∝ k^−exponent."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """For geometric: each image's probability over that of the one before."""
    heavy_mass: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """For one-heavy: probability of the first image; the others share the rest."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Relative probabilities of the pool's images, one each, instead of a law."""
    pixel_noise: Annotated[int, Field(ge=0, le=64)] = 1
    """Every pixel moves by a whole number drawn uniformly from −pixel_noise to pixel_noise."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the pool and the draws."""

    @field_validator("weights")
    @classmethod
    def _one_each(cls, weights: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        pool = info.data.get("pool")
        if weights is not None and pool is not None and (len(weights) != pool or not sum(weights) > 0):
            raise ValueError(
                f"got {len(weights)} numbers of sum {sum(weights):g}; allowed: pool = {pool} numbers with a sum above 0"
            )
        return weights


class GaussiansGridSettings(DatasetSettings):
    """Points in the plane from 25 equal normal laws on the grid {−4, −2, 0, 2, 4}²; the label is the mode."""

    name: Literal["gaussians-grid"] = "gaussians-grid"
    points: Annotated[int, Field(ge=2, le=100_000_000)] = 100_000
    """Number of points drawn."""
    scale: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Standard deviation of each normal law."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the draws."""


class StackedDigitsSettings(DatasetSettings):
    """Three of scikit-learn's real digits as the three channels of each image: 1,000 modes, which are the labels."""

    name: Literal["stacked-digits"] = "stacked-digits"
    resolution: Resolution = 8
    """Side, in pixels."""
    images: Annotated[int, Field(ge=2, le=100_000_000)] = 25_600
    """Number of images drawn."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the draws."""


AnyDataset = Annotated[
    DigitsSettings | Cifar10Settings | ImagesSettings | ArraySettings | IdxSettings | FashionMnistSettings
    | KnownSupportSettings | GaussiansGridSettings | StackedDigitsSettings,
    Field(discriminator="name"),
]  # fmt: skip


def load(settings: DatasetSettings, progress: Progress | None = None, open_array: OpenArray | None = None) -> Dataset:
    """Read the dataset that the settings describe.

    Parameters
    ----------
    settings
        Of any dataset in `DATASETS`.
    progress
        Called with (done, total) while a long read goes on.
    open_array
        Opens a stored array by its path; needed for `array` alone (formats on disk are not this package's business).

    Raises
    ------
    ValueError
        When files are missing, unreadable or not what the settings say; the text begins with the setting at fault.
    """
    return DATASETS[settings.name][1](settings, progress or (lambda done, total: None), open_array)


def image_shape(settings: DatasetSettings, open_array: OpenArray | None = None) -> tuple[int, ...]:
    """Shape (C, H, W) of the dataset's images, or (D,) of its points, without reading them."""
    match settings:
        case GaussiansGridSettings():
            return (2,)
        case DigitsSettings():
            return 1, settings.resolution, settings.resolution
        case Cifar10Settings() | StackedDigitsSettings():
            return 3, settings.resolution, settings.resolution
        case ImagesSettings():
            return settings.channels, settings.resolution, settings.resolution
        case KnownSupportSettings():
            return image_shape(settings.base, open_array)
        case ArraySettings():
            return _array_shape(settings, _opened(settings, open_array))[0]
        case IdxSettings():
            return 1, *[_idx_side(settings, image_size(settings.path))] * 2
        case FashionMnistSettings():
            return image_shape(settings.files, open_array)
    raise AssertionError(settings)


def image_count(settings: DatasetSettings, open_array: OpenArray | None = None) -> int:
    """Number of the dataset's images, or points, from the names and sizes of its files; reads none of them.

    Parameters
    ----------
    settings, open_array
        As for `load`.

    Raises
    ------
    ValueError
        When files are missing, as `load` says it.
    """
    match settings:
        case DigitsSettings():
            return DIGITS
        case Cifar10Settings():
            files = cifar_files(settings.path, settings.split)
            return len(files) * RECORDS * len(settings.classes) // len(CLASSES)
        case ImagesSettings():
            return len(picture_files(settings.path)[: settings.limit])
        case ArraySettings():
            count = _opened(settings, open_array).shape[0]
            return min(count, settings.limit or count)
        case IdxSettings():
            count = idx_count(settings.path)
            return min(count, settings.limit or count)
        case FashionMnistSettings():
            return image_count(settings.files, open_array)
        case KnownSupportSettings():
            try:
                image_count(settings.base, open_array)
            except ValueError as error:
                raise ValueError(f"base.{error}") from error
            return settings.images
        case GaussiansGridSettings():
            return settings.points
        case StackedDigitsSettings():
            return settings.images
    raise AssertionError(settings)


def _digits(settings: DigitsSettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    from sklearn.datasets import load_digits

    stored = load_digits()
    images = np.rint(stored.images[:, None] * (255 / 16)).astype(np.uint8)
    return Dataset(resized(images, settings.resolution, progress), stored.target.astype(np.int64))


def _cifar10(settings: Cifar10Settings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    images, labels = read_cifar10(settings.path, settings.split, progress)
    keep = np.isin(labels, [CLASSES.index(name) for name in settings.classes])
    return Dataset(resized(images[keep], settings.resolution, progress), labels[keep])


def _images(settings: ImagesSettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    images, skipped, read = read_pictures(
        settings.path,
        channels=settings.channels,
        resolution=settings.resolution,
        crop_pixels=settings.crop_pixels,
        limit=settings.limit,
        skip_unreadable=settings.skip_unreadable,
        frames=settings.frames,
        progress=progress,
    )
    return Dataset(images, skipped=skipped, read=read)


def _opened(settings: ArraySettings, open_array: OpenArray | None) -> ArrayLike:
    assert open_array is not None, "array datasets need open_array"
    if not array_file(settings.path).exists():
        raise ValueError(f"path: got '{settings.path}', which does not exist; allowed: {ARRAY_FILES}")
    try:
        return open_array(settings.path)
    except ValueError as error:
        raise ValueError(f"path: {error}") from error


def _array_shape(settings: ArraySettings, array: ArrayLike) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return (C, H, W) and the transposition that brings the stored axes into the order (N, C, H, W)."""
    shape = array.shape
    if array.dtype != np.uint8:
        raise ValueError(
            f"path: got '{settings.path}', which holds {array.dtype}; allowed: uint8 from 0 to 255 "
            "(scale and round the images first)"
        )
    for axes in ((0, 1, 2, 3), (0, 3, 1, 2)) if len(shape) == 4 else ():
        channels, height, width = (shape[axis] for axis in axes[1:])
        if channels in (1, 3) and height == width and height in get_args(Resolution):
            return (channels, height, width), axes
    raise ValueError(
        f"path: got '{settings.path}', whose shape is {shape}; allowed: (N, C, H, W) or (N, H, W, C) with "
        "C = 1 or 3 and H = W = 8, 16, 32, 64 or 128 (crop and resize the images first)"
    )


def _array(settings: ArraySettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    array = _opened(settings, open_array)
    shape, axes = _array_shape(settings, array)
    chosen = some_of(array.shape[0], settings.limit)
    images = np.empty((len(chosen), *shape), np.uint8)
    step = max(1, 2**26 // int(np.prod(shape)))  # about 64 MiB a read
    done = 0
    for part in np.split(chosen, np.flatnonzero(np.diff(chosen // step)) + 1):
        first, last = int(part[0]), int(part[-1])
        images[done : done + len(part)] = array.read(first, last + 1)[part - first].transpose(axes)
        done += len(part)
        progress(done, len(chosen))
    return Dataset(images)


def label_count(settings: DatasetSettings) -> int | None:
    """How many classes the labels tell apart, 0 to the number − 1, without reading them; None when there are none."""
    match settings:
        case DigitsSettings():
            return 10
        case Cifar10Settings():
            return len(CLASSES)
        case KnownSupportSettings():
            return settings.pool
        case GaussiansGridSettings():
            return len(grid_centres())
        case StackedDigitsSettings():
            return 1000
        case FashionMnistSettings():
            return 10
        case IdxSettings() if settings.labels is not None:
            return int(read_labels(settings.labels, len(read_images(settings.path))).max()) + 1
    return None


def _idx_side(settings: IdxSettings, size: tuple[int, int]) -> int:
    """Side of the images as they are used, in pixels."""
    height, width = (side + 2 * settings.pad for side in size)
    if height != width or (settings.resolution is None and height not in get_args(Resolution)):
        raise ValueError(
            f"pad: got {settings.pad}, which makes the images of '{settings.path}' {height}×{width}; allowed: squares of "
            "8, 16, 32, 64 or 128 pixels (28×28 images have 32 with pad: 2), or set resolution"
        )
    return settings.resolution or height


def _idx(settings: IdxSettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    stored = read_images(settings.path)
    side = _idx_side(settings, stored.shape[1:])
    chosen = some_of(len(stored), settings.limit)
    labels = None if settings.labels is None else read_labels(settings.labels, len(stored))[chosen]
    edge = (settings.pad, settings.pad)
    padded = np.pad(stored[chosen], ((0, 0), edge, edge))
    return Dataset(resized(padded[:, None], side, progress), labels)


def _fashion_mnist(settings: FashionMnistSettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    return _idx(settings.files, progress, open_array)


def _gaussians_grid(settings: GaussiansGridSettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    return Dataset(*draw_grid(settings.points, settings.scale, generator_for(settings.seed, "gaussians grid")))


def _stacked_digits(settings: StackedDigitsSettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    digits = _digits(DigitsSettings(resolution=settings.resolution), progress, open_array)
    assert digits.labels is not None
    draws = generator_for(settings.seed, "stacked digits")
    return Dataset(*draw_stacks(digits.images, digits.labels, settings.images, draws))


def _known_support(settings: KnownSupportSettings, progress: Progress, open_array: OpenArray | None) -> Dataset:
    try:
        base = load(settings.base, progress, open_array)
    except ValueError as error:
        raise ValueError(f"base.{error}") from error
    pool = known_support_pool(base.images, settings.pool, settings.seed)
    if settings.weights is None:
        weights = known_support_weights(
            settings.pool,
            settings.law,
            exponent=settings.exponent,
            ratio=settings.ratio,
            heavy_mass=settings.heavy_mass,
        )
    else:
        weights = np.array(settings.weights) / np.sum(settings.weights)
    draws = generator_for(settings.seed, "known-support draws")
    chosen = draws.choice(settings.pool, settings.images, p=weights).astype(np.int64)
    images = pool[chosen]
    if (most := settings.pixel_noise) > 0:
        moved = images.astype(np.int16) + draws.integers(-most, most + 1, images.shape, dtype=np.int16)
        images = np.clip(moved, 0, 255).astype(np.uint8)
    return Dataset(images, chosen, skipped=base.skipped, read=base.read)


def known_support_pool(images: UInt8, m: int, seed: int) -> UInt8:
    """Choose a pool of `m` different images.

    Parameters
    ----------
    images : uint8 array of shape (N, C, H, W)
        The real images. Exact copies among them count once.
    m
        Size of the pool.
    seed
        Decides which.

    Returns
    -------
    uint8 array of shape (m, C, H, W)
        Real images where there are enough; else random pictures, every pixel uniform from 0 to 255.
    """
    draws = generator_for(seed, "known-support pool")
    distinct: dict[bytes, int] = {}
    for index, image in enumerate(images):
        distinct.setdefault(blake2b(image.tobytes(), digest_size=16).digest(), index)
    if m <= len(distinct):
        chosen = draws.permutation(list(distinct.values()))[:m]
        return np.take(images, chosen, axis=0)
    # With 64 pixels or more, two equal ones have a chance below m² 256⁻⁶⁴.
    return draws.integers(0, 256, (m, *images.shape[1:]), dtype=np.uint8)


def known_support_weights(
    m: int, law: Law = "uniform", *, exponent: float = 1.0, ratio: float = 0.99, heavy_mass: float = 0.1
) -> npt.NDArray[np.float64]:
    """Probabilities of a pool's `m` images, float64 (m,), falling, with sum 1.

    uniform: all 1/m. zipf: ∝ k^−exponent, k = 1 … m. geometric: ∝ ratio^k. one-heavy: the first `heavy_mass`, the
    others equal shares of the rest.
    """
    ranks = np.arange(m, dtype=np.float64)
    if m == 1:
        return np.ones(1)
    laws: dict[Law, Callable[[], npt.NDArray[np.float64]]] = {
        "uniform": lambda: np.ones(m),
        "zipf": lambda: (ranks + 1) ** -exponent,
        "geometric": lambda: ratio**ranks,
        "one-heavy": lambda: np.where(ranks == 0, heavy_mass, (1 - heavy_mass) / (m - 1)),
    }
    weights = laws[law]()
    weights /= weights.sum()
    return weights


DATASETS: dict[str, tuple[type[DatasetSettings], Callable[[Any, Progress, OpenArray | None], Dataset]]] = {
    "digits": (DigitsSettings, _digits),
    "cifar10": (Cifar10Settings, _cifar10),
    "images": (ImagesSettings, _images),
    "array": (ArraySettings, _array),
    "idx": (IdxSettings, _idx),
    "fashion-mnist": (FashionMnistSettings, _fashion_mnist),
    "known-support": (KnownSupportSettings, _known_support),
    "gaussians-grid": (GaussiansGridSettings, _gaussians_grid),
    "stacked-digits": (StackedDigitsSettings, _stacked_digits),
}
