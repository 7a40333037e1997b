"""Kinds of generative model, one file each, behind one interface.

Invariant: adding a family takes one file and one line in `FAMILIES`; no other module names a family.
"""

from ganlab.families.base import Family
from ganlab.families.dcgan import DCGAN
from ganlab.families.known_support import KnownSupport

FAMILIES: dict[str, type[Family]] = {
    "dcgan": DCGAN,
    "known-support": KnownSupport,
}

__all__ = ["FAMILIES", "Family"]
