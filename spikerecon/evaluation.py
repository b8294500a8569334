"""Quality of a method on recordings whose true pictures are known."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spikerecon.colour import check_demosaic
from spikerecon.engine import Reconstructor
from spikerecon.errors import RecordingError
from spikerecon.metrics import psnr, ssim
from spikerecon.recording import open_recording
from spikerecon.video import to_uint

HEADING = 14  # pixels of text over a picture of a sheet


@dataclass(frozen=True)
class TrueSequence:
    """A recording with true pictures (PNG, 8 or 16 bit, white = full scale) at its centres.

    bayer: the pattern of a colour camera, whose true pictures are RGB of 8 bit.
    """

    name: str
    path: Path
    width: int
    height: int
    full_scale_rate: float
    centers: tuple[int, ...]
    truth: tuple[Path, ...]
    layout: str = "packed"
    bayer: str | None = None


@dataclass(frozen=True)
class Score:
    """psnr in dB, ssim up to 1, of one picture."""

    name: str
    center: int
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of one method, and their means over all pictures."""

    scores: tuple[Score, ...]

    @property
    def mean_psnr(self) -> float:
        return float(np.mean([score.psnr for score in self.scores]))

    @property
    def mean_ssim(self) -> float:
        return float(np.mean([score.ssim for score in self.scores]))

    def to_dict(self, method: str, weights: str) -> dict[str, Any]:
        """As it goes into a JSON file."""
        return {
            "method": method,
            "weights": weights,
            "results": [asdict(score) for score in self.scores],
            "mean": {"psnr": self.mean_psnr, "ssim": self.mean_ssim},
        }


def load_sequences(path: str | os.PathLike[str]) -> list[TrueSequence]:
    """Read a `sequences.json`; the files that it names lie beside it.

    Raises RecordingError where it is missing, no such list, or names files that are not there.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text())
    except FileNotFoundError:
        raise RecordingError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path}: is no list of sequences in JSON: {error}") from None
    found = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        try:
            sequence = TrueSequence(
                name=str(entry["name"]),
                path=path.parent / entry["file"],
                width=int(entry["width"]),
                height=int(entry["height"]),
                full_scale_rate=float(entry["full_scale_rate"]),
                centers=tuple(map(int, entry["centers"])),
                truth=tuple(path.parent / name for name in entry["truth"]),
                layout=str(entry.get("layout", "packed")),
                bayer=entry.get("bayer"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"{path}: entry {number} is no sequence: {error!r}") from None
        if len(sequence.centers) != len(sequence.truth) or not sequence.centers:
            raise RecordingError(f"{path}: {sequence.name} needs one true picture for each centre")
        for file in (sequence.path, *sequence.truth):
            if not file.is_file():
                raise RecordingError(f"{file}: no such file; {path} names it")
        found.append(sequence)
    if not found:
        raise RecordingError(f"{path}: lists no sequences")
    return found


def evaluate(
    engine: Reconstructor, sequences: Sequence[TrueSequence], on_score: Callable[[Score], None] | None = None
) -> Evaluation:
    """Score a method. A prediction is rate / full-scale rate, clipped to [0, 1].

    Colour recordings are scored in colour. Raises what reading raises, and for their pattern what `check_demosaic`
    raises.
    """
    scores = []
    engines = [_in_its_colours(engine, sequence) for sequence in sequences]
    for sequence, own in zip(sequences, engines, strict=True):
        size = (sequence.width, sequence.height)
        with open_recording(sequence.path, layout=sequence.layout, size=size) as recording:
            frames = own.frames(recording, sequence.centers)
            for frame, file in zip(frames, sequence.truth, strict=True):
                prediction = np.clip(frame.rate / sequence.full_scale_rate, 0, 1)
                true = read_truth(file, colour=sequence.bayer is not None)
                scores.append(Score(sequence.name, frame.center, psnr(prediction, true), ssim(prediction, true)))
                if on_score:
                    on_score(scores[-1])
    return Evaluation(tuple(scores))


def _in_its_colours(engine: Reconstructor, sequence: TrueSequence) -> Reconstructor:
    """The engine, set to the colours of a sequence."""
    if sequence.bayer is not None:
        check_demosaic(sequence.bayer)
    own = copy(engine)
    own.bayer = sequence.bayer
    return own


def sheet(engine: Reconstructor, sequences: Sequence[TrueSequence]) -> NDArray[np.uint8]:
    """One row a sequence, at its middle centre: truth, TFP, the method, and its error four times as bright.

    Returns a picture with a heading over every row: uint8 (height, width), or (height, width, 3) where there is colour.
    """
    tfp = Reconstructor("tfp", device=str(engine.device))
    mode = "RGB" if any(sequence.bayer for sequence in sequences) else "L"
    rows = []
    for sequence in sequences:
        middle = len(sequence.centers) // 2
        true = read_truth(sequence.truth[middle], colour=sequence.bayer is not None)
        pictures = [true]
        size = (sequence.width, sequence.height)
        with open_recording(sequence.path, layout=sequence.layout, size=size) as recording:
            for each in (tfp, engine):
                (frame,) = _in_its_colours(each, sequence).frames(recording, [sequence.centers[middle]])
                pictures.append(np.clip(frame.rate / sequence.full_scale_rate, 0, 1))
        found = pictures[-1]
        pictures.append(np.clip(4 * np.abs(found - true), 0, 1))
        names = ("truth", "tfp", f"{engine.method.name}, {psnr(found, true):.1f} dB", "error x4")
        row = [_headed(shown, f"{sequence.name}: {name}", mode) for shown, name in zip(pictures, names, strict=True)]
        rows.append(np.concatenate(row, axis=1))
    width = max(row.shape[1] for row in rows)
    edges = [[(0, 0), (0, width - row.shape[1]), (0, 0)][: row.ndim] for row in rows]
    return np.concatenate([np.pad(row, edge) for row, edge in zip(rows, edges, strict=True)])


def _headed(picture: NDArray[np.float64], text: str, mode: str) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    image = Image.new(mode, (width, height + HEADING))
    image.paste(Image.fromarray(to_uint(picture)), (0, HEADING))
    ImageDraw.Draw(image).text((3, 2), text, fill="white")
    return np.asarray(image)


def read_truth(path: Path, colour: bool = False) -> NDArray[np.float64]:
    """A grey PNG of 8 or 16 bit, or one in colour of 8 bit, as intensity in [0, 1]."""
    with Image.open(path) as image:
        if colour:
            values = np.asarray(image.convert("RGB"))
        else:
            values = np.asarray(image if image.mode.startswith("I") else image.convert("L"))
    return values / (255.0 if values.dtype == np.uint8 else 65535.0)
