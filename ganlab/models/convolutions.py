"""The layers of torch.nn by the same names, with faster forms of some of their products on a CPU.

Invariant: the same parameters and the same products as torch.nn's layers; sums are in another order, so results differ
by rounding. On a GPU they are torch.nn's. Gradients of gradients are not for them: networks under a gradient penalty keep
torch.nn's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ganlab.models.precision import has_bfloat16

# By kernel size, the channels up to which a transposed convolution of stride 2 is faster as a dense one.
CHANNELS_MAX = {4: 12, 5: 24}
# In bfloat16 a gradient of the weights is faster as one product of all that the kernels see (here "unfolded" images), if
# there are many maps of few pixels; and so is the convolution itself, if its weights fill a core's cache.
PIXELS_MAX, MAPS_MIN, WEIGHTS_MIN = 16, 64, 2**18


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d with square kernels, strides and paddings, and no dilation or groups."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, C, S, S) to (n, M, s, s)."""
        if not images.is_cpu:
            return super().forward(images)
        images, weight, bias = _as_computed(images, self.weight, self.bias)
        stride, padding, kernel = self.stride[0], int(self.padding[0]), self.kernel_size[0]
        if images.shape[2] == images.shape[3] == kernel and padding == 0:  # the whole image is one product
            return functional.linear(_pixels(images).flatten(1), _rows(weight), bias)[:, :, None, None]
        if _worth_it(weight, stride, (images.shape[2] + 2 * padding - kernel) // stride + 1):
            narrow: Tensor = _Convolution.apply(images, weight, bias, stride, padding)  # type: ignore[no-untyped-call]
            return narrow
        return functional.conv2d(images, weight, bias, stride, padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d that makes an image of one pixel, or doubles its size."""

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Images (n, M, s, s) to (n, C, S, S)."""
        if not images.is_cpu:
            return super().forward(images, output_size)
        images, weight, bias = _as_computed(images, self.weight, self.bias)
        stride, padding, kernel = self.stride[0], int(self.padding[0]), self.kernel_size[0]
        if images.shape[2] == images.shape[3] == 1 and padding == 0 and bias is None:
            made = images.flatten(1) @ _rows(weight)
            return made.view(len(images), kernel, kernel, -1).permute(0, 3, 1, 2)
        if _worth_it(weight, stride, images.shape[2]):
            wide: Tensor = _Transposed.apply(images, weight, bias, stride, padding)  # type: ignore[no-untyped-call]
            return wide
        return functional.conv_transpose2d(images, weight, bias, stride, padding, self.output_padding[0])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(wide, weight)
        ctx.form = stride, padding
        return _narrow(wide, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, narrow: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        wide, weight = ctx.saved_tensors
        for_wide, for_weight, for_bias = ctx.needs_input_grad[:3]
        return (
            _wide(narrow, weight, wide.shape[2], *ctx.form) if for_wide else None,
            _weight(wide, narrow, weight, *ctx.form) if for_weight else None,
            narrow.sum((0, 2, 3)) if for_bias else None,
            None,
            None,
        )


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, narrow: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(narrow, weight)
        ctx.form = stride, padding
        wide = _wide(narrow, weight, stride * narrow.shape[2], stride, padding)
        return wide if bias is None else wide.add_(bias.view(1, -1, 1, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wide: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        narrow, weight = ctx.saved_tensors
        for_narrow, for_weight, for_bias = ctx.needs_input_grad[:3]
        return (
            _narrow(wide, weight, None, *ctx.form) if for_narrow else None,
            _weight(wide, narrow, weight, *ctx.form) if for_weight else None,
            wide.sum((0, 2, 3)) if for_bias else None,
            None,
            None,
        )


def _as_computed(images: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three in the precision of torch.autocast, if that is on, and in channels-last order."""
    if torch.is_autocast_enabled("cpu"):
        precision = torch.get_autocast_dtype("cpu")
        images, weight = images.to(precision), weight.to(precision)
        bias = None if bias is None else bias.to(precision)
    images = images.contiguous(memory_format=torch.channels_last)
    return images, weight.contiguous(memory_format=torch.channels_last), bias


def _worth_it(weight: Tensor, stride: int, narrow_size: int) -> bool:
    """True if a layer of these weights has a faster form, of itself or of a gradient."""
    return _is_shuffled(weight, stride) or _is_unfolded(weight, narrow_size)


def _is_shuffled(weight: Tensor, stride: int) -> bool:
    return stride == 2 and weight.shape[1] <= CHANNELS_MAX.get(weight.shape[2], 0)


def _is_unfolded(weight: Tensor, narrow_size: int) -> bool:
    few_pixels_of_many_maps = narrow_size**2 <= PIXELS_MAX and weight.shape[0] >= MAPS_MIN
    # Where bfloat16 is imitated, products of matrices are slower still than convolutions.
    return few_pixels_of_many_maps and weight.dtype == torch.bfloat16 and has_bfloat16()


# A convolution has a wide side, (n, C, S, S), and a narrow side, (n, M, s, s); its weights are (M, C, k, k).


def _narrow(wide: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """The convolution."""
    size = (wide.shape[2] + 2 * padding - weight.shape[2]) // stride + 1
    if bias is None and _is_unfolded(weight, size) and weight.numel() >= WEIGHTS_MIN:
        made = _unfolded(wide, weight.shape[2], stride, padding, size) @ _rows(weight).t()
        return made.view(len(wide), size, size, -1).permute(0, 3, 1, 2)
    return functional.conv2d(wide, weight, bias, stride, padding)


def _wide(narrow: Tensor, weight: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """The transposed convolution, which is also the convolution's gradient with respect to its wide side."""
    if not _is_shuffled(weight, stride):
        excess = size - (stride * (narrow.shape[2] - 1) + weight.shape[2] - 2 * padding)
        return functional.conv_transpose2d(narrow, weight, None, stride, padding, excess)
    # Each 2×2 block of the wide side is a function of 3×3 pixels of the narrow one: a dense convolution with four maps
    # for each channel. Along an axis, pixel 2i + a has weight a + padding − 2d of pixel i + d, for d from −1 to 1.
    maps, channels, kernel, _ = weight.shape
    before, after = 2 - padding, padding + 4 - kernel
    phases = functional.pad(weight, (before, after, before, after)).view(maps, channels, 3, 2, 3, 2).flip(2, 4)
    dense = phases.permute(3, 5, 1, 0, 2, 4).reshape(4 * channels, maps, 3, 3)
    blocks = functional.conv2d(narrow, dense.contiguous(memory_format=torch.channels_last), None, 1, 1)
    in_rows = _pixels(blocks).view(*narrow.shape[:1], *narrow.shape[2:], 2, 2 * channels).transpose(2, 3)
    return in_rows.reshape(len(narrow), size, size, channels).permute(0, 3, 1, 2)


def _weight(wide: Tensor, narrow: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient with respect to the weights, from the wide side and a gradient of the narrow one, or the reverse."""
    maps, channels, kernel, _ = weight.shape
    if _is_unfolded(weight, narrow.shape[2]):
        rows = _pixels(narrow).reshape(-1, maps)
        product = rows.t() @ _unfolded(wide, kernel, stride, padding, narrow.shape[2])
        return product.view(maps, kernel, kernel, channels).permute(0, 3, 1, 2)
    made: Tensor = torch.ops.aten.convolution_backward(
        narrow, wide, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
    return made


def _unfolded(wide: Tensor, kernel: int, stride: int, padding: int, size: int) -> Tensor:
    """Patches of the wide side that the kernel meets at each pixel of the narrow one, (n · size², kernel² · channels)."""
    padded = functional.pad(_pixels(wide), (0, 0, padding, padding, padding, padding))
    batch, row, column, _ = padded.stride()
    seen = padded.as_strided(
        (len(wide), size, size, kernel, kernel * wide.shape[1]), (batch, stride * row, stride * column, row, 1)
    )
    return seen.reshape(len(wide) * size**2, -1)


def _pixels(images: Tensor) -> Tensor:
    """Images (n, C, H, W) as (n, H, W, C), in which channels-last images are contiguous."""
    return images.permute(0, 2, 3, 1).contiguous()


def _rows(weight: Tensor) -> Tensor:
    """Weights (M, C, k, k) as a matrix, (M, k² · C)."""
    return _pixels(weight).flatten(1)
