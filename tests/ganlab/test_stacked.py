"""What only a stacked GAN does: two phases, and classes of the data's own."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from ganlab.models.families.stacked import Stacked, StackedSettings
from ganlab.models.train import TrainSettings, seconds_per_step, train

SETTINGS = StackedSettings(
    latent_dim=2,
    upper_latent_dim=3,
    upper_width=8,
    generator_width=4,
    discriminator_width=4,
    classes=4,
    features=5,
    classifier_steps=6,
)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)


class NoCheckpoint:
    def load(self) -> None:
        return None

    def save(self, state: Mapping[str, object]) -> None: ...


def test_only_classes_of_the_data_are_made() -> None:
    family = Stacked(SETTINGS, (1, 8, 8), TrainSettings(batch_size=4), 0)
    family.prepare(IMAGES, np.repeat([1, 3], 20))
    labels = family.sample(400, np.random.default_rng(0)).labels
    assert labels is not None
    assert np.bincount(labels, minlength=4)[[1, 3]].min() > 150
    assert set(labels) == {1, 3}


def test_each_loss_is_a_mean_over_the_steps_that_have_it() -> None:
    settings = TrainSettings(steps=8, batch_size=4, log_every=4)
    family, seen, rows = Stacked(SETTINGS, (1, 8, 8), settings, 0), [], []
    step = family.step

    def watched(*arguments: object) -> Mapping[str, torch.Tensor]:
        seen.append(step(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    family.step = watched  # type: ignore[method-assign,assignment]
    train(
        family,
        IMAGES,
        settings,
        0,
        [],
        labels=np.arange(40) % 4,
        snapshots=(),
        sink=lambda *given: None,
        drain=lambda: None,
        report=rows.append,
        checkpoint=NoCheckpoint(),
    )
    for name in ("classifier_loss", "generator_loss"):
        values = [float(losses[name]) for losses in seen[4:] if name in losses]
        assert len(values) == 2
        assert rows[1][name] == pytest.approx(np.mean(values))


def test_the_step_that_is_timed_is_one_of_the_gans() -> None:
    family, trained = Stacked(SETTINGS, (1, 8, 8), TrainSettings(batch_size=4), 0), []
    step = family.step
    family.step = lambda *given: trained.append(step(*given)) or trained[-1]  # type: ignore
    seconds_per_step(family, (1, 8, 8), TrainSettings(batch_size=4), steps=1)
    assert all("generator_loss" in losses for losses in trained)
