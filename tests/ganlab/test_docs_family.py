"""The family that docs/families.md adds works as it stands there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganlab.models.train import TrainSettings


def test_the_example_trains_and_samples() -> None:
    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text("utf-8")
    code = next(block for block in re.findall(r"```python[^\n]*\n(.*?)```", text, re.DOTALL) if "class LSGAN(" in block)
    names: dict[str, Any] = {"__name__": "lsgan"}
    exec(compile(code, "docs/families.md", "exec"), names)
    settings = names["LSGANSettings"](latent_dim=4, generator_width=4, discriminator_width=4)
    family = names["LSGAN"](settings, (1, 8, 8), TrainSettings(batch_size=8), 0)
    images = np.random.default_rng(0).integers(0, 256, (32, 1, 8, 8), dtype=np.uint8)
    dataset = family.prepare(images)
    with torch.no_grad():
        latent = torch.from_numpy(np.random.default_rng(1).standard_normal((8, 4), dtype=np.float32))
        on_real = family.discriminator(dataset[torch.arange(8)])
        on_fake = family.discriminator(family.generator(latent))
        expected = float(((on_real - 1) ** 2).mean() / 2 + (on_fake**2).mean() / 2)
    losses = family.step(lambda: dataset[torch.arange(8)], np.random.default_rng(1))
    assert float(losses["discriminator_loss"]) == pytest.approx(expected, rel=1e-5)
    assert family.sample(5, np.random.default_rng(0)).images.shape == (5, 1, 8, 8)


def test_every_family_is_in_the_table() -> None:
    from ganlab.models.families import FAMILIES

    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)) == set(FAMILIES)
