"""Where the bytes of a recording are: in one file, or in a folder of blocks that read as one file."""

import os
import re
import select
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from io import FileIO
from itertools import accumulate, count
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from spikerecon.errors import RecordingError
from spikerecon.recording.layouts import Bytes


class Store(Protocol):
    """Bytes that can be read anywhere.

    `size` is what could be read at the last `refresh`, `written` what was there at all, and `notes` tell what is amiss
    with it. `growing` is to be set while more is written.
    """

    name: str
    size: int
    written: int
    growing: bool
    notes: list[str]

    def refresh(self) -> None:
        """Looks again how much is there."""

    def read(self, start: int, stop: int) -> Bytes:
        """Bytes [start, stop), uint8; start and stop lie in the store. Raises RecordingError if they are gone."""

    def close(self) -> None: ...


class FileStore:
    """Plain reads at an offset, not a mapping: as cheap to open, and memory holds what is asked for.

    Mapped pages count in the peak memory of the process, which then grows with the length of the recording,
    and a file cut off under a mapping kills the process.
    """

    growing = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.notes: list[str] = []
        self._path, self._process = path, os.getpid()
        self._file = opened(path)
        self.size = self.written = 0
        self.refresh()

    def refresh(self) -> None:
        now = os.fstat(self._file.fileno())
        if now.st_size < self.size:
            raise _shorter(self.name)
        self.size = self.written = now.st_size
        try:
            replaced = not os.path.samestat(now, os.stat(self._path))
        except OSError:
            replaced = True
        if replaced and not self.notes:
            self.notes.append("was replaced or removed while it was read: this is of what was there before")

    def read(self, start: int, stop: int) -> Bytes:
        found = np.empty(stop - start, np.uint8)
        if self._process != os.getpid():  # a process that was forked shares its parent's place in the file
            self._file, self._process = opened(self._path), os.getpid()
        try:
            self._file.seek(start)
            read = fill(self._file, found)
        except OSError as error:
            raise RecordingError(f"{self.name}: cannot be read: {error.strerror}") from error
        if read < found.size:
            raise _shorter(self.name)
        return found

    def close(self) -> None:
        self._file.close()


class FolderStore:
    """A SpikeLink folder, `<dir>/{0..3}/<n>.dat`: blocks of planes in the order of n over all four folders.

    Missing blocks (numbers left out) read as zeros, as many as most blocks have bytes, so that what comes later keeps
    its time. `notes` name them. While the folder is `growing`, what comes behind a block that may still come or grow
    is not there yet: its place is not sure.

    Raises RecordingError where there are no blocks, where two have the same number, and where more are missing than
    there are.
    """

    growing = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._unit = 1
        self._open: tuple[Path, FileStore] | None = None
        self.written = 0
        self.refresh()

    def refresh(self) -> None:
        found = _numbered(self._path)
        if not found:
            raise RecordingError(f"{self.name}: is a folder, but not of SpikeLink: no block like 0/0.dat is in it")
        first, last = min(found), max(found)
        if last - first + 1 > 2 * len(found):
            raise RecordingError(f"{self.name}: only {len(found)} of the blocks {first}-{last} are there")
        try:
            sizes = {number: path.stat().st_size for number, path in found.items()}
        except OSError as error:
            raise RecordingError(f"{error.filename}: cannot be read: {error.strerror}") from error
        if (written := sum(sizes.values())) < self.written:
            raise _shorter(self.name)
        self.written = written
        counts = Counter(sizes.values())
        usual = max(counts, key=lambda size: (counts[size], size))
        self.blocks = [(found.get(n), sizes.get(n, usual)) for n in range(first, last + 1)]
        if self.growing:
            self.blocks = self.blocks[: _sure(found)]
        self.about = f"a SpikeLink folder of {len(found)} blocks, {first} to {last}"
        self.notes = self._amiss(first, usual)
        whole = [size - size % self._unit for _, size in self.blocks[:-1]]
        self._starts = [0, *accumulate(whole)]
        self.size = self._starts[-1] + self.blocks[-1][1]
        self.even_bytes = usual * next(
            (i for i, (_, size) in enumerate(self.blocks) if size != usual), len(self.blocks)
        )

    def _amiss(self, first: int, usual: int) -> list[str]:
        """Notes on blocks that are missing, end within a plane, or are shorter than the usual bytes.

        first: number of the first one. Of the last one none of these is a wonder.
        """
        notes = []
        numbered = list(enumerate(self.blocks[:-1], first))
        if missing := [number for number, (path, _) in numbered if path is None]:
            names = ", ".join(spans(missing))
            notes.append(f"missing block {names}: its planes are left dark, {usual} bytes a block")
        for number, (_, size) in numbered:
            if size % self._unit:
                notes.append(f"block {number} ends within a plane: its last {size % self._unit} bytes are left out")
        if short := [number for number, (_, size) in numbered if size < usual]:
            # Cut off, perhaps, and not to be told from one that was written like that.
            names = ", ".join(spans(short))
            notes.append(f"block {names} is shorter than most ({usual} bytes): what follows may come too early")
        return notes

    def settle(self, plane_bytes: int) -> None:
        """Now that the bytes a plane are known: the next block starts with a plane, whatever the one before lacks."""
        self._unit = plane_bytes
        self.refresh()

    def read(self, start: int, stop: int) -> Bytes:
        parts = []
        while start < stop:
            index = bisect_right(self._starts, start) - 1
            first = self._starts[index]
            end = min(stop, self._starts[index + 1]) if index + 1 < len(self._starts) else stop
            path = self.blocks[index][0]
            if path is None:
                parts.append(np.zeros(end - start, np.uint8))
            else:
                parts.append(self._store(path).read(start - first, end - first))
            start = end
        return np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def _store(self, path: Path) -> FileStore:
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = path, FileStore(path)
        return self._open[1]

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


def _shorter(name: str) -> RecordingError:
    return RecordingError(f"{name}: became shorter while it was read; copy it first")


def _sure(found: dict[int, Path]) -> int:
    """How many blocks of a growing folder have a place: up to one that is missing, or the last of its channel so far.

    A channel that has begun another block has ended the one before.
    """
    missing = next(number for number in count(min(found)) if number not in found)
    latest = {found[number].parent: number for number in sorted(found)}
    return min(missing, min(latest.values()) + 1) - min(found)


def _numbered(path: Path) -> dict[int, Path]:
    """The blocks of a folder by their number."""
    found: dict[int, Path] = {}
    try:
        folders = [path / str(channel) for channel in range(4)]
        files = [file for folder in folders if folder.is_dir() for file in folder.iterdir()]
    except OSError as error:
        raise RecordingError(f"{error.filename}: cannot be read: {error.strerror}") from error
    for file in files:
        if not re.fullmatch(r"\d+\.dat", file.name, re.ASCII):
            continue
        other = found.setdefault(int(file.stem), file)
        if other != file:
            raise RecordingError(f"{file}: has the same number as {other}; one of them is of another recording")
    return found


def spans(numbers: Iterable[int]) -> list[str]:
    """Ascending numbers as texts, those that follow each other as one: 3, 7-9."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


def opened(path: Path) -> FileIO:
    """A file open for reading. Raises RecordingError."""
    try:
        return FileIO(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be opened: {error.strerror}") from error


def fill(stream: BinaryIO | FileIO, array: Bytes) -> int:
    """Reads until the array is full or the stream ends; returns the bytes read."""
    view, done = array.reshape(-1).data, 0
    while done < len(view):
        got = stream.readinto(view[done:])  # type: ignore[union-attr]
        if got is None:  # a stream that does not wait by itself has nothing yet
            select.select([stream], [], [])
        elif got:
            done += got
        else:
            break
    return done
