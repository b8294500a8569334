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


def stir_loss(images: list[Tensor], truth: Tensor, full_scale: Tensor) -> Tensor:
    """Reconstruction and multi-scale loss (equations 7, 8 and 10; without the perceptual term).

    images: levels 1 to L, unclamped. truth: (B, 1, H, W) in the pictures' units. full_scale: (B,), the brightest
    value a scene can have: dark scenes weigh more, by its root, or bright ones would be all that is learnt.
    """
    weight = full_scale.rsqrt()[:, None, None, None]
    total = truth.new_zeros(())
    for level, image in enumerate(images):
        target = F.avg_pool2d(truth, 2**level) if level else truth
        share = 1.0 if level == 0 else 1 / (2**level * (len(images) - 1))
        total = total + share * (weight * (image.float() - target).abs()).mean()
    return total


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
            said = " ".join(str(error).split())  # torch's has several lines
            raise WeightsError(f"{file} does not hold the weights of a VGG-16: {said}") from None
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """Mean squared distance for pictures (B, 1, H, W) in [0, 1]."""
        features = [self.features((x.expand(-1, 3, -1, -1) - self.mean) / self.spread) for x in (image, truth)]
        return F.mse_loss(features[0].float(), features[1].float())
