"""Layers in their faster forms against torch.nn's in float64, on both sides of every limit of a form."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ganlab.models import convolutions
from ganlab.models.networks import Discriminator

# Kind of layer, its arguments, and the size of the images it is given.
CASES: list[tuple[str, tuple[int, ...], int]] = [
    ("Conv2d", (3, 8, 3, 1, 1), 8),
    ("Conv2d", (16, 2, 4), 4),  # the whole image is one product
    ("Conv2d", (16, 2, 4), 5),
    ("Conv2d", (16, 2, 4, 1, 1), 4),
    ("Conv2d", (1, 8, 5, 2, 2), 16),  # dense in place of transposed, in the gradient
    ("Conv2d", (12, 8, 4, 2, 1), 8),
    ("Conv2d", (13, 8, 4, 2, 1), 8),
    ("Conv2d", (24, 8, 5, 2, 2), 8),
    ("Conv2d", (25, 8, 5, 2, 2), 8),
    ("Conv2d", (4, 8, 3, 2, 1), 8),
    ("Conv2d", (30, 63, 5, 2, 2), 8),
    ("Conv2d", (30, 64, 5, 2, 2), 8),  # unfolded, in the weights' gradient
    ("Conv2d", (30, 64, 4, 2, 1), 10),
    ("Conv2d", (30, 64, 3, 1, 1), 4),
    ("Conv2d", (127, 128, 4, 2, 1), 8),
    ("Conv2d", (128, 128, 4, 2, 1), 8),  # unfolded, in the convolution
    ("ConvTranspose2d", (16, 6, 4), 1),  # one product
    ("ConvTranspose2d", (16, 6, 4, 2, 1), 1),
    ("ConvTranspose2d", (16, 1, 5, 2, 2, 1), 8),
    ("ConvTranspose2d", (16, 12, 4, 2, 1), 4),
    ("ConvTranspose2d", (16, 13, 4, 2, 1), 4),
    ("ConvTranspose2d", (16, 24, 5, 2, 2, 1), 4),
    ("ConvTranspose2d", (16, 25, 5, 2, 2, 1), 4),
    ("ConvTranspose2d", (128, 128, 4, 2, 1), 4),
]
NAMES = [f"{kind}-{'-'.join(map(str, arguments))}-on-{size}" for kind, arguments, size in CASES]


@pytest.fixture(autouse=True)
def on_a_processor_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where bfloat16 is imitated."""
    monkeypatch.setattr(convolutions, "has_bfloat16", lambda: True)


def layers(kind: str, arguments: tuple[int, ...], bias: bool) -> tuple[nn.Module, nn.Module]:
    """A layer of ours, and torch.nn's in float64 with the same weights."""
    torch.manual_seed(0)
    ours = getattr(convolutions, kind)(*arguments, bias=bias).to(memory_format=torch.channels_last)
    theirs = getattr(nn, kind)(*arguments, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "arguments", "size"), CASES, ids=NAMES)
def test_equal_torchs_layers(kind: str, arguments: tuple[int, ...], size: int, precision: str, bias: bool) -> None:
    ours, theirs = layers(kind, arguments, bias)
    given = torch.randn(5, arguments[0], size, size)
    images = given.clone(memory_format=torch.channels_last).requires_grad_()
    exact = given.double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        made = ours(images)
    expected = theirs(exact)
    assert made.dtype == getattr(torch, precision)
    assert made.shape == expected.shape
    gradient = torch.randn_like(made)
    made.backward(gradient)
    expected.backward(gradient.double())
    limit = {"float32": 1e-5, "bfloat16": 2**-6}[precision]  # bfloat16 has 8 bits, and here up to three roundings
    assert worst(made, expected) < limit
    for mine, other in zip((images, *ours.parameters()), (exact, *theirs.parameters()), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert worst(mine.grad, other.grad) < limit
    assert [each.grad.stride() for each in ours.parameters()] == [each.stride() for each in ours.parameters()]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the products that are computed from here on."""
    made: list[str] = []

    def noted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def noting(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, noting)

    for name in ("conv2d", "conv_transpose2d", "linear"):
        noted(functional, name)
    noted(convolutions, "_unfolded")
    return made


def products(calls: list[str], kind: str, arguments: tuple[int, ...], size: int) -> tuple[set[str], set[str]]:
    """Products of a layer in bfloat16, forward and backward; torch's own gradients are not among them."""
    layer, _ = layers(kind, arguments, bias=False)
    images = torch.randn(2, arguments[0], size, size).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(images)
    forward = set(calls)
    calls.clear()
    made.sum().backward()
    return forward, set(calls)


@pytest.mark.parametrize(
    ("kind", "arguments", "size", "forward", "backward"),
    [
        ("Conv2d", (16, 2, 4), 4, {"linear"}, set()),
        ("Conv2d", (16, 2, 4), 5, {"conv2d"}, set()),
        ("Conv2d", (12, 8, 4, 2, 1), 8, {"conv2d"}, {"conv2d"}),
        ("Conv2d", (13, 8, 4, 2, 1), 8, {"conv2d"}, set()),
        ("Conv2d", (24, 8, 5, 2, 2), 8, {"conv2d"}, {"conv2d"}),
        ("Conv2d", (25, 8, 5, 2, 2), 8, {"conv2d"}, set()),
        ("Conv2d", (4, 8, 3, 2, 1), 8, {"conv2d"}, set()),
        ("Conv2d", (30, 63, 5, 2, 2), 8, {"conv2d"}, set()),
        ("Conv2d", (30, 64, 5, 2, 2), 8, {"conv2d"}, {"conv_transpose2d", "_unfolded"}),
        ("Conv2d", (30, 64, 4, 2, 1), 10, {"conv2d"}, set()),
        ("Conv2d", (127, 128, 4, 2, 1), 8, {"conv2d"}, {"conv_transpose2d", "_unfolded"}),
        ("Conv2d", (128, 128, 4, 2, 1), 8, {"_unfolded"}, {"conv_transpose2d", "_unfolded"}),
        ("Conv2d", (128, 128, 4, 2, 1), 10, {"conv2d"}, set()),
        ("ConvTranspose2d", (16, 6, 4), 1, set(), set()),
        ("ConvTranspose2d", (16, 24, 5, 2, 2, 1), 4, {"conv2d"}, {"conv2d"}),
        ("ConvTranspose2d", (16, 25, 5, 2, 2, 1), 4, {"conv_transpose2d"}, set()),
        ("ConvTranspose2d", (128, 128, 4, 2, 1), 4, {"conv_transpose2d"}, {"_unfolded"}),
    ],
)
def test_forms_of_products(
    calls: list[str], kind: str, arguments: tuple[int, ...], size: int, forward: set[str], backward: set[str]
) -> None:
    assert products(calls, kind, arguments, size) == (forward, backward)


def test_imitated_bfloat16_is_not_unfolded(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "has_bfloat16", lambda: False)
    assert products(calls, "Conv2d", (128, 128, 4, 2, 1), 8) == ({"conv2d"}, set())


def test_no_gradient_that_nobody_asked_for(calls: list[str]) -> None:
    layer, _ = layers("Conv2d", (30, 64, 5, 2, 2), bias=False)
    images = torch.randn(2, 30, 8, 8).requires_grad_()
    for of_images, of_weights, expected in ((False, True, {"_unfolded"}), (True, False, {"conv_transpose2d"})):
        layer.requires_grad_(of_weights)
        with torch.autocast("cpu", torch.bfloat16):
            made = layer(images if of_images else images.detach())
        calls.clear()
        made.sum().backward()
        assert set(calls) == expected


def test_torchs_own_on_other_devices(calls: list[str]) -> None:
    with torch.device("meta"):
        layer = convolutions.Conv2d(16, 2, 4)
        made = layer(torch.empty(3, 16, 4, 4))
    assert made.shape == (3, 2, 1, 1)
    assert calls == ["conv2d"]


def test_gradients_of_gradients_are_refused() -> None:
    layer, _ = layers("Conv2d", (1, 8, 5, 2, 2), bias=True)
    images = torch.randn(2, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@pytest.mark.parametrize(("normalise", "ours"), [("batch", True), ("layer", False), ("none", False)])
def test_networks_under_a_gradient_penalty_keep_torchs_layers(normalise: str, ours: bool) -> None:
    of_images = [
        module
        for module in Discriminator(4, 1, 16, kernel_size=4, refine=True, normalise=normalise).modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert {isinstance(module, convolutions.Conv2d) for module in of_images} == {ours}
