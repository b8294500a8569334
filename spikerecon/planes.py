"""Packed rows to planes as a network takes them, and its pictures back: merged, unpacked, colours apart, padded."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def to_device(blocks: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Blocks of packed rows, stacked, on a device. A GPU fetches them from pinned memory, while this goes on."""
    cuda = device.type == "cuda"
    packed = torch.empty((len(blocks), *blocks[0].shape), dtype=torch.uint8, pin_memory=cuda)
    np.stack(blocks, out=packed.numpy())
    return packed.to(device, non_blocking=cuda)


@functools.cache
def _pixels_of_bytes(device: torch.device) -> Tensor:
    """The eight pixels of each of the 256 bytes as one number, kept: each copy to a GPU would wait for it."""
    pixels = torch.tensor([[byte >> bit & 1 for bit in range(8)] for byte in range(256)], dtype=torch.uint8)
    return pixels.view(torch.int64).flatten().to(device)


def unpack_bits(rows: Tensor, width: int) -> Tensor:
    """Packed rows (..., H, bytes), uint8, lowest bit first, to planes (..., H, width) of 0 and 1, uint8."""
    pixels = _pixels_of_bytes(rows.device).index_select(0, rows.flatten().int())
    return pixels.view(torch.uint8).view(*rows.shape[:-1], 8 * rows.shape[-1])[..., :width]


def pad(planes: Tensor, multiple: int) -> Tensor:
    """Grow (B, P, H, W) to multiples of `multiple` by repeating the border, evenly on both sides."""
    height, width = planes.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return planes
    return F.pad(planes, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")


def crop(pictures: Tensor, height: int, width: int) -> Tensor:
    """The middle `height` x `width` of pictures (B, H, W): undoes `pad`."""
    top, left = (pictures.shape[-2] - height) // 2, (pictures.shape[-1] - width) // 2
    return pictures[..., top : top + height, left : left + width]


def split_colours(planes: Tensor) -> Tensor:
    """The four pixels of each Bayer block apart: (B, P, H, W) to (4 B, P, H / 2, W / 2), rounded up.

    An odd last row or column is mirrored about itself, which gives it the neighbour of the right colour.
    """
    height, width = planes.shape[-2:]
    planes = F.pad(planes, (0, width % 2, 0, height % 2), mode="reflect")
    return F.pixel_unshuffle(planes, 2).unflatten(1, (-1, 4)).transpose(1, 2).flatten(0, 1)


def join_colours(pictures: Tensor) -> Tensor:
    """Pictures (4 B, H, W) back to (B, 2 H, 2 W): undoes `split_colours`."""
    return F.pixel_shuffle(pictures.unflatten(0, (-1, 4)), 2)[:, 0]


def merge_planes(rows: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Packed rows (P, H, bytes) with every `count` planes merged into one by OR: (P / count, H, bytes).

    It is what the same sensor would read out at 1 / count of its rate: a pixel that fires less than once in `count`
    planes keeps all its spikes. It trades time for light.
    """
    if count == 1:
        return rows
    return np.bitwise_or.reduce(rows.reshape(len(rows) // count, count, *rows.shape[1:]), axis=1)
