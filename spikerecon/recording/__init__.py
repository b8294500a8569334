"""Recordings of spike cameras: open one in any known layout, look at it, write one.

`packed` planes are row-major bit streams with the lowest bit first: pixel p of a plane is bit `p % 8` of byte
`p // 8`, 1 where the pixel fired. Other layouts are described where they are read. Only `npz` tells its size: elsewhere
layout and size come from the caller, from row trailers, from the byte count, or from the content (see
`open_recording`).

Inside the package a recording is passed on as *packed rows*: uint8 (planes, height, ceil(width / 8)), each
pixel row padded with zeros to whole bytes, rows upright.
"""

from spikerecon.recording.flaws import Flaws, find_flaws, flaws_in, flaws_of_flat
from spikerecon.recording.layouts import (
    MIN_PLANES,
    Bytes,
    pack,
    parse_crop,
    parse_size,
    unpack,
)
from spikerecon.recording.opening import Recording, from_rows, is_npz, open_recording
from spikerecon.recording.rates import (
    auto_gain,
    auto_merge,
    rate_over_time,
    rate_summary,
    spike_counts,
)
from spikerecon.recording.views import cropped, mended
from spikerecon.recording.writing import check_recording, write_recording

__all__ = [
    "MIN_PLANES",
    "Bytes",
    "Flaws",
    "Recording",
    "auto_gain",
    "auto_merge",
    "check_recording",
    "cropped",
    "find_flaws",
    "flaws_in",
    "flaws_of_flat",
    "from_rows",
    "is_npz",
    "mended",
    "open_recording",
    "pack",
    "parse_crop",
    "parse_size",
    "rate_over_time",
    "rate_summary",
    "spike_counts",
    "unpack",
    "write_recording",
]
