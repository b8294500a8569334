"""Recordings of spike cameras: open one in any known layout, look at it, write one.

All layouts here are row-major bit streams with the lowest bit first: pixel p of a plane is bit `p % 8` of
byte `p // 8`, 1 where the pixel fired. Files have no header, so layout and size come from the caller, from
the byte count, or from the content (see `open_recording`).

Inside the package a recording is passed on as *packed rows*: uint8 (planes, height, ceil(width / 8)), each
pixel row padded with zeros to whole bytes, rows upright.
"""

import math
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import OutputError, RecordingError, RecordingWarning, UsageError

MIN_PLANES = 60
"""A recording with fewer planes holds no whole window and is refused."""

GOOD_RATE = 0.2
"""Spikes per plane of a usual pixel in a recording that is bright enough."""

Size = tuple[int, int]  # width, height
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """How the planes of a headerless file are stored.

    `sizes` are those of the cameras that write it, `header_bits` follow the pixels of each row, and `flip` is
    whether the bottom row comes first.
    """

    name: str
    sizes: tuple[Size, ...]
    header_bits: int = 0
    flip: bool = True


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("packed", ((400, 250), (1000, 1000))),
        Layout("row-headers", ((400, 250),), header_bits=16),
    )
}
LAYOUT_NAMES = ("auto", *LAYOUTS, "npz")


# Bits and bytes


def pack(planes: NDArray[np.uint8] | NDArray[np.bool_]) -> Bytes:
    """Packed rows, uint8 (planes, height, ceil(width / 8)), of 0/1 planes (planes, height, width)."""
    return np.packbits(planes, axis=-1, bitorder="little")


def unpack(rows: Bytes, width: int) -> Bytes:
    """0/1 planes, uint8 (planes, height, width), of packed rows (planes, height, ceil(width / 8))."""
    return np.unpackbits(rows, axis=-1, count=width, bitorder="little")


def parse_size(text: str) -> Size:
    """(width, height) of a text like `400x250`. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip(), re.ASCII)
    if not match or 0 in (size := (int(match[1]), int(match[2]))):
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT in pixels, such as 400x250")
    return size


@dataclass(frozen=True)
class _Geometry:
    """A layout at a size: where each pixel of each plane is in a file."""

    layout: Layout
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.row_bits * self.height % 8:
            raise UsageError(f"size {self.width}x{self.height} does not fill whole bytes; its area must be 8n")

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.layout.name} ({self.plane_bytes} bytes a plane)"

    @property
    def size(self) -> Size:
        return self.width, self.height

    @property
    def row_bits(self) -> int:
        return self.width + self.layout.header_bits

    @property
    def plane_bytes(self) -> int:
        return self.row_bits * self.height // 8

    def neighbours(self) -> "list[_Geometry]":
        """The next sizes in all four directions that fill whole bytes."""
        high = 8 // math.gcd(self.row_bits, 8)
        sizes = [(self.width + 8 * i, self.height + high * j) for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        return [_Geometry(self.layout, *size) for size in sizes if min(size) > 0]


def _rows(raw: Bytes, width: int, height: int) -> Bytes:
    """Packed rows of stored planes (planes, bytes a plane), without what follows the pixels of each row."""
    row_bits = raw.shape[1] * 8 // height
    if row_bits % 8 == 0:
        return raw.reshape(len(raw), height, row_bits // 8)[:, :, : math.ceil(width / 8)]
    return pack(unpack(raw, height * row_bits).reshape(len(raw), height, row_bits)[:, :, :width])


# Where the bytes come from: a file, an array, a stream. Reads give uint8 (planes, bytes a plane) and clip at
# the end, as slices do.


class _Source(Protocol):
    planes: int | None
    leftover_bytes: int

    def read(self, start: int, stop: int) -> Bytes: ...

    def close(self) -> None: ...


class _FileSource:
    """Plain reads at an offset, not a mapping: as cheap to open, and memory holds what is asked for.

    Mapped pages count in the peak memory of the process, which then grows with the length of the recording,
    and a file cut off under a mapping kills the process.
    """

    def __init__(self, file: FileIO, plane_bytes: int) -> None:
        self._file, self._plane_bytes = file, plane_bytes
        self._whole, self.leftover_bytes = divmod(os.fstat(file.fileno()).st_size, plane_bytes)
        self.planes: int | None = self._whole

    def read(self, start: int, stop: int) -> Bytes:
        raw = np.empty((max(min(stop, self._whole) - start, 0), self._plane_bytes), np.uint8)
        try:
            self._file.seek(start * self._plane_bytes)
            read = _fill(self._file, raw)
        except OSError as error:
            raise RecordingError(f"{self._file.name}: cannot be read: {error.strerror}") from error
        if read < raw.size:
            raise RecordingError(f"{self._file.name}: became shorter while it was read; copy it first")
        return raw

    def close(self) -> None:
        self._file.close()


class _ArraySource:
    """Planes in memory, eight pixels a byte."""

    leftover_bytes = 0

    def __init__(self, rows: Bytes) -> None:
        self._raw = rows.reshape(len(rows), -1)
        self.planes: int | None = len(rows)

    def read(self, start: int, stop: int) -> Bytes:
        return self._raw[start:stop]

    def close(self) -> None:
        pass


class _StreamSource:
    """Forwards only: holds the planes from the last start on, and learns at its end how many there were."""

    def __init__(self, stream: BinaryIO | FileIO, plane_bytes: int, name: str, owned: bool) -> None:
        self._stream, self._plane_bytes, self._name, self._owned = stream, plane_bytes, name, owned
        self._first, self._held = 0, np.empty((0, plane_bytes), np.uint8)
        self.planes: int | None = None
        self.leftover_bytes = 0

    def read(self, start: int, stop: int) -> Bytes:
        if start < self._first:
            raise RecordingError(f"{self._name}: plane {start} has gone by: a stream is read forwards only")
        while self.planes is None and (end := self._first + len(self._held)) < stop:
            if end < start:  # nothing held is wanted: go on in steps, so that a far start needs no memory
                self._first, self._held = end, self._take(min(start - end, 256))
            else:
                more = self._take(stop - end)
                self._first, self._held = start, np.concatenate([self._held[start - self._first :], more])
        if start > self._first:
            self._first, self._held = start, self._held[start - self._first :]
        return self._held[: stop - start]

    def _take(self, planes: int) -> Bytes:
        raw = np.empty((planes, self._plane_bytes), np.uint8)
        try:
            whole, leftover = divmod(_fill(self._stream, raw), self._plane_bytes)
        except OSError as error:
            raise RecordingError(f"{self._name}: cannot be read: {error.strerror}") from error
        if whole < planes:
            self.planes, self.leftover_bytes = self._first + len(self._held) + whole, leftover
        return raw[:whole]

    def close(self) -> None:
        if self._owned:
            self._stream.close()


def _fill(stream: BinaryIO | FileIO, array: Bytes) -> int:
    """Reads until the array is full or the stream ends; returns the bytes read."""
    view, done = array.reshape(-1).data, 0
    while done < len(view) and (got := stream.readinto(view[done:])):  # type: ignore[union-attr]
        done += got
    return done


class Recording:
    """An open recording; made by `open_recording`. One thread at a time may read from it.

    Attributes: `name`, `width` and `height` in pixels, `layout` (its name), `flip` (whether stored rows are
    turned upside down), `why` (how layout and size were settled), `notes` (the warnings so far).
    """

    def __init__(self, name: str, layout: str, size: Size, flip: bool, why: str, source: _Source) -> None:
        self.name, self.layout, self.flip, self.why = name, layout, flip, why
        self.width, self.height = size
        self.notes: list[str] = []
        self._source = source
        if self.planes is not None:
            self._check_length()

    @property
    def planes(self) -> int | None:
        """Whole planes, or None for a stream whose end has not been reached."""
        return self._source.planes

    @property
    def leftover_bytes(self) -> int:
        """Bytes of a cut-off last plane, left out."""
        return self._source.leftover_bytes

    def read(self, start: int, stop: int) -> Bytes:
        """Packed rows of planes [start, stop): uint8 (planes, height, ceil(width / 8)), upright.

        Ends where the recording ends, as slices do: fewer planes, or none, come back from there. On a stream,
        starts must not go backwards. Raises UsageError for a negative start or a stop before it,
        RecordingError where the bytes cannot be had and where a stream turns out too short.
        """
        if not 0 <= start <= stop:
            raise UsageError(f"{self.name}: planes {start} to {stop} are no range; planes count from 0")
        open_ended = self.planes is None
        rows = _rows(self._source.read(start, stop), self.width, self.height)
        if open_ended and self.planes is not None:
            self._check_length()
        return np.ascontiguousarray(rows[:, ::-1] if self.flip else rows)

    def close(self) -> None:
        """Closes the file; standard input and streams of the caller stay open."""
        self._source.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_length(self) -> None:
        if (self.planes or 0) < MIN_PLANES:
            what = f"{self.planes} whole planes of {self.width}x{self.height} {self.layout}"
            raise RecordingError(f"{self.name}: holds {what}; at least {MIN_PLANES} are needed")
        if self.leftover_bytes:
            self._note(f"the last plane is cut off: its {self.leftover_bytes} bytes are left out")

    def _note(self, text: str) -> None:
        self.notes.append(f"{self.name}: {text}")
        warnings.warn(self.notes[-1], RecordingWarning, stacklevel=2)


def open_recording(
    source: str | Path | BinaryIO,
    *,
    layout: str = "auto",
    size: Size | None = None,
    flip: bool | None = None,
) -> Recording:
    """Opens a recording: a file, `-` for standard input, or an open binary stream (as are named pipes).

    `layout` is one of `LAYOUT_NAMES`, `size` is (width, height) in pixels, and `flip` says whether stored
    rows are turned upside down; None is what the layout says: yes for `packed` and `row-headers`, whose
    cameras store the bottom row first, no for `npz`. Opening a file reads a few dozen planes of it, however
    long.

    With `auto`, `.npz` goes by its suffix, and other files by their byte count where just one known layout
    divides it into 60 planes or more. Otherwise the content decides: only at the right geometry do the firing
    rates of neighbouring rows agree, and bits that follow the pixels of each row look unlike the picture.

    Bytes that do not divide are a cut-off last plane (a warning) at the size of a camera unless the content
    looks like another, and at other sizes if the content looks like that size. Else the size is an error.

    Streams are `packed` and need `size`; `planes` is None until their end.

    Raises UsageError for an unknown layout, a size that fills no whole bytes, a stream without size, and
    RecordingError for a file that is missing, a folder, empty, damaged, too short or of unknown layout. Warns
    with RecordingWarning of a cut-off last plane, of constant planes, and of content unlike a picture.
    """
    if layout not in LAYOUT_NAMES:
        raise UsageError(f"unknown layout {layout!r}: take one of {', '.join(LAYOUT_NAMES)}")
    if source == "-":
        stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)  # a buffer's lock, held in a thread, blocks the exit
        return _open_stream(stdin, "standard input", layout, size, flip, owned=False)
    if not isinstance(source, str | Path):
        return _open_stream(source, str(getattr(source, "name", "stream")), layout, size, flip, owned=False)

    path = Path(source)
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise RecordingError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path}: cannot be opened: {error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise RecordingError(f"{path}: is a folder; give a recording in one file")
    if not stat.S_ISREG(found.st_mode):
        return _open_stream(_opened(path), str(path), layout, size, flip, owned=True)
    if found.st_size == 0:
        raise RecordingError(f"{path}: is empty")
    if layout == "npz" or (layout == "auto" and path.suffix.lower() == ".npz"):
        recording = _open_npz(path, size, bool(flip))
    else:
        recording = _open_file(path, layout, size, flip)
    _note_constant_planes(recording)
    return recording


def _opened(path: Path) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be opened: {error.strerror}") from error


def _open_stream(
    stream: BinaryIO | FileIO, name: str, layout: str, size: Size | None, flip: bool | None, *, owned: bool
) -> Recording:
    if layout not in ("auto", "packed"):
        raise UsageError(f"{name}: a stream can only be packed planes, not {layout}")
    if size is None:
        raise UsageError(f"{name}: a stream does not tell its size; give it, such as --size 400x250")
    geometry = _Geometry(LAYOUTS["packed"], *size)
    source = _StreamSource(stream, geometry.plane_bytes, name, owned)
    upside_down = geometry.layout.flip if flip is None else flip
    return Recording(name, "packed", size, upside_down, "a stream is packed planes of the size given", source)


def _open_npz(path: Path, size: Size | None, flip: bool) -> Recording:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: array for key in archive.files if (array := archive[key]).ndim == 3}
    except Exception as error:  # a damaged archive raises any of a dozen kinds, from zipfile, zlib and numpy
        reason = " ".join(str(error).split())
        raise RecordingError(f"{path}: is not a sound .npz file of plain arrays: {reason}") from error
    if len(arrays) != 1:
        which = f"holds {len(arrays)} ({', '.join(arrays)})" if arrays else "holds none"
        raise RecordingError(f"{path}: needs exactly one array of (planes, height, width), {which}")
    ((key, array),) = arrays.items()
    if array.dtype.kind not in "bui" or (array.size and (array.min() < 0 or array.max() > 1)):
        raise RecordingError(f"{path}: array {key!r} ({array.dtype}) holds values other than 0 and 1")
    planes, height, width = array.shape
    if 0 in array.shape or size not in (None, (width, height)):
        wanted = f", not {size[0]}x{size[1]}" if size else ""
        raise RecordingError(f"{path}: array {key!r} holds {planes} planes of {width}x{height}{wanted}")
    why = f"the array {key!r} tells its size"
    return Recording(str(path), "npz", (width, height), flip, why, _ArraySource(pack(array)))


def _open_file(path: Path, layout: str, size: Size | None, flip: bool | None) -> Recording:
    candidates = [one for one in _known() if layout in ("auto", one.layout.name) and size in (None, one.size)]
    if not candidates and size is not None:
        if layout == "row-headers":
            raise UsageError(f"row headers are known at 400x250 only, not at {size[0]}x{size[1]}")
        candidates = [_Geometry(LAYOUTS["packed"], *size)]
    file = _opened(path)
    try:
        geometry, why, doubt = _settle(_Content(file), str(path), candidates, size is not None)
        upside_down = geometry.layout.flip if flip is None else flip
        source = _FileSource(file, geometry.plane_bytes)
        recording = Recording(str(path), geometry.layout.name, geometry.size, upside_down, why, source)
    except BaseException:
        file.close()
        raise
    if doubt:
        recording._note(doubt)
    return recording


# Which layout and size? The byte count, then the content


def _known() -> list[_Geometry]:
    return [_Geometry(layout, *size) for layout in LAYOUTS.values() for size in layout.sizes]


class _Content:
    """Firing rates of up to 60 planes from the middle of a file, as any geometry would read them."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.total_bytes = os.fstat(file.fileno()).st_size
        self.rows_agree = cache(self._rows_agree)

    def rates(self, geometry: _Geometry) -> NDArray[np.float64]:
        """Firing rates (height, row bits), row headers included."""
        source = _FileSource(self._file, geometry.plane_bytes)
        first = max((source.planes or 0) // 2 - 30, 0)
        counts, planes = np.zeros(geometry.plane_bytes * 8), 0
        for raw in (raw for plane in range(first, first + 60) for raw in source.read(plane, plane + 1)):
            counts += np.unpackbits(raw, bitorder="little")
            planes += 1
        return (counts / max(planes, 1)).reshape(geometry.height, geometry.row_bits)

    def _rows_agree(self, geometry: _Geometry) -> tuple[float, float]:
        """Covariance of the rates of vertical neighbours, and their correlation.

        A wrong row length compares pixels that are no neighbours; a wrong plane length blurs the rates. Both
        lower the covariance, and the noise of single pixels does not add: the right geometry has the most.
        """
        rates = self.rates(geometry)[:, : geometry.width]
        rates -= rates.mean()
        covariance = float((rates[1:] * rates[:-1]).sum() / rates.size)
        return covariance, covariance / max(float(rates.var()), 1e-12)

    def fits(self, geometry: _Geometry, rivals: list[_Geometry]) -> bool:
        """Whether rows agree beyond chance, and clearly more than as any of the rivals.

        On simulated scenes and a real capture, rivals of the right geometry had up to 0.71 of its covariance,
        most under 0.5; wrong ones had a rival with 0.79 or more, or no correlation.
        """
        covariance, correlation = self.rows_agree(geometry)
        chance = max(0.05, 5 / math.sqrt(geometry.width * geometry.height))
        return correlation > chance and all(self.rows_agree(r)[0] < 0.75 * covariance for r in rivals)

    def header_unlike_picture(self, geometry: _Geometry) -> bool:
        """Whether the columns after the pixels differ from those of the picture, in rate or spread."""
        if not geometry.layout.header_bits:
            return False
        rates = self.rates(geometry)
        columns = np.stack([rates.mean(0), rates.var(0)])
        picture, header = columns[:, : geometry.width], columns[:, geometry.width :]
        return bool((abs(header.mean(1) - picture.mean(1)) > 6 * picture.std(1) + 1e-9).any())


def _settle(content: _Content, name: str, candidates: list[_Geometry], size_given: bool) -> tuple[_Geometry, str, str]:
    """The geometry of a file, why it is this one, and a doubt to warn of ("" for none)."""
    total, doubt = content.total_bytes, ""
    whole = [one for one in candidates if total % one.plane_bytes == 0]
    whole = [one for one in whole if total // one.plane_bytes >= MIN_PLANES] or whole
    if len(candidates) == 1:
        geometry, why = candidates[0], "layout and size as given"
    elif len(whole) == 1:
        geometry = whole[0]
        why = f"{total} bytes are whole planes of {geometry}, and not {MIN_PLANES} of another known layout"
        if not size_given and not content.fits(geometry, []):
            doubt = f"{why}, but its rows do not look like a picture; if it is another size, give --size"
    else:
        contest = whole or candidates
        geometry = max(contest, key=lambda one: content.rows_agree(one)[0])
        rivals = [one for one in contest if one != geometry]
        names = " or ".join(map(str, contest))
        if content.fits(geometry, rivals if whole else rivals + geometry.neighbours()):
            why = f"of {names}, neighbouring rows agree as {geometry}"
        elif whole and (headed := [one for one in contest if content.header_unlike_picture(one)]):
            geometry = headed[0]
            why = f"of {names}, the bits after the pixels are unlike the picture as {geometry}"
        elif size_given and not whole:
            geometry, why = candidates[0], "size as given, in the usual layout"
        else:
            fact = "could be" if whole else "are no whole number of planes of"
            ask = "--layout" if size_given else "--size WIDTHxHEIGHT or --layout"
            raise RecordingError(f"{name}: its {total} bytes {fact} {names}, and the content does not tell: give {ask}")
    if total % geometry.plane_bytes:
        others = [one for one in _known() if one != geometry]
        alike = [one for one in others if content.fits(one, [geometry])]
        camera = geometry in _known()
        if alike or (not camera and not content.fits(geometry, others + geometry.neighbours())):
            hint = f"its content looks like {alike[0]}" if alike else "nor does its content look like it"
            raise RecordingError(f"{name}: {total} bytes are no whole number of planes of {geometry}; {hint}")
    return geometry, why, doubt


# A look at a recording


def _spread(planes: int, count: int) -> list[range]:
    """Up to `count` planes at the start, in the middle and at the end."""
    if planes <= 3 * count:
        return [range(planes)]
    return [range(first, first + count) for first in (0, (planes - count) // 2, planes - count)]


def _note_constant_planes(recording: Recording) -> None:
    """Looks at up to 60 planes of a file for some where no pixel fired, or every pixel."""
    full = pack(np.ones((recording.height, recording.width), np.uint8))
    ranges = _spread(recording.planes or 0, 20)
    rows = np.concatenate([recording.read(part.start, part.stop) for part in ranges])
    numbers = np.concatenate(ranges)
    for value, what in ((0 * full, "without a single spike"), (full, "with a spike in every pixel")):
        found = numbers[(rows == value).all((1, 2))]
        if len(found):
            share = f"{len(found)} of {len(rows)}"
            recording._note(f"constant planes: {share} looked at are {what}, the first is {found[0]}")


def rate_map(recording: Recording) -> NDArray[np.float32]:
    """Firing rate of each pixel in spikes per plane, float32 (height, width).

    Taken over 200 planes each from the start, the middle and the end, or all if there are no more than 600;
    of a stream, over its first 600.
    """
    ranges = [range(600)] if recording.planes is None else _spread(recording.planes, 200)
    counts, planes = np.zeros((recording.height, recording.width), np.uint32), 0
    for part in ranges:
        for first in range(part.start, part.stop, 20):
            rows = recording.read(first, min(first + 20, part.stop))
            counts += unpack(rows, recording.width).sum(0, dtype=np.uint32)
            planes += len(rows)
    return (counts / np.float32(planes)).astype(np.float32)


@dataclass(frozen=True)
class RateSummary:
    """Over the pixels: mean and percentiles in spikes per plane, and how many never or always fired."""

    mean: float
    p1: float
    p50: float
    p99: float
    p99_9: float
    never: int
    always: int


def rate_summary(rates: NDArray[np.float32]) -> RateSummary:
    """Sums up a `rate_map`."""
    p1, p50, p99, p99_9 = np.percentile(rates, (1, 50, 99, 99.9)).tolist()
    never, always = int((rates == 0).sum()), int((rates == 1).sum())
    return RateSummary(float(rates.mean(dtype=np.float64)), p1, p50, p99, p99_9, never, always)


def auto_gain(recording: Recording, start: int = 0, end: int | None = None) -> float:
    """The factor that turns firing rates into display values in [0, 1] for a whole recording.

    Sets to white what 99.5 % of all pixels stay below, by windows of 60 planes from up to five places between planes
    `start` and `end` (of a stream: the first window). Pixels that always fire are stuck and do not count.
    """
    rates = _window_rates(recording, start, end)
    lit = rates[(rates > 0) & (rates < 1)]
    return float(1 / np.percentile(lit, 99.5)) if len(lit) else 1.0


def auto_merge(recording: Recording, start: int = 0, end: int | None = None) -> int:
    """How many planes of a dark recording to merge into one: 1 where it is bright enough.

    So many that the median pixel fires in about `GOOD_RATE` of the merged planes, but no more than the brightest
    pixels allow, as one that fires more than once in as many planes loses spikes, and no more than leave a window of
    60 merged planes. Looks where `auto_gain` looks.
    """
    rates = _window_rates(recording, start, end).mean(0)
    lit = rates[(rates > 0) & (rates < 1)]
    if not len(lit):
        return 1
    median, bright = np.percentile(lit, (50, 99))
    wanted = min(round(GOOD_RATE / median), int(1 / bright))
    last = recording.planes if end is None else end
    return max(1, wanted if last is None else min(wanted, (last - start) // MIN_PLANES))


def _window_rates(recording: Recording, start: int, end: int | None) -> NDArray[np.float32]:
    """Firing rates, float32 (windows, height, width), of 60 planes each at up to five places.

    Raises UsageError where there are no 60 planes from `start` on.
    """
    planes = recording.planes if end is None else end
    if recording.planes is None or planes is None:
        starts = [start]
    else:
        starts = np.linspace(start, max(planes - MIN_PLANES, start), 5, dtype=int).tolist()
    windows = []
    for first in dict.fromkeys(starts):
        rows = recording.read(first, first + MIN_PLANES)
        if len(rows) < MIN_PLANES:
            last = first + len(rows)
            raise UsageError(f"planes {first} to {last} are {len(rows)}, fewer than one window of {MIN_PLANES}")
        windows.append(unpack(rows, recording.width).mean(0, dtype=np.float32))
    return np.stack(windows)


def from_rows(rows: Bytes, width: int, name: str = "planes in memory") -> Recording:
    """A recording of packed rows in memory, uint8 (planes, height, ceil(width / 8)), upright; see `pack`.

    Raises RecordingError where there are fewer than 60 planes.
    """
    source = _ArraySource(np.ascontiguousarray(rows))
    return Recording(name, "memory", (width, rows.shape[1]), False, "given in memory", source)


# Writing


def write_packed(path: str | Path, chunks: Iterable[Bytes], width: int, *, overwrite: bool = False) -> int:
    """Writes chunks of packed rows, uint8 (planes, height, ceil(width / 8)), as a `packed` file.

    Rows come upright and are stored bottom row first, as cameras do. Written under a temporary name in the
    same folder and renamed at the end, so that a failure leaves nothing behind. Returns the number of planes.
    Raises OutputError if the file exists and `overwrite` is false, if nothing came, or it cannot be written;
    UsageError if planes fill no whole bytes or change in size.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file in it")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or overwrite it (-y)")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    geometry: _Geometry | None = None
    planes = 0
    try:
        with open(unfinished, "wb") as file:
            for chunk in chunks:
                count, height, row_bytes = chunk.shape
                geometry = geometry or _Geometry(LAYOUTS["packed"], width, height)
                if (row_bytes, height) != (math.ceil(width / 8), geometry.height):
                    raise UsageError(f"{path}: {height} rows of {row_bytes} bytes are no plane of {geometry}")
                rows = chunk[:, ::-1]
                if width % 8:  # rows follow one another without padding
                    rows = pack(unpack(rows, width).reshape(count, -1))
                file.write(rows.tobytes())
                planes += count
        if not planes:
            raise OutputError(f"{path}: there are no planes to write")
        os.replace(unfinished, path)
    except BaseException as error:
        if unfinished.exists():
            unfinished.unlink()
        if isinstance(error, OSError):
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        raise
    return planes
