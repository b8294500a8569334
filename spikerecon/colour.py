"""Colour cameras: each pixel sits behind a red, green or blue filter, in the order of a Bayer pattern.

A pattern names the colours of the top left 2x2 pixels of the upright picture, row by row; they repeat over the whole of
it. The way back to a picture in colour needs colour-demosaicing, which is in the extra `colour`.
"""

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import OutputError, UsageError
from spikerecon.names import BAYER_PATTERNS

_REACH = 8  # pixels around one that its colour is made from


def check_pattern(pattern: str) -> None:
    """Raises UsageError for an unknown pattern."""
    if pattern not in BAYER_PATTERNS:
        raise UsageError(f"unknown Bayer pattern '{pattern}': choose {', '.join(BAYER_PATTERNS)}")


def shifted(pattern: str, left: int, top: int) -> str:
    """The pattern of what is left without the first `left` columns and `top` rows."""
    rows = [pattern[:2], pattern[2:]]
    rows = [row[::-1] if left % 2 else row for row in rows]
    return "".join(rows[::-1] if top % 2 else rows)


def mosaic(picture: NDArray[Any], pattern: str) -> NDArray[Any]:
    """What the pixels of a colour camera see of a picture (height, width, 3), RGB: (height, width).

    Raises UsageError for an unknown pattern, or a picture without colours.
    """
    check_pattern(pattern)
    if picture.shape[2:] != (3,):
        raise UsageError(f"a picture of shape {picture.shape} is not in colour, (height, width, 3)")
    seen = np.empty(picture.shape[:2], picture.dtype)
    for place, colour in enumerate(pattern):
        pixels = np.s_[place // 2 :: 2, place % 2 :: 2]
        seen[pixels] = picture[..., "rgb".index(colour)][pixels]
    return seen


def demosaic(seen: NDArray[np.float32], pattern: str) -> NDArray[np.float32]:
    """Firing rates of a colour camera's pixels, (height, width) in [0, 1], to RGB: float32 (height, width, 3).

    The mean of two ways: the linear filters of Malvar, He and Cutler (ICASSP 2004), which noise harms less, and those
    along edges of Menon, Andriani and Calvagno (IEEE Transactions on Image Processing 2007), which keep detail better.
    Raises UsageError for an unknown pattern and OutputError where colour-demosaicing is missing.
    """
    check_pattern(pattern)
    # Mirrored about its border pixels the pattern goes on; the library itself would break it there.
    padded = np.pad(seen, _REACH, mode="reflect")
    rgb = np.mean([way(padded, pattern.upper()) for way in _ways()], axis=0)[_REACH:-_REACH, _REACH:-_REACH]
    return np.clip(rgb, 0, 1).astype(np.float32)  # they overshoot at edges


def check_demosaic(pattern: str) -> None:
    """Find out before any work whether `demosaic` can do it; raises what it would raise."""
    check_pattern(pattern)
    _ways()


@cache
def _ways() -> list[Callable[..., NDArray[Any]]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells of libraries that it does not find, and of old names
            import colour_demosaicing as ways
    except ImportError:
        raise OutputError("colour needs colour-demosaicing: pip install 'spikerecon[colour]'") from None
    # Menon's last step, refining, sharpens what noise there is, too.
    return [ways.demosaicing_CFA_Bayer_Malvar2004, partial(ways.demosaicing_CFA_Bayer_Menon2007, refining_step=False)]
