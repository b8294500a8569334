"""Pictures, grey or in colour, to video files and sequences of PNG pictures, and back.

A video is encoded by ffmpeg under a temporary name next to its final one and renamed only when ffmpeg
ended well and the file holds as many pictures as were written: a file under the final name is whole.
Each picture of a PNG sequence appears whole in the same way; when the work is interrupted the pictures
that were finished stay.
"""

import functools
import itertools
import math
import os
import re
import subprocess
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from spikerecon.errors import OutputError, RecordingError, RecordingWarning, UsageError
from spikerecon.ffmpeg import Ffmpeg, ffmpeg_executable, pixel_format, raw, raw_pictures
from spikerecon.files import (
    as_output_error,
    check_file,
    check_folder,
    check_free,
    check_name,
    check_not_read,
    publish,
    temporary_name,
)
from spikerecon.names import CODECS
from spikerecon.pictures import PICTURE_SUFFIXES, check_levels, eight_bit, load_picture, pictures_in, save_png, to_uint
from spikerecon.pipeline import WriteBehind


@dataclass(frozen=True)
class _Container:
    muxer: str  # ffmpeg's name
    codecs: tuple[str, ...]
    max_fps: int
    options: str = ""


_H264 = tuple(codec for codec in CODECS if codec.startswith("h264"))
# The .mp4 clock counts the pictures' own time unit exactly; Matroska's counts milliseconds. GIF takes any
# rate here because `check_output` brings it to one that GIF has.
_CONTAINERS = {
    ".mp4": _Container("mp4", _H264, 1_000_000, "-movflags +faststart"),
    ".mov": _Container("mov", _H264, 1_000_000, "-movflags +faststart"),
    ".mkv": _Container("matroska", CODECS, 1_000),
    ".gif": _Container("gif", ("gif",), 1_000_000),
}
PICTURES_BEHIND = 4  # made while one is encoded
_MIN_FPS = 0.01
_PICTURE_NAME = "%06d.png"


@dataclass(frozen=True)
class Output:
    """An output that `check_output` found writable, with what the user should be told about it.

    `fps` is the playback rate that the file will really have and `notes` holds a sentence for each thing
    that differs from what was asked for. `path` is the video file, or the pattern of a PNG sequence, and `first` the
    number of its first picture.
    """

    path: Path
    container: _Container | None  # None: a sequence of PNG pictures
    rate: Fraction  # pictures a second
    codec: str
    crf: float
    bit_depth: int
    notes: tuple[str, ...] = ()
    first: int = 0
    overwrite: bool = False

    @property
    def fps(self) -> float:
        return float(self.rate)

    def name(self, number: int) -> Path:
        """The file of a picture of a sequence."""
        return _numbered(self.path, number)


def check_output(
    path: str | Path,
    *,
    fps: float = 60.0,
    codec: str = "h264",
    crf: float = 18,
    bit_depth: int = 8,
    overwrite: bool = False,
    resume: bool = False,
    sources: Sequence[Path] = (),
) -> Output:
    """Find out before any work whether `path` can be written in this way; writes nothing itself.

    `path` is a video (`.mp4`, `.mov`, `.mkv`, `.gif`), or PNG pictures: a folder (no suffix, a `/` at the
    end, or there already) that gets `000000.png`, `000001.png`, ..., or a pattern such as `out/%06d.png`.
    `sources` are the files that are read for it. The other parameters are those of `open_writer`. Raises UsageError for
    what cannot work anywhere (unknown suffix, options at odds) and OutputError for what cannot work here (no such
    folder, output there already, a file that is to be read).
    """
    if bit_depth not in (8, 16):
        raise UsageError(f"bit depth must be 8 or 16, not {bit_depth}")
    if codec not in CODECS:
        raise UsageError(f"unknown codec {codec}; known are {', '.join(CODECS)}")
    if not 0 <= crf <= 51:
        raise UsageError(f"crf must be from 0 (lossless) to 51 (smallest file), not {crf:g}")
    if not str(path):
        raise UsageError("the output has no name: give a file, or a folder for PNG pictures")
    check_name(Path(path))
    container, target = _kind(path)
    codec = _codec_for(path, container, codec, bit_depth)
    rate, notes = _playback_rate(path, container, fps)
    if resume and container is not None:
        raise UsageError(f"{path}: a video is written at once: only PNG pictures can be gone on with")
    if resume and overwrite:
        raise UsageError(f"{path}: going on with pictures and replacing them exclude each other")
    first = 0
    if container is not None:
        check_file(target, overwrite, sources=sources)
        ffmpeg_executable()
        if codec == "h264-nvenc" and (complaint := _nvenc_complaint()):
            raise OutputError(f"{path}: there is no NVENC to encode it with ({complaint}); use the codec h264")
    elif resume:
        first = _pictures_there(target)
    else:
        _check_sequence(target, whole_folder=Path(path) != target, may_be_there=overwrite, sources=sources)
    return Output(target, container, rate, codec, crf, bit_depth, notes, first, overwrite)


def _kind(path: str | Path) -> tuple[_Container | None, Path]:
    """The container (None for PNG pictures) and the file, or the pattern of the pictures."""
    target, suffix = Path(path), Path(path).suffix.lower()
    slash_at_end = str(path).endswith(("/", os.sep))
    if suffix in _CONTAINERS and not slash_at_end:
        return _CONTAINERS[suffix], target
    if slash_at_end or not suffix or target.is_dir():
        return None, target / _PICTURE_NAME
    if suffix != ".png":
        known = ", ".join(_CONTAINERS)
        raise UsageError(
            f"{path}: unknown suffix {suffix}; use {known}, or for PNG pictures a folder "
            "(end it with /) or a pattern like out/%06d.png"
        )
    if len(re.findall(r"%(?:0\d{1,2})?d", target.name)) != 1 or target.name.count("%") != 1:
        raise UsageError(
            f"{path}: a .png name for several pictures needs one number, as in out/%06d.png; or give a folder"
        )
    return None, target


def _codec_for(path: str | Path, container: _Container | None, codec: str, bit_depth: int) -> str:
    codecs = container.codecs if container else ("png",)
    if codec not in codecs:
        if codec != "h264":  # the default, which means nothing to GIF and PNG
            raise UsageError(
                f"{path}: {codec} does not go into this kind of file; "
                + ("write .mkv" if codec == "ffv1" else "write .mp4, .mov or .mkv")
            )
        codec = codecs[0]
    if bit_depth == 16 and codec not in ("png", "ffv1"):
        raise UsageError(f"{path}: 16 bit needs PNG pictures, or .mkv with the codec ffv1")
    return codec


def _playback_rate(path: str | Path, container: _Container | None, fps: float) -> tuple[Fraction, tuple[str, ...]]:
    limit = container.max_fps if container else 1_000_000
    if not _MIN_FPS <= fps <= limit:  # also refuses nan
        advice = "; write .mp4 for more" if limit == 1_000 else ""
        raise UsageError(f"{path}: fps must be from {_MIN_FPS:g} to {limit}, not {fps:g}{advice}")
    # 1001 keeps television's 30000/1001 as it is.
    rate = Fraction(float(fps)).limit_denominator(1001)
    if container is None or container.muxer != "gif":
        return rate, ()
    # A GIF shows each picture for a number of 10 ms steps, and players take one step for ten.
    steps = max(2, round(100 / rate))
    actual = Fraction(100, steps)
    if actual == rate:
        return rate, ()
    note = f"GIF times pictures in steps of 10 ms, 50 a second at most: plays at {float(actual):g} fps"
    return actual, (f"{note} instead of {fps:g}",)


def _check_sequence(pattern: Path, whole_folder: bool, may_be_there: bool, sources: Sequence[Path]) -> None:
    folder, there = pattern.parent, _of_sequence(pattern)
    for picture in there:
        check_not_read(picture, sources)
    if may_be_there:
        return
    if whole_folder and folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty; give -y to write into it and replace pictures")
    for picture in there:
        check_free(picture)


def _of_sequence(pattern: Path) -> list[Path]:
    """What there is with a name of the sequence, sorted. Raises OutputError where pictures cannot be written there."""
    if not pattern.parent.exists():
        check_folder(pattern.parent.parent)  # the folder itself is made with the first picture
        return []
    check_folder(pattern.parent)
    before, after = re.split(r"%\d*d", pattern.name)
    numbered = re.compile(re.escape(before) + r"\d+" + re.escape(after))
    return sorted(entry for entry in pattern.parent.iterdir() if numbered.fullmatch(entry.name))


def _pictures_there(pattern: Path) -> int:
    """Pictures of a sequence, from the first one on. Raises OutputError where one in between is missing."""
    there = _of_sequence(pattern)
    first = next(number for number in itertools.count() if not _numbered(pattern, number).exists())
    if len(there) > first:
        raise OutputError(
            f"{_numbered(pattern, first)}: is missing, but {there[-1].name} is there: going on would replace what "
            "comes behind; give another folder, or -y to begin anew"
        )
    return first


def _numbered(pattern: Path, number: int) -> Path:
    return pattern.with_name(pattern.name % number)


class Writer:
    """Takes pictures one by one; made by `open_writer`.

    `fps` is the playback rate of the file, `notes` what the user should be told (complete after the end)
    and `pictures` the number written so far.
    """

    def __init__(self, output: Output, size: tuple[int, int], colour: bool) -> None:
        self._output = output
        self.path, self.fps, self.notes = output.path, output.fps, list(output.notes)
        self.pictures = 0
        self._shape = (size[1], size[0], 3) if colour else (size[1], size[0])
        self._dtype = np.dtype(np.uint8 if output.bit_depth == 8 else np.uint16)

    def write(self, image: np.ndarray) -> None:
        """Add one picture (height, width), or (height, width, 3) in colour: uint8, or uint16 at bit depth 16.

        Raises OutputError if it has another size or type, or if it cannot be written.
        """
        if image.shape != self._shape or image.dtype != self._dtype:
            raise OutputError(
                f"{self.path}: picture {self.pictures} is {image.dtype} {image.shape}, "
                f"expected {self._dtype} {self._shape}"
            )
        self._put(image)
        self.pictures += 1

    def _put(self, image: np.ndarray) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Called once after the last picture."""

    def _abort(self) -> None:
        """Called instead, or when `_finish` raised."""


@contextmanager
def open_writer(
    path: str | Path,
    *,
    size: tuple[int, int],
    colour: bool = False,
    fps: float = 60.0,
    codec: str = "h264",
    crf: float = 18,
    bit_depth: int = 8,
    overwrite: bool = False,
    resume: bool = False,
) -> Iterator[Writer]:
    """Write pictures of `size` (width, height) in pixels to the video or the PNG pictures at `path`.

    Use it in a `with` statement. At its end the file is finished, checked and given its name. If the body
    raises (KeyboardInterrupt too), ffmpeg is ended and no video is left; finished PNG pictures stay.

    * `colour`: pictures are RGB instead of grey.
    * `fps`: playback rate in pictures a second; means nothing to PNG. The writer's `fps` is the real one.
    * `codec`, for .mp4, .mov and .mkv: `h264` in full range, so that all 256 grey levels survive, as
      yuv420p; `h264-nvenc`, the same by the encoder of an NVIDIA card that has one; `h264-lossless`, which fewer
      players show (colour as RGB); `ffv1`, lossless, .mkv only. The size is always kept: as yuv420p has no odd sizes,
      those become monochrome (4:0:0) H.264, or yuv444p in colour and by NVENC, which some hardware players do not show.
    * `crf`: quality of `h264` from 0 (lossless, if grey) to 51 (worst); of `h264-nvenc` the quantiser.
    * `bit_depth`: 8, or 16 for PNG and `ffv1`. PNG is lossless, and so is GIF, but for colour: it has 256 a picture.
    * `overwrite`: replace what is there. Pictures of an earlier, longer sequence stay, with a note.
    * `resume`: PNG pictures are numbered from behind those that are there.

    Raises what `check_output` raises, and OutputError if ffmpeg or the disk fails or nothing was written.
    """
    output = check_output(path, fps=fps, codec=codec, crf=crf, bit_depth=bit_depth, overwrite=overwrite, resume=resume)
    writer = (_SequenceWriter if output.container is None else _VideoWriter)(output, size, colour)
    try:
        yield writer
        if not writer.pictures:
            raise OutputError(f"{path}: there are no pictures to write")
        writer._finish()
    except BaseException:
        writer._abort()
        raise


def save(
    path: str | Path,
    rates: Iterable[np.ndarray],
    *,
    gain: float,
    gamma: float = 1.0,
    on_progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Writer:
    """Write firing rates in spikes per plane, float32 (height, width) or RGB (height, width, 3): video or pictures.

    Pictures are written in a thread while the next ones are made. `gain` and `gamma` are those of `to_uint`,
    `options` those of `open_writer` but for `size` and `colour`; `on_progress` is called with the number of pictures
    written. Returns the finished writer, which knows `pictures`, `fps` and `notes`. Raises what `open_writer` and
    `to_uint` raise, what making the pictures raises, and UsageError for what are no pictures.
    """
    bit_depth = options.get("bit_depth", 8)
    check_levels(gain, gamma)
    check_output(path, **options)
    rates = iter(rates)
    try:
        first = next(rates, None)
        if first is None:
            raise OutputError(f"{path}: there are no pictures to write")
        if not isinstance(first, np.ndarray) or first.ndim not in (2, 3):
            raise UsageError(f"{path}: is made of pictures, which are arrays; of a frame it is frame.rate")
        with open_writer(path, size=(first.shape[1], first.shape[0]), colour=first.ndim == 3, **options) as writer:

            def write(rate: np.ndarray) -> None:
                writer.write(to_uint(rate, gain, gamma, bit_depth))
                if on_progress:
                    on_progress(writer.pictures)

            # Making pictures has the calling thread, where torch is quickest: it keeps a team of threads for each.
            with WriteBehind(write, PICTURES_BEHIND) as behind:
                for rate in itertools.chain([first], rates):
                    behind.put(rate)
        return writer
    finally:
        if isinstance(rates, Generator):  # its own `finally` ends what reads ahead for it
            rates.close()


class _SequenceWriter(Writer):
    def _next(self) -> Path:
        return self._output.name(self._output.first + self.pictures)

    def _put(self, image: np.ndarray) -> None:
        if not self.pictures:
            with as_output_error(self.path.parent):
                self.path.parent.mkdir(exist_ok=True)
        save_png(self._next(), image, self._output.overwrite)

    def _finish(self) -> None:
        older = self._next()
        if older.exists():
            self.notes.append(f"{older} and what may follow it is left from an earlier run")


class _VideoWriter(Writer):
    def __init__(self, output: Output, size: tuple[int, int], colour: bool) -> None:
        super().__init__(output, size, colour)
        assert output.container is not None
        self._temporary = temporary_name(self.path)
        self._ffmpeg = Ffmpeg(
            raw_pictures(size, output.bit_depth, colour),
            f"-framerate {output.rate} -i pipe:0",
            _encoder_options(output, size, colour),
            f"{output.container.options} -f {output.container.muxer} -y",
            self._temporary,
            stdin=subprocess.PIPE,
        )

    def _put(self, image: np.ndarray) -> None:
        try:
            self._ffmpeg.stdin.write(raw(image))
            self._ffmpeg.stdin.flush()  # small pictures would wait for others: Python 3.14 gathers 128 KiB
        except OSError:  # ffmpeg ended; why is in its own words
            self._end()
            raise OutputError(f"{self.path}: ffmpeg took no more pictures") from None

    def _end(self) -> None:
        if complaint := self._ffmpeg.end():
            raise OutputError(f"{self.path}: encoding failed: {complaint}")

    def _finish(self) -> None:
        self._end()
        # ffmpeg can end well and yet have left pictures out.
        found = self._pictures_in_file()
        if found != self.pictures:
            raise OutputError(f"{self.path}: the encoder kept {found} of {self.pictures} pictures")
        publish(self._temporary, self.path, self._output.overwrite)
        self._ffmpeg.kill()

    def _pictures_in_file(self) -> int:
        # A line for each packet: cheap, as nothing is decoded.
        arguments = ("-i", self._temporary, "-map 0:v -c copy -f framecrc pipe:1")
        with Ffmpeg(*arguments, stdout=subprocess.PIPE) as ffmpeg:
            pictures = sum(not line.startswith(b"#") for line in ffmpeg.stdout)
            if complaint := ffmpeg.end():
                raise OutputError(f"{self.path}: cannot be read back: {complaint}")
            return pictures

    def _abort(self) -> None:
        self._ffmpeg.kill()
        self._temporary.unlink(missing_ok=True)


def _encoder_options(output: Output, size: tuple[int, int], colour: bool) -> str:
    if output.codec == "gif" and colour:
        # A palette for each picture: one for all could only be made when all are there.
        return "-filter_complex split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none"
    if output.codec == "gif":
        return "-pix_fmt gray"  # ffmpeg's own palette for it has all 256 greys
    if output.codec == "ffv1":
        pixels = "bgr0" if colour and output.bit_depth == 8 else pixel_format(output.bit_depth, colour)
        return "-c:v ffv1 -level 3 -color_range pc -pix_fmt " + pixels
    if output.codec == "h264-lossless" and colour:
        return "-c:v libx264rgb -qp 0 -color_range pc"
    odd = size[0] % 2 or size[1] % 2
    pixels = "yuv420p" if not odd else "yuv444p" if colour or output.codec == "h264-nvenc" else "gray"
    # Without the range in both places grey would be squeezed into 220 levels.
    scale = "scale=in_range=full:out_range=full"
    if colour:  # untagged, its matrix would be guessed from the size; rounded carelessly, grey would become greenish
        scale += ":out_color_matrix=bt709:flags=accurate_rnd"
    match output.codec:
        case "h264-nvenc":
            encoder = f"h264_nvenc -rc constqp -qp {output.crf:.0f}"
        case "h264-lossless":
            encoder = "libx264 -preset fast -qp 0"
        case _:  # "fast" takes three fifths of the default's time for files as large, 0.2 dB further from the pictures
            encoder = f"libx264 -preset fast -crf {output.crf:g}"
    return f"-c:v {encoder} -vf {scale} -color_range pc -pix_fmt {pixels}"


@functools.cache
def _nvenc_complaint() -> str | None:
    """What ffmpeg has to say of encoding a picture by NVENC, if it cannot."""
    with Ffmpeg("-f lavfi -i color=black:256x256 -frames:v 1 -c:v h264_nvenc -f null -") as ffmpeg:
        return ffmpeg.end()


def read_video(path: str | Path, colour: bool = False) -> Iterator[np.ndarray]:
    """The pictures of a video file in order, each once, as uint8 in full range.

    Grey (height, width), or RGB (height, width, 3) with `colour`. Raises RecordingError if there is no such file, or it
    cannot be read as video; warns (RecordingWarning) where it can in part.
    """
    if not Path(path).is_file():
        raise RecordingError(f"{path}: no such file")
    encoder, channels = ("-c:v ppm -pix_fmt rgb24", (3,)) if colour else ("-c:v pgm -pix_fmt gray", ())
    output = f"-map 0:v:0 -fps_mode passthrough {encoder} -f image2pipe pipe:1"
    with Ffmpeg("-i", Path(path), output, stdout=subprocess.PIPE) as ffmpeg:
        pictures = 0
        # Each picture brings its own header: "P5" or "P6", "width height", "255", a line each.
        while ffmpeg.stdout.readline():
            width, height = map(int, ffmpeg.stdout.readline().split())
            ffmpeg.stdout.readline()
            shape = (height, width, *channels)
            data = ffmpeg.stdout.read(math.prod(shape))
            if len(data) < math.prod(shape):
                break
            yield np.frombuffer(data, np.uint8).reshape(shape)
            pictures += 1
        if (complaint := ffmpeg.end()) or not pictures:
            raise RecordingError(f"{path}: cannot be read as video: {complaint or 'it has no pictures'}")
        if complaint := ffmpeg.complaint():
            note = f"{path}: is damaged or cut off, {pictures} pictures could be read: {complaint}"
            warnings.warn(note, RecordingWarning, stacklevel=2)


def read_pictures(path: str | Path, colour: bool = False) -> Iterator[np.ndarray]:
    """The pictures of a video file, or of a folder in the order of their names; see `read_video`.

    Raises RecordingError where there are none, or one cannot be read.
    """
    if not Path(path).is_dir():
        yield from read_video(path, colour)
        return
    files = pictures_in(Path(path))
    if not files:
        raise RecordingError(f"{path}: holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    for file in files:
        yield np.asarray(eight_bit(load_picture(file), "RGB" if colour else "L"))
