"""TFP, TFI and TFSTP by hand."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikerecon.classical import ShortTermPlasticity, interval_lengths, tfi, tfp


def pixel(text: str) -> torch.Tensor:
    """Planes (1, P, 1, 1) of one pixel: '1' where it fires; '|' marks the instant and is no plane."""
    return torch.tensor([float(c) for c in text if c != "|"]).view(1, -1, 1, 1)


def test_tfp_is_the_share_of_planes_with_a_spike():
    assert tfp(pixel("10010")).item() == torch.tensor(0.4).item()
    assert tfp(torch.ones(2, 7, 3, 4)).shape == (2, 3, 4)


def test_tfi_takes_the_interval_around_the_instant():
    assert tfi(pixel("10010|00100"), 5).item() == 1 / 4
    assert tfi(pixel("00001|10000"), 5).item() == 1
    assert tfi(pixel("11111|11111"), 5).item() == 1
    assert tfi(pixel("10000|00001"), 5).item() == pytest.approx(1 / 9)


def test_tfi_of_a_pixel_that_fires_once_reaches_to_just_outside_the_window():
    assert tfi(pixel("00100|00000"), 5).item() == 1 / 8  # plane 2 to plane 10
    assert tfi(pixel("00000|00100"), 5).item() == 1 / 8  # plane -1 to plane 7
    assert tfi(pixel("10000|00000"), 5).item() == pytest.approx(0.1)  # plane 0 to plane 10, the longest


def test_tfi_of_a_pixel_that_never_fires_is_dark():
    assert tfi(pixel("00000|00000"), 5).item() == 0


def test_both_give_the_rate_of_constant_light():
    phase = torch.rand(1, 1, 20, 20)
    charge = phase + 0.25 * torch.arange(1, 61).view(1, -1, 1, 1)
    spikes = charge.floor().diff(dim=1, prepend=phase.floor())
    assert torch.allclose(tfi(spikes, 30), torch.tensor(0.25))
    assert torch.allclose(tfp(spikes), torch.tensor(0.25), atol=1 / 60)


# TFSTP


def fed(planes: torch.Tensor, *cuts: int) -> ShortTermPlasticity:
    """The state after planes (P, H, W), fed in parts."""
    state = ShortTermPlasticity(*planes.shape[1:])
    for part in planes.tensor_split(cuts):
        state.feed(part)
    return state


def by_the_book(spikes: list[float]) -> tuple[float, float]:
    """u and the rate of one pixel, from the equations of the paper."""
    u0, f, recovery = 0.15, 0.15, 10.0
    u, fired = u0, [plane for plane, spike in enumerate(spikes) if spike]
    for previous, plane in pairwise(fired):
        u = u0 + (u + f * (1 - u) - u0) * math.exp(-(plane - previous) / recovery)
    if len(fired) < 2:
        return u, len(fired) / len(spikes)
    rate = -1 / (recovery * math.log((u - u0) / (u + f * (1 - u) - u0)))
    silent = len(spikes) - 1 - fired[-1]
    return u, min(rate, 1 / silent if silent else 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 90))
@settings(max_examples=20, deadline=None)
def test_tfstp_follows_the_equations(seed: int, planes: int):
    chance = torch.linspace(0, 1, 12).view(3, 4)
    spikes = (torch.rand(planes, 3, 4, generator=torch.Generator().manual_seed(seed)) < chance).float()
    state = fed(spikes)
    expected = [by_the_book(pixel.tolist()) for pixel in spikes.flatten(1).T]
    assert torch.allclose(state.log_excess.exp().flatten() + 0.15, torch.tensor([u for u, _ in expected]))
    assert torch.allclose(state.rate().flatten(), torch.tensor([rate for _, rate in expected]), rtol=1e-4)


@given(st.lists(st.integers(0, 60), max_size=8).map(sorted))
@settings(max_examples=20, deadline=None)
def test_tfstp_does_not_depend_on_the_parts_that_it_is_fed(cuts: list[int]):
    spikes = (torch.rand(60, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    whole, parts = fed(spikes), fed(spikes, *cuts)
    assert parts.planes == whole.planes == 60
    for name in ("log_excess", "since"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.05, 0.1, 0.25, 0.4, 0.6, 0.9])
def test_tfstp_gives_the_rate_of_constant_light(rate: float):
    phase = torch.rand(1, 20, 20, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    charge = phase + rate * torch.arange(1, 401).view(-1, 1, 1)
    found = fed(charge.floor().diff(dim=0, prepend=phase.floor())).rate()
    assert found.mean().item() == pytest.approx(rate, rel=0.03)
    assert ((found / rate - 1).abs() < 0.15).all()  # intervals are whole planes


def test_tfstp_of_pixels_with_little_to_go_by():
    assert fed(torch.zeros(0, 1, 1)).rate().item() == 0
    for text, rate in {"0000": 0, "0100": 1 / 4, "0001": 1 / 4, 40 * "1": 1, "01001" + 99 * "0": 1 / 99}.items():
        assert fed(pixel(text)[0]).rate().item() == pytest.approx(rate, rel=1e-3), text


@pytest.mark.parametrize("interval", [900, 1100, 3000])
def test_tfstp_of_pixels_that_hardly_fire(interval: int):
    spikes = torch.zeros(4 * interval, 1, 1)
    spikes[interval - 1 :: interval] = 1
    assert fed(spikes).rate().item() == pytest.approx(1 / interval, rel=1e-3)


def test_interval_lengths_count_from_spike_to_spike():
    planes = torch.tensor([0, 0, 1, 0, 1, 1, 0, 0, 0, 0], dtype=torch.uint8).view(1, 10, 1, 1)
    assert interval_lengths(planes).flatten().tolist() == [3, 3, 3, 2, 2, 1, 5, 5, 5, 5]
    assert interval_lengths(torch.zeros(1, 60, 1, 1)).flatten().tolist() == [61] * 60
    assert interval_lengths(torch.zeros(1, 300, 1, 1)).flatten().tolist() == [301] * 300


@pytest.mark.parametrize("planes", [254, 255, 256, 32766, 32767, 40000])
def test_intervals_of_any_length_are_counted(planes: int):
    assert (interval_lengths(torch.zeros(1, planes, 1, 1)) == planes + 1).all()


@pytest.mark.parametrize("planes", [255, 256, 300])
def test_tfp_of_pixels_that_always_fire(planes: int):
    assert tfp(torch.ones(1, planes, 1, 1, dtype=torch.uint8)).item() == 1
