"""First values of a network's weights, from which training is quick."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikerecon.checkpoint import Checkpoint
from spikerecon.follow import FOLLOWED_RATES
from spikerecon.network import BLOCK_STRIDE, EXPLICIT_TRIMS, STIR, BottomDecoder

FOLLOWING_KERNELS = "refine.conv1.0.weight"  # take followed rates in


def prepare_start(network: STIR) -> None:
    """Start training from a network that already draws a blurred picture and sees no motion.

    The published form is kept: only first values are chosen. Motions are doubled in size and value on their way up,
    and level 1 passes the middle block's firing rates on to the picture.
    """
    bottom = network.bottom
    with torch.no_grad():
        for decoder in (network.top, *network.middle):
            predict = cast(nn.Conv2d, decoder.predict)
            predict.weight[:4] *= 0.1
            cast(Tensor, predict.bias)[:4] = 0
        for decoder in (*network.middle, bottom):
            _double(cast(nn.ConvTranspose2d, decoder.up_motion))
        if bottom.groups > 1:
            _double(bottom.up_groups)
            bottom.predict_groups.weight *= 0.1
            cast(Tensor, bottom.predict_groups.bias).zero_()
        bottom.refine.residual.conv2.weight *= 0.1
        cast(Tensor, bottom.predict.bias).zero_()
        if network.config.follow:
            _prepare_filters(bottom)
        if network.config.embedding == "implicit":
            return
        rates = len(EXPLICIT_TRIMS)
        first, second = (cast(nn.Conv2d, conv[0]) for conv in (bottom.refine.conv1, bottom.refine.conv2))
        for rate in range(rates):
            place = 1 + rate  # behind the coarser picture, the middle block's features come first
            first.weight[place] *= 0.1
            first.weight[place, place, 1, 1] += 1
            second.weight[rate] *= 0.1
            second.weight[rate, place, 1, 1] += 1
            bottom.predict.weight[0, rate, 1, 1] += 1 / rates


def following(weights: Checkpoint) -> Checkpoint:
    """The weights in a network that follows motion: pictures of what stands still are the same, until it has learnt.

    Those of 61-plane windows, which cannot follow, come back as they are.
    """
    config = weights.config
    if config.follow or config.block_planes != BLOCK_STRIDE:
        return weights
    config = replace(config, follow=True)
    network = STIR(config)
    _prepare_filters(network.bottom)
    state = {
        key: F.pad(value, (0, 0, 0, 0, 0, config.followed_channels)) if key.endswith(FOLLOWING_KERNELS) else value
        for key, value in weights.state.items()
    }
    return replace(weights, config=config, state=network.state_dict() | state)


@torch.no_grad()
def _prepare_filters(bottom: BottomDecoder) -> None:
    """Filters that pass one of the rates each, and have no share in the picture yet."""
    for place in range(FOLLOWED_RATES):
        bottom.filters.weight[place, place, 2, 2] += 1
    bottom.shares.weight.zero_()
    cast(Tensor, bottom.shares.bias).zero_()


def _double(layer: nn.ConvTranspose2d) -> None:
    """Make a transposed convolution a bilinear doubling of size and of values (motions are in pixels)."""
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    layer.weight *= 0.1
    for channel in range(layer.in_channels):
        layer.weight[channel, channel] += 2 * torch.outer(taps, taps)
    cast(Tensor, layer.bias).zero_()
