"""Firing rates followed along the motion that a window's spikes tell of.

What moves through a block of 20 planes is blurred in its firing rates. Once its motion is known, planes can be laid
over each other so that the scene stands still, as at the window's middle, and rates be taken from all of them; and the
decoder need not find out anew where to fetch the features of the other blocks from.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spikerecon.classical import interval_lengths
from spikerecon.motion import displacement, motion_field
from spikerecon.warp import fetched, joined_strips, places_of

# Planes from a window's start, bounds of the means that `followed_rates` gives.
SPIKE_BOUNDS = (0, 14, 30, 46, 60)
INTERVAL_BOUNDS = (0, 10, 20, 26, 30, 34, 40, 50, 60)
STILL_BOUNDS = ((20, 40), (26, 34))
FOLLOWED_RATES = len(SPIKE_BOUNDS) - 1 + len(INTERVAL_BOUNDS) - 1 + len(STILL_BOUNDS)
FOLLOWED_CHANNELS = FOLLOWED_RATES + 2  # and the velocity
STRETCHES = sorted({*SPIKE_BOUNDS, *INTERVAL_BOUNDS})  # planes between two of these go into the same means

# Planes followed at once on a CPU, whose caches are small. A GPU takes a stretch, or else launching the work would take
# longer than doing it.
CPU_PLANES = 1


@dataclass
class Followed:
    """What a window's spikes tell of its motion, at the size of one level of the decoder."""

    rates: Tensor  # (B, FOLLOWED_CHANNELS, h, w), see `followed_rates`
    motion: Tensor  # (B, 4, h, w), pixels: x, y to the earlier block, x, y to the later one


@torch.no_grad()
def follow(planes: Tensor, levels: int, stride: int) -> Iterator[Followed]:
    """Motion, and rates followed along it, at the sizes of levels 1 (full size) to `levels`.

    planes: (B, 60, H, W) of 0 and 1, H and W multiples of 8. stride: planes from block to block.
    """
    field = motion_field(planes)
    rates = followed_rates(planes, field)
    sides = torch.arange(-stride, stride + 1, 2 * stride, device=planes.device)
    motion = displacement(field, sides).flatten(1, 2)
    for level in range(levels):
        rates = F.avg_pool2d(rates, 2) if level else rates
        resized = F.interpolate(motion, rates.shape[2:], mode="bilinear", align_corners=False)
        yield Followed(rates, resized / 2**level)


@torch.no_grad()
def followed_rates(planes: Tensor, motion: Tensor) -> Tensor:
    """Firing rates of a window, its planes moved to where the scene was at the middle.

    planes: (B, 60, H, W) of 0 and 1, H and W multiples of 8. motion: their `motion_field`.
    Returns float32 (B, FOLLOWED_CHANNELS, H, W): means of spikes between SPIKE_BOUNDS, means of one over the
    inter-spike interval between INTERVAL_BOUNDS, the same between STILL_BOUNDS without being moved, all in spikes per
    plane; and the velocity x, y in pixels a plane. Means are over the planes in which a place is in view; where it
    never is, that of the whole window stands in.
    """
    batch, count, height, width = planes.shape
    motion = F.interpolate(motion, (height, width), mode="bilinear", align_corners=False)
    own, pixel = places_of(height, width, planes.device)
    derivatives = (motion.unflatten(1, (-1, 2)) * pixel).unbind(1)
    lengths = interval_lengths(planes).transpose(0, 1)  # time first, as all that follows
    lengths = torch.cat([lengths, lengths[-1:]])  # the last has no next one
    times = (torch.arange(count, device=planes.device) + (0.5 - count / 2)).view(-1, 1, 1, 1, 1)
    powers: list[Tensor] = [times**order / math.factorial(order) for order in range(1, len(derivatives) + 1)]
    at_once = CPU_PLANES if planes.device.type == "cpu" else max(b - a for a, b in itertools.pairwise(STRETCHES))
    here = motion.new_ones(at_once, batch, 3, height, width)  # a pixel's two rates, and that it is there
    still = motion.new_zeros(batch, len(STILL_BOUNDS), height, width)
    moved: dict[int, Tensor] = {}  # by a stretch's start: sums of rates along the motion, and of views, in strips
    for begin, end in itertools.pairwise(STRETCHES):
        # A spike tells of light until half a plane before its end, on average: an interval, too, comes half a plane
        # late, and the instant lies between this one's and the next one's.
        rates = lengths[begin : end + 1].float().reciprocal_()
        strips: Tensor | None = None
        for first in range(begin, end, at_once):
            last = min(first + at_once, end)
            now = here[: last - first]
            now[:, :, 0] = planes[:, first:last].transpose(0, 1)
            of_now = rates[first - begin : last - begin + 1]
            torch.lerp(of_now[:-1], of_now[1:], 0.5, out=now[:, :, 1])
            # `displacement` from a pixel's own place, in a pass a derivative.
            places = torch.addcmul(own, derivatives[0], powers[0][first:last])
            for derivative, power in zip(derivatives[1:], powers[1:], strict=True):
                places.addcmul_(derivative, power[first:last])
            seen = fetched(now.flatten(0, 1), places.flatten(0, 1), "zeros")
            seen = _sum(seen.unflatten(0, (last - first, -1)))
            strips = seen if strips is None else strips.add_(seen)
            for place, (low, high) in enumerate(STILL_BOUNDS):
                if low <= first < high:
                    still[:, place].add_(_sum(now[:, :, 1]), alpha=1 / (high - low))
        assert strips is not None
        moved[begin] = strips
    means = []
    for bounds, channel in ((SPIKE_BOUNDS, 0), (INTERVAL_BOUNDS, 1)):
        parts = [
            functools.reduce(torch.add, [moved[begin] for begin in moved if low <= begin < high])
            for low, high in itertools.pairwise(bounds)
        ]
        sums, views = (torch.stack([part[:, place] for part in parts], 1) for place in (channel, 2))
        whole = sums.sum(1, keepdim=True) / (views.sum(1, keepdim=True) + 1e-3)
        means.append(sums.add_(whole, alpha=1e-3).div_(views.add_(1e-3)))
    return torch.cat([joined_strips(torch.cat(means, 1), batch, motion.dtype), still, motion[:, :2]], 1)


def _sum(x: Tensor) -> Tensor:
    """Over the first dimension, where there is more than one of it: a sum of one would be a copy."""
    return x.sum(0) if len(x) > 1 else x[0]
