"""Kinds of generative model, one file each, behind one interface.

Invariant: adding a family takes one file and one line in `FAMILIES`; no other module names a family.
"""

from typing import Any

from pydantic import BaseModel

from ganlab.models.families.ali import ALI
from ganlab.models.families.base import Family, GeneratedBatch
from ganlab.models.families.bigan import BiGAN
from ganlab.models.families.checkpoint import Checkpoint
from ganlab.models.families.dcgan import DCGAN
from ganlab.models.families.diffusion import Diffusion
from ganlab.models.families.flow import Flow
from ganlab.models.families.gmm import GMM
from ganlab.models.families.imported import PREFIX, Imported, ImportedSettings, imported_family, settings_of_subclass
from ganlab.models.families.infogan import InfoGAN
from ganlab.models.families.known_support import KnownSupport
from ganlab.models.families.mix import Mix
from ganlab.models.families.pacgan import PacGAN
from ganlab.models.families.r3gan import R3GAN
from ganlab.models.families.stacked import Stacked
from ganlab.models.families.vae import VAE
from ganlab.models.families.wgan import WGAN
from ganlab.models.families.wgan_gp import WGANGP

FAMILIES: dict[str, type[Family]] = {
    "ali": ALI,
    "bigan": BiGAN,
    "checkpoint": Checkpoint,
    "dcgan": DCGAN,
    "diffusion": Diffusion,
    "flow": Flow,
    "gmm": GMM,
    "infogan": InfoGAN,
    "known-support": KnownSupport,
    "mix": Mix,
    "pacgan": PacGAN,
    "r3gan": R3GAN,
    "stacked": Stacked,
    "vae": VAE,
    "wgan": WGAN,
    "wgan-gp": WGANGP,
}

__all__ = [
    "FAMILIES",
    "Family",
    "GeneratedBatch",
    "Imported",
    "family_of",
    "make_family",
    "own_settings",
    "settings_class",
]


def settings_class(name: str) -> type[BaseModel]:
    """Settings that a sweep file gives for the family of this name; imports nothing of a user's."""
    return ImportedSettings if name.startswith(PREFIX) else FAMILIES[name].Settings


def family_of(model: Any) -> type[Family]:
    """The family that these settings are for. ValueError when it is a user's and can't be imported."""
    return imported_family(model) if isinstance(model, ImportedSettings) else FAMILIES[model.family]


def own_settings(model: Any) -> BaseModel:
    """Settings in the family's own class; ValueError when a user's model refuses them."""
    if isinstance(model, ImportedSettings) and (family := imported_family(model)).Settings is not ImportedSettings:
        return settings_of_subclass(family, model)
    settings: BaseModel = model
    return settings


def make_family(model: Any, *arguments: Any, **more: Any) -> Family:
    """Make the family with these settings; see `Family` for the other arguments."""
    return family_of(model)(own_settings(model), *arguments, **more)
