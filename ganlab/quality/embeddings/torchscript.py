"""Networks in TorchScript files, as torch.jit.save writes them.

Invariant: the file's own code is run, so it must come from someone trusted.
"""

import warnings

import torch

from ganlab.quality.embeddings.base import EmbeddingError
from ganlab.quality.embeddings.files import FileSettings, Loaded, reason


def load(settings: FileSettings) -> Loaded:
    """Load the network. Raises EmbeddingError for a file that is none, or a method that it does not have."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, whose files people have
            network = torch.jit.load(settings.file, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise EmbeddingError(
            f"{settings.file}: got no TorchScript model ({reason(error)}); allowed: what torch.jit.save wrote, or "
            "weights as .safetensors with their architecture"
        ) from error
    method = getattr(network, settings.layer or "forward", None)
    if not callable(method):
        raise EmbeddingError(
            f"{settings.file}: layer: got {settings.layer}; allowed: a method of the TorchScript model"
        )
    return Loaded(lambda images: method(torch.from_numpy(images)).float().numpy())
