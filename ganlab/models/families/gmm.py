"""Gaussian mixture fitted by expectation–maximisation: the simple baseline, with no adversary and no network.

Invariant: the fit is a function of the training set, the settings and the seed; steps of training do nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganlab.models.families.base import AverageGradients, Dataset, Family, GeneratedBatch, NextBatch, Shape

if TYPE_CHECKING:
    from ganlab.models.train_settings import TrainSettings


class GMMSettings(BaseModel):
    """A mixture of normal laws over the leading principal components of the pixels, or over coordinates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["gmm"] = "gmm"
    components: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Normal laws in the mixture."""
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"
    """Kind of covariance of each component, by scikit-learn's names."""
    principal: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Principal components of the pixels that are modelled; the rest are kept at their mean. The default is all."""
    variance_floor: Annotated[float, Field(gt=0)] = 1e-4
    """Added to every variance, in units of the mean variance of a pixel or coordinate."""
    iterations: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Most steps of expectation–maximisation."""


class GMM(Family):
    """The family; see `Family` for the arguments."""

    Settings = GMMSettings

    def __init__(
        self,
        settings: GMMSettings,
        shape: Shape,
        train: TrainSettings,
        seed: int,
        device: torch.device | str = "cpu",
        average_gradients: AverageGradients | None = None,
    ) -> None:
        self.settings, self.shape, self.seed = settings, tuple(shape), seed
        self.networks = nn.ModuleDict()
        self.fit: dict[str, np.ndarray] = {}

    def prepare(self, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
        if not self.fit:
            self.fit = fit_mixture(images.reshape(len(images), -1), self.settings, self.seed)
        return torch.zeros(len(images))

    def step(self, next_batch: NextBatch, draws: np.random.Generator) -> Mapping[str, Tensor]:
        return {}

    def sample(self, count: int, noise: np.random.Generator) -> GeneratedBatch:
        fit = self.fit
        chosen = np.minimum(
            np.searchsorted(fit["cumulative"], noise.random(count), side="right"), len(fit["means"]) - 1
        )
        normal = noise.standard_normal((count, fit["means"].shape[1]))
        moved = fit["means"][chosen] + np.einsum("nij,nj->ni", fit["factors"][chosen], normal)
        items = (moved @ fit["basis"] + fit["centre"]).reshape(count, *self.shape)
        if len(self.shape) == 1:
            return GeneratedBatch(items.astype(np.float32))
        return GeneratedBatch(np.clip(np.rint(items), 0, 255).astype(np.uint8))

    def state(self) -> dict[str, Any]:
        return {name: torch.from_numpy(array) for name, array in self.fit.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.fit = {name: tensor.numpy() for name, tensor in state.items()}


def fit_mixture(items: np.ndarray, settings: GMMSettings, seed: int) -> dict[str, np.ndarray]:
    """Fit the mixture to items (N, d).

    Returns
    -------
    dict of float64 arrays
        For k components in p dimensions: `cumulative` (k,) of the weights, `means` (k, p), `factors` (k, p, p) with
        factor · factorᵀ = covariance, and `basis` (p, d), `centre` (d,) that take a point back to an item.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values = items.astype(np.float64)
    size = min(settings.principal or values.shape[1], *values.shape)
    centre, basis = values.mean(0), np.eye(values.shape[1])
    if size < values.shape[1]:
        basis = PCA(size, random_state=seed % 2**32).fit(values).components_
    floor = settings.variance_floor * values.var(0).mean()
    mixture = GaussianMixture(
        min(settings.components, len(values)),
        covariance_type=settings.covariance,
        reg_covar=max(floor, 1e-12),
        max_iter=settings.iterations,
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `iterations` is a setting; its end is no surprise
        mixture.fit((values - centre) @ basis.T)
    spread: dict[str, Any] = {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (len(mixture.means_), size, size)),
        "diag": lambda c: c[:, :, None] * np.eye(size),
        "spherical": lambda c: c[:, None, None] * np.eye(size),
    }
    covariances = np.asarray(spread[settings.covariance](mixture.covariances_))
    return {
        "cumulative": np.cumsum(mixture.weights_),
        "means": mixture.means_,
        "factors": np.linalg.cholesky(covariances),
        "basis": basis,
        "centre": centre,
    }
