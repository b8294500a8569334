"""Convolutions in float32 on a CPU, Winograd's way: a fifth of the multiplications, the same result but for rounding.

F(6x6, 3x3) of Lavin and Gray ("Fast algorithms for convolutional neural networks", CVPR 2016): tiles of 8x8 pixels, 6
apart, are transformed, multiplied by the transformed kernel, and transformed back to 6x6 pixels.
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

# Products saved for what the transforms cost, C O / (C + O) channels: with fewer, plain convolutions are as quick.
LEAST_GAIN = 40
# In training kernels change from step to step, and are transformed anew; so pictures must be larger.
FEWEST_PIXELS = 48 * 48
# Plain gradients of kernels take several times as long as anything else, and the longer the larger pictures are.
LEAST_GAIN_OF_GRADIENTS = 18
FEWEST_PIXELS_OF_GRADIENTS = 32 * 32
TILES = 100  # worked on at once: what the caches hold
STEP = 6  # pixels, between tiles
SIDE = STEP + 2  # of a tile
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # where polynomials are taken, and at infinity


def _powers(count: int) -> Tensor:
    """Of the points, from 0 on: (SIDE, count), float64; the last row is infinity's."""
    powers = torch.tensor((*POINTS, 0.0), dtype=torch.float64)[:, None] ** torch.arange(count)
    powers[-1, :] = torch.eye(count)[-1]
    return powers


# Toom and Cook's product of two polynomials, from its values at the points, turned round into a correlation.
INPUT = torch.linalg.inv(_powers(SIDE)).T.float()
KERNEL = _powers(3).float()
OUTPUT = _powers(STEP).T.float()


def helps(device: torch.device, precision: str) -> bool:
    """Whether `quickened` networks are quicker there: on a CPU in float32."""
    return device.type == "cpu" and precision == "float32"


def quickened(network: M, *, learning: bool = False) -> M:
    """The network with those convolutions that gain by it worked out this way; it shares all other weights.

    For where it `helps`. It is for inference, and what changes the network's weights afterwards does not change it; or,
    with `learning`, for training, and then it shares all of them.
    """
    weights = itertools.chain(network.parameters(), network.buffers())
    quick = copy.deepcopy(network, {id(weight): weight for weight in weights})
    _replace_convolutions(quick, learning)
    return quick


def _replace_convolutions(parent: nn.Module, learning: bool) -> None:
    least = LEAST_GAIN_OF_GRADIENTS if learning else LEAST_GAIN
    for name, child in parent.named_children():
        match list(child) if isinstance(child, nn.Sequential) and not learning else [child]:
            case [nn.Conv2d() as conv] if _gains(conv, least):
                setattr(parent, name, LearntConvolution(conv) if learning else WinogradConvolution(conv))
            case [nn.Conv2d() as conv, nn.PReLU(weight=slopes)] if _gains(conv, least):
                setattr(parent, name, WinogradConvolution(conv, slopes.detach()))
            case _:
                _replace_convolutions(child, learning)


def _gains(conv: nn.Conv2d, least: int) -> bool:
    plain = conv.kernel_size == (3, 3) and conv.stride == conv.padding == conv.dilation == (1, 1) and conv.groups == 1
    return plain and _saved(conv.weight) >= least


def _saved(weight: Tensor) -> float:
    """What a kernel (O, C, 3, 3) gains by, see LEAST_GAIN."""
    outputs, channels = weight.shape[:2]
    return channels * outputs / (channels + outputs)


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
    """What a convolution (3x3, padding 1) gives, with gradients, from the same weights, each the quicker way."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W), channels-last."""
        if x[0, 0].numel() < FEWEST_PIXELS_OF_GRADIENTS:
            return F.conv2d(x, self.weight, self.bias, padding=1)
        return _Convolution.apply(x, self.weight, self.bias)


class _Convolution(torch.autograd.Function):
    """Its gradients are convolutions too: with the kernel turned round, and of what came in with what comes back.

    The latter is always Winograd's way. Tiles are transformed for it, again where they have been on the way there: to
    keep them would take twice the memory of what came in.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _quicker(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        turned = weight.flip(2, 3).transpose(0, 1)
        of_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return _quicker(grad, turned), weight_gradient(x, grad), of_bias


def _quicker(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution with a kernel (O, C, 3, 3) that is not transformed yet, the quicker way."""
    if x[0, 0].numel() < FEWEST_PIXELS or _saved(weight) < LEAST_GAIN:
        return F.conv2d(x, weight, bias, padding=1)
    return convolve(x, transformed(weight), bias)


def transformed(weight: Tensor) -> Tensor:
    """A kernel (O, C, 3, 3) as it meets tiles: (64, C, O)."""
    outputs, channels = weight.shape[:2]
    lines = weight.permute(3, 2, 1, 0).reshape(3, -1)
    return (KERNEL @ (KERNEL @ lines).view(SIDE, 3, -1)).view(-1, channels, outputs)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None = None, slopes: Tensor | None = None) -> Tensor:
    """(B, C, H, W) to (B, O, H, W), channels-last. kernel: as from `transformed`. slopes: of a PReLU, one or O."""
    batch, _, height, width = x.shape
    outputs = kernel.shape[2]
    found = x.new_empty(batch, height, width, outputs)
    for picture, rows, tiles in _tiled(x):
        product = torch.bmm(tiles, kernel)
        pixels = OUTPUT @ (OUTPUT @ product.view(SIDE, -1)).view(STEP, SIDE, -1)
        pixels = pixels.view(-1, outputs)
        if bias is not None:
            pixels.add_(bias)
        if slopes is not None:
            pixels = F.prelu(pixels, slopes)
        pixels = pixels.view(STEP, STEP, rows.stop - rows.start, -1, outputs).permute(2, 1, 3, 0, 4)
        _lay(pixels, found[picture, STEP * rows.start : STEP * rows.stop])
    return found.permute(0, 3, 1, 2)


def _lay(tiles: Tensor, strip: Tensor) -> None:
    """Tiles (rows, STEP, columns, STEP, O) put where they belong in a strip of a picture (h, w, O).

    The last ones may reach beyond it. They go by themselves, or the picture would have to be copied to cut it off.
    """
    rows, columns = strip.shape[0] // STEP, strip.shape[1] // STEP
    down, right = STEP * rows, STEP * columns
    strip[:down, :right].unflatten(1, (columns, STEP)).unflatten(0, (rows, STEP)).copy_(tiles[:rows, :, :columns])
    strip[:down, right:] = tiles[:rows, :, columns:].flatten(2, 3).flatten(0, 1)[:, : strip.shape[1] - right]
    strip[down:] = tiles[rows:].flatten(2, 3).flatten(0, 1)[: len(strip) - down, : strip.shape[1]]


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Of a kernel (O, C, 3, 3), from what the convolution was given (B, C, H, W) and its gradient (B, O, H, W)."""
    _, channels, height, width = x.shape
    outputs = grad.shape[1]
    down, across = _tiles(height), _tiles(width)
    grad = F.pad(grad.permute(0, 2, 3, 1), (0, 0, 0, STEP * across - width, 0, STEP * down - height))
    total = x.new_zeros(SIDE * SIDE, channels, outputs)
    for picture, rows, tiles in _tiled(x):
        strip = grad[picture, STEP * rows.start : STEP * rows.stop]
        lines = OUTPUT.T @ strip.unflatten(0, (-1, STEP)).transpose(0, 1).reshape(STEP, -1)
        columns = OUTPUT.T @ lines.view(SIDE, -1, across, STEP, outputs).permute(3, 0, 1, 2, 4).reshape(STEP, -1)
        total.baddbmm_(tiles.transpose(1, 2), columns.view(SIDE * SIDE, -1, outputs))
    found = KERNEL.T @ (KERNEL.T @ total.view(SIDE, -1)).view(3, SIDE, -1)
    return found.view(3, 3, channels, outputs).permute(3, 2, 1, 0)


def _tiles(pixels: int) -> int:
    """How many tiles cover a line of them."""
    return -(-pixels // STEP)


def _tiled(x: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Pictures' (B, C, H, W) tiles, transformed: (picture, rows of tiles, their values (64, tiles, C))."""
    _, channels, height, width = x.shape
    down, across = _tiles(height), _tiles(width)
    line = (STEP * across + 2) * channels
    many = -(-TILES // across)  # rows at once
    for index, picture in enumerate(x.permute(0, 2, 3, 1)):
        for first in range(0, down, many):
            count = min(many, down - first)
            top, bottom = STEP * first - 1, STEP * (first + count) + 1
            border = (0, 0, 1, STEP * across - width + 1, max(-top, 0), max(bottom - height, 0))
            part = F.pad(picture[max(top, 0) : bottom], border)
            # One axis after the other; what overlaps is copied where it has to be only.
            lines = INPUT @ part.as_strided((count, SIDE, line), (STEP * line, line, 1))
            columns = lines.as_strided(
                (SIDE, SIDE, count, across, channels), (channels, line, SIDE * line, STEP * channels, 1)
            )
            tiles = INPUT @ columns.reshape(SIDE, -1)
            yield index, slice(first, first + count), tiles.view(SIDE * SIDE, -1, channels)
