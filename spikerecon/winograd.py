"""Convolutions in float32 on a CPU, Winograd's way: a quarter of the multiplications, the same result but for rounding.

F(4x4, 3x3) of Lavin and Gray ("Fast algorithms for convolutional neural networks", CVPR 2016): tiles of 6x6 pixels, 4
apart, are transformed, multiplied by the transformed kernel, and transformed back to 4x4 pixels.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

FEWEST_CHANNELS = 64  # in and out: with fewer, the transforms cost what they save
FEWEST_LEARNT = 48  # where it is trained: plain gradients cost more still
TILES = 100  # worked on at once: what the caches hold
INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
OUTPUT = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def quickened(network: M, *, learning: bool = False) -> M:
    """The network with those convolutions that gain by it worked out this way; it shares all other weights.

    For a CPU in float32. It is for inference, and what changes the network's weights afterwards does not change it; or,
    with `learning`, for training, and then it shares all of them.
    """
    weights = itertools.chain(network.parameters(), network.buffers())
    quick = copy.deepcopy(network, {id(weight): weight for weight in weights})
    _replace_convolutions(quick, learning)
    return quick


def _replace_convolutions(parent: nn.Module, learning: bool) -> None:
    for name, child in parent.named_children():
        match list(child) if isinstance(child, nn.Sequential) and not learning else [child]:
            case [nn.Conv2d() as conv] if learning and _gains(conv, FEWEST_LEARNT):
                setattr(parent, name, LearntConvolution(conv))
            case [nn.Conv2d() as conv] if not learning and _gains(conv, FEWEST_CHANNELS):
                setattr(parent, name, WinogradConvolution(conv))
            case [nn.Conv2d() as conv, nn.PReLU(weight=slopes)] if _gains(conv, FEWEST_CHANNELS):
                setattr(parent, name, WinogradConvolution(conv, slopes.detach()))
            case _:
                _replace_convolutions(child, learning)


def _gains(conv: nn.Conv2d, fewest: int) -> bool:
    plain = conv.kernel_size == (3, 3) and conv.stride == conv.padding == conv.dilation == (1, 1) and conv.groups == 1
    return plain and min(conv.in_channels, conv.out_channels) >= fewest


class WinogradConvolution(nn.Module):
    """What a convolution (3x3, padding 1) gives, and the PReLU behind it, if `slopes` are given (one or O)."""

    def __init__(self, conv: nn.Conv2d, slopes: Tensor | None = None) -> None:
        super().__init__()
        self.kernel = transformed(conv.weight.detach())
        self.bias = conv.bias.detach() if conv.bias is not None else torch.zeros(conv.out_channels)
        self.slopes = slopes

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W), channels-last."""
        return convolve(x, self.kernel, self.bias, self.slopes)


class LearntConvolution(nn.Module):
    """What a convolution (3x3, padding 1) gives, with gradients, from the same weights."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W), channels-last."""
        found = _Convolution.apply(x, self.weight)
        return found if self.bias is None else found + self.bias[:, None, None]


class _Convolution(torch.autograd.Function):
    """Its gradients are convolutions too: with the kernel turned round, and of what came in with what comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return convolve(x, transformed(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        turned = weight.flip(2, 3).transpose(0, 1)
        return convolve(grad, transformed(turned)), weight_gradient(x, grad)


def transformed(weight: Tensor) -> Tensor:
    """A kernel (O, C, 3, 3) as it meets tiles: (36, C, O)."""
    outputs, channels = weight.shape[:2]
    lines = weight.permute(3, 2, 1, 0).reshape(3, -1)
    return (KERNEL @ (KERNEL @ lines).view(6, 3, -1)).view(36, channels, outputs)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None = None, slopes: Tensor | None = None) -> Tensor:
    """(B, C, H, W) to (B, O, H, W), channels-last. kernel: as from `transformed`. slopes: of a PReLU, one or O."""
    batch, _, height, width = x.shape
    outputs = kernel.shape[2]
    down, across = -(-height // 4), -(-width // 4)  # tiles
    found = x.new_empty(batch, down, 4, across, 4, outputs)
    for picture, rows, tiles in _tiled(x):
        product = torch.bmm(tiles, kernel)
        pixels = OUTPUT @ (OUTPUT @ product.view(6, -1)).view(4, 6, -1)
        pixels = pixels.view(-1, outputs)
        if bias is not None:
            pixels.add_(bias)
        if slopes is not None:
            pixels = F.prelu(pixels, slopes)
        strip = found[picture, rows]
        strip.copy_(pixels.view(4, 4, len(strip), across, outputs).permute(2, 1, 3, 0, 4))
    return found.view(batch, 4 * down, 4 * across, outputs)[:, :height, :width].permute(0, 3, 1, 2)


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Of a kernel (O, C, 3, 3), from what the convolution was given (B, C, H, W) and its gradient (B, O, H, W)."""
    _, channels, height, width = x.shape
    outputs = grad.shape[1]
    down, across = -(-height // 4), -(-width // 4)
    grad = F.pad(grad.permute(0, 2, 3, 1), (0, 0, 0, 4 * across - width, 0, 4 * down - height))
    total = x.new_zeros(36, channels, outputs)
    for picture, rows, tiles in _tiled(x):
        strip = grad[picture, 4 * rows.start : 4 * rows.stop]
        lines = OUTPUT.T @ strip.unflatten(0, (-1, 4)).transpose(0, 1).reshape(4, -1)
        columns = OUTPUT.T @ lines.view(6, -1, across, 4, outputs).permute(3, 0, 1, 2, 4).reshape(4, -1)
        total.baddbmm_(tiles.transpose(1, 2), columns.view(36, -1, outputs))
    found = KERNEL.T @ (KERNEL.T @ total.view(6, -1)).view(3, 6, -1)
    return found.view(3, 3, channels, outputs).permute(3, 2, 1, 0)


def _tiled(x: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Pictures' (B, C, H, W) tiles, transformed: (picture, rows of tiles, their values (36, tiles, C))."""
    _, channels, height, width = x.shape
    down, across = -(-height // 4), -(-width // 4)
    line = (4 * across + 2) * channels
    step = -(-TILES // across)
    for index, picture in enumerate(x.permute(0, 2, 3, 1)):
        for first in range(0, down, step):
            count = min(step, down - first)
            top, bottom = 4 * first - 1, 4 * (first + count) + 1
            border = (0, 0, 1, 4 * across - width + 1, max(-top, 0), max(bottom - height, 0))
            part = F.pad(picture[max(top, 0) : bottom], border)
            # One axis after the other; what overlaps is copied where it has to be only.
            lines = part.as_strided((6, count, line), (line, 4 * line, 1))
            lines = INPUT @ lines.reshape(6, -1)
            columns = lines.as_strided((6, 6, count, across, channels), (channels, count * line, line, 4 * channels, 1))
            tiles = INPUT @ columns.reshape(6, -1)
            yield index, slice(first, first + count), tiles.view(36, -1, channels)
