"""Motion seen in spikes: its field, and rates that are followed along it."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikerecon import follow as follow_module
from spikerecon.follow import FOLLOWED_CHANNELS, INTERVAL_BOUNDS, SPIKE_BOUNDS, follow
from spikerecon.metrics import psnr
from spikerecon.motion import TERMS, displacement, motion_field
from spikerecon.warp import warp

HEIGHT, WIDTH = 96, 128
SPIKES, INTERVALS = len(SPIKE_BOUNDS) - 1, len(INTERVAL_BOUNDS) - 1


def texture() -> Tensor:
    """Smooth blotches of two sizes, (1, 1, 400, 400), in [0.1, 0.9]."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 1, 40, 40, generator=generator)
    fine = torch.rand(1, 1, 130, 130, generator=generator)
    both = [F.interpolate(each, (400, 400), mode="bicubic", align_corners=False) for each in (coarse, fine)]
    return (0.5 * sum(both)).clamp(0.1, 0.9)


def pixels(height: int, width: int) -> tuple[Tensor, ...]:
    """y and x from the middle."""
    return torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")


def recorded(path, light: float = 0.6, size: tuple[int, int] = (HEIGHT, WIDTH)) -> tuple[Tensor, Tensor]:
    """60 planes (1, 60, H, W) of the texture and its rate at their middle. path: pixel positions (2, H, W) at a time
    to the texture's positions."""
    y, x = pixels(*size)
    times = [*(torch.arange(60) + 0.5 - 30).tolist(), 0.0]
    grid = torch.stack([torch.stack(path(x, y, t), -1) / 200 for t in times])
    seen = light * F.grid_sample(texture().expand(61, -1, -1, -1), grid, align_corners=False)[:, 0]
    phase = torch.rand(size, generator=torch.Generator().manual_seed(1))
    charge = (seen[:60].cumsum(0) + phase).floor()
    return charge.diff(dim=0, prepend=torch.zeros_like(charge[:1]))[None], seen[60]


def turning(spin: float):
    """Radians a plane."""
    return lambda x, y, t: turned(x, y, -spin * t)


def turned(x: Tensor, y: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    c, s = math.cos(angle), math.sin(angle)
    return c * x - s * y, s * x + c * y


def moving(velocity, acceleration=(0.0, 0.0)):
    (u, v), (a, b) = velocity, acceleration
    return lambda x, y, t: (x - u * t - a * t * t / 2, y - v * t - b * t * t / 2)


def followed_rates(planes: Tensor) -> Tensor:
    return next(follow(planes, 1, 20)).rates


def inner(field: Tensor) -> Tensor:
    return field[..., 8:-8, 8:-8]


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (0.2, -0.1), (-0.7, 0.4), (1.2, 0.0)])
@pytest.mark.parametrize("light", [0.6, 0.15])
def test_the_motion_of_a_pan_is_found(velocity, light):
    field = motion_field(recorded(moving(velocity), light)[0])
    assert field.shape == (1, 4, HEIGHT // 2, WIDTH // 2)
    error = inner(field)[0, :2] - torch.tensor(velocity).view(2, 1, 1)
    assert error.norm(dim=0).median() < 0.05
    assert inner(field)[0, 2:].norm(dim=0).median() < 0.006


@pytest.mark.parametrize("velocity", [(1.2, 0.0), (-0.5, 0.9)])
def test_motion_is_found_up_to_the_border(velocity):
    """Where half of the planes have it out of view as well: what has left must not count as standing still."""
    error = motion_field(recorded(moving(velocity))[0])[0, :2] - torch.tensor(velocity).view(2, 1, 1)
    assert error.norm(dim=0).quantile(0.9) < 0.15


def test_motion_that_is_even_is_found_evenly():
    """Where all moves alike, noise of single places has no say: without that the median is 0.010."""
    velocity = (0.2, -0.1)
    field = motion_field(recorded(moving(velocity), 0.15, (192, 240))[0])
    assert (inner(field)[0, :2] - torch.tensor(velocity).view(2, 1, 1)).norm(dim=0).median() < 0.006


def test_acceleration_is_found():
    field = inner(motion_field(recorded(moving((0.3, 0.0), (0.01, -0.01)))[0]))[0]
    assert torch.allclose(field[2:].flatten(1).median(1).values, torch.tensor([0.01, -0.01]), atol=0.004)


def test_what_turns_is_found():
    spin = 0.012
    field = motion_field(recorded(turning(spin))[0])[0]
    y, x = (axis[1::2, 1::2] for axis in pixels(HEIGHT, WIDTH))
    near = (x.abs() < 40) & (y.abs() < 32)
    error = (field[:2] - spin * torch.stack([-y, x])).norm(dim=0)
    assert error[near].median() < 0.06


@pytest.mark.parametrize("velocity", [(2.5, 0.0), (-3.0, 2.0)])
def test_what_is_fast_is_found(velocity):
    coarse = moving(tuple(v / 2 for v in velocity))
    field = motion_field(recorded(lambda x, y, t: coarse(x / 2, y / 2, t), size=(192, 240))[0])
    assert (inner(field)[0, :2] - torch.tensor(velocity).view(2, 1, 1)).norm(dim=0).median() < 0.2


@pytest.mark.parametrize("spin", [0.04, -0.05])
def test_what_turns_fast_is_followed_along_its_arc(spin):
    """A disc before a ground that stands still, with up to half a turn in a window."""
    size, radius = (192, 240), 90

    def disc(x, y, t):
        inside = torch.hypot(x, y) < radius
        return tuple(torch.where(inside, *both) / 2 for both in zip(turning(spin)(x, y, t), (x, y), strict=True))

    planes, rate = recorded(disc, size=size)
    field = motion_field(planes)
    y, x = (axis[1::2, 1::2] for axis in pixels(*size))
    distance = torch.hypot(x, y)
    moving, still = (distance > 20) & (distance < radius - 8), distance > radius + 8
    for time in (-15.0, 15.0):
        moved = displacement(field, torch.tensor([time]))[0, 0]
        expected = torch.stack(turned(x, y, spin * time)) - torch.stack([x, y])
        assert (moved - expected).norm(dim=0)[moving].median() < 1.0
        assert moved.norm(dim=0)[still].median() < 0.5
    spikes = followed_rates(planes)[0, :SPIKES].mean(0)
    error = {"followed": spikes - rate, **{begin: planes[0, begin : 60 - begin].mean(0) - rate for begin in (20, 26)}}
    moving = moving.repeat_interleave(2, 0).repeat_interleave(2, 1)
    squares = {name: each[moving].square().mean() for name, each in error.items()}
    assert squares["followed"] < 0.3 * min(squares[20], squares[26])


def test_noise_is_not_fast():
    """In the least of so many changes there is always one that is small by chance."""
    for light in (0.3, 0.05):
        planes, _ = recorded(moving((0.1, 0.0)), light)
        assert motion_field(planes).shape[1] == 4


def test_nothing_moves_where_nothing_fires():
    for planes in (torch.zeros(2, 60, 32, 32), torch.ones(2, 60, 32, 32, dtype=torch.uint8)):
        assert motion_field(planes).abs().max() < 1e-4
        assert torch.isfinite(followed_rates(planes)).all()


def test_rates_of_what_stands_still_are_means_of_its_planes():
    planes, rate = recorded(moving((0.0, 0.0)))
    followed = followed_rates(planes)
    assert followed.shape == (1, FOLLOWED_CHANNELS, HEIGHT, WIDTH)
    assert followed.dtype == torch.float32
    for i, (begin, end) in enumerate(itertools.pairwise(SPIKE_BOUNDS)):
        mean = planes[0, begin:end].mean(0)
        assert (followed[0, i] - mean).abs().mean() < 0.02
    for channel in (SPIKES + 3, SPIKES + INTERVALS, SPIKES + INTERVALS + 1):
        assert (followed[0, channel] - rate).abs().mean() < 0.05


@pytest.mark.parametrize("velocity", [(0.8, 0.3), (0.0, -1.2)])
def test_rates_are_followed_along_the_motion(velocity):
    planes, rate = recorded(moving(velocity))
    followed = followed_rates(planes)[0]
    spikes, intervals = followed[:SPIKES].mean(0), followed[SPIKES : SPIKES + INTERVALS].mean(0)

    def quality(picture: Tensor) -> float:
        middle = np.s_[24:-24, 40:-40]  # what stays in the picture all the time
        return psnr(picture.numpy()[middle] / 0.6, rate.numpy()[middle] / 0.6)

    still = max(quality(planes[0, 20:40].mean(0)), quality(planes[0, 10:50].mean(0)))
    assert quality(spikes) > still + 4
    assert quality(intervals) > still + 3
    assert torch.allclose(followed[-2:, 48, 64], torch.tensor(velocity), atol=0.06)


@pytest.mark.parametrize("planes_at_once", [2, 10])
def test_planes_are_followed_one_by_one_or_many_at_once(planes_at_once, monkeypatch):
    """As on a GPU; for several windows as well."""
    windows = torch.cat([recorded(moving(velocity))[0] for velocity in ((0.8, 0.3), (-0.4, 0.0))])
    one_by_one = followed_rates(windows)
    monkeypatch.setattr(follow_module, "CPU_PLANES", planes_at_once)
    assert torch.allclose(followed_rates(windows), one_by_one, atol=1e-5)
    assert torch.allclose(followed_rates(windows[1:]), one_by_one[1:], atol=1e-5)


@pytest.mark.parametrize("velocity", [(0.9, 0.0), (-0.6, 0.8)])
def test_intervals_are_those_of_the_middle(velocity):
    """Not of half a plane before it, as spikes come late by that."""
    planes, _ = recorded(moving(velocity))
    intervals = followed_rates(planes)[0, SPIKES : SPIKES + INTERVALS].mean(0)[24:-24, 40:-40]
    error = {}
    for late in (-0.5, 0.0, 0.5):
        _, shifted = recorded(lambda x, y, t, late=late: moving(velocity)(x, y, t + late))
        error[late] = (intervals - shifted[24:-24, 40:-40]).square().mean()
    assert min(error, key=error.get) == 0
    # The same in both directions: the least of a parabola through the three lies at the middle.
    assert abs(error[0.5] - error[-0.5]) < 0.3 * (error[0.5] + error[-0.5] - 2 * error[0.0])


def test_what_leaves_the_picture_is_not_followed_beyond_it():
    planes, rate = recorded(moving((1.0, 0.0)))
    rates = followed_rates(planes)[0]
    leaving = np.s_[24:-24, -16:-1]  # out of view in the last 14 planes
    for channel in (3, SPIKES + INTERVALS - 1):
        assert (rates[channel] - rate)[leaving].abs().mean() < 0.05


def test_every_level_has_its_own_pixels():
    planes = recorded(moving((0.8, 0.3), (0.004, 0.0)))[0]
    levels = list(follow(planes, 4, 20))
    for level, followed in enumerate(levels):
        size = (HEIGHT >> level, WIDTH >> level)
        assert followed.rates.shape == (1, FOLLOWED_CHANNELS, *size)
        assert followed.motion.shape == (1, 4, *size)
        middle = followed.motion[0, :, size[0] // 2, size[1] // 2] * 2**level
        assert torch.allclose(middle, torch.tensor([-16 + 0.8, -6, 16 + 0.8, 6]), atol=1.0)


def test_displacement_is_that_of_even_acceleration():
    field = torch.tensor([0.5, 0.0, 0.01, -0.02]).view(1, 4, 1, 1)
    assert torch.allclose(displacement(field, torch.tensor([-20, 10])).flatten(), torch.tensor([-8.0, -4.0, 5.5, -1.0]))


def test_displacement_takes_every_derivative():
    """Half a turn: derivatives of a circle's path are its radius, turned by a right angle more each."""
    spin, derivative = 0.05, torch.tensor([1.0, 0.0])
    derivatives = []
    for _ in range(TERMS):
        derivative = spin * torch.stack([-derivative[1], derivative[0]])
        derivatives.append(derivative)
    field = torch.cat(derivatives).view(1, -1, 1, 1)
    for time in (-30.0, -10.0, 20.0):
        moved = displacement(field, torch.tensor([time])).flatten()
        circle = torch.tensor([math.cos(spin * time) - 1, math.sin(spin * time)])
        assert torch.allclose(moved, circle, atol=2e-3)


def test_windows_of_a_batch_do_not_mix():
    """Fast or slow."""
    windows = [recorded(moving(velocity))[0] for velocity in ((0.5, 0.0), (0.0, 0.0), (3.0, 0.0))]
    together = followed_rates(torch.cat(windows))
    for one, alone in zip(together, windows, strict=True):
        assert torch.allclose(one, followed_rates(alone)[0], atol=1e-4)


def test_bytes_and_floats_are_followed_alike():
    planes = recorded(moving((0.4, 0.1)))[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(followed_rates(planes), followed_rates(planes.to(torch.uint8)))
    assert torch.equal(followed_rates(planes), followed_rates(planes.to(torch.uint8)))


def test_warp_fetches_from_where_the_motion_points():
    features = torch.arange(48.0).view(1, 1, 6, 8)
    motion = torch.zeros(1, 2, 6, 8)
    motion[:, 0] = 2  # x
    motion[:, 1] = -1  # y
    (warped,) = warp(features, [motion])
    assert torch.allclose(warped[0, 0, 3, 1], features[0, 0, 2, 3], atol=1e-4)
    assert torch.allclose(warped[0, 0, 0, 7], features[0, 0, 0, 7], atol=1e-4)  # the border is repeated
    both = warp(features, [torch.zeros_like(motion), motion])
    assert torch.allclose(both[0], features, atol=1e-4)
    assert torch.equal(both[1], warped)
