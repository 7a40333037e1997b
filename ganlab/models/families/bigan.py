"""BiGAN (Donahue, Krähenbühl & Darrell 2017): ALI with an encoder that gives one code for each image.

Invariant: a code is a function of its image.
"""

from typing import Literal

import numpy as np
from torch import Tensor, nn

from ganlab.models.families.ali import ALI, PairSettings


class BiGANSettings(PairSettings):
    """Networks of a BiGAN."""

    family: Literal["bigan"] = "bigan"


class BiGAN(ALI):
    """The family; see `Family` for the arguments."""

    Settings = BiGANSettings
    numbers_per_code = 1

    def code(self, encoder: nn.Module, items: Tensor, noise: np.random.Generator) -> Tensor:
        code: Tensor = encoder(items).float().view(len(items), -1)
        return code
