"""Several methods side by side: their pictures under headings, on one sheet."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spikerecon.engine import Frame, Reconstructor
from spikerecon.recording import Recording

HEADING = 14  # pixels of text over a picture
SHEET_WIDTH = 2000  # pixels; wider pictures than this are one below the other


def headed(picture: NDArray[np.floating], text: str, white: float = 1.0) -> NDArray[np.floating]:
    """A picture (height, width), or (height, width, 3), under HEADING rows of text, of value `white` on 0."""
    line = Image.new("L" if picture.ndim == 2 else "RGB", (picture.shape[1], HEADING))
    ImageDraw.Draw(line).text((3, 2), text, fill="white")
    return np.concatenate([np.asarray(line, picture.dtype) * (white / 255), picture])


def tiled(pictures: Sequence[NDArray[np.floating]], names: Sequence[str], white: float = 1.0) -> NDArray[np.floating]:
    """Pictures of one size, each under its name, in rows of up to `SHEET_WIDTH` pixels that are as long as each other.

    Where the last row has places left they are 0.
    """
    most = max(1, SHEET_WIDTH // pictures[0].shape[1])
    rows = -(-len(pictures) // most)
    columns = -(-len(pictures) // rows)
    places = [headed(picture, name, white) for picture, name in zip(pictures, names, strict=True)]
    places += [np.zeros_like(places[0])] * (rows * columns - len(places))
    return np.concatenate([np.concatenate(places[i : i + columns], 1) for i in range(0, len(places), columns)])


def side_by_side(
    engines: Sequence[Reconstructor],
    recording: Recording,
    centers: Sequence[int],
    *,
    start: int = 0,
    white: float = 1.0,
) -> Generator[Frame]:
    """The frames of one engine, or of several, side by side under the names of their methods (see `tiled`).

    white: the rate that will be shown as white, which the names are written in. The other arguments, and what is
    raised, are those of `Reconstructor.frames`. Several engines cannot share a stream, which can be read once only.
    """
    runs = [engine.frames(recording, centers, start=start) for engine in engines]
    if len(runs) == 1:
        yield from runs[0]
        return
    names = [engine.method.name for engine in engines]
    for frames in zip(*runs, strict=True):
        yield Frame(frames[0].center, tiled([frame.rate for frame in frames], names, white))
