"""Motion, seen in the spikes themselves: estimated over a window, and firing rates followed along it.

What moves through a block of 20 planes is blurred in its firing rates. Once its motion is known, planes can be laid
over each other so that the scene stands still, as at the window's middle, and rates be taken from all of them; and the
decoder need not find out anew where to fetch the features of the other blocks from.
Motion is found by Lucas and Kanade's method (IJCAI 1981), coarse to fine in space and in time.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spikerecon.classical import interval_lengths

# Planes from a window's start, bounds of the means that `followed_rates` gives.
SPIKE_BOUNDS = (0, 14, 30, 46, 60)
INTERVAL_BOUNDS = (0, 10, 20, 26, 30, 34, 40, 50, 60)
STILL_BOUNDS = ((20, 40), (26, 34))
FOLLOWED_RATES = len(SPIKE_BOUNDS) - 1 + len(INTERVAL_BOUNDS) - 1 + len(STILL_BOUNDS)
FOLLOWED_CHANNELS = FOLLOWED_RATES + 2  # and the velocity
STRETCHES = sorted({*SPIKE_BOUNDS, *INTERVAL_BOUNDS})  # planes between two of these go into the same means

CELLS = (2, 4, 8)  # pixels a side of a motion field's cells, and of coarser ones
BIN = 5  # planes averaged before motion is looked for


class Search(NamedTuple):
    """A step of the search for motion. It finds what moves by up to 1.5 cells within its planes."""

    size: int  # pixels a side of a cell
    span: int  # planes to both sides of the middle
    accelerating: bool = False  # whether acceleration is looked for as well


# Few planes and large cells first.
SEARCH = (
    Search(8, 10),
    Search(8, 15),
    Search(8, 20),
    Search(8, 30, accelerating=True),
    Search(4, 20),
    Search(4, 30, accelerating=True),
    Search(2, 20),
    Search(2, 30, accelerating=True),
)
# Followed at once on a CPU, whose caches are small. A GPU takes a stretch, or else ordering the work would take longer
# than doing it.
CPU_PLANES = 1

FASTEST = 2.0  # pixels a plane
QUICKEST = 0.04  # pixels a plane, faster with every plane


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


def warp(features: Tensor, motions: Sequence[Tensor], first: int = 0) -> Sequence[Tensor]:
    """Backward warping by each of some motions, bilinear, the border repeated.

    features: (B, C, h, w). motions: (B, 2, r, w) each, in pixels, x then y, for rows `first` to `first + r`.
    Returns (B, C, r, w) each, of the features' type, or as float32.
    """
    own, pixel = _places(*features.shape[2:], features.device)
    places = torch.cat([own[:, first : first + motion.shape[2]] + motion * pixel for motion in motions], 2)
    warped = _whole(_in_strips(features, places, "border"), len(features), features.dtype)
    return warped.chunk(len(motions), 2)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def _places(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where pixels are, (2, h, w): x and y from -1 to 1 between the middles of the outermost ones; and a pixel's size
    in that measure, (2, 1, 1)."""
    x, y = (torch.linspace(-1, 1, size, device=device) for size in (width, height))
    pixel = torch.tensor([2 / max(size - 1, 1) for size in (width, height)], device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy")), pixel.view(2, 1, 1)


def _in_strips(features: Tensor, places: Tensor, outside: str) -> Tensor:
    """Features (B, C, h, w) at places (B, 2, r, w), in float32, each picture as S strips one above the other:
    (B S, C, r / S, w).

    outside: "border", which is repeated, or "zeros". On a CPU grid_sample gives a core to each picture: one that is
    alone goes in strips.
    """
    batch = len(features)
    strips = math.gcd(places.shape[2], 8) if batch == 1 and features.device.type == "cpu" else 1
    grids = places.unflatten(2, (strips, -1)).permute(0, 2, 3, 4, 1).flatten(0, 1)
    with torch.autocast(features.device.type, enabled=False):
        pictures = features.float().expand(strips * batch, -1, -1, -1)
        return F.grid_sample(pictures, grids, "bilinear", outside, align_corners=True)


def _whole(strips: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """Pictures joined again from their strips, channels-last, as `dtype`; as they are where each is one strip."""
    if len(strips) == batch:
        return strips  # whoever joins it with others changes its type and form in one go
    _, channels, _, width = strips.shape
    return strips.to(dtype).movedim(1, -1).reshape(batch, -1, width, channels).movedim(-1, 1)


@torch.no_grad()
def motion_field(planes: Tensor) -> Tensor:
    """How the scene moves at the middle of a window.

    planes: (B, 60, H, W) of 0 and 1, H and W multiples of 8. Returns float32 (B, 4, H / 2, W / 2): velocity x, y in
    pixels a plane and acceleration x, y in pixels a plane squared. t planes after the middle, what was at p then is at
    p + velocity t + acceleration t^2 / 2. Where nothing can be told, velocity is that of what lies around.
    """
    batch, count, height, width = planes.shape
    with torch.autocast(planes.device.type, enabled=False):
        binned = planes.to(torch.uint8).view(batch, count // BIN, BIN, height, width).sum(2, dtype=torch.uint8)
        cells = F.avg_pool2d(binned.float(), CELLS[0]) / BIN
        light = cells.mean((1, 2, 3), keepdim=True).clamp(min=1e-3)  # spikes per plane
        cells = cells / light
        pyramid = {size: F.avg_pool2d(cells, size // CELLS[0]) for size in CELLS}
        motion = torch.zeros_like(pyramid[SEARCH[0].size][:, :4])
        for search in SEARCH:
            near = slice((count // 2 - search.span) // BIN, (count // 2 + search.span) // BIN)
            seen = pyramid[search.size][:, near]
            if motion.shape[2:] != seen.shape[2:]:
                motion = F.interpolate(motion, seen.shape[2:], mode="bilinear", align_corners=False)
            noise = 6e-4 + 0.03 / (light * 2 * search.span * search.size**2)
            motion = _smooth(_corrected(motion, seen, search, noise), 1.2)
        return motion


def displacement(motion: Tensor, times: Tensor) -> Tensor:
    """Pixels x, y, (B, T, 2, h, w), between where things are at a window's middle and some planes later.

    motion: (B, 4, h, w), velocities and accelerations. times: (T,), in planes.
    """
    velocity, acceleration = motion[:, None].split(2, 2)
    t = times.view(-1, 1, 1, 1)
    return velocity * t + acceleration * (t * t / 2)


@functools.cache
@torch.inference_mode(False)
def _courses(search: Search, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What a search goes by: the instants of its bins, in planes from the middle (T,); the course that rates take over
    them where something is faster, and where it accelerates more, than thought, (C, T, 1, 1), C = 1 or 2; and the
    squares of each course without its mean, summed (C, 1, 1)."""
    times = torch.arange(BIN / 2 - search.span, search.span, BIN, device=device)
    courses = torch.stack([times, times * times / 2] if search.accelerating else [times])[..., None, None]
    return times, courses, (courses - courses.mean(1, keepdim=True)).square().sum(1)


def _corrected(motion: Tensor, seen: Tensor, search: Search, noise: Tensor) -> Tensor:
    """The motion, better by a step of Lucas and Kanade's: how rates still change along it tells what it lacks.

    motion: (B, 4, h, w). seen: rates (B, T, h, w) in the search's cells. noise: (B, 1, 1, 1), the squared slope below
    which a texture is no texture.
    """
    batch, count, height, width = seen.shape
    times, courses, whole = _courses(search, seen.device)
    own, pixel = _places(height, width, seen.device)
    places = own + (displacement(motion, times) * (pixel / search.size)).flatten(0, 1)
    there = torch.stack([seen, torch.ones_like(seen)], 2).flatten(0, 1)
    moved = _whole(_in_strips(there, places, "zeros"), batch * count, seen.dtype)
    moved, view = moved.view(batch, count, 2, height, width).unbind(2)
    # What has left the picture has no say: every sum over time is over what is in view.
    bins = view.sum(1, keepdim=True).clamp(min=0.5)
    mean = moved.sum(1, keepdim=True) / bins
    change = moved - view * mean
    view, bins = view[:, None], bins[:, None]
    courses = view * (courses - (view * courses).sum(2, keepdim=True) / bins)  # (B, C, T, h, w)
    if search.accelerating:
        line, curve = courses.unbind(1)
        straight = (curve * line).sum(1, keepdim=True) / (line * line).sum(1, keepdim=True).clamp(min=1e-3)
        courses = torch.stack([line, curve - straight * line], 1)
    mean = F.pad(_smooth(mean, 0.7), (1, 1, 1, 1), mode="replicate")
    across = (mean[:, :, 1:-1, 2:] - mean[:, :, 1:-1, :-2]) / 2
    down = (mean[:, :, 2:, 1:-1] - mean[:, :, :-2, 1:-1]) / 2
    share = (courses * courses).sum(2) / whole
    slope = _smooth((courses * change[:, None]).sum(2) / whole, 0.7)
    products = [share * across * across, share * across * down, share * down * down, across * slope, down * slope]
    xx, xy, yy, x, y = _smooth(torch.cat(products, 1), 2.0).unflatten(1, (5, -1)).unbind(1)  # (B, C, h, w) each
    xx, yy = xx + noise, yy + noise
    steps = torch.stack([xy * y - yy * x, xy * x - xx * y], 2) * (search.size / (xx * yy - xy * xy))[:, :, None]
    velocity, acceleration = motion.split(2, 1)
    velocity = _limited(velocity + _limited(steps[:, 0], 1.5 * search.size / search.span), FASTEST)
    if search.accelerating:
        step = _limited(steps[:, 1], 3 * search.size / search.span**2)
        acceleration = _limited(acceleration + step, QUICKEST)
    return torch.cat([velocity, acceleration], 1)


def _smooth(x: Tensor, sigma: float) -> Tensor:
    """Every channel of (B, C, h, w) blurred by a Gaussian, the border repeated."""
    weights = _gaussian(sigma, x.device)
    reach = len(weights) // 2
    maps = F.pad(x, (reach, reach, reach, reach), mode="replicate").flatten(0, 1)
    # Lines are the channels, as pictures of one channel take several times as long.
    for _ in range(2):  # along the lines, then across
        lines = maps.shape[1]
        maps = F.conv1d(maps, weights.expand(lines, 1, -1), groups=lines).transpose(1, 2)
    return maps.reshape(x.shape)


@functools.cache
@torch.inference_mode(False)
def _gaussian(sigma: float, device: torch.device) -> Tensor:
    """Weights of a blur, to both sides as far as they count."""
    reach = round(3 * sigma)
    return torch.softmax(-0.5 * (torch.arange(-reach, reach + 1, device=device) / sigma) ** 2, 0)


def _limited(vectors: Tensor, longest: float) -> Tensor:
    """Vectors (B, 2, h, w), those that are too long shortened."""
    lengths = torch.hypot(vectors[:, :1], vectors[:, 1:])
    return vectors * (longest / lengths.clamp(min=longest))


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
    own, pixel = _places(height, width, planes.device)
    velocity, acceleration = (motion * pixel.repeat(2, 1, 1)).split(2, 1)
    lengths = interval_lengths(planes).transpose(0, 1)  # time first, as all that follows
    lengths = torch.cat([lengths, lengths[-1:]])  # the last has no next one
    times = (torch.arange(count, device=planes.device) + (0.5 - count / 2)).view(-1, 1, 1, 1, 1)
    squares = times * times / 2
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
            # `displacement` from a pixel's own place, in two passes instead of three.
            places = torch.addcmul(own, velocity, times[first:last]).addcmul_(acceleration, squares[first:last])
            seen = _in_strips(now.flatten(0, 1), places.flatten(0, 1), "zeros")
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
    return torch.cat([_whole(torch.cat(means, 1), batch, motion.dtype), still, motion[:, :2]], 1)


def _sum(x: Tensor) -> Tensor:
    """Over the first dimension, where there is more than one of it: a sum of one would be a copy."""
    return x.sum(0) if len(x) > 1 else x[0]
