"""Networks from weights alone (.safetensors), whose architecture timm or open_clip builds.

Invariant: every weight of the network comes from the file; nothing is downloaded and nothing stays as drawn at random.
"""

import difflib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganlab.quality.embeddings.base import EmbeddingError
from ganlab.quality.embeddings.files import FileSettings, Loaded, missing, reason


def load(settings: FileSettings) -> Loaded:
    """Build the network and take its weights. Raises EmbeddingError for an unknown architecture or other weights."""
    library, _, name = (settings.architecture or "").partition("/")
    if library not in _LIBRARIES or not name:
        raise EmbeddingError(
            f"{settings.file}: architecture: got {settings.architecture}; allowed: timm/NAME or open_clip/NAME, set in a "
            "YAML file beside the weights"
        )
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise missing("safetensors", library.replace("_", "-"), error) from error
    network, run, unused = _LIBRARIES[library](name)
    try:
        weights = load_file(settings.file)
    except Exception as error:  # a class of its own
        raise EmbeddingError(
            f"{settings.file}: got no weights ({reason(error)}); allowed: a .safetensors file"
        ) from error
    try:
        absent, more = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise EmbeddingError(f"{settings.file}: not the weights of {settings.architecture}: {reason(error)}") from error
    more = [each for each in more if not each.startswith(unused)] if unused else more
    if absent or more:
        raise EmbeddingError(
            f"{settings.file}: not the weights of {settings.architecture}: {len(absent)} missing, {len(more)} unknown, "
            f"such as {(absent or more)[0]}; allowed: exactly its weights"
        )
    network.eval()
    if settings.layer is not None:
        run = _layer(network, run, settings)
    return Loaded(lambda images: run(torch.from_numpy(images)).float().numpy())


Built = tuple[nn.Module, Callable[[Tensor], Tensor], tuple[str, ...]]


def _timm(name: str) -> Built:
    try:
        import timm
    except ImportError as error:
        raise missing("timm", "timm", error) from error
    _check_known("timm", name.partition(".")[0], timm.list_models())
    network = timm.create_model(name, pretrained=False, num_classes=0)
    head = network.pretrained_cfg.get("classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    return network, network, tuple(f"{each}." for each in heads)


def _open_clip(name: str) -> Built:
    try:
        import open_clip
    except ImportError as error:
        raise missing("open_clip_torch", "open-clip", error) from error
    _check_known("open_clip", name, open_clip.list_models())
    network = open_clip.create_model(name, pretrained=None)
    return network, network.encode_image, ()


_LIBRARIES: dict[str, Callable[[str], Built]] = {"timm": _timm, "open_clip": _open_clip}


def _check_known(library: str, name: str, known: list[str]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise EmbeddingError(
        f"architecture: {library} has no {name}; allowed: one of its {len(known)}; did you mean {library}/{near[0]}?"
    )


def _layer(network: nn.Module, run: Callable[[Tensor], Tensor], settings: FileSettings) -> Callable[[Tensor], Tensor]:
    layers = dict(network.named_modules())
    if settings.layer not in layers:
        near = difflib.get_close_matches(str(settings.layer), list(layers), n=1, cutoff=0.0)
        raise EmbeddingError(
            f"{settings.file}: layer: got {settings.layer}; allowed: a module of {settings.architecture}; did you mean "
            f"{near[0]}?"
        )
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, made: Tensor) -> None:
        kept[:] = [made]

    layers[settings.layer].register_forward_hook(keep)

    def features(images: Tensor) -> Tensor:
        run(images)
        return kept[0]

    return features
