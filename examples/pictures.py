"""Draws the README's pictures: python examples/pictures.py SOURCE OUT.png, where SOURCE is fan or a recording."""

import sys

import numpy as np

import spikerecon
from spikerecon.comparison import tiled
from spikerecon.recording import Recording, auto_merge
from spikerecon.scenes import make_scene, truth
from spikerecon.simulate import FULL_SCALE_RATE, film

CENTER = 1200


def picture(recording: Recording, center: int, method: str, window: int | None = None, merge: int = 1) -> np.ndarray:
    """Firing rates (height, width)."""
    (frame,) = spikerecon.Reconstructor(method, window=window, merge=merge).frames(recording, [center])
    return frame.rate


def fan() -> np.ndarray:
    """The built-in fan: averages, STIR, truth. Intensity 1 is white."""
    recording = film("fan", planes=60, start=CENTER - 30)
    rates = {
        "TFP, 60 planes": picture(recording, 30, "tfp", window=60),
        "TFP, 20 planes": picture(recording, 30, "tfp", window=20),
        "STIR, 60 planes": picture(recording, 30, "stir"),
        "truth": truth(make_scene("fan"), CENTER) * FULL_SCALE_RATE,
    }
    return tiled([rate[:, 80:320] / FULL_SCALE_RATE for rate in rates.values()], list(rates))


def capture(path: str) -> np.ndarray:
    """A dark recording, at its middle: an average, STIR, and STIR with planes merged."""
    with spikerecon.open_recording(path) as recording:
        center = (recording.planes or 0) // 2
        gain, merge = spikerecon.auto_gain(recording), auto_merge(recording)
        rates = {
            "TFP, 60 planes": picture(recording, center, "tfp", window=60),
            "STIR": picture(recording, center, "stir"),
            f"STIR, --bin auto (here {merge})": picture(recording, center, "stir", merge=merge),
        }
    return tiled([gain * rate for rate in rates.values()], list(rates))


if __name__ == "__main__":
    source, target = sys.argv[1:]
    drawn = fan() if source == "fan" else capture(source)
    spikerecon.write_png(target, spikerecon.to_uint(drawn), overwrite=True)
