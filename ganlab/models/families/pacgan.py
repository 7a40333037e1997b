"""PacGAN (Lin, Khetan, Fanti & Oh 2018): the discriminator judges several images at once, so that it sees collapse.

Invariant: a pack is `packing` independent images, all real or all generated, side by side as channels.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ganlab.models.families.base import NextBatch
from ganlab.models.families.dcgan import DCGAN, Loss
from ganlab.models.families.trained import NetworkSettings


class PacGANSettings(NetworkSettings):
    """Networks of a DCGAN, whose discriminator takes packs; as there, one discriminator step per generator step."""

    family: Literal["pacgan"] = "pacgan"
    loss: ClassVar[Loss] = "non-saturating"
    discriminator_steps: ClassVar[None] = None
    packing: Annotated[int, Field(ge=1, le=64)] = 2
    """Images in a pack; batch_size counts packs (section 3: a minibatch has `packing` times as many images)."""


class PacGAN(DCGAN):
    """The family; see `Family` for the arguments."""

    Settings = PacGANSettings

    @property
    def discriminated_shape(self) -> tuple[int, ...]:
        return self.settings.packing * self.shape[0], *self.shape[1:]

    def real(self, next_batch: NextBatch) -> Tensor:
        return torch.cat([next_batch() for _ in range(self.settings.packing)], dim=1)

    def latent(self, count: int, draws: np.random.Generator) -> Tensor:
        return super().latent(count * self.settings.packing, draws)

    def pack(self, items: Tensor) -> Tensor:
        return torch.cat(items.chunk(self.settings.packing), dim=1)
