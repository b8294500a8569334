"""Methods without learning: a firing rate straight from the spikes around an instant.

Planes are tensors (B, P, H, W) of 0 and 1; rates come back as float32 (B, H, W), in spikes per plane.
"""

from __future__ import annotations

import torch
from torch import Tensor


def tfp(planes: Tensor) -> Tensor:
    """Texture from playback: the share of planes in which a pixel fired (Zhu et al., ICME 2019).

    Long windows blur what moves, short ones are coarse: P planes tell only P + 1 values apart.
    """
    return planes.float().mean(1)


def tfi(planes: Tensor, middle: int) -> Tensor:
    """Texture from inter-spike interval: one over the interval that the instant lies in (Zhu et al., ICME 2019).

    middle: the instant, as the plane that starts then, 0 < middle < P. The interval runs from the last spike before it
    to the first spike from it on. Where one of the two lies outside the planes, the interval is taken to reach
    to just outside them, the shortest that is possible; a pixel that never fires has rate 0.
    """
    count = planes.shape[1]
    fired = planes > 0
    index = torch.arange(count, device=planes.device).view(1, -1, 1, 1)
    previous = torch.where(fired, index, -1)[:, :middle].amax(1)
    following = torch.where(fired, index, count)[:, middle:].amin(1)
    rate = 1.0 / (following - previous).float()
    return torch.where(fired.any(1), rate, torch.zeros_like(rate))
