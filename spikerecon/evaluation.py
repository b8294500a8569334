"""Quality of a method on recordings whose true pictures are known."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikerecon.colour import check_demosaic
from spikerecon.comparison import headed
from spikerecon.engine import Reconstructor
from spikerecon.errors import RecordingError, SpikeReconError, UsageError
from spikerecon.metrics import modelled, psnr, ssim
from spikerecon.pictures import load_picture, to_uint
from spikerecon.recording import open_recording

EIGHT_BIT = ("1", "L", "LA", "P", "RGB", "RGBA")  # pillow's names for what truth may be in, besides grey of 16 bit


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

    @property
    def middle(self) -> int:
        """The centre whose picture is shown on a sheet."""
        return self.centers[len(self.centers) // 2]


@dataclass(frozen=True)
class Score:
    """How good one picture is: `figures` by the name of their measure, "psnr" (dB) and "ssim" among them."""

    name: str
    center: int
    figures: dict[str, float]

    @property
    def psnr(self) -> float:
        return self.figures["psnr"]


@dataclass(frozen=True)
class Evaluation:
    """Scores of one method, and their means over all pictures; `middles`: its pictures at `TrueSequence.middle`."""

    scores: tuple[Score, ...]
    middles: tuple[NDArray[np.float32], ...]

    @property
    def mean(self) -> dict[str, float]:
        return {name: float(np.mean([s.figures[name] for s in self.scores])) for name in self.scores[0].figures}

    def to_dict(self, engine: Reconstructor) -> dict[str, Any]:
        """As it goes into a JSON file. engine: what it is of."""
        return {
            "method": engine.method.name,
            "weights": engine.method.about,
            "bin": engine.merge,
            "precision": engine.precision,
            "results": [{"name": s.name, "center": s.center, **s.figures} for s in self.scores],
            "mean": self.mean,
        }


def load_sequences(path: str | os.PathLike[str]) -> list[TrueSequence]:
    """Read a `sequences.json`; the files that it names lie beside it.

    Raises RecordingError where it is missing, no such list, or names files that are not there.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordingError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: is no list of sequences in JSON: {error}") from None
    found = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        try:
            sequence = _sequence(entry, path.parent)
        except KeyError as error:
            raise RecordingError(f"{path}: entry {number} is no sequence: it has no {error}") from None
        except (TypeError, ValueError) as error:
            raise RecordingError(f"{path}: entry {number} is no sequence: {error}") from None
        if not 0 < sequence.full_scale_rate <= 1:
            raise RecordingError(f"{path}: {sequence.name}: a full-scale rate lies in (0, 1] spikes per plane")
        if len(set(sequence.centers)) < len(sequence.centers):
            raise RecordingError(f"{path}: {sequence.name} lists a centre twice")
        if len(sequence.centers) != len(sequence.truth) or not sequence.centers:
            raise RecordingError(f"{path}: {sequence.name} needs one true picture for each centre")
        for file in (sequence.path, *sequence.truth):
            if not file.exists():
                raise RecordingError(f"{file}: no such file; {path} names it")
        found.append(sequence)
    if not found:
        raise RecordingError(f"{path}: lists no sequences")
    return found


def _sequence(entry: Any, folder: Path) -> TrueSequence:
    """One of a list, whose files lie in a folder. Raises KeyError, TypeError and ValueError where it is none."""
    if not isinstance(entry, dict):
        raise TypeError("it has no names and values")
    centers, truth = entry["centers"], entry["truth"]
    if not (isinstance(centers, list) and isinstance(truth, list)):
        raise TypeError("'centers' and 'truth' are lists")
    if not all(isinstance(name, str) for name in (entry["file"], *truth)):
        raise TypeError("'file' and 'truth' are names of files")
    return TrueSequence(
        name=str(entry["name"]),
        path=folder / entry["file"],
        width=_whole(entry["width"], "width"),
        height=_whole(entry["height"], "height"),
        full_scale_rate=float(entry["full_scale_rate"]),
        centers=tuple(_whole(center, "centers") for center in centers),
        truth=tuple(folder / name for name in truth),
        layout=str(entry.get("layout", "packed")),
        bayer=entry.get("bayer"),
    )


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int):
        raise TypeError(f"'{name}' is {value!r}, and not of whole numbers")
    return value


def evaluate(
    engine: Reconstructor,
    sequences: Sequence[TrueSequence],
    on_score: Callable[[Score], None] | None = None,
    *,
    measures: Sequence[str] = (),
) -> Evaluation:
    """Score a method by PSNR and SSIM, and by `measures` of `names.MODELLED`.

    A prediction is rate / full-scale rate, clipped to [0, 1].

    Colour recordings are scored in colour. Flawed pixels are not mended: what is measured is the method, on the planes
    as they are, and whatever is compared with it gets the same. Raises what reading raises, for their pattern what
    `check_demosaic` raises, what `modelled` raises, and UsageError where truth has another size than its recording.
    """
    scores, middles = [], []
    by_name = {"psnr": psnr, "ssim": ssim} | {name: modelled(name) for name in measures}
    engines = []
    for sequence in sequences:
        with _named(sequence.name):
            engines.append(_in_its_colours(engine, sequence))
    for sequence, own in zip(sequences, engines, strict=True):
        size = (sequence.width, sequence.height)
        with (
            _named(sequence.name),
            open_recording(sequence.path, layout=sequence.layout, size=size) as recording,
        ):
            frames = own.frames(recording, sequence.centers)
            for frame, file in zip(frames, sequence.truth, strict=True):
                prediction = np.clip(frame.rate / sequence.full_scale_rate, 0, 1)
                true = read_truth(file, colour=sequence.bayer is not None)
                if true.shape != prediction.shape:
                    found, wanted = (f"{shape[1]}x{shape[0]}" for shape in (true.shape, prediction.shape))
                    raise UsageError(f"{file}: is {found} pixels, and its recording {wanted}")
                figures = {name: measure(prediction, true) for name, measure in by_name.items()}
                scores.append(Score(sequence.name, frame.center, figures))
                if frame.center == sequence.middle:
                    middles.append(prediction)
                if on_score:
                    on_score(scores[-1])
    return Evaluation(tuple(scores), tuple(middles))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Has errors tell which sequence they are about."""
    try:
        yield
    except SpikeReconError as error:
        raise type(error)(f"{name}: {error}") from error


def _in_its_colours(engine: Reconstructor, sequence: TrueSequence) -> Reconstructor:
    """The engine, set to the colours of a sequence."""
    if sequence.bayer is not None:
        check_demosaic(sequence.bayer)
    own = copy(engine)
    own.bayer = sequence.bayer
    return own


def sheet(sequences: Sequence[TrueSequence], found: Evaluation, method: str) -> NDArray[np.uint8]:
    """One row a sequence, at its middle centre: truth, TFP, the method, and its error four times as bright.

    Returns a picture with a heading over every row: uint8 (height, width), or (height, width, 3) where there is colour.
    """
    tfp = evaluate(Reconstructor("tfp"), sequences)
    in_colour = any(sequence.bayer for sequence in sequences)
    rows = []
    for sequence, picture, average in zip(sequences, found.middles, tfp.middles, strict=True):
        true = read_truth(sequence.truth[sequence.centers.index(sequence.middle)], colour=sequence.bayer is not None)
        shown = {
            "truth": true,
            "tfp": average,
            f"{method}, {psnr(picture, true):.1f} dB": picture,
            "error x4": np.clip(4 * np.abs(picture - true), 0, 1),
        }
        row = [headed(each, f"{sequence.name}: {name}") for name, each in shown.items()]
        if in_colour and sequence.bayer is None:
            row = [np.repeat(each[..., None], 3, axis=2) for each in row]
        rows.append(np.concatenate(row, axis=1))
    width = max(row.shape[1] for row in rows)
    edges = [[(0, 0), (0, width - row.shape[1]), (0, 0)][: row.ndim] for row in rows]
    return to_uint(np.concatenate([np.pad(row, edge) for row, edge in zip(rows, edges, strict=True)]))


def read_truth(path: Path, colour: bool = False) -> NDArray[np.float64]:
    """A grey PNG of 8 or 16 bit, or one in colour of 8 bit, as intensity in [0, 1].

    Raises RecordingError where it cannot be read, has other bits, or is transparent anywhere.
    """
    image = load_picture(path)
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    eight = image.mode in EIGHT_BIT and image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    if not eight and (colour or not sixteen):
        wanted = "in colour of 8 bit" if colour else "of 8 or 16 bit"
        raise RecordingError(f"{path}: is no opaque picture {wanted} (but {image.mode})")
    if colour:
        values = np.asarray(image.convert("RGB"))
    else:
        values = np.asarray(image if image.mode.startswith("I") else image.convert("L"))
    return values / (255.0 if values.dtype == np.uint8 else 65535.0)
