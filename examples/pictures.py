"""Draws the README's pictures: python examples/pictures.py SOURCE OUT.png, where SOURCE is fan or a recording."""

import sys

import numpy as np
from PIL import Image, ImageDraw

import spikerecon
from spikerecon.recording import auto_merge
from spikerecon.simulate import FULL_SCALE_RATE, film, make_scene, truth

CENTER = 1200


def panel(rate: np.ndarray, gain: float, text: str) -> Image.Image:
    """A picture with its name below."""
    height, width = rate.shape
    image = Image.new("L", (width, height + 16), 255)
    image.paste(Image.fromarray(spikerecon.to_uint(rate, gain)))
    ImageDraw.Draw(image).text((4, height + 2), text, fill=0)
    return image


def fan() -> list[Image.Image]:
    """The built-in fan: averages, STIR, truth."""
    recording = film("fan", planes=60, start=CENTER - 30)
    gain = 1 / FULL_SCALE_RATE
    panels = []
    for name, window, text in (
        ("tfp", 60, "TFP, 60 planes"),
        ("tfp", 20, "TFP, 20 planes"),
        ("stir", None, "STIR, 60 planes"),
    ):
        engine = spikerecon.Reconstructor(name, window=window)
        panels += [panel(frame.rate[:, 80:320], gain, text) for frame in engine.frames(recording, [30])]
    return [*panels, panel(truth(make_scene("fan"), CENTER)[:, 80:320], 1.0, "truth")]


def capture(path: str) -> list[Image.Image]:
    """A dark recording, at its middle: an average, STIR, and STIR with planes merged."""
    with spikerecon.open_recording(path) as recording:
        center = (recording.planes or 0) // 2
        gain, merge = spikerecon.auto_gain(recording), auto_merge(recording)
        panels = []
        for name, window, merged, text in (
            ("tfp", 60, 1, "TFP, 60 planes"),
            ("stir", None, 1, "STIR"),
            ("stir", None, merge, f"STIR, --bin auto (here {merge})"),
        ):
            engine = spikerecon.Reconstructor(name, window=window, merge=merged)
            panels += [panel(frame.rate, gain, text) for frame in engine.frames(recording, [center])]
    return panels


if __name__ == "__main__":
    source, target = sys.argv[1:]
    drawn = fan() if source == "fan" else capture(source)
    sheet = Image.new("L", (sum(p.width for p in drawn) + 4 * (len(drawn) - 1), drawn[0].height), 255)
    for i, each in enumerate(drawn):
        sheet.paste(each, (sum(p.width + 4 for p in drawn[:i]), 0))
    sheet.save(target)
