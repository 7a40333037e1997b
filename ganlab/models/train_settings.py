"""Settings of the training loop.

Invariant: loads no torch, so that families and sweep files can name these settings without the loop.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class TrainSettings(BaseModel):
    """How a trial is trained: everything that changes its weights, beside the model itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int, Field(ge=1, le=100_000_000)] = 3000
    """Optimizer steps of the generator."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    """Training images per discriminator step, over all workers."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the convolutions and matrix products; weights are float32 always."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of both networks; the default is the one published for the loss."""
    discriminator_learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of the discriminator alone; the default is `learning_rate`."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay per step of the averaged generator weights that samples are drawn from; 0 samples from the last weights."""
    log_every: Annotated[int, Field(ge=1)] = 50
    """Steps between two rows of the history (each row holds the mean losses since the last)."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """CPU threads of each worker: part of the science, since sums split over threads round differently."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Data-parallel workers of one trial; each takes batch_size / workers images."""

    @field_validator("workers")
    @classmethod
    def _shares(cls, workers: int, others: ValidationInfo) -> int:
        batch_size = others.data.get("batch_size", workers)
        if batch_size % workers:
            raise ValueError(f"got {workers}; allowed: a divisor of batch_size = {batch_size}")
        return workers
