"""Motion, seen in the spikes themselves: estimated over a window, and firing rates followed along it.

What moves through a block of 20 planes is blurred in its firing rates. Once its motion is known, planes can be laid
over each other so that the scene stands still, as at the window's middle, and rates be taken from all of them; and the
decoder need not find out anew where to fetch the features of the other blocks from.
Motion is found by Lucas and Kanade's method (IJCAI 1981), coarse to fine in space and in time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

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
# Pixels a side of a cell, planes to both sides of the middle, whether acceleration is looked for as well. A step finds
# what moves by up to 1.5 cells within its planes: few planes and large cells first.
SEARCH = (
    (8, 10, False),
    (8, 15, False),
    (8, 20, False),
    (8, 30, True),
    (4, 20, False),
    (4, 30, True),
    (2, 20, False),
    (2, 30, True),
)
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


def warp(features: Tensor, motion: Tensor, first: int = 0) -> Tensor:
    """Backward warping, bilinear, the border repeated.

    features: (B, C, h, w). motion: (B, 2, r, w) in pixels, x then y, for rows `first` to `first + r`.
    Returns (B, C, r, w), of the features' type, or as float32.
    """
    height, width = features.shape[2:]
    own = _places(height, width, motion.device, slice(first, first + motion.shape[2]))
    return _fetched(features, own + _in_places(motion, height, width))


def _places(height: int, width: int, device: torch.device, rows: slice = slice(None)) -> Tensor:
    """Where the pixels of some rows are, (r, w, 2): x and y from -1 to 1 between the middles of the outermost ones."""
    x, y = (torch.linspace(-1, 1, size, device=device) for size in (width, height))
    return torch.stack(torch.meshgrid(x, y[rows], indexing="xy"), -1)


def _in_places(motion: Tensor, height: int, width: int) -> Tensor:
    """Motion (B, 2, r, w) in pixels as the difference of two places, (B, r, w, 2)."""
    return torch.stack([motion[:, 0] / ((width - 1) / 2), motion[:, 1] / ((height - 1) / 2)], -1)


def _fetched(features: Tensor, places: Tensor, outside: str = "border") -> Tensor:
    """Features (B, C, h, w) at places (B, r, w, 2): (B, C, r, w), of the features' type, or as float32.

    outside: "border", which is repeated, or "zeros".
    """
    return _whole(_in_strips(features, places, outside), len(features), features.dtype)


def _in_strips(features: Tensor, places: Tensor, outside: str) -> Tensor:
    """What `_fetched` gives, in float32, each picture as S strips one above the other: (B S, C, r / S, w).

    On a CPU grid_sample gives a core to each picture: one that is alone goes in strips.
    """
    batch = len(features)
    rows, width = places.shape[1:3]
    strips = math.gcd(rows, 8) if batch == 1 and features.device.type == "cpu" else 1
    with torch.autocast(features.device.type, enabled=False):
        return F.grid_sample(
            features.float().expand(strips * batch, -1, -1, -1),
            places.view(strips * batch, rows // strips, width, 2),
            "bilinear",
            outside,
            align_corners=True,
        )


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
        times = torch.arange(BIN / 2, count, BIN, device=planes.device) - count / 2
        motion = torch.zeros_like(pyramid[SEARCH[0][0]][:, :4])
        for size, span, accelerating in SEARCH:
            near = slice((count // 2 - span) // BIN, (count // 2 + span) // BIN)
            seen = pyramid[size][:, near]
            if motion.shape[2:] != seen.shape[2:]:
                motion = F.interpolate(motion, seen.shape[2:], mode="bilinear", align_corners=False)
            noise = 6e-4 + 0.03 / (light * 2 * span * size**2)
            motion = _smooth(_corrected(motion, seen, times[near], size, span, noise, accelerating), 1.2)
        return motion


def displacement(motion: Tensor, times: Tensor) -> Tensor:
    """Pixels x, y, (B, T, 2, h, w), between where things are at a window's middle and some planes later.

    motion: (B, 4, h, w), velocities and accelerations. times: (T,), in planes.
    """
    velocity, acceleration = motion[:, None].split(2, 2)
    t = times.view(-1, 1, 1, 1)
    return velocity * t + acceleration * (t * t / 2)


def _corrected(
    motion: Tensor, seen: Tensor, times: Tensor, size: int, span: int, noise: Tensor, accelerating: bool
) -> Tensor:
    """The motion, better by a step of Lucas and Kanade's: how rates still change along it tells what it lacks.

    motion: (B, 4, h, w). seen: rates (B, T, h, w) at `times` (T,), in cells of `size` pixels. noise: (B, 1, 1, 1), the
    squared slope below which a texture is no texture.
    """
    batch, count, height, width = seen.shape
    velocity, acceleration = motion.split(2, 1)
    shift = displacement(motion, times).flatten(0, 1) / size
    places = _places(height, width, seen.device) + _in_places(shift, height, width)
    there = torch.stack([seen, torch.ones_like(seen)], 2).flatten(0, 1)
    moved, view = _fetched(there, places, "zeros").view(batch, count, 2, height, width).unbind(2)
    t = times.view(1, -1, 1, 1)
    # What has left the picture has no say: every sum over time is over what is in view.
    bins = view.sum(1, keepdim=True).clamp(min=0.5)
    mean = moved.sum(1, keepdim=True) / bins
    change = moved - view * mean
    line = view * (t - (view * t).sum(1, keepdim=True) / bins)
    courses = [(line, (t * t).sum())]
    if accelerating:
        bent = t * t / 2
        curve = view * (bent - (view * bent).sum(1, keepdim=True) / bins)
        straight = (curve * line).sum(1, keepdim=True) / (line * line).sum(1, keepdim=True).clamp(min=1e-3)
        courses.append((curve - straight * line, (bent - bent.mean()).square().sum()))
    mean = F.pad(_smooth(mean, 0.7), (1, 1, 1, 1), mode="replicate")
    across = (mean[:, :, 1:-1, 2:] - mean[:, :, 1:-1, :-2]) / 2
    down = (mean[:, :, 2:, 1:-1] - mean[:, :, :-2, 1:-1]) / 2
    steps = []
    for course, whole in courses:
        share = (course * course).sum(1, keepdim=True) / whole
        slope = _smooth((course * change).sum(1, keepdim=True) / whole, 0.7)
        products = [share * across * across, share * across * down, share * down * down, across * slope, down * slope]
        xx, xy, yy, x, y = _smooth(torch.cat(products, 1), 2.0).split(1, 1)
        xx, yy = xx + noise, yy + noise
        steps.append(torch.cat([xy * y - yy * x, xy * x - xx * y], 1) * (size / (xx * yy - xy * xy)))
    velocity = _limited(velocity + _limited(steps[0], 1.5 * size / span), FASTEST)
    if accelerating:
        acceleration = _limited(acceleration + _limited(steps[1], 3 * size / span**2), QUICKEST)
    return torch.cat([velocity, acceleration], 1)


def _smooth(x: Tensor, sigma: float) -> Tensor:
    """Every channel of (B, C, h, w) blurred by a Gaussian, the border repeated."""
    reach = round(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma) ** 2)
    weights = weights / weights.sum()
    maps = F.pad(x, (reach, reach, reach, reach), mode="replicate").flatten(0, 1)
    # Lines are the channels, as pictures of one channel take several times as long.
    for _ in range(2):  # along the lines, then across
        lines = maps.shape[1]
        maps = F.conv1d(maps, weights.expand(lines, 1, -1), groups=lines).transpose(1, 2)
    return maps.reshape(x.shape)


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
    count, height, width = planes.shape[1:]
    motion = F.interpolate(motion, (height, width), mode="bilinear", align_corners=False)
    velocity, acceleration = (_in_places(part, height, width) for part in motion.split(2, 1))
    own = _places(height, width, planes.device)
    lengths = interval_lengths(planes)
    found = motion.new_zeros(len(planes), FOLLOWED_CHANNELS, height, width)
    spikes, intervals, still, speeds = found.split(
        [len(SPIKE_BOUNDS) - 1, len(INTERVAL_BOUNDS) - 1, len(STILL_BOUNDS), 2], 1
    )
    speeds.copy_(motion[:, :2])
    followed = ((spikes, SPIKE_BOUNDS, 0), (intervals, INTERVAL_BOUNDS, 1))
    views = [torch.full_like(sums, 1e-3) for sums, _, _ in followed]  # planes in view
    here = torch.ones(len(planes), 3, height, width, device=planes.device)  # a pixel's two rates, and that it is there
    rates = lengths[:, 0].float().reciprocal()
    for begin, end in itertools.pairwise(STRETCHES):
        strips = here.new_zeros(())
        for plane in range(begin, end):
            here[:, 0] = planes[:, plane]
            # A spike tells of light until half a plane before its end, on average: an interval, too, comes half a plane
            # late, and the instant lies between this one's and the next one's.
            earlier, rates = rates, lengths[:, min(plane + 1, count - 1)].float().reciprocal_()
            torch.lerp(earlier, rates, 0.5, out=here[:, 1])
            time = plane + 0.5 - count / 2
            places = torch.add(own, velocity, alpha=time).add_(acceleration, alpha=time * time / 2)
            strips = strips + _in_strips(here, places, "zeros")
            for place, (first, last) in enumerate(STILL_BOUNDS):
                if first <= plane < last:
                    still[:, place].add_(here[:, 1], alpha=1 / (last - first))
        moved = _whole(strips, len(planes), strips.dtype)
        for (sums, bounds, channel), view in zip(followed, views, strict=True):
            place = next(i for i, bound in enumerate(bounds[1:]) if begin < bound)
            sums[:, place] += moved[:, channel]
            view[:, place] += moved[:, 2]
    for (sums, _, _), view in zip(followed, views, strict=True):
        sums.add_(sums.sum(1, keepdim=True) / view.sum(1, keepdim=True), alpha=1e-3).div_(view)
    return found
