"""Names of embeddings in a sweep file or on the command line; loads no network.

Invariant: a text is either names of shipped embeddings or the absolute path of a file; no file is read here.
"""

import difflib
import hashlib
from pathlib import Path

PIXELS, NORMALISED, CLASSIFIER = "pixels", "normalised", "classifier"
NAMES = (PIXELS, NORMALISED, CLASSIFIER, "efficientnet-lite0")
SUFFIXES = (".pt", ".onnx", ".safetensors", ".yaml")
UNIT = "-unit"  # behind a name: rows scaled to length 1
JOIN = "+"  # between names: rows of length 1 side by side
ALLOWED = (
    f"{', '.join(NAMES)}, one of them with {UNIT} (rows of length 1), several joined by {JOIN}, or a file: "
    f"{', '.join(SUFFIXES)}"
)


def settled(text: str) -> str:
    """Return the text of an embedding, a path made absolute. Raises ValueError for any other text."""
    if parts_of(text) is not None:
        return text
    if text.endswith(SUFFIXES):
        from ganlab.data.datasets import absolute

        return str(absolute(Path(text)))
    near = difflib.get_close_matches(text, NAMES, n=1)
    raise ValueError(f'got "{text}"; allowed: {ALLOWED}{f"; did you mean {near[0]}?" if near else ""}')


def default_embedding(image_shape: tuple[int, ...], distance_given: bool) -> str:
    """Return the embedding for images of a shape, (C, H, W), or points, (D,), where the user names none.

    Colour pictures are compared by `NORMALISED`, which agrees with people about twice as well as pixels do and needs no
    weights (docs/statistics.md, "Spaces of the distances"); but a distance that is given is one of pixels.
    """
    return NORMALISED if len(image_shape) == 3 and image_shape[0] == 3 and not distance_given else PIXELS


def parts_of(text: str) -> list[tuple[str, bool]] | None:
    """Return the names that are joined, and whether rows of each have length 1; None for what is not made of names."""
    parts = text.split(JOIN)
    found = [(part.removesuffix(UNIT), part.endswith(UNIT) or len(parts) > 1) for part in parts]
    return found if all(name in NAMES for name, _ in found) else None


def needs_classifier(text: str) -> bool:
    """Return True if a classifier is part of the embedding."""
    return any(name == CLASSIFIER for name, _ in parts_of(text) or ())


def short_name(text: str) -> str:
    """Return names as they are, and of a path the file's name."""
    return text if parts_of(text) is not None else Path(text).name


def folder_name(text: str) -> str:
    """Return a name for a folder: of each embedding its own."""
    if parts_of(text) is not None:
        return text
    return f"{Path(text).stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
