"""How a scene moves at a window's middle, as its spikes tell.

By Lucas and Kanade's method (IJCAI 1981), coarse to fine in space and in time; then as most of it around every place
agrees on, where that tells as well how rates change. What moves too fast for that, such as a rotor's blades, is sought
apart.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spikerecon.warp import fetched, joined_strips, places_of

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
QUICKEST = 0.04  # pixels a plane, faster with every plane

# What is FAST, such as a rotor's blades, is sought apart: first among velocities that cells of the largest size tell
# from each other, then as motion that is affine around every place, as that of all that turns.
FAST, FASTEST = 2.0, 5.6  # pixels a plane
LEAP = 0.8  # pixels a plane, from one such velocity to the next
PURSUIT = (Search(8, 10), Search(4, 10), Search(4, 15), Search(4, 20), Search(4, 30))
AROUND = 4.0  # largest cells: sigma of what lies around
CLUSTER = 15  # largest cells a side of what lies around where a few would not do
MANY = 0.05  # of what lies around, so that it is no chance
TERMS = 7  # derivatives of a path, for half a turn within a window
CLEARLY = 0.8  # of two motions the better one leaves less than this share of the other's changes


@torch.no_grad()
def motion_field(planes: Tensor) -> Tensor:
    """How the scene moves at the middle of a window.

    planes: (B, 60, H, W) of 0 and 1, H and W multiples of 8. Returns float32 (B, 2 N, H / 2, W / 2), derivatives by
    time of where things are: velocity x, y in pixels a plane, acceleration x, y in pixels a plane squared, and so on.
    N is 2, or TERMS where something may be FAST. t planes after the middle, what was at p then is at p + velocity t +
    acceleration t^2 / 2 + .... Where nothing can be told, velocity is that of what lies around.
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
            seen = _near(pyramid[search.size], search.span)
            motion = _smooth(_corrected(_resized(motion, seen), seen, search, light), 1.2)
        motion, unrest = _evened(motion, pyramid[CELLS[0]])
        return _with_fast(motion, unrest, pyramid, light)


def _near(rates: Tensor, span: int) -> Tensor:
    """Of binned rates (B, T, h, w) those of `span` planes to both sides of the middle."""
    middle = rates.shape[1] // 2
    return rates[:, middle - span // BIN : middle + span // BIN]


def _evened(motion: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """The motion, replaced by what most of it around agrees on where rates, (B, T, h, w), change as little along that;
    and how much they change, (B, 1, h, w)."""
    coarse = F.avg_pool2d(motion, CELLS[-1] // CELLS[0])
    even, _ = _affine(coarse, torch.ones_like(coarse[:, :1]), 0.02)
    even = _resized(even, motion)
    own, other = (_unrest(each, cells) for each in (motion, even))
    better = other < 1.03 * own
    return torch.where(better, even, motion), torch.where(better, other, own)


def _with_fast(motion: Tensor, unrest: Tensor, pyramid: dict[int, Tensor], light: Tensor) -> Tensor:
    """The motion, replaced by that of FAST things where rates clearly change less along that.

    unrest: how much they change along the motion, (B, 1, h, w).
    """
    velocity, fast, new = _leap(_near(pyramid[CELLS[-1]], PURSUIT[0].span), motion, light)
    # Single ones are found by chance. What lies outside counts, or a corner's would decide alone.
    sure = F.avg_pool2d(new, CLUSTER, 1, CLUSTER // 2).amax((2, 3), keepdim=True) > MANY
    near = sure & (_smooth(fast, AROUND) > MANY)
    if _none(near):
        return motion
    path = _path(*_affine(velocity, fast, 0.5))
    for search in PURSUIT:
        seen = _near(pyramid[search.size], search.span)
        velocity = _corrected(_resized(path, seen), seen, search, light)[:, :2]
        path = _path(*_affine(F.avg_pool2d(velocity, CELLS[-1] // search.size), fast, 0.5))
    path = _resized(path, motion)
    clear = _unrest(path, pyramid[CELLS[0]]) < CLEARLY * unrest
    better = clear & (_resized(near.float(), motion) > 0.5)
    if _none(better):
        return motion
    return torch.where(better, path, F.pad(motion, (0, 0, 0, 0, 0, path.shape[1] - motion.shape[1])))


def _none(mask: Tensor) -> bool:
    """Whether it is known to be true nowhere. A GPU is not waited for: it has gone on sooner than it could tell."""
    return mask.device.type == "cpu" and not bool(mask.any())


def _resized(x: Tensor, to: Tensor) -> Tensor:
    return F.interpolate(x, to.shape[2:], mode="bilinear", align_corners=False) if x.shape[2:] != to.shape[2:] else x


@functools.cache
@torch.inference_mode(False)
def _leaps(device: torch.device) -> tuple[Tensor, Tensor, int]:
    """Velocities up to FASTEST (V, 2), the slowest first; by how many of the largest cells things have moved by them at
    the instants of a search's bins (T, V, 2); and how many of them are not FAST."""
    steps = LEAP * torch.arange(-round(FASTEST / LEAP), round(FASTEST / LEAP) + 1)
    velocities = torch.cartesian_prod(steps, steps)
    speeds, order = velocities.norm(dim=1).sort(stable=True)
    velocities = velocities[order][speeds < FASTEST + LEAP / 2]
    times, _, _ = _courses(PURSUIT[0], velocities.device)
    shifts = (velocities * times.view(-1, 1, 1) / CELLS[-1]).round().long()
    return velocities.to(device), shifts.to(device), int((speeds <= FAST).sum())


def _leap(seen: Tensor, motion: Tensor, light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The FAST velocity by which rates change least, where they clearly change less than by any slower velocity, and
    where they change less than along the motion as well.

    seen: (B, T, h, w), in the largest cells. light: their mean in spikes per plane, (B, 1, 1, 1). Returns pixels x, y
    a plane, (B, 2, h, w), and twice 1.0 or 0.0, (B, 1, h, w).
    """
    velocities, leaps, slow = _leaps(seen.device)
    reach = round(FASTEST * PURSUIT[0].span / CELLS[-1])
    padded = F.pad(seen, (reach, reach, reach, reach), mode="replicate")
    places = padded.unfold(2, seen.shape[2], 1).unfold(3, seen.shape[3], 1)  # (B, T, y, x, h, w)
    instants = torch.arange(len(leaps), device=seen.device)[:, None]
    moved = places[:, instants, leaps[..., 1] + reach, leaps[..., 0] + reach]  # (B, T, V, h, w)
    change = (moved - moved.mean(1, keepdim=True)).abs().mean(1)  # (B, V, h, w)
    _, along, _, bins = _along(_resized(motion, seen), seen, PURSUIT[0])
    change = torch.cat([along.abs().sum(1, keepdim=True) / bins, change], 1)
    change = F.avg_pool2d(change, 3, 1, 1, count_include_pad=False)
    along, slower, faster = change.split([1, slow, len(velocities) - slow], 1)
    least, which = faster.min(1, keepdim=True)
    least = least + 0.003 / light  # noise, as the least of so many is small by chance
    fast = least < CLEARLY * slower.amin(1, keepdim=True)
    return velocities[slow:][which[:, 0]].movedim(-1, 1), fast.float(), (fast & (least < 1.3 * along)).float()


def _affine(field: Tensor, weights: Tensor, doubt: float) -> tuple[Tensor, Tensor]:
    """What most of a field agrees on around every place, where it is affine in place.

    field: (B, C, h, w) in the largest cells, velocity x, y first. weights: (B, 1, h, w). doubt: pixels a plane by which
    those that agree differ. Returns the field (B, C, h, w) and its derivatives by place, x and y, (B, C, 2, h, w).
    """
    channels = field.shape[1]
    cells = (torch.arange(size, device=field.device) - (size - 1) / 2 for size in field.shape[:1:-1])
    place = CELLS[-1] * torch.stack(torch.meshgrid(*cells, indexing="xy")).expand(len(field), -1, -1, -1)
    products = [(each[:, :, None] * place[:, None]).flatten(1, 2) for each in (place, field)]
    terms = torch.cat([torch.ones_like(weights), place, field, *products], 1)
    ridge = CELLS[-1] ** 2 * torch.eye(2, device=field.device)[..., None, None] / 10
    say = weights
    for _ in range(4):
        sums = _smooth(say * terms, AROUND)
        means = sums[:, 1:] / sums[:, :1].clamp(min=1e-4)
        middle, mean, spread, slope = means.split([2, channels, 4, 2 * channels], 1)
        spread = spread.unflatten(1, (2, 2)) - middle[:, :, None] * middle[:, None] + ridge
        slope = slope.unflatten(1, (channels, 2)) - mean[:, :, None] * middle[:, None]
        (xx, xy), (_, yy) = (row.unbind(1) for row in spread.unbind(1))
        slope = _product(slope, torch.stack([yy, -xy, -xy, xx], 1).unflatten(1, (2, 2)))
        slope = slope / (xx * yy - xy * xy)[:, None, None]
        around = mean + _product(slope, (place - middle)[:, :, None])[:, :, 0]
        apart = (field - around)[:, :2].square().sum(1, keepdim=True)
        say = weights / (1 + apart / doubt**2).square()
    return around, slope


def _path(velocity: Tensor, slope: Tensor) -> Tensor:
    """Derivatives by time, (B, 2 TERMS, h, w), of what moves with a velocity that is affine in place."""
    slope = slope.clamp(-0.1, 0.1)
    derivatives = [_limited(velocity, FASTEST)]
    while len(derivatives) < TERMS:
        derivatives.append(_product(slope, derivatives[-1][:, :, None])[:, :, 0])
    return torch.cat(derivatives, 1)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix products at every pixel: (B, I, J, h, w) and (B, J, K, h, w) to (B, I, K, h, w)."""
    return (left[:, :, :, None] * right[:, None]).sum(2)


def _unrest(motion: Tensor, cells: Tensor) -> Tensor:
    """How much rates (B, T, h, w) near the middle still change along the motion: their variance (B, 1, h, w)."""
    search = Search(CELLS[0], 20)
    _, change, _, bins = _along(motion, _near(cells, search.span), search)
    variance = change.square().sum(1, keepdim=True) / bins
    return _smooth(variance.masked_fill(bins < 2, 1e3), 2.0)


def displacement(motion: Tensor, times: Tensor) -> Tensor:
    """Pixels x, y, (B, T, 2, h, w), between where things are at a window's middle and some planes later.

    motion: (B, 2 N, h, w), as of `motion_field`. times: (T,), in planes.
    """
    t = times.view(-1, 1, 1, 1)
    derivatives = motion[:, None].split(2, 2)
    moved = torch.zeros_like(derivatives[0])
    for order in range(len(derivatives), 0, -1):
        moved = (moved + derivatives[order - 1]) * (t / order)
    return moved


@functools.cache
@torch.inference_mode(False)
def _courses(search: Search, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What a search goes by: the instants of its bins, in planes from the middle (T,); the course that rates take over
    them where something is faster, and where it accelerates more, than thought, (C, T, 1, 1), C = 1 or 2; and the
    squares of each course without its mean, summed (C, 1, 1)."""
    times = torch.arange(BIN / 2 - search.span, search.span, BIN, device=device)
    courses = torch.stack([times, times * times / 2] if search.accelerating else [times])[..., None, None]
    return times, courses, (courses - courses.mean(1, keepdim=True)).square().sum(1)


def _along(motion: Tensor, seen: Tensor, search: Search) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rates (B, T, h, w) in the search's cells as they are along the motion: their mean (B, 1, h, w), what they differ
    from it by (B, T, h, w), how much of each is in view (B, T, h, w), and how many are (B, 1, h, w), at least half a
    one. What has left the picture has no say."""
    batch, count, height, width = seen.shape
    own, pixel = places_of(height, width, seen.device)
    times, _, _ = _courses(search, seen.device)
    places = own + (displacement(motion, times) * (pixel / search.size)).flatten(0, 1)
    there = torch.stack([seen, torch.ones_like(seen)], 2).flatten(0, 1)
    moved = joined_strips(fetched(there, places, "zeros"), batch * count, seen.dtype)
    moved, view = moved.view(batch, count, 2, height, width).unbind(2)
    bins = view.sum(1, keepdim=True).clamp(min=0.5)
    mean = moved.sum(1, keepdim=True) / bins
    return mean, moved - view * mean, view, bins


def _corrected(motion: Tensor, seen: Tensor, search: Search, light: Tensor) -> Tensor:
    """The motion, better by a step of Lucas and Kanade's: how rates still change along it tells what it lacks.

    motion: (B, 2 N, h, w). seen: rates (B, T, h, w) in the search's cells. light: their mean in spikes per plane,
    (B, 1, 1, 1). Returns velocity and acceleration, (B, 4, h, w).
    """
    noise = 6e-4 + 0.03 / (light * 2 * search.span * search.size**2)  # squared slope of what is no texture
    _, courses, whole = _courses(search, seen.device)
    mean, change, view, bins = _along(motion, seen, search)
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
    velocity, acceleration = motion[:, :2], motion[:, 2:4]
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
        # Contiguous, or a GPU would take a path that rounds to 10 bits (TF32), and the search finds something else.
        maps = F.conv1d(maps.contiguous(), weights.expand(lines, 1, -1), groups=lines).transpose(1, 2)
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
