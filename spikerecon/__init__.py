"""Pictures and high-frame-rate video from spike camera recordings.

    import spikerecon

    with spikerecon.open_recording("fan.dat") as recording:
        stir = spikerecon.Reconstructor("stir")
        for frame in stir.frames(recording):
            frame.center, frame.rate  # float32 (height, width), spikes per plane
        gain = spikerecon.auto_gain(recording)
        spikerecon.save("fan.mp4", (frame.rate for frame in stir.frames(recording)), gain=gain)

Names are imported when they are first used, so that importing the package alone costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spikerecon.engine import Frame, Reconstructor
    from spikerecon.errors import SpikeReconError
    from spikerecon.pictures import to_uint, write_png
    from spikerecon.recording import (
        Recording,
        auto_gain,
        cropped,
        find_flaws,
        from_rows,
        mended,
        open_recording,
        pack,
        unpack,
    )
    from spikerecon.video import open_writer, save

_HOMES = {
    "Frame": "engine",
    "Reconstructor": "engine",
    "Recording": "recording",
    "SpikeReconError": "errors",
    "auto_gain": "recording",
    "cropped": "recording",
    "find_flaws": "recording",
    "from_rows": "recording",
    "mended": "recording",
    "open_recording": "recording",
    "open_writer": "video",
    "pack": "recording",
    "save": "video",
    "to_uint": "pictures",
    "unpack": "recording",
    "write_png": "pictures",
}

__all__ = [
    "Frame",
    "Reconstructor",
    "Recording",
    "SpikeReconError",
    "auto_gain",
    "cropped",
    "find_flaws",
    "from_rows",
    "mended",
    "open_recording",
    "open_writer",
    "pack",
    "save",
    "to_uint",
    "unpack",
    "write_png",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spikerecon' has no attribute {name!r}")
    return getattr(importlib.import_module(f"spikerecon.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
