"""The pair engine: all pairs of images, exactly.

Invariant: `closest_pairs`, `pairs_within` and `nearest` are loaded when they are used: planning tiles loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganlab.pairs.closest import Pairs, closest_pairs, nearest, pairs_within

__all__ = ["Pairs", "closest_pairs", "nearest", "pairs_within"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ganlab.pairs import closest

    return getattr(closest, name)
