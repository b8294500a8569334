"""Single pictures: firing rates to what is shown, PNG files, and picture files back to arrays."""

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from numbers import Real
from pathlib import Path

import numpy as np
from PIL import Image

from spikerecon.errors import OutputError, RecordingError, UsageError
from spikerecon.ffmpeg import Ffmpeg, raw, raw_pictures
from spikerecon.files import appearing, check_file

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MOST = 1e9  # gain and gamma: what float32 still tells apart


def to_uint(rate: np.ndarray, gain: float = 1.0, gamma: float = 1.0, bit_depth: int = 8) -> np.ndarray:
    """Firing rates, float32 of any shape in spikes per plane, to display values, uint8 or uint16.

    The value is `clip(rate * gain, 0, 1) ** (1 / gamma)` of the largest one, rounded to the nearest.
    Raises UsageError if gain or gamma is not above 0, the bit depth is neither 8 nor 16, or a rate is not a number.
    """
    check_levels(gain, gamma)
    if bit_depth not in (8, 16):
        raise UsageError(f"bit depth must be 8 or 16, not {bit_depth}")
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    value = np.clip(rate * np.float32(gain), 0, 1)
    if np.isnan(value).any():
        raise UsageError("a picture has firing rates that are not numbers (NaN)")
    if gamma != 1:
        value **= np.float32(1 / gamma)
    return np.rint(value * np.float32(np.iinfo(dtype).max)).astype(dtype)


def check_levels(gain: float, gamma: float) -> None:
    """Raises UsageError for what `to_uint` does not take."""
    if not (isinstance(gain, Real) and isinstance(gamma, Real)):
        raise UsageError(f"gain and gamma are numbers, not {gain!r} and {gamma!r}: auto_gain measures a gain")
    if not (0 < gain <= _MOST and 1 / _MOST <= gamma <= _MOST):  # also refuses nan
        raise UsageError(f"gain and gamma must be above 0, and no more than {_MOST:g}, not {gain:g} and {gamma:g}")


def write_png(path: str | Path, image: np.ndarray, *, overwrite: bool = False) -> None:
    """Write one picture (height, width), or (height, width, 3) in colour, as a PNG, whole or not at all.

    uint8 makes 8 bit, uint16 makes 16 bit. Raises UsageError if the name is not a .png or `image` is not such a
    picture, OutputError if the file exists and not `overwrite`, or if it cannot be written.
    """
    if (image.ndim != 2 and image.shape[2:] != (3,)) or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise UsageError(f"{path}: {image.dtype} {image.shape} is not a uint8 or uint16 picture")
    check_png(path, overwrite=overwrite)
    save_png(Path(path), image, overwrite)


def check_png(path: str | Path, *, overwrite: bool = False, sources: Iterable[Path] = ()) -> None:
    """Find out before any work whether `write_png` can write to `path`; raises what it would raise.

    It cannot where `path` is one of the `sources`, which are read for it.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"{path}: a single picture is written as .png")
    check_file(Path(path), overwrite, sources=sources)


def save_png(path: Path, image: np.ndarray, overwrite: bool) -> None:
    """`write_png` of what is known to be right."""
    with appearing(path, overwrite) as unfinished:
        if image.ndim == 3 and image.dtype == np.uint16:
            _encode_png(path, unfinished, image)
        else:
            Image.fromarray(image).save(unfinished, format="PNG")


def _encode_png(path: Path, temporary: Path, image: np.ndarray) -> None:
    """By ffmpeg: pillow has no pictures of 16 bit in colour."""
    given = raw_pictures((image.shape[1], image.shape[0]), bit_depth=16, colour=True)
    with Ffmpeg(given, "-i pipe:0 -c:v png -f image2pipe -y", temporary, stdin=subprocess.PIPE) as ffmpeg:
        with suppress(OSError):  # ffmpeg ended; why is in its own words
            ffmpeg.stdin.write(raw(image))
        if complaint := ffmpeg.end():
            raise OutputError(f"{path}: cannot be written: {complaint}")


def pictures_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The picture files in a folder, in the order of their names; with `**/*` also those in folders below."""
    return sorted(file for file in folder.glob(pattern) if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())


def load_picture(path: str | Path) -> Image.Image:
    """A picture of a file, all of it. Raises RecordingError where it cannot be read."""
    try:
        with Image.open(path) as image:
            image.load()
    # A broken one raises any of these, depending on where it is broken.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RecordingError(f"{path}: cannot be read as a picture: {error}") from None
    if image.mode in ("F", "LAB"):  # what is white in floating point is not said; pillow does not convert Lab
        raise RecordingError(f"{path}: is of mode {image.mode}: save it in grey of 8 or 16 bit, or RGB of 8 bit")
    return image


def eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """An image as `mode`, 8 bit a channel. Pillow would cut grey of 16 bit off at 255."""
    if image.mode.startswith("I"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    return image.convert(mode)
