"""WGAN-GP (Gulrajani et al. 2017): the linear measuring function with a penalty on the critic's gradient.

Invariant: the critic judges every image by itself (layer normalisation), as the penalty supposes.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ganlab.models.families.dcgan import DCGAN, Loss
from ganlab.models.families.trained import NetworkSettings


class WGANGPSettings(NetworkSettings):
    """Networks of a WGAN-GP, and its critic; defaults as in algorithm 1 of the paper."""

    family: Literal["wgan-gp"] = "wgan-gp"
    loss: ClassVar[Loss] = "wasserstein-gp"
    discriminator_steps: Annotated[int, Field(ge=1, le=100)] = 5
    """Critic steps per generator step."""
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the penalty."""


class WGANGP(DCGAN):
    """The family; see `Family` for the arguments."""

    Settings = WGANGPSettings
