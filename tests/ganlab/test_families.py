"""What every family promises: any resolution, images or points, and a run that was broken off ends with the same bits."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from ganlab import optimizers
from ganlab.models.families import FAMILIES, Family
from ganlab.models.families.trained import TrainedFamily
from ganlab.models.train import Interrupted, draw
from tests.emulated_device import NAME, emulated_device
from tests.small_families import IMAGES, LABELS, POINTS, SMALL, TRAINED, Run, make

OF_POINTS = sorted(set(TRAINED) - {"known-support", "stacked"})


def assert_resumes(name: str, items: np.ndarray, stop_at: int) -> None:
    unbroken, broken = Run(name, items).live(), Run(name, items)
    with pytest.raises(Interrupted):
        broken.live(stop_at)
    broken.live()
    assert unbroken.rows == broken.rows
    assert all(np.isfinite(list(row.values())).all() for row in unbroken.rows.values())
    for shard, (images, labels) in unbroken.shards.items():
        np.testing.assert_array_equal(images, broken.shards[shard][0])
        np.testing.assert_array_equal(labels, broken.shards[shard][1])
        assert (labels is not None) == FAMILIES[name].labelled


@pytest.mark.parametrize("name", [name for name in TRAINED if issubclass(FAMILIES[name], TrainedFamily)])
def test_counting_weights_makes_no_optimizer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep's results need none."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("an optimizer was made")

    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)
    networks = make(name, device="meta").networks
    assert sum(weights.numel() for weights in networks.parameters()) > 0


@pytest.mark.parametrize("stop_at", [3, 11])
@pytest.mark.parametrize("name", TRAINED)
def test_a_resumed_run_equals_an_unbroken_one(name: str, stop_at: int) -> None:
    assert_resumes(name, IMAGES, stop_at)


@pytest.mark.parametrize("name", OF_POINTS)
def test_a_resumed_run_on_points_equals_an_unbroken_one(name: str) -> None:
    assert_resumes(name, POINTS, 11)


@pytest.mark.parametrize("name", sorted(set(TRAINED) - {"mix"}))  # its products squeeze in place: not emulated
def test_a_step_mixes_no_devices_and_copies_nothing_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy to the processor would have a GPU wait for it at every step."""
    adam = optimizers.Adam
    monkeypatch.setattr(TrainedFamily, "autocast", lambda family: nullcontext())
    for module in ("trained", "stacked"):
        monkeypatch.setattr(
            f"ganlab.models.families.{module}.Adam",
            lambda parameters, fused, **more: adam(parameters, foreach=False, **more),
        )
    with emulated_device() as device:
        family, draws = make(name, device=NAME), np.random.default_rng(0)
        dataset = family.prepare(IMAGES, LABELS)
        device.left = 0
        steps = 10 if name == "stacked" else 3  # its parts begin at steps 6 and 8
        losses = [family.step(lambda: dataset[torch.arange(8)], draws) for _ in range(steps)]
        assert device.left == 0
        assert {value.device.type for row in losses for value in row.values()} <= {"lazy"}
        family.diagnostics(IMAGES, draws)
        assert draw(family, 5, draws).images.shape == (5, 1, 8, 8)


ITEM = (3, -1, -1)  # of the resolution
DCGAN = {"generator": ([(4,)], ITEM), "discriminator": ([ITEM], ())}
PAIRS = {"generator": ([(4,)], ITEM), "discriminator": ([ITEM, (4,)], ())}
# Networks, or their parts, with the shapes of their inputs and of what they give for each.
FORWARD: dict[str, dict[str, Any]] = {
    "ali": {**PAIRS, "encoder": ([ITEM], (8,))},
    "bigan": {**PAIRS, "encoder": ([ITEM], (4,))},
    "dcgan": DCGAN,
    "diffusion": {"generator": ([ITEM, ()], ITEM)},
    "flow": {"generator": ([ITEM, ()], ITEM)},
    "infogan": {"generator": ([(9,)], ITEM), "discriminator": ([ITEM], (6,))},
    "mix": {"generator.components.1": ([(4,)], ITEM), "discriminator.components.1": ([ITEM], ())},
    "pacgan": {"generator": ([(4,)], ITEM), "discriminator": ([(9, -1, -1)], ())},
    "r3gan": DCGAN,
    "stacked": {
        "classifier.features": ([ITEM], (16,)),
        "classifier.head": ([(16,)], (3,)),
        "upper_generator": ([(3,), (3,)], (16,)),
        "generator": ([(16,), (4,)], ITEM),
        "upper_discriminator": ([(16,)], (6,)),
        "discriminator": ([ITEM], (7,)),
    },
    "vae": {"generator": ([(4,)], ITEM), "encoder": ([ITEM], (8,))},
    "wgan": DCGAN,
    "wgan-gp": DCGAN,
}


NETWORKS = sorted(set(TRAINED) - {"known-support", "gmm"})
REFINED = [name for name in NETWORKS if "refine" in FAMILIES[name].Settings.model_fields]


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128])
@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in NETWORKS), *((name, {"refine": True}) for name in REFINED)]
)
def test_networks_take_and_give_their_shapes_at_every_resolution(
    name: str, resolution: int, changes: dict[str, Any]
) -> None:
    def sized(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(resolution if size == -1 else size for size in shape)

    with torch.device("meta"):  # no weights are drawn
        networks = make(name, sized(ITEM), "meta", **changes).networks
    assert networks.keys() == {path.split(".")[0] for path in FORWARD[name]}
    for path, (inputs, output) in FORWARD[name].items():
        given = networks.get_submodule(path)(*(torch.empty(5, *sized(shape), device="meta") for shape in inputs))
        assert given.shape == (5, *sized(output)), path


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_have_the_shape_of_the_data(name: str) -> None:
    drawn = draw(make(name, (3, 16, 16)), 5, np.random.default_rng(0))
    assert drawn.images.shape == (5, 3, 16, 16)
    assert drawn.images.dtype == np.uint8
    if name in OF_POINTS:
        points = draw(make(name, (2,)), 5, np.random.default_rng(0)).images
        assert points.shape == (5, 2)
        assert points.dtype == np.float32


@pytest.mark.parametrize("name", ["diffusion", "flow", "r3gan"])
def test_an_image_is_a_function_of_its_own_noise(name: str) -> None:
    """Each image alone, by a network whose every weight counts, is the one it was among others."""
    changes = {"sampler": "ddim"} if name == "diffusion" else {}
    family = make(name, (3, 16, 16), **changes)
    for number, parameter in enumerate(family.averages["generator"].network.parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
    together = family.sample(4, np.random.default_rng(0)).images
    size = 4 if name == "r3gan" else 3 * 16 * 16
    noise = np.random.default_rng(0)
    for image in together:
        alone = noise.standard_normal((1, size), dtype=np.float32)
        given = type("Given", (), {"standard_normal": lambda *_, alone=alone, **__: alone})()
        np.testing.assert_allclose(family.sample(1, given).images[0].astype(int), image, atol=1)  # rounding
    assert len(np.unique(together, axis=0)) == 4


def test_families_refuse_data_that_they_cannot_learn_from() -> None:
    settings = FAMILIES["stacked"].Settings.model_validate(SMALL["stacked"])
    with pytest.raises(ValueError, match=r"got stacked, which learns from labels.* allowed: a dataset with classes"):
        FAMILIES["stacked"].check(settings, (1, 8, 8), None)
    with pytest.raises(ValueError, match=r"got classes = 3, but the dataset has 10; allowed: 10 or more"):
        FAMILIES["stacked"].check(settings, (1, 8, 8), 10)
    for name in set(TRAINED) - set(OF_POINTS):
        with pytest.raises(ValueError, match="points; allowed: images"):
            FAMILIES[name].check(FAMILIES[name].Settings.model_validate(SMALL[name]), (2,), 3)


def test_mixture_samples_are_drawn_by_the_learned_weights() -> None:
    family = make("mix", components=3)
    average = family.averages["generator"].network
    with torch.no_grad():
        average.logits.copy_(torch.tensor([0.0, 50.0, 0.0]))  # all of the weight
    images = family.sample(20, np.random.default_rng(1)).images
    latent = np.random.default_rng(1).standard_normal((20, 4), dtype=np.float32)
    np.testing.assert_array_equal(images, family.to_array(average.components[1](torch.from_numpy(latent))))
    assert family.diagnostics(IMAGES, np.random.default_rng(0))["mixture_weight_1"] == pytest.approx(1)


def test_labels_of_a_stacked_gan_are_the_classes_it_was_told() -> None:
    """Features of a class are a function of the class: told another one, the same noise makes another image."""
    family = make("stacked")
    drawn = family.sample(200, np.random.default_rng(0))
    assert set(drawn.labels) == {0, 1, 2}
    networks = {name: average.network for name, average in family.averages.items()}
    noise = np.random.default_rng(0)
    noise.integers(0, 3, 200)
    upper, lower = (torch.from_numpy(noise.random((200, size), dtype=np.float32)) for size in (3, 4))
    for told in range(3):
        features = networks["upper_generator"](torch.eye(3)[torch.full((200,), told)], upper)
        made = family.to_array(networks["generator"](features, lower))
        np.testing.assert_array_equal(made[drawn.labels == told], drawn.images[drawn.labels == told])


def test_a_gaussian_mixture_is_found_again() -> None:
    draws = np.random.default_rng(0)
    centres = np.array([[-3.0, 0.0], [3.0, 1.0]])
    points = (centres[draws.integers(0, 2, 4000)] + 0.1 * draws.standard_normal((4000, 2))).astype(np.float32)
    family = make("gmm", (2,), components=2)
    family.prepare(points)
    made = family.sample(4000, np.random.default_rng(1)).images
    np.testing.assert_allclose(np.sort(family.fit["means"], axis=0) + family.fit["centre"], centres, atol=0.02)
    for centre in centres:
        near = made[np.linalg.norm(made - centre, axis=1) < 1]
        assert len(near) == pytest.approx(2000, abs=200)
        np.testing.assert_allclose(near.std(axis=0), 0.1, rtol=0.1)


@pytest.mark.parametrize(("old", "new"), Family.RENAMED.items())
def test_a_method_by_its_old_name_is_refused(old: str, new: str) -> None:
    """A family written for version 0.1 would otherwise lose what its method did, without a word."""
    with pytest.raises(TypeError, match=f"Mine.{old}: this method is called {new} since version 0.2"):
        type("Mine", (FAMILIES["dcgan"],), {old: lambda self: None})
