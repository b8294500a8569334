"""Pictures fetched from other places: bilinear, on a CPU in strips."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def warp(features: Tensor, motions: Sequence[Tensor], first: int = 0) -> Sequence[Tensor]:
    """Backward warping by each of some motions, bilinear, the border repeated.

    features: (B, C, h, w). motions: (B, 2, r, w) each, in pixels, x then y, for rows `first` to `first + r`.
    Returns (B, C, r, w) each, of the features' type, or as float32.
    """
    own, pixel = places_of(*features.shape[2:], features.device)
    places = torch.cat([own[:, first : first + motion.shape[2]] + motion * pixel for motion in motions], 2)
    warped = joined_strips(fetched(features, places, "border"), len(features), features.dtype)
    return warped.chunk(len(motions), 2)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def places_of(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where pixels are, (2, h, w): x and y from -1 to 1 between the middles of the outermost ones; and a pixel's size
    in that measure, (2, 1, 1)."""
    x, y = (torch.linspace(-1, 1, size, device=device) for size in (width, height))
    pixel = torch.tensor([2 / max(size - 1, 1) for size in (width, height)], device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy")), pixel.view(2, 1, 1)


def fetched(features: Tensor, places: Tensor, outside: str) -> Tensor:
    """Features (B, C, h, w) at places (B, 2, r, w), in float32, each picture as S strips one above the other:
    (B S, C, r / S, w).

    outside: "border", which is repeated, or "zeros". On a CPU grid_sample gives a core to each picture: one that is
    alone and has several goes in strips.
    """
    batch = len(features)
    shared = batch == 1 and features.device.type == "cpu" and torch.get_num_threads() > 1
    strips = math.gcd(places.shape[2], 8) if shared else 1
    grids = places.unflatten(2, (strips, -1)).permute(0, 2, 3, 4, 1).flatten(0, 1)
    with torch.autocast(features.device.type, enabled=False):
        pictures = features.float().expand(strips * batch, -1, -1, -1)
        # F.grid_sample would take cuDNN's, which has limits to how many pictures there are, and copies the places.
        return torch.grid_sampler_2d(pictures, grids, 0, {"zeros": 0, "border": 1}[outside], True)


def joined_strips(strips: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """Pictures joined again from their strips, channels-last, as `dtype`; as they are where each is one strip."""
    if len(strips) == batch:
        return strips  # whoever joins it with others changes its type and form in one go
    _, channels, _, width = strips.shape
    return strips.to(dtype).movedim(1, -1).reshape(batch, -1, width, channels).movedim(-1, 1)
