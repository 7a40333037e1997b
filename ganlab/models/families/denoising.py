"""Base of diffusion and flows: a denoising network, a step that descends its squared error, noise of an item's shape.

Invariant: the network is trained as `generator`, and samples come from its averaged weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganlab.models.denoisers import denoiser_for
from ganlab.models.families.base import GeneratedBatch
from ganlab.models.families.trained import TrainedFamily, Width


class DenoisingSettings(BaseModel):
    """Sizes of a denoising network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    generator_width: Width = 64
    """Maps of the U-Net at the images' own size, twice as many at smaller ones; of points, units of each layer."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 1
    """Residual blocks of the U-Net at each size on the way down; there is one more on the way up."""


class DenoisingFamily(TrainedFamily):
    """A family of one network from (items with noise, time) to the noise, or the velocity, in them."""

    def build(self) -> Mapping[str, nn.Module]:
        self.generator = denoiser_for(self.shape, self.settings.generator_width, self.settings.blocks)
        return {"generator": self.generator}

    def initialise(self, network: nn.Module) -> None:
        """Leave the weights as `denoiser_for` made them."""

    def noise(self, count: int, draws: np.random.Generator) -> Tensor:
        """Draw normal noise, float32 (count, *shape), on the device."""
        return self.normal(count, int(np.prod(self.shape)), draws).view(count, *self.shape)

    def denoise(self, network: nn.Module, items: Tensor, time: Tensor) -> Tensor:
        """Run the network on items (n, …) at times (n,) in [0, 1]; float32 (n, …)."""
        with self.autocast():
            result: Tensor = network(items, time)
        return result.float()

    def regress(self, found: Tensor, wanted: Tensor) -> Mapping[str, Tensor]:
        """Descend the mean squared error of `found`; the end of a step."""
        loss = (found - wanted).square().mean()
        self.optimizer_step(loss, "generator")
        self.update_averages()
        return {"generator_loss": loss.detach()}

    @abstractmethod
    def transform(self, items: Tensor, noise: np.random.Generator) -> Tensor:
        """Turn normal noise, float32 (n, …), into samples of the same shape."""

    @torch.no_grad()
    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        return GeneratedBatch(self.to_array(self.transform(self.noise(count, noise), noise)))
