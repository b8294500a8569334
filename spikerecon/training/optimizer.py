"""What turns gradients into steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

WEIGHT_DECAY = 1e-4
MOMENTUM = 0.95
SMALLEST_KERNEL = 8, 32  # outputs and values each; smaller ones have too few directions to even out


class KernelOptimizer:
    """Muon for the kernels of convolutions, AdamW for everything else; both take one learning rate.

    It reaches a given loss here in about half of AdamW's steps.
    The network's parameters must not be moved to another device or memory format afterwards.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        outputs, values = SMALLEST_KERNEL
        parameters = list(network.parameters())
        self.kernels = [p for p in parameters if p.dim() == 4 and p.shape[0] >= outputs and p[0].numel() >= values]
        others = [p for p in parameters if all(p is not kernel for kernel in self.kernels)]
        # Muon takes matrices: a row an output, sharing memory with the kernel.
        self.matrices = [nn.Parameter(_rows(kernel.detach())) for kernel in self.kernels]
        assert all(m.data_ptr() == k.data_ptr() for m, k in zip(self.matrices, self.kernels, strict=True))
        self.parts: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(others, lr=rate, weight_decay=WEIGHT_DECAY),
            "muon": Muon(self.matrices, rate),
        }

    def step(self, rate: float) -> None:
        """Change the network by its gradients, at a learning rate."""
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            matrix.grad = None if kernel.grad is None else _rows(kernel.grad)
        for optimizer in self.parts.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

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


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024): all directions of a matrix's step are equally long.

    Steps are as long as AdamW's (Liu et al., 2025). torch.optim.Muon does the same, but in bfloat16 on all devices: on
    a processor that imitates it, that took three quarters of a training step.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], rate: float) -> None:
        super().__init__(matrices, {"lr": rate})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Change the matrices by their gradients, where they have one."""
        for group in self.param_groups:
            rate = group["lr"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                mean = state["momentum_buffer"]
                mean.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(mean, MOMENTUM))
                matrix.mul_(1 - rate * WEIGHT_DECAY).add_(update, alpha=-0.2 * math.sqrt(max(matrix.shape)) * rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix of the same directions, with all singular values near 1 (0.7 to 1.2), but for those that are nothing.

    Five steps of Newton and Schulz's iteration, with the coefficients of Jordan et al. They are polynomials of the
    matrix times its transpose: so they are worked out on that one, which is small and square.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    square = wide @ wide.T
    factor = torch.eye(len(square), device=square.device)
    for _ in range(5):
        now = factor @ square @ factor
        step = torch.addmm(now, now, now, beta=-4.7750, alpha=2.0315)
        step.diagonal().add_(3.4445)
        factor = step @ factor
    found = factor @ wide
    return found.T if tall else found


def _rows(kernel: Tensor) -> Tensor:
    """A kernel (O, I, h, w) as a matrix (O, h w I): a view of one that is channels-last."""
    return kernel.permute(0, 2, 3, 1).reshape(kernel.shape[0], -1)
