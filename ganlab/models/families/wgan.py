"""WGAN (Arjovsky, Chintala & Bottou 2017): DCGAN's networks, a linear measuring function, a critic of clipped weights.

Invariant: after every critic step no weight of the critic exceeds `weight_clip`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ganlab.models.families.dcgan import DCGAN, Loss
from ganlab.models.families.trained import NetworkSettings


class WGANSettings(NetworkSettings):
    """Networks of a WGAN, and its critic; defaults as in algorithm 1 of the paper."""

    family: Literal["wgan"] = "wgan"
    loss: ClassVar[Loss] = "wasserstein-clip"
    discriminator_steps: Annotated[int, Field(ge=1, le=100)] = 5
    """Critic steps per generator step."""
    weight_clip: Annotated[float, Field(gt=0)] = 0.01
    """Bound on each critic weight."""


class WGAN(DCGAN):
    """The family; see `Family` for the arguments."""

    Settings = WGANSettings
