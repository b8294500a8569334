"""How good a picture is, with intensities in [0, 1]: PSNR and SSIM, and measures that a library has models for."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikerecon.errors import OutputError, UsageError
from spikerecon.names import MODELLED

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
K1, K2 = 0.01, 0.03


def psnr(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB, with a peak of 1; infinite for equal pictures.

    Both are of shape (height, width), or in colour (height, width, 3), with intensities in [0, 1]: clip before.
    Raises UsageError if the shapes differ.
    """
    prediction, truth = _pair(prediction, truth)
    error = float(np.mean((prediction - truth) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Mean structural similarity (Wang et al., IEEE TIP 2004); 1 for equal pictures.

    The published settings: an 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, dynamic range 1,
    population moments, and the mean over the positions where the window lies wholly inside the picture.

    Both are of shape (height, width), or in colour (height, width, 3), where it is the mean of the three; with
    intensities in [0, 1]: clip before. Raises UsageError if the shapes differ or the picture is smaller than the
    window.
    """
    x, y = _pair(prediction, truth)
    if x.ndim == 3:
        return float(np.mean([ssim(x[..., i], y[..., i]) for i in range(3)]))
    if min(x.shape) < WINDOW_SIZE:
        size = f"{x.shape[1]}x{x.shape[0]}"
        raise UsageError(f"a picture of {size} pixels is too small for SSIM: {WINDOW_SIZE}x{WINDOW_SIZE} or more")
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(np.stack([x, y, x * x, y * y, x * y]))
    variance_x = mean_xx - mean_x**2
    variance_y = mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure))


def modelled(name: str) -> Callable[[ArrayLike, ArrayLike], float]:
    """The measure of a name in `MODELLED`, of pictures as `psnr` takes them; the lower, the better.

    LPIPS (Zhang et al., CVPR 2018, on AlexNet) compares with the truth. NIQE (Mittal et al., SPL 2013) and BRISQUE
    (Mittal et al., TIP 2012) look at the prediction alone. pyiqa computes them, and fetches their models when they are
    first used. Raises UsageError for another name, OutputError where pyiqa or a model cannot be had; measuring raises
    UsageError for a picture that it cannot be measured of.
    """
    if name not in MODELLED:
        raise UsageError(f"unknown measure '{name}': choose {', '.join(MODELLED)}")
    try:
        import pyiqa
    except Exception as error:  # torchvision, which it needs, of another torch, say
        if isinstance(error, ModuleNotFoundError) and error.name == "pyiqa":
            raise OutputError(f"{name} needs pyiqa: pip install 'spikerecon[quality]'") from None
        raise OutputError(f"{name} needs pyiqa, which does not start here: {error}") from error
    try:
        with redirect_stdout(io.StringIO()):  # it prints what it loads
            metric = pyiqa.create_metric(name, device="cpu")
    except Exception as error:  # whatever it meets on the network
        raise OutputError(f"{name}: pyiqa could not get its model: {error}") from error
    import torch

    def measure(prediction: ArrayLike, truth: ArrayLike) -> float:
        pictures = [torch.from_numpy(np.atleast_3d(picture)) for picture in _pair(prediction, truth)]
        inputs = [picture.movedim(-1, 0)[None].float().expand(-1, 3, -1, -1) for picture in pictures]
        try:
            with torch.inference_mode():
                return float(metric(*inputs))
        except (RuntimeError, ValueError, AssertionError) as error:  # pictures that are too small for it, say
            size = "x".join(map(str, inputs[0].shape[:1:-1]))
            reason = " ".join(str(error).split())
            raise UsageError(f"{name} cannot be measured of a picture of {size} pixels: {reason}") from error

    return measure


def _pair(prediction: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    if x.shape != y.shape or (x.ndim != 2 and x.shape[2:] != (3,)):
        expected = "the picture and its truth must be of one shape (height, width), in colour (height, width, 3)"
        raise UsageError(f"{expected}, not {x.shape} and {y.shape}")
    return x, y


def _blur(images: NDArray[np.float64]) -> NDArray[Any]:
    """Gaussian window over the last two axes, which shrink by its size less one."""
    offsets = np.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
    weights = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    weights /= weights.sum()
    height, width = (size - WINDOW_SIZE + 1 for size in images.shape[-2:])
    rows = sum(w * images[..., i : i + height, :] for i, w in enumerate(weights))
    return np.asarray(sum(w * rows[..., i : i + width] for i, w in enumerate(weights)))
