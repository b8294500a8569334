"""Recordings of spike cameras: open one in any known layout, look at it, write one.

All layouts here are row-major bit streams with the lowest bit first: pixel p of a plane is bit `p % 8` of
byte `p // 8`, 1 where the pixel fired. Files have no header, so layout and size come from the caller, from
row trailers, from the byte count, or from the content (see `open_recording`).

Inside the package a recording is passed on as *packed rows*: uint8 (planes, height, ceil(width / 8)), each
pixel row padded with zeros to whole bytes, rows upright.
"""

from spikerecon.recording.flaws import Flaws, find_flaws, flaws_in, flaws_of_flat
from spikerecon.recording.layouts import (
    LAYOUT_NAMES,
    LAYOUTS,
    MIN_PLANES,
    Bytes,
    Crop,
    Layout,
    Size,
    pack,
    parse_crop,
    parse_size,
    unpack,
)
from spikerecon.recording.opening import Recording, from_rows, is_npz, open_recording
from spikerecon.recording.rates import (
    GOOD_RATE,
    RateSummary,
    auto_gain,
    auto_merge,
    rate_over_time,
    rate_summary,
    spike_counts,
)
from spikerecon.recording.views import cropped, mended
from spikerecon.recording.writing import check_recording, write_recording

__all__ = [
    "GOOD_RATE",
    "LAYOUTS",
    "LAYOUT_NAMES",
    "MIN_PLANES",
    "Bytes",
    "Crop",
    "Flaws",
    "Layout",
    "RateSummary",
    "Recording",
    "Size",
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
