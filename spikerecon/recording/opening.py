"""Opening a recording, whatever it is stored in."""

import copy
import math
import operator
import stat
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import BinaryIO, SupportsIndex

import numpy as np

from spikerecon.errors import RecordingError, RecordingWarning, UsageError
from spikerecon.names import LAYOUT_NAMES
from spikerecon.recording import raw1000
from spikerecon.recording.detect import Content, Question
from spikerecon.recording.layouts import (
    LAYOUTS,
    MIN_PLANES,
    Bytes,
    Geometry,
    Size,
    checked_size,
    known_geometries,
    pack,
)
from spikerecon.recording.sources import (
    ArraySource,
    FollowedSource,
    PlainSource,
    Source,
    StoredSource,
    StreamSource,
    wait_for_growth,
)
from spikerecon.recording.stores import FileStore, FolderStore, Store, opened

TELLING_BYTES = 60 * 250_000
"""Of a growing file, what to wait for before its layout is settled: a whole window at the largest known size."""


class Recording:
    """An open recording; made by `open_recording`. Several threads may read from it, one after the other.

    Attributes: `name`, `width` and `height` in pixels, `layout` (its name), `flip` (whether stored rows are
    turned upside down), `why` (how layout and size were settled), `notes` (the warnings so far).
    """

    def __init__(
        self, name: str, layout: str, size: Size, flip: bool, why: str, source: Source, hint: str = ""
    ) -> None:
        """hint: what to do where it is too short."""
        self._hint = hint
        self.name, self.layout, self.flip, self.why = name, layout, flip, why
        self.width, self.height = size
        self.notes: list[str] = []
        self._source = source
        self._reading = threading.Lock()
        self._changes: tuple[Callable[[Bytes], Bytes], ...] = ()
        self._tell()
        if self.planes is not None:
            self._check_length()

    @property
    def planes(self) -> int | None:
        """Whole planes, or None for a stream or a growing file whose end has not been reached."""
        return self._source.planes

    @property
    def leftover_bytes(self) -> int:
        """Bytes of a cut-off last plane, left out."""
        return self._source.leftover_bytes

    @property
    def about(self) -> str:
        """In a line: name, size, length and layout."""
        length = f"{self.planes} planes"
        if self.planes is None:
            length = "a stream" if isinstance(self._source, StreamSource) else "still growing"
        return f"{self.name}: {self.width}x{self.height}, {length} ({self.layout})"

    def read(self, start: int, stop: int) -> Bytes:
        """Packed rows of planes [start, stop): uint8 (planes, height, ceil(width / 8)), upright.

        Ends where the recording ends, as slices do: fewer planes, or none, come back from there. On a stream,
        starts must not go backwards. Raises UsageError for a negative start, a stop before it, or numbers that are not
        whole, RecordingError for a recording that is closed, where the bytes cannot be had and where a stream turns out
        too short.
        """
        try:  # numpy's small integers would overflow where bytes are counted
            start, stop = operator.index(start), operator.index(stop)
        except TypeError:
            raise UsageError(f"{self.name}: planes {start!r} to {stop!r} are not counted in whole numbers") from None
        if not 0 <= start <= stop:
            raise UsageError(f"{self.name}: planes {start} to {stop} are no range; planes count from 0")
        if self._source.closed:
            raise RecordingError(f"{self.name}: is closed: read it before that")
        with self._reading:
            open_ended = self.planes is None
            rows = self._source.read(start, stop)
            self._tell()
            if open_ended and self.planes is not None:
                self._check_length()
        rows = rows[:, ::-1] if self.flip else rows
        for change in self._changes:
            rows = change(rows)
        return np.ascontiguousarray(rows)

    def check_whole(self, otherwise: str) -> None:
        """Raises UsageError, which says what to do `otherwise`, for what can be read once only, as its end is not
        known: a stream, or a capture that is followed."""
        if self.planes is None:
            what = "a stream" if isinstance(self._source, StreamSource) else "a capture that is still being written"
            raise UsageError(f"{self.name}: {what} can be read once only: {otherwise}")

    def through(self, change: Callable[[Bytes], Bytes], size: Size) -> "Recording":
        """This recording, seen through something that makes other packed rows, of `size` pixels, from what is read.

        `change` must leave what it is given as it is. Both read from the same place, have the same notes, and are
        closed together.
        """
        seen = copy.copy(self)
        seen.width, seen.height = size
        seen._changes = (*self._changes, change)
        return seen

    def close(self) -> None:
        """Closes the file; standard input and streams of the caller stay open. Nothing can be read any more."""
        self._source.closed = True
        self._source.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_length(self) -> None:
        if (self.planes or 0) < MIN_PLANES:
            what = f"{self.planes} whole planes of {self.width}x{self.height} {self.layout}"
            raise RecordingError(f"{self.name}: holds {what}; at least {MIN_PLANES} are needed{self._hint}")
        if self.leftover_bytes:
            self.note(f"the last plane is cut off: its {self.leftover_bytes} bytes are left out")

    def _tell(self) -> None:
        while self._source.notes:
            self.note(self._source.notes.pop(0))

    def note(self, text: str) -> None:
        """Adds to the notes, and warns."""
        self.notes.append(f"{self.name}: {text}")
        warnings.warn(self.notes[-1], RecordingWarning, stacklevel=2)


def open_recording(
    source: str | Path | BinaryIO,
    *,
    layout: str = "auto",
    size: Size | None = None,
    flip: bool | None = None,
    follow: float | None = None,
) -> Recording:
    """Opens a recording: a file or folder, `-` for standard input, or an open binary stream (as are named pipes).

    `layout` is one of `LAYOUT_NAMES`, `size` is (width, height) in pixels, and `flip` says whether stored
    rows are turned upside down; None is what the layout says: yes for `packed` and `row-headers`, whose
    cameras store the bottom row first, no for `raw1000` and `npz`. Opening a file reads a few dozen planes of it,
    however long; only `npz` is read whole.

    With `auto`, `.npz` goes by its suffix or first bytes and `raw1000` by its row trailers. Other files go by their
    byte count where just one known layout divides it into 60 planes or more, unless the content looks like another.
    Otherwise the content decides: only at the right geometry do the firing rates of neighbouring rows agree, and bits
    that follow the pixels of each row look unlike the picture.

    Bytes that do not divide are a cut-off last plane (a warning) at the size of a camera unless the content
    looks like another, and at other sizes if the content looks like that size or the layout is given as well. Else the
    size is an error.

    The blocks of a SpikeLink folder are read as one file; its layout is found as that of a file, or is the one given
    if it is neither `auto` nor `spikelink`. The planes of a missing block are dark, and so are rows of `raw1000` that
    are missing or damaged: what comes after them keeps its place.

    `follow` is for a file or folder that is still being written: reads wait for planes until it has not grown for so
    many seconds. `planes` is None until then.

    Streams are `packed` and need `size`; `planes` is None until their end. They wait by themselves.

    Raises UsageError for an unknown layout, a size that fills no whole bytes, a stream without size or with
    `follow`, and RecordingError for a file that is missing, empty, damaged, too short or of unknown layout. Warns
    with RecordingWarning of a cut-off last plane, of missing blocks, of missing or damaged rows, of constant planes,
    and of content unlike a picture.
    """
    if layout not in LAYOUT_NAMES:
        raise UsageError(f"unknown layout {layout!r}: take one of {', '.join(LAYOUT_NAMES)}")
    size = checked_size(size)
    if source == "-":
        if sys.stdin is None:
            raise RecordingError("standard input: is closed: give a file, or a pipe")
        stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)  # a buffer's lock, held in a thread, blocks the exit
        return _open_stream(stdin, "standard input", layout, size, flip, follow)
    if not isinstance(source, str | Path):
        return _open_stream(source, str(getattr(source, "name", "stream")), layout, size, flip, follow)

    path = Path(source)
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise RecordingError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path}: cannot be opened: {getattr(error, 'strerror', error)}") from error
    if stat.S_ISDIR(found.st_mode):
        if layout == "npz":
            raise UsageError(f"{path}: is a folder, not an .npz file")
    elif layout == "spikelink":
        raise UsageError(f"{path}: is a file; SpikeLink recordings are folders: give the one with 0, 1, 2 and 3 in it")
    elif not stat.S_ISREG(found.st_mode):
        return _open_stream(path, str(path), layout, size, flip, follow)
    elif layout == "npz" or (layout == "auto" and is_npz(path)):
        if found.st_size == 0:
            raise RecordingError(f"{path}: is empty")
        if follow is not None:
            raise UsageError(f"{path}: an .npz file cannot be followed: it is written at once")
        recording = _open_npz(path, size, bool(flip))
        _note_constant_planes(recording)
        return recording
    store = FolderStore(path) if stat.S_ISDIR(found.st_mode) else FileStore(path)
    try:
        recording = _open_store(store, layout, size, flip, follow)
        if recording.planes is not None:
            _note_constant_planes(recording)
    except BaseException:
        store.close()
        raise
    return recording


def _open_stream(
    stream: BinaryIO | FileIO | Path,
    name: str,
    layout: str,
    size: Size | None,
    flip: bool | None,
    follow: float | None,
) -> Recording:
    if follow is not None:
        raise UsageError(f"{name}: a stream waits by itself: leave out --follow")
    if layout not in ("auto", "packed"):
        raise UsageError(f"{name}: a stream can only be packed planes, not {layout}")
    if size is None:
        raise UsageError(f"{name}: a stream does not tell its size; give it, such as --size 400x250")
    geometry = Geometry(LAYOUTS["packed"], *size)
    owned = isinstance(stream, Path)  # a named pipe, which waits for its other end when it is opened
    source = StreamSource(opened(stream) if isinstance(stream, Path) else stream, geometry, name, owned)
    upside_down = True if flip is None else flip
    return Recording(name, "packed", size, upside_down, "a stream is packed planes of the size given", source)


def is_npz(path: Path) -> bool:
    """Whether a file is one of arrays, by its suffix, or its first bytes, which are those of a zip archive."""
    if path.suffix.lower() == ".npz":
        return True
    if not path.is_file():
        return False
    with opened(path) as file:
        return file.read(4) == b"PK\x03\x04"


def _open_npz(path: Path, size: Size | None, flip: bool) -> Recording:
    with opened(path) as file:
        archive_is_sound = zipfile.is_zipfile(file)
    if not archive_is_sound:
        raise RecordingError(f"{path}: is not a sound .npz file: it is no zip archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: array for key in archive.files if np.ndim(array := archive[key]) == 3}
    except Exception as error:  # a damaged archive raises any of a dozen kinds, from zipfile, zlib and numpy
        reason = " ".join(str(error).split())
        raise RecordingError(f"{path}: is not a sound .npz file of plain arrays: {reason}") from error
    if len(arrays) != 1:
        which = f"holds {len(arrays)} ({', '.join(arrays)})" if arrays else "holds none"
        raise RecordingError(f"{path}: needs exactly one array of (planes, height, width), {which}")
    ((key, array),) = arrays.items()
    if array.dtype.kind not in "bui":
        raise RecordingError(f"{path}: array {key!r} is {array.dtype}: planes are of integers 0 and 1, or of bool")
    if array.size and (array.min() < 0 or array.max() > 1):
        raise RecordingError(f"{path}: array {key!r} ({array.dtype}) holds values other than 0 and 1")
    planes, height, width = array.shape
    if 0 in array.shape or size not in (None, (width, height)):
        wanted = f", not {size[0]}x{size[1]}" if size else ""
        raise RecordingError(f"{path}: array {key!r} holds {planes} planes of {width}x{height}{wanted}")
    why = f"the array {key!r} tells its size"
    return Recording(str(path), "npz", (width, height), flip, why, ArraySource(pack(array)))


def _open_store(
    store: FileStore | FolderStore, layout: str, size: Size | None, flip: bool | None, follow: float | None
) -> Recording:
    if follow is not None:  # a file that has stopped growing is like any other
        enough = TELLING_BYTES if size is None else MIN_PLANES * (size[0] + 16) * size[1] // 8
        store.growing = True
        if not wait_for_growth(store, lambda: store.size >= enough, follow, store.refresh):
            follow, store.growing = None, False
            store.refresh()
    if store.size == 0:
        raise RecordingError(f"{store.name}: is empty")
    name, why, doubt = layout, "", ""
    if isinstance(store, FolderStore):
        name, why = "spikelink", f"{store.about}: "
        layout = "auto" if layout == "spikelink" else layout
    hint = "; if it is of another size, give --size" if size is None else ""
    source: StoredSource | None = _raw_source(store, layout, size)
    if isinstance(source, raw1000.RawSource):
        settled, size = "raw1000", raw1000.SIZE
        why += f"trailers number its rows, and the first plane starts at byte {source.first_byte}"
    else:
        content = Content(store, (store.even_bytes if isinstance(store, FolderStore) else 0) or store.size)
        question = Question(
            content,
            store.name,
            _candidates(layout, size),
            layout_given=layout != "auto",
            size_given=size is not None,
            growing=follow is not None,
        )
        verdict = question.settle()
        geometry, doubt = verdict.geometry, verdict.doubt
        if isinstance(store, FolderStore):
            store.settle(geometry.plane_bytes)
        settled, size, why = geometry.layout.name, geometry.size, why + verdict.why
        source = PlainSource(store, geometry)
    upside_down = settled != "raw1000" if flip is None else flip
    whole: Source = source if follow is None else FollowedSource(source, follow)
    recording = Recording(store.name, name if name == "spikelink" else settled, size, upside_down, why, whole, hint)
    for note in (*store.notes, doubt):
        if note:
            recording.note(note)
    if isinstance(source, raw1000.RawSource):  # reading tells which rows are missing
        for plane in source.gaps()[: raw1000.REPORTED_PLANES + 1]:
            recording.read(plane, plane + 3)
    return recording


def _raw_source(store: Store, layout: str, size: Size | None) -> raw1000.RawSource | None:
    """The planes of a raw capture, if it is one."""
    if layout not in ("auto", "raw1000"):
        return None
    other = f"1000x1000, not of {size[0]}x{size[1]}" if size not in (None, raw1000.SIZE) else ""
    if other and layout == "raw1000":
        raise UsageError(f"raw1000 is a layout of {other}")
    trailers = raw1000.learn_trailers(store)
    if other and trailers is not None:
        raise RecordingError(f"{store.name}: has the row trailers of raw1000, a layout of {other}")
    if trailers is not None:
        return raw1000.RawSource(store, trailers)
    if layout == "raw1000":
        raise RecordingError(f"{store.name}: no two whole planes with the row trailers of raw1000 are at its start")
    return None


def _candidates(layout: str, size: Size | None) -> list[Geometry]:
    found = [one for one in known_geometries() if layout in ("auto", one.layout.name) and size in (None, one.size)]
    if found or size is None:
        return found
    if layout == "row-headers":
        raise UsageError(f"row headers are known at 400x250 only, not at {size[0]}x{size[1]}")
    return [Geometry(LAYOUTS["packed"], *size)]


def spread(planes: int, count: int) -> list[range]:
    """Up to `count` planes at the start, in the middle and at the end."""
    if planes <= 3 * count:
        return [range(planes)]
    return [range(first, first + count) for first in (0, (planes - count) // 2, planes - count)]


def _note_constant_planes(recording: Recording) -> None:
    """Looks at up to 60 planes of a file for some where no pixel fired, or every pixel."""
    full = pack(np.ones((recording.height, recording.width), np.uint8))
    ranges = spread(recording.planes or 0, 20)
    rows = np.concatenate([recording.read(part.start, part.stop) for part in ranges])
    numbers = np.concatenate(ranges)
    for value, what in ((0 * full, "without a single spike"), (full, "with a spike in every pixel")):
        found = numbers[(rows == value).all((1, 2))]
        if len(found):
            share = f"{len(found)} of {len(rows)}"
            recording.note(f"constant planes: {share} looked at are {what}, the first is {found[0]}")


def from_rows(rows: Bytes, width: int, name: str = "planes in memory") -> Recording:
    """A recording of packed rows in memory, uint8 (planes, height, ceil(width / 8)), upright; see `pack`.

    They are not copied: what the array becomes later shows. Raises RecordingError where there are fewer than 60 planes,
    UsageError for rows of another type or width.
    """
    packed = rows.dtype == np.uint8 and rows.ndim == 3 and rows.shape[1] > 0
    whole = isinstance(width, SupportsIndex) and (width := operator.index(width)) > 0
    if not packed or not whole or rows.shape[2] != math.ceil(width / 8):
        raise UsageError(f"{name}: {rows.dtype} {rows.shape} are no packed rows of {width} pixels: `pack` makes them")
    source = ArraySource(np.ascontiguousarray(rows))
    return Recording(name, "memory", (width, rows.shape[1]), False, "given in memory", source)
