"""What turns gradients into steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikerecon.network import STIR

WEIGHT_DECAY = 1e-4
SMALLEST_KERNEL = 8, 32  # outputs and values each; smaller ones have too few directions to even out


class KernelOptimizer:
    """Muon for the kernels of convolutions, AdamW for everything else.

    Muon (Jordan et al., 2024) makes all directions of a kernel's step equally long, and with steps as long as AdamW's
    (Liu et al., 2025) both take one learning rate. It reaches a given loss here in about half of AdamW's steps.
    Kernels that take motions, in pixels, beside features around 1 step as if those were as small (`motion_scales`).
    The network's parameters must not be moved to another device or memory format afterwards.
    """

    def __init__(self, network: STIR, rate: float) -> None:
        outputs, values = SMALLEST_KERNEL
        parameters = list(network.parameters())
        self.kernels = [p for p in parameters if p.dim() == 4 and p.shape[0] >= outputs and p[0].numel() >= values]
        others = [p for p in parameters if all(p is not kernel for kernel in self.kernels)]
        scales = {id(kernel): scale for kernel, scale in motion_scales(network)}
        self.scales = [scales.get(id(kernel)) for kernel in self.kernels]
        assert all(_rows(kernel).data_ptr() == kernel.data_ptr() for kernel in self.kernels), "not channels-last"
        # Muon takes matrices: a row an output, sharing memory with the kernel, but for scaled ones.
        self.matrices = [
            nn.Parameter(_rows(kernel.detach() if scale is None else kernel / scale))
            for kernel, scale in zip(self.kernels, self.scales, strict=True)
        ]
        self.parts: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(others, lr=rate, weight_decay=WEIGHT_DECAY),
            "muon": torch.optim.Muon(self.matrices, lr=rate, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the network by its gradients, at a learning rate."""
        for matrix, kernel, scale in zip(self.matrices, self.kernels, self.scales, strict=True):
            gradient = kernel.grad
            if gradient is not None and scale is not None:
                gradient = gradient * scale
                matrix.copy_(_rows(kernel / scale))
            matrix.grad = None if gradient is None else _rows(gradient)
        for optimizer in self.parts.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        for matrix, kernel, scale in zip(self.matrices, self.kernels, self.scales, strict=True):
            if scale is not None:
                _rows(kernel).copy_(matrix * _rows(scale.expand_as(kernel)))

    def state(self) -> dict[str, Tensor]:
        """Moments, in bfloat16, and step counts, by name."""
        return {
            f"{part}.{index}.{kind}": value.bfloat16() if value.dim() else value
            for part, optimizer in self.parts.items()
            for index, moments in optimizer.state_dict()["state"].items()
            for kind, value in moments.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """What `state` gave. Raises KeyError and ValueError where it does not fit."""
        moments: dict[str, dict[int, dict[str, Tensor]]] = {part: {} for part in self.parts}
        for key, value in state.items():
            part, index, kind = key.split(".")
            moments[part].setdefault(int(index), {})[kind] = value.float()
        for part, optimizer in self.parts.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments[part], "param_groups": groups})


def motion_scales(network: STIR) -> list[tuple[Tensor, Tensor]]:
    """The decoder's kernels (O, I, 3, 3) that take motions, and what each of their inputs counts: (1, I, 1, 1).

    Motions are in pixels, up to 30 at full size: they count as they would at the coarsest level, up to 2.
    """
    found = []
    levels = len(network.middle)
    for height, decoder in enumerate((*network.middle, network.bottom), start=1):
        kernel = decoder.refine.conv1[0].weight
        scale = torch.ones(1, kernel.shape[1], 1, 1, device=kernel.device)
        motions = 4 * network.config.groups if height > levels else 4
        scale[:, -motions:] = 0.5**height  # they come last
        found.append((kernel, scale))
    return found


def _rows(kernel: Tensor) -> Tensor:
    """A kernel (O, I, h, w) as a matrix (O, h w I): a view of one that is channels-last."""
    return kernel.permute(0, 2, 3, 1).reshape(kernel.shape[0], -1)
