"""Sections of the sweep file that are the same for every dataset and family.

Invariant: `SampleSettings` is science, part of a trial's id; the other sections change no image.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from cluster.site import Gigabytes, Seconds
from ganlab.quality.embeddings.names import settled


class Section(BaseModel):
    """Base of the sections: unknown keys are refused, nothing can be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SampleSettings(Section):
    """Images that a trial generates and stores."""

    snapshots: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Steps at which images are drawn before the end, rising, below train.steps."""
    images_per_snapshot: Annotated[int, Field(ge=2, le=1_000_000_000)] = 2000
    """Images at each snapshot."""
    final_images: Annotated[int, Field(ge=2, le=1_000_000_000)] = 20_000
    """Images at the last step."""


class FromReal(Section):
    """A distance of duplicates from the real images: by one of these."""

    rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the pairs of different real images that lie within it, such as 1e-4."""
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the real images that have another one within it, as in version 0.1.0."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.rate is None) == (self.quantile is None):
            raise ValueError("got both rate and quantile, or neither; allowed: one of them")
        return self


Threshold = Literal["auto"] | Annotated[float, Field(ge=0)] | FromReal


Fault = Literal["copies", "noise", "blur", "far"]


class CollisionSettings(Section):
    """Settings of the comparison of images."""

    embedding: Annotated[str, AfterValidator(settled)] = "pixels"
    """Space of the distances: pixels, from 0 to 255; normalised: pixels of each image less their mean, over their
    standard deviation, the default of a new sweep on real colour images unless threshold is a number; classifier: top
    layer of one trained on the labelled real images; efficientnet-lite0: a network trained on photographs (extra
    efficientnet); NAME-unit: rows of length 1; NAME+NAME: both side by side, rows of length 1; or the path of a network
    (.pt, .onnx, .safetensors) or of the YAML file that describes it."""
    sample_sizes: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (50, 100, 200, 400)
    """Sample sizes of the birthday test (images), rising."""
    threshold: Threshold = "auto"
    """Largest distance of a duplicate: a number (Euclidean over all pixels, each from 0 to 255); {rate: R}, the distance
    within which a share R of the pairs of different real images lie, or {quantile: Q} of the real images' distances to
    their nearest other one; auto: {rate: 1e-4}, or the smallest rate above it that the real images can show."""

    @field_validator("threshold", mode="before")
    @classmethod
    def _no_verdicts(cls, value: object) -> object:
        if value == "verdicts":
            raise ValueError(
                "got verdicts, which are given on pairs around a distance that is there before; allowed: auto, a number, "
                "{rate: R} or {quantile: Q}; ganlab review, then ganlab measure, add the answer by people's verdicts "
                "(calibrated_threshold, calibrated_support_size)"
            )
        return value

    flagged: Annotated[int, Field(ge=1, le=1000)] = 20
    """Closest pairs per snapshot that are kept for people to judge."""
    fidelity_gate: Annotated[float, Field(gt=0)] = 1.25
    """Quality gate: how many times as far from the real images as held-out real ones samples may lie: most of them in the
    median (the fidelity ratio), and all but one in twenty in the 0.95 quantile."""
    quality_faults: tuple[Fault, ...] = ("copies", "noise", "blur", "far")
    """Quality gate: faults of samples that withhold numbers on diversity (docs/quality.md); [] withholds none."""
    moved_copies: bool = False
    """Look for copies that are shifted by a pixel or mirrored, too, of pictures: the nearest training image is sought
    over these moves, of samples as of held-out images (docs/copying.md); 18 more searches."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of every interval."""


class SearchSettings(Section):
    """Settings of the search over values of `model` and `train`."""

    algorithm: Literal["grid", "random", "optuna"] = "grid"
    """grid: every combination of grid_search; random: that, times draws of the other words; optuna: suggestions."""
    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Draws (random) or suggestions (optuna); grid has none."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of draws and suggestions."""
    metric: Literal["fidelity_ratio", "generator_loss", "discriminator_loss"] = "fidelity_ratio"
    """Metric by which optuna and asha compare trials."""
    mode: Literal["min", "max"] = "min"
    """Direction in which the metric is better."""
    scheduler: Literal["fifo", "asha"] = "fifo"
    """asha ends trials early whose metric is behind."""
    grace_steps: Annotated[int, Field(ge=1)] = 1000
    """asha: steps that every trial is given."""
    reduction_factor: Annotated[int, Field(ge=2)] = 4
    """asha: the best 1/reduction_factor of the trials are promoted at each rung."""


class ResourceSettings(Section):
    """Resources and speed of a run; changes no number."""

    gpus_per_trial: Annotated[float, Field(ge=0)] = 0
    """GPUs of one trial: a whole number, or a fraction of one that several trials share."""
    cpus_per_trial: Annotated[int, Field(ge=1)] = 1
    """CPUs that one trial occupies."""
    replicas_per_worker: Annotated[int, Field(ge=1, le=1024)] = 1
    """Trials trained stacked in one process that has cpus_per_trial and gpus_per_trial: those alike but for the seed or
    the rates of learning and averaging, of the families dcgan, wgan, wgan-gp and pacgan; others run alone."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that networks are trained on; auto: the GPU if gpus_per_trial is above 0, else the CPU."""
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """Trials at a time; by default as many as fit."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """Times that a trial which failed is tried again; attempts that got as far as a new checkpoint don't count."""
    checkpoint_every_s: Seconds = 30.0
    """Seconds between two checkpoints of a trial: what an interruption can cost."""
    measure_workers: Annotated[int, Field(ge=1)] | None = None
    """Workers that compare images on this machine; by default one for each CPU."""
    measure_memory_gb: Gigabytes | None = None
    """Memory that each of them may use, in gigabytes (10⁹ bytes): by default a share of what there is."""

    def measure_memory_bytes(self, otherwise: float) -> int:
        """Memory of a worker that compares images, in bytes; `otherwise` where measure_memory_gb does not say."""
        return int(otherwise if self.measure_memory_gb is None else self.measure_memory_gb * 1e9)

    @property
    def torch_device(self) -> str:
        """cpu or cuda."""
        return self.device if self.device != "auto" else "cuda" if self.gpus_per_trial else "cpu"

    @field_validator("gpus_per_trial")
    @classmethod
    def _whole_or_shared(cls, gpus: float) -> float:
        if gpus > 1 and gpus % 1:
            raise ValueError(f"got {gpus}; allowed: a whole number, or a fraction below 1")
        return gpus
