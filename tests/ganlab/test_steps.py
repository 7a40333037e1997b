"""What a step of each family descends, loss and gradient, against its paper's formula of the same networks' outputs."""

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ganlab import optimizers
from ganlab.models.families import FAMILIES, dcgan, diffusion, flow, r3gan
from ganlab.models.train import TrainSettings

SEED, COUNT, LATENT = 5, 6, 3
REAL = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(0))
SMALL = {"latent_dim": LATENT, "generator_width": 4, "discriminator_width": 4}


class Descent(NamedTuple):
    """A loss that was descended: by which networks, all networks as they were before, and the gradients in flat form."""

    loss: Tensor
    names: tuple[str, ...]
    networks: nn.ModuleDict
    gradients: list[Tensor]


def make(name: str, shape: tuple[int, ...] = (2,), train: TrainSettings | None = None, **settings: Any) -> Any:
    return FAMILIES[name](FAMILIES[name].Settings.model_validate(settings), shape, train or TrainSettings(), 0)


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def descents(family: Any, batch: Any = REAL) -> tuple[list[Descent], Mapping[str, Tensor]]:
    """What one step descends, in turn, and what it reports."""
    optimizer_step, seen = family.optimizer_step, []

    def watched(loss: Tensor, *names: str) -> None:
        before = copy.deepcopy(family.networks)
        optimizer_step(loss, *names)
        gradients = [flat(p.grad for p in family.networks[name].parameters()) for name in names]
        seen.append(Descent(loss.detach(), names, before, gradients))

    family.optimizer_step = watched
    return seen, family.step(lambda: batch, np.random.default_rng(SEED))


def assert_descends(descent: Descent, expected: Tensor, *names: str) -> None:
    assert descent.names == names
    assert float(descent.loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, gradient in zip(names, descent.gradients, strict=True):
        wanted = flat(torch.autograd.grad(expected, list(descent.networks[name].parameters()), retain_graph=True))
        assert float((gradient - wanted).norm()) < 1e-4 * float(wanted.norm()), name


def assert_reports(losses: Mapping[str, Tensor], **expected: Any) -> None:
    assert {name: float(losses[name]) for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-4
    )


def normal(draws: np.random.Generator) -> Tensor:
    return torch.from_numpy(draws.standard_normal((COUNT, LATENT), dtype=np.float32))


def uniform(draws: np.random.Generator, count: int, size: int) -> Tensor:
    return torch.from_numpy(draws.random((count, size), dtype=np.float32))


def log_likelihood(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """Goodfellow et al. 2014, equation 1: E log D(x) + E log(1 − D(G(z))), from logits."""
    return on_real.sigmoid().log().mean() + (1 - on_fake.sigmoid()).log().mean()


@pytest.mark.parametrize("loss", ["non-saturating", "log", "wasserstein-clip", "wasserstein-gp"])
def test_dcgan(loss: str) -> None:
    family = make("dcgan", **SMALL, loss=loss, discriminator_steps=2, weight_clip=0.2)
    (*on_discriminator, on_generator), losses = descents(family)
    assert len(on_discriminator) == 2
    draws = np.random.default_rng(SEED)
    for descent in on_discriminator:
        latent, judge = normal(draws), descent.networks["discriminator"]
        fake = descent.networks["generator"](latent).detach()
        if loss.startswith("wasserstein"):
            expected = judge(fake).mean() - judge(REAL).mean()
        else:
            expected = -log_likelihood(judge(REAL), judge(fake))
        if loss == "wasserstein-gp":  # Gulrajani et al. 2017, algorithm 1
            share = uniform(draws, COUNT, 1)
            between = (share * REAL + (1 - share) * fake).requires_grad_()
            slopes = torch.autograd.grad(judge(between).sum(), between, create_graph=True)[0].norm(dim=1)
            expected = expected + 10 * ((slopes - 1) ** 2).mean()
        assert_descends(descent, expected, "discriminator")
    said = on_generator.networks["discriminator"](on_generator.networks["generator"](latent))
    by_loss = {"non-saturating": -said.sigmoid().log().mean(), "log": (1 - said.sigmoid()).log().mean()}
    assert_descends(on_generator, by_loss.get(loss, -said.mean()), "generator")
    assert_reports(losses, generator_loss=on_generator.loss, discriminator_loss=on_discriminator[-1].loss)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_r3gan(shape: tuple[int, ...]) -> None:
    """Huang et al. 2024, equation 2: E f(D(G(z)) − D(x)), in pairs, with R1 and R2 of section 2, γ/2 times E‖∇D‖²."""
    family = make("r3gan", shape, **SMALL, gradient_penalty=3.0)
    for network in family.networks.values():  # zero-initialised layers would hide what is behind them
        for number, parameter in enumerate(network.parameters()):
            nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(number))
    real = torch.randn(COUNT, *shape, generator=torch.Generator().manual_seed(0))
    (on_discriminator, on_generator), losses = descents(family, real.clone())
    draws = np.random.default_rng(SEED)
    judge = on_discriminator.networks["discriminator"]
    fake = on_discriminator.networks["generator"](normal(draws)).detach()
    apart = judge(real) - judge(fake)
    slopes = [
        torch.autograd.grad(judge(each).sum(), each, create_graph=True)[0].square().sum()
        for each in (real.clone().requires_grad_(), fake.clone().requires_grad_())
    ]
    game = -apart.sigmoid().log().mean()
    penalty = sum(slopes) / (2 * COUNT)
    assert_descends(on_discriminator, game + 3 * penalty, "discriminator")
    judge = on_generator.networks["discriminator"]
    apart = judge(on_generator.networks["generator"](normal(draws))) - judge(real)
    assert_descends(on_generator, -apart.sigmoid().log().mean(), "generator")
    assert_reports(
        losses, generator_loss=on_generator.loss, discriminator_loss=game.detach(), gradient_penalty=penalty.detach()
    )


def of_weight(family: Any) -> Any:
    """The family, with no weight left at the zero that it begins with."""
    for network in (family.generator, family.averages["generator"].network):
        for number, parameter in enumerate(network.parameters()):
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
    return family


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("name", ["diffusion", "flow"])
def test_diffusion_and_flow(name: str, shape: tuple[int, ...]) -> None:
    """What is descended: Ho et al. 2020, algorithm 1, and Lipman et al. 2022, equation 23 with σ_min = 0.

    ‖ε − ε_θ(√ᾱ x + √(1 − ᾱ) ε, t)‖², and ‖v_θ((1 − t) ε + t x, t) − (x − ε)‖².
    """
    family = of_weight(make(name, shape, generator_width=4))
    real = torch.randn(COUNT, *shape, generator=torch.Generator().manual_seed(0))
    (descent,), losses = descents(family, real)
    draws, network = np.random.default_rng(SEED), descent.networks["generator"]
    if name == "diffusion":
        level = draws.integers(1, 1001, COUNT)
        noise = torch.from_numpy(draws.standard_normal((COUNT, math.prod(shape)), dtype=np.float32)).view(real.shape)
        beta = np.array([1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)])
        kept = [float(np.prod(1 - beta[:t])) for t in level]
        given = torch.stack([a**0.5 * x + (1 - a) ** 0.5 * e for a, x, e in zip(kept, real, noise, strict=True)])
        time, wanted = torch.from_numpy(level / 1000).float(), noise
    else:
        time = uniform(draws, COUNT, 1)[:, 0]
        noise = torch.from_numpy(draws.standard_normal((COUNT, math.prod(shape)), dtype=np.float32)).view(real.shape)
        given = torch.stack([(1 - t) * e + t * x for t, x, e in zip(time, real, noise, strict=True)])
        wanted = real - noise
    expected = ((network(given, time) - wanted) ** 2).mean()
    assert_descends(descent, expected, "generator")
    assert_reports(losses, generator_loss=expected.detach())


def test_ancestral_sampling_is_that_of_the_paper() -> None:
    """Ho et al. 2020, algorithm 2, with the posterior's variance β̃ (equation 7), at all 1000 levels."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = torch.cumprod(1 - beta, 0)
    draws = torch.Generator().manual_seed(1)
    for level in (1000, 500, 2, 1):
        share, before = float(kept[level - 1]), float(kept[level - 2]) if level > 1 else 1.0
        items, noise, fresh = torch.randn(3, 4, 2, dtype=torch.float64, generator=draws)
        mean = (items - beta[level - 1] / (1 - share) ** 0.5 * noise) / (1 - beta[level - 1]).sqrt()
        deviation = (beta[level - 1] * (1 - before) / (1 - share)).sqrt()
        found = diffusion.reverse_step(items, noise, share, before, fresh if level > 1 else None, clip=False)
        torch.testing.assert_close(found, mean + deviation * fresh if level > 1 else mean)


def test_clipping_holds_the_estimate_of_the_image_and_changes_nothing_within() -> None:
    """Ho et al. 2020, equation 7: the posterior's mean of an estimate x₀ within [−1, 1]."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = torch.cumprod(1 - beta, 0)
    share, before, b = float(kept[299]), float(kept[298]), float(beta[299])
    items, noise, fresh = torch.randn(3, 40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    clean = (items - (1 - share) ** 0.5 * noise) / share**0.5
    assert (clean.abs() > 1).any()
    assert (clean.abs() < 1).any()
    mean = before**0.5 * b / (1 - share) * clean.clamp(-1, 1) + (1 - b) ** 0.5 * (1 - before) / (1 - share) * items
    found = diffusion.reverse_step(items, noise, share, before, fresh, clip=True)
    torch.testing.assert_close(found, mean + (b * (1 - before) / (1 - share)) ** 0.5 * fresh)


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 1), ("ddim", 4), ("ancestral", 4)])
def test_diffusion_samples_by_the_steps_that_were_asked_for(sampler: str, steps: int) -> None:
    """Of one point x the right noise is (x_t − √ᾱ x) / √(1 − ᾱ): every sampler ends at x, whatever it began with."""
    family = make("diffusion", generator_width=4, sampler=sampler, sampling_steps=steps)
    point, kept, asked = torch.tensor([0.7, -2.0]), torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0), []

    def denoise(network: nn.Module, items: Tensor, time: Tensor) -> Tensor:
        asked.append(round(float(time[0]) * 1000))
        share = kept[asked[-1] - 1]
        return (items - share.sqrt() * point) / (1 - share).sqrt()

    family.denoise = denoise
    images = family.sample(50, np.random.default_rng(0)).images
    assert asked == {1: [1000], 4: [1000, 667, 334, 1]}[steps]
    np.testing.assert_allclose(images, np.broadcast_to(point.numpy(), (50, 2)), atol=2e-2)


def test_deterministic_samples_of_a_normal_law_are_a_linear_map_of_their_noise() -> None:
    """Of N(0, s²) the right noise is √(1 − ᾱ) x / (ᾱ s² + 1 − ᾱ): many steps of `ddim` scale their noise by s."""
    family = make("diffusion", generator_width=4, sampling_steps=1000)
    kept, scale = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0), 0.3

    def denoise(network: nn.Module, items: Tensor, time: Tensor) -> Tensor:
        share = kept[round(float(time[0]) * 1000) - 1]
        return (1 - share).sqrt() * items / (share * scale**2 + 1 - share)

    family.denoise = denoise
    noise = np.random.default_rng(0).standard_normal((20, 2), dtype=np.float32)
    np.testing.assert_allclose(family.sample(20, np.random.default_rng(0)).images, scale * noise, rtol=0.02)


@pytest.mark.parametrize(("heun", "order"), [(False, 1), (True, 2)])
def test_a_flows_solver_has_its_order(heun: bool, order: int) -> None:
    """dx/dt = t x has the solution x₀ exp(t² / 2): halving the steps' size divides the error by 2 or by 4."""
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    ends = [flow.solve(lambda items, time: time * items, start, steps, heun) for steps in (100, 200)]
    errors = [float((end - start * math.exp(0.5)).norm()) for end in ends]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)


def test_a_flow_asks_its_averaged_network_from_noise_to_items() -> None:
    family = make("flow", generator_width=4, sampling_steps=2, sampler="heun")
    asked = []

    def denoise(network: nn.Module, items: Tensor, time: Tensor) -> Tensor:
        asked.append(float(time[0]))
        assert network is family.averages["generator"].network
        return torch.ones_like(items)

    family.denoise = denoise
    noise = np.random.default_rng(0).standard_normal((3, 2), dtype=np.float32)
    np.testing.assert_allclose(family.sample(3, np.random.default_rng(0)).images, noise + 1, rtol=1e-6)
    assert asked == [0, 0.5, 0.5, 1]


@pytest.mark.parametrize("name", ["wgan-gp", "r3gan"])
def test_second_order_gradients_are_finite_differences(name: str) -> None:
    """The gradient of a penalty on the discriminator's gradient, by central differences along random directions.

    In 64 bits and with smooth units in place of leaky ReLUs, whose second derivative is not defined everywhere.
    """
    judge = make(name, (1, 8, 8), **SMALL).discriminator.double()
    places = [
        (parent, key)
        for parent in judge.modules()
        for key, child in parent.named_children()
        if isinstance(child, nn.LeakyReLU | r3gan.Activation)
    ]
    assert places
    for parent, key in places:
        setattr(parent, key, nn.Softplus())
    draws = torch.Generator().manual_seed(3)
    parameters = list(judge.parameters())
    for parameter in parameters:
        nn.init.normal_(parameter, std=0.5, generator=draws)
    real, fake = torch.randn(2, COUNT, 1, 8, 8, dtype=torch.float64, generator=draws)
    share = torch.rand(COUNT, 1, 1, 1, dtype=torch.float64, generator=draws)

    def penalty() -> Tensor:
        if name == "wgan-gp":
            return dcgan.gradient_penalty(judge, real, fake, share)
        items = real.clone().requires_grad_()
        return r3gan.zero_centred_penalty(judge(items), items)

    # The penalties round to 32 bits; a difference must be taken without that.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", lambda tensor: tensor)
        gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
        for _ in range(3):
            direction = [torch.randn(p.shape, dtype=p.dtype, generator=draws) for p in parameters]
            slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None)
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    for parameter, along in zip(parameters, direction, strict=True):
                        parameter.add_(along, alpha=step)
                ends.append(float(penalty().detach()))
                with torch.no_grad():
                    for parameter, along in zip(parameters, direction, strict=True):
                        parameter.sub_(along, alpha=step)
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("name", ["ali", "bigan"])
def test_ali_and_bigan(name: str) -> None:
    """Dumoulin et al. 2017, equation 3: D tells (x, E(x)) from (G(z), z); algorithm 1: G and E descend it swapped."""
    (on_discriminator, on_pair), losses = descents(make(name, **SMALL, code_width=8, dropout=0))
    draws = np.random.default_rng(SEED)
    latent = normal(draws)
    draws.integers(2**63)  # for dropout
    noise = normal(draws)

    def judged(networks: nn.ModuleDict) -> tuple[Tensor, Tensor]:
        answer, judge = networks["encoder"](REAL), networks["discriminator"]
        code = answer if name == "bigan" else answer[:, :LATENT] + answer[:, LATENT:].exp() * noise
        return judge(REAL, code), judge(networks["generator"](latent), latent)

    on_real, on_fake = judged(on_discriminator.networks)
    assert_descends(on_discriminator, -log_likelihood(on_real, on_fake), "discriminator")
    on_real, on_fake = judged(on_pair.networks)
    assert_descends(on_pair, -log_likelihood(on_fake, on_real), "generator", "encoder")
    assert_reports(losses, generator_loss=on_pair.loss, discriminator_loss=on_discriminator.loss)


def test_infogan() -> None:
    """Chen et al. 2016, equation 6: the bound E log Q(c|x) + H(c), weighted, is taken from both losses."""
    family = make("infogan", **SMALL, categories=3, continuous=2, information_weight=0.7)
    latent, category, continuous = family.latent(COUNT, np.random.default_rng(SEED))
    torch.testing.assert_close(latent[:, LATENT:], torch.cat([torch.eye(3)[category], continuous], dim=1))
    (on_discriminator, on_generator), losses = descents(family)

    def bound(answer: Tensor) -> Tensor:
        of_category = answer[:, :3].softmax(1)[torch.arange(COUNT), category].log()
        of_continuous = Normal(answer[:, 3:], 1).log_prob(continuous).sum(1)
        return (of_category + of_continuous).mean() + math.log(3) + 2 * math.log(2)

    judge = on_discriminator.networks["discriminator"]
    on_fake = judge(on_discriminator.networks["generator"](latent))
    adversarial = -log_likelihood(judge(REAL)[:, 0], on_fake[:, 0])
    assert_descends(on_discriminator, adversarial - 0.7 * bound(on_fake[:, 1:]), "discriminator")
    on_fake = on_generator.networks["discriminator"](on_generator.networks["generator"](latent))
    fooled, known = -on_fake[:, 0].sigmoid().log().mean(), bound(on_fake[:, 1:])
    assert_descends(on_generator, fooled - 0.7 * known, "generator")
    assert_reports(
        losses,
        generator_loss=fooled.detach(),
        discriminator_loss=adversarial.detach(),
        mutual_information=known.detach(),
    )


def test_vae() -> None:
    """Kingma & Welling 2014, equation 3, minus the bound: E −log p(x|z) + KL(q(z|x) ‖ p(z)); less the constant of p."""
    family = make("vae", latent_dim=LATENT, generator_width=4, pixel_scale=0.5)
    (descent,), losses = descents(family)
    mean, log_variance = descent.networks["encoder"](REAL).chunk(2, dim=1)
    codes = Normal(mean, log_variance.exp().sqrt())
    decoded = descent.networks["generator"](codes.mean + codes.stddev * normal(np.random.default_rng(SEED)))
    constant = 2 * float(Normal(0.0, 0.5).log_prob(torch.tensor(0.0)))
    reconstruction = constant - Normal(decoded, 0.5).log_prob(REAL).sum(1).mean()
    nats = kl_divergence(codes, Normal(0.0, 1.0)).sum(1).mean()
    assert_descends(descent, reconstruction + nats, "generator", "encoder")
    assert_reports(
        losses, generator_loss=descent.loss, reconstruction_loss=reconstruction.detach(), divergence=nats.detach()
    )


@pytest.mark.parametrize("loss", ["non-saturating", "log"])
def test_mix(loss: str) -> None:
    """Arora et al. 2017, section 5: Σᵢⱼ wᵢᴳ wⱼᴰ ℓ(Gᵢ, Dⱼ) and on each side the penalty −(1/T) Σ log wᵢ, times 0.1."""
    family = make("mix", **SMALL, components=2, loss=loss)
    with torch.no_grad():
        family.generators.logits.copy_(torch.tensor([0.4, -0.2]))
        family.discriminators.logits.copy_(torch.tensor([-0.5, 0.3]))
    (on_discriminators, on_generators), losses = descents(family)
    draws = np.random.default_rng(SEED)
    latents = [normal(draws) for _ in range(2)]

    def game(networks: nn.ModuleDict, loss_of: Any) -> Tensor:
        generators, judges = networks["generator"], networks["discriminator"]
        return sum(
            generators.logits.softmax(0)[i] * judges.logits.softmax(0)[j] * loss_of(judge, generate(latents[i]))
            for i, generate in enumerate(generators.components)
            for j, judge in enumerate(judges.components)
        )

    def penalty(network: nn.Module) -> Tensor:
        return -0.1 * network.logits.softmax(0).log().sum() / 2

    played = game(on_discriminators.networks, lambda judge, fake: -log_likelihood(judge(REAL), judge(fake)))
    assert_descends(on_discriminators, played + penalty(on_discriminators.networks["discriminator"]), "discriminator")
    by_loss = {
        "non-saturating": lambda judge, fake: -judge(fake).sigmoid().log().mean(),
        "log": lambda judge, fake: (1 - judge(fake).sigmoid()).log().mean(),
    }
    answered = game(on_generators.networks, by_loss[loss])
    assert_descends(on_generators, answered + penalty(on_generators.networks["generator"]), "generator")
    assert_reports(losses, generator_loss=answered.detach(), discriminator_loss=played.detach())


@pytest.mark.parametrize("joint", [False, True])
def test_stacked(joint: bool) -> None:
    """Huang et al. 2017, equations 4 to 8: adversarial, conditional and entropy losses, weighing 1, 1 and 10.

    By itself the lower generator is given the features of real images, joined those that the upper one made, which 0.01
    of its gradient reaches. D(x) = Z / (Z + 1) with Z = Σ exp(class logits) (Salimans et al. 2016, section 5).
    """
    family = make(
        "stacked",
        (1, 8, 8),
        latent_dim=2,
        upper_latent_dim=3,
        upper_width=8,
        generator_width=4,
        discriminator_width=4,
        classes=3,
        features=5,
        classifier_steps=1,
        joint_after=0 if joint else None,
    )
    family.classifier.trained_steps += 1
    items = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, 1, 2])
    (on_discriminators, on_generators), losses = descents(family, (items, labels))
    draws = np.random.default_rng(SEED)
    upper_noise, lower_noise = uniform(draws, 4, 3), uniform(draws, 4, 2)

    def made_by(networks: nn.ModuleDict) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = networks["classifier"].features(items).detach()
        made = networks["upper_generator"](torch.eye(3)[labels], upper_noise)
        given = made.clone() if joint else features
        if joint:
            given.register_hook(lambda gradient: 0.01 * gradient)
        return features, made, given, networks["generator"](given, lower_noise)

    def log_odds(answer: Tensor) -> tuple[Tensor, Tensor]:
        total = answer[:, :3].exp().sum(1)
        return (total / (total + 1)).log().mean(), (1 / (total + 1)).log().mean()

    def surprise(logits: Tensor) -> Tensor:
        return -logits[:, :3].softmax(1)[torch.arange(4), labels].log().mean()

    def unlike(answer: Tensor, wanted: Tensor) -> Tensor:
        return ((answer - wanted) ** 2).mean()

    networks = on_discriminators.networks
    features, made, given, fake = made_by(networks)
    adversarial, rest = {}, torch.tensor(0.0)
    for name, real, false, noise in (
        ("upper_discriminator", features, made, upper_noise),
        ("discriminator", items, fake, lower_noise),
    ):
        on_real, on_false = networks[name](real), networks[name](false.detach())
        adversarial[name] = -0.5 * (log_odds(on_real)[0] + log_odds(on_false)[1])
        rest = rest + surprise(on_real) + 10 * unlike(on_false[:, 3:], noise)
    expected = sum(adversarial.values()) + rest
    assert_descends(on_discriminators, expected, "upper_discriminator", "discriminator")

    networks = on_generators.networks
    features, made, given, fake = made_by(networks)
    on_made, on_fake = networks["upper_discriminator"](made), networks["discriminator"](fake)
    upper, lower = -log_odds(on_made)[0], -log_odds(on_fake)[0]
    classifier = networks["classifier"]
    conditional = surprise(classifier.head(made)) + unlike(classifier.features(fake), given)
    entropy = unlike(on_made[:, 3:], upper_noise) + unlike(on_fake[:, 3:], lower_noise)
    assert_descends(on_generators, upper + lower + conditional + 10 * entropy, "upper_generator", "generator")
    with torch.no_grad():
        assert_reports(
            losses,
            generator_loss=lower,
            upper_generator_loss=upper,
            conditional_loss=conditional,
            entropy_loss=entropy,
            discriminator_loss=adversarial["discriminator"],
            upper_discriminator_loss=adversarial["upper_discriminator"],
        )


ADAM, RMSPROP = optimizers.Adam, optimizers.RMSprop


@pytest.mark.parametrize(
    ("name", "changes", "kind", "rate", "betas", "discriminator_steps"),
    [
        ("dcgan", {}, ADAM, 2e-4, (0.5, 0.999), 1),
        ("dcgan", {"loss": "log"}, ADAM, 2e-4, (0.5, 0.999), 1),
        ("dcgan", {"loss": "wasserstein-clip"}, RMSPROP, 5e-5, None, 5),
        ("dcgan", {"loss": "wasserstein-gp"}, ADAM, 1e-4, (0.0, 0.9), 5),
        ("wgan", {}, RMSPROP, 5e-5, None, 5),
        ("wgan-gp", {}, ADAM, 1e-4, (0.0, 0.9), 5),
        ("pacgan", {}, ADAM, 2e-4, (0.5, 0.999), 1),
        ("r3gan", {}, ADAM, 2e-4, (0.0, 0.99), None),
        ("diffusion", {}, ADAM, 2e-4, (0.9, 0.999), None),
        ("flow", {}, ADAM, 5e-4, (0.9, 0.999), None),
        ("ali", {}, ADAM, 1e-4, (0.5, 0.999), None),
        ("bigan", {}, ADAM, 1e-4, (0.5, 0.999), None),
        ("stacked", {}, ADAM, 1e-4, (0.5, 0.999), None),
    ],
)
def test_optimizers_are_the_published_ones(
    name: str,
    changes: dict[str, str],
    kind: type[torch.optim.Optimizer],
    rate: float,
    betas: tuple[float, float] | None,
    discriminator_steps: int | None,
) -> None:
    widths = {
        width: 4
        for width in ("generator_width", "discriminator_width")
        if width in FAMILIES[name].Settings.model_fields
    }
    family = make(name, (1, 8, 8), **widths, **changes)
    assert getattr(family, "discriminator_steps", None) == discriminator_steps
    for trained in family.optimizers.keys() - {"classifier"}:
        (group,) = family.optimizers[trained].param_groups
        assert type(family.optimizers[trained]) is kind
        assert (group["lr"], group.get("betas")) == (rate, betas)


@pytest.mark.parametrize(
    ("name", "changes", "averaged"),
    [
        ("dcgan", SMALL, ["generator"]),
        ("mix", SMALL, ["generator"]),
        ("ali", {**SMALL, "code_width": 8}, ["generator", "encoder"]),
        ("vae", {"generator_width": 4}, ["generator", "encoder"]),
    ],
)
def test_averages_follow_weights_and_batch_statistics(name: str, changes: dict[str, Any], averaged: list[str]) -> None:
    family = make(name, (1, 16, 16), TrainSettings(ema_decay=0.75, learning_rate=1e-2), **changes)
    items = torch.randn(COUNT, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = {key: value.clone() for key, value in family.networks.state_dict().items()}
    for step in range(2):
        family.step(lambda: items, np.random.default_rng(step))
        for key, value in family.networks.state_dict().items():
            if value.is_floating_point():
                expected[key] = 0.75 * expected[key] + 0.25 * value
    assert list(family.averages) == averaged
    for network, average in family.averages.items():
        for key, value in average.network.state_dict().items():
            torch.testing.assert_close(value, expected[f"{network}.{key}"])
