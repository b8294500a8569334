"""Where the planes of a recording come from: a store of bytes, an array, a stream, a capture still being written."""

import time
from collections.abc import Callable
from io import FileIO
from typing import BinaryIO

import numpy as np

from spikerecon.errors import RecordingError
from spikerecon.recording.layouts import Bytes, Geometry
from spikerecon.recording.stores import Store, fill

POLL_SECONDS = 0.1  # between two looks at a file that grows
AT_ONCE = 256  # planes, of a stream: a far start or stop needs no memory


class Source:
    """Planes as packed rows (planes, height, bytes), in the order of rows that the layout has.

    `planes` is None until the end is known. `notes` are what was noticed on the way and not told yet. `closed` says
    that nothing is to be read any more.
    """

    planes: int | None = None
    leftover_bytes = 0
    closed = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    def read(self, start: int, stop: int) -> Bytes:
        """Planes [start, stop); fewer where the recording ends, as slices do."""
        raise NotImplementedError

    def close(self) -> None:
        pass


class StoredSource(Source):
    """Planes in a store of bytes, which may grow."""

    planes: int

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    def refresh(self) -> None:
        """Counts the planes again."""
        raise NotImplementedError

    def close(self) -> None:
        self.store.close()


class PlainSource(StoredSource):
    """Planes that follow each other without anything in between."""

    def __init__(self, store: Store, geometry: Geometry) -> None:
        super().__init__(store)
        self._geometry = geometry
        self._count()

    def refresh(self) -> None:
        self.store.refresh()
        self._count()

    def _count(self) -> None:
        self.planes, self.leftover_bytes = divmod(self.store.size, self._geometry.plane_bytes)

    def read(self, start: int, stop: int) -> Bytes:
        stop, size = min(stop, self.planes), self._geometry.plane_bytes
        start = min(start, stop)
        return self._geometry.rows(self.store.read(start * size, stop * size).reshape(stop - start, size))


class ArraySource(Source):
    """Packed rows in memory."""

    def __init__(self, rows: Bytes) -> None:
        super().__init__()
        self._rows = rows
        self.planes = len(rows)

    def read(self, start: int, stop: int) -> Bytes:
        return self._rows[start:stop].copy()  # for the reader to change


class FollowedSource(Source):
    """A capture that is still being written: waits for planes, until nothing has come for `patience` seconds."""

    def __init__(self, source: StoredSource, patience: float) -> None:
        super().__init__()
        self._source, self._patience = source, patience
        self.notes = source.notes
        self._told = list(source.store.notes)

    def read(self, start: int, stop: int) -> Bytes:
        if self.planes is None:
            there = wait_for_growth(
                self._source.store, lambda: self._source.planes >= stop, self._patience, self._source.refresh
            )
            if not there:
                self._source.store.growing = False
                self._source.refresh()
                self.notes += [note for note in self._source.store.notes if note not in self._told]
                self.planes, self.leftover_bytes = self._source.planes, self._source.leftover_bytes
        return self._source.read(start, stop)

    def close(self) -> None:
        self._source.close()


def wait_for_growth(store: Store, enough: Callable[[], bool], patience: float, refresh: Callable[[], None]) -> bool:
    """Whether there was enough before the store stopped growing for `patience` seconds."""
    grew = time.monotonic()
    while not enough():
        written = store.written
        refresh()
        now = time.monotonic()
        if store.written > written:
            grew = now
        elif now - grew >= patience:
            return False
        else:
            time.sleep(min(POLL_SECONDS, patience))
    return True


class StreamSource(Source):
    """Forwards only: holds the planes from the last start on, and learns at its end how many there were."""

    def __init__(self, stream: BinaryIO | FileIO, geometry: Geometry, name: str, owned: bool) -> None:
        super().__init__()
        self._stream, self._geometry, self._name, self._owned = stream, geometry, name, owned
        self._first, self._held = 0, np.empty((0, geometry.plane_bytes), np.uint8)
        self._end = 0  # planes that were read

    def read(self, start: int, stop: int) -> Bytes:
        if start < self._first:
            raise RecordingError(f"{self._name}: plane {start} has gone by: a stream is read forwards only")
        while self.planes is None and self._end < start:  # nothing held is wanted
            self._first = self._end
            self._held = self._take(min(start - self._first, AT_ONCE))
        parts = [self._held[start - self._first :]]
        while self.planes is None and self._end < stop:
            parts.append(self._take(min(stop - self._end, AT_ONCE)))
        self._first, self._held = start, np.concatenate(parts)
        return self._geometry.rows(self._held[: stop - start]).copy()  # for the reader to change

    def _take(self, planes: int) -> Bytes:
        """The next planes, fewer where the stream ends."""
        raw = np.empty((planes, self._geometry.plane_bytes), np.uint8)
        try:
            whole, leftover = divmod(fill(self._stream, raw), self._geometry.plane_bytes)
        except OSError as error:
            raise RecordingError(f"{self._name}: cannot be read: {error.strerror}") from error
        self._end += whole
        if whole < planes:
            self.planes, self.leftover_bytes = self._end, leftover
        return raw[:whole]

    def close(self) -> None:
        if self._owned:
            self._stream.close()
