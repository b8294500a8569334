"""Recordings seen through something: a part of the picture, flawed pixels mended."""

import operator

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import UsageError
from spikerecon.recording.flaws import Flaws
from spikerecon.recording.layouts import Bytes, Crop, crop_rows
from spikerecon.recording.opening import Recording


def cropped(recording: Recording, crop: Crop) -> Recording:
    """The part (left, top, width, height) of a recording, in pixels of the upright picture; see `Recording.through`.

    Raises UsageError where there is no such part.
    """
    try:
        left, top, width, height = map(operator.index, crop)
    except (TypeError, ValueError):
        raise UsageError(f"crop {crop!r} is not (left, top, width, height) in pixels") from None
    across, down = recording.width - width, recording.height - height
    if min(width, height) < 1 or not (0 <= left <= across and 0 <= top <= down):
        size = f"{recording.width}x{recording.height}"
        raise UsageError(f"crop {left},{top},{width},{height} is no part of a picture of {size}")
    return recording.through(lambda rows: crop_rows(rows, (left, top, width, height)), (width, height))


def mended(recording: Recording, flaws: Flaws) -> Recording:
    """A recording whose flawed pixels fire when their nearest sound neighbours do; see `Recording.through`.

    Neighbours are of the same colour: `flaws.spacing` pixels apart, or a multiple of that. Raises UsageError where
    flaws are those of another size, and where there is no sound pixel.
    """
    size = recording.width, recording.height
    flawed = flaws.dead | flaws.stuck
    if flawed.shape[::-1] != size:
        across, down = flawed.shape[::-1]
        raise UsageError(f"{recording.name}: is {size[0]}x{size[1]}; the flaws are of {across}x{down} pixels")
    if not flawed.any():
        return recording
    to, sound = np.nonzero(flawed), _nearest_sound(flawed, flaws.spacing)
    to_byte, sound_byte = to[1] // 8, sound[1] // 8
    to_bit, sound_bit = (to[1] % 8).astype(np.uint8), (sound[1] % 8).astype(np.uint8)

    def mend(rows: Bytes) -> Bytes:
        rows = rows.copy()
        differ = (rows[:, to[0], to_byte] >> to_bit ^ rows[:, sound[0], sound_byte] >> sound_bit) & np.uint8(1)
        # Several of them may be in one byte: each turns its own bit.
        np.bitwise_xor.at(rows, (slice(None), to[0], to_byte), differ << to_bit)  # type: ignore[arg-type]
        return rows

    return recording.through(mend, size)


def _nearest_sound(flawed: NDArray[np.bool_], spacing: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the nearest sound pixel to each flawed one, in the order of `np.nonzero`.

    Of several at the same distance it is one in the same row if it can be, as rows differ in gain.
    """
    colours = [flawed[row::spacing, column::spacing] for row in range(spacing) for column in range(spacing)]
    if any(colour.size and colour.all() for colour in colours):
        raise UsageError("every pixel is flawed: there is none to mend the others with")
    height, width = flawed.shape
    row, column = np.nonzero(flawed)
    sound_row, sound_column = np.full((2, len(row)), -1)
    reach = 1
    while (sound_row < 0).any():
        steps = range(-reach, reach + 1)
        disc = [(d**2 + a**2, abs(d), d, a) for d in steps for a in steps if d**2 + a**2 <= reach**2]
        for _, _, down, across in sorted(disc):
            left = np.flatnonzero(sound_row < 0)
            y, x = row[left] + spacing * down, column[left] + spacing * across
            there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            left, y, x = left[there], y[there], x[there]
            found = ~flawed[y, x]
            sound_row[left[found]], sound_column[left[found]] = y[found], x[found]
        reach *= 2
    return sound_row, sound_column
