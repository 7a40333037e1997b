"""A small sweep prepared on disk, for tests that need no cluster; a browser."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganlab.data.datasets import Dataset
from jobs.cli.pipeline import prepare_folder
from jobs.spec.sweep import Spec, check_spec
from storage.layout import SweepLayout

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
Prepared = tuple[SweepLayout, Spec]
TINY = {"family": "dcgan", "latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "refine": True}


@pytest.fixture
def prepared(folder: Path) -> Callable[..., Prepared]:
    """Write sweep.yaml and reference.zarr of a small sweep on digits: prepared("name", train={...})."""
    from sklearn.datasets import load_digits

    stored = load_digits()
    images = np.rint(stored.images[:300, None] * (255 / 16)).astype(np.uint8)

    def make(name: str = "sweep", labelled: bool = False, **sections: Any) -> Prepared:
        spec = check_spec(
            {
                "name": name,
                "dataset": {"name": "digits"},
                "model": TINY,
                "train": {"steps": 12, "batch_size": 8, "log_every": 3, "learning_rate": 0.03, "ema_decay": 0.0},
                "samples": {"snapshots": [5], "images_per_snapshot": 300, "final_images": 600},
                "collisions": {"sample_sizes": [10, 100]},
                **sections,
            }
        )
        layout = SweepLayout(folder / name)
        prepare_folder(spec, layout, Dataset(images, stored.target[:300].astype(np.int64) if labelled else None))
        return layout, spec

    return make


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it (Debian: apt-get install chromium) to test the page in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
