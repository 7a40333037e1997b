"""A sweep whose trials are trained stacked leaves what it leaves without."""

from pathlib import Path

import numpy as np

from jobs.spec.sweep import check_spec
from storage.history import read_history
from storage.layout import SweepLayout
from storage.outcome import read_outcome
from storage.samples import Samples

SECTIONS = {
    "dataset": {"name": "gaussians-grid", "points": 2000},
    "model": {
        "grid_search": [
            {"family": "dcgan", "latent_dim": 2, "generator_width": 8, "discriminator_width": 8},
            {"family": "ali", "latent_dim": 2, "generator_width": 8, "discriminator_width": 8, "code_width": 8},
        ]
    },
    "train": {"steps": 20, "batch_size": 16, "log_every": 5},
    "samples": {"snapshots": [10], "images_per_snapshot": 256, "final_images": 256},
    "collisions": {"sample_sizes": [10], "quality_faults": [], "threshold": {"quantile": 0.1}},
    "seeds": 3,
}


def test_a_stacked_sweep_of_points_is_what_it_is_one_by_one(on_clusters, sweep_file, folder: Path) -> None:
    """Also: points go all the way from the dataset to the report."""
    spec = check_spec({"name": "points", **SECTIONS})
    samples: dict[str, dict[str, np.ndarray]] = {}
    for name, replicas in (("stacked", 3), ("alone", 1)):
        file = sweep_file(name, **SECTIONS, resources={"replicas_per_worker": replicas})
        done = on_clusters("run", file, "--out", folder / name)
        assert done.exit_code == 0, done.stderr
        layout = SweepLayout(folder / name)
        samples[name] = {}
        for trial in spec.trials():
            own = layout.trial(trial.id)
            outcome = read_outcome(own)
            assert outcome is not None
            assert outcome.status == "completed"
            assert read_history(own.history)["step"].tolist() == [5, 10, 15, 20]
            samples[name][trial.id] = Samples(own).read(0, 512)
        assert (layout.root / "report.html").exists()
    for trial_id, points in samples["alone"].items():
        np.testing.assert_allclose(samples["stacked"][trial_id], points, atol=1e-4)
