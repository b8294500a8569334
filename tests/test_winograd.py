"""Winograd's convolutions: the results of plain ones."""

import pytest
import torch
from torch import nn

from spikerecon import winograd
from spikerecon.network import STIR, StirConfig, conv_prelu
from spikerecon.winograd import (
    LEAST_GAIN,
    LEAST_GAIN_OF_GRADIENTS,
    LearntConvolution,
    WinogradConvolution,
    quickened,
)

MANY, SOME = 2 * LEAST_GAIN, 2 * LEAST_GAIN_OF_GRADIENTS  # channels


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (13, 30), (40, 402), (5, 410)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_plain_convolution(size, memory_format):
    torch.manual_seed(0)
    conv = nn.Conv2d(MANY + 3, MANY + 5, 3, padding=1)
    x = torch.randn(2, MANY + 3, *size).to(memory_format=memory_format)
    with torch.inference_mode():
        found, expected = WinogradConvolution(conv)(x), conv(x)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)  # or what comes next would copy it
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("slopes", [1, MANY])
def test_it_takes_an_activation_along(slopes):
    torch.manual_seed(0)
    layers = nn.Sequential(conv_prelu(MANY, MANY, slopes=slopes))
    layers[0][1].weight.data.uniform_(-1, 1)
    x = torch.randn(1, MANY, 20, 20)
    quick = quickened(layers)
    assert isinstance(quick[0], WinogradConvolution)
    with torch.inference_mode():
        assert (quick(x) - layers(x)).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (13, 50), (40, 50), (40, 402)])
@pytest.mark.parametrize("channels", [SOME, MANY])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_plain_convolution(size, channels, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(channels + 3, channels + 5, 3, padding=1, bias=bias)
    x = torch.randn(2, channels + 3, *size, requires_grad=True)
    towards = torch.randn(2, channels + 5, *size)
    found, expected = LearntConvolution(conv)(x), conv(x)
    assert (found - expected).abs().max() < 1e-4
    found, expected = (torch.autograd.grad((y * towards).sum(), [x, *conv.parameters()]) for y in (found, expected))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 1e-4 * max(1, other.abs().max())


@pytest.mark.parametrize(
    ("channels", "size", "pictures", "gradients"),
    [(MANY, 48, 2, 1), (MANY, 40, 0, 1), (MANY, 24, 0, 0), (SOME, 48, 0, 1), (SOME, 24, 0, 0)],
)
def test_each_part_of_learning_goes_the_way_that_is_quicker_there(channels, size, pictures, gradients, monkeypatch):
    """Pictures, there and back, where they are large and channels many; the kernel's gradients sooner."""
    calls = []

    def counted(name):
        way = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *given: (calls.append(name), way(*given))[1])

    counted("convolve")
    counted("weight_gradient")
    (conv,) = quickened(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)), learning=True)
    conv(torch.randn(1, channels, size, size, requires_grad=True)).sum().backward()
    assert (calls.count("convolve"), calls.count("weight_gradient")) == (pictures, gradients)


def test_a_network_learns_the_same_from_quick_gradients():
    torch.manual_seed(0)
    network = STIR(StirConfig(follow=True)).train()
    quick = quickened(network, learning=True)
    assert sum(isinstance(module, LearntConvolution) for module in quick.modules()) > 12
    window = (torch.rand(2, 60, 64, 96) < 0.3).float()
    gradients = []
    for one in (network, quick):
        network.zero_grad()
        sum(image.square().mean() for image in one(window)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    plain, quick_ones = gradients
    assert (quick_ones - plain).norm() < 1e-4 * plain.norm()
    assert network.embedding.bn1.num_batches_tracked == 2  # statistics are shared too


def test_a_quick_network_draws_the_same_and_shares_what_it_can():
    torch.manual_seed(0)
    network = STIR(StirConfig(follow=True)).eval()
    quick = quickened(network)
    replaced = [module for module in quick.modules() if isinstance(module, WinogradConvolution)]
    assert len(replaced) >= 8
    assert not any(isinstance(module, WinogradConvolution) for module in network.modules())
    own = {parameter.data_ptr() for parameter in network.parameters()}
    assert all(parameter.data_ptr() in own for parameter in quick.parameters())
    window = (torch.rand(1, 60, 48, 80) < 0.3).float()
    with torch.inference_mode():
        assert (quick.reconstruct(window) - network.reconstruct(window)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(MANY, MANY, 1),
        nn.Conv2d(MANY, MANY, 3),
        nn.Conv2d(MANY, MANY, 3, stride=2, padding=1),
        nn.Conv2d(MANY, MANY, 3, padding=1, groups=2),
        nn.Conv2d(MANY, MANY - 1, 3, padding=1),
    ],
)
def test_other_convolutions_stay(conv):
    assert quickened(nn.Sequential(conv))[0].__class__ is nn.Conv2d


def test_convolutions_of_few_channels_stay_in_training():
    conv = nn.Conv2d(SOME, SOME - 1, 3, padding=1)
    assert quickened(nn.Sequential(conv), learning=True)[0].__class__ is nn.Conv2d
