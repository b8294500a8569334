"""TFP and TFI by hand."""

import pytest
import torch

from spikerecon.classical import tfi, tfp


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


def test_tfi_of_a_pixel_that_never_fires_is_dark():
    assert tfi(pixel("00000|00000"), 5).item() == 0


def test_both_give_the_rate_of_constant_light():
    phase = torch.rand(1, 1, 20, 20)
    charge = phase + 0.25 * torch.arange(1, 61).view(1, -1, 1, 1)
    spikes = charge.floor().diff(dim=1, prepend=phase.floor())
    assert torch.allclose(tfi(spikes, 30), torch.tensor(0.25))
    assert torch.allclose(tfp(spikes), torch.tensor(0.25), atol=1 / 60)
