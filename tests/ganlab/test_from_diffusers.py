"""Checkpoints of diffusers: images beside those of the library itself, for weights alone and folders; what is refused."""

import json
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from ganlab.models.families.imported import ModelError
from ganlab.models.from_diffusers import DECODERS, SCHEDULE
from ganlab.models.train import draw
from tests.ganlab.test_checkpoint import opened, settings

diffusers = pytest.importorskip("diffusers")
from safetensors.torch import load_file, save_file  # noqa: E402

SHAPE = (1, 8, 8)
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.03}
SAMPLER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 100,
    "prediction_type": "v_prediction",
    **BETAS,
}
BLOCKS = {"block_out_channels": [4, 4], "norm_num_groups": 2, "in_channels": 1, "out_channels": 1}
UP_AND_DOWN = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
DECODED: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {**BLOCKS, **UP_AND_DOWN},
    "VQModel": {**BLOCKS, **UP_AND_DOWN, "latent_channels": 4, "num_vq_embeddings": 64},
    "AutoencoderTiny": {
        "in_channels": 1,
        "out_channels": 1,
        "encoder_block_out_channels": [4, 4],
        "decoder_block_out_channels": [4, 4],
        "num_encoder_blocks": [1, 1],
        "num_decoder_blocks": [1, 1],
    },
    "AutoencoderDC": {
        "in_channels": 1,
        "latent_channels": 4,
        "attention_head_dim": 4,
        "encoder_block_out_channels": [8, 8],
        "decoder_block_out_channels": [8, 8],
        "encoder_layers_per_block": [1, 1],
        "decoder_layers_per_block": [1, 1],
        "encoder_qkv_multiscales": [[], []],
        "decoder_qkv_multiscales": [[], []],
    },
}


class Saved(NamedTuple):
    """A network, and the folder that its save_pretrained has written."""

    network: Any
    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "diffusion_pytorch_model.safetensors"

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "config.json").read_text()))


def saved(name: str, config: dict[str, Any], folder: Path) -> Saved:
    torch.manual_seed(0)
    network = getattr(diffusers, name)(**config).eval()
    network.save_pretrained(folder, safe_serialization=True)
    return Saved(network, folder)


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return saved("UNet2DModel", UNET, tmp_path_factory.mktemp("unet"))


def sampler_of(scheduler: dict[str, Any]) -> Any:
    """The library's own sampler of these settings."""
    arguments = {key: value for key, value in scheduler.items() if key != "_class_name"}
    return getattr(diffusers, scheduler["_class_name"])(**arguments)


def of_unet(path: Path, shape: tuple[int, ...] = SHAPE, **more: Any) -> Any:
    """The family of a U-Net's weights, with the sampler above, in two steps and batches of 3."""
    given = {"config": UNET, "scheduler": SAMPLER, "sampling_steps": 2, "batch_size": 3, "latent_dim": None, **more}
    return opened(path, "safetensors", shape, **{"architecture": "diffusers/UNet2DModel", **given})


def by_the_pipeline(pipeline: Any, count: int, seed: int) -> np.ndarray:
    """Images of diffusers' own pipeline from the noise that the family must draw, in its batches of 3."""
    pipeline.set_progress_bar_config(disable=True)
    noise, images = np.random.default_rng(seed), []
    for first in range(0, count, 3):
        size = min(3, count - first)
        seeds = np.random.default_rng(int(noise.integers(2**63))).integers(2**63, size=size)
        noise.integers(0, 1, size)
        generators = [torch.Generator().manual_seed(int(each)) for each in seeds]
        drawn = pipeline(size, generator=generators, num_inference_steps=2, output_type="np").images
        images.append((drawn.transpose(0, 3, 1, 2) * np.float32(255)).round().astype(np.uint8))
    return np.concatenate(images)


@pytest.mark.parametrize("sampler", ["DDPM", "DDIM"])
def test_a_unet_from_weights_alone_draws_what_its_pipeline_draws(
    sampler: str, unet: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    scheduler = {**SAMPLER, "_class_name": f"{sampler}Scheduler"}
    own = getattr(diffusers, f"{sampler}Pipeline")(unet.network, sampler_of(scheduler))
    family = of_unet(unet.weights, scheduler=scheduler)
    images = draw(family, 5, np.random.default_rng(7)).images
    np.testing.assert_array_equal(images, by_the_pipeline(own, 5, 7))
    np.testing.assert_array_equal(
        draw(of_unet(unet.weights, scheduler=scheduler), 5, np.random.default_rng(7)).images, images
    )
    assert len(np.unique(images, axis=0)) == 5
    family.prepare(np.empty((0, *SHAPE)))


@pytest.mark.parametrize("changed", [{"beta_end": 0.2}, {"prediction_type": "epsilon"}, {"num_train_timesteps": 50}])
def test_another_schedule_draws_other_images(changed: dict[str, Any], unet: Saved) -> None:
    """What the file of a sampler says is used: none of its values is left at a default."""
    ours, theirs = (
        draw(of_unet(unet.weights, scheduler=each), 3, np.random.default_rng(0)).images
        for each in (SAMPLER, {**SAMPLER, **changed})
    )
    assert (ours != theirs).any()


def test_config_and_sampler_as_save_pretrained_writes_them(unet: Saved, tmp_path: Path) -> None:
    """The files' own keys, such as the library's version, change neither images nor settings."""
    sampler_of(SAMPLER).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert "_diffusers_version" in written
    ours, theirs = of_unet(unet.weights), of_unet(unet.weights, config=unet.config, scheduler=written)
    assert not [key for key in (*theirs.settings.config, *theirs.settings.scheduler) if key.startswith("_diff")]
    np.testing.assert_array_equal(*(draw(each, 3, np.random.default_rng(0)).images for each in (ours, theirs)))


def test_weights_with_the_names_of_older_versions(unet: Saved, tmp_path: Path) -> None:
    """Attention as files before version 0.17 name it: query, key, value and proj_attn."""
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, weights in load_file(unet.weights).items():
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = weights
    assert renamed.keys() != load_file(unet.weights).keys()
    save_file(renamed, tmp_path / "older.safetensors")
    ours, theirs = (
        draw(of_unet(path), 3, np.random.default_rng(0)).images
        for path in (unet.weights, tmp_path / "older.safetensors")
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_draws_from_our_latent_noise(name: str, tmp_path: Path) -> None:
    decoder = saved(name, DECODED[name], tmp_path)
    more = {
        "architecture": f"diffusers/{name}",
        "config": decoder.config,
        "latent_dim": (4, 4, 4),
        "range": (-3.0, 3.0),
    }
    family = opened(decoder.weights, "safetensors", batch_size=5, **more)
    images = draw(family, 7, np.random.default_rng(2)).images
    noise, wanted = np.random.default_rng(2), []
    for _ in range(2):
        noise.integers(2**63)
        latent = torch.from_numpy(noise.standard_normal((5, 4, 4, 4), dtype=np.float32))
        noise.integers(0, 1, 5)
        with torch.no_grad():
            wanted.append(decoder.network.decode(latent).sample.numpy())
    scaled = (np.concatenate(wanted)[:7] + np.float32(3)) * np.float32(255 / 6)
    np.testing.assert_array_equal(images, scaled.round().clip(0, 255).astype(np.uint8))
    np.testing.assert_array_equal(draw(family, 7, np.random.default_rng(2)).images, images)
    assert len(np.unique(images, axis=0)) == 7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"architecture": "diffusers/UNet2DModl"},
            r"got diffusers/UNet2DModl; allowed: .* did you mean diffusers/UNet2DModel\?",
        ),
        ({"architecture": "UNet2DModel"}, r"did you mean diffusers/UNet2DModel\?"),
        (
            {"architecture": "timm/resnet18"},
            r"got timm/resnet18, but timm has no generators; allowed: diffusers/UNet2DModel, ",
        ),
        (
            {"architecture": None},
            r"got weights alone and no architecture; allowed: architecture: diffusers/UNet2DModel, ",
        ),
        ({"config": None}, r"got no config of diffusers/UNet2DModel, and no config\.json beside"),
        ({"config": {"_class_name": "VQModel"}}, r"got the config of diffusers/VQModel for diffusers/UNet2DModel"),
        (
            {"scheduler": None},
            r"got no scheduler for diffusers/UNet2DModel; allowed: scheduler: DDIMScheduler or DDPMScheduler",
        ),
        ({"scheduler": {**SAMPLER, "_class_name": ["DDIMScheduler"]}}, r"got _class_name \['DDIMScheduler'\]; allowed"),
        (
            {"scheduler": {**SAMPLER, "trained_betas": [0.1]}},
            r"got 1 trained_betas and num_train_timesteps 100; allowed: as many",
        ),
        ({"scheduler": {}}, r"got _class_name None; allowed: DDIMScheduler or DDPMScheduler"),
        ({"scheduler": {**SAMPLER, "_class_name": "DDIMSchedular"}}, r"did you mean DDIMScheduler\?"),
        ({"latent": "uniform"}, r"got latent uniform for diffusers/UNet2DModel; allowed: normal"),
        ({"latent_dim": 4}, r"got latent_dim 4 for diffusers/UNet2DModel; allowed: no latent_dim"),
        (
            {"architecture": "diffusers/AutoencoderKL", "latent_dim": (4, 4, 4), "sampling_steps": None},
            r"got a scheduler for diffusers/AutoencoderKL",
        ),
        (
            {"architecture": "diffusers/AutoencoderKL", "scheduler": None},
            r"got latent_dim None for diffusers/AutoencoderKL",
        ),
        (
            {"architecture": "diffusers/AutoencoderKL", "scheduler": None, "latent_dim": 4},
            r"got sampling_steps 2 for diffusers/AutoencoderKL; allowed: none",
        ),
        ({"format": "torchscript", "latent_dim": 4, "sampling_steps": None}, r"got architecture for torchscript"),
        *(
            (
                {"scheduler": {each: value for each, value in SAMPLER.items() if each != key}},
                rf"got no {key}; allowed: .*{key}",
            )
            for key in SCHEDULE
        ),
    ],
)
def test_settings_that_are_not_said_or_not_of_this_architecture(changes: dict[str, Any], says: str) -> None:
    given = {"architecture": "diffusers/UNet2DModel", "config": UNET, "scheduler": SAMPLER, "sampling_steps": 2}
    both = {**given, "latent_dim": None, "format": "safetensors", **changes}
    with pytest.raises(ValueError, match=says):
        settings(Path("w.safetensors"), both.pop("format"), **both)


def test_trained_betas_stand_for_the_schedule() -> None:
    said = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": 2,
        "prediction_type": "epsilon",
        "trained_betas": [0.1, 0.2],
    }
    more = {"architecture": "diffusers/UNet2DModel", "config": UNET, "scheduler": said, "latent_dim": None}
    assert settings(Path("w.safetensors"), "safetensors", **more).scheduler == said


def test_settings_of_other_formats_have_the_keys_they_had() -> None:
    """New keys are left out where they are not given: they are a part of a trial's id."""
    held = settings(Path("g.pt"), "torchscript", latent_dim=4).model_dump()
    assert not held.keys() & {"architecture", "config", "scheduler"}


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("conv_in.weight"), r"1 missing, 0 unknown, 0 of another shape, such as conv_in\.weight; allowed"),
        (
            lambda weights: weights.update(more=torch.zeros(1)),
            r"0 missing, 1 unknown, 0 of another shape, such as more;",
        ),
        (
            lambda weights: weights.update({"conv_out.bias": torch.zeros(3)}),
            r"1 of another shape, such as conv_out\.bias;",
        ),
        (
            lambda weights: weights.update({f"ema.{each}": weights.pop(each) for each in [*weights]}),
            r"\d+ missing, \d+ unknown",
        ),
    ],
)
def test_weights_that_do_not_fit_are_counted(
    change: Callable[[dict[str, Any]], None], says: str, unet: Saved, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of weights alone, and of a pipeline's folder; the library's own warnings are not printed beside the one line."""
    weights = load_file(unet.weights)
    change(weights)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=rf"w\.safetensors: not the weights of this UNet2DModel: .*{says}"):
        of_unet(tmp_path / "w.safetensors")
    diffusers.DDPMPipeline(unet.network, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "folder")
    shutil.copy(tmp_path / "w.safetensors", tmp_path / "folder" / "unet" / unet.weights.name)
    capfd.readouterr()
    with pytest.raises(ModelError, match=rf"folder: not the weights of this UNet2DModel: .*{says}"):
        opened(tmp_path / "folder", "diffusers", latent_dim=None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda whole: whole[: len(whole) // 2], r"can't be read \(.*\); allowed: a whole file .* cut short"),
        (lambda whole: b"", r"can't be read"),
        (lambda whole: pickle.dumps({"weights": 1}), r"can't be read"),
        (lambda whole: None, r"can't be read"),
    ],
)
def test_a_file_that_is_no_whole_safetensors_file(
    content: Callable[[bytes], bytes | None], says: str, unet: Saved, tmp_path: Path
) -> None:
    path, written = tmp_path / "w.safetensors", content(unet.weights.read_bytes())
    if written is None:
        path.mkdir()
    else:
        path.write_bytes(written)
    with pytest.raises(ModelError, match=says) as raised:
        of_unet(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": {**UNET, "act_fun": "relu"}}, r"^config\.act_fun: unknown key; allowed: .* did you mean act_fn\?$"),
        ({"config": {**UNET, "block_out_channels": [8]}}, r"^config: no UNet2DModel can be made of it \(Must provide"),
        ({"config": {**UNET, "block_out_channels": [8], "act_fun": "relu"}}, r"^config\.act_fun: unknown key"),
        ({"config": {**UNET, "block_out_channels": [8, 16]}}, r"not the weights of this UNet2DModel: \d+ missing"),
        (
            {"config": {**UNET, "down_block_types": ["X", "Y"]}},
            r"^config: no UNet2DModel can be made of it \(X does not exist",
        ),
        ({"config": {**UNET, "sample_size": None}}, r"sample_size of its config is None; allowed: the images' side"),
        ({"scheduler": {**SAMPLER, "clip_sample": "no"}}, r"^scheduler\.clip_sample: got no; allowed: true, false$"),
        ({"config": {**UNET, "sample_size": "8"}}, r"sample_size of its config is 8; allowed: the images' side"),
        ({"config": {**UNET, "sample_size": 16}}, r"draws images of shape \(1, 16, 16\), not \(1, 8, 8\); allowed"),
        ({"shape": (3, 8, 8)}, r"draws images of shape \(1, 8, 8\), not \(3, 8, 8\)"),
        (
            {"scheduler": {**SAMPLER, "beta_shedule": "linear"}},
            r"^scheduler\.beta_shedule: unknown key.*mean beta_schedule\?$",
        ),
        (
            {"scheduler": {**SAMPLER, "prediction_type": "noise"}},
            r"^scheduler\.prediction_type: got noise; allowed: \"epsilon\"",
        ),
        (
            {"scheduler": {**SAMPLER, "beta_schedule": "cosine"}},
            r"^scheduler: no DDIMScheduler can be made of it \(cosine is not",
        ),
    ],
)
def test_a_config_or_sampler_that_is_none(changes: dict[str, Any], says: str, unet: Saved) -> None:
    with pytest.raises(ModelError, match=says):
        of_unet(unet.weights, **changes)


def test_a_unet_with_classes_is_given_the_labels_that_are_stored(tmp_path: Path) -> None:
    """Of weights alone and of a folder: each image is drawn by its own label, as by a loop over the sampler's steps."""
    conditional = saved("UNet2DModel", {**UNET, "num_class_embeds": 10}, tmp_path / "unet")
    torch.nn.init.normal_(conditional.network.class_embedding.weight, std=5)
    diffusers.DDIMPipeline(conditional.network, sampler_of(SAMPLER)).save_pretrained(tmp_path / "folder")
    given = {"latent_dim": None, "sampling_steps": 2, "batch_size": 5}
    folder = opened(tmp_path / "folder", "diffusers", classes=10, **given)
    drawn = draw(folder, 5, np.random.default_rng(1))
    assert drawn.labels is not None
    assert len(set(drawn.labels)) > 1
    weights = tmp_path / "folder" / "unet" / conditional.weights.name
    alone = draw(of_unet(weights, config=conditional.config, classes=10, batch_size=5), 5, np.random.default_rng(1))
    np.testing.assert_array_equal(alone.images, drawn.images)
    np.testing.assert_array_equal(alone.labels, drawn.labels)
    sampler = sampler_of(SAMPLER)
    sampler.set_timesteps(2)
    seeds = np.random.default_rng(int(np.random.default_rng(1).integers(2**63))).integers(2**63, size=5)
    images = torch.cat([torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])
    with torch.no_grad():
        for step in sampler.timesteps:
            noise = conditional.network(images, step, class_labels=torch.from_numpy(drawn.labels)).sample
            images = sampler.step(noise, step, images).prev_sample
    wanted = (images / 2 + 0.5).clamp(0, 1).numpy() * 255
    assert np.abs(wanted - drawn.images).max() <= 0.51


@pytest.mark.parametrize(
    ("config", "classes", "says"),
    [
        ({"num_class_embeds": 10}, None, r"got classes None, but .* has 10; allowed: classes: from 1 to 10"),
        ({"num_class_embeds": 10}, 11, r"got classes 11, but .* has 10; allowed: classes: from 1 to 10"),
        ({}, 10, r"got classes 10, but .* has 0; allowed: none"),
        ({"class_embed_type": "timestep"}, 10, r"class_embed_type of its config is timestep; allowed: null"),
    ],
)
def test_classes_that_a_unet_does_not_have(
    config: dict[str, Any], classes: int | None, says: str, tmp_path: Path
) -> None:
    weights = saved("UNet2DModel", {**UNET, **config}, tmp_path).weights
    with pytest.raises(ModelError, match=says):
        of_unet(weights, config={**UNET, **config}, classes=classes)


def test_more_steps_than_the_network_was_trained_with(unet: Saved) -> None:
    with pytest.raises(ModelError, match=r"fails on 16 seeds: .*101.* allowed: sampling_steps"):
        of_unet(unet.weights, sampling_steps=101, batch_size=16).prepare(np.empty((0, *SHAPE)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latent_dim": (3, 4, 4)}, r"fails on 64 latent vectors of \[3, 4, 4\]: .* 4 channels.*; allowed: latent_dim"),
        ({"latent_dim": (4, 8, 8)}, r"gave float32 \(64, 1, 16, 16\) for 64 images; allowed: \(64, 1, 8, 8\)"),
        ({"latent_dim": 64}, r"fails on 64 latent vectors of 64: .*; allowed: latent_dim"),
        ({"range": (0.0, 255.0)}, r"gave values from -?[\d.]+ to [\d.]+ in 16 images"),
    ],
)
def test_what_a_decoder_was_said_to_take_and_give(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = saved("AutoencoderKL", DECODED["AutoencoderKL"], tmp_path).weights
    more = {"architecture": "diffusers/AutoencoderKL", "config": DECODED["AutoencoderKL"], "latent_dim": (4, 4, 4)}
    with pytest.raises(ModelError, match=says):
        opened(path, "safetensors", **{**more, **changes}).prepare(np.empty((0, *SHAPE)))


def test_weights_that_are_not_numbers_are_refused(unet: Saved, tmp_path: Path) -> None:
    weights = load_file(unet.weights)
    weights["conv_out.bias"].fill_(float("nan"))
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"gave values that are not finite"):
        of_unet(tmp_path / "w.safetensors").prepare(np.empty((0, *SHAPE)))


def test_classes_and_code_that_a_folder_names(unet: Saved, tmp_path: Path) -> None:
    """Code beside the files is not run, whatever they say; a sampler that the pipeline can't run is refused."""
    diffusers.DDPMPipeline(unet.network, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "folder")
    index = tmp_path / "folder" / "model_index.json"
    index.write_text(
        json.dumps(json.loads(index.read_text()) | {name: ["own", "Own"] for name in ("unet", "scheduler")})
    )
    for name in ("unet", "scheduler"):
        (tmp_path / "folder" / name / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    opened(tmp_path / "folder", "diffusers", latent_dim=None)
    assert not (tmp_path / "ran").exists()
    config = tmp_path / "folder" / "scheduler" / "scheduler_config.json"
    for content, says in (
        (
            '{"_class_name": "EulerDiscreteScheduler"}',
            r"got EulerDiscreteScheduler; allowed: DDIMScheduler or DDPMScheduler",
        ),
        ('{"_class_name": ["own", "Own"]}', r"got \['own', 'Own'\]; allowed: DDIMScheduler or DDPMScheduler"),
        ('{"_class_name": "DDIMScheduler", "trained_betas": "many"}', r"scheduler can't be read \("),
        ("{", r"scheduler is no diffusers folder: scheduler_config\.json"),
        ("[]", r"scheduler is no diffusers folder: scheduler_config\.json"),
        ("[" * 100_000, r"scheduler is no diffusers folder: scheduler_config\.json"),
    ):
        config.write_text(content)
        with pytest.raises(ModelError, match=says):
            opened(tmp_path / "folder", "diffusers", latent_dim=None)
