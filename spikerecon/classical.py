"""Methods without learning: a firing rate straight from the spikes around or before an instant.

TFP and TFI look at windows: planes are tensors (B, P, H, W) of 0 and 1, rates float32 (B, H, W), in spikes per plane.
TFSTP keeps a state for each pixel, and is fed plane after plane.
"""

from __future__ import annotations

import torch
from torch import Tensor


def tfp(planes: Tensor) -> Tensor:
    """Texture from playback: the share of planes in which a pixel fired (Zhu et al., ICME 2019).

    Long windows blur what moves, short ones are coarse: P planes tell only P + 1 values apart.
    """
    count = planes.shape[1]
    if planes.dtype == torch.uint8 and count < 256:  # the sum of a window fits, and takes no wider copy
        return planes.sum(1, dtype=torch.uint8).float() / count
    return planes.float().mean(1)


def tfi(planes: Tensor, middle: int) -> Tensor:
    """Texture from inter-spike interval: one over the interval that the instant lies in (Zhu et al., ICME 2019).

    middle: the instant, as the plane that starts then, 0 < middle < P. The interval runs from the last spike before it
    to the first spike from it on. Where one of the two lies outside the planes, the interval is taken to reach
    to just outside them, the shortest that is possible; a pixel that never fires has rate 0.
    """
    count = planes.shape[1]
    length = interval_lengths(planes)[:, middle]
    return torch.where(length <= count, 1.0 / length.float(), 0.0)


def interval_lengths(planes: Tensor) -> Tensor:
    """Planes from spike to spike around every plane, for planes (B, P, H, W): in the smallest type that holds P + 1.

    An interval ends with the plane that fires. Where it begins before the first plane, or ends after the last, it is
    taken to reach to just outside them, the shortest that is possible: P + 1 planes where a pixel never fires.
    """
    quiet = 1 - planes.transpose(0, 1).to(torch.uint8)
    sizes = (torch.uint8, torch.int16, torch.int32)
    quiet = quiet.to(next(size for size in sizes if len(quiet) < torch.iinfo(size).max))
    lengths, ahead = torch.ones_like(quiet), torch.empty_like(quiet)
    # Until and with a plane, and after it: each is one more than its neighbour's where that, or it, is silent.
    for plane in range(1, len(quiet)):
        torch.addcmul(lengths[plane], lengths[plane - 1], quiet[plane - 1], out=lengths[plane])
    ahead[-1] = quiet[-1]
    for plane in range(len(quiet) - 2, -1, -1):
        torch.addcmul(quiet[plane], ahead[plane + 1], quiet[plane], out=ahead[plane])
    lengths += ahead
    return lengths.transpose(0, 1)


class ShortTermPlasticity:
    """Texture from short-term plasticity, TFSTP (Zheng et al., CVPR 2021, and TPAMI 2023), as planes come in.

    A pixel is seen as a synapse. Its release probability u rests at u0 and changes only when the pixel fires, t planes
    after its previous spike:

        u <- u0 + (u + f (1 - u) - u0) exp(-t / F)

    Spikes at an even distance t bring u to a steady value, and solved for 1/t there, the update tells the firing rate:

        rate = -1 / (F ln((u - u0) / (u + f (1 - u) - u0)))

    The state is two numbers a pixel, however many planes have come: `log_excess`, which is ln(u - u0) (u itself has no
    digits for rates below 1/150, and u - u0 none below 1/1000; minus infinity before the second spike), and `since`,
    the planes that have passed without a spike (infinite before the first one). Both are float32 (H, W).

    It differs from the program published with the papers, which has F in the place of f in the second formula, adds
    the rate read from the resources R in the same way, and equalises the histogram. R is left out: u does not depend on
    it, and as it recovers within a plane, the rate read from it jumps with every interval. Under constant light it is
    up to 14 % too high on average, and 31 % off in the root mean square; the one from u 2 % and 7 %.

    As u changes at spikes only, a pixel that has gone dark would stay bright. So the rate is held to one over the
    planes that have passed without a spike, the highest that is still possible: +0.9 to +1.5 dB on the built-in
    scenes. A pixel that has fired once has no interval yet, and gets one over the number of planes.
    """

    REST = 0.15  # u0
    GAIN = 0.15  # f
    RECOVERY = 10.0  # F, in planes

    def __init__(self, height: int, width: int, device: torch.device | str = "cpu") -> None:
        self.log_excess = torch.full((height, width), -torch.inf, device=device)
        self.since = torch.full((height, width), torch.inf, device=device)
        self.planes = 0

    def feed(self, planes: Tensor) -> None:
        """Takes the next planes in, (P, H, W) of 0 and 1."""
        for fired in planes > 0:
            self.since += 1
            excess = self._after_a_spike().sub_(self.since, alpha=1 / self.RECOVERY)
            self.log_excess = torch.where(fired, excess, self.log_excess)
            self.since.masked_fill_(fired, 0)
        self.planes += len(planes)

    def rate(self) -> Tensor:
        """Firing rates at the end of the planes so far, float32 (H, W), from 0 to 1 spikes per plane."""
        rate = -1 / (self.RECOVERY * (self.log_excess - self._after_a_spike()))
        rate = torch.where(self.log_excess > -torch.inf, rate, 1 / max(self.planes, 1))
        return torch.minimum(rate, 1 / self.since).clamp(max=1)

    def _after_a_spike(self) -> Tensor:
        """ln(u + f (1 - u) - u0)"""
        return self.log_excess.exp().mul_(1 - self.GAIN).add_(self.GAIN * (1 - self.REST)).log_()
