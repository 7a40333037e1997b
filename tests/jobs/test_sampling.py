"""`ganlab sample`: a model's samples in a folder that `ganlab measure` takes, through kills, to the same bits."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
import zarr

from ganlab.models.families import make_family
from ganlab.models.train import draw
from ganlab.randomness import generator_for
from jobs.spec.checkpoints import check_checkpoint
from jobs.spec.sweep import check_spec, load_spec
from jobs.spec.validation import SpecError
from jobs.training import sampling
from jobs.training.sampling import read_checkpoint_file
from storage.layout import SweepLayout, TrialLayout
from storage.samples import Samples
from tests.command_line import call
from tests.waiting import until

SETTINGS: dict[str, Any] = {"checkpoint": "g.pt", "format": "torchscript", "shape": [1, 8, 8], "latent_dim": 4}


class Slow(torch.nn.Module):
    """A generator that takes its time: some milliseconds for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.work = torch.nn.Linear(4, 64), torch.nn.Parameter(torch.full((500, 500), 1e-3))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        busy = self.work @ self.work @ self.work
        return torch.tanh(3 * self.first(latent) + 0 * busy.sum()).view(-1, 1, 8, 8)


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Slow(), torch.zeros(2, 4)).save("g.pt")
    write()
    return folder


def write(**changes: Any) -> None:
    Path("g.yaml").write_text(yaml.safe_dump({**SETTINGS, **changes}))


def test_samples_are_measured_and_the_same_again(home: Path) -> None:
    result = call("sample", "g.yaml", "--images", "600", "--out", "out", "--json")
    assert json.loads(result.stdout) == {"folder": "out", "images": 600}
    images = np.asarray(zarr.open_group("out/samples.zarr", mode="r")["images"])
    assert images.shape == (600, 1, 8, 8)
    assert len(np.unique(images, axis=0)) == 600
    before = {path: path.stat().st_mtime_ns for path in Path("out/commits").iterdir()}
    assert call("sample", "g.yaml", "--images", "600", "--out", "out").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in Path("out/commits").iterdir()} == before
    answer = json.loads(call("measure", "out", "--threshold", "30", "--json").stdout)
    assert answer["read"]["shape"] == [600, 1, 8, 8]
    call("sample", "g.yaml", "--images", "600", "--out", "other", "--seed", "1")
    assert (np.asarray(zarr.open_group("other/samples.zarr", mode="r")["images"]) != images).any()


@pytest.mark.parametrize(
    ("arguments", "changes", "says"),
    [
        (["--seed", "1"], {}, "seed was 0 and is 1"),
        (["--images", "400"], {}, "images was 600 and is 400"),
        ([], {"latent": "uniform"}, "holds samples of other settings: model was"),
    ],
)
def test_a_folder_of_other_settings_is_refused(
    arguments: list[str], changes: dict[str, Any], says: str, home: Path
) -> None:
    call("sample", "g.yaml", "--images", "600", "--out", "out")
    write(**changes)
    result = call("sample", "g.yaml", "--images", "600", "--out", "out", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    (home / "full").mkdir()
    (home / "full" / "file").touch()
    assert (
        "holds something else; allowed: a new or empty folder"
        in call("sample", "g.yaml", "--images", "600", "--out", "full").stderr
    )


def test_a_moved_checkpoint_is_the_same_and_a_changed_one_is_not(home: Path) -> None:
    call("sample", "g.yaml", "--images", "600", "--out", "out")
    (home / "g.pt").rename(home / "moved.pt")
    write(checkpoint="moved.pt")
    assert call("sample", "g.yaml", "--images", "600", "--out", "out").exit_code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Slow(), torch.zeros(2, 4)).save("moved.pt")
    assert (
        "holds samples of other settings: model was"
        in call("sample", "g.yaml", "--images", "600", "--out", "out").stderr
    )


def test_a_folder_that_another_command_fills_meanwhile_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, once = sampling.make_family, iter([True])

    def slow(*arguments: Any) -> Any:
        if next(once, False):
            assert call("sample", "g.yaml", "--images", "600", "--out", "out").exit_code == 0
        return make(*arguments)

    monkeypatch.setattr(sampling, "make_family", slow)
    result = call("sample", "g.yaml", "--images", "600", "--out", "out", "--seed", "1")
    assert result.exit_code == 2
    assert "holds samples of other settings: seed was 0 and is 1" in result.stderr


@pytest.mark.process
def test_a_killed_command_goes_on_to_the_same_bits(home: Path) -> None:
    """SIGKILL once some shards are committed and others are not; what was committed stays, the rest is drawn again."""
    images = str(12 * 4096)
    command = [sys.executable, "-m", "jobs.cli", "sample", "g.yaml", "--images", images, "--out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([*command, "killed"], env=environment)
    trial = TrialLayout(Path("killed"))
    until(lambda: len(list(trial.commits.glob("*.json"))) >= 2 or process.poll() is not None, every_s=0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    committed = {path: path.stat().st_mtime_ns for path in trial.commits.glob("*.json")}
    assert 2 <= len(committed) < 12
    refused = call("measure", "killed", "--threshold", "30")
    assert refused.exit_code == 2
    assert "of 12 shards are committed" in refused.stderr
    assert call("sample", "g.yaml", "--images", images, "--out", "killed").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in committed} == committed
    assert call("sample", "g.yaml", "--images", images, "--out", "whole").exit_code == 0
    for shard in (0, 2, 7, 11):
        first, stop = shard * 4096, (shard + 1) * 4096
        ours, theirs = (Samples(TrialLayout(Path(name))).read(first, stop) for name in ("killed", "whole"))
        np.testing.assert_array_equal(ours, theirs)


def test_a_sweep_takes_a_checkpoint_and_stores_its_labels(home: Path) -> None:
    """`family: checkpoint` in a sweep file: planned with its content's hash in the trial's id."""
    sweep = {
        "name": "theirs",
        "dataset": {"name": "digits", "resolution": 8},
        "train": {"steps": 1},
        "model": {"family": "checkpoint", "checkpoint": "g.pt", "format": "torchscript", "latent_dim": 4},
        "samples": {"final_images": 512},
        "collisions": {"sample_sizes": [10]},
    }
    Path("theirs.yaml").write_text(yaml.safe_dump(sweep))
    result = call("plan", "theirs.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["trials"]


@pytest.mark.process
def test_a_sweep_of_checkpoints_goes_on_after_a_kill(home: Path) -> None:
    """SIGKILL while images are drawn: the same command draws what is missing, to the bits that the seed says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Slow(), torch.zeros(2, 4)).save("h.pt")
    model = {"family": "checkpoint", "format": "torchscript", "latent_dim": 4}
    sweep = {
        "name": "theirs",
        "dataset": {"name": "digits", "resolution": 8},
        "train": {"steps": 1},
        "model": {**model, "checkpoint": {"grid_search": ["g.pt", "h.pt"]}},
        "samples": {"final_images": 2 * 4096},
        "collisions": {"sample_sizes": [10]},
        "resources": {"max_concurrent": 1},
    }
    Path("theirs.yaml").write_text(yaml.safe_dump(sweep))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "jobs.cli", "run", "theirs.yaml", "--out", "out"]
    process = subprocess.Popen(command, env=environment)
    until(lambda: list(Path("out").glob("trials/*/commits/*.json")) or process.poll() is not None, every_s=0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("trials/*/commits/*.json")}
    assert 1 <= len(before) < 4
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    results = xr.open_zarr("out/results.zarr", chunks=None).load()
    assert sorted(results.checkpoint.values.astype(str)) == ["g.pt", "h.pt"]
    assert (results.status == "completed").all()
    for trial in load_spec("theirs.yaml").trials():
        stored = Samples(SweepLayout(Path("out")).trial(trial.id))
        family = make_family(trial.model, (1, 8, 8), trial.train, trial.seed)
        for shard in (0, 1):
            drawn = draw(family, 4096, generator_for(trial.seed, "sample", 1, shard)).images
            np.testing.assert_array_equal(stored.read(shard * 4096, (shard + 1) * 4096), drawn)


UNET = {"_class_name": "UNet2DModel", "_diffusers_version": "0.42.1", "sample_size": 8, "act_fn": "silu"}
SCHEDULE = {"num_train_timesteps": 100, "beta_schedule": "linear", "beta_start": 0.001, "beta_end": 0.03}
SAMPLER = {"_class_name": "DDIMScheduler", "prediction_type": "epsilon", **SCHEDULE}


def weights_alone(folder: str, config: dict[str, Any]) -> dict[str, Any]:
    """A model section of weights beside their config.json, with the sampler in a file; the weights are never loaded."""
    Path(folder).mkdir()
    Path(folder, "w.safetensors").write_bytes(b"weights")
    Path(folder, "config.json").write_text(json.dumps(config))
    Path("sampler.json").write_text(json.dumps(SAMPLER))
    section = {"checkpoint": f"{folder}/w.safetensors", "format": "safetensors", "scheduler": "sampler.json"}
    return {"family": "checkpoint", "architecture": "diffusers/UNet2DModel", **section}


def test_what_json_files_hold_is_a_part_of_a_trials_id(home: Path) -> None:
    """The config beside weights, and the sampler: their content counts, not where they lie; a sweep keeps its copy."""

    def trial(**changes: Any) -> Any:
        data = {"name": "theirs", "dataset": {"name": "digits", "resolution": 8}, "train": {"steps": 1}}
        Path("theirs.yaml").write_text(yaml.safe_dump({**data, "model": {**model, **changes}}))
        return load_spec("theirs.yaml").trials()[0]

    model = weights_alone("unet", UNET)
    first = trial()
    assert first.model.config == {"sample_size": 8, "act_fn": "silu"}
    assert trial(config={"act_fn": "silu", "sample_size": 8}, scheduler=SAMPLER).id == first.id
    assert trial(scheduler={**SAMPLER, "beta_end": 0.02}).id != first.id
    spec = load_spec("theirs.yaml")
    Path("unet/config.json").write_text(json.dumps({**UNET, "act_fn": "relu"}))
    assert trial().id != first.id
    assert trial(config={**UNET, "act_fn": "silu"}).id == first.id
    Path("unet").rename("moved")
    assert [each.id for each in check_spec(spec.resolved({"version": "x"})).trials()] == [
        each.id for each in spec.trials()
    ]


def test_models_whose_configs_differ_have_a_column_for_each_key_that_does(home: Path) -> None:
    models = [weights_alone("a", UNET), weights_alone("b", {**UNET, "act_fn": "relu"})]
    other = {"family": "checkpoint", "checkpoint": "g.pt", "format": "torchscript", "latent_dim": 4}
    data = {"name": "theirs", "dataset": {"name": "digits", "resolution": 8}, "train": {"steps": 1}}
    Path("theirs.yaml").write_text(yaml.safe_dump({**data, "model": {"grid_search": models}}))
    spec = load_spec("theirs.yaml")
    columns = spec.hyperparameters(spec.trials())
    assert {name: list(column.values()) for name, column in columns.items()} == {
        "checkpoint": ["a/w.safetensors", "b/w.safetensors"],
        "act_fn": ["silu", "relu"],
    }
    Path("theirs.yaml").write_text(yaml.safe_dump({**data, "model": {"grid_search": [models[0], other]}}))
    spec = load_spec("theirs.yaml")
    assert {*spec.hyperparameters(spec.trials())} == {"checkpoint", "format", "architecture", "latent_dim"}
    samplers = [{**SAMPLER, "clip_sample": False}, {**SAMPLER, "beta_end": 0.02}, "sampler.json"]
    model = {**models[0], "scheduler": {"grid_search": samplers}}
    Path("theirs.yaml").write_text(yaml.safe_dump({**data, "model": model}))
    spec = load_spec("theirs.yaml")
    columns = spec.hyperparameters(spec.trials())
    assert {name: list(column.values()) for name, column in columns.items()} == {
        "clip_sample": [False, None, None],
        "beta_end": [0.03, 0.02, 0.03],
    }
    planned = call("plan", "theirs.yaml", "--no-timing")
    assert planned.exit_code == 0, planned.stderr


def test_a_latent_vectors_shape_may_differ_over_a_sweep(home: Path) -> None:
    """A hyperparameter that is a list, in the plan's table."""
    model = {"family": "checkpoint", "checkpoint": "g.pt", "format": "torchscript"}
    data = {"name": "theirs", "dataset": {"name": "digits", "resolution": 8}, "train": {"steps": 1}}
    both = {**data, "model": {**model, "latent_dim": {"grid_search": [[4], [2, 2]]}}}
    Path("theirs.yaml").write_text(yaml.safe_dump(both))
    planned = call("plan", "theirs.yaml", "--no-timing")
    assert planned.exit_code == 0, planned.stderr
    assert "[2, 2]" in planned.stdout


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r'config: got "c\.json": No such file or directory; allowed: a mapping, or the path of a JSON file'),
        ("{", r'config: got "c\.json": holds no JSON \(.*\); allowed'),
        ("[" * 100_000, r'config: got "c\.json": holds no JSON \(maximum recursion'),
        ("[1]", r'config: got "c\.json": holds no JSON object; allowed'),
        ('{"sample_size": NaN}', r"config\.sample_size: got nan; allowed: a finite number"),
    ],
)
def test_a_json_file_that_holds_no_settings(content: str | None, says: str, home: Path) -> None:
    if content is not None:
        Path("c.json").write_text(content)
    model = {key: value for key, value in weights_alone("unet", UNET).items() if key != "family"}
    Path("w.yaml").write_text(yaml.safe_dump({**model, "shape": [1, 8, 8], "config": "c.json"}))
    with pytest.raises(SpecError, match=says):
        read_checkpoint_file(Path("w.yaml"))


def test_weights_alone_are_sampled_and_measured(home: Path) -> None:
    """Two commands, with the config beside the weights; another config there is another model."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    tiny = {"encoder_block_out_channels": [4, 4], "decoder_block_out_channels": [4, 4]}
    config = {**tiny, "num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1], "in_channels": 1, "out_channels": 1}
    diffusers.AutoencoderTiny(**config).save_pretrained("decoder")
    weights = "decoder/diffusion_pytorch_model.safetensors"
    write(
        checkpoint=weights,
        format="safetensors",
        architecture="diffusers/AutoencoderTiny",
        latent_dim=[4, 4, 4],
        range=[-1.3, -0.4],
    )
    result = call("sample", "g.yaml", "--images", "600", "--out", "out")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(call("measure", "out", "--threshold", "3", "--json").stdout)
    assert answer["read"]["shape"] == [600, 1, 8, 8]
    file = Path("decoder/config.json")
    file.write_text(file.read_text().replace('"act_fn": "relu"', '"act_fn": "silu"'))
    refused = call("sample", "g.yaml", "--images", "600", "--out", "out")
    assert refused.exit_code == 2
    assert "holds samples of other settings: model was" in refused.stderr


def test_the_code_of_a_pickle_is_found_from_a_worker_and_hashed(home: Path) -> None:
    """`code` is a path beside the sweep file, wherever the trial runs; its content is a part of the trial's id."""
    (home / "code").mkdir()
    (home / "code" / "net.py").write_text("width = 1\n")
    model = {"family": "checkpoint", "checkpoint": "g.pt", "format": "pickle", "code": "code", "latent_dim": 4}
    data = {"name": "theirs", "dataset": {"name": "digits", "resolution": 8}, "model": {**model, "trust": True}}
    Path("theirs.yaml").write_text(yaml.safe_dump({**data, "train": {"steps": 1}, "samples": {"final_images": 512}}))
    (trial,) = load_spec("theirs.yaml").trials()
    assert trial.model.code.path == home / "code"
    check_checkpoint(trial.model)
    (home / "code").rename(home / "moved")
    moved = load_spec("theirs.yaml", ["model.code=moved"]).trials()
    assert [each.id for each in moved] == [trial.id]
    (home / "moved" / "net.py").write_text("width = 2\n")
    assert [each.id for each in load_spec("theirs.yaml", ["model.code=moved"]).trials()] != [trial.id]
    with pytest.raises(ValueError, match=r"the code .*moved is not the one of this trial: its content has changed"):
        check_checkpoint(moved[0].model)
    with pytest.raises(SpecError, match=r"code: got \"code\": No such file or directory; allowed: a file, or a folder"):
        load_spec("theirs.yaml")
