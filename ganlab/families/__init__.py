"""Kinds of generative model, one file each, behind one interface.

Invariant: adding a family takes one file and one line in `FAMILIES`; no other module names a family.
"""

from ganlab.families.ali import ALI
from ganlab.families.base import Drawn, Family
from ganlab.families.bigan import BiGAN
from ganlab.families.dcgan import DCGAN
from ganlab.families.gmm import GMM
from ganlab.families.infogan import InfoGAN
from ganlab.families.known_support import KnownSupport
from ganlab.families.mix import Mix
from ganlab.families.pacgan import PacGAN
from ganlab.families.stacked import Stacked
from ganlab.families.vae import VAE
from ganlab.families.wgan import WGAN
from ganlab.families.wgan_gp import WGANGP

FAMILIES: dict[str, type[Family]] = {
    "ali": ALI,
    "bigan": BiGAN,
    "dcgan": DCGAN,
    "gmm": GMM,
    "infogan": InfoGAN,
    "known-support": KnownSupport,
    "mix": Mix,
    "pacgan": PacGAN,
    "stacked": Stacked,
    "vae": VAE,
    "wgan": WGAN,
    "wgan-gp": WGANGP,
}

__all__ = ["FAMILIES", "Drawn", "Family"]
