"""Convolutions in float32 on a CPU, Winograd's way: a quarter of the multiplications, the same result but for rounding.

F(4x4, 3x3) of Lavin and Gray ("Fast algorithms for convolutional neural networks", CVPR 2016): tiles of 6x6 pixels, 4
apart, are transformed, multiplied by the transformed kernel, and transformed back to 4x4 pixels.
"""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

FEWEST_CHANNELS = 64  # in and out: with fewer, the transforms cost what they save
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
KERNEL = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]).double() / 24
OUTPUT = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def quickened(network: M) -> M:
    """The network with those convolutions that gain by it worked out this way; it shares all other weights.

    For inference on a CPU in float32. What changes the network's weights afterwards does not change it.
    """
    weights = itertools.chain(network.parameters(), network.buffers())
    quick = copy.deepcopy(network, {id(weight): weight for weight in weights})
    _replace_convolutions(quick)
    return quick


def _replace_convolutions(parent: nn.Module) -> None:
    for name, child in parent.named_children():
        match list(child) if isinstance(child, nn.Sequential) else [child]:
            case [nn.Conv2d() as conv] if _gains(conv):
                setattr(parent, name, WinogradConvolution(conv))
            case [nn.Conv2d() as conv, nn.PReLU(weight=slopes)] if _gains(conv):
                setattr(parent, name, WinogradConvolution(conv, slopes.detach()))
            case _:
                _replace_convolutions(child)


def _gains(conv: nn.Conv2d) -> bool:
    plain = conv.kernel_size == (3, 3) and conv.stride == conv.padding == conv.dilation == (1, 1) and conv.groups == 1
    return plain and min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS


class WinogradConvolution(nn.Module):
    """What a convolution (3x3, padding 1) gives, and the PReLU behind it, if `slopes` are given (one or O)."""

    def __init__(self, conv: nn.Conv2d, slopes: Tensor | None = None) -> None:
        super().__init__()
        with torch.no_grad():
            kernel = torch.einsum("ja,ib,ocba->jico", KERNEL, KERNEL, conv.weight.double())
        self.kernel = kernel.flatten(0, 1).float()  # (36, C, O)
        self.bias = conv.bias.detach() if conv.bias is not None else torch.zeros(conv.out_channels)
        self.slopes = slopes

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W), channels-last."""
        batch, channels, height, width = x.shape
        outputs = len(self.bias)
        down, across = -(-height // 4), -(-width // 4)  # tiles
        line = (4 * across + 2) * channels
        found = x.new_empty(batch, down, 4, across, 4, outputs)
        rows = -(-TILES // across)
        for picture, drawn in zip(x.permute(0, 2, 3, 1), found, strict=True):
            for first in range(0, down, rows):
                strip = drawn[first : first + rows]
                count = len(strip)
                top, bottom = 4 * first - 1, 4 * (first + count) + 1
                border = (0, 0, 1, 4 * across - width + 1, max(-top, 0), max(bottom - height, 0))
                part = F.pad(picture[max(top, 0) : bottom], border)
                # One axis after the other; what overlaps is copied where it has to be only.
                lines = part.as_strided((6, count, line), (line, 4 * line, 1))
                lines = INPUT @ lines.reshape(6, -1)
                columns = lines.as_strided(
                    (6, 6, count, across, channels), (channels, count * line, line, 4 * channels, 1)
                )
                tiles = INPUT @ columns.reshape(6, -1)
                product = torch.bmm(tiles.view(36, -1, channels), self.kernel)
                pixels = OUTPUT @ (OUTPUT @ product.view(6, -1)).view(4, 6, -1)
                pixels = pixels.view(-1, outputs).add_(self.bias)
                if self.slopes is not None:
                    pixels = F.prelu(pixels, self.slopes)
                strip.copy_(pixels.view(4, 4, count, across, outputs).permute(2, 1, 3, 0, 4))
        found = found.view(batch, 4 * down, 4 * across, outputs)
        return found[:, :height, :width].permute(0, 3, 1, 2)
