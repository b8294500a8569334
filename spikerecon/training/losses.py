"""What training makes small (paper, section 4.6)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikerecon.checkpoint import read_pth, read_safetensors
from spikerecon.errors import WeightsError

PERCEPTUAL_SHARE = 0.2  # lambda of equation 7
MOTION_SHARE = 0.006
COARSE_MOTION_SHARE = 0.01  # of `motion_error`, while the finest level is left out


def stir_loss(images: list[Tensor], truth: Tensor, full_scale: Tensor) -> Tensor:
    """Reconstruction and multi-scale loss (equations 7, 8 and 10; without the perceptual term).

    images: levels l to L, finest first, unclamped. truth: (B, 1, H, W) in the pictures' units. full_scale: (B,), the
    brightest value a scene can have: dark scenes weigh more, by its root, or bright ones would be all that is learnt.
    """
    weight = full_scale.rsqrt()[:, None, None, None]
    total = truth.new_zeros(())
    finer_levels = _shrinkage(images[-1], truth).bit_length() - 1
    for image in images:
        factor = _shrinkage(image, truth)
        target = F.avg_pool2d(truth, factor)
        share = 1.0 if factor == 1 else 1 / (factor * finer_levels)
        total = total + share * (weight * (image.float() - target).abs()).mean()
    return total


def motion_error(motions: list[Tensor], truth: Tensor) -> Tensor:
    """How far motions (of any levels) are from the true one (B, 4, H, W): mean absolute difference in its pixels.

    Simulated scenes know their motion. Pictures alone do not teach it in the time a training has: a warp helps only
    where it is right to a pixel or so.
    """
    return torch.stack([_motion_errors(motion, truth).abs().mean() for motion in motions]).mean()


def motion_loss(motions: list[Tensor], truth: Tensor) -> Tensor:
    """Mean root of how far motions are from the true one, for when they are roughly learnt.

    The root asks more of what is nearly right than of what nothing shows (in the dark, on plain ground), which would
    drown the pictures' say.
    """
    return torch.stack([(_motion_errors(m, truth).square() + 0.01).pow(0.25).mean() for m in motions]).mean()


def _motion_errors(motion: Tensor, truth: Tensor) -> Tensor:
    """Of every group of motions (B, 4 G, h, w)."""
    factor = _shrinkage(motion, truth)
    return factor * motion.unflatten(1, (-1, 4)) - F.avg_pool2d(truth, factor)[:, None]


def _shrinkage(coarse: Tensor, fine: Tensor) -> int:
    return fine.shape[-1] // coarse.shape[-1]


class PerceptualLoss(nn.Module):
    """Distance between VGG-16 features of two pictures (equation 9), from a user's weights.

    file: a state dict of VGG-16 with names as in torchvision (`features.0.weight`, ...), `.pth` or `.safetensors`. The
    features are those after the third block's last activation, of pictures scaled to [0, 1]. Raises WeightsError where
    the file is missing, unsafe to load, or holds something else.
    """

    mean: Tensor
    spread: Tensor
    CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256)  # 0: halve the size

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in self.CHANNELS:
            if outputs:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        wanted = self.state_dict()
        file = Path(file)
        if not file.is_file():
            raise WeightsError(f"no such file: {file}")
        state = read_safetensors(file)[0] if file.suffix == ".safetensors" else read_pth(file)
        try:
            self.load_state_dict({key: state[key] for key in wanted})
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"{file} does not hold the weights of a VGG-16: {error}") from None
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """Mean squared distance for pictures (B, 1, H, W) in [0, 1]."""
        features = [self.features((x.expand(-1, 3, -1, -1) - self.mean) / self.spread) for x in (image, truth)]
        return F.mse_loss(features[0].float(), features[1].float())
